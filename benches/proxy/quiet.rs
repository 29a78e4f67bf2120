//! Whether anybody else was at work on the two cores: what was measured meanwhile is measured again.

use crate::cost::Meter;
use crate::machine::Cores;
use crate::testbed::Result;
use std::cell::Cell;
use std::time::{Duration, Instant};

/// The share of two cores that others may have: beyond it, figures are theirs too.
const TOLERATED: f64 = 0.03;
/// How often one thing is measured before a disturbed measure is taken for what it is.
const TRIES: usize = 5;

/// Keeps watch over the measures of a run.
pub struct Quiet {
    cores: Cores,
    tries: usize,
    disturbed: Cell<usize>,
}

impl Quiet {
    /// With `patient` false, a disturbed measure is not repeated.
    pub fn new(cores: Cores, patient: bool) -> Self {
        Self { cores, tries: if patient { TRIES } else { 1 }, disturbed: Cell::new(0) }
    }

    /// Measures until nobody disturbed it; the last try counts as it is.
    pub async fn measure<T>(&self, mut measure: impl AsyncFnMut() -> Result<T>) -> Result<T> {
        for attempt in 1.. {
            let before = self.foreign()?;
            let began = Instant::now();
            let result = measure().await?;
            let share = (self.foreign()? - before) / (2.0 * began.elapsed().as_secs_f64());
            if share <= TOLERATED {
                return Ok(result);
            }
            if attempt >= self.tries {
                self.disturbed.set(self.disturbed.get() + 1);
                return Ok(result);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Err("nothing was measured".into())
    }

    /// Measures that were disturbed in every try.
    pub fn disturbed(&self) -> usize {
        self.disturbed.get()
    }

    /// Seconds that the two cores have worked for others than us and our children, or were taken by the hypervisor.
    fn foreign(&self) -> Result<f64> {
        let stat = std::fs::read_to_string("/proc/stat")?;
        let mut ticks = 0.0;
        for core in [self.cores.subject, self.cores.generator] {
            let name = format!("cpu{core} ");
            let line = stat.lines().find_map(|line| line.strip_prefix(&name)).ok_or("no such core in /proc/stat")?;
            let fields: Vec<f64> = line.split(' ').map_while(|field| field.parse().ok()).collect();
            // user, nice, system, idle, iowait, irq, softirq, steal
            ticks += [0, 1, 2, 5, 6, 7].iter().filter_map(|field| fields.get(*field)).sum::<f64>();
        }
        Ok(ticks / 100.0 - Meter::new(std::process::id()).processor()?)
    }
}
