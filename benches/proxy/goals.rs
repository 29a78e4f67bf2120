//! The figures of a run, with the goals of docs/performance.md.

use crate::case::{Against, CASES, Case};
use crate::figures::Figure;
use crate::measure::{Cost, STREAMS};
use crate::scores::{Rounds, Scores};
use crate::subject::Kind;

/// Microseconds that may be added at half load.
const ADDED: [(&str, f64); 2] = [("p50", 60.0), ("p99", 300.0)];
/// MiB.
const IDLE: f64 = 10.0;
/// MiB, with a thousand streams open.
const HOLDING: f64 = 30.0;

/// A run, seen from one subject.
pub struct Goals<'a> {
    pub scores: &'a Scores,
    pub ours: Kind,
    /// The others that ran.
    pub others: &'a [Kind],
}

impl Goals<'_> {
    /// All of them, and what fails the run.
    pub fn figures(&self) -> (Vec<Figure>, Vec<String>) {
        let (mut figures, mut failures) = (vec![], vec![]);
        for (case, rounds) in CASES.iter().zip(&self.scores.costs) {
            self.costs(case, rounds, &mut figures, &mut failures);
        }
        let others = [self.latency(), self.streams(), self.memory()];
        for figure in others.into_iter().flatten() {
            if figure.missed() {
                failures.push(format!("{}: {:.1} {}", figure.name, figure.ours, figure.unit));
            }
            figures.push(figure);
        }
        (figures, failures)
    }

    fn costs(&self, case: &Case, rounds: &Rounds<Cost>, figures: &mut Vec<Figure>, failures: &mut Vec<String>) {
        let processor = |kind: Kind| rounds.median(Some(kind), |cost| cost.processor);
        let Some(ours) = processor(self.ours) else { return };
        let judge = case.goal.and_then(|goal| Some((self.reference(goal.against, &processor)?, goal)));
        for other in self.others {
            let Some(theirs) = processor(*other) else { continue };
            let (name, unit, reference) = (format!("{}: processor time", case.name), "µs/request", (theirs, other.name()));
            figures.push(match judge {
                Some((judge, goal)) if judge == *other => {
                    if ours > goal.failure * theirs {
                        failures.push(format!("{name}: {:.2} of {}'s, goal {:.2}", ours / theirs, other.name(), goal.times));
                    }
                    Figure::at_most_times(name, unit, ours, reference, goal.times)
                }
                _ => Figure::beside(name, unit, ours, reference),
            });
        }
        let rate = |kind: Kind| rounds.median(Some(kind), |cost| cost.rate);
        for other in self.others {
            if let (Some(ours), Some(theirs)) = (rate(self.ours), rate(*other)) {
                figures.push(Figure::beside(format!("{}: rate", case.name), "requests/s", ours, (theirs, other.name())));
            }
        }
    }

    /// The subject that a goal is measured by.
    pub fn reference(&self, against: Against, figure: &impl Fn(Kind) -> Option<f64>) -> Option<Kind> {
        let candidates = match against {
            Against::Nginx => vec![Kind::Nginx],
            Against::TunedNginx => vec![Kind::NginxTuned],
            Against::BestNginx => vec![Kind::Nginx, Kind::NginxTuned],
        };
        let known = candidates.into_iter().filter(|kind| self.others.contains(kind));
        let known = known.filter_map(|kind| Some((kind, figure(kind)?)));
        known.min_by(|(_, one), (_, other)| one.total_cmp(other)).map(|(kind, _)| kind)
    }

    fn latency(&self) -> Vec<Figure> {
        let mut figures = vec![];
        for ((share, goal), p99) in ADDED.into_iter().zip([false, true]) {
            let added =
                |kind: Kind| self.scores.latency.median_added(kind, |latency| if p99 { latency.p99 } else { latency.p50 });
            let name = format!("half load: added latency, {share}");
            let Some(ours) = added(self.ours) else { continue };
            figures.push(Figure::at_most(name.clone(), "µs", ours, goal));
            figures.extend(self.beside(&name, "µs", ours, added));
        }
        figures
    }

    fn streams(&self) -> Vec<Figure> {
        let held = &self.scores.held;
        let mut figures = vec![];
        if let Some(ours) = held.median(Some(self.ours), |held| held.memory.resident) {
            let name = format!("{STREAMS} streams: resident memory");
            figures.push(Figure::at_most(name.clone(), "MiB", ours, HOLDING));
            figures.extend(self.beside(&name, "MiB", ours, |kind| held.median(Some(kind), |held| held.memory.resident)));
        }
        if let Some(ours) = held.median(Some(self.ours), |held| held.processor) {
            let name = format!("{STREAMS} streams: processor time");
            figures.extend(self.beside(&name, "µs/event", ours, |kind| held.median(Some(kind), |held| held.processor)));
        }
        if let Some(ours) = held.median_added(self.ours, |held| held.latency.p50) {
            let name = format!("{STREAMS} streams: added latency, p50");
            figures.extend(self.beside(&name, "µs", ours, |kind| held.median_added(kind, |held| held.latency.p50)));
        }
        figures
    }

    fn memory(&self) -> Vec<Figure> {
        let mut figures = vec![];
        if let Some(idle) = self.scores.idle.get(&self.ours) {
            figures.push(Figure::at_most("idle: resident memory".into(), "MiB", idle.resident, IDLE));
        }
        if let Some(after) = self.scores.after.get(&self.ours) {
            let theirs = |kind: &Kind| self.scores.after.get(kind).copied();
            figures.extend(self.beside("peak memory", "MiB", after.peak, |kind| Some(theirs(&kind)?.peak)));
            figures
                .extend(self.beside("after all: resident memory", "MiB", after.resident, |kind| Some(theirs(&kind)?.resident)));
        }
        figures
    }

    /// One figure beside that of each other subject.
    fn beside(&self, name: &str, unit: &'static str, ours: f64, theirs: impl Fn(Kind) -> Option<f64>) -> Vec<Figure> {
        let others = self.others.iter().filter_map(|kind| Some((theirs(*kind)?, kind.name())));
        others.map(|reference| Figure::beside(name.to_owned(), unit, ours, reference)).collect()
    }
}
