//! What all rounds together say: medians, by subject.

use crate::cost::Memory;
use crate::load::report::Latency;
use crate::measure::{Cost, Held};
use crate::subject::Kind;
use std::collections::BTreeMap;

/// The results of the rounds of one measure, by subject. Direct requests, without any proxy, are `None`.
pub struct Rounds<T>(BTreeMap<Option<Kind>, Vec<T>>);

impl<T> Default for Rounds<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> Rounds<T> {
    pub fn add(&mut self, subject: Option<Kind>, result: T) {
        self.0.entry(subject).or_default().push(result);
    }

    /// The median of one figure of these results.
    pub fn median(&self, subject: Option<Kind>, figure: impl Fn(&T) -> f64) -> Option<f64> {
        let mut values: Vec<f64> = self.0.get(&subject)?.iter().map(figure).collect();
        median(&mut values)
    }

    /// The median of what a subject adds to the direct figure of the same round.
    pub fn median_added(&self, subject: Kind, figure: impl Fn(&T) -> f64) -> Option<f64> {
        let (through, direct) = (self.0.get(&Some(subject))?, self.0.get(&None)?);
        let mut values: Vec<f64> = through.iter().zip(direct).map(|(through, direct)| figure(through) - figure(direct)).collect();
        median(&mut values)
    }
}

fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.get(values.len().checked_sub(1)? / 2)?, values.get(values.len() / 2)?);
    Some(f64::midpoint(*low, *high))
}

/// A run of the benchmark.
#[derive(Default)]
pub struct Scores {
    /// In the order of `case::CASES`.
    pub costs: Vec<Rounds<Cost>>,
    pub latency: Rounds<Latency>,
    pub held: Rounds<Held>,
    /// Some seconds after the start, and some requests.
    pub idle: BTreeMap<Kind, Memory>,
    /// After all.
    pub after: BTreeMap<Kind, Memory>,
}
