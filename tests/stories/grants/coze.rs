//! Coze, judged by its own SDK: what the operator composes for the preset is what cozepy sends.

use crate::testbed::authorization_server::random;
use crate::testbed::keys::{Key, Kind};
use crate::testbed::{Result, coze};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use oauth_operator::account::{Credentials, GrantSecret, Plan};
use oauth_operator::api::OAuthAccount;
use oauth_operator::oauth::{GrantRequest, Moment, Sensitive};
use serde_json::{Map, Value, json};

/// What the flows are given.
struct Given {
    key: Key,
    client_id: String,
    client_secret: String,
    refresh_token: String,
    code: String,
    verifier: String,
    redirect: String,
    session: String,
}

impl Given {
    fn make() -> Result<Self> {
        Ok(Self {
            key: Key::make(Kind::Rsa)?,
            client_id: "1234567890".into(),
            client_secret: random(),
            refresh_token: random(),
            code: random(),
            verifier: random(),
            redirect: "https://operator.example/oauth/callback?a=1&b=2".into(),
            session: "session of ann".into(),
        })
    }

    /// What the SDK sends: every request, with its flow.
    fn recorded(&self) -> Result<Value> {
        let inputs = json!({
            "client_id": self.client_id, "client_secret": self.client_secret, "refresh_token": self.refresh_token,
            "code": self.code, "code_verifier": self.verifier, "redirect_uri": self.redirect,
            "session_name": self.session, "public_key_id": "key-1",
        });
        coze::record(&self.key, &inputs)
    }

    /// The account of an app of a kind, and what is read of its Secrets.
    fn account(&self, spec: &Value, credentials: Credentials) -> Result<(Plan, Credentials)> {
        let account: OAuthAccount = serde_json::from_value(json!({
            "apiVersion": "oauth-operator.dev/v1alpha1", "kind": "OAuthAccount",
            "metadata": {"name": "coze", "namespace": "apps"}, "spec": spec,
        }))?;
        let plan = Plan::of(&account).map_err(|refusal| refusal.sentence().to_owned())?;
        Ok((plan, Credentials { client_id: self.client_id.clone(), ..credentials }))
    }

    fn jwt_app(&self, claims: &Value) -> Result<(Plan, Credentials)> {
        let spec = json!({
            // cozepy always says for how long; to us it is a parameter like others.
            "provider": {"preset": "Coze", "overrides": {"parameters": {"token": {"duration_seconds": "900"}}}},
            "client": {"id": self.client_id},
            "grant": {"jwtBearer": {"keyRef": {"name": "s", "key": "k"}, "keyID": "key-1", "extraClaims": claims}},
        });
        let key = Some(GrantSecret::Key(Sensitive::new(self.key.pem.as_str())));
        self.account(&spec, Credentials { grant: key, ..Credentials::default() })
    }

    fn web_app(&self) -> Result<(Plan, Credentials)> {
        let key = json!({"name": "s", "key": "k"});
        let spec = json!({
            "provider": {"preset": "Coze"}, "client": {"id": self.client_id, "secretRef": key},
            "grant": {"refreshToken": {"secretRef": key}},
        });
        let secret = Some(Sensitive::new(self.client_secret.as_str()));
        self.account(&spec, Credentials { client_secret: secret, ..Credentials::default() })
    }

    /// An app without a secret: PKCE, device.
    fn public_app(&self) -> Result<(Plan, Credentials)> {
        let spec = json!({
            "provider": {"preset": "Coze"}, "client": {"id": self.client_id, "authMethod": "None"},
            "grant": {"refreshToken": {"secretRef": {"name": "s", "key": "k"}}},
        });
        self.account(&spec, Credentials::default())
    }
}

/// What the operator sends, in the form in which the SDK's is recorded.
fn composed((plan, credentials): &(Plan, Credentials), grant: GrantRequest) -> Result<Value> {
    let endpoint = plan.known.token(plan.spends()).map_err(|fault| fault.message)?.clone();
    let moment = Moment { now: Timestamp::now(), id: random(), dpop_nonce: None };
    let request = plan.request(endpoint, credentials, grant).compose(&moment).map_err(|fault| fault.message)?;
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let headers: Map<String, Value> =
        ["authorization", "content-type"].iter().filter_map(|name| Some(((*name).to_owned(), json!(header(name)?)))).collect();
    Ok(json!({
        "method": request.method().as_str(), "path": request.uri().path(), "query": {}, "headers": headers,
        "body": serde_json::from_slice::<Value>(request.body())?,
    }))
}

/// Header and claims of the bearer token of a request, and the request without it.
fn unsealed(mut request: Value) -> Result<(Value, Map<String, Value>, Value)> {
    let authorization = request["headers"].as_object_mut().and_then(|headers| headers.remove("authorization"));
    let authorization = authorization.as_ref().and_then(Value::as_str).ok_or("no authorization")?.to_owned();
    let jwt = authorization.strip_prefix("Bearer ").ok_or("no bearer token")?;
    let mut parts = jwt.split('.').map(|part| Ok(serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part)?)?));
    let mut next = || -> Result<Value> { parts.next().ok_or("no JWT")? };
    let (header, claims) = (next()?, next()?);
    Ok((header, claims.as_object().cloned().ok_or("no claims")?, request))
}

/// The SDK's request of a flow, without what only describes it.
fn sent(document: &Value, flow: &str) -> Result<Value> {
    let all = document["requests"].as_array().into_iter().flatten();
    let found = all.clone().rfind(|request| request["flow"] == json!(flow)).cloned();
    let mut request = found.ok_or_else(|| format!("no flow {flow}"))?;
    let object = request.as_object_mut().ok_or("an object")?;
    object.retain(|name, _| name != "flow" && name != "jwt");
    // Its transport says that it takes anything; we say what we can read.
    if let Some(headers) = object.get_mut("headers").and_then(Value::as_object_mut) {
        headers.remove("accept");
    }
    Ok(request)
}

#[test]
fn what_is_sent_to_coze_is_what_its_own_sdk_sends() -> Result<()> {
    if coze::skip() {
        return Ok(());
    }
    let given = Given::make()?;
    let document = given.recorded()?;
    let text = |text: &str| Sensitive::new(text);
    let (web, public) = (given.web_app()?, given.public_app()?);
    let code = |verifier: Option<&str>| GrantRequest::AuthorizationCode {
        code: text(&given.code),
        redirect_uri: given.redirect.clone(),
        verifier: verifier.map(text),
    };
    let refresh = || GrantRequest::RefreshToken(text(&given.refresh_token));
    let replies = document["replies"].as_array().ok_or("no replies")?;
    let device = replies.iter().rfind(|reply| reply["flow"] == json!("device, code")).ok_or("no device code")?;
    let device = GrantRequest::DeviceCode(text(device["device_code"].as_str().ok_or("no device code")?));
    for (flow, app, grant) in [
        ("web, code", &web, code(None)),
        ("web, refresh", &web, refresh()),
        ("pkce, code", &public, code(Some(&given.verifier))),
        ("pkce, refresh", &public, refresh()),
        ("device, poll", &public, device),
        ("device, refresh", &public, refresh()),
    ] {
        assert_eq!(composed(app, grant)?, sent(&document, flow)?, "{flow}");
    }

    for (flow, claims) in [("jwt", json!({})), ("jwt, session_name", json!({"session_name": given.session}))] {
        let app = given.jwt_app(&claims)?;
        let grant = app.1.grant_request(&app.0, None).ok_or("no grant")?;
        let (header, mut claims, request) = unsealed(composed(&app, grant)?)?;
        let (their_header, mut their_claims, mut theirs) = unsealed(sent(&document, flow)?)?;
        assert_eq!(header, their_header, "{flow}: alg, typ and kid");
        // No scope is asked for: they say null, we say nothing.
        let unsaid = theirs["body"].as_object_mut().and_then(|body| body.remove("scope"));
        assert_eq!(unsaid, Some(Value::Null), "{flow}");
        assert_eq!(request, theirs, "{flow}");
        // The audience is the API's host without a scheme: of the address that each was given.
        let host = document["base_url"].as_str().and_then(|url| url.split("://").nth(1)).ok_or("no base_url")?;
        assert_eq!(their_claims.remove("aud"), Some(json!(host)), "{flow}");
        assert_eq!(claims.remove("aud"), Some(json!("api.coze.com")), "{flow}");
        // Each is used once.
        let once = [claims.remove("jti"), their_claims.remove("jti")];
        assert!(once[0] != once[1] && once.iter().flatten().all(Value::is_string), "{flow}: {once:?}");
        // Both in seconds. Theirs begins now and lives for an hour; ours began a minute ago, for a clock that is behind,
        // and lives for five.
        let now = Timestamp::now().as_second();
        let life = |claims: &mut Map<String, Value>| {
            let mut moment = |claim: &str| claims.remove(claim).and_then(|value| value.as_i64()).unwrap_or_default() - now;
            (moment("iat"), moment("exp"))
        };
        let (ours, theirs) = (life(&mut claims), life(&mut their_claims));
        assert!((-70..=-60).contains(&ours.0) && (230..=240).contains(&ours.1), "{flow}: {ours:?}");
        assert!((-60..=0).contains(&theirs.0) && (3540..=3600).contains(&theirs.1), "{flow}: {theirs:?}");
        // The rest to the letter: the issuer, and the name of the session where there is one.
        assert_eq!(claims, their_claims, "{flow}");
        assert_eq!(claims.get("session_name").and_then(Value::as_str), (flow != "jwt").then_some(given.session.as_str()));
    }
    Ok(())
}
