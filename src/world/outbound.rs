//! Requests to providers: https, to permitted addresses, without redirects and proxies, bounded in time and size.

use crate::oauth::{Fault, FaultKind, OutboundPolicy, Reply, TlsSettings};
use http::HeaderMap;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use url::Url;

/// How we introduce ourselves.
pub const USER_AGENT: &str = concat!("oauth-operator/", env!("CARGO_PKG_VERSION"));

/// Seconds for one exchange in all (refresh-protocol: an intent lives longer than that).
const TOTAL: Duration = Duration::from_secs(20);
/// Seconds for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// CA bundles whose clients are kept.
const KEPT_CLIENTS: usize = 128;

/// Sends requests to providers.
pub struct Outbound {
    policy: Arc<OutboundPolicy>,
    /// By digest of the TLS settings; `None` for the public certificates.
    clients: Mutex<HashMap<Option<[u8; 32]>, Clients>>,
}

/// What was made for one set of TLS settings.
#[derive(Clone)]
struct Clients {
    /// Keeps connections.
    pooled: reqwest::Client,
    /// Keeps none, and leaves the time that an exchange takes to whoever asks for it.
    fresh: reqwest::Client,
    /// Keeps connections, and leaves the time to whoever asks for it.
    patient: reqwest::Client,
    /// For connections of one request.
    tls: Arc<ClientConfig>,
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
    pub async fn send(&self, request: http::Request<Vec<u8>>, tls: &TlsSettings, most: usize) -> Result<Reply, Fault> {
        Ok(self.exchange(request, tls, most).await?.0)
    }

    /// The same, with all headers of the answer.
    ///
    /// # Errors
    /// The same.
    pub async fn exchange(
        &self,
        request: http::Request<Vec<u8>>,
        tls: &TlsSettings,
        most: usize,
    ) -> Result<(Reply, HeaderMap), Fault> {
        let place = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        let url = Url::parse(&request.uri().to_string())
            .map_err(|_| Fault::new(FaultKind::Misconfigured, "The provider's endpoint is not a URL."))?;
        self.admits(&url, &place)?;
        let client = self.clients(tls)?.pooled;
        let request = reqwest::Request::try_from(request)
            .map_err(|_| Fault::new(FaultKind::Misconfigured, format!("The request to {place} could not be composed.")))?;
        let mut answer = client.execute(request).await.map_err(|error| fault(&error, &place))?;
        let status = answer.status().as_u16();
        let headers = answer.headers().clone();
        let (retry_after, dpop_nonce) = (text(&headers, "retry-after"), text(&headers, "dpop-nonce"));
        let mut body = vec![];
        while let Some(chunk) = answer.chunk().await.map_err(|error| fault(&error, &place))? {
            if body.len() + chunk.len() > most {
                return Err(oversized(&place, most));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((Reply { status, retry_after, dpop_nonce, body }, headers))
    }

    /// Whether a CA bundle, or a certificate of our own, can be used.
    pub fn accepts(&self, tls: &TlsSettings) -> bool {
        self.clients(tls).is_ok()
    }

    /// Whether a URL may be asked at all.
    ///
    /// # Errors
    /// [`FaultKind::AddressRefused`].
    pub(super) fn admits(&self, url: &Url, place: &str) -> Result<(), Fault> {
        self.policy.admits(url).map_err(|why| Fault::new(FaultKind::AddressRefused, format!("{place} is not asked: {why}.")))
    }

    /// The addresses that may be talked to.
    pub(super) fn policy(&self) -> &OutboundPolicy {
        &self.policy
    }

    /// TLS with these settings.
    pub(super) fn tls(&self, tls: &TlsSettings) -> Result<Arc<ClientConfig>, Fault> {
        Ok(self.clients(tls)?.tls)
    }

    fn clients(&self, settings: &TlsSettings) -> Result<Clients, Fault> {
        let key = digest(settings);
        // The map stays whole whatever its holder did.
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let config = tls(settings)?;
        let client = Clients {
            pooled: self.build(config.clone(), Some(TOTAL), 64)?,
            fresh: self.build(config.clone(), None, 0)?,
            patient: self.build(config.clone(), None, 64)?,
            tls: Arc::new(config),
        };
        // Tenants choose the settings: what is kept for them must have an end.
        if clients.len() >= KEPT_CLIENTS {
            clients.retain(|bundle, _| bundle.is_none());
        }
        clients.insert(key, client.clone());
        Ok(client)
    }

    /// A client that leaves the time that an exchange takes to its caller, and keeps no connection where it is to ask `once`.
    pub(super) fn client(&self, tls: &TlsSettings, once: bool) -> Result<reqwest::Client, Fault> {
        let clients = self.clients(tls)?;
        Ok(if once { clients.fresh } else { clients.patient })
    }

    fn build(&self, tls: ClientConfig, total: Option<Duration>, kept: usize) -> Result<reqwest::Client, Fault> {
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .https_only(true)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .dns_resolver(Arc::new(PermittedAddresses(self.policy.clone())))
            .connect_timeout(CONNECT)
            .pool_max_idle_per_host(kept)
            .pool_idle_timeout(Duration::from_secs(30))
            .user_agent(USER_AGENT);
        if let Some(total) = total {
            builder = builder.timeout(total);
        }
        builder.build().map_err(|error| {
            Fault::new(FaultKind::Tls, format!("No TLS client can be made of these certificates: {}.", innermost(&error)))
        })
    }
}

/// What tells one set of TLS settings from another; none for the public certificates alone.
fn digest(settings: &TlsSettings) -> Option<[u8; 32]> {
    let TlsSettings { ca_bundle, identity } = settings;
    if ca_bundle.is_none() && identity.is_none() {
        return None;
    }
    let part = |bytes: &[u8]| <[u8; 32]>::from(Sha256::digest(bytes));
    let identity = identity.as_ref().map(|identity| part(identity.expose().as_bytes())).unwrap_or_default();
    let bundle = ca_bundle.as_ref().map(|bundle| part(bundle)).unwrap_or_default();
    Some(Sha256::new().chain_update(bundle).chain_update(identity).finalize().into())
}

/// A header as text.
pub(super) fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
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

fn unusable() -> Fault {
    Fault::new(FaultKind::ReferenceInvalid, "The CA bundle holds no PEM certificate that can be read.")
}

fn tls(settings: &TlsSettings) -> Result<ClientConfig, Fault> {
    use rustls_platform_verifier::BuilderVerifierExt;
    let trusting = match &settings.ca_bundle {
        None => {
            let untrusting =
                |error: rustls::Error| Fault::new(FaultKind::Tls, format!("No public certificates are at hand: {error}."));
            ClientConfig::builder().with_platform_verifier().map_err(untrusting)?
        }
        Some(bundle) => {
            let mut trusted = RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(bundle) {
                trusted.add(certificate.map_err(|_| unusable())?).map_err(|_| unusable())?;
            }
            if trusted.is_empty() {
                return Err(unusable());
            }
            ClientConfig::builder().with_root_certificates(trusted)
        }
    };
    let Some(identity) = &settings.identity else { return Ok(trusting.with_no_client_auth()) };
    let pem = identity.expose().as_bytes();
    let useless = || Fault::new(FaultKind::ReferenceInvalid, "The client's certificate and its private key do not go together.");
    let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().map_err(|_| useless())?;
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| useless())?;
    trusting.with_client_auth_cert(chain, key).map_err(|_| useless())
}

/// There is more of an answer than anybody needs.
pub(super) fn oversized(place: &str, most: usize) -> Fault {
    let message = format!("The answer of {place} is larger than {} KiB; it is not read further.", most / 1024);
    Fault::new(FaultKind::Malformed, message)
}

/// Where whoever wrote an address, or has a CA of their own, is to look.
pub(super) struct Advice {
    /// Where the address stands.
    pub url: &'static str,
    /// Where the CA is named.
    pub ca: &'static str,
}

/// What a failed exchange with a provider was, read from the chain of its causes.
pub(super) fn fault(error: &(dyn Error + 'static), place: &str) -> Fault {
    fault_with(error, place, &Advice { url: "spec.provider", ca: "spec.provider.caBundleRef" })
}

/// The same of any exchange.
pub(super) fn fault_with(error: &(dyn Error + 'static), place: &str, advice: &Advice) -> Fault {
    let Advice { url, ca } = advice;
    let mut cause = Some(error);
    let mut connecting = false;
    let mut late = false;
    while let Some(current) = cause {
        let resolve = current.downcast_ref::<ResolveError>();
        match resolve {
            Some(ResolveError::Refused) => {
                return Fault::new(FaultKind::AddressRefused, format!("{place} is not asked: {}.", ResolveError::Refused));
            }
            Some(ResolveError::Unknown) => {
                return Fault::new(FaultKind::NameNotResolved, format!("The name {place} does not resolve; check {url}."));
            }
            None => {}
        }
        if let Some(error) = current.downcast_ref::<reqwest::Error>() {
            (connecting, late) = (connecting || error.is_connect(), late || error.is_timeout());
        }
        if let Some(tls) = current.downcast_ref::<rustls::Error>() {
            let advice = match tls {
                rustls::Error::InvalidMessage(_) => format!("that port does not speak TLS; check {url}"),
                _ => format!("if its certificate comes from a private CA, name it in {ca}"),
            };
            return Fault::new(FaultKind::Tls, format!("TLS with {place} failed: {tls}; {advice}."));
        }
        let within = current.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause = within.map(|inner| inner as &(dyn Error + 'static)).or_else(|| current.source());
    }
    if late {
        return Fault::new(FaultKind::TimedOut, format!("{place} did not answer in time."));
    }
    let what = if connecting || error.is::<std::io::Error>() { "No connection to" } else { "The exchange broke off with" };
    let cause = innermost(error);
    let cause = cause.split(" (os error").next().unwrap_or_default().split(": https://").next().unwrap_or_default();
    Fault::new(FaultKind::NotConnected, format!("{what} {place}: {cause}; check {url}, and whether the server is up."))
}

fn innermost(error: &dyn Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
