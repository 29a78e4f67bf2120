//! Nonces that servers want in DPoP proofs (RFC 9449 §8 and §9), by origin: whoever is asked next is asked with the newest.

use crate::oauth::{Reply, told_nonce};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use url::Url;

/// Origins that are remembered. One that is forgotten costs a round trip.
const KEPT: usize = 1024;

/// The nonces of one process.
#[derive(Default)]
pub struct Nonces(Mutex<HashMap<String, String>>);

impl Nonces {
    /// The nonce for a proof that goes there; none where none was named.
    pub fn of(&self, url: &Url) -> Option<String> {
        self.lock().get(&url.origin().ascii_serialization()).cloned()
    }

    /// A reply has come from there; each may name the next nonce (RFC 9449 §8.2).
    pub fn learn(&self, url: &Url, reply: &Reply) {
        let Some(nonce) = told_nonce(reply) else { return };
        let mut nonces = self.lock();
        let origin = url.origin().ascii_serialization();
        // Tenants choose the origins: what is kept for them must have an end.
        if nonces.len() >= KEPT && !nonces.contains_key(&origin) {
            nonces.clear();
        }
        nonces.insert(origin, nonce.to_owned());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, String>> {
        // Each change is whole before its lock is let go.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(nonce: &str) -> Reply {
        Reply { status: 200, retry_after: None, dpop_nonce: Some(nonce.to_owned()), body: vec![] }
    }

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn the_newest_nonce_of_an_origin_counts_and_no_other_s() {
        let nonces = Nonces::default();
        nonces.learn(&url("https://a.example/token"), &reply("one"));
        nonces.learn(&url("https://a.example:443/other?x"), &reply("two"));
        nonces.learn(&url("https://a.example:8443/token"), &reply("three"));
        assert_eq!(nonces.of(&url("https://a.example/token")).as_deref(), Some("two"));
        assert_eq!(nonces.of(&url("https://b.example/token")), None);
        nonces.learn(&url("https://a.example/token"), &reply("with blank"));
        assert_eq!(nonces.of(&url("https://a.example/token")).as_deref(), Some("two"), "what is no nonce is none");
    }

    #[test]
    fn what_is_remembered_has_an_end() {
        let nonces = Nonces::default();
        (0..5 * KEPT).for_each(|number| nonces.learn(&url(&format!("https://{number}.example/")), &reply("n")));
        assert!(nonces.lock().len() <= KEPT);
        assert!(nonces.of(&url(&format!("https://{}.example/", 5 * KEPT - 1))).is_some());
    }
}
