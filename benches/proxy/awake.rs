//! Keeps the two cores awake while latency is measured.
//!
//! A core without work is halted, and to wake it takes a hypervisor up to 100 µs: several times what any of the subjects adds,
//! four times for each request that goes through one, and a fact of the machine. So that the subjects are measured and not the
//! hypervisor, the generator polls and never sleeps, and the subject's core has a loop of the kernel's idle class
//! (`SCHED_IDLE`), which yields to everything else at once.

use crate::machine::Cores;
use crate::testbed::Result;
use crate::testbed::process::{Process, folder};
use std::path::Path;
use tokio::task::JoinHandle;

/// The hidden argument with which this program is that loop.
const ARGUMENT: &str = "--stay-awake";

/// Lives as long as this.
pub struct Awake {
    _subject: Process,
    generator: JoinHandle<()>,
}

impl Awake {
    pub fn start(cores: Cores) -> Result<Self> {
        let (program, core) = (std::env::current_exe()?.display().to_string(), cores.subject.to_string());
        let arguments = ["--idle", "0", "taskset", "--cpu-list", &core, &program, ARGUMENT].map(str::to_owned);
        let subject = Process::start("idle", &folder("awake")?, Path::new("chrt"), &arguments, &[])?;
        let generator = tokio::spawn(async {
            loop {
                tokio::task::yield_now().await;
            }
        });
        Ok(Self { _subject: subject, generator })
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        self.generator.abort();
    }
}

/// Works at nothing until it is ended. A pause instruction would let the hypervisor take the core.
pub fn stay() -> ! {
    let mut rounds = 0_u64;
    loop {
        rounds = std::hint::black_box(rounds.wrapping_add(1));
    }
}
