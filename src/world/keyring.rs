//! The keyring file, which somebody changes when keys rotate (in a Pod, a mounted Secret).

use super::entropy;
use crate::keyring::{Keyring, Sealing};
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// The keys as the file has them, or had them when it could be understood.
pub struct KeyringFile {
    path: Option<PathBuf>,
    known: Mutex<Known>,
}

struct Known {
    /// What the file said when it was looked at last.
    text: String,
    keyring: Arc<Keyring>,
}

impl KeyringFile {
    /// Reads this file; without one records are plain.
    ///
    /// # Errors
    /// Where it cannot be read or understood: nothing may be written then that ought to be encrypted.
    pub fn open(path: Option<PathBuf>) -> Result<Self, String> {
        let known = match &path {
            Some(path) => {
                let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
                Known { keyring: Arc::new(Keyring::parse(&text)?), text }
            }
            None => Known { keyring: Arc::default(), text: String::new() },
        };
        Ok(Self { path, known: Mutex::new(known) })
    }

    /// The keys as they are now. A file that is gone or cannot be understood changes nothing.
    pub fn current(&self) -> Arc<Keyring> {
        // Each change is whole before its lock is let go.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(path) = &self.path else { return known.keyring.clone() };
        // A Secret that is mounted is a file in memory: to read it costs less than to watch it.
        if let Ok(text) = fs::read_to_string(path)
            && text != known.text
        {
            match Keyring::parse(&text) {
                Ok(keyring) => {
                    let key = keyring.encrypts_with().unwrap_or("none");
                    tracing::info!(parent: None, key, "the keyring has changed; records of logins are encrypted with this key from now on");
                    known.keyring = Arc::new(keyring);
                }
                Err(error) => tracing::error!(
                    parent: None,
                    "--state-keyring {}: {error}; the keys before stay in use, and an operator that starts now does not",
                    path.display()
                ),
            }
            known.text = text;
        }
        known.keyring.clone()
    }

    /// How one record is to be written.
    pub fn sealing(&self) -> Sealing {
        Sealing { keyring: self.current(), randomness: entropy::bytes() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;

    fn text(name: &str) -> String {
        format!("keys:\n- name: {name}\n  secret: {}\n", base64::engine::general_purpose::STANDARD.encode([7; 32]))
    }

    #[test]
    fn a_file_that_changes_is_read_again_and_a_broken_one_changes_nothing() {
        let path = std::env::temp_dir().join(format!("oauth-operator-keyring-{}", std::process::id()));
        assert!(KeyringFile::open(Some(path.clone())).is_err(), "there is none");
        fs::write(&path, text("one")).unwrap();
        let file = KeyringFile::open(Some(path.clone())).unwrap();
        assert_eq!(file.current().encrypts_with(), Some("one"));
        fs::write(&path, text("two")).unwrap();
        assert_eq!(file.current().encrypts_with(), Some("two"));
        fs::write(&path, "keys: [").unwrap();
        assert_eq!(file.current().encrypts_with(), Some("two"));
        assert!(KeyringFile::open(Some(path.clone())).is_err(), "a new process must not write without keys");
        fs::remove_file(&path).unwrap();
        assert_eq!(file.current().encrypts_with(), Some("two"));
        fs::write(&path, text("three")).unwrap();
        assert_eq!(file.sealing().keyring.encrypts_with(), Some("three"));
        fs::remove_file(&path).unwrap();
        assert_ne!(file.sealing().randomness, file.sealing().randomness);
    }

    #[test]
    fn without_a_file_records_are_plain() {
        assert_eq!(KeyringFile::open(None).unwrap().current().encrypts_with(), None);
    }
}
