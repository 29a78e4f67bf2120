//! How work on a run ends before the run does.

use super::super::progress::{goes_on_there, progress};
use super::super::seen::Work;
use super::{Driver, goes_on};
use crate::api::Phase;
use crate::world::clock;
use std::time::Duration;

/// How long requests under way may take when the process is asked to end.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long what came of them may take to be stored after that.
const STORING: Duration = Duration::from_secs(4);

impl Driver {
    /// The process ends, or leads no more: what was announced is sent if we still may, requests under way are brought to their
    /// end, where that does not take long, and what came of them is stored. What is left is the next leader's.
    pub(super) async fn drain(&mut self) {
        let deadline = clock::uptime() + PATIENCE;
        let passing: Vec<Work> = self.seen.live.iter().filter(|work| !self.is_request(work)).cloned().collect();
        passing.iter().for_each(|work| self.abort(work));
        if self.leads() {
            self.announced().into_iter().for_each(|step| self.begin(Work::Step(step)));
        }
        while !self.seen.outcomes.is_empty() || !self.seen.live.is_empty() {
            self.keep_outcomes(deadline + STORING).await;
            let left = deadline.saturating_sub(clock::uptime());
            let Ok(Some(ended)) = tokio::time::timeout(left, self.tasks.join_next_with_id()).await else { break };
            self.joined(ended);
        }
        self.keep_outcomes(deadline + STORING).await;
    }

    /// Stores what came of requests, and begins nothing by it.
    async fn keep_outcomes(&mut self, deadline: Duration) {
        while !self.seen.outcomes.is_empty() && clock::uptime() < deadline {
            self.look();
            self.seen.prepared.clear();
            self.seen.resume = None;
            // What would follow from them is not made ready any more.
            let status = progress(&self.seen, clock::now());
            if status == self.seen.status {
                return;
            }
            self.record(status).await;
            if self.seen.status.executor.as_ref() != Some(&self.seen.me) {
                // Another leader has resolved it.
                return self.seen.outcomes.clear();
            }
        }
    }

    /// Steps that are Running in status and were not sent yet.
    fn announced(&self) -> Vec<String> {
        let seen = &self.seen;
        let steps = seen.status.steps.iter().filter(|step| step.phase == Phase::Running && !goes_on_there(step));
        let unsent = steps.filter(|step| !seen.is_busy(&step.name) && !seen.outcomes.contains_key(&step.name));
        unsent.map(|step| step.name.clone()).collect()
    }

    /// Whether somebody's answer is awaited that would be lost.
    fn is_request(&self, work: &Work) -> bool {
        matches!(work, Work::Step(step) if !goes_on(&self.seen, step))
    }
}
