//! What is sent to a token endpoint.

use super::assertion::{SigningKey, sign_with_secret};
use super::dialect::Dialect;
use super::resource_request::unproven;
use super::{DPoPKey, Fault, FaultKind, Sensitive};
use crate::api::{BasicEncoding, BodyFormat};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use url::Url;
use url::form_urlencoded::{Serializer, byte_serialize};

/// How far the provider's clock may be behind ours.
const SKEW: SignedDuration = SignedDuration::from_mins(1);
/// How long from now an assertion is believed, where nothing else is said: with the skew five minutes in all. RFC 7523 §3: not
/// unreasonably far in the future.
const ASSERTION_LIFETIME: SignedDuration = SignedDuration::from_mins(4);
/// Media type of form parameters.
const FORM: &str = "application/x-www-form-urlencoded";

/// How the client proves itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientAuthentication {
    /// HTTP Basic with id and secret (RFC 6749 §2.3.1).
    Basic,
    /// `client_id` and `client_secret` in the body (RFC 6749 §2.3.1).
    Post,
    /// The secret, or the assertion of the grant, as a bearer token (Coze).
    Bearer,
    /// A JWT signed by the client's private key (RFC 7523 §2.2, OpenID Connect Core §9).
    PrivateKeyJWT {
        /// Header `kid`.
        key_id: Option<String>,
    },
    /// A JWT signed by the client secret (OpenID Connect Core §9).
    SecretJWT,
    /// `client_id` in the body; the proof is the certificate of the connection (RFC 8705 §2).
    Tls,
    /// `client_id` in the body: a public client (RFC 6749 §2.1).
    None,
}

/// What is signed, and with what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assertion {
    /// Claim `iss`; none: the client id.
    pub issuer: Option<String>,
    /// Claim `sub`.
    pub subject: Option<String>,
    /// Claim `aud`; none: the dialect's, or the token endpoint.
    pub audience: Option<String>,
    /// How long it is believed.
    pub lifetime: Option<SignedDuration>,
    /// Further claims.
    pub claims: BTreeMap<String, Value>,
    /// Private key, PEM.
    pub key: Sensitive,
    /// Header `kid`.
    pub key_id: Option<String>,
    /// Signature algorithm; none: what the key is made for.
    pub algorithm: Option<crate::api::JWTAlgorithm>,
}

impl Assertion {
    /// Signed by this key, and saying nothing of its own.
    pub fn by(key: Sensitive) -> Self {
        Self {
            key,
            issuer: None,
            subject: None,
            audience: None,
            lifetime: None,
            claims: BTreeMap::new(),
            key_id: None,
            algorithm: None,
        }
    }
}

/// By what right a token is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GrantRequest {
    /// The client's own (RFC 6749 §4.4.2).
    ClientCredentials,
    /// A refresh token (RFC 6749 §6).
    RefreshToken(Sensitive),
    /// A person's consent in a browser (RFC 6749 §4.1.3).
    AuthorizationCode {
        /// The code.
        code: Sensitive,
        /// Where it was sent to.
        redirect_uri: String,
        /// What its challenge was made of (RFC 7636 §4.5).
        verifier: Option<Sensitive>,
    },
    /// A person's consent on another device (RFC 8628 §3.4).
    DeviceCode(Sensitive),
    /// A signed assertion (RFC 7523 §2.1).
    Assertion(Box<Assertion>),
    /// Another token (RFC 8693 §2.1).
    TokenExchange {
        /// The token that is exchanged.
        subject_token: Sensitive,
        /// Its type.
        subject_token_type: String,
        /// The type that is asked for.
        requested_token_type: Option<String>,
    },
    /// A person's name and password (RFC 6749 §4.3.2).
    Password {
        /// Name.
        username: String,
        /// Password.
        password: Sensitive,
    },
    /// No token yet: a code for a person to enter on another device (RFC 8628 §3.1).
    DeviceAuthorization,
    /// No token yet: a client of our own (RFC 7591 §3.1).
    Registration {
        /// What people see it called.
        name: String,
        /// The parameter that takes the scopes as a list, in place of `scope`.
        scope_list: Option<String>,
        /// Where codes may be sent to.
        redirect_uris: Vec<String>,
    },
    /// No token: an authorization request, pushed before a browser is sent (RFC 9126 §2.1).
    PushedAuthorization(Vec<(String, String)>),
    /// No token: the end of one (RFC 7009 §2.1).
    Revocation {
        /// The token.
        token: Sensitive,
        /// `access_token` or `refresh_token`.
        hint: &'static str,
    },
    /// No token: what the provider says of one (RFC 7662 §2.1).
    Introspection(Sensitive),
    /// An App's right to act for an installation (GitHub).
    Installation {
        /// Signs for the App.
        assertion: Box<Assertion>,
        /// Repositories the token is limited to.
        repositories: Vec<String>,
        /// Permissions the token is limited to.
        permissions: BTreeMap<String, String>,
    },
}

/// A request to a token endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRequest {
    /// Where it goes.
    pub endpoint: Url,
    /// Client identifier; some grants need none.
    pub client_id: Option<String>,
    /// Whether the client identifier comes from a Secret.
    pub client_id_is_secret: bool,
    /// Client secret, or the private key that stands for it; a public client has none.
    pub client_secret: Option<Sensitive>,
    /// How the client proves itself.
    pub authentication: ClientAuthentication,
    /// By what right.
    pub grant: GrantRequest,
    /// Scopes asked for; none: the provider's default.
    pub scopes: Vec<String>,
    /// Parameter `audience`, which several providers know.
    pub audience: Option<String>,
    /// Parameters `resource` (RFC 8707 §2).
    pub resources: Vec<String>,
    /// How the provider speaks.
    pub dialect: Arc<Dialect>,
    /// Private key that the token is to be bound to, PEM (RFC 9449 §5).
    pub dpop_key: Option<Sensitive>,
}

/// What makes one request unlike every other.
#[derive(Clone, Debug)]
pub struct Moment {
    /// When it is made.
    pub now: Timestamp,
    /// Unlike that of any other (claim `jti`).
    pub id: String,
    /// The nonce that the server wants in DPoP proofs, where it has named one.
    pub dpop_nonce: Option<String>,
}

/// Parameters in their order; a name may come twice (RFC 8707 §2).
#[derive(Default)]
struct Parameters(Vec<(String, Value)>);

impl Parameters {
    fn add(&mut self, name: &str, value: impl Into<Value>) {
        self.0.push((name.to_owned(), value.into()));
    }

    /// Replaces what has this name; an empty value takes it away.
    fn set(&mut self, name: &str, value: Value) {
        self.0.retain(|(there, _)| there != name);
        if value != Value::String(String::new()) {
            self.0.push((name.to_owned(), value));
        }
    }
}

impl TokenRequest {
    /// Everything in this request that nobody may be told, in the forms in which a provider may echo it.
    pub fn secrets(&self) -> Vec<Sensitive> {
        let id = self.client_id.as_deref().unwrap_or_default();
        let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
        let basic = |id: &str, secret: &str| Sensitive::new(STANDARD.encode(format!("{id}:{secret}")));
        let forms = |secret: &Sensitive| {
            let text = secret.expose();
            [secret.clone(), basic(&encoded(id), &encoded(text)), basic(id, text)]
        };
        let client_secret = self.client_secret.iter().flat_map(forms);
        let id_alone = self.client_id_is_secret.then(|| Sensitive::new(id));
        let grant = match &self.grant {
            GrantRequest::ClientCredentials
            | GrantRequest::Assertion(_)
            | GrantRequest::DeviceAuthorization
            | GrantRequest::Registration { .. }
            | GrantRequest::PushedAuthorization(_)
            | GrantRequest::Installation { .. } => vec![],
            GrantRequest::RefreshToken(token)
            | GrantRequest::DeviceCode(token)
            | GrantRequest::Introspection(token)
            | GrantRequest::Revocation { token, .. } => vec![token.clone()],
            GrantRequest::TokenExchange { subject_token, .. } => vec![subject_token.clone()],
            GrantRequest::Password { password, .. } => vec![password.clone()],
            GrantRequest::AuthorizationCode { code, verifier, .. } => {
                [Some(code.clone()), verifier.clone()].into_iter().flatten().collect()
            }
        };
        client_secret.chain(id_alone).chain(grant).collect()
    }

    /// The HTTP request. What goes over the wire is the shell's business; what is in it can be tested without one.
    ///
    /// # Errors
    /// [`FaultKind::ReferenceInvalid`] where a key cannot sign, [`FaultKind::Misconfigured`] where a value cannot stand in a
    /// header.
    pub fn compose(&self, moment: &Moment) -> Result<http::Request<Vec<u8>>, Fault> {
        let mut parameters = Parameters::default();
        let mut bearer = self.grant_parameters(&mut parameters, moment)?;
        let mut basic = None;
        let id = self.client_id.as_deref();
        let secret = self.client_secret.as_ref().map(Sensitive::expose).unwrap_or_default();
        let registers = matches!(self.grant, GrantRequest::Registration { .. });
        match &self.authentication {
            // There is no client yet.
            _ if registers => {}
            ClientAuthentication::Basic => basic = Some(self.basic(id.unwrap_or_default(), secret)),
            ClientAuthentication::Post => parameters.add("client_secret", secret),
            // The assertion of the grant is what authenticates, and names the client.
            ClientAuthentication::Bearer => bearer = bearer.or_else(|| Some(secret.to_owned())),
            ClientAuthentication::PrivateKeyJWT { key_id } => {
                parameters.add("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
                parameters.add("client_assertion", self.client_assertion(key_id.as_deref(), moment)?);
            }
            ClientAuthentication::SecretJWT => {
                parameters.add("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
                parameters.add("client_assertion", self.client_assertion(None, moment)?);
            }
            ClientAuthentication::Tls | ClientAuthentication::None => {}
        }
        let asserted = matches!(self.grant, GrantRequest::Assertion(_) | GrantRequest::Installation { .. });
        let pushed = matches!(self.grant, GrantRequest::PushedAuthorization(_));
        let named = registers
            || pushed
            || basic.is_some()
            || (bearer.is_some() && asserted)
            || matches!(self.grant, GrantRequest::Installation { .. });
        if let Some(id) = id.filter(|_| !named) {
            parameters.add("client_id", id);
        }
        let none = BTreeMap::new();
        let extra = match self.grant {
            GrantRequest::RefreshToken(_) => &self.dialect.parameters.refresh,
            GrantRequest::DeviceAuthorization => &self.dialect.parameters.device,
            GrantRequest::Registration { .. } => &self.dialect.parameters.registration,
            GrantRequest::PushedAuthorization(_) | GrantRequest::Revocation { .. } | GrantRequest::Introspection(_) => &none,
            _ => &self.dialect.parameters.token,
        };
        for (name, value) in extra {
            parameters.set(name, self.extra(value));
        }
        let request = http::Request::post(self.endpoint.as_str()).header(ACCEPT, self.dialect.accept.as_str());
        let request = match basic.or(bearer.map(|token| format!("Bearer {token}"))) {
            Some(header) => request.header(AUTHORIZATION, header),
            None => request,
        };
        let request = match &self.dpop_key {
            Some(key) => request.header("dpop", self.dpop_proof(key, moment)?),
            None => request,
        };
        self.written(request, parameters)
    }

    fn written(&self, request: http::request::Builder, parameters: Parameters) -> Result<http::Request<Vec<u8>>, Fault> {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let named = parameters.0.into_iter().map(|(name, value)| (self.dialect.name(&name), value));
        let format = match self.grant {
            GrantRequest::Registration { .. } => BodyFormat::JSON,
            // RFC 9126 §2.1, RFC 7009 §2.1 and RFC 7662 §2.1 know no other.
            GrantRequest::PushedAuthorization(_) | GrantRequest::Revocation { .. } | GrantRequest::Introspection(_) => {
                BodyFormat::Form
            }
            _ => self.dialect.body,
        };
        let body = match format {
            BodyFormat::Form => {
                let pairs = named.map(|(name, value)| (name, text(&value)));
                request.header(CONTENT_TYPE, FORM).body(Serializer::new(String::new()).extend_pairs(pairs).finish().into_bytes())
            }
            BodyFormat::JSON => {
                let mut object = Map::new();
                for (name, value) in named {
                    match object.get_mut(&name) {
                        Some(Value::Array(all)) if name == "resource" => all.push(value),
                        Some(there) => *there = json!([there.take(), value]),
                        None => drop(object.insert(name, value)),
                    }
                }
                request.header(CONTENT_TYPE, "application/json").body(Value::Object(object).to_string().into_bytes())
            }
            BodyFormat::Query => {
                let mut url = self.endpoint.clone();
                url.query_pairs_mut().extend_pairs(named.map(|(name, value)| (name, text(&value))));
                request.uri(url.as_str()).body(vec![])
            }
        };
        body.map_err(|_| {
            let message =
                "The token request cannot be made: a client id, secret or endpoint holds what cannot stand in a request.";
            Fault::new(FaultKind::Misconfigured, message)
        })
    }

    /// What the grant itself asks with; a token for the header, where the provider takes the assertion there.
    fn grant_parameters(&self, parameters: &mut Parameters, moment: &Moment) -> Result<Option<String>, Fault> {
        let mut scoped = true;
        let mut bearer = None;
        match &self.grant {
            GrantRequest::ClientCredentials => parameters.add("grant_type", "client_credentials"),
            GrantRequest::RefreshToken(token) => {
                parameters.add("grant_type", "refresh_token");
                parameters.add("refresh_token", token.expose());
            }
            GrantRequest::AuthorizationCode { code, redirect_uri, verifier } => {
                parameters.add("grant_type", "authorization_code");
                parameters.add("code", code.expose());
                parameters.add("redirect_uri", redirect_uri.as_str());
                if let Some(verifier) = verifier {
                    parameters.add("code_verifier", verifier.expose());
                }
                // The person has consented to them.
                scoped = false;
            }
            GrantRequest::DeviceCode(code) => {
                parameters.add("grant_type", "urn:ietf:params:oauth:grant-type:device_code");
                parameters.add("device_code", code.expose());
                scoped = false;
            }
            GrantRequest::Assertion(assertion) => {
                parameters.add("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer");
                let signed = self.signed(assertion, moment)?;
                match self.authentication {
                    ClientAuthentication::Bearer => bearer = Some(signed),
                    _ => parameters.add("assertion", signed),
                }
            }
            GrantRequest::TokenExchange { subject_token, subject_token_type, requested_token_type } => {
                parameters.add("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange");
                parameters.add("subject_token", subject_token.expose());
                parameters.add("subject_token_type", subject_token_type.as_str());
                if let Some(wanted) = requested_token_type {
                    parameters.add("requested_token_type", wanted.as_str());
                }
            }
            GrantRequest::Password { username, password } => {
                parameters.add("grant_type", "password");
                parameters.add("username", username.as_str());
                parameters.add("password", password.expose());
            }
            GrantRequest::DeviceAuthorization => {}
            GrantRequest::Registration { name, scope_list, redirect_uris } => {
                parameters.add("client_name", name.as_str());
                if !redirect_uris.is_empty() {
                    parameters.add("redirect_uris", json!(redirect_uris));
                }
                if let Some(list) = scope_list {
                    parameters.add(list, json!(self.scopes));
                    return Ok(None);
                }
            }
            GrantRequest::PushedAuthorization(pairs) => {
                pairs.iter().for_each(|(name, value)| parameters.add(name, value.as_str()));
                return Ok(None);
            }
            GrantRequest::Revocation { token, hint } => {
                parameters.add("token", token.expose());
                parameters.add("token_type_hint", *hint);
                return Ok(None);
            }
            GrantRequest::Introspection(token) => {
                parameters.add("token", token.expose());
                parameters.add("token_type_hint", "access_token");
                return Ok(None);
            }
            GrantRequest::Installation { assertion, repositories, permissions } => {
                bearer = Some(self.signed(assertion, moment)?);
                if !repositories.is_empty() {
                    parameters.add("repositories", json!(repositories));
                }
                if !permissions.is_empty() {
                    parameters.add("permissions", json!(permissions));
                }
                return Ok(bearer);
            }
        }
        if scoped && !self.scopes.is_empty() {
            parameters.add("scope", self.scopes.join(&self.dialect.scope_delimiter));
        }
        if let Some(audience) = &self.audience {
            parameters.add("audience", audience.as_str());
        }
        self.resources.iter().for_each(|resource| parameters.add("resource", resource.as_str()));
        Ok(bearer)
    }

    /// A value that the user adds. In JSON, what is JSON is sent as such: a number, a list, an object, or text in quotes.
    fn extra(&self, value: &str) -> Value {
        let format = self.dialect.body == BodyFormat::JSON || matches!(self.grant, GrantRequest::Registration { .. });
        let json = format.then(|| serde_json::from_str(value).ok()).flatten();
        json.unwrap_or_else(|| Value::String(value.to_owned()))
    }

    fn basic(&self, id: &str, secret: &str) -> String {
        let encoded = |text: &str| match self.dialect.basic_encoding {
            BasicEncoding::Form => byte_serialize(text.as_bytes()).collect::<String>(),
            BasicEncoding::Raw => text.to_owned(),
        };
        format!("Basic {}", STANDARD.encode(format!("{}:{}", encoded(id), encoded(secret))))
    }

    fn dpop_proof(&self, key: &Sensitive, moment: &Moment) -> Result<String, Fault> {
        DPoPKey::read(key).and_then(|key| key.proof("POST", &self.endpoint, None, moment)).map_err(unproven)
    }

    /// Who may believe an assertion, where its own audience is not said.
    fn audience(&self) -> &str {
        self.dialect.assertion_audience.as_deref().unwrap_or(self.endpoint.as_str())
    }

    /// RFC 7523 §3: `iss` and `sub` are the client.
    fn client_assertion(&self, key_id: Option<&str>, moment: &Moment) -> Result<String, Fault> {
        let id = self.client_id.as_deref().unwrap_or_default();
        let issued = (moment.now - SKEW).as_second();
        let expires = (moment.now + ASSERTION_LIFETIME).as_second();
        let claims = json!({"iss": id, "sub": id, "aud": self.audience(), "jti": moment.id, "iat": issued, "exp": expires});
        let secret = self.client_secret.clone().unwrap_or_else(|| Sensitive::new(""));
        let signed = match self.authentication {
            ClientAuthentication::SecretJWT => sign_with_secret(&claims, &secret),
            _ => SigningKey::read(&secret, None).and_then(|key| key.sign(&claims, key_id)),
        };
        signed.map_err(|why| unsigned("spec.client.secretRef", why))
    }

    /// RFC 7523 §3, with the claims that the account adds.
    fn signed(&self, assertion: &Assertion, moment: &Moment) -> Result<String, Fault> {
        // Providers measure from `iat`, and refuse what lives longer than they allow. A short one must outlive its way.
        let said = assertion.lifetime.map(|lifetime| (lifetime - SKEW).max(lifetime / 2));
        let expires = moment.now + said.unwrap_or(ASSERTION_LIFETIME);
        let mut claims = Map::new();
        let issuer = assertion.issuer.as_ref().or(self.client_id.as_ref());
        claims.insert("iss".into(), json!(issuer));
        claims.insert("aud".into(), json!(assertion.audience.as_deref().unwrap_or(self.audience())));
        claims.insert("iat".into(), json!((moment.now - SKEW).as_second()));
        claims.insert("exp".into(), json!(expires.as_second()));
        claims.insert("jti".into(), json!(moment.id));
        if let Some(subject) = &assertion.subject {
            claims.insert("sub".into(), json!(subject));
        }
        // Google reads them here, others beside the assertion.
        if !self.scopes.is_empty() {
            claims.insert("scope".into(), json!(self.scopes.join(&self.dialect.scope_delimiter)));
        }
        claims.extend(assertion.claims.clone());
        let key = SigningKey::read(&assertion.key, assertion.algorithm);
        let signed = key.and_then(|key| key.sign(&Value::Object(claims), assertion.key_id.as_deref()));
        signed.map_err(|why| unsigned("keyRef of spec.grant", why))
    }
}

fn unsigned(field: &str, why: &str) -> Fault {
    Fault::new(FaultKind::ReferenceInvalid, format!("The key that {field} names {why}."))
}

#[cfg(test)]
#[path = "token_request_tests.rs"]
mod tests;
