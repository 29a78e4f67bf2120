//! A token as it is sent: read from the keys of a token Secret, judged before it is used.

use crate::oauth::{Sensitive, host_matches};
use http::HeaderValue;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;

/// A token this close to its end is not sent any more: it would be late when it arrives.
pub const SKEW: SignedDuration = SignedDuration::from_secs(5);

/// Keys of a token Secret that are read here.
pub const KEYS: [&str; 5] = ["access_token", "token_type", "expires_at", "generation", "allowed_hosts"];

/// Why the keys of a Secret are no credential. None of these says what a key holds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// There is no token.
    #[error("there is no access_token yet")]
    Absent,
    /// A key is not what it should be.
    #[error("{0}")]
    Malformed(&'static str),
    /// DPoP binds a token to a key; as a bearer token it would be refused (RFC 9449 §7.2).
    #[error("its token is of a type that is not sent as a bearer token, such as DPoP")]
    OtherType,
}

/// An access token with what is known of it.
#[derive(Clone, Debug)]
pub struct Credential {
    token: Sensitive,
    fingerprint: String,
    expires: Option<Timestamp>,
    /// Counts the tokens of the account.
    pub generation: i64,
    allowed_hosts: Vec<String>,
    /// The header's value for each prefix that routes use.
    values: Vec<(String, HeaderValue)>,
}

impl Credential {
    /// Reads the keys of a token Secret.
    ///
    /// # Errors
    /// Why they are no credential.
    pub fn read(data: &BTreeMap<String, Vec<u8>>) -> Result<Self, Unusable> {
        let text = |key: &str| match data.get(key) {
            None => Ok(None),
            Some(bytes) => std::str::from_utf8(bytes).map(Some).map_err(|_| Unusable::Malformed("a key of it is not text")),
        };
        let token = text("access_token")?.filter(|token| !token.is_empty()).ok_or(Unusable::Absent)?;
        // RFC 6749 appendix A.12: visible characters and spaces. A line break would begin another header.
        if !token.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
            let words = "its access_token holds a line break or another character that no token has";
            return Err(Unusable::Malformed(words));
        }
        if text("token_type")?.is_some_and(|type_| type_.trim().eq_ignore_ascii_case("dpop")) {
            return Err(Unusable::OtherType);
        }
        let expires = match text("expires_at")?.map(str::trim).filter(|text| !text.is_empty()) {
            None => None,
            Some(text) => Some(text.parse().map_err(|_| Unusable::Malformed("its expires_at is no RFC 3339 time"))?),
        };
        let generation = text("generation")?.and_then(|text| text.trim().parse().ok()).unwrap_or_default();
        let hosts = text("allowed_hosts")?.unwrap_or_default();
        let allowed_hosts = hosts.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
        Ok(Self::new(Sensitive::new(token), expires, generation, allowed_hosts))
    }

    fn new(token: Sensitive, expires: Option<Timestamp>, generation: i64, allowed_hosts: Vec<String>) -> Self {
        Self { fingerprint: token.fingerprint(), token, expires, generation, allowed_hosts, values: vec![] }
    }

    /// A newer token of the same account, as the operator has told it.
    ///
    /// # Errors
    /// As [`Credential::read`].
    pub fn renewed(data: BTreeMap<String, Vec<u8>>, older: Option<&Self>) -> Result<Self, Unusable> {
        let mut renewed = Self::read(&data)?;
        renewed.allowed_hosts = older.map(|older| older.allowed_hosts.clone()).unwrap_or_default();
        Ok(renewed)
    }

    /// First eight hex digits of its SHA-256: all of it that may be logged.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// When it expires, if that is known.
    pub fn expires(&self) -> Option<Timestamp> {
        self.expires
    }

    /// Whether another reading says the same of the same token.
    pub fn says_the_same(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint && self.expires == other.expires && self.allowed_hosts == other.allowed_hosts
    }

    /// Whether it may still be sent.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.expires.is_none_or(|expires| now < expires - SKEW)
    }

    /// Whether the account allows that it is sent to this `host[:port]`. An account that names no hosts allows all.
    pub fn allows(&self, place: &str) -> bool {
        self.allowed_hosts.is_empty() || self.allowed_hosts.iter().any(|pattern| host_matches(pattern, place))
    }

    /// With the header's value for each of these prefixes made beforehand.
    #[must_use]
    pub fn prepared(mut self, prefixes: &[String]) -> Self {
        let value = |prefix: &String| {
            let mut value = HeaderValue::from_str(&format!("{prefix}{}", self.token.expose())).ok()?;
            value.set_sensitive(true);
            Some((prefix.clone(), value))
        };
        self.values = prefixes.iter().filter_map(value).collect();
        self
    }

    /// The header's value with this prefix, where it was prepared.
    pub fn value(&self, prefix: &str) -> Option<HeaderValue> {
        self.values.iter().find(|(one, _)| one == prefix).map(|(_, value)| value.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(pairs: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect()
    }

    #[test]
    fn a_secret_is_read_with_its_expiry_and_hosts() {
        let data = data(&[
            ("access_token", "abc"),
            ("token_type", "Bearer"),
            ("expires_at", "2026-01-01T00:01:00Z"),
            ("generation", "7"),
            ("allowed_hosts", "api.example.com\n*.example.org:8443\n"),
        ]);
        let credential = Credential::read(&data).unwrap();
        assert_eq!((credential.generation, credential.fingerprint()), (7, "ba7816bf"));
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert!(credential.is_live(at("2026-01-01T00:00:54.999Z")));
        assert!(!credential.is_live(at("2026-01-01T00:00:55Z")));
        assert!(credential.allows("api.example.com") && credential.allows("a.example.org:8443"));
        assert!(!credential.allows("api.example.com:8443") && !credential.allows("evil.example.net"));
        let value = credential.prepared(&["Bearer ".into()]).value("Bearer ").unwrap();
        assert_eq!((value.to_str().unwrap(), value.is_sensitive()), ("Bearer abc", true));
    }

    #[test]
    fn what_is_no_credential_says_why_and_not_what() {
        let mistakes: [(&[(&str, &str)], &str); 6] = [
            (&[], "there is no access_token yet"),
            (&[("access_token", "")], "there is no access_token yet"),
            (&[("access_token", "abc\r\nx-evil: 1")], "line break"),
            (&[("access_token", "abc\n")], "line break"),
            (&[("access_token", "abc"), ("expires_at", "tomorrow")], "expires_at"),
            (&[("access_token", "abc"), ("token_type", "DPoP")], "DPoP"),
        ];
        for (pairs, words) in mistakes {
            let why = Credential::read(&data(pairs)).unwrap_err().to_string();
            assert!(why.contains(words) && !why.contains("abc"), "{pairs:?}: {why}");
        }
    }

    #[test]
    fn a_renewed_token_keeps_the_hosts_it_may_go_to() {
        let older = Credential::read(&data(&[("access_token", "abc"), ("allowed_hosts", "api.example.com")])).unwrap();
        let renewed = Credential::renewed(data(&[("access_token", "def"), ("allowed_hosts", "evil.example")]), Some(&older));
        assert!(renewed.as_ref().unwrap().allows("api.example.com"));
        assert!(!renewed.unwrap().allows("evil.example"));
    }
}
