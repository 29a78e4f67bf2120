//! Tokens from mounted Secrets: the kubelet swaps the link `..data` when a Secret has changed.

use super::account::{Account, Reading};
use super::clock::now;
use super::credential::{Credential, KEYS, Unusable};
use crate::telemetry::proxy_metrics::ProxyMetrics;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// What the kubelet does in several steps is read once.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// What no event tells is seen at the latest then.
const ROUND: Duration = Duration::from_secs(15);
/// The same while an account has no token: its folder may not be there yet, so that nothing can be watched.
const ROUND_WITHOUT: Duration = Duration::from_secs(1);
/// Bytes of a Secret: what Kubernetes permits.
const LARGEST: u64 = 1024 * 1024;

/// Folders with the accounts whose tokens they hold.
pub type Folders = Vec<(PathBuf, Arc<Account>)>;

/// Reads the folders whenever one changes.
pub async fn run(mut folders: watch::Receiver<Folders>, metrics: ProxyMetrics) {
    let (wake, mut woken) = mpsc::channel(1);
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // That we read a file is no news.
        if !event.is_ok_and(|event| event.kind.is_access()) {
            // A full channel has a wake-up in it already.
            let _ = wake.try_send(());
        }
    });
    let mut watcher =
        watcher.inspect_err(|error| tracing::warn!(%error, "folders are not watched, but looked at every 15 s")).ok();
    loop {
        let current = folders.borrow_and_update().clone();
        if let Some(watcher) = &mut watcher {
            follow(watcher, &current);
        }
        for (folder, account) in &current {
            take(folder, account, &metrics);
        }
        let without = current.iter().any(|(_, account)| !account.is_usable(now()));
        tokio::select! {
            _ = woken.recv() => {
                tokio::time::sleep(DEBOUNCE).await;
                // What came meanwhile is read now.
                while woken.try_recv().is_ok() {}
            }
            changed = folders.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(if without { ROUND_WITHOUT } else { ROUND }) => {}
        }
    }
}

/// Watches all folders that are there. One that was made anew is another one: so each time again.
fn follow(watcher: &mut RecommendedWatcher, folders: &Folders) {
    for folder in folders.iter().map(|(folder, _)| folder).collect::<BTreeSet<_>>() {
        // One that is not there yet is tried again in the next round.
        let _ = watcher.watch(folder, RecursiveMode::NonRecursive);
    }
}

/// Reads one folder, and says what became of it.
pub fn take(folder: &Path, account: &Account, metrics: &ProxyMetrics) {
    let reading = account.read(read(folder), now());
    note(reading, account, metrics);
}

/// Says what became of a reading.
pub fn note(reading: Reading, account: &Account, metrics: &ProxyMetrics) {
    if reading == Reading::Same {
        return;
    }
    metrics.reloads.with_label_values(&[&account.name, reading.name()]).inc();
    let credential = account.credential();
    let fingerprint = credential.as_ref().map(|credential| credential.fingerprint());
    match reading {
        Reading::Refused => tracing::warn!(account = account.name, "token not taken: {}", account.problem(now())),
        Reading::Gone => tracing::warn!(account = account.name, "the token is gone from its Secret"),
        _ => tracing::info!(account = account.name, fingerprint, "token {}", reading.name()),
    }
}

/// Reads a token Secret's keys, all of one version.
fn read(folder: &Path) -> Result<Credential, Unusable> {
    // A swap in the middle is seen by the link, and what was read is read again.
    for _ in 0..3 {
        let data = folder.join("..data");
        let version = std::fs::canonicalize(&data).ok();
        let keys = keys(version.as_deref().unwrap_or(folder))?;
        if std::fs::canonicalize(&data).ok() == version {
            return Credential::read(&keys);
        }
    }
    Err(Unusable::Malformed("its folder changes faster than it can be read"))
}

fn keys(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>, Unusable> {
    let mut data = BTreeMap::new();
    for key in KEYS {
        let file = match std::fs::File::open(folder.join(key)) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                return Err(Unusable::Malformed(
                    "its files may not be read by this user; set fsGroup or defaultMode of the volume",
                ));
            }
            Err(_) => return Err(Unusable::Malformed("its files cannot be read")),
        };
        let mut bytes = vec![];
        let read = file.take(LARGEST + 1).read_to_end(&mut bytes);
        if read.is_err() || bytes.len() as u64 > LARGEST {
            return Err(Unusable::Malformed("its files cannot be read, or are too large for a Secret"));
        }
        data.insert(key.to_owned(), bytes);
    }
    Ok(data)
}
