//! The keys that records of logins are encrypted with, and how; pure. Envelope encryption: each record has a key of its own
//! (AES-256-GCM, NIST SP 800-38D), which lies beside it, encrypted with a key of the keyring. Both are bound to the name of the
//! record, so that one cannot be put in another's place.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};
use serde_saphyr::Spanned;
use std::collections::HashSet;
use std::sync::Arc;

/// Version of a record that is encrypted, as [`Keyring::seal`] writes it. An operator that does not know it leaves the record alone.
pub const ENCRYPTED: u32 = 2;

/// Bytes of a key.
const KEY_LEN: usize = 32;

/// Randomness for one record: its key, and a nonce for each of the two encryptions.
pub type Randomness = [u8; KEY_LEN + 2 * NONCE_LEN];

/// What the keyring file says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    keys: Vec<Spanned<FileKey>>,
    #[serde(default = "yes")]
    encrypt: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileKey {
    name: String,
    secret: String,
}

fn yes() -> bool {
    true
}

/// Keys by name; the first one encrypts, all decrypt. Without keys, records are plain.
#[derive(Default)]
pub struct Keyring {
    keys: Vec<(Box<str>, LessSafeKey)>,
    encrypts: bool,
}

/// How a record is to be written: with which keys, and with which randomness.
pub struct Sealing {
    /// The keyring.
    pub keyring: Arc<Keyring>,
    /// For this record and no other.
    pub randomness: Randomness,
}

/// A record, encrypted, as it stands in its Secret.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Envelope {
    version: u32,
    /// Name of the key that `wrapped_key` is encrypted with.
    key: String,
    /// The record's own key: nonce, ciphertext and tag, in base64.
    wrapped_key: String,
    /// The record: the same.
    sealed: String,
}

impl Keyring {
    /// Understands a keyring file (YAML): `keys`, each with a `name` and a `secret` of 32 bytes in base64, the first of which
    /// encrypts; with `encrypt: false` none does, and all decrypt what was.
    ///
    /// # Errors
    /// What is wrong with it and where, without a key in it.
    pub fn parse(text: &str) -> Result<Self, String> {
        // The words of the parser may quote a line.
        let file: File = serde_saphyr::from_str(text).map_err(|error| {
            let at = error.location().map_or_else(String::new, |at| format!("line {}: ", at.line()));
            format!("{at}it must be YAML with keys, a list of name and secret, and perhaps encrypt: false")
        })?;
        if file.keys.is_empty() {
            return Err("it has no keys".into());
        }
        let mut names = HashSet::new();
        let mut keys = vec![];
        for key in &file.keys {
            let (line, FileKey { name, secret }) = (key.referenced.line(), &key.value);
            let letters = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
            if name.is_empty() || name.len() > 63 || !letters {
                return Err(format!("line {line}: a key's name has 1 to 63 letters, digits, '-', '_' and '.'"));
            }
            if !names.insert(name) {
                return Err(format!("line {line}: there are two keys {name}"));
            }
            let bytes = BASE64.decode(secret.trim()).ok().filter(|bytes| bytes.len() == KEY_LEN);
            let bytes = bytes.ok_or_else(|| format!("line {line}: the secret of key {name} is not {KEY_LEN} bytes in base64"))?;
            keys.push((name.as_str().into(), cipher(&bytes).ok_or("no cipher")?));
        }
        Ok(Self { keys, encrypts: file.encrypt })
    }

    /// Name of the key that encrypts; `None` where none does.
    pub fn encrypts_with(&self) -> Option<&str> {
        self.encrypts.then(|| self.keys.first().map(|(name, _)| &**name)).flatten()
    }

    /// Whether a record with this key (`None`: plain) is to be written anew: it has another one than it should have, and can be read. What
    /// cannot be must not stand before what can.
    pub fn is_to_be_rewritten(&self, key: Option<&str>) -> bool {
        key != self.encrypts_with() && key.is_none_or(|key| self.keys.iter().any(|(name, _)| **name == *key))
    }

    /// Encrypts a record of this name; as it is where no key encrypts.
    ///
    /// # Panics
    /// Where the cipher takes neither key nor nonce, whose lengths are fixed: an empty record would lose a login, a plain one
    /// tell it.
    #[expect(clippy::expect_used, reason = "all lengths are right")]
    pub fn seal(&self, record: Vec<u8>, name: &str, randomness: &Randomness) -> Vec<u8> {
        let Some((key_name, key)) = self.keys.first().filter(|_| self.encrypts) else { return record };
        let (own, nonces) = randomness.split_at(KEY_LEN);
        let (first, second) = nonces.split_at(NONCE_LEN);
        let sealed = cipher(own).and_then(|own| encrypt(&own, first, name, record));
        let wrapped = encrypt(key, second, name, own.to_vec());
        let envelope = sealed.zip(wrapped).map(|(sealed, wrapped_key)| Envelope {
            version: ENCRYPTED,
            key: key_name.to_string(),
            wrapped_key,
            sealed,
        });
        envelope.and_then(|envelope| serde_json::to_vec(&envelope).ok()).expect("a key of 32 bytes and a nonce of 12")
    }

    /// Decrypts a record of this name.
    ///
    /// # Errors
    /// Why it cannot be, as the end of a sentence that the record begins.
    pub fn open(&self, envelope: &[u8], name: &str) -> Result<Vec<u8>, String> {
        let envelope = serde_json::from_slice(envelope).ok().filter(|envelope: &Envelope| envelope.version == ENCRYPTED);
        let Envelope { key: key_name, wrapped_key, sealed, .. } = envelope.ok_or("is not what the operator wrote")?;
        let Some((_, key)) = self.keys.iter().find(|(held, _)| **held == *key_name) else {
            let held: Vec<_> = self.keys.iter().map(|(held, _)| &**held).collect();
            let held = if held.is_empty() { "there is none".into() } else { format!("it has {}", held.join(", ")) };
            return Err(format!("is encrypted with the key {key_name}, which is not in the keyring ({held})"));
        };
        let own = decrypt(key, &wrapped_key, name).and_then(|own| cipher(&own));
        own.and_then(|own| decrypt(&own, &sealed, name)).ok_or_else(|| {
            format!("is encrypted with a key {key_name} that is not the one of that name in the keyring, or was changed by hand")
        })
    }
}

fn cipher(bytes: &[u8]) -> Option<LessSafeKey> {
    UnboundKey::new(&AES_256_GCM, bytes).ok().map(LessSafeKey::new)
}

fn encrypt(key: &LessSafeKey, nonce: &[u8], name: &str, mut plain: Vec<u8>) -> Option<String> {
    let used = Nonce::try_assume_unique_for_key(nonce).ok()?;
    key.seal_in_place_append_tag(used, Aad::from(name.as_bytes()), &mut plain).ok()?;
    Some(BASE64.encode([nonce, &plain].concat()))
}

fn decrypt(key: &LessSafeKey, text: &str, name: &str) -> Option<Vec<u8>> {
    let mut bytes = BASE64.decode(text).ok()?;
    let mut sealed = bytes.split_off(NONCE_LEN.min(bytes.len()));
    let nonce = Nonce::try_assume_unique_for_key(&bytes).ok()?;
    key.open_in_place(nonce, Aad::from(name.as_bytes()), &mut sealed).ok().map(|plain| plain.to_vec())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub fn keyring(names: &[&str], more: &str) -> Keyring {
        let entry = |name: &&str| {
            let mut bytes = [7; KEY_LEN];
            bytes[..name.len()].copy_from_slice(name.as_bytes());
            format!("- {{name: {name}, secret: {}}}\n", BASE64.encode(bytes))
        };
        Keyring::parse(&format!("keys:\n{}{more}", names.iter().map(entry).collect::<String>())).unwrap()
    }

    const RANDOMNESS: Randomness = [5; 56];

    #[test]
    fn what_is_encrypted_is_opened_by_its_key_and_under_its_name_alone() {
        let (one, both) = (keyring(&["one"], ""), keyring(&["two", "one"], ""));
        let sealed = one.seal(b"the record".to_vec(), "login-a", &RANDOMNESS);
        assert!(!String::from_utf8_lossy(&sealed).contains("record"));
        assert_eq!(one.open(&sealed, "login-a").unwrap(), b"the record");
        assert_eq!(both.open(&sealed, "login-a").unwrap(), b"the record");
        assert!(one.open(&sealed, "login-b").unwrap_err().contains("or was changed by hand"));
        let again = both.seal(b"the record".to_vec(), "login-a", &RANDOMNESS);
        assert_eq!(both.encrypts_with(), Some("two"));
        assert_eq!(
            one.open(&again, "login-a").unwrap_err(),
            "is encrypted with the key two, which is not in the keyring (it has one)"
        );
        assert_eq!(
            Keyring::default().open(&again, "login-a").unwrap_err(),
            "is encrypted with the key two, which is not in the keyring (there is none)"
        );
    }

    #[test]
    fn what_has_another_key_than_it_should_have_and_can_be_read_is_rewritten() {
        let (both, none) = (keyring(&["two", "one"], ""), keyring(&["two"], "encrypt: false\n"));
        let keys = [None, Some("one"), Some("two"), Some("lost")];
        assert_eq!(keys.map(|key| both.is_to_be_rewritten(key)), [true, true, false, false]);
        assert_eq!(keys.map(|key| none.is_to_be_rewritten(key)), [false, false, true, false]);
        assert_eq!(keys.map(|key| Keyring::default().is_to_be_rewritten(key)), [false; 4]);
    }

    #[test]
    fn another_key_of_the_same_name_opens_nothing() {
        let sealed = keyring(&["one"], "").seal(b"the record".to_vec(), "login-a", &RANDOMNESS);
        let other = Keyring::parse(&format!("keys: [{{name: one, secret: {}}}]", BASE64.encode([9; KEY_LEN]))).unwrap();
        assert!(other.open(&sealed, "login-a").unwrap_err().contains("that is not the one of that name in the keyring"));
    }

    #[test]
    fn whatever_is_changed_is_found_out() {
        let ring = keyring(&["one"], "");
        let sealed = ring.seal(b"the record".to_vec(), "login-a", &RANDOMNESS);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(ring.open(&changed, "login-a").is_err() || changed[at].eq_ignore_ascii_case(&sealed[at]), "byte {at}");
        }
    }

    #[test]
    fn each_record_has_a_key_of_its_own() {
        let ring = keyring(&["one"], "");
        let sealed = |randomness: u8| ring.seal(b"the record".to_vec(), "login-a", &[randomness; 56]);
        let parts = |bytes: Vec<u8>| serde_json::from_slice::<Envelope>(&bytes).unwrap();
        let (first, second) = (parts(sealed(1)), parts(sealed(2)));
        assert!(first.sealed != second.sealed && first.wrapped_key != second.wrapped_key);
    }

    #[test]
    fn without_a_key_that_encrypts_records_are_plain() {
        assert_eq!(Keyring::default().seal(b"the record".to_vec(), "login-a", &RANDOMNESS), b"the record");
        let (off, on) = (keyring(&["one"], "encrypt: false"), keyring(&["one"], ""));
        assert_eq!(off.encrypts_with(), None);
        assert_eq!(off.seal(b"the record".to_vec(), "login-a", &RANDOMNESS), b"the record");
        let sealed = on.seal(b"the record".to_vec(), "login-a", &RANDOMNESS);
        assert_eq!(off.open(&sealed, "login-a").unwrap(), b"the record");
    }

    #[test]
    fn a_mistake_in_the_file_is_named_with_its_line_and_no_key_is_told() {
        let good = BASE64.encode([7; KEY_LEN]);
        let short = BASE64.encode([7; 16]);
        let table = [
            ("", "it must be YAML with keys"),
            ("keys: []", "it has no keys"),
            (&format!("keys:\n- name: a\n  secret: {good}\n  more: x"), "line "),
            (&format!("keys:\n- name: a b\n  secret: {good}"), "line 2: a key's name"),
            (&format!("keys:\n- name: a\n  secret: {good}\n- name: a\n  secret: {good}"), "line 4: there are two keys a"),
            (&format!("keys:\n- name: a\n  secret: {short}"), "line 2: the secret of key a is not 32 bytes"),
            (&format!("keys:\n- name: a\n  secret: '{good}x'"), "line 2: the secret of key a is not 32 bytes"),
            (&format!("keys:\n- secret: {good}\n   name: [\n"), "it must be YAML"),
        ];
        for (text, said) in table {
            let error = Keyring::parse(text).err().unwrap_or_default();
            assert!(error.contains(said) && !error.contains(&good) && !error.contains(&short), "{text}: {error}");
        }
    }
}
