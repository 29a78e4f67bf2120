//! What is wrong with a routes file that its schema cannot say: told in a sentence, with the line.

use super::routes::{AccountSource, Listener, Route, Routes, Upstream};
use http::{HeaderName, HeaderValue};
use serde_saphyr::{Location, Spanned};
use std::collections::{BTreeMap, BTreeSet};
use url::Url;

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
