//! Flags, each with an environment twin.

use crate::injection::Sidecar;
use crate::telemetry::logs::LogFormat;
use clap::builder::{FalseyValueParser, NonEmptyStringValueParser};
use clap::{Args, Parser};
use ipnet::IpNet;
use std::net::SocketAddr;
use std::path::PathBuf;
use url::Url;

/// Keeps OAuth access tokens fresh in Kubernetes Secrets.
#[derive(Clone, Debug, Parser)]
#[command(version, about)]
pub struct Settings {
    /// Namespace of the operator itself: its Lease and its records of logins live there.
    #[arg(long, env = "OAUTH_OPERATOR_NAMESPACE")]
    pub namespace: String,

    /// Name of this instance: the Lease's holder, and of refreshes under way. In a Pod its UID, which outlives a restart of
    /// the container. Default: host name and process id.
    #[arg(long, env = "OAUTH_OPERATOR_IDENTITY", default_value_t = instance())]
    pub identity: String,

    /// Folder for replies of token endpoints that are not stored yet, sealed, so that the end of the process does not lose
    /// them. In a Pod a memory-backed emptyDir. Default: none are kept.
    #[arg(long, env = "OAUTH_OPERATOR_JOURNAL_DIR")]
    pub journal_dir: Option<PathBuf>,

    /// File with the keys that records of logins are encrypted with. Default: they are as safe as the Secrets of the operator's
    /// namespace.
    #[arg(long, env = "OAUTH_OPERATOR_STATE_KEYRING")]
    pub state_keyring: Option<PathBuf>,

    /// Seconds between the two looks that must both find an account gone before the record of its login is deleted.
    #[arg(long, env = "OAUTH_OPERATOR_ORPHAN_GRACE_SECONDS", default_value_t = 600)]
    pub orphan_grace_seconds: u64,

    /// Namespaces whose accounts are served, separated by commas. Default: all.
    #[arg(long, env = "OAUTH_OPERATOR_WATCH_NAMESPACES", value_delimiter = ',')]
    pub watch_namespaces: Vec<String>,

    /// Networks that providers may have addresses in though they are not public, separated by commas, such as 10.1.0.0/16.
    #[arg(long, env = "OAUTH_OPERATOR_ALLOWED_CIDRS", default_value = "", value_parser = networks)]
    pub allowed_cidrs: Networks,

    /// Send the keys of a Secret only where its annotation oauth-operator.dev/token-hosts permits it. For clusters of
    /// several tenants.
    #[arg(long, env = "OAUTH_OPERATOR_REQUIRE_TOKEN_HOSTS", value_parser = FalseyValueParser::new())]
    pub require_token_hosts: bool,

    /// Allow the grant password, which hands people's passwords to the operator. RFC 9700 section 2.4 says: do not.
    #[arg(long, env = "OAUTH_OPERATOR_ALLOW_PASSWORD_GRANT", value_parser = FalseyValueParser::new())]
    pub allow_password_grant: bool,

    /// Address of the operator's consent pages as people's browsers reach it, such as `https://connect.example.com`. Default:
    /// there are none.
    #[arg(long, env = "OAUTH_OPERATOR_CONSENT_URL", value_parser = consent_url)]
    pub consent_url: Option<String>,

    /// Requests of workflows that are under way at once, of all accounts together.
    #[arg(long, env = "OAUTH_OPERATOR_MAX_CONCURRENT_STEPS", default_value_t = 256)]
    pub max_concurrent_steps: usize,

    /// Address of probes and metrics.
    #[arg(long, env = "OAUTH_OPERATOR_LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,

    /// Address of the refresh endpoint, and of the consent pages with --consent-url, under TLS by the operator's own CA.
    #[arg(long, env = "OAUTH_OPERATOR_LISTEN_TLS", default_value = "0.0.0.0:8443")]
    pub listen_tls: SocketAddr,

    /// Name of the MutatingWebhookConfiguration by which new Pods are shown to this operator. Its caBundle is kept. Default: no
    /// Pod is given the sidecar.
    #[arg(long, env = "OAUTH_OPERATOR_INJECTION_WEBHOOK", value_parser = NonEmptyStringValueParser::new())]
    pub injection_webhook: Option<String>,

    /// Address of that webhook, with --injection-webhook, under TLS by the operator's own CA.
    #[arg(long, env = "OAUTH_OPERATOR_LISTEN_WEBHOOK", default_value = "0.0.0.0:9443")]
    pub listen_webhook: SocketAddr,

    #[command(flatten)]
    pub proxy_image: ProxyImage,

    /// Form of the log.
    #[arg(long, env = "OAUTH_OPERATOR_LOG_FORMAT", value_enum, default_value_t = LogFormat::Auto)]
    pub log_format: LogFormat,

    /// Level of the log, or a filter such as info,oauth_operator=debug.
    #[arg(long, env = "OAUTH_OPERATOR_LOG_LEVEL", default_value = "info")]
    pub log_level: String,
}

/// The image of the sidecar, as it is put into Pods.
#[derive(Clone, Debug, Args)]
pub struct ProxyImage {
    /// Image of the sidecar.
    #[arg(long, env = "OAUTH_OPERATOR_PROXY_IMAGE", default_value = concat!("ghcr.io/oauth-operator/oauth-proxy:", env!("CARGO_PKG_VERSION")))]
    pub proxy_image: String,

    /// When that image is pulled.
    #[arg(long, env = "OAUTH_OPERATOR_PROXY_IMAGE_PULL_POLICY", default_value = "IfNotPresent", value_parser = ["Always", "IfNotPresent", "Never"])]
    pub proxy_image_pull_policy: String,
}

impl ProxyImage {
    /// The sidecar of an operator in this namespace.
    pub fn sidecar(self, operator_namespace: String) -> Sidecar {
        Sidecar { image: self.proxy_image, image_pull_policy: self.proxy_image_pull_policy, operator_namespace }
    }
}

impl Settings {
    /// Names under which the operator is reached by its own certificate: its Services, and where people reach its pages.
    pub fn tls_names(&self) -> Vec<String> {
        let services = ["oauth-operator", "oauth-operator-consent"].map(|name| format!("{name}.{}.svc", self.namespace));
        let page = self.consent_url.as_deref().and_then(|url| Url::parse(url).ok());
        let page = page.and_then(|url| url.host_str().map(|host| host.trim_matches(['[', ']']).to_owned()));
        services.into_iter().chain(page).collect()
    }

    /// What to watch: each namespace named, or all (`None`).
    pub fn scopes(&self) -> Vec<Option<String>> {
        let mut named: Vec<_> = self.watch_namespaces.iter().filter(|name| !name.is_empty()).cloned().map(Some).collect();
        named.sort();
        named.dedup();
        if named.is_empty() { vec![None] } else { named }
    }
}

/// Networks in one value.
#[derive(Clone, Debug, Default)]
pub struct Networks(pub Vec<IpNet>);

fn networks(text: &str) -> Result<Networks, String> {
    let networks = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let parse = |part: &str| part.parse().map_err(|_| format!("\"{part}\" is no network such as 10.1.0.0/16 or fd00::/8"));
    networks.map(parse).collect::<Result<_, _>>().map(Networks)
}

/// An https address without path, query and fragment.
fn consent_url(text: &str) -> Result<String, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    if url.scheme() != "https" || !bare {
        return Err("it must be an https address without a path, such as https://connect.example.com".into());
    }
    Ok(url.origin().ascii_serialization())
}

fn instance() -> String {
    let host = hostname::get().map_or_else(|_| "oauth-operator".into(), |name| name.to_string_lossy().into_owned());
    format!("{host}_{}", std::process::id())
}
