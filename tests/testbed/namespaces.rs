//! A machine within this one, for what must be root's and changes the network: a program runs again in network, mount and process
//! namespaces of its own. The kernel ends, unmounts and removes what is in them when its first process ends, however it does.

use super::process::{FOLDER, folder};
use super::{Result, root};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

/// Address of the machine: of the network that is meant for documentation (RFC 5737), so that nobody else has it.
pub const ADDRESS: &str = "192.0.2.1";

/// Names its control group.
const GROUP: &str = "TESTBED_GROUP";

const GROUP_PREFIX: &str = "oauth-operator-testbed-";

/// Where the testbed's own servers listen: on loopback, and inside at an address that Pods reach too.
pub fn host() -> &'static str {
    if group().is_some() { ADDRESS } else { "127.0.0.1" }
}

/// The control group of this machine, as the kubelet names it; none outside of any.
pub fn group() -> Option<String> {
    std::env::var(GROUP).ok()
}

/// Runs this program again, inside, with these arguments, until it ends, its time is over or a signal asks us to end. Nothing of it is
/// left afterwards, or that is an error.
///
/// # Errors
/// Where it fails, does not end in time, leaves something behind, or where this machine may not have others within it.
pub async fn run(arguments: &[&str], limit: Duration) -> Result<()> {
    permitted()?;
    for owner in groups_of_the_dead()? {
        remove_groups(&owner)?;
    }
    let (folder, group) = (folder("machine")?, format!("{GROUP_PREFIX}{}", std::process::id()));
    for hierarchy in hierarchies()? {
        let group = hierarchy.join(&group);
        std::fs::create_dir_all(&group).map_err(|error| format!("control group {}: {error}", group.display()))?;
    }
    // `setpriv` and `--kill-child`: what is inside does not outlive us.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", "unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    command.arg(root().join("tests/node/enter.sh")).arg(&folder).arg(std::env::current_exe()?);
    command.args(arguments);
    command.env(FOLDER, &folder).env(GROUP, format!("/{group}"));
    let mut machine = command.spawn().map_err(|error| format!("setpriv (Debian's util-linux): {error}"))?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let ended = async {
        loop {
            if let Some(status) = machine.try_wait()? {
                return if status.success() { Ok(()) } else { Err(format!("it has failed inside ({status})").into()) };
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let ended: Result<()> = tokio::select! {
        ended = ended => ended,
        () = tokio::time::sleep(limit) => Err(format!("it has not ended within {limit:?}").into()),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Err("it was interrupted".into()),
    };
    let _ = machine.kill();
    machine.wait()?;
    ended.and(left_behind(&folder, &group))
}

/// Whether this process may do it, or what it lacks.
fn permitted() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Err("a node needs root, for network namespaces, mounts and control groups".into());
    }
    let tried = Command::new("unshare").args(["--net", "--mount", "--pid", "--fork", "--mount-proc", "true"]).output();
    let tried = tried.map_err(|error| format!("unshare (Debian's util-linux): {error}"))?;
    if !tried.status.success() {
        let said = String::from_utf8_lossy(&tried.stderr).into_owned();
        return Err(format!("this root may not make namespaces, as that of a container seldom may: {said}").into());
    }
    Ok(())
}

/// Removes control groups and folder, and looks for processes and mounts, of which there should be none.
fn left_behind(folder: &Path, group: &str) -> Result<()> {
    let names = folder.display().to_string();
    // Parts have inherited the name of the group, and Pods are in it.
    let ours = |process: &Path| {
        let says = |file: &str| {
            let contents = std::fs::read(process.join(file)).unwrap_or_default();
            String::from_utf8_lossy(&contents).contains(group)
        };
        says("environ") || says("cgroup")
    };
    let began = Instant::now();
    let mut alive = processes()?;
    // The kernel takes a moment to end what was in the namespace.
    loop {
        alive.retain(|process| ours(process));
        if alive.is_empty() || began.elapsed() > Duration::from_secs(20) {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    let mounts: Vec<&str> = mounts.lines().filter(|line| line.contains(&names)).collect();
    if !alive.is_empty() || !mounts.is_empty() {
        return Err(format!("left behind: processes {alive:?}, mounts {mounts:?}").into());
    }
    remove_groups(group)?;
    // Images and containers, which are hundreds of megabytes; the logs stay.
    for large in ["node/containerd", "node/images", "kubelet"] {
        let folder = folder.join(large);
        if folder.exists() {
            std::fs::remove_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        }
    }
    Ok(())
}

fn processes() -> Result<Vec<PathBuf>> {
    let own = std::process::id().to_string();
    let entries = std::fs::read_dir("/proc")?.flatten().filter(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        name.parse::<u32>().is_ok() && name != own
    });
    Ok(entries.map(|entry| entry.path()).collect())
}

/// Where control groups are mounted: one place, or with version 1 one for each controller, and often both.
fn hierarchies() -> Result<Vec<PathBuf>> {
    let mounts = std::fs::read_to_string("/proc/mounts")?;
    let mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let groups = mounts.filter(|fields| fields.get(2).is_some_and(|kind| *kind == "cgroup" || *kind == "cgroup2"));
    let found: Vec<PathBuf> = groups.map(|fields| PathBuf::from(fields[1])).collect();
    if found.is_empty() { Err("no control groups are mounted: the kubelet needs them".into()) } else { Ok(found) }
}

/// Control groups whose testbed is dead.
fn groups_of_the_dead() -> Result<Vec<String>> {
    let mut dead: Vec<String> = vec![];
    for hierarchy in hierarchies()? {
        for entry in std::fs::read_dir(hierarchy)?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let owner = name.strip_prefix(GROUP_PREFIX).map(|pid| Path::new("/proc").join(pid));
            if owner.is_some_and(|owner| !owner.exists()) && !dead.contains(&name) {
                dead.push(name);
            }
        }
    }
    Ok(dead)
}

/// Removes a control group with those in it, once their processes have ended.
fn remove_groups(name: &str) -> Result<()> {
    for hierarchy in hierarchies()? {
        let mut folders = vec![hierarchy.join(name)];
        let mut all = vec![];
        while let Some(folder) = folders.pop() {
            let inner = std::fs::read_dir(&folder).into_iter().flatten().flatten();
            folders.extend(inner.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()));
            all.push(folder);
        }
        for folder in all.iter().rev().filter(|folder| folder.exists()) {
            let began = Instant::now();
            while let Err(error) = std::fs::remove_dir(folder) {
                if began.elapsed() > Duration::from_secs(10) {
                    return Err(format!("control group {}: {error}", folder.display()).into());
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
    Ok(())
}
