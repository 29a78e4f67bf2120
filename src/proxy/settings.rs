//! Flags, each with an environment twin.

use super::fault::Envelope;
use super::routes::{
    AccountSource, CredentialHeader, Headers, Limits, Listener, PoolEntry, Refresh, Route, Routes, Timeouts, Upstream, placeless,
};
use crate::telemetry::logs::LogFormat;
use clap::Parser;
use clap::builder::FalseyValueParser;
use std::net::SocketAddr;
use std::path::PathBuf;
use url::Url;

/// Forwards an app's plain requests with fresh OAuth access tokens.
///
/// The app speaks HTTP to a loopback address; the proxy adds the access token of an OAuthAccount, read from its token Secret,
/// and sends the request on to one upstream.
#[derive(Clone, Debug, Parser)]
#[command(name = "oauth-proxy", version, about)]
pub struct Settings {
    /// Where requests go: scheme, host and port, such as `https://api.coze.com`.
    #[arg(long, env = "OAUTH_PROXY_UPSTREAM", conflicts_with = "routes", required_unless_present = "routes")]
    pub upstream: Option<Url>,

    /// Folder in which the token Secret of an account is mounted; its last part is the account's name. Repeated, or separated
    /// by commas, for a pool of accounts.
    #[arg(
        long,
        env = "OAUTH_PROXY_ACCOUNT",
        value_delimiter = ',',
        conflicts_with = "routes",
        required_unless_present = "routes"
    )]
    pub account: Vec<PathBuf>,

    /// Routes file, in place of --upstream and --account: several upstreams, listeners, clients, limits.
    #[arg(long, env = "OAUTH_PROXY_ROUTES")]
    pub routes: Option<PathBuf>,

    /// Addresses at which the app's requests are taken, with --upstream.
    #[arg(long, env = "OAUTH_PROXY_LISTEN", value_delimiter = ',', default_values = ["127.0.0.1:15080", "[::1]:15080"])]
    pub listen: Vec<SocketAddr>,

    /// Shape of the proxy's own errors, with --upstream.
    #[arg(long, env = "OAUTH_PROXY_ENVELOPE", value_enum, default_value_t = Envelope::Plain)]
    pub envelope: Envelope,

    /// PEM certificates that are trusted beside the platform's, with --upstream.
    #[arg(long, env = "OAUTH_PROXY_UPSTREAM_CA")]
    pub upstream_ca: Option<PathBuf>,

    /// Allow http: upstreams beyond loopback, which shows the token to everybody on the way.
    #[arg(long, env = "OAUTH_PROXY_ALLOW_PLAINTEXT_UPSTREAM", value_parser = FalseyValueParser::new())]
    pub allow_plaintext_upstream: bool,

    /// The operator's refresh endpoint, such as `https://oauth-operator.oauth-operator-system.svc:8443`. Default: a token that
    /// the upstream refuses is not renewed before its time.
    #[arg(long, env = "OAUTH_PROXY_REFRESH_URL", requires_all = ["refresh_token", "namespace"])]
    pub refresh_url: Option<Url>,

    /// The operator's CA, PEM: key ca.crt of the ConfigMap oauth-operator-ca.
    #[arg(long, env = "OAUTH_PROXY_REFRESH_CA")]
    pub refresh_ca: Option<PathBuf>,

    /// Token of the Pod's ServiceAccount for the audience oauth-operator, as a projected volume brings it.
    #[arg(long, env = "OAUTH_PROXY_REFRESH_TOKEN")]
    pub refresh_token: Option<PathBuf>,

    /// Namespace of the accounts.
    #[arg(long, env = "OAUTH_PROXY_NAMESPACE")]
    pub namespace: Option<String>,

    /// Address of probes and metrics.
    #[arg(long, env = "OAUTH_PROXY_ADMIN_LISTEN", default_value = "0.0.0.0:15081")]
    pub admin_listen: SocketAddr,

    /// Address at which the log's level is set and the drain begun; loopback only.
    #[arg(long, env = "OAUTH_PROXY_CONTROL_LISTEN", default_value = "127.0.0.1:15082", value_parser = loopback)]
    pub control_listen: SocketAddr,

    /// Threads that serve. Default: the container's CPU limit, at least 1.
    #[arg(long, env = "OAUTH_PROXY_THREADS")]
    pub threads: Option<std::num::NonZeroUsize>,

    /// Seconds that requests under way may take once the process is asked to end.
    #[arg(long, env = "OAUTH_PROXY_DRAIN_SECONDS", default_value_t = 25)]
    pub drain_seconds: u64,

    /// Form of the log.
    #[arg(long, env = "OAUTH_PROXY_LOG_FORMAT", value_enum, default_value_t = LogFormat::Auto)]
    pub log_format: LogFormat,

    /// Level of the log, or a filter such as info,oauth_operator=debug.
    #[arg(long, env = "OAUTH_PROXY_LOG_LEVEL", default_value = "info")]
    pub log_level: String,
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|_| format!("\"{text}\" is no address such as 127.0.0.1:15082"))?;
    if address.ip().is_loopback() {
        Ok(address)
    } else {
        Err("it must be a loopback address: whoever reaches it can stop the proxy".into())
    }
}

impl Settings {
    /// What is served: the routes file's, or what the flags say.
    ///
    /// # Errors
    /// A sentence that says what is wrong, and where.
    pub fn read(&self) -> Result<Routes, String> {
        let mut routes = match &self.routes {
            Some(file) => {
                let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
                Routes::read(&text).map_err(|why| format!("{}: {why}", file.display()))?
            }
            None => {
                let routes = self.simple()?;
                routes.check()?;
                routes
            }
        };
        if let (None, Some(url)) = (&routes.refresh, &self.refresh_url) {
            if url.scheme() != "https" {
                return Err(format!("--refresh-url {url} is not https: a token would be asked for in the open"));
            }
            routes.refresh = Some(Refresh {
                url: url.clone(),
                ca_file: self.refresh_ca.clone(),
                token_file: self.refresh_token.clone().ok_or("--refresh-url needs --refresh-token")?,
                namespace: self.namespace.clone().ok_or("--refresh-url needs --namespace")?,
            });
        }
        Ok(routes)
    }

    fn simple(&self) -> Result<Routes, String> {
        let mut accounts = vec![];
        for folder in &self.account {
            let name = folder.file_name().and_then(|name| name.to_str());
            let name = name.ok_or_else(|| format!("--account {} does not end with an account's name", folder.display()))?;
            accounts.push(AccountSource {
                name: placeless(name.to_owned()),
                directory: Some(folder.clone()),
                secret: None,
                namespace: None,
            });
        }
        let pool = accounts.iter().map(|source| PoolEntry { account: source.name.clone(), weight: 1, priority: 0 }).collect();
        let url = self.upstream.clone().ok_or("--upstream is missing")?;
        let route = Route {
            name: placeless("default".into()),
            path: placeless("/".into()),
            methods: vec![],
            strip_prefix: false,
            upstream: Upstream {
                url: placeless(url),
                ca_file: self.upstream_ca.clone(),
                client_certificate_file: None,
                client_key_file: None,
                http2: false,
                allow_plaintext: self.allow_plaintext_upstream,
            },
            pool,
            sticky_header: None,
            credential: CredentialHeader::default(),
            headers: Headers::default(),
            timeouts: Timeouts::default(),
            limits: Limits::default(),
            rejected_statuses: vec![401],
            ignore_retry_after: false,
            retry_idempotent: false,
            envelope: self.envelope,
        };
        let listener = Listener {
            addresses: self.listen.iter().map(|address| placeless(*address)).collect(),
            tls: None,
            clients: vec![],
            routes: vec![route],
        };
        Ok(Routes { accounts, listeners: vec![listener], refresh: None, replay_budget_bytes: 32 * 1024 * 1024 })
    }
}
