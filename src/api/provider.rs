//! The provider: whom we ask for tokens, and how it differs from RFC 6749.

use super::{AuthMethod, CABundleReference};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// An absolute https URL without user and fragment.
pub const HTTPS_URL: &str = r"^https://[^\s/?#@]+(/[^\s#]*)?(\?[^\s#]*)?$";
/// An issuer identifier (RFC 8414 §2): https, no query, no fragment.
pub const ISSUER_URL: &str = r"^https://[^\s/?#@]+(/[^\s?#]*)?$";
/// A host, with a port where it is not 443; `*.` covers one label.
pub const HOST: &str = r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*(:[0-9]{1,5})?$";

/// Endpoints written out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CustomProvider {
    /// Token endpoint (RFC 6749 §3.2).
    #[serde(rename = "tokenURL")]
    #[schemars(length(max = 2048))]
    #[x_kube(validation = Rule::new("self.matches('^https://[^\\\\s/?#@]+(/[^\\\\s#]*)?([?][^\\\\s#]*)?$')").message("must be an https URL without user and fragment, such as https://login.example.com/oauth2/token"))]
    pub token_url: String,
    /// Authorization endpoint (RFC 6749 §3.1).
    #[serde(rename = "authorizationURL", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = HTTPS_URL))]
    pub authorization_url: Option<String>,
    /// Device authorization endpoint (RFC 8628 §3.1).
    #[serde(rename = "deviceAuthorizationURL", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = HTTPS_URL))]
    pub device_authorization_url: Option<String>,
    /// Revocation endpoint (RFC 7009).
    #[serde(rename = "revocationURL", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = HTTPS_URL))]
    pub revocation_url: Option<String>,
    /// Introspection endpoint (RFC 7662).
    #[serde(rename = "introspectionURL", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = HTTPS_URL))]
    pub introspection_url: Option<String>,
}

/// Encoding of id and secret in HTTP Basic: RFC 6749 §2.3.1 asks for form encoding, some providers take them raw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BasicEncoding {
    Form,
    Raw,
}

/// Format of the token request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BodyFormat {
    Form,
    JSON,
    Query,
}

/// Case of the field names in request and reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FieldCase {
    Snake,
    Camel,
}

/// Client authentication as the provider wants it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientAuthOverrides {
    /// Method used where the account names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<AuthMethod>,
    /// Encoding of id and secret in HTTP Basic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basic_encoding: Option<BasicEncoding>,
    /// Audience of a client assertion.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub assertion_audience: Option<String>,
}

/// Extra parameters of requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ParameterOverrides {
    /// Parameters added to the authorization request.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32, "additionalProperties" = {"type": "string", "maxLength": 1024}))]
    pub authorize: BTreeMap<String, String>,
    /// Parameters added to the device authorization request.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32, "additionalProperties" = {"type": "string", "maxLength": 1024}))]
    pub device: BTreeMap<String, String>,
    /// Parameters added to the registration of the client.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32, "additionalProperties" = {"type": "string", "maxLength": 1024}))]
    pub registration: BTreeMap<String, String>,
    /// Parameters added to the first token request.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32, "additionalProperties" = {"type": "string", "maxLength": 1024}))]
    pub token: BTreeMap<String, String>,
    /// Parameters added to a refresh. In a JSON body a value that is JSON itself is sent as such: a number, a list, an
    /// object. An empty value takes a parameter away.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32, "additionalProperties" = {"type": "string", "maxLength": 1024}))]
    pub refresh: BTreeMap<String, String>,
}

/// Where the reply's fields stand, as dotted paths.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResponseOverrides {
    /// Object within the reply that holds the fields.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub root: Option<String>,
    /// Path of the access token.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub access_token: Option<String>,
    /// Path of the refresh token.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub refresh_token: Option<String>,
    /// Path of the lifetime.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub expires_in: Option<String>,
    /// Path of the moment of expiry.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub expires_at: Option<String>,
    /// Path of the granted scopes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub scope: Option<String>,
    /// Characters that separate the granted scopes, beside blanks.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4))]
    pub scope_delimiter: Option<String>,
    /// Type of the token, whatever the reply calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[!-~]+$"))]
    pub token_type: Option<String>,
    /// Paths of public fields that are kept beside the token.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 256)), extend("x-kubernetes-list-type" = "set"))]
    pub extra: Vec<String>,
}

/// Unit of the expiry field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ExpiryUnit {
    Seconds,
    Milliseconds,
    EpochSeconds,
    EpochMilliseconds,
    ISO8601,
}

/// When a token expires.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExpiryOverrides {
    /// Unit of the expiry field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<ExpiryUnit>,
    /// Lifetime in seconds where the reply names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 315360000))]
    pub default_seconds: Option<i32>,
    /// Where the expiry is read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<super::ExpirySource>,
}

/// How errors look.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ErrorOverrides {
    /// Field that is true on success (Slack's `ok`).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub ok_field: Option<String>,
    /// Paths at which an error code may stand, also in an HTTP 200.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 256)), extend("x-kubernetes-list-type" = "set"))]
    pub code_paths: Vec<String>,
    /// Codes of the provider's own, with the code of RFC 6749 or its family that they stand for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32, "additionalProperties" = {"type": "string", "minLength": 1, "maxLength": 128}))]
    pub codes: BTreeMap<String, String>,
    /// Codes that mean: this grant is dead.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 128)), extend("x-kubernetes-list-type" = "set"))]
    pub terminal: Vec<String>,
    /// Codes that mean: try again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 128)), extend("x-kubernetes-list-type" = "set"))]
    pub transient: Vec<String>,
    /// Error codes by HTTP status, such as `"403": invalid_grant`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16, "additionalProperties" = {"type": "string", "minLength": 1, "maxLength": 128}))]
    pub http_overrides: BTreeMap<String, String>,
}

/// Whether a refresh replaces the refresh token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RotationMode {
    Never,
    Always,
    Maybe,
}

/// What to do when nobody knows whether a refresh token was spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UnknownOutcome {
    Retry,
    Grace,
    Probe,
    Postpone,
}

/// Rotation of refresh tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RotationOverrides {
    /// Whether a refresh replaces the refresh token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<RotationMode>,
    /// How long a spent refresh token is still accepted, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 15552000))]
    pub grace_seconds: Option<i32>,
    /// What to do when the outcome of a refresh is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_unknown: Option<UnknownOutcome>,
    /// Whether a refresh ends the access token before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kills_old_access_token: Option<bool>,
}

/// Lifetimes of refresh tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RefreshTokenOverrides {
    /// A refresh token unused for so many seconds dies.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 60, max = 315360000))]
    pub idle_seconds: Option<i32>,
    /// A login older than so many seconds dies, whatever its use.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 60, max = 315360000))]
    pub absolute_seconds: Option<i32>,
}

/// When the provider accepts a refresh.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RefreshWindow {
    /// A refresh is accepted only in the last so many seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86400))]
    pub earliest_seconds_before_expiry: Option<i32>,
}

/// Dynamic client registration (RFC 7591).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegistrationOverrides {
    /// Whether the client is registered by the operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dynamic: Option<bool>,
    /// Parameter that takes the scopes as a list, in place of `scope`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub scope_list: Option<String>,
    /// Lifetime of a registration in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 60, max = 315360000))]
    pub lifetime_seconds: Option<i32>,
}

/// One cheap request that tells whether an access token lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    /// HTTP method.
    #[schemars(regex(pattern = r"^(GET|HEAD|POST)$"), length(max = 8))]
    pub method: String,
    /// Address that answers 2xx to a living token.
    #[schemars(length(max = 2048), regex(pattern = HTTPS_URL))]
    pub url: String,
}

/// The knobs of a preset, each in place of the preset's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProviderOverrides {
    /// Issuer identifier.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = ISSUER_URL))]
    pub issuer: Option<String>,
    /// Authorization endpoint.
    #[serde(rename = "authorizationURL", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = HTTPS_URL))]
    pub authorization_url: Option<String>,
    /// Token endpoint.
    #[serde(rename = "tokenURL", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = HTTPS_URL))]
    pub token_url: Option<String>,
    /// Token endpoint of refreshes, where it is another.
    #[serde(rename = "refreshURL", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = HTTPS_URL))]
    pub refresh_url: Option<String>,
    /// Device authorization endpoint.
    #[serde(rename = "deviceAuthorizationURL", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = HTTPS_URL))]
    pub device_authorization_url: Option<String>,
    /// Revocation endpoint.
    #[serde(rename = "revocationURL", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = HTTPS_URL))]
    pub revocation_url: Option<String>,
    /// Introspection endpoint.
    #[serde(rename = "introspectionURL", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = HTTPS_URL))]
    pub introspection_url: Option<String>,
    /// Registration endpoint (RFC 7591 §3).
    #[serde(rename = "registrationURL", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = HTTPS_URL))]
    pub registration_url: Option<String>,
    /// Pushed authorization request endpoint (RFC 9126 §2).
    #[serde(rename = "pushedAuthorizationRequestURL", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = HTTPS_URL))]
    pub pushed_authorization_request_url: Option<String>,
    /// Client authentication as the provider wants it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_auth: Option<ClientAuthOverrides>,
    /// Format of the token request's body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<BodyFormat>,
    /// Case of the field names in request and reply.
    #[serde(rename = "case", skip_serializing_if = "Option::is_none")]
    pub field_case: Option<FieldCase>,
    /// Header `Accept` of token requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub accept: Option<String>,
    /// Extra parameters of requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters: Option<ParameterOverrides>,
    /// What separates scopes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4))]
    pub scope_delimiter: Option<String>,
    /// Where the reply's fields stand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response: Option<ResponseOverrides>,
    /// When a token expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expiry: Option<ExpiryOverrides>,
    /// How errors look.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errors: Option<ErrorOverrides>,
    /// Rotation of refresh tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotation: Option<RotationOverrides>,
    /// Lifetimes of refresh tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<RefreshTokenOverrides>,
    /// When the provider accepts a refresh.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_window: Option<RefreshWindow>,
    /// Dynamic client registration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registration: Option<RegistrationOverrides>,
    /// Hosts the token is meant for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 259), regex(pattern = HOST)), extend("x-kubernetes-list-type" = "set"))]
    pub api_hosts: Vec<String>,
    /// One cheap request that tells whether an access token lives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe: Option<Probe>,
}

/// The provider: exactly one of `preset`, `issuer` and `custom`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.preset), has(self.issuer), has(self.custom)].filter(x, x).size() == 1").message("must set exactly one of `preset`, `issuer` and `custom`"))]
#[x_kube(validation = Rule::new("!has(self.parameters) || self.parameters.all(k, k.matches('^[a-z][A-Za-z0-9]{0,31}$'))").message("keys of `parameters` must be names such as tenant or region"))]
pub struct Provider {
    /// A shipped preset, such as Coze.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[A-Z][A-Za-z0-9]*$"))]
    pub preset: Option<String>,
    /// Issuer identifier; the endpoints are discovered (RFC 8414, OpenID Connect Discovery 1.0).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    #[x_kube(validation = Rule::new("self.matches('^https://[^\\\\s/?#@]+(/[^\\\\s?#]*)?$')").message("must be an https URL without user, query and fragment, such as https://login.example.com/realms/a"))]
    pub issuer: Option<String>,
    /// Endpoints written out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom: Option<Box<CustomProvider>>,
    /// Values of a preset's placeholders, such as tenant and region.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16, "additionalProperties" = {"type": "string", "maxLength": 63, "pattern": "^[A-Za-z0-9.-]{1,63}$"}))]
    pub parameters: BTreeMap<String, String>,
    /// The knobs of a preset, each in place of the preset's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overrides: Option<Box<ProviderOverrides>>,
    /// Certificates trusted for this provider in place of the public ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_bundle_ref: Option<CABundleReference>,
}
