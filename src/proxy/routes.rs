//! The routes file: where an app's requests go, and with whose credential. Read strictly; what is wrong is told with its line.

use super::fault::Envelope;
use http::{HeaderName, HeaderValue, Method};
use serde::{Deserialize, Deserializer};
use serde_saphyr::{Location, Spanned};
use std::collections::{BTreeMap, BTreeSet};
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

impl Routes {
    /// Reads a file's text.
    ///
    /// # Errors
    /// A sentence that says what is wrong, with the line.
    pub fn read(text: &str) -> Result<Self, String> {
        let routes: Self = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        routes.check()?;
        Ok(routes)
    }

    /// What the schema cannot say.
    ///
    /// # Errors
    /// A sentence that says what is wrong, with the line where it stands in a file.
    pub fn check(&self) -> Result<(), String> {
        let mut names = BTreeSet::new();
        for account in &self.accounts {
            account.check()?;
            if !names.insert(account.name.value.as_str()) {
                return Err(at(&account.name, "is the name of two accounts"));
            }
        }
        if self.listeners.is_empty() {
            return Err("`listeners` is empty: there is nothing to serve".into());
        }
        let mut sockets = BTreeSet::new();
        let mut routes = BTreeSet::new();
        for listener in &self.listeners {
            for address in &listener.addresses {
                if address.value.port() != 0 && !sockets.insert(address.value) {
                    return Err(at(address, "is listened at twice"));
                }
            }
            listener.check()?;
            for route in &listener.routes {
                if !routes.insert(route.name.value.as_str()) {
                    return Err(at(&route.name, "is the name of two routes; metrics could not tell them apart"));
                }
                route.check(&names)?;
            }
        }
        match &self.refresh {
            Some(refresh) if refresh.url.scheme() != "https" => {
                Err(format!("`refresh.url` {} is not https: a token would be asked for in the open", refresh.url))
            }
            _ => Ok(()),
        }
    }
}

/// A sentence about a value, with its line.
fn at<T: std::fmt::Display>(value: &Spanned<T>, what: &str) -> String {
    let Spanned { value, referenced, .. } = value;
    if *referenced == Location::UNKNOWN {
        format!("{value:?} {what}", value = value.to_string())
    } else {
        format!("line {}: \"{value}\" {what}", referenced.line())
    }
}

impl AccountSource {
    fn check(&self) -> Result<(), String> {
        match (&self.directory, &self.secret) {
            (Some(_), None) => Ok(()),
            (None, Some(_)) if cfg!(feature = "proxy-watch") => Ok(()),
            (None, Some(_)) => {
                Err(at(&self.name, "is to be watched through the API server, which this build cannot; set `directory`"))
            }
            _ => Err(at(&self.name, "must have either `directory` or `secret`")),
        }
    }
}

impl Listener {
    fn check(&self) -> Result<(), String> {
        if self.addresses.is_empty() {
            return Err("a listener has no `addresses`".into());
        }
        let open = self.addresses.iter().find(|address| !address.value.ip().is_loopback());
        if let (Some(address), true) = (open, self.clients.is_empty()) {
            return Err(at(address, "is not a loopback address: whoever reaches it could use the accounts; set `clients`"));
        }
        if self.routes.is_empty() {
            return Err("a listener has no `routes`".into());
        }
        let mut names = BTreeSet::new();
        for client in &self.clients {
            if !names.insert(&client.name.value) {
                return Err(at(&client.name, "is the name of two clients"));
            }
            let digest = &client.key_sha256.value;
            if digest.len() != 64 || !digest.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(at(
                    &client.name,
                    "has a `keySHA256` that is not 64 hex digits; make it with: printf %s KEY | sha256sum",
                ));
            }
        }
        let mut paths = BTreeMap::<_, Vec<&Route>>::new();
        for route in &self.routes {
            paths.entry(route.path.value.trim_end_matches('/')).or_default().push(route);
        }
        for same in paths.values() {
            for (index, route) in same.iter().enumerate() {
                let shared = |other: &&&Route| {
                    other.methods.is_empty()
                        || route.methods.is_empty()
                        || other.methods.iter().any(|one| route.methods.contains(one))
                };
                if let Some(other) = same[..index].iter().find(shared) {
                    return Err(at(&route.name, &format!("has the path of {}, and no methods of its own", other.name.value)));
                }
            }
        }
        Ok(())
    }
}

impl Route {
    fn check(&self, accounts: &BTreeSet<&str>) -> Result<(), String> {
        if !self.path.value.starts_with('/') || self.path.value.contains(['?', '#', '%', ' ']) {
            return Err(at(&self.path, "is no path: it must start with / and have no ?, #, % or space"));
        }
        self.upstream.check()?;
        if self.pool.is_empty() {
            return Err(at(&self.name, "has an empty `pool`: there is no credential to send"));
        }
        let mut members = BTreeSet::new();
        for entry in &self.pool {
            if !accounts.contains(entry.account.value.as_str()) {
                return Err(at(&entry.account, "is not among `accounts`"));
            }
            if !members.insert(&entry.account.value) {
                return Err(at(&entry.account, "is twice in this pool"));
            }
            if entry.weight == 0 {
                return Err(at(&entry.account, "has the weight 0; leave it out of the pool instead"));
            }
        }
        if HeaderValue::from_str(&self.credential.prefix).is_err() {
            return Err(at(&self.name, "has a `credential.prefix` that no header may carry"));
        }
        for (name, value) in &self.headers.set {
            let header =
                name.parse::<HeaderName>().map_err(|_| at(&self.name, &format!("sets \"{name}\", which is no header's name")))?;
            if HeaderValue::from_str(value).is_err() {
                return Err(at(&self.name, &format!("sets {name} to a value that no header may carry")));
            }
            if header == self.credential.header || super::head::is_connection_specific(&header) || header == http::header::HOST {
                return Err(at(&self.name, &format!("sets {name}, which is the proxy's own to set")));
            }
        }
        for name in &self.headers.strip {
            name.parse::<HeaderName>().map_err(|_| at(&self.name, &format!("strips \"{name}\", which is no header's name")))?;
        }
        match self.rejected_statuses.iter().find(|status| !(400..500).contains(*status) || **status == 429) {
            Some(status) => {
                Err(at(&self.name, &format!("has {status} in `rejectedStatuses`; only 4xx codes but 429 can refuse a token")))
            }
            None => Ok(()),
        }
    }
}

impl Upstream {
    fn check(&self) -> Result<(), String> {
        let url = &self.url.value;
        let shown = |what: &str| at(&self.url, what);
        if !matches!(url.scheme(), "http" | "https") {
            return Err(shown("is no address; it must start with https://"));
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(shown("must be scheme, host and port alone; paths are taken from the requests"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("an upstream's `url` holds a user name or password; the pool brings the credential".into());
        }
        if url.scheme() == "http" && !self.allow_plaintext && !is_loopback(url) {
            return Err(shown("sends tokens in the open; use https, or set `allowPlaintext`"));
        }
        if self.client_certificate_file.is_some() != self.client_key_file.is_some() {
            return Err(shown("needs both of `clientCertificateFile` and `clientKeyFile`"));
        }
        Ok(())
    }
}

/// Whether a URL leads to this very Pod.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

#[cfg(test)]
#[path = "routes_tests.rs"]
mod tests;
