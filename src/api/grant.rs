//! The grant: what entitles us to a token.

use super::KeyReference;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The client's own authority (RFC 6749 §4.4).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct ClientCredentials {}

/// A refresh token obtained elsewhere (RFC 6749 §6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RefreshToken {
    /// Secret that holds the first refresh token. It is imported once, and again when its content changes.
    pub secret_ref: KeyReference,
}

/// Proof Key for Code Exchange (RFC 7636).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Pkce {
    #[default]
    S256,
    None,
}

/// A person's consent in a browser (RFC 6749 §4.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuthorizationCode {
    /// Code challenge method.
    #[serde(default)]
    pub pkce: Pkce,
}

/// A person's consent on another device (RFC 8628).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct DeviceCode {}

/// Signature algorithm of a JWT (RFC 7518, RFC 8037).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum JWTAlgorithm {
    RS256,
    ES256,
    EdDSA,
}

/// A signed assertion (RFC 7523 §2.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct JWTBearer {
    /// Claim `iss`. Absent: the client id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub issuer: Option<String>,
    /// Claim `sub`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub subject: Option<String>,
    /// Claim `aud`. Absent: the preset's audience, or the token endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub audience: Option<String>,
    /// Private key, PEM.
    pub key_ref: KeyReference,
    /// Header `kid`.
    #[serde(rename = "keyID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub key_id: Option<String>,
    /// Signature algorithm. Absent: what the key is made for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<JWTAlgorithm>,
    /// Lifetime of the assertion in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 86400))]
    pub lifetime_seconds: Option<i32>,
    /// Further claims, free JSON.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "super::schema::free_object")]
    pub extra_claims: BTreeMap<String, serde_json::Value>,
}

/// A token of a ServiceAccount in the same namespace, which must permit it by annotation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccountToken {
    /// ServiceAccount that the token is minted for.
    #[serde(default = "default_service_account")]
    #[schemars(length(min = 1, max = 253), regex(pattern = super::reference::OBJECT_NAME))]
    pub name: String,
    /// Audience of the token. The API server's own audiences are refused.
    #[schemars(length(min = 1, max = 512))]
    pub audience: String,
}

fn default_service_account() -> String {
    "default".into()
}

/// The token that is exchanged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.serviceAccountToken) != has(self.secretRef)").message("must set exactly one of `serviceAccountToken` and `secretRef`"))]
pub struct SubjectToken {
    /// A ServiceAccount's token: workload identity federation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account_token: Option<ServiceAccountToken>,
    /// A token from a Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<KeyReference>,
}

/// Token exchange (RFC 8693).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenExchange {
    /// Token that is exchanged.
    pub subject_token: SubjectToken,
    /// Type of the subject token, a URI of RFC 8693 §3.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub subject_token_type: Option<String>,
    /// Type of the token asked for, a URI of RFC 8693 §3.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub requested_token_type: Option<String>,
}

/// An installation token of a GitHub App.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct GitHubApp {
    /// Identifier of the App.
    #[serde(rename = "appID")]
    #[schemars(range(min = 1, max = 9007199254740991i64))]
    pub app_id: i64,
    /// Identifier of the installation.
    #[serde(rename = "installationID")]
    #[schemars(range(min = 1, max = 9007199254740991i64))]
    pub installation_id: i64,
    /// Private key of the App, PEM.
    pub key_ref: KeyReference,
    /// Repositories the token is limited to, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(min = 1, max = 100)), extend("x-kubernetes-list-type" = "set"))]
    pub repositories: Vec<String>,
    /// Permissions the token is limited to, such as `contents: read`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64, "additionalProperties" = {"type": "string", "minLength": 1, "maxLength": 32}))]
    pub permissions: BTreeMap<String, String>,
}

/// A person's name and password (RFC 6749 §4.3). Refused unless the operator's configuration allows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Password {
    /// Secret with the keys `username` and `password`; `key` names the password's.
    pub secret_ref: KeyReference,
}

/// Exactly one grant. What is rarely there is boxed: ten thousand accounts are kept in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.clientCredentials), has(self.refreshToken), has(self.authorizationCode), has(self.deviceCode), has(self.jwtBearer), has(self.tokenExchange), has(self.githubApp), has(self.password)].filter(x, x).size() == 1").message("must set exactly one of `clientCredentials`, `refreshToken`, `authorizationCode`, `deviceCode`, `jwtBearer`, `tokenExchange`, `githubApp` and `password`"))]
pub struct Grant {
    /// The client's own authority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_credentials: Option<ClientCredentials>,
    /// A refresh token obtained elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<RefreshToken>,
    /// A person's consent in a browser.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorization_code: Option<AuthorizationCode>,
    /// A person's consent on another device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_code: Option<DeviceCode>,
    /// A signed assertion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt_bearer: Option<Box<JWTBearer>>,
    /// Token exchange.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_exchange: Option<Box<TokenExchange>>,
    /// An installation token of a GitHub App.
    #[serde(rename = "githubApp", skip_serializing_if = "Option::is_none")]
    pub github_app: Option<Box<GitHubApp>>,
    /// A person's name and password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Password>,
}
