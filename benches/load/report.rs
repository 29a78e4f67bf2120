//! What a load has come to.

use super::failure::Failure;
use super::tally::Tally;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// The result of one load. Latencies are in microseconds.
#[derive(Clone, Debug)]
pub struct Report {
    /// Requests or events that count: answered well, past the warm-up.
    pub counted: u64,
    /// What they were counted over.
    pub seconds: f64,
    /// Of the bodies of what counts.
    pub bytes: u64,
    /// Absent where nothing had a latency: events without a stamp.
    pub latency: Option<Latency>,
    pub failures: BTreeMap<Failure, u64>,
    /// Events without a number.
    pub unnumbered: u64,
}

/// Microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Latency {
    pub min: f64,
    pub mean: f64,
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    pub max: f64,
}

impl Latency {
    /// Of what was never answered.
    pub const INFINITE: Self = Self {
        min: f64::INFINITY,
        mean: f64::INFINITY,
        p50: f64::INFINITY,
        p95: f64::INFINITY,
        p99: f64::INFINITY,
        max: f64::INFINITY,
    };
}

impl Report {
    pub fn of(tally: &Tally, over: Duration) -> Self {
        let kept = tally.kept();
        #[expect(clippy::cast_precision_loss, reason = "nanoseconds of a latency are few")]
        let quantile = |share: f64| kept.latencies.value_at_quantile(share) as f64 / 1000.0;
        #[expect(clippy::cast_precision_loss, reason = "nanoseconds of a latency are few")]
        let latency = (!kept.latencies.is_empty()).then(|| Latency {
            min: kept.latencies.min() as f64 / 1000.0,
            mean: kept.latencies.mean() / 1000.0,
            p50: quantile(0.5),
            p95: quantile(0.95),
            p99: quantile(0.99),
            max: kept.latencies.max() as f64 / 1000.0,
        });
        Self {
            counted: kept.counted,
            seconds: over.as_secs_f64(),
            bytes: kept.bytes,
            latency,
            failures: kept.failures.clone(),
            unnumbered: kept.unnumbered,
        }
    }

    /// Requests or events per second.
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    pub fn rate(&self) -> f64 {
        self.counted as f64 / self.seconds
    }

    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    pub fn to_json(&self) -> Value {
        let failures: BTreeMap<String, u64> = self.failures.iter().map(|(kind, count)| (kind.to_string(), *count)).collect();
        json!({
            "counted": self.counted, "seconds": self.seconds, "perSecond": self.rate(), "bytes": self.bytes,
            "latencyMicroseconds": self.latency.map(|latency| json!({
                "min": latency.min, "mean": latency.mean, "p50": latency.p50, "p95": latency.p95, "p99": latency.p99, "max": latency.max,
            })),
            "errors": failures, "unnumberedEvents": self.unnumbered,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        let throughput = self.bytes as f64 / self.seconds / 1_048_576.0;
        writeln!(to, "counted    {} in {:.1} s", self.counted, self.seconds)?;
        writeln!(to, "per second {:.1} ({throughput:.1} MiB/s of bodies received)", self.rate())?;
        match self.latency {
            None => writeln!(to, "latency    unknown: nothing came, or events without a stamp")?,
            Some(latency) => {
                let Latency { min, mean, p50, p95, p99, max } = latency;
                writeln!(
                    to,
                    "latency    min {min:.1}  mean {mean:.1}  p50 {p50:.1}  p95 {p95:.1}  p99 {p99:.1}  max {max:.1} µs"
                )?;
            }
        }
        if self.unnumbered > 0 {
            writeln!(to, "unchecked  {} events have no number", self.unnumbered)?;
        }
        write!(to, "errors     {}", self.failed())?;
        for (kind, count) in &self.failures {
            write!(to, "\n           {kind}: {count}")?;
        }
        Ok(())
    }
}
