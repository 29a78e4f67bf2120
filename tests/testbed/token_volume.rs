//! A token Secret as the kubelet mounts it: files behind a link that is swapped.

use super::Result;
use super::process::folder;
use jiff::Timestamp;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The folder that an app sees.
#[derive(Clone)]
pub struct TokenVolume {
    folder: PathBuf,
    /// Hosts that may have the token, one a line; empty: all.
    pub allowed_hosts: String,
}

impl TokenVolume {
    /// A folder without a token; its last segment is the account's name.
    pub fn empty(story: &str, account: &str) -> Result<Self> {
        Ok(Self { folder: folder(&format!("{story}/{account}"))?, allowed_hosts: String::new() })
    }

    /// One with a token for an hour.
    pub fn with(story: &str, account: &str, token: &str) -> Result<Self> {
        let volume = Self::empty(story, account)?;
        volume.publish(token)?;
        Ok(volume)
    }

    /// Its path, as flags and routes name it.
    pub fn path(&self) -> String {
        self.folder.display().to_string()
    }

    /// Puts a token there that lives for an hour.
    pub fn publish(&self, token: &str) -> Result<()> {
        self.publish_for(token, Duration::from_secs(3600))
    }

    /// Puts a token there, all files at once, as the kubelet's atomic writer does.
    pub fn publish_for(&self, token: &str, lifetime: Duration) -> Result<()> {
        let earlier = std::fs::read_dir(&self.folder)?.flatten();
        let generation = 1 + earlier.filter(|entry| entry.file_name().to_string_lossy().starts_with("..20")).count();
        let version = format!("..2026_01_01_00_00_00.{generation:09}");
        std::fs::create_dir(self.folder.join(&version))?;
        let expires_at = Timestamp::now() + lifetime;
        let files = [
            ("access_token", token.to_owned()),
            ("token_type", "Bearer".to_owned()),
            ("expires_at", expires_at.to_string()),
            ("generation", generation.to_string()),
            ("allowed_hosts", self.allowed_hosts.clone()),
        ];
        let names = files.each_ref().map(|(name, _)| *name);
        for (name, content) in files {
            std::fs::write(self.folder.join(&version).join(name), content)?;
        }
        symlink(&version, self.folder.join("..data_tmp"))?;
        std::fs::rename(self.folder.join("..data_tmp"), self.folder.join("..data"))?;
        for name in names {
            let seen = self.folder.join(name);
            if !seen.is_symlink() {
                symlink(Path::new("..data").join(name), seen)?;
            }
        }
        Ok(())
    }
}
