//! The access tokens of the benchmark: what the accounts' folders hold, changed as the kubelet changes a mounted Secret, and
//! what the upstream takes.

use crate::testbed::Result;
use std::collections::HashMap;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often every account gets another token.
const EVERY: Duration = Duration::from_secs(1);
/// Hexadecimal digits of a token's random part: a token is as long as many providers' opaque ones.
const DIGITS: usize = 96;

/// Every token that was ever published, and how often the upstream was shown it.
#[derive(Default)]
pub struct Known {
    /// By the whole value of the Authorization header.
    shown: RwLock<HashMap<String, (String, AtomicU64)>>,
}

impl Known {
    fn publish(&self, account: &str, token: &str) {
        let mut shown = self.shown.write().unwrap_or_else(PoisonError::into_inner);
        shown.insert(format!("Bearer {token}"), (account.to_owned(), AtomicU64::new(0)));
    }

    /// Whether this is the header of a published token; counts it.
    pub fn takes(&self, header: &[u8]) -> bool {
        let shown = self.shown.read().unwrap_or_else(PoisonError::into_inner);
        let token = std::str::from_utf8(header).ok().and_then(|header| shown.get(header));
        token.map(|(_, times)| times.fetch_add(1, Ordering::Relaxed)).is_some()
    }

    /// How many different tokens of this account the upstream was shown.
    pub fn shown(&self, account: &str) -> usize {
        let shown = self.shown.read().unwrap_or_else(PoisonError::into_inner);
        shown.values().filter(|(of, times)| of == account && times.load(Ordering::Relaxed) > 0).count()
    }
}

/// A new token of this account, known from now on.
pub fn publish(known: &Known, account: &str) -> Result<String> {
    let mut random = [0; DIGITS / 2];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut random).map_err(|_| "no randomness")?;
    let token: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    known.publish(account, &token);
    Ok(token)
}

/// Accounts whose tokens change while this lives.
pub struct Accounts {
    /// One for each account, named like it.
    pub folders: Vec<PathBuf>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Accounts {
    /// Makes the folders, and changes them from a thread of its own.
    pub fn start(names: &[&str], within: &Path, known: &Arc<Known>) -> Result<Self> {
        let folders: Vec<PathBuf> = names.iter().map(|name| within.join(name)).collect();
        let mut mounts: Vec<Mount> = folders.iter().map(|folder| Mount::new(folder)).collect::<Result<_>>()?;
        for mount in &mut mounts {
            mount.swap(known)?;
        }
        let (stop, known) = (Arc::new(AtomicBool::new(false)), known.clone());
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                std::thread::park_timeout(EVERY);
                for mount in &mut mounts {
                    if let Err(error) = mount.swap(&known) {
                        eprintln!("a token was not changed: {error}");
                    }
                }
            }
        });
        Ok(Self { folders, stop, thread: Some(thread) })
    }
}

impl Drop for Accounts {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

/// A token Secret as the kubelet mounts it: files that are links through `..data`, which is a link to the folder of one
/// version, and is replaced as a whole.
struct Mount {
    folder: PathBuf,
    account: String,
    generation: u64,
}

impl Mount {
    fn new(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        for file in ["access_token", "token_type", "expires_at", "generation", "allowed_hosts"] {
            symlink(Path::new("..data").join(file), folder.join(file))?;
        }
        let account = folder.file_name().ok_or("a folder without a name")?.to_string_lossy().into_owned();
        Ok(Self { folder: folder.to_owned(), account, generation: 0 })
    }

    fn swap(&mut self, known: &Known) -> Result<()> {
        let before = self.folder.join(format!("..{}", self.generation));
        self.generation += 1;
        let version = format!("..{}", self.generation);
        let files = self.folder.join(&version);
        std::fs::create_dir(&files)?;
        let expires = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
        std::fs::write(files.join("access_token"), publish(known, &self.account)?)?;
        std::fs::write(files.join("token_type"), "Bearer")?;
        std::fs::write(files.join("expires_at"), format!("{expires:.0}"))?;
        std::fs::write(files.join("generation"), self.generation.to_string())?;
        std::fs::write(files.join("allowed_hosts"), "")?;
        let next = self.folder.join("..data_tmp");
        symlink(&version, &next)?;
        std::fs::rename(&next, self.folder.join("..data"))?;
        if before.exists() {
            std::fs::remove_dir_all(before)?;
        }
        Ok(())
    }
}
