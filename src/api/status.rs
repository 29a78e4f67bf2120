//! What the operator reports.

use super::DPoPAlgorithm;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where a token's expiry was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ExpirySource {
    /// The reply's own field.
    Field,
    /// The claim `exp` of a JWT.
    JWT,
    /// Introspection.
    Introspection,
    /// Nobody said: the preset's default, or one hour.
    Default,
}

/// The published token, without the token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenStatus {
    /// When the token expires.
    pub expiration_time: Time,
    /// When it was asked for.
    pub issued_time: Time,
    /// Counts the tokens of this account.
    #[schemars(range(min = 0, max = 9007199254740991i64))]
    pub generation: i64,
    /// Scopes granted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 1024)), extend("x-kubernetes-list-type" = "atomic"))]
    pub scopes: Vec<String>,
    /// Type of the token, such as Bearer.
    #[schemars(length(max = 64))]
    pub token_type: String,
    /// Where the expiry was read.
    pub expiry_source: ExpirySource,
    /// First eight hex digits of the token's SHA-256.
    #[schemars(length(max = 64))]
    pub fingerprint: String,
    /// Key that it is bound to (RFC 9449). Absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dpop: Option<DPoPStatus>,
    /// When the provider wishes it to be refreshed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_time: Option<Time>,
    /// Before when the provider does not wish it to be refreshed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub earliest_refresh_time: Option<Time>,
    /// Public fields of the provider's reply, such as the address of its API.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16, "additionalProperties" = {"type": "string", "maxLength": 1024}))]
    pub reply: BTreeMap<String, String>,
}

/// The key that a token is bound to, without the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DPoPStatus {
    /// Algorithm of the proofs.
    pub algorithm: DPoPAlgorithm,
    /// SHA-256 thumbprint of the public key (RFC 7638): `jkt` in the token's `cnf`.
    #[schemars(length(max = 64))]
    pub thumbprint: String,
}

/// Restarts of `spec.restartTargets`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestartStatus {
    /// Generation of the token that the workloads were last restarted for, or began with.
    #[schemars(range(min = 0, max = 9007199254740991i64))]
    pub generation: i64,
    /// When that was last tried; absent: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_time: Option<Time>,
    /// Why a workload was not restarted then. It is tried again after five minutes, or
    /// `spec.restartIntervalSeconds` where that is less.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
}

/// The login behind the token, without its refresh token: what tells an old record of it from the newest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoginStatus {
    /// First eight hex digits of the SHA-256 of the refresh token that is held. Absent: none is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub refresh_token_fingerprint: Option<String>,
    /// The same of the refresh token that was imported from the seed.
    #[schemars(length(max = 64))]
    pub seed_fingerprint: String,
    /// When the login was made, as far as is known here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When it ends, whatever its use; absent where that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expiration_time: Option<Time>,
}

/// Tokens that the resource server of `spec.healthCheck` has refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HealthStatus {
    /// Generation of the last one.
    #[schemars(range(min = 0, max = 9007199254740991i64))]
    pub generation: i64,
    /// How many in a row.
    #[schemars(range(min = 0, max = 2147483647))]
    pub rejected_tokens: i32,
}

/// Why an attempt was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Trigger {
    /// There was no token.
    Missing,
    /// The token's time had come.
    Schedule,
    /// The spec asks for another token.
    SpecChanged,
    /// A Secret or ConfigMap the last, failed attempt read has changed.
    ReferenceChanged,
    /// The attempt before failed.
    Retry,
    /// A person asked for it.
    Requested,
    /// A person has consented, or was to.
    Consented,
    /// The resource server of the health check refused the token before.
    Rejected,
    /// An API refused the token to a program, which asked for another one.
    Demanded,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AttemptResult {
    Succeeded,
    Failed,
}

/// One attempt to obtain a token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// When it began.
    pub start_time: Time,
    /// Why it was made.
    pub trigger: Trigger,
    /// How it ended.
    pub result: AttemptResult,
    /// Class of the failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub reason: Option<String>,
    /// The failure itself, such as InvalidClient.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub fault: Option<String>,
    /// How long it took.
    #[schemars(range(min = 0, max = 2147483647))]
    pub duration_milliseconds: i32,
}

/// What a person must do for an interactive grant. Never a code or token of power.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Authorization {
    /// Link that starts the consent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub url: Option<String>,
    /// Code to type (RFC 8628).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub user_code: Option<String>,
    /// Page on which the code is typed (RFC 8628).
    #[serde(rename = "verificationURL", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub verification_url: Option<String>,
    /// When link or code expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expiration_time: Option<Time>,
}

/// What the operator reports.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct OAuthAccountStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 9007199254740991i64))]
    pub observed_generation: Option<i64>,
    /// Conditions: Ready and Authorized always, the others while true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "super::schema::conditions")]
    pub conditions: Vec<Condition>,
    /// The token published last, without the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenStatus>,
    /// The login behind the token, where a refresh token is held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub login: Option<LoginStatus>,
    /// When the refresh token expires; absent when unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_token_expiration_time: Option<Time>,
    /// Preset, Issuer or Custom.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub provider: Option<String>,
    /// Grant in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub grant: Option<String>,
    /// When the last attempt began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_attempt_time: Option<Time>,
    /// When a token was last obtained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_success_time: Option<Time>,
    /// When the token is to be refreshed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_refresh_time: Option<Time>,
    /// When the next attempt follows a failed one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_attempt_time: Option<Time>,
    /// Until when the provider asked not to be asked (Retry-After).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_time: Option<Time>,
    /// Value of the annotation `oauth-operator.dev/refresh-requested-at` that was handled last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_handled_refresh_time: Option<Time>,
    /// Attempts failed in a row.
    #[serde(default)]
    #[schemars(range(min = 0, max = 2147483647))]
    pub failed_attempts: i32,
    /// Digest of the resourceVersions of the Secrets and ConfigMaps that the last failed attempt read.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub observed_references: Option<String>,
    /// What a person must do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorization: Option<Authorization>,
    /// Secret in which the token is published.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub token_secret_name: Option<String>,
    /// resourceVersion of that Secret when it was last seen to hold the token; absent while it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub token_secret_resource_version: Option<String>,
    /// Tokens that the resource server of `spec.healthCheck` has refused; absent while it refuses none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthStatus>,
    /// Restarts of the workloads in `spec.restartTargets`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<RestartStatus>,
    /// The last five attempts, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5), extend("x-kubernetes-list-type" = "atomic"))]
    pub history: Vec<Attempt>,
}
