//! The published Secret: what users may say about it.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Type of the published Secret. Types that Kubernetes gives a meaning of power to are not offered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SecretType {
    #[default]
    Opaque,
    #[serde(rename = "kubernetes.io/dockerconfigjson")]
    DockerConfigJSON,
    #[serde(rename = "kubernetes.io/basic-auth")]
    BasicAuth,
}

/// How the published Secret comes to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CreationPolicy {
    /// The account owns the Secret; nobody else's is touched.
    #[default]
    Owner,
    /// The keys are merged into a Secret that permits it by the annotation oauth-operator.dev/merge-from, which names the
    /// account. What was merged stays when the account goes.
    Merge,
    /// The Secret is made without an owner, and stays when the account goes.
    Orphan,
}

/// What becomes of the published Secret when the account is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    #[default]
    Delete,
    Retain,
}

/// The Secret in which the token is published.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.labels) || self.labels.all(k, !k.matches('^([^/]*[.])?(kubernetes[.]io|k8s[.]io|oauth-operator[.]dev)/'))").message("`labels` may not use the prefixes kubernetes.io/, k8s.io/ and oauth-operator.dev/"))]
#[x_kube(validation = Rule::new("!has(self.labels) || self.labels.all(k, k.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$') && size(k) <= 128)").message("keys of `labels` must be label names such as team or example.com/team"))]
#[x_kube(validation = Rule::new("!has(self.annotations) || self.annotations.all(k, !k.matches('^([^/]*[.])?(kubernetes[.]io|k8s[.]io|oauth-operator[.]dev)/'))").message("`annotations` may not use the prefixes kubernetes.io/, k8s.io/ and oauth-operator.dev/"))]
#[x_kube(validation = Rule::new("!has(self.annotations) || self.annotations.all(k, k.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$') && size(k) <= 128)").message("keys of `annotations` must be annotation names such as team or example.com/team"))]
#[x_kube(validation = Rule::new("!has(self.data) || self.data.all(k, k.matches('^[-._a-zA-Z0-9]+$') && size(k) <= 253 && !(k in ['access_token', 'token_type', 'expires_at', 'scope', 'generation', 'allowed_hosts', 'dpop_key']))").message("keys of `data` must consist of letters, digits, '-', '_' and '.', and may not be those the operator writes itself"))]
#[x_kube(validation = Rule::new("!has(self.type) || self.type != 'kubernetes.io/dockerconfigjson' || (has(self.data) && '.dockerconfigjson' in self.data)").message("`data` must have the key .dockerconfigjson for the type kubernetes.io/dockerconfigjson"))]
#[x_kube(validation = Rule::new("!has(self.type) || self.type != 'kubernetes.io/basic-auth' || (has(self.data) && ('username' in self.data || 'password' in self.data))").message("`data` must have the key username or password for the type kubernetes.io/basic-auth"))]
#[x_kube(validation = Rule::new("!has(self.creationPolicy) || self.creationPolicy != 'Merge' || (has(self.name) && (!has(self.type) || self.type == 'Opaque') && !has(self.labels) && !has(self.annotations))").message("must set `name`, and may not set `type`, `labels` and `annotations`, where `creationPolicy` is Merge"))]
pub struct TokenSecret {
    /// Name of the Secret. Absent: `<account>-token`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = super::reference::OBJECT_NAME))]
    pub name: Option<String>,
    /// Type of the Secret.
    #[serde(rename = "type", default)]
    pub type_: SecretType,
    /// Labels added to the Secret.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32, "additionalProperties" = {"type": "string", "maxLength": 63, "pattern": "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$"}))]
    pub labels: BTreeMap<String, String>,
    /// Annotations added to the Secret.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32, "additionalProperties" = {"type": "string", "maxLength": 4096}))]
    pub annotations: BTreeMap<String, String>,
    /// Extra keys, each a text with CEL expressions such as `Bearer ${token.accessToken}`. Variables: `token` (accessToken,
    /// tokenType, expiresAt, scope, scopes, generation) and `account` (name, namespace); function `base64.encode(bytes(…))`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32, "additionalProperties" = {"type": "string", "maxLength": 4096}))]
    pub data: BTreeMap<String, String>,
    /// How the Secret comes to be.
    #[serde(default)]
    pub creation_policy: CreationPolicy,
    /// What becomes of the Secret when the account is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}
