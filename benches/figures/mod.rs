//! The figures of a benchmark: a table for people, and a file for whoever keeps track.
#![allow(dead_code, reason = "each benchmark uses its part")]

use serde_json::{Value, json};
use std::error::Error;
use std::path::Path;

/// One line of the table.
pub struct Figure {
    pub name: String,
    pub unit: &'static str,
    pub ours: f64,
    pub reference: Option<(f64, &'static str)>,
    /// In the same unit, and whether it is met.
    pub goal: Option<(f64, bool)>,
}

impl Figure {
    /// A figure that must be at most `goal`.
    pub fn at_most(name: String, unit: &'static str, ours: f64, goal: f64) -> Self {
        Self { name, unit, ours, reference: None, goal: Some((goal, ours <= goal)) }
    }

    /// A figure that must be at most `limit` times the reference.
    pub fn at_most_times(name: String, unit: &'static str, ours: f64, reference: (f64, &'static str), limit: f64) -> Self {
        let goal = limit * reference.0;
        Self { name, unit, ours, reference: Some(reference), goal: Some((goal, ours <= goal)) }
    }

    /// A figure beside another, without a goal.
    pub fn beside(name: String, unit: &'static str, ours: f64, reference: (f64, &'static str)) -> Self {
        Self { name, unit, ours, reference: Some(reference), goal: None }
    }

    /// A figure of its own, without a goal.
    pub fn alone(name: String, unit: &'static str, ours: f64) -> Self {
        Self { name, unit, ours, reference: None, goal: None }
    }

    pub fn missed(&self) -> bool {
        self.goal.is_some_and(|(_, met)| !met)
    }

    fn to_json(&self) -> Value {
        let reference = self.reference;
        json!({
            "name": self.name, "unit": self.unit, "ours": self.ours,
            "reference": reference.map(|(value, _)| value), "referenceName": reference.map(|(_, name)| name),
            "ratio": reference.map(|(value, _)| self.ours / value),
            "goal": self.goal.map(|(goal, _)| goal), "met": self.goal.map(|(_, met)| met),
        })
    }
}

/// Writes `<name>.json` to a folder, which is made where it is not there.
pub fn store(figures: &[Figure], folder: &Path, name: &str) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let all: Vec<Value> = figures.iter().map(Figure::to_json).collect();
    std::fs::write(folder.join(format!("{name}.json")), format!("{:#}", Value::from(all)))
}

/// The table.
pub fn print(figures: &[Figure]) {
    println!("{:<52} {:>10} {:<12} {:>10} {:>7} {:>8}          reference is", "", "ours", "", "reference", "ratio", "goal");
    for figure in figures {
        let reference = figure.reference.map(|(value, _)| format!("{value:.1}")).unwrap_or_default();
        let ratio = figure.reference.map(|(value, _)| format!("{:.2}", figure.ours / value)).unwrap_or_default();
        let goal =
            figure.goal.map(|(goal, met)| format!("{goal:>8.1}  {}", if met { "met" } else { "MISSED" })).unwrap_or_default();
        let beside = figure.reference.map(|(_, name)| name).unwrap_or_default();
        println!("{:<52} {:>10.2} {:<12} {reference:>10} {ratio:>7} {goal:<17} {beside}", figure.name, figure.ours, figure.unit);
    }
}

/// The end of a benchmark: the table, its file, and an error where a goal is missed.
pub fn conclude(figures: &[Figure], folder: &Path, name: &str) -> Result<(), Box<dyn Error + Send + Sync>> {
    print(figures);
    store(figures, folder, name)?;
    match figures.iter().filter(|figure| figure.missed()).count() {
        0 => Ok(()),
        missed => Err(format!("{missed} goals are not met").into()),
    }
}
