//! Killed at an arrow, and another process takes its place.

use super::deliveries::{Counted, Delivery};
use super::{Scene, Step, hits, steps};
use crate::testbed::Result;
use crate::testbed::relay::{Held, Point};
use crate::testbed::workflows::step;
use oauth_operator::api::{Phase, RunReason};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

const UNKNOWN_UNSENT: Counted = Counted { at_most_once: (Phase::Failed, 0), repeated: 1, verified: 1 };
const UNKNOWN_SENT: Counted = Counted { at_most_once: (Phase::Failed, 1), repeated: 2, verified: 1 };
const KNOWN: Counted = Counted { at_most_once: (Phase::Completed, 1), repeated: 1, verified: 0 };

/// Killed where a request to the API server is held.
async fn killed_at(name: &str, request: Step, point: Point, counted: Counted) -> Result<()> {
    let mut scene = Scene::begin(name).await?;
    let held = scene.hold(request, point);
    scene.deliver()?;
    until_held(&scene, request, &held).await?;
    scene.kill().await?;
    held.abandon();
    scene.restart().await?;
    scene.until_delivered(counted).await
}

async fn until_held(scene: &Scene, request: Step, held: &Held) -> Result<()> {
    // Who wants the same token at the same time asks once.
    if matches!(request, Step::Token) {
        scene.until_announced().await?;
        return hits(held, 1).await;
    }
    hits(held, Delivery::ALL.len() as u64).await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_a_step_is_announced_it_is_begun_by_the_next_process() -> Result<()> {
    killed_at("wf-kill-announce", Step::Announce, Point::Request, KNOWN).await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_when_a_step_is_announced_it_is_treated_as_sent() -> Result<()> {
    killed_at("wf-kill-announced", Step::Announce, Point::Reply, UNKNOWN_UNSENT).await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_the_token_is_read_a_step_is_treated_as_sent() -> Result<()> {
    killed_at("wf-kill-token", Step::Token, Point::Reply, UNKNOWN_UNSENT).await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_with_an_answer_in_hand_each_step_is_resolved_by_its_delivery() -> Result<()> {
    killed_at("wf-kill-store", Step::Store, Point::Request, UNKNOWN_SENT).await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_when_the_outcome_is_stored_nothing_is_sent_again() -> Result<()> {
    killed_at("wf-kill-stored", Step::Store, Point::Reply, KNOWN).await
}

async fn until_arrived(scene: &Scene) -> Result<()> {
    for delivery in Delivery::ALL {
        scene.workflows.api.until_arrived(delivery.path(), 1).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_requests_are_under_way_each_step_is_resolved_by_its_delivery() -> Result<()> {
    let mut scene = Scene::begin("wf-kill-sent").await?;
    scene.workflows.api.hold("/");
    scene.deliver()?;
    until_arrived(&scene).await?;
    scene.kill().await?;
    scene.workflows.api.release();
    scene.restart().await?;
    scene.until_delivered(UNKNOWN_SENT).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_resolves_what_a_killed_leader_has_left_under_way() -> Result<()> {
    let scene = Scene::begin("wf-kill-standby").await?;
    let _standby = scene.standby().await?;
    scene.workflows.api.hold("/");
    scene.deliver()?;
    until_arrived(&scene).await?;
    scene.kill().await?;
    scene.workflows.api.release();
    scene.until_delivered(UNKNOWN_SENT).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_treats_as_sent_what_a_killed_leader_has_announced() -> Result<()> {
    let scene = Scene::begin("wf-kill-standby-token").await?;
    let _standby = scene.standby().await?;
    let held = scene.hold(Step::Token, Point::Request);
    scene.deliver()?;
    until_held(&scene, Step::Token, &held).await?;
    scene.kill().await?;
    held.abandon();
    scene.until_delivered(UNKNOWN_UNSENT).await
}

/// The next number of a series that is the same every time (Numerical Recipes' generator).
fn next(state: &mut u32, below: u32) -> u32 {
    *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    (*state >> 16) % below
}

/// A graph of five steps, each delivered in its own way.
fn graph(scene: &Scene) -> serde_json::Value {
    let workflows = &scene.workflows;
    let post = |name: &str, after: &[&str], more: serde_json::Value| {
        let path = format!("/once/${{run.name}}-{name}");
        let mut step = workflows.step(name, &path, &json!({"dependsOn": after, "http": {"method": "POST"}}));
        crate::testbed::story::merge(&mut step, &more);
        step
    };
    let verify = json!({
        "url": format!("{}/verify/${{run.name}}-verified", workflows.api.url), "caBundleRef": {"name": "api-ca"},
        "successWhen": "response.body.done",
    });
    let after = ["first"];
    let steps = json!([
        workflows.step("first", "/open/${run.name}", &json!({})),
        post("repeated", &after, json!({"delivery": "AtLeastOnce"})),
        post("once", &after, json!({"onError": "Continue"})),
        post("verified", &after, json!({"delivery": "Verify", "verify": verify})),
        post("last", &["repeated", "once", "verified"], json!({"delivery": "AtLeastOnce"})),
    ]);
    json!({"workflowSpec": {"defaults": {"accountRef": {"name": "api"}}, "steps": steps}})
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_ten_times_at_any_write_a_graph_comes_to_its_end() -> Result<()> {
    let mut scene = Scene::begin("wf-kill-graph").await?;
    let (mut state, mut runs) = (2026, vec![]);
    for kill in 0..10 {
        let under_way = runs.last().map(|run: &String| scene.workflows.status(run)).transpose()?;
        if under_way.is_none_or(|status| status.phase.is_final()) {
            runs.push(format!("graph-{kill}"));
            scene.workflows.run(&format!("graph-{kill}"), &graph(&scene))?;
        }
        let point = if next(&mut state, 2) == 0 { Point::Request } else { Point::Reply };
        // At one of the next writes; where the run has ended before, just then.
        let (which, seen) = (next(&mut state, 4) as usize, Mutex::new(BTreeSet::new()));
        let held = scene.relay.hold(point, move |passing| {
            let mut seen = seen.lock().expect("nobody panics while holding it");
            if !steps(passing).is_empty() {
                seen.insert(passing.body.clone());
            }
            seen.len() > which && seen.contains(&passing.body)
        });
        let _ = held.hit(Duration::from_secs(5)).await;
        scene.kill().await?;
        held.abandon();
        scene.restart().await?;
    }
    for run in &runs {
        let status = scene.workflows.until_ended(run, Phase::Completed).await?;
        let once = step(&status, "once");
        assert!(
            once.phase == Phase::Completed || once.reason == Some(RunReason::OutcomeUnknown),
            "{run}: {}",
            serde_json::to_string_pretty(once)?
        );
        let sent = |step: &str| scene.keys(&format!("/once/{run}-{step}"));
        assert!(sent("once").len() <= 1, "{run}: {:?}", sent("once"));
        assert_eq!(sent("verified").len(), 1, "{run}");
        for step in ["repeated", "last"] {
            let keys: BTreeSet<_> = sent(step).into_iter().collect();
            assert_eq!(keys.len(), 1, "{run}: {step}");
        }
    }
    Ok(())
}
