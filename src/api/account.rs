//! `OAuthAccount`: one login or client whose access token is kept fresh in a Secret.

use super::{Client, Grant, OAuthAccountStatus, Provider, TokenSecret};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Algorithm of a DPoP proof (RFC 9449).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DPoPAlgorithm {
    #[default]
    ES256,
    EdDSA,
}

/// Tokens bound to a key (RFC 9449).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DPoP {
    /// Algorithm of the proofs.
    #[serde(default)]
    pub algorithm: DPoPAlgorithm,
}

/// A periodic request that tells whether the token is accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HealthCheck {
    /// Address that answers 2xx to a living token.
    #[schemars(length(max = 2048), regex(pattern = super::provider::HTTPS_URL))]
    pub url: String,
    /// Seconds between two checks.
    #[serde(default = "default_health_check_interval")]
    #[schemars(range(min = 60, max = 86400))]
    pub interval_seconds: i32,
}

fn default_health_check_interval() -> i32 {
    3600
}

/// When to refresh, in place of the default schedule. A lead is capped at half the token's lifetime.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.beforeExpirySeconds) != has(self.beforeExpiryPercent)").message("must set exactly one of `beforeExpirySeconds` and `beforeExpiryPercent`"))]
pub struct RefreshSchedule {
    /// Lead before expiry in seconds, at most half the lifetime.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 31536000))]
    pub before_expiry_seconds: Option<i32>,
    /// Lead before expiry as a percentage of the lifetime.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 50))]
    pub before_expiry_percent: Option<i32>,
}

/// Whether the provider is told when the account goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RevocationPolicy {
    #[default]
    Never,
    OnDelete,
}

/// What becomes of the operator's own record when the account is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StatePolicy {
    #[default]
    Delete,
    Retain,
}

/// Kind of a workload that is restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RestartKind {
    Deployment,
    StatefulSet,
    DaemonSet,
}

/// A workload that is restarted when the token changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestartTarget {
    /// Kind of the workload.
    pub kind: RestartKind,
    /// Name of the workload.
    #[schemars(length(min = 1, max = 253), regex(pattern = super::reference::OBJECT_NAME))]
    pub name: String,
}

/// What the user wants: whom to ask, as whom, by what right, and where the token goes.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "oauth-operator.dev",
    version = "v1alpha1",
    kind = "OAuthAccount",
    plural = "oauthaccounts",
    singular = "oauthaccount",
    shortname = "oacc",
    category = "oauth",
    namespaced,
    status = "OAuthAccountStatus",
    derive = "Default",
    derive = "PartialEq",
    doc = "OAuthAccount keeps a fresh access token of one OAuth client or login in a Secret.",
    selectable = ".spec.client.secretRef.name",
    selectable = ".spec.provider.preset",
    selectable = ".spec.provider.issuer",
    selectable = ".spec.client.idFrom.secretKeyRef.name",
    selectable = ".spec.provider.caBundleRef.name",
    selectable = ".spec.tokenSecret.name",
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#, description = "Whether a valid token is published"),
    printcolumn(name = "Provider", type_ = "string", json_path = ".status.provider"),
    printcolumn(name = "Grant", type_ = "string", json_path = ".status.grant"),
    printcolumn(name = "Expires", type_ = "string", json_path = ".status.token.expirationTime", description = "When the published token expires"),
    printcolumn(name = "Secret", type_ = "string", json_path = ".status.tokenSecretName", description = "Secret that holds the token"),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#, priority = 1),
    printcolumn(name = "Refreshed", type_ = "string", json_path = ".status.lastSuccessTime", priority = 1),
    printcolumn(name = "Next", type_ = "string", json_path = ".status.nextRefreshTime", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("size(self.metadata.name) <= 200").message("`metadata.name` must have at most 200 characters, so that names can be derived from it")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.grant.clientCredentials) || has(self.grant.refreshToken) || has(self.grant.authorizationCode) || has(self.grant.deviceCode)) || (has(self.client) && (has(self.client.id) || has(self.client.idFrom))) || (has(self.provider.overrides) && has(self.provider.overrides.registration)) || has(self.provider.preset)").message("must set `client.id` or `client.idFrom` for this grant"))]
#[x_kube(validation = Rule::new("!has(self.grant.clientCredentials) || has(self.provider.preset) || (has(self.client) && has(self.client.secretRef))").message("must set `client.secretRef` for `grant.clientCredentials`"))]
#[x_kube(validation = Rule::new("!has(self.grant.clientCredentials) || !has(self.client) || !has(self.client.authMethod) || self.client.authMethod != 'None'").message("`client.authMethod` may not be None with `grant.clientCredentials`: RFC 6749 section 4.4 asks for an authenticated client"))]
#[x_kube(validation = Rule::new("!has(self.client) || !has(self.client.authMethod) || !(self.client.authMethod in ['ClientSecretBasic', 'ClientSecretPost', 'ClientSecretBearer', 'ClientSecretJWT', 'PrivateKeyJWT', 'TLSClientAuth']) || has(self.client.secretRef)").message("must set `client.secretRef` for this `client.authMethod`"))]
pub struct OAuthAccountSpec {
    /// Provider that issues the token.
    pub provider: Provider,
    /// OAuth client that asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<Client>,
    /// Grant that entitles the client to it.
    pub grant: Grant,
    /// Scopes asked for (RFC 6749 §3.3).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 256)), extend("x-kubernetes-list-type" = "set"))]
    #[x_kube(validation = Rule::new("self.all(scope, scope.matches('^[!#-\\\\[\\\\]-~]+$'))").message("must hold one scope an entry, without spaces, quotation marks and backslashes"))]
    pub scopes: Vec<String>,
    /// Audience asked for, where the provider knows the parameter `audience`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub audience: Option<String>,
    /// Resource indicators (RFC 8707): absolute URIs of the protected resources.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 1024), regex(pattern = r"^[A-Za-z][A-Za-z0-9+.-]*:[^\s#]+$")), extend("x-kubernetes-list-type" = "set"))]
    pub resources: Vec<String>,
    /// Whether authorization requests are pushed (RFC 9126). Absent: as discovery says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub par: Option<bool>,
    /// Tokens bound to a key (RFC 9449). Absent: bearer tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dpop: Option<DPoP>,
    /// Subject the login must have; a login by anyone else is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub expected_subject: Option<String>,
    /// Periodic check that the token is accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
    /// When to refresh. Absent: by the token's lifetime.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh: Option<RefreshSchedule>,
    /// Hosts the token may be sent to: host or host:port, exact; `*.` covers one label.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 259)), extend("x-kubernetes-list-type" = "set"))]
    #[x_kube(validation = Rule::new("self.all(host, host.matches('^([*][.])?[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*(:[0-9]{1,5})?$'))").message("must hold hosts such as api.example.com, api.example.com:8443 or *.example.com, and no URLs"))]
    pub allowed_hosts: Vec<String>,
    /// Requests of workflows that are under way at once with the token at most. Absent: 16.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_concurrent_steps: Option<i32>,
    /// Secret in which the token is published.
    #[serde(default)]
    pub token_secret: TokenSecret,
    /// Whether the provider is told when the account goes.
    #[serde(default)]
    pub revocation_policy: RevocationPolicy,
    /// What becomes of the operator's own record when the account is deleted.
    #[serde(default)]
    pub state_policy: StatePolicy,
    /// Workloads restarted when the token changes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["kind", "name"]))]
    pub restart_targets: Vec<RestartTarget>,
    /// Least seconds between two restarts of a workload. Absent: 3600.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 60, max = 604800))]
    pub restart_interval_seconds: Option<i32>,
    /// Whether token requests pause. The published token stays until it expires.
    #[serde(default)]
    pub suspend: bool,
}
