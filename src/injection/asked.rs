//! What the annotations of a Pod ask for, understood. Whatever is not understood is refused: a Pod that asks for a sidecar is
//! not to be made with another one than was meant.

use super::{ADMIN_PORT, CONTROL_PORT, PORT};
use crate::api::reference::is_object_name;
use crate::api::vocabulary::{INJECT, PROXY_ANNOTATION_PREFIX};
use std::collections::{BTreeMap, BTreeSet};
use url::{Host, Url};

/// Accounts of one Pod.
const MOST_ACCOUNTS: usize = 16;
/// Letters of the user's that are repeated.
const MOST_QUOTED: usize = 80;

const UPSTREAM: &str = "upstream";
const UPSTREAM_CA: &str = "upstream-ca";
const ENVELOPE: &str = "envelope";
const PORT_NAME: &str = "port";
const ROUTES: &str = "routes";
const CPU_REQUEST: &str = "cpu-request";
const CPU_LIMIT: &str = "cpu-limit";
const MEMORY_REQUEST: &str = "memory-request";
const MEMORY_LIMIT: &str = "memory-limit";

/// Every setting of one Pod, after [`PROXY_ANNOTATION_PREFIX`].
const KNOWN: [&str; 9] =
    [UPSTREAM, UPSTREAM_CA, ENVELOPE, PORT_NAME, ROUTES, CPU_REQUEST, CPU_LIMIT, MEMORY_REQUEST, MEMORY_LIMIT];
/// Those that the routes file says, where there is one.
const OF_ROUTES: [&str; 4] = [UPSTREAM, UPSTREAM_CA, ENVELOPE, PORT_NAME];

/// What a Pod asks for.
#[derive(Debug, PartialEq, Eq)]
pub struct Asked {
    /// Accounts, in the order of the annotation.
    pub accounts: Vec<Account>,
    /// Where requests go.
    pub destination: Destination,
    /// Kubernetes quantities.
    pub resources: Resources,
}

/// An account, and in which Secret its token is, where the annotation says so.
#[derive(Debug, PartialEq, Eq)]
pub struct Account {
    pub name: String,
    pub secret: Option<String>,
}

/// Where the sidecar sends requests.
#[derive(Debug, PartialEq, Eq)]
pub enum Destination {
    /// To one origin.
    Upstream {
        /// Scheme, host and port.
        origin: String,
        /// ConfigMap with a CA that is trusted there.
        ca: Option<String>,
        /// Shape of the proxy's own errors, as its flag spells it.
        envelope: Option<String>,
        /// Loopback port for the app.
        port: u16,
    },
    /// Where the routes file in this ConfigMap says.
    Routes(String),
}

/// Resources of the container. What is said of one half moves the other's default, so that no request is above its limit.
#[derive(Debug, PartialEq, Eq)]
pub struct Resources {
    pub cpu_request: String,
    pub cpu_limit: Option<String>,
    pub memory_request: String,
    pub memory_limit: String,
}

/// The settings of one Pod by their names after the prefix.
struct Said<'a>(BTreeMap<&'a str, &'a str>);

impl Said<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).copied()
    }

    fn text(&self, name: &str) -> Option<String> {
        self.get(name).map(str::to_owned)
    }

    /// The name of a ConfigMap.
    fn config_map(&self, name: &str) -> Result<Option<String>, String> {
        let Some(value) = self.get(name) else { return Ok(None) };
        if is_object_name(value) {
            return Ok(Some(value.to_owned()));
        }
        Err(format!("{} is {}, which is no name of a ConfigMap", full(name), quoted(value)))
    }
}

impl Asked {
    /// What these annotations ask for, the list of accounts being given apart.
    ///
    /// # Errors
    /// A sentence that names the annotation and what is wrong with it.
    pub fn read<'a>(accounts: &str, annotations: impl IntoIterator<Item = (&'a String, &'a String)>) -> Result<Self, String> {
        let ours =
            annotations.into_iter().filter_map(|(key, value)| Some((key.strip_prefix(PROXY_ANNOTATION_PREFIX)?, value.trim())));
        let said = Said(ours.collect());
        if let Some(unknown) = said.0.keys().find(|name| !KNOWN.contains(name)) {
            let unknown: String = full(unknown).chars().take(MOST_QUOTED).collect();
            return Err(format!("{unknown} is no annotation that is known; there are {}", KNOWN.map(full).join(", ")));
        }
        Ok(Self { accounts: read_accounts(accounts)?, destination: destination(&said)?, resources: Resources::read(&said)? })
    }
}

/// The beginning of a text of the user's, in quotes: what is wrong is seen by it, and answer and log stay short.
fn quoted(text: &str) -> String {
    match text.char_indices().nth(MOST_QUOTED) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// The name of an annotation.
fn full(name: &str) -> String {
    format!("{PROXY_ANNOTATION_PREFIX}{name}")
}

fn read_accounts(text: &str) -> Result<Vec<Account>, String> {
    let count = text.split(',').count();
    if count > MOST_ACCOUNTS {
        return Err(format!("{INJECT} names {count} accounts; {MOST_ACCOUNTS} is the most"));
    }
    let mut accounts: Vec<Account> = vec![];
    for part in text.split(',').map(str::trim) {
        let (name, secret) = part.split_once('=').map_or((part, None), |(name, secret)| (name.trim(), Some(secret.trim())));
        if !is_object_name(name) || !secret.is_none_or(is_object_name) {
            return Err(format!(
                "{INJECT} has the entry {}; it must name accounts, separated by commas, such as coze-prod or coze-prod=secret-of-its-token",
                quoted(part)
            ));
        }
        accounts.push(Account { name: name.to_owned(), secret: secret.map(str::to_owned) });
    }
    let mut names = BTreeSet::new();
    match accounts.iter().find(|account| !names.insert(&account.name)) {
        Some(twice) => Err(format!("{INJECT} names {} twice", twice.name)),
        None => Ok(accounts),
    }
}

fn destination(said: &Said<'_>) -> Result<Destination, String> {
    if let Some(map) = said.config_map(ROUTES)? {
        return match OF_ROUTES.iter().find(|name| said.get(name).is_some()) {
            Some(name) => Err(format!("{} stands beside {}: the routes file says that", full(name), full(ROUTES))),
            None => Ok(Destination::Routes(map)),
        };
    }
    let upstream = said.get(UPSTREAM).ok_or_else(|| {
        format!(
            "{INJECT} asks for a sidecar and nothing says where it sends requests: set {} to an origin such as https://api.example.com, or {} to a ConfigMap with the key routes.yaml",
            full(UPSTREAM),
            full(ROUTES)
        )
    })?;
    let origin = origin(upstream).map_err(|why| format!("{} is {}, which {why}", full(UPSTREAM), quoted(upstream)))?;
    let envelope = said.text(ENVELOPE);
    if let Some(other) = envelope.as_deref().filter(|one| !["plain", "coze", "openai", "anthropic"].contains(one)) {
        return Err(format!("{} is {}; it is one of plain, coze, openai, anthropic", full(ENVELOPE), quoted(other)));
    }
    let port = said.get(PORT_NAME).map_or(Ok(PORT), |text| port(text).ok_or(text));
    let port = port.map_err(|text| {
        let taken = format!("{ADMIN_PORT} and {CONTROL_PORT}");
        format!(
            "{} is {}; it is a port from 1024 to 65535, without {taken}, which the sidecar has already",
            full(PORT_NAME),
            quoted(text)
        )
    })?;
    Ok(Destination::Upstream { origin, ca: said.config_map(UPSTREAM_CA)?, envelope, port })
}

/// Scheme, host and port, as the proxy takes them for its upstream; else why not.
fn origin(text: &str) -> Result<String, &'static str> {
    let url = Url::parse(text).map_err(|_| "is no address such as https://api.example.com")?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user name or a password");
    }
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err("is no address such as https://api.example.com");
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err("must be scheme, host and port alone; paths are taken from the requests");
    }
    let loopback = match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    if url.scheme() == "http" && !loopback {
        return Err("would send tokens in the open; use https, or a routes file with allowPlaintext");
    }
    Ok(url.origin().ascii_serialization())
}

/// Those below belong to root.
fn port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let port = text.parse().ok().filter(|port| digits && *port >= 1024)?;
    (port != ADMIN_PORT && port != CONTROL_PORT).then_some(port)
}

impl Resources {
    fn read(said: &Said<'_>) -> Result<Self, String> {
        let (cpu, memory) = (|text: &str| amount(text, &CPU), |text: &str| amount(text, &MEMORY));
        let (cpu_request, cpu_limit) = pair(said, (CPU_REQUEST, "20m"), (CPU_LIMIT, None), cpu)?;
        let (memory_request, memory_limit) = pair(said, (MEMORY_REQUEST, "16Mi"), (MEMORY_LIMIT, Some("128Mi")), memory)?;
        // A limit of memory there is always.
        let memory_limit = memory_limit.unwrap_or_else(|| memory_request.clone());
        Ok(Self { cpu_request, cpu_limit, memory_request, memory_limit })
    }
}

/// A request and its limit, each as it is said, or its default.
fn pair(
    said: &Said<'_>,
    (request, usual): (&str, &str),
    (limit, most): (&str, Option<&str>),
    amount: impl Fn(&str) -> Option<u64>,
) -> Result<(String, Option<String>), String> {
    let measured = |name: &str| match said.get(name).map(|text| (text, amount(text))) {
        None => Ok(None),
        Some((text, Some(amount))) => Ok(Some((text.to_owned(), amount))),
        Some((text, None)) => {
            let text = quoted(text);
            Err(format!("{} is {text}, which is no quantity such as 100m of a processor or 64Mi of memory", full(name)))
        }
    };
    let default = |text: &str| amount(text).map(|amount| (text.to_owned(), amount));
    Ok(match (measured(request)?, measured(limit)?) {
        (Some((asked, low)), Some((at_most, high))) if low > high => {
            return Err(format!("{} is {asked}, and {} is {at_most}: no request is above its limit", full(request), full(limit)));
        }
        (Some((asked, _)), Some((at_most, _))) => (asked, Some(at_most)),
        (None, Some((at_most, high))) => match default(usual).filter(|(_, low)| *low <= high) {
            Some((asked, _)) => (asked, Some(at_most)),
            None => (at_most.clone(), Some(at_most)),
        },
        (Some((asked, low)), None) => {
            let at_most = most.and_then(default).map(|(text, high)| if high >= low { text } else { asked.clone() });
            (asked, at_most)
        }
        (None, None) => (usual.to_owned(), most.map(str::to_owned)),
    })
}

/// Suffixes, and how many thousandths of a core or how many bytes one of them is.
const CPU: [(&str, u64); 2] = [("m", 1), ("", 1000)];
const MEMORY: [(&str, u64); 7] =
    [("Ki", 1 << 10), ("Mi", 1 << 20), ("Gi", 1 << 30), ("k", 1_000), ("M", 1_000_000), ("G", 1_000_000_000), ("", 1)];

/// A Kubernetes quantity in the forms that people write: digits and a suffix; above zero.
fn amount(text: &str, suffixes: &[(&str, u64)]) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, suffix) = text.split_at(digits);
    let (_, unit) = suffixes.iter().find(|(known, _)| *known == suffix)?;
    number.parse::<u64>().ok().filter(|number| *number > 0)?.checked_mul(*unit)
}

#[cfg(test)]
#[path = "asked_tests.rs"]
mod tests;
