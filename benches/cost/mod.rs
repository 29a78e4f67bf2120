//! What the kernel knows that a process has used.

use crate::testbed::Result;
use crate::testbed::process::Process;
use std::path::Path;

/// A line of /proc/<pid>/status in MiB.
pub fn memory(process: &Process, line: &str) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id()))?;
    let value = status.lines().find_map(|text| text.strip_prefix(line)).ok_or("no such line")?;
    let kibibytes: f64 = value.trim_matches([':', '\t', ' ']).trim_end_matches(" kB").trim().parse()?;
    Ok(kibibytes / 1024.0)
}

/// Seconds of processor time so far.
pub fn processor(process: &Process) -> Result<f64> {
    let stat = std::fs::read_to_string(Path::new("/proc").join(process.id().to_string()).join("stat"))?;
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    // utime and stime, in ticks of which Linux has 100 a second.
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0)
}
