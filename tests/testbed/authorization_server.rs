//! The certified OpenID provider, under TLS by a private CA.

use super::canary::MINTED;
use super::certificates::{Authority, Identity};
use super::namespaces::host;
use super::process::{Process, folder};
use super::{Result, root};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// A running provider.
pub struct AuthorizationServer {
    /// Its issuer identifier.
    pub issuer: String,
    /// The CA to trust, PEM.
    pub ca: String,
    /// Signs the certificates by which clients are known (RFC 8705 §2.1).
    clients: Authority,
    registration_token: String,
    process: Process,
}

/// A client registered with it.
#[derive(Clone, Debug)]
pub struct Client {
    pub id: String,
    pub secret: String,
}

impl AuthorizationServer {
    pub async fn start(name: &str) -> Result<Self> {
        let folder = folder(name)?;
        let authority = Authority::new("testbed provider")?;
        let (certificate, key) = authority.server(&[host(), "127.0.0.1", "localhost"])?.store(&folder, "server")?;
        let clients = Authority::new("testbed clients")?;
        let client_ca = folder.join("client-ca.crt");
        std::fs::write(&client_ca, &clients.certificate)?;
        let registration_token = random();
        let settings = json!({
            "certificate": certificate, "key": key, "clientCA": client_ca, "registrationToken": registration_token, "host": host(), "port": 0,
            "minted": folder.join(MINTED),
        });
        let script = root().join("tests/authorization-server/server.mjs").display().to_string();
        let process = Process::start("oidc-provider", &folder, Path::new("node"), &[script, settings.to_string()], &[])?;
        let issuer = |output: String| {
            let line = output.lines().find_map(|line| serde_json::from_str::<Value>(line).ok())?;
            line["issuer"].as_str().map(str::to_owned)
        };
        process.until("listening", Duration::from_secs(30), async || issuer(process.output()).is_some()).await?;
        let issuer = issuer(process.output()).ok_or("no issuer")?;
        Ok(Self { issuer, ca: authority.certificate.clone(), clients, registration_token, process })
    }

    /// An HTTP client that trusts it.
    pub fn http(&self) -> Result<reqwest::Client> {
        let ca = reqwest::Certificate::from_pem(self.ca.as_bytes())?;
        Ok(reqwest::Client::builder().tls_certs_only([ca]).no_proxy().timeout(Duration::from_secs(10)).build()?)
    }

    /// Registers a client (RFC 7591) whose tokens live for so many seconds.
    pub async fn register(&self, token_seconds: u32, method: &str) -> Result<Client> {
        self.register_with(&json!({"accessTokenTtl": token_seconds, "token_endpoint_auth_method": method})).await
    }

    /// Registers a client with metadata of its own.
    pub async fn register_with(&self, metadata: &Value) -> Result<Client> {
        let mut body = json!({"grant_types": ["client_credentials"], "response_types": [], "redirect_uris": []});
        body.as_object_mut().ok_or("an object")?.extend(metadata.as_object().cloned().unwrap_or_default());
        let request = self.http()?.post(format!("{}/reg", self.issuer)).bearer_auth(&self.registration_token);
        let answer = request.header("content-type", "application/json").body(body.to_string()).send().await?;
        let text = answer.text().await?;
        let value: Value = serde_json::from_str(&text)?;
        let text_of = |key: &str| value[key].as_str().map(str::to_owned).ok_or_else(|| format!("registration: {text}"));
        // A public client has no secret.
        Ok(Client { id: text_of("client_id")?, secret: text_of("client_secret").unwrap_or_default() })
    }

    /// A certificate of this common name, by the CA that the provider believes.
    pub fn client_certificate(&self, name: &str) -> Result<Identity> {
        self.clients.client(name, None)
    }

    /// Changes what is registered of a client, as its owner does at the provider's console.
    pub async fn change(&self, client: &Client, metadata: &Value) -> Result<()> {
        let mut url = url::Url::parse(&format!("{}/testbed/change", self.issuer))?;
        url.query_pairs_mut().append_pair("client_id", &client.id).append_pair("metadata", &metadata.to_string());
        let answer = self.http()?.get(url).send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        if status.is_success() { Ok(()) } else { Err(format!("{status}: {text}").into()) }
    }

    /// Registers a public client with refresh tokens, and logs a person in: the client and the first refresh token.
    pub async fn log_in(&self, token_seconds: u32, subject: &str) -> Result<(Client, String)> {
        let metadata = json!({
            "accessTokenTtl": token_seconds, "token_endpoint_auth_method": "none", "response_types": ["code"],
            "grant_types": ["authorization_code", "refresh_token"], "redirect_uris": ["https://app.example/callback"],
        });
        let client = self.register_with(&metadata).await?;
        let refresh_token = self.log_in_again(&client, subject).await?;
        Ok((client, refresh_token))
    }

    /// Logs a person in: a refresh token of another login.
    pub async fn log_in_again(&self, client: &Client, subject: &str) -> Result<String> {
        let url = format!("{}/testbed/login?client_id={}&subject={subject}", self.issuer, client.id);
        let answer: Value = serde_json::from_str(&self.http()?.get(url).send().await?.text().await?)?;
        Ok(answer["refresh_token"].as_str().ok_or_else(|| format!("no refresh token: {answer}"))?.to_owned())
    }

    /// Refresh tokens of a client that came to the token endpoint, in order: head of the digest, and HTTP status.
    pub async fn redemptions(&self, client: &Client) -> Result<Vec<(String, u64)>> {
        let url = format!("{}/testbed/redemptions?client_id={}", self.issuer, client.id);
        let all: Vec<Value> = serde_json::from_str(&self.http()?.get(url).send().await?.text().await?)?;
        Ok(all
            .iter()
            .map(|one| (one["digest"].as_str().unwrap_or_default().to_owned(), one["status"].as_u64().unwrap_or(0)))
            .collect())
    }

    /// What the provider says of a token (RFC 7662), asked as the client it was issued to.
    pub async fn introspect(&self, client: &Client, token: &str) -> Result<Value> {
        let mut body = url::form_urlencoded::Serializer::new(String::new());
        body.append_pair("token", token);
        let mut request = self.http()?.post(format!("{}/token/introspection", self.issuer));
        if client.secret.is_empty() {
            body.append_pair("client_id", &client.id);
        } else {
            request = request.basic_auth(&client.id, Some(&client.secret));
        }
        let request = request.body(body.finish());
        let answer = request.header("content-type", "application/x-www-form-urlencoded").send().await?;
        Ok(serde_json::from_str(&answer.text().await?)?)
    }

    /// Ends a token before its time (RFC 7009), asked as the client it was issued to.
    pub async fn revoke(&self, client: &Client, token: &str) -> Result<()> {
        let form = &mut url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("token", token);
        let mut request = self.http()?.post(format!("{}/token/revocation", self.issuer));
        if client.secret.is_empty() {
            form.append_pair("client_id", &client.id);
        } else {
            request = request.basic_auth(&client.id, Some(&client.secret));
        }
        let body = form.finish();
        let answer = request.header("content-type", "application/x-www-form-urlencoded").body(body).send().await?;
        if answer.status().is_success() { Ok(()) } else { Err(format!("not revoked: {}", answer.status()).into()) }
    }

    /// What an API of the provider's makes of a token: whose it is, or nothing where it does not take it.
    pub async fn resource(&self, token: &str) -> Result<Option<Value>> {
        let answer = self.http()?.get(format!("{}/testbed/resource", self.issuer)).bearer_auth(token).send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        if status.is_success() { Ok(Some(serde_json::from_str(&text)?)) } else { Ok(None) }
    }

    /// JWTs that came to the token endpoint in a client's name: `parameter`, `header`, `claims` and `status` of the answer,
    /// which is 200 where the provider has verified them.
    pub async fn assertions(&self, client: &Client) -> Result<Vec<Value>> {
        let url = format!("{}/testbed/assertions?client_id={}", self.issuer, client.id);
        Ok(serde_json::from_str(&self.http()?.get(url).send().await?.text().await?)?)
    }

    /// Token requests of a client that were granted and refused so far.
    pub async fn token_requests(&self, client: &Client) -> Result<(u64, u64)> {
        let url = format!("{}/testbed/token-requests?client_id={}", self.issuer, client.id);
        let count: Value = serde_json::from_str(&self.http()?.get(url).send().await?.text().await?)?;
        Ok((count["issued"].as_u64().unwrap_or(0), count["refused"].as_u64().unwrap_or(0)))
    }

    /// Its process, to stop and wake it.
    pub fn process(&self) -> &Process {
        &self.process
    }
}

/// A secret made at run time.
pub fn random() -> String {
    let mut bytes = [0; 24];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom").expect("Linux"), &mut bytes).expect("it never ends");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
