//! The results as docs/performance.md has them: what is proportional to the machine's speed as ratios only.

use crate::case::CASES;
use crate::goals::Goals;
use crate::subject::Kind;
use std::fmt::Write;

/// Two tables.
pub fn tables(goals: &Goals<'_>) -> String {
    let mut text = String::new();
    let header: String = goals.others.iter().map(|kind| format!(" {} |", kind.name())).collect();
    let rule = "---: | ".repeat(goals.others.len() + 1);
    let _ = writeln!(text, "Processor time per request, ours ÷ theirs:\n\n| |{header} goal |\n| --- | {}", rule.trim_end());
    for (case, rounds) in CASES.iter().zip(&goals.scores.costs) {
        let processor = |kind: Kind| rounds.median(Some(kind), |cost| cost.processor);
        let Some(ours) = processor(goals.ours) else { continue };
        let ratios: String = goals.others.iter().map(|kind| cell(processor(*kind).map(|theirs| ours / theirs), 2)).collect();
        let goal = case.goal.and_then(|goal| {
            let judge = goals.reference(goal.against, &processor)?;
            let met = if ours <= goal.times * processor(judge)? { "met" } else { "missed" };
            Some(format!("≤ {:.1} × {}: {met}", goal.times, judge.name()))
        });
        let _ = writeln!(text, "| {} |{ratios} {} |", case.name, goal.unwrap_or_default());
    }
    let subjects: Vec<Kind> = std::iter::once(goals.ours).chain(goals.others.iter().copied()).collect();
    let header: String = subjects.iter().map(|kind| format!(" {} |", kind.name())).collect();
    let _ = writeln!(
        text,
        "\nLatency that is added, and memory:\n\n| |{header}\n| --- | {}",
        "---: | ".repeat(subjects.len()).trim_end()
    );
    let scores = goals.scores;
    let mut row = |name: &str, figure: &dyn Fn(Kind) -> Option<f64>| {
        let cells: String = subjects.iter().map(|kind| cell(figure(*kind), 0)).collect();
        let _ = writeln!(text, "| {name} |{cells}");
    };
    row("half load, p50, µs", &|kind| scores.latency.median_added(kind, |latency| latency.p50));
    row("half load, p99, µs", &|kind| scores.latency.median_added(kind, |latency| latency.p99));
    row("1,000 streams, an event's p50, µs", &|kind| scores.held.median_added(kind, |held| held.latency.p50));
    row("idle, MiB", &|kind| Some(scores.idle.get(&kind)?.resident));
    row("1,000 streams, MiB", &|kind| scores.held.median(Some(kind), |held| held.memory.resident));
    row("peak, MiB", &|kind| Some(scores.after.get(&kind)?.peak));
    row("after all, MiB", &|kind| Some(scores.after.get(&kind)?.resident));
    text
}

fn cell(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| " |".to_owned(), |value| format!(" {value:.digits$} |"))
}
