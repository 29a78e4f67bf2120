//! Who may use a listener, and how often.

use super::fault::{Code, Fault};
use super::head::X_API_KEY;
use super::routes::Client;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use sha2::{Digest, Sha256};
use std::collections::HashMap;

/// The clients of a listener, by the SHA-256 of their keys.
pub struct Clients(HashMap<[u8; 32], Known>);

struct Known {
    name: String,
    limit: Option<DefaultDirectRateLimiter>,
}

impl Clients {
    /// Those of the routes file; `None` where there are none, and everybody may ask.
    pub fn new(clients: &[Client]) -> Option<Self> {
        let known = clients.iter().filter_map(|client| {
            let quota = client.requests_per_second.map(|rate| Quota::per_second(rate).allow_burst(client.burst.unwrap_or(rate)));
            let known = Known { name: client.name.value.clone(), limit: quota.map(RateLimiter::direct) };
            Some((digest(&client.key_sha256.value)?, known))
        });
        (!clients.is_empty()).then(|| Self(known.collect()))
    }

    /// Lets a request in.
    ///
    /// # Errors
    /// Where its key is nobody's, or comes too often.
    pub fn admit(&self, headers: &HeaderMap) -> Result<(), Fault> {
        let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let bearer = bearer.and_then(|text| text.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let key = bearer.map(|(_, key)| key.trim()).or_else(|| headers.get(X_API_KEY).and_then(|value| value.to_str().ok()));
        // Found by its digest: how long that takes says nothing of the keys.
        let known = key.and_then(|key| self.0.get(&<[u8; 32]>::from(Sha256::digest(key)))).ok_or_else(|| {
            let words = "This listener serves clients with a key; send yours as Authorization: Bearer or X-Api-Key.";
            Fault::new(Code::ClientUnauthenticated, words)
        })?;
        match known.limit.as_ref().map(RateLimiter::check) {
            Some(Err(_)) => {
                let words = format!("The client {} asks more often than its requestsPerSecond and burst permit.", known.name);
                Err(Fault::new(Code::ClientRateLimited, words).after(1))
            }
            _ => Ok(()),
        }
    }
}

/// The bytes of 64 hex digits.
fn digest(digits: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    for (byte, place) in bytes.iter_mut().zip((0..digits.len()).step_by(2)) {
        *byte = u8::from_str_radix(digits.get(place..place + 2)?, 16).ok()?;
    }
    (digits.len() == 64).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::routes::placeless;
    use super::*;
    use crate::oauth::Sensitive;

    fn clients() -> Clients {
        let client = |name: &str, key: &str, rate: Option<u32>| Client {
            name: placeless(name.into()),
            key_sha256: placeless(Sensitive::new(key).digest().to_uppercase()),
            requests_per_second: rate.and_then(|rate| rate.try_into().ok()),
            burst: rate.and_then(|_| 3.try_into().ok()),
        };
        Clients::new(&[client("a", "key-a", Some(1)), client("b", "key-b", None)]).unwrap()
    }

    fn admitted(clients: &Clients, name: &str, value: &str) -> Result<(), Code> {
        let headers = [(name.parse().unwrap(), value.parse().unwrap())].into_iter().collect();
        clients.admit(&headers).map_err(|fault| fault.code)
    }

    #[test]
    fn a_key_is_known_in_either_header_and_nothing_else_is() {
        let clients = clients();
        assert_eq!(admitted(&clients, "authorization", "bearer key-b"), Ok(()));
        assert_eq!(admitted(&clients, "x-api-key", "key-b"), Ok(()));
        for (name, value) in [("authorization", "Basic key-b"), ("x-api-key", "key-c"), ("cookie", "key-b"), ("x-api-key", "")] {
            assert_eq!(admitted(&clients, name, value), Err(Code::ClientUnauthenticated), "{name}: {value}");
        }
    }

    #[test]
    fn a_client_is_limited_and_others_do_not_notice() {
        let clients = clients();
        let answers: Vec<_> = (0..5).map(|_| admitted(&clients, "x-api-key", "key-a")).collect();
        assert_eq!(answers[..3], [Ok(()); 3]);
        assert_eq!(answers[3..], [Err(Code::ClientRateLimited); 2]);
        assert_eq!(admitted(&clients, "x-api-key", "key-b"), Ok(()));
    }
}
