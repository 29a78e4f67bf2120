//! Requests to providers: https, to permitted addresses, without redirects and proxies, bounded in time and size.

use crate::oauth::{Fault, FaultKind, OutboundPolicy, Reply};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use url::Url;

/// Seconds for one exchange in all (refresh-protocol: an intent lives longer than that).
const TOTAL: Duration = Duration::from_secs(20);
/// Seconds for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// CA bundles whose clients are kept.
const KEPT_CLIENTS: usize = 128;

/// Sends requests to providers.
pub struct Outbound {
    policy: Arc<OutboundPolicy>,
    /// By digest of the CA bundle; `None` for the public certificates.
    clients: Mutex<HashMap<Option<[u8; 32]>, reqwest::Client>>,
}

impl Outbound {
    /// With the addresses that the policy permits.
    pub fn new(policy: OutboundPolicy) -> Self {
        Self { policy: Arc::new(policy), clients: Mutex::default() }
    }

    /// Sends one request and reads at most `most` bytes of the answer.
    ///
    /// # Errors
    /// A fault that says what kept the answer away, or that there was too much of it.
    pub async fn send(&self, request: http::Request<Vec<u8>>, ca_bundle: Option<&[u8]>, most: usize) -> Result<Reply, Fault> {
        let place = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        let url = Url::parse(&request.uri().to_string())
            .map_err(|_| Fault::new(FaultKind::Misconfigured, "The provider's endpoint is not a URL."))?;
        self.policy.admits(&url).map_err(|why| Fault::new(FaultKind::AddressRefused, format!("{place} is not asked: {why}.")))?;
        let client = self.client(ca_bundle)?;
        let request = reqwest::Request::try_from(request)
            .map_err(|_| Fault::new(FaultKind::Misconfigured, format!("The request to {place} could not be composed.")))?;
        let mut answer = client.execute(request).await.map_err(|error| fault(&error, &place))?;
        let status = answer.status().as_u16();
        let retry_after = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()).map(str::to_owned);
        let mut body = vec![];
        while let Some(chunk) = answer.chunk().await.map_err(|error| fault(&error, &place))? {
            if body.len() + chunk.len() > most {
                let message = format!("The answer of {place} is larger than {} KiB; it is not read further.", most / 1024);
                return Err(Fault::new(FaultKind::Malformed, message));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Reply { status, retry_after, body })
    }

    /// Whether a CA bundle can be used.
    pub fn accepts(&self, ca_bundle: &[u8]) -> bool {
        self.client(Some(ca_bundle)).is_ok()
    }

    fn client(&self, ca_bundle: Option<&[u8]>) -> Result<reqwest::Client, Fault> {
        let key = ca_bundle.map(|bundle| Sha256::digest(bundle).into());
        // The map stays whole whatever its holder did.
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let client = self.build(ca_bundle)?;
        // Tenants choose the bundles: what is kept for them must have an end.
        if clients.len() >= KEPT_CLIENTS {
            clients.retain(|bundle, _| bundle.is_none());
        }
        clients.insert(key, client.clone());
        Ok(client)
    }

    fn build(&self, ca_bundle: Option<&[u8]>) -> Result<reqwest::Client, Fault> {
        let mut builder = reqwest::Client::builder()
            .https_only(true)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .dns_resolver(Arc::new(PermittedAddresses(self.policy.clone())))
            .connect_timeout(CONNECT)
            .timeout(TOTAL)
            .pool_max_idle_per_host(64)
            .pool_idle_timeout(Duration::from_secs(30))
            .user_agent(concat!("oauth-operator/", env!("CARGO_PKG_VERSION")));
        if let Some(bundle) = ca_bundle {
            let unusable = || Fault::new(FaultKind::ReferenceInvalid, "The CA bundle holds no PEM certificate that can be read.");
            let certificates = reqwest::Certificate::from_pem_bundle(bundle).map_err(|_| unusable())?;
            if certificates.is_empty() {
                return Err(unusable());
            }
            builder = builder.tls_certs_only(certificates);
        }
        builder.build().map_err(|error| {
            let kind = if ca_bundle.is_some() { FaultKind::ReferenceInvalid } else { FaultKind::Tls };
            Fault::new(kind, format!("No TLS client can be made of these certificates: {}.", innermost(&error)))
        })
    }
}

/// Resolves names to permitted addresses only, so that the address that was judged is the address that is dialled,
/// whatever a name server answers the next time (DNS rebinding).
struct PermittedAddresses(Arc<OutboundPolicy>);

#[derive(Debug, thiserror::Error)]
enum ResolveError {
    #[error("the name does not resolve")]
    Unknown,
    #[error("{}", crate::oauth::REFUSED)]
    Refused,
}

impl Resolve for PermittedAddresses {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = self.0.clone();
        Box::pin(async move {
            let all = tokio::net::lookup_host((name.as_str(), 0)).await.map_err(|_| ResolveError::Unknown)?;
            let all: Vec<SocketAddr> = all.collect();
            let permitted: Vec<SocketAddr> = all.iter().copied().filter(|address| policy.permits(address.ip())).collect();
            if permitted.is_empty() {
                if let Some(refused) = all.first() {
                    // For whoever runs the operator; the tenant is not told addresses inside.
                    tracing::warn!(host = name.as_str(), address = %refused.ip(), "outbound address refused");
                    return Err(ResolveError::Refused.into());
                }
                return Err(ResolveError::Unknown.into());
            }
            Ok(Box::new(permitted.into_iter()) as Addrs)
        })
    }
}

/// What a failed exchange was, read from the chain of its causes.
fn fault(error: &reqwest::Error, place: &str) -> Fault {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(current) = cause {
        let resolve = current.downcast_ref::<ResolveError>();
        match resolve {
            Some(ResolveError::Refused) => {
                return Fault::new(FaultKind::AddressRefused, format!("{place} is not asked: {}.", ResolveError::Refused));
            }
            Some(ResolveError::Unknown) => {
                return Fault::new(
                    FaultKind::NameNotResolved,
                    format!("The name {place} does not resolve; check spec.provider."),
                );
            }
            None => {}
        }
        if let Some(tls) = current.downcast_ref::<rustls::Error>() {
            let advice = match tls {
                rustls::Error::InvalidMessage(_) => "that port does not speak TLS; check the URL in spec.provider",
                _ => "if its certificate comes from a private CA, name it in spec.provider.caBundleRef",
            };
            return Fault::new(FaultKind::Tls, format!("TLS with {place} failed: {tls}; {advice}."));
        }
        let within = current.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause = within.map(|inner| inner as &(dyn Error + 'static)).or_else(|| current.source());
    }
    if error.is_timeout() {
        return Fault::new(FaultKind::TimedOut, format!("{place} did not answer in time."));
    }
    let what = if error.is_connect() { "No connection to" } else { "The exchange broke off with" };
    let cause = innermost(error);
    let cause = cause.split(" (os error").next().unwrap_or_default();
    Fault::new(FaultKind::NotConnected, format!("{what} {place}: {cause}; check spec.provider, and whether the provider is up."))
}

fn innermost(error: &dyn Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
