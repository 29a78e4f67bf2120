//! Which step waits for which.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

/// Names that an error lists at most, so that it fits into a condition.
const MOST_NAMES: usize = 12;
/// Letters that a name may be off to be taken for a slip of the pen.
const SLIP: usize = 2;

/// The steps of a workflow, numbered in definition order, and their dependencies: no circle among them, and none unknown.
///
/// Kahn's algorithm by hand: a graph crate has the order, but neither definition order among the ready nor a circle to name.
#[derive(Clone, Debug)]
pub struct Graph {
    steps: BTreeMap<String, usize>,
    dependencies: Vec<Vec<usize>>,
    dependents: Vec<Vec<usize>>,
    order: Vec<usize>,
}

/// Why steps are no graph; a sentence for the user who wrote them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// Two steps have this name.
    #[error("two steps are named `{0}`; each needs a name of its own")]
    Duplicate(String),
    /// A dependency that is no step.
    #[error("{}", unknown(step, dependency, names))]
    Unknown {
        /// The step that depends.
        step: String,
        /// What it depends on.
        dependency: String,
        /// The names there are, in definition order.
        names: Vec<String>,
    },
    /// A step that waits for itself would never start.
    #[error("step `{step}` depends on itself; take this dependency away")]
    Itself {
        /// Its name.
        step: String,
    },
    /// Each of these depends on the next, and the last on the first.
    #[error("the steps depend on each other in a circle: {} → {}; take one of these dependencies away", .0.join(" → "), .0[0])]
    Cycle(Vec<String>),
}

impl Graph {
    /// The graph of these steps, each a name and the names it depends on; to name a dependency twice is to name it once.
    ///
    /// # Errors
    /// The first in definition order of: a name given twice, a dependency that is unknown or the step itself, a circle.
    pub fn of<'a>(steps: impl IntoIterator<Item = (&'a str, &'a [String])>) -> Result<Self, GraphError> {
        let defined: Vec<(&str, &[String])> = steps.into_iter().collect();
        let mut steps = BTreeMap::new();
        for (index, (name, _)) in defined.iter().enumerate() {
            if steps.insert((*name).to_owned(), index).is_some() {
                return Err(GraphError::Duplicate((*name).to_owned()));
            }
        }
        let mut dependencies = vec![];
        let mut dependents = vec![vec![]; defined.len()];
        for (index, (name, named)) in defined.iter().enumerate() {
            let mut found =
                named.iter().map(|dependency| resolve(name, dependency, &steps, &defined)).collect::<Result<Vec<_>, _>>()?;
            found.sort_unstable();
            found.dedup();
            found.iter().for_each(|dependency| dependents[*dependency].push(index));
            dependencies.push(found);
        }
        match sort(&dependencies, &dependents) {
            Ok(order) => Ok(Self { steps, dependencies, dependents, order }),
            Err(circle) => Err(GraphError::Cycle(circle.into_iter().map(|index| defined[index].0.to_owned()).collect())),
        }
    }

    /// How many steps there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.dependencies.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.dependencies.is_empty()
    }

    /// The number of the step of this name.
    #[must_use]
    pub fn index(&self, name: &str) -> Option<usize> {
        self.steps.get(name).copied()
    }

    /// What this step names in `dependsOn`, each once, in definition order.
    #[must_use]
    pub fn dependencies(&self, step: usize) -> &[usize] {
        &self.dependencies[step]
    }

    /// The steps that name this one in `dependsOn`, in definition order.
    #[must_use]
    pub fn dependents(&self, step: usize) -> &[usize] {
        &self.dependents[step]
    }

    /// Every step after all that it depends on; in definition order where that leaves a choice.
    #[must_use]
    pub fn order(&self) -> &[usize] {
        &self.order
    }

    /// Whether this step waits for that one, be it by way of others. None waits for itself.
    #[must_use]
    pub fn descends_from(&self, step: usize, ancestor: usize) -> bool {
        step != ancestor && path(step, ancestor, &self.dependencies).is_some()
    }
}

fn resolve(
    step: &str,
    dependency: &str,
    steps: &BTreeMap<String, usize>,
    defined: &[(&str, &[String])],
) -> Result<usize, GraphError> {
    if step == dependency {
        return Err(GraphError::Itself { step: step.to_owned() });
    }
    steps.get(dependency).copied().ok_or_else(|| GraphError::Unknown {
        step: step.to_owned(),
        dependency: dependency.to_owned(),
        names: defined.iter().map(|(name, _)| (*name).to_owned()).collect(),
    })
}

/// A topological order, or a circle.
fn sort(dependencies: &[Vec<usize>], dependents: &[Vec<usize>]) -> Result<Vec<usize>, Vec<usize>> {
    let mut missing: Vec<usize> = dependencies.iter().map(Vec::len).collect();
    let mut ready: BinaryHeap<_> = (0..missing.len()).filter(|step| missing[*step] == 0).map(Reverse).collect();
    let mut order = vec![];
    while let Some(Reverse(step)) = ready.pop() {
        order.push(step);
        for dependent in &dependents[step] {
            missing[*dependent] -= 1;
            if missing[*dependent] == 0 {
                ready.push(Reverse(*dependent));
            }
        }
    }
    match missing.iter().position(|missing| *missing > 0) {
        None => Ok(order),
        Some(stuck) => Err(circle(stuck, dependencies, &missing)),
    }
}

/// A circle near a step that never became ready: the shortest through one of its members, its first step first.
fn circle(stuck: usize, dependencies: &[Vec<usize>], missing: &[usize]) -> Vec<usize> {
    let waits_for = |step: usize| dependencies[step].iter().copied().find(|dependency| missing[*dependency] > 0);
    // The step may only stand behind a circle. What is stuck waits for something that is stuck: as many moves as there
    // are steps end on a circle.
    let member = (0..missing.len()).try_fold(stuck, |step, _| waits_for(step)).unwrap_or(stuck);
    let mut circle = path(member, member, dependencies).unwrap_or_default();
    let first = circle.iter().enumerate().min_by_key(|(_, step)| **step).map_or(0, |(place, _)| place);
    circle.rotate_left(first);
    circle
}

/// The steps from one to another along dependencies, the last left out: the shortest way, and at least one dependency long.
fn path(from: usize, to: usize, dependencies: &[Vec<usize>]) -> Option<Vec<usize>> {
    let mut reached_from = vec![None; dependencies.len()];
    let mut next = VecDeque::from([from]);
    while let Some(step) = next.pop_front() {
        if dependencies[step].contains(&to) {
            let back = std::iter::successors(Some(step), |step| reached_from[*step].filter(|_| *step != from));
            let mut path: Vec<usize> = back.collect();
            path.reverse();
            return Some(path);
        }
        for dependency in &dependencies[step] {
            if reached_from[*dependency].is_none() {
                reached_from[*dependency] = Some(step);
                next.push_back(*dependency);
            }
        }
    }
    None
}

fn unknown(step: &str, dependency: &str, names: &[String]) -> String {
    let nearest = names.iter().map(|name| (distance(dependency, name), name)).filter(|(off, name)| *off <= SLIP && *name != step);
    let meant = nearest.min_by_key(|(off, _)| *off).map(|(_, name)| format!(" (did you mean `{name}`?)")).unwrap_or_default();
    let rest = if names.len() > MOST_NAMES { format!(" and {} more", names.len() - MOST_NAMES) } else { String::new() };
    let names = names.iter().take(MOST_NAMES).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    format!("step `{step}` depends on `{dependency}`, which is no step of this workflow{meant}; steps are: {names}{rest}")
}

/// Letters to insert, delete or replace to make one of the other (Levenshtein); without the work where it is too many.
fn distance(one: &str, other: &str) -> usize {
    if one.len().abs_diff(other.len()) > 4 * SLIP {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=other.chars().count()).collect();
    for (above, letter) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], above + 1);
        for (left, different) in other.chars().map(|known| usize::from(known != letter)).enumerate() {
            let best = (diagonal + different).min(row[left] + 1).min(row[left + 1] + 1);
            diagonal = std::mem::replace(&mut row[left + 1], best);
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps from `name: dependency dependency, name: …`.
    fn graph(text: &str) -> Result<Graph, GraphError> {
        let steps: Vec<(String, Vec<String>)> = text
            .split(',')
            .map(|step| step.split_once(':').unwrap_or((step, "")))
            .map(|(name, all)| (name.trim().to_owned(), all.split_whitespace().map(str::to_owned).collect()))
            .collect();
        Graph::of(steps.iter().map(|(name, dependencies)| (name.as_str(), dependencies.as_slice())))
    }

    fn sentence(text: &str) -> String {
        graph(text).unwrap_err().to_string()
    }

    #[test]
    fn steps_come_after_what_they_depend_on_and_else_as_they_are_defined() {
        let all = graph("report: check sum, fetch, sum: fetch fetch, note, check: fetch").unwrap();
        assert_eq!(all.order(), [1, 2, 3, 4, 0]);
        assert_eq!((all.len(), all.is_empty()), (5, false));
        assert_eq!(all.index("sum"), Some(2));
        assert_eq!(all.index("some"), None);
        assert_eq!(all.dependencies(0), [2, 4], "in definition order, not as they are named");
        assert_eq!(all.dependencies(2), [1], "each once");
        assert_eq!(all.dependents(1), [2, 4]);
        assert_eq!(all.dependents(0), [0_usize; 0]);
    }

    #[test]
    fn no_steps_are_a_graph() {
        let none = Graph::of([]).unwrap();
        assert!(none.is_empty() && none.order().is_empty());
    }

    #[test]
    fn descent_is_transitive_and_never_of_itself() {
        let all = graph("a, b: a, c: b, d: a").unwrap();
        assert!(all.descends_from(2, 0) && all.descends_from(1, 0) && all.descends_from(2, 1));
        assert!(!all.descends_from(0, 2) && !all.descends_from(2, 2) && !all.descends_from(3, 1));
    }

    #[test]
    fn a_name_given_twice_is_refused() {
        assert_eq!(sentence("a, b, a"), "two steps are named `a`; each needs a name of its own");
    }

    #[test]
    fn a_step_cannot_wait_for_itself() {
        assert_eq!(sentence("a, b: a b"), "step `b` depends on itself; take this dependency away");
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_nearest_one() {
        assert_eq!(
            sentence("fetch, fetches, sum: fecth"),
            "step `sum` depends on `fecth`, which is no step of this workflow (did you mean `fetch`?); \
             steps are: `fetch`, `fetches`, `sum`"
        );
        assert_eq!(
            sentence("fetch, b: x"),
            "step `b` depends on `x`, which is no step of this workflow; steps are: `fetch`, `b`",
            "a step is never meant to depend on itself"
        );
        let many: Vec<String> = (10..30).map(|n| format!("step-{n}")).collect();
        let said = sentence(&format!("{}, last: fetch", many.join(",")));
        assert!(said.ends_with("`step-20`, `step-21` and 9 more"), "{said}");
    }

    #[test]
    fn distances_count_letters() {
        for (one, other, off) in
            [("", "", 0), ("a", "", 1), ("abc", "abd", 1), ("ab", "ba", 2), ("kitten", "sitting", 3), ("ä", "a", 1)]
        {
            assert_eq!((distance(one, other), distance(other, one)), (off, off), "{one} {other}");
        }
        assert_eq!(distance("a", &"a".repeat(1000)), usize::MAX);
    }

    #[test]
    fn a_circle_is_named_without_the_steps_before_and_behind_it() {
        assert_eq!(
            sentence("behind: c, start, b: c start, c: d, d: b, further: behind"),
            "the steps depend on each other in a circle: b → c → d → b; take one of these dependencies away"
        );
        assert_eq!(graph("a: b, b: a").unwrap_err(), GraphError::Cycle(vec!["a".into(), "b".into()]));
    }

    #[test]
    fn of_two_ways_round_the_shorter_is_named() {
        assert_eq!(
            graph("a: b d, b: c, c: d, d: a").unwrap_err(),
            GraphError::Cycle(vec!["a".into(), "d".into()]),
            "and not a → b → c → d"
        );
        assert_eq!(graph("a: d b, d: a, b: c, c: a").unwrap_err(), GraphError::Cycle(vec!["a".into(), "d".into()]));
    }

    /// Numerical Recipes' generator: the same graphs in every run.
    fn random(state: &mut u32, below: usize) -> usize {
        *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        usize::try_from(*state >> 8).unwrap() % below
    }

    /// Steps whose numbers are shuffled, each depending on some that come before it in the shuffle.
    fn shuffled(seed: &mut u32) -> (Vec<usize>, Vec<Vec<usize>>) {
        let size = 2 + random(seed, 12);
        let mut rank: Vec<usize> = (0..size).collect();
        (1..size).rev().for_each(|last| rank.swap(last, random(seed, last + 1)));
        let mut dependencies = vec![vec![]; size];
        for place in 1..size {
            for _ in 0..random(seed, 4) {
                dependencies[rank[place]].push(rank[random(seed, place)]);
            }
        }
        (rank, dependencies)
    }

    fn built(dependencies: &[Vec<usize>]) -> Result<Graph, GraphError> {
        let named: Vec<(String, Vec<String>)> = dependencies
            .iter()
            .enumerate()
            .map(|(step, all)| (format!("s{step}"), all.iter().map(|dependency| format!("s{dependency}")).collect()))
            .collect();
        Graph::of(named.iter().map(|(name, all)| (name.as_str(), all.as_slice())))
    }

    #[test]
    fn random_graphs_without_a_circle_are_ordered() {
        let mut seed = 1;
        for _ in 0..500 {
            let (_, dependencies) = shuffled(&mut seed);
            let all = built(&dependencies).unwrap();
            let mut done = vec![false; all.len()];
            for step in all.order() {
                let ready = |step: usize| !done[step] && all.dependencies(step).iter().all(|dependency| done[*dependency]);
                assert_eq!((0..all.len()).find(|step| ready(*step)), Some(*step), "the first of the ready: {dependencies:?}");
                done[*step] = true;
            }
            assert!(done.iter().all(|done| *done));
            for step in 0..all.len() {
                for ancestor in 0..all.len() {
                    let through = |between: &usize| *between == ancestor || all.descends_from(*between, ancestor);
                    assert_eq!(all.descends_from(step, ancestor), all.dependencies(step).iter().any(through));
                    assert_eq!(all.dependents(ancestor).contains(&step), all.dependencies(step).contains(&ancestor));
                }
            }
        }
    }

    #[test]
    fn random_graphs_with_a_way_back_name_a_circle_that_exists() {
        let (mut seed, mut found) = (7, 0);
        for _ in 0..500 {
            let (rank, mut dependencies) = shuffled(&mut seed);
            let Some((step, ancestor)) =
                rank.iter().flat_map(|step| dependencies[*step].iter().map(|dependency| (*step, *dependency))).next()
            else {
                continue;
            };
            dependencies[ancestor].push(step);
            let GraphError::Cycle(names) = built(&dependencies).unwrap_err() else { panic!("another error") };
            let circle: Vec<usize> = names.iter().map(|name| name[1..].parse().unwrap()).collect();
            for (place, step) in circle.iter().enumerate() {
                let next = circle[(place + 1) % circle.len()];
                assert!(dependencies[*step].contains(&next), "{step} does not depend on {next}: {dependencies:?}");
                assert_eq!(circle.iter().filter(|other| *other == step).count(), 1, "each once");
            }
            assert_eq!(circle.iter().min(), circle.first());
            found += 1;
        }
        assert!(found > 300, "{found}");
    }
}
