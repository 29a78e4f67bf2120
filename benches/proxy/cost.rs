//! What a process and its children cost, by /proc.

use crate::testbed::Result;
use std::path::PathBuf;

/// A process that is measured, with all its children.
#[derive(Clone, Copy)]
pub struct Meter {
    pid: u32,
}

/// MiB.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Now.
    pub resident: f64,
    /// The most so far.
    pub peak: f64,
}

impl Meter {
    pub fn new(pid: u32) -> Self {
        Self { pid }
    }

    /// Seconds of processor time so far, user and system. The kernel tells it in hundredths.
    pub fn processor(self) -> Result<f64> {
        let mut ticks = 0.0;
        for pid in self.family() {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
            let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
            for field in [11, 12] {
                ticks += fields.get(field).ok_or("a short /proc/<pid>/stat")?.parse::<f64>()?;
            }
        }
        Ok(ticks / 100.0)
    }

    pub fn memory(self) -> Result<Memory> {
        let mut memory = Memory::default();
        for pid in self.family() {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
            memory.resident += line(&status, "VmRSS:")?;
            memory.peak += line(&status, "VmHWM:")?;
        }
        Ok(memory)
    }

    /// It and its children and theirs.
    fn family(self) -> Vec<u32> {
        let mut family = vec![self.pid];
        let mut next = 0;
        while let Some(pid) = family.get(next).copied() {
            let tasks = std::fs::read_dir(PathBuf::from(format!("/proc/{pid}/task"))).into_iter().flatten().flatten();
            for task in tasks {
                let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
                family.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
            }
            next += 1;
        }
        family
    }
}

/// A line of /proc/<pid>/status in MiB.
fn line(status: &str, name: &str) -> Result<f64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name)).ok_or_else(|| format!("no {name}"))?;
    Ok(value.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}
