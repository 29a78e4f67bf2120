//! The two cores: one for what is measured, one for what measures it.

use crate::testbed::Result;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::path::PathBuf;

/// Two cores of the machine.
#[derive(Clone, Copy, Debug)]
pub struct Cores {
    /// The subject's.
    pub subject: usize,
    /// The load generator's and the upstream's.
    pub generator: usize,
}

impl std::str::FromStr for Cores {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let numbers = text.split_once(',').and_then(|(subject, generator)| {
            Some(Self { subject: subject.trim().parse().ok()?, generator: generator.trim().parse().ok()? })
        });
        numbers.filter(|cores| cores.subject != cores.generator).ok_or_else(|| "two different numbers, as 0,1".into())
    }
}

impl Cores {
    /// Puts the calling thread, and all that it starts later, on the generator's core.
    pub fn take_generator(self) -> Result<()> {
        let mut set = CpuSet::new();
        set.set(self.generator);
        sched_setaffinity(None, &set).map_err(|error| format!("core {}: {error}", self.generator))?;
        Ok(())
    }

    /// Whether both are threads of one core: then each slows the other down, and ratios are still fair, latencies are not.
    pub fn are_siblings(self) -> bool {
        let list = format!("/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list", self.subject);
        let siblings = std::fs::read_to_string(PathBuf::from(list)).unwrap_or_default();
        siblings.trim().split(',').any(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (first.parse(), last.parse());
            first.is_ok_and(|first: usize| last.is_ok_and(|last| (first..=last).contains(&self.generator)))
        })
    }
}

/// A thousand streams are four thousand file descriptors: as many as the machine lets us have, for us and our children.
pub fn raise_file_limit() -> Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    Ok(())
}

/// Seconds of the last minute that were somebody's work: other work on these cores makes figures mean less.
pub fn load() -> f64 {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or_default()
}
