//! A leader that is asked to end, or paused, and the one after it.

use super::deliveries::{Counted, Delivery};
use super::{SOON, Scene, Step, hits};
use crate::testbed::Result;
use crate::testbed::relay::Point;
use crate::testbed::story::eventually;
use crate::testbed::workflows::step;
use oauth_operator::api::Phase;
use rustix::process::Signal;
use serde_json::json;
use std::time::Duration;

/// Two steps, each sent at most once, one after the other.
fn chain(scene: &Scene) -> Result<()> {
    let post = |name: &str, after: &[&str]| {
        let patch = json!({"dependsOn": after, "http": {"method": "POST", "accountRef": {"name": "api"}}});
        scene.workflows.step(name, &format!("/once/{name}"), &patch)
    };
    scene.workflows.run("chain", &json!({"workflowSpec": {"steps": [post("a", &[]), post("b", &["a"])]}}))
}

async fn until_chained(scene: &Scene) -> Result<()> {
    let status = scene.workflows.until_ended("chain", Phase::Completed).await?;
    assert_eq!(
        (step(&status, "a").output.clone(), step(&status, "b").output.clone()),
        (Some(json!({"count": 1})), Some(json!({"count": 1})))
    );
    assert_eq!((scene.keys("/once/a").len(), scene.keys("/once/b").len()), (1, 1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn asked_to_end_it_waits_for_an_answer_and_stores_it_and_another_goes_on() -> Result<()> {
    let scene = Scene::begin("wf-term").await?;
    let standby = scene.standby().await?;
    scene.workflows.api.hold("/once/a");
    chain(&scene)?;
    scene.workflows.api.until_arrived("/once/a", 1).await?;
    // What keeps the answer from being stored at first does not lose it.
    let lost = scene.lose(Step::Store, Point::Request);
    scene.operator.process.signal(Signal::TERM);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!((scene.operator.process.ended(), standby.leads().await), (None, false));
    scene.workflows.api.release();
    hits(&lost, 2).await?;
    lost.release();
    let ended = scene.operator.process.end_within(SOON).await.ok_or("it does not end")?;
    assert!(ended.success(), "{ended:?}");
    let status = scene.workflows.status("chain")?;
    assert_eq!(step(&status, "a").phase, Phase::Completed, "stored by whoever waited for it");
    until_chained(&scene).await
}

#[tokio::test(flavor = "multi_thread")]
async fn asked_to_end_it_still_sends_what_it_has_announced() -> Result<()> {
    let scene = Scene::begin("wf-term-announced").await?;
    let _standby = scene.standby().await?;
    let held = scene.hold(Step::Announce, Point::Reply);
    chain(&scene)?;
    held.hit(SOON).await?;
    scene.operator.process.signal(Signal::TERM);
    let told = || Ok(scene.operator.process.output().contains("asked to end").then_some(()));
    eventually(SOON, told).await?.ok_or("it was not asked to end")?;
    held.release();
    until_chained(&scene).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_outlasts_a_leader_is_resolved_by_the_next_one() -> Result<()> {
    let scene = Scene::begin("wf-term-late").await?;
    let _standby = scene.standby().await?;
    scene.workflows.api.hold("/");
    scene.deliver()?;
    for delivery in Delivery::ALL {
        scene.workflows.api.until_arrived(delivery.path(), 1).await?;
    }
    scene.operator.process.signal(Signal::TERM);
    let ended = scene.operator.process.end_within(SOON).await.ok_or("it waits for ever")?;
    assert!(ended.success(), "{ended:?}");
    scene.workflows.api.release();
    scene.until_delivered(Counted { at_most_once: (Phase::Failed, 1), repeated: 2, verified: 1 }).await
}

/// Wakes a leader that was paused: it ends, and has changed nothing.
async fn wakes_in_vain(scene: &Scene) -> Result<()> {
    let versions = || {
        let version = |delivery: Delivery| Ok(scene.workflows.find(delivery.run())?.ok_or("no run")?.metadata.resource_version);
        Delivery::ALL.into_iter().map(version).collect::<Result<Vec<_>>>()
    };
    let before = (versions()?, scene.workflows.api.requests().len());
    scene.operator.process.signal(Signal::CONT);
    let ended = scene.operator.process.end_within(SOON).await.ok_or("a leader without Lease goes on")?;
    assert!(!ended.success());
    assert_eq!((versions()?, scene.workflows.api.requests().len()), before, "it has neither sent nor written anything");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_paused_before_it_sends_sends_nothing_when_it_wakes() -> Result<()> {
    let scene = Scene::begin("wf-stop-unsent").await?;
    let _standby = scene.standby().await?;
    let held = scene.hold(Step::Token, Point::Reply);
    scene.deliver()?;
    scene.until_announced().await?;
    hits(&held, 1).await?;
    scene.operator.process.pause();
    held.release();
    scene.until_delivered(Counted { at_most_once: (Phase::Failed, 0), repeated: 1, verified: 1 }).await?;
    wakes_in_vain(&scene).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_paused_before_an_answer_comes_writes_nothing_when_it_wakes() -> Result<()> {
    let scene = Scene::begin("wf-stop-sent").await?;
    let _standby = scene.standby().await?;
    scene.workflows.api.hold("/");
    scene.deliver()?;
    for delivery in Delivery::ALL {
        scene.workflows.api.until_arrived(delivery.path(), 1).await?;
    }
    scene.operator.process.pause();
    scene.workflows.api.release();
    scene.until_delivered(Counted { at_most_once: (Phase::Failed, 1), repeated: 2, verified: 1 }).await?;
    wakes_in_vain(&scene).await
}
