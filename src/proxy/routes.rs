//! The routes file: where an app's requests go, and with whose credential. Read strictly; what is wrong is told with its line.

use super::fault::Envelope;
use http::{HeaderName, Method};
use serde::{Deserialize, Deserializer};
use serde_saphyr::{Location, Spanned};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use url::Url;

/// What the file says.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Routes {
    /// Accounts whose tokens are used.
    pub accounts: Vec<AccountSource>,
    /// Sockets, with what is served there.
    pub listeners: Vec<Listener>,
    /// Where fresh tokens are asked for. Absent: nowhere.
    #[serde(default)]
    pub refresh: Option<Refresh>,
    /// Bytes of request bodies that are kept at once to be sent again.
    #[serde(default = "replay_budget")]
    pub replay_budget_bytes: usize,
}

/// Where the token of an account comes from.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AccountSource {
    /// Name of the OAuthAccount.
    pub name: Spanned<String>,
    /// Folder in which its token Secret is mounted.
    #[serde(default)]
    pub directory: Option<PathBuf>,
    /// Name of its token Secret, which is watched through the API server.
    #[serde(default)]
    pub secret: Option<String>,
    /// Namespace of the Secret and of the account. Absent: the Pod's.
    #[serde(default)]
    pub namespace: Option<String>,
}

/// A group of sockets.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Listener {
    /// Addresses such as `127.0.0.1:15080`.
    pub addresses: Vec<Spanned<SocketAddr>>,
    /// TLS, with HTTP/2 by ALPN.
    #[serde(default)]
    pub tls: Option<ListenerTls>,
    /// Who may ask. Empty: anybody who reaches a loopback address.
    #[serde(default)]
    pub clients: Vec<Client>,
    /// What is served.
    pub routes: Vec<Route>,
}

/// Certificate of a listener, PEM. Read again when the routes are.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListenerTls {
    /// Certificate chain.
    pub certificate_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
}

/// Somebody who may ask.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Client {
    /// Name, for logs.
    pub name: Spanned<String>,
    /// SHA-256 of the key: 64 hex digits. The key itself comes as `Authorization: Bearer` or `X-Api-Key`.
    #[serde(rename = "keySHA256")]
    pub key_sha256: Spanned<String>,
    /// Requests a second. Absent: as many as come.
    #[serde(default)]
    pub requests_per_second: Option<std::num::NonZeroU32>,
    /// Requests at once above that rate. Absent: as many as come in a second.
    #[serde(default)]
    pub burst: Option<std::num::NonZeroU32>,
}

/// One route.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Route {
    /// Name, for metrics.
    pub name: Spanned<String>,
    /// Beginning of the path, up to a `/` of it. The longest wins.
    #[serde(default = "root")]
    pub path: Spanned<String>,
    /// Methods. Empty: all.
    #[serde(default, deserialize_with = "methods")]
    pub methods: Vec<Method>,
    /// Whether the path is sent on without its beginning.
    #[serde(default)]
    pub strip_prefix: bool,
    /// Where it leads.
    pub upstream: Upstream,
    /// With whose credentials.
    pub pool: Vec<PoolEntry>,
    /// Header by whose value requests stay with one account.
    #[serde(default, deserialize_with = "parsed_option")]
    pub sticky_header: Option<HeaderName>,
    /// How the credential is sent.
    #[serde(default)]
    pub credential: CredentialHeader,
    /// Further headers.
    #[serde(default)]
    pub headers: Headers,
    /// How long to wait.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// How much.
    #[serde(default)]
    pub limits: Limits,
    /// Status codes by which this API says that it refuses the token.
    #[serde(default = "rejected")]
    pub rejected_statuses: Vec<u16>,
    /// Whether accounts are not spared after 429.
    #[serde(default)]
    pub ignore_retry_after: bool,
    /// Whether GET, HEAD and OPTIONS are sent once more, with another account, when the upstream fails with 502, 503 or 504,
    /// or does not answer.
    #[serde(default)]
    pub retry_idempotent: bool,
    /// Shape of errors that are the proxy's own.
    #[serde(default)]
    pub envelope: Envelope,
}

/// One origin.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Upstream {
    /// Scheme, host and port.
    pub url: Spanned<Url>,
    /// PEM certificates trusted beside the platform's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Our certificate there, PEM.
    #[serde(default)]
    pub client_certificate_file: Option<PathBuf>,
    /// Its private key.
    #[serde(default)]
    pub client_key_file: Option<PathBuf>,
    /// HTTP/2 without asking (RFC 9113 §3.3), for plaintext; under TLS, ALPN decides.
    #[serde(default)]
    pub http2: bool,
    /// Whether `http:` may lead beyond loopback: everybody on the way reads the token then.
    #[serde(default)]
    pub allow_plaintext: bool,
}

/// An account of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PoolEntry {
    /// Its name.
    pub account: Spanned<String>,
    /// Its share of the requests, in proportion to the others'.
    #[serde(default = "one")]
    pub weight: u32,
    /// Accounts of the lowest number are used as long as one of them can be.
    #[serde(default)]
    pub priority: u32,
}

/// How the credential is sent.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CredentialHeader {
    /// Header.
    #[serde(default = "authorization", deserialize_with = "parsed")]
    pub header: HeaderName,
    /// What stands before the token.
    #[serde(default = "bearer")]
    pub prefix: String,
}

impl Default for CredentialHeader {
    fn default() -> Self {
        Self { header: authorization(), prefix: bearer() }
    }
}

/// Headers of requests.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Headers {
    /// Set, whatever the app says.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
    /// Taken away.
    #[serde(default)]
    pub strip: Vec<String>,
}

/// Seconds; 0 stands for no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Timeouts {
    /// Until a connection stands, TLS included.
    pub connect_seconds: u64,
    /// From the end of the request's head to the head of the response.
    pub response_headers_seconds: u64,
    /// Without a byte in either body.
    pub idle_seconds: u64,
    /// For all of it.
    pub total_seconds: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect_seconds: 5, response_headers_seconds: 60, idle_seconds: 300, total_seconds: 0 }
    }
}

/// How much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// Requests of an account under way; 0 stands for no limit.
    pub in_flight_per_account: usize,
    /// Bytes of one request's body that are kept to be sent again.
    pub replay_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { in_flight_per_account: 0, replay_bytes: 1024 * 1024 }
    }
}

/// The operator's refresh endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Refresh {
    /// Its address.
    pub url: Url,
    /// The operator's CA, PEM. Absent: the platform's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Token of the Pod's ServiceAccount for the audience `oauth-operator`.
    pub token_file: PathBuf,
    /// Namespace of the accounts.
    pub namespace: String,
}

fn replay_budget() -> usize {
    32 * 1024 * 1024
}

fn root() -> Spanned<String> {
    placeless("/".into())
}

/// A value that stands in no file.
pub fn placeless<T>(value: T) -> Spanned<T> {
    Spanned::new(value, Location::UNKNOWN, Location::UNKNOWN)
}

fn rejected() -> Vec<u16> {
    vec![401]
}

fn one() -> u32 {
    1
}

fn authorization() -> HeaderName {
    http::header::AUTHORIZATION
}

fn bearer() -> String {
    "Bearer ".into()
}

fn parsed<'de, D: Deserializer<'de>, T: FromStr<Err: std::fmt::Display>>(deserializer: D) -> Result<T, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

fn parsed_option<'de, D: Deserializer<'de>, T: FromStr<Err: std::fmt::Display>>(deserializer: D) -> Result<Option<T>, D::Error> {
    parsed(deserializer).map(Some)
}

fn methods<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Method>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    names.iter().map(|name| name.parse().map_err(serde::de::Error::custom)).collect()
}

#[cfg(test)]
#[path = "routes_tests.rs"]
mod tests;
