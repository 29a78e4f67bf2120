//! Discovery documents, asked for once and kept for a while.

use super::clock;
use super::outbound::Outbound;
use crate::oauth::{Endpoints, Fault, FaultKind, TlsSettings, metadata_urls, read_metadata};
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OnceCell;
use url::Url;

/// How long a document is believed.
const KEPT_FOR: SignedDuration = SignedDuration::from_mins(10);
/// How long a failure is believed: accounts that wait for the same document do not each wait for its failure anew.
const FAILURE_KEPT_FOR: SignedDuration = SignedDuration::from_secs(1);
/// Documents that are kept.
const KEPT: usize = 1024;
/// Bytes of a document that are read.
const MOST: usize = 1024 * 1024;

/// Issuer and digest of the CA bundle: a document is worth what the certificate behind it is worth.
type Key = (String, Option<[u8; 32]>);

struct Entry {
    since: Timestamp,
    found: Arc<OnceCell<Found>>,
}

/// What was found, and when.
#[derive(Clone)]
struct Found {
    at: Timestamp,
    endpoints: Result<Endpoints, Fault>,
}

/// What issuers say of themselves.
#[derive(Default)]
pub struct Discovery {
    entries: Mutex<HashMap<Key, Entry>>,
}

impl Discovery {
    /// The endpoints of an issuer. Accounts that ask at once share one request, and its failure.
    ///
    /// # Errors
    /// Why there is no document, or none that can be used.
    pub async fn endpoints(&self, outbound: &Outbound, issuer: &str, ca_bundle: Option<&[u8]>) -> Result<Endpoints, Fault> {
        let cell = self.cell((issuer.to_owned(), ca_bundle.map(|bundle| Sha256::digest(bundle).into())));
        let found = cell.get_or_init(|| async {
            let endpoints = fetch(outbound, issuer, ca_bundle).await;
            Found { at: clock::now(), endpoints }
        });
        found.await.endpoints.clone()
    }

    fn cell(&self, key: Key) -> Arc<OnceCell<Found>> {
        let now = clock::now();
        // The map stays whole whatever its holder did.
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        // Tenants choose the issuers: what is kept for them must have an end.
        if entries.len() >= KEPT {
            entries.clear();
        }
        let failed = |found: &Found| found.endpoints.is_err() && now.duration_since(found.at) >= FAILURE_KEPT_FOR;
        let entry = entries.entry(key).or_insert_with(|| Entry { since: now, found: Arc::default() });
        if now.duration_since(entry.since) >= KEPT_FOR || entry.found.get().is_some_and(failed) {
            *entry = Entry { since: now, found: Arc::default() };
        }
        entry.found.clone()
    }
}

async fn fetch(outbound: &Outbound, issuer: &str, ca_bundle: Option<&[u8]>) -> Result<Endpoints, Fault> {
    let tls = TlsSettings { ca_bundle: ca_bundle.map(<[u8]>::to_vec), identity: None };
    let url = Url::parse(issuer).map_err(|_| Fault::new(FaultKind::Misconfigured, "spec.provider.issuer is not a URL."))?;
    let mut status = 0;
    for address in metadata_urls(&url) {
        let request = http::Request::get(address.as_str()).header("accept", "application/json").body(vec![]);
        let request = request.map_err(|_| Fault::new(FaultKind::Misconfigured, "spec.provider.issuer is not a URL."))?;
        let reply = outbound.send(request, &tls, MOST).await?;
        if reply.status == 200 {
            return read_metadata(issuer, &reply.body);
        }
        status = reply.status;
    }
    let kind = if status >= 500 || status == 429 { FaultKind::Unavailable } else { FaultKind::Misconfigured };
    Err(Fault::new(
        kind,
        format!("{issuer} answers HTTP {status} where its discovery document should be; check spec.provider.issuer."),
    ))
}
