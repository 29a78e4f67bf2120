//! The journal of replies: what a token endpoint answered, sealed, in a folder that outlives the process (in a Pod a
//! memory-backed emptyDir). Without a folder nothing is kept.

use super::entropy;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use std::fs;
use std::io::{Error, ErrorKind, Result, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// The journal.
pub struct Journal {
    folder: Option<PathBuf>,
}

impl Journal {
    /// In this folder, which is made where it is missing; files in it are for us alone.
    ///
    /// # Errors
    /// Where the folder cannot be made or written to.
    pub fn open(folder: Option<PathBuf>) -> Result<Self> {
        if let Some(folder) = &folder {
            fs::create_dir_all(folder)?;
            let trial = folder.join(".trial");
            fs::write(&trial, b"")?;
            fs::remove_file(trial)?;
        }
        Ok(Self { folder })
    }

    /// Seals an entry with a key of 64 hex digits. It is there whole or not at all.
    ///
    /// # Errors
    /// Where the file cannot be written, or key or id are none of ours.
    pub fn write(&self, id: &str, key: &str, entry: &[u8]) -> Result<()> {
        let Some(path) = self.path(id)? else { return Ok(()) };
        let nonce: [u8; NONCE_LEN] = entropy::bytes();
        let mut sealed = entry.to_vec();
        let bound = Aad::from(id.as_bytes());
        cipher(key)?
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), bound, &mut sealed)
            .map_err(|_| Error::other("the entry could not be sealed"))?;
        let unfinished = path.with_extension("unfinished");
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        file.write_all(&nonce)?;
        file.write_all(&sealed)?;
        drop(file);
        fs::rename(unfinished, path)
    }

    /// Opens an entry; `None` where there is none, or none that this key opens.
    pub fn read(&self, id: &str, key: &str) -> Option<Vec<u8>> {
        let mut file = fs::read(self.path(id).ok()??).ok()?;
        if file.len() < NONCE_LEN {
            return None;
        }
        let mut sealed = file.split_off(NONCE_LEN);
        let nonce = Nonce::try_assume_unique_for_key(&file).ok()?;
        cipher(key).ok()?.open_in_place(nonce, Aad::from(id.as_bytes()), &mut sealed).ok().map(|entry| entry.to_vec())
    }

    /// Ids of all entries.
    pub fn entries(&self) -> Vec<String> {
        let files = self.folder.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
        files.filter_map(|file| file.file_name().into_string().ok()).filter(|name| is_id(name)).collect()
    }

    /// Removes an entry, if there is one.
    pub fn remove(&self, id: &str) {
        if let Ok(Some(path)) = self.path(id) {
            // One that stays is of no use to anybody: its key goes with the intent.
            let _ = fs::remove_file(path);
        }
    }

    fn path(&self, id: &str) -> Result<Option<PathBuf>> {
        match &self.folder {
            Some(_) if !is_id(id) => Err(Error::new(ErrorKind::InvalidInput, "an intent's id has hex digits only")),
            folder => Ok(folder.as_ref().map(|folder| folder.join(id))),
        }
    }
}

fn is_id(text: &str) -> bool {
    !text.is_empty() && text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn cipher(key: &str) -> Result<LessSafeKey> {
    let invalid = || Error::new(ErrorKind::InvalidInput, "a journal key has 64 hex digits");
    let digit = |at: usize| key.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let bytes: Option<Vec<u8>> = (0..key.len()).step_by(2).map(digit).collect();
    let key = UnboundKey::new(&AES_256_GCM, &bytes.ok_or_else(invalid)?).map_err(|_| invalid())?;
    Ok(LessSafeKey::new(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal(name: &str) -> (Journal, PathBuf) {
        let folder = std::env::temp_dir().join(format!("oauth-operator-journal-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        (Journal::open(Some(folder.clone())).unwrap(), folder)
    }

    #[test]
    fn an_entry_is_opened_by_its_key_and_id_alone() {
        let (journal, folder) = journal("key");
        let (key, other) = ("ab".repeat(32), "cd".repeat(32));
        journal.write("a1", &key, b"the reply").unwrap();
        assert_eq!(journal.read("a1", &key).as_deref(), Some(&b"the reply"[..]));
        assert_eq!(journal.read("a1", &other), None);
        assert_eq!(journal.read("b2", &key), None);
        assert_eq!(journal.entries(), ["a1"]);
        fs::rename(folder.join("a1"), folder.join("b2")).unwrap();
        assert_eq!(journal.read("b2", &key), None, "an entry under another id is none");
        let stored = fs::read(folder.join("b2")).unwrap();
        assert!(!stored.windows(5).any(|window| window == b"reply"));
        journal.remove("b2");
        assert!(fs::read_dir(&folder).unwrap().next().is_none() && journal.entries().is_empty());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn an_id_does_not_lead_out_of_the_folder() {
        let (journal, folder) = journal("id");
        for id in ["", "../a", "a/b", ".", "x"] {
            assert!(journal.write(id, &"ab".repeat(32), b"x").is_err(), "{id}");
            assert_eq!(journal.read(id, &"ab".repeat(32)), None);
        }
        assert!(journal.write("a1", "short", b"x").is_err());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn without_a_folder_nothing_is_kept() {
        let journal = Journal::open(None).unwrap();
        journal.write("a1", &"ab".repeat(32), b"x").unwrap();
        assert_eq!(journal.read("a1", &"ab".repeat(32)), None);
    }
}
