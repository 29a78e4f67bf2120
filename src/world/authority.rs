//! The operator's own CA: a Secret that every replica may make and rotate, the ConfigMap that says whom to trust, and what is
//! served with it. `crate::authority` decides.

use super::certificate::{CertificateError, make_ca, make_leaf, read_root, read_signer};
use super::secrets::{self, Written};
use super::{ApiError, clock};
use crate::api::vocabulary as v;
use crate::authority::{Leaf, Next, Predecessor, Stored, Successor, after, decide};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// How often a replica looks. A step of the rotation, a lost ConfigMap and a lost Secret wait no longer than that.
const PERIOD: Duration = Duration::from_secs(30);
/// Steps and lost races of one look.
const ROUNDS: usize = 16;

// Keys of the Secret, beside that of the certificate which signs.
const KEY: &str = "ca.key";
const NEXT_CERTIFICATE: &str = "next.crt";
const NEXT_KEY: &str = "next.key";
const NEXT_ANNOUNCED: &str = "next.announced";
const PREVIOUS_CERTIFICATE: &str = "previous.crt";
const PREVIOUS_SINCE: &str = "previous.since";

/// Why there is no CA, or no certificate of it.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The Secret is somebody else's.
    #[error("Secret {0}/{name} is of the type {1:?} and not {ours}: it is somebody else's; delete it or move it away", name = v::CA_NAME, ours = v::CA_SECRET_TYPE)]
    Foreign(String, String),
    /// The API server does not permit or accept a write; its words.
    #[error("the API server refused to store {kind} {namespace}/{name}: {words}", name = v::CA_NAME)]
    Refused {
        /// Of what kind it is.
        kind: &'static str,
        /// In which namespace.
        namespace: String,
        /// Why.
        words: String,
    },
    /// Others wrote it whenever we did.
    #[error("Secret or ConfigMap {0}/{name} was changed by others again and again", name = v::CA_NAME)]
    Contended(String),
    /// The API server did not do what we asked.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// No certificate could be made.
    #[error("no certificate could be made: {0}")]
    Certificate(#[from] CertificateError),
    /// It cannot be served under this name.
    #[error("{0:?} is neither a DNS name nor an IP address")]
    Name(String),
    /// TLS cannot be served.
    #[error("TLS cannot be served: {0}")]
    Tls(#[from] rustls::Error),
}

/// The operator's own CA, as one replica keeps and uses it.
pub struct Authority {
    client: Client,
    namespace: String,
    names: Vec<String>,
    served: Arc<Served>,
    config: Arc<ServerConfig>,
}

/// What was found and made at the last look. In memory only: a leaf is never stored.
#[derive(Debug, Default)]
struct Served(RwLock<Option<Serving>>);

#[derive(Debug)]
struct Serving {
    bundle: String,
    leaf: Leaf,
    key: Arc<CertifiedKey>,
}

impl ResolvesServerCert for Served {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // A value is put there whole.
        self.0.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(|serving| serving.key.clone())
    }
}

/// The Secret as a look found it.
struct Found {
    /// UID and resourceVersion; none where there is none.
    version: Option<(String, String)>,
    /// What could be read in it.
    stored: Option<Stored>,
    /// What could not.
    damage: Option<String>,
}

impl Authority {
    /// The CA in the operator's namespace, and certificates for these DNS names and IP addresses. Asks nobody yet.
    ///
    /// # Errors
    /// Where a name is none.
    pub fn new(client: Client, namespace: &str, names: Vec<String>) -> Result<Self, AuthorityError> {
        if let Some(wrong) = names.iter().find(|name| ServerName::try_from(name.as_str()).is_err()) {
            return Err(AuthorityError::Name(wrong.clone()));
        }
        let served = Arc::new(Served::default());
        let versions = [&rustls::version::TLS13, &rustls::version::TLS12];
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider())).with_protocol_versions(&versions)?;
        let mut config = config.with_no_client_auth().with_cert_resolver(served.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { client, namespace: namespace.to_owned(), names, served, config: Arc::new(config) })
    }

    /// Looks once: afterwards there is a CA, whom to trust is published, and a certificate can be served.
    ///
    /// # Errors
    /// What stands in the way. What is served goes on being served, and was renewed if the CA could be read.
    pub async fn ensure(&self) -> Result<(), AuthorityError> {
        for _ in 0..ROUNDS {
            if self.round().await? {
                return Ok(());
            }
        }
        Err(AuthorityError::Contended(self.namespace.clone()))
    }

    /// Looks again and again, and tells how each look ended.
    pub async fn run(self: Arc<Self>, told: impl Fn(Option<&AuthorityError>)) {
        loop {
            let looked = self.ensure().await;
            if let Err(error) = &looked {
                tracing::warn!(%error, "the operator's own CA could not be looked after; it is tried again");
            }
            told(looked.as_ref().err());
            tokio::time::sleep(PERIOD).await;
        }
    }

    /// For servers. It answers with the newest certificate, also of a server that runs already; without one before
    /// [`Authority::ensure`].
    pub fn server_config(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }

    /// Every CA certificate that a client must trust now, PEM; empty before [`Authority::ensure`].
    pub fn bundle(&self) -> Vec<u8> {
        let served = self.served.0.read().unwrap_or_else(PoisonError::into_inner);
        served.as_ref().map(|serving| serving.bundle.clone().into_bytes()).unwrap_or_default()
    }

    /// One step, or one lost race; whether nothing is left to do.
    async fn round(&self) -> Result<bool, AuthorityError> {
        // The ConfigMap first: it is only written over as it was before the Secret was read, so never by an older Secret.
        let map = secrets::config_map(&self.client, &self.namespace, v::CA_NAME).await;
        let found = self.find().await?;
        let now = clock::now();
        if let Some(damage) = &found.damage {
            tracing::warn!(secret = v::CA_NAME, "what the Secret of the operator's own CA says cannot be used: {damage}");
        }
        let next = decide(found.stored.as_ref(), now);
        if next == Next::Make && found.version.is_some() {
            tracing::warn!(
                secret = v::CA_NAME,
                "the operator's own CA is made anew: clients trust it when they have read the new bundle"
            );
        }
        if let Some(stored) = &found.stored {
            // Before all that may fail: who cannot publish or rotate must still renew its own certificate.
            if stored.current.root.life.usable(now) {
                self.serve(stored, now)?;
            }
            let published = match map {
                Ok(map) => self.publish(map, stored.bundle()).await,
                Err(error) => Err(error.into()),
            };
            // Without a ConfigMap the rotation goes on, but for what relies on its readers.
            if matches!(next, Next::Keep | Next::Announce) && !published? {
                return Ok(false);
            }
            if next == Next::Keep && found.damage.is_none() {
                return Ok(true);
            }
        }
        let changed = after(found.stored, next, now, || make_ca(now))?;
        if self.store(&changed, found.version).await? {
            tell(next);
        }
        Ok(false)
    }

    async fn find(&self) -> Result<Found, AuthorityError> {
        let Some(secret) = secrets::secret(&self.client, &self.namespace, v::CA_NAME).await? else {
            return Ok(Found { version: None, stored: None, damage: None });
        };
        let type_ = secret.type_.unwrap_or_default();
        if type_ != v::CA_SECRET_TYPE {
            return Err(AuthorityError::Foreign(self.namespace.clone(), type_));
        }
        let version = (secret.metadata.uid.unwrap_or_default(), secret.metadata.resource_version.unwrap_or_default());
        let (stored, damage) = read(&secret.data.unwrap_or_default());
        Ok(Found { version: Some(version), stored, damage })
    }

    /// Serves a certificate of the CA that signs.
    fn serve(&self, stored: &Stored, now: Timestamp) -> Result<(), AuthorityError> {
        let (bundle, root) = (stored.bundle(), &stored.current.root);
        let mut served = self.served.0.write().unwrap_or_else(PoisonError::into_inner);
        match served.as_mut() {
            Some(serving) if !serving.leaf.is_due(root, now) => serving.bundle = bundle,
            _ => {
                let (leaf, key) = make_leaf(&stored.current, &self.names, now)?;
                *served = Some(Serving { bundle, leaf, key: Arc::new(key) });
            }
        }
        Ok(())
    }

    /// Whether the ConfigMap says whom to trust; not, where somebody else changed it meanwhile.
    async fn publish(&self, found: Option<ConfigMap>, bundle: String) -> Result<bool, AuthorityError> {
        let exists = found.is_some();
        let mut map = found.unwrap_or_else(|| ConfigMap { metadata: self.metadata(None), ..ConfigMap::default() });
        let data = map.data.get_or_insert_default();
        if data.get(v::CA_CERTIFICATE_KEY) == Some(&bundle) {
            return Ok(true);
        }
        data.insert(v::CA_CERTIFICATE_KEY.to_owned(), bundle);
        // A key stands in one of the two.
        map.binary_data.get_or_insert_default().remove(v::CA_CERTIFICATE_KEY);
        let client = &self.client;
        let written = if exists { secrets::replace(client, &map).await? } else { secrets::create(client, &map).await? };
        self.is_stored("ConfigMap", written)
    }

    /// Whether the Secret could be written in place of the one that was found, or of none.
    async fn store(&self, stored: &Stored, over: Option<(String, String)>) -> Result<bool, AuthorityError> {
        let exists = over.is_some();
        let secret = Secret {
            metadata: self.metadata(over),
            type_: Some(v::CA_SECRET_TYPE.to_owned()),
            data: Some(data(stored)),
            ..Secret::default()
        };
        let client = &self.client;
        let written = if exists { secrets::replace(client, &secret).await? } else { secrets::create(client, &secret).await? };
        self.is_stored("Secret", written)
    }

    fn is_stored(&self, kind: &'static str, written: Written) -> Result<bool, AuthorityError> {
        let refused = |words| AuthorityError::Refused { kind, namespace: self.namespace.clone(), words };
        match written {
            Written::Stored { .. } => Ok(true),
            Written::Conflict => Ok(false),
            Written::NamespaceGone => Err(refused("the namespace is being deleted".to_owned())),
            Written::Refused(words) => Err(refused(words)),
        }
    }

    fn metadata(&self, over: Option<(String, String)>) -> ObjectMeta {
        let (uid, resource_version) = over.unzip();
        ObjectMeta {
            name: Some(v::CA_NAME.to_owned()),
            namespace: Some(self.namespace.clone()),
            labels: Some(labels()),
            uid,
            resource_version,
            ..ObjectMeta::default()
        }
    }
}

/// Labels of all that the operator makes for its own CA.
pub(super) fn labels() -> BTreeMap<String, String> {
    let labels = [(v::NAME_LABEL, v::MANAGER), (v::MANAGED_BY_LABEL, v::MANAGER), (v::COMPONENT_LABEL, v::CA_COMPONENT)];
    labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn tell(next: Next) {
    let what = match next {
        Next::Keep => "put in order",
        Next::Make => "made",
        Next::AddSuccessor => "its successor is made",
        Next::Announce => "its successor is told of, and signs in a day",
        Next::Switch => "its successor signs now",
        Next::Retire => "its predecessor is trusted no more",
    };
    tracing::info!(secret = v::CA_NAME, "the operator's own CA: {what}");
}

/// What the Secret holds of a CA.
fn data(stored: &Stored) -> BTreeMap<String, ByteString> {
    let Stored { current, successor, predecessor } = stored;
    let mut texts = vec![(v::CA_CERTIFICATE_KEY, current.root.certificate.clone()), (KEY, current.key.expose().to_owned())];
    if let Some(Successor { signer, announced }) = successor {
        texts.extend([(NEXT_CERTIFICATE, signer.root.certificate.clone()), (NEXT_KEY, signer.key.expose().to_owned())]);
        texts.extend(announced.map(|announced| (NEXT_ANNOUNCED, announced.to_string())));
    }
    if let Some(Predecessor { root, since }) = predecessor {
        texts.extend([(PREVIOUS_CERTIFICATE, root.certificate.clone()), (PREVIOUS_SINCE, since.to_string())]);
    }
    texts.into_iter().map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes()))).collect()
}

/// What can be read of a CA in a Secret, and what is wrong with the rest. Without the one that signs, nothing is.
fn read(data: &BTreeMap<String, ByteString>) -> (Option<Stored>, Option<String>) {
    let text = |key: &str| data.get(key).and_then(|bytes| std::str::from_utf8(&bytes.0).ok());
    let signer = |certificate, key| read_signer(text(certificate).unwrap_or_default(), text(key).unwrap_or_default());
    let time = |key: &str| text(key).and_then(|text| text.trim().parse::<Timestamp>().ok());
    let said = |key, error: CertificateError| Some(format!("{key}: {error}"));
    let current = match signer(v::CA_CERTIFICATE_KEY, KEY) {
        Ok(current) => current,
        Err(error) => return (None, said(v::CA_CERTIFICATE_KEY, error)),
    };
    let mut stored = Stored { current, successor: None, predecessor: None };
    let mut damage = None;
    if data.contains_key(NEXT_CERTIFICATE) {
        match signer(NEXT_CERTIFICATE, NEXT_KEY) {
            Ok(signer) => stored.successor = Some(Successor { signer, announced: time(NEXT_ANNOUNCED) }),
            Err(error) => damage = said(NEXT_CERTIFICATE, error),
        }
    }
    match (
        data.contains_key(PREVIOUS_CERTIFICATE),
        read_root(text(PREVIOUS_CERTIFICATE).unwrap_or_default()),
        time(PREVIOUS_SINCE),
    ) {
        (false, ..) => {}
        (true, Ok(root), Some(since)) => stored.predecessor = Some(Predecessor { root, since }),
        (true, Err(error), _) => damage = said(PREVIOUS_CERTIFICATE, error),
        (true, Ok(_), None) => damage = Some(format!("{PREVIOUS_SINCE}: it is no time")),
    }
    (Some(stored), damage)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::Signer;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn ca() -> Signer {
        make_ca(time("2026-01-01T00:00:00Z")).unwrap()
    }

    fn rotating() -> Stored {
        let successor = Successor { signer: ca(), announced: Some(time("2026-01-02T00:00:00Z")) };
        let predecessor = Predecessor { root: ca().root, since: time("2026-01-03T00:00:00Z") };
        Stored { current: ca(), successor: Some(successor), predecessor: Some(predecessor) }
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let all = rotating();
        let alone = Stored { successor: None, predecessor: None, ..all.clone() };
        let unannounced = all.successor.clone().map(|successor| Successor { announced: None, ..successor });
        let unannounced = Stored { successor: unannounced, ..all.clone() };
        for stored in [all, alone, unannounced] {
            assert_eq!(read(&data(&stored)), (Some(stored), None));
        }
    }

    #[test]
    fn damage_costs_no_more_than_what_is_damaged() {
        let stored = rotating();
        let other = ca().key.expose().to_owned();
        for (key, text, parts, why) in [
            ("ca.crt", "nonsense", [false; 3], "ca.crt: its certificate is not one in PEM"),
            ("ca.key", "", [false; 3], "ca.crt: its key is none"),
            ("ca.key", &other, [false; 3], "ca.crt: its key belongs to another certificate"),
            ("next.crt", "nonsense", [true, false, true], "next.crt: its certificate is not one in PEM"),
            ("next.key", &other, [true, false, true], "next.crt: its key belongs to another certificate"),
            ("previous.crt", "nonsense", [true, true, false], "previous.crt: its certificate is not one in PEM"),
            ("previous.since", "nonsense", [true, true, false], "previous.since: it is no time"),
        ] {
            let mut data = data(&stored);
            data.insert(key.into(), ByteString(text.into()));
            let (read, damage) = read(&data);
            let left = read.map(|read| [true, read.successor.is_some(), read.predecessor.is_some()]);
            assert_eq!((left.unwrap_or_default(), damage.as_deref()), (parts, Some(why)), "{key} {text}");
        }
        let mut data = data(&stored);
        data.insert("next.announced".into(), ByteString(b"nonsense".into()));
        assert_eq!(read(&data).0.unwrap().successor.unwrap().announced, None, "it is told of anew");
        assert!(read(&BTreeMap::new()).0.is_none());
    }
}
