//! Secrets as a type that cannot be shown by accident.

use base64::Engine;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use std::fmt;

/// A secret string: wiped when dropped, and `[redacted]` to `Debug` and `Display`.
#[derive(Clone)]
pub struct Sensitive(SecretString);

impl Sensitive {
    /// Takes the secret in.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(SecretString::from(secret.into()))
    }

    /// The secret itself: for requests and Secrets, never for logs, status, metrics or errors.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// First eight hex digits of the SHA-256: tells two tokens apart and nothing else. Only for values of high entropy.
    pub fn fingerprint(&self) -> String {
        hex(&Sha256::digest(self.expose().as_bytes())[..4])
    }

    /// Hex digits of the whole SHA-256: stands for the secret where two must be compared and neither may be shown. Only for
    /// values of high entropy.
    pub fn digest(&self) -> String {
        hex(&Sha256::digest(self.expose().as_bytes()))
    }

    /// `text` without this secret, also where it stands encoded for a form, a URL, a page or a header: for words that came
    /// from outside.
    pub fn mask(&self, text: &str) -> String {
        let secret = self.expose();
        // Two or three characters stand in every sentence; masking them would show where they stand.
        if secret.len() < 4 {
            return text.to_owned();
        }
        let form: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        let forms = [
            secret.to_owned(),
            form.replace('+', "%20"),
            form,
            secret.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;"),
            base64::engine::general_purpose::STANDARD.encode(secret),
        ];
        forms.iter().fold(text.to_owned(), |text, form| text.replace(form.as_str(), "[redacted]"))
    }
}

/// For `#[serde(with)]`: the secret itself, in what is stored where secrets are.
pub mod exposed {
    use super::Sensitive;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes the secret out.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(secret: &Sensitive, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(secret.expose())
    }

    /// Takes the secret in.
    ///
    /// # Errors
    /// The deserializer's.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Sensitive, D::Error> {
        String::deserialize(deserializer).map(Sensitive::new)
    }
}

/// The same where there may be none.
pub mod exposed_option {
    use super::Sensitive;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Writes the secret out.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(secret: &Option<Sensitive>, serializer: S) -> Result<S::Ok, S::Error> {
        secret.as_ref().map(Sensitive::expose).serialize(serializer)
    }

    /// Takes the secret in.
    ///
    /// # Errors
    /// The deserializer's.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Sensitive>, D::Error> {
        Ok(Option::<String>::deserialize(deserializer)?.map(Sensitive::new))
    }
}

/// Lower-case hex digits of `bytes`.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
        text.extend([digit(byte >> 4), digit(byte & 15)]);
        text
    })
}

impl PartialEq for Sensitive {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for Sensitive {}

impl fmt::Debug for Sensitive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl fmt::Display for Sensitive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_and_display_show_nothing() {
        let secret = Sensitive::new("correct horse");
        assert_eq!(format!("{secret} {secret:?}"), "[redacted] [redacted]");
        assert_eq!(format!("{:?}", Some(&secret)), "Some([redacted])");
    }

    #[test]
    fn mask_removes_the_secret_however_it_is_encoded() {
        let secret = Sensitive::new("p&ss w0rd");
        for form in ["p&ss w0rd", "p%26ss+w0rd", "p%26ss%20w0rd", "p&amp;ss w0rd", "cCZzcyB3MHJk"] {
            assert_eq!(secret.mask(&format!("no {form}!")), "no [redacted]!", "{form}");
        }
    }

    #[test]
    fn a_fingerprint_is_the_head_of_the_sha_256() {
        // printf abc | sha256sum
        assert_eq!(Sensitive::new("abc").fingerprint(), "ba7816bf");
    }
}
