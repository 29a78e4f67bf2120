//! Nobody is killed, but what is written does not arrive, is not confirmed, or meets what somebody else has written.

use super::{SOON, Scene, Step, hits, steps};
use crate::testbed::Result;
use crate::testbed::relay::Point;
use crate::testbed::workflows::step;
use oauth_operator::api::Phase;
use serde_json::json;
use std::time::Duration;

fn once(scene: &Scene, path: &str) -> Result<()> {
    let patch = json!({"http": {"method": "POST", "accountRef": {"name": "api"}}});
    scene.workflows.run("run", &json!({"workflowSpec": {"steps": [scene.workflows.step("a", path, &patch)]}}))
}

async fn until_done_once(scene: &Scene) -> Result<()> {
    let status = scene.workflows.until_ended("run", Phase::Completed).await?;
    assert_eq!((step(&status, "a").output.clone(), step(&status, "a").attempts), (Some(json!({"count": 1})), 1));
    assert_eq!(scene.keys("/once").len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_answer_is_lost_sends_nothing_twice_and_loses_nothing() -> Result<()> {
    let scene = Scene::begin("wf-lost-reply").await?;
    let announced = scene.lose(Step::Announce, Point::Reply);
    once(&scene, "/once/a")?;
    announced.hit(SOON).await?;
    announced.release();
    until_done_once(&scene).await?;
    scene.workflows.story.kubectl().run(&["delete", "workflowrun", "run"])?;
    // Another run of the same name is another run.
    let stored = scene.lose(Step::Store, Point::Reply);
    once(&scene, "/open/a")?;
    stored.hit(SOON).await?;
    stored.release();
    scene.workflows.until_ended("run", Phase::Completed).await?;
    assert_eq!(scene.keys("/open").len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_somebody_labels_at_every_write_is_done_once() -> Result<()> {
    let scene = Scene::begin("wf-conflict").await?;
    let announced = scene.hold(Step::Announce, Point::Request);
    once(&scene, "/once/a")?;
    let label = |value: &str| {
        scene.workflows.story.kubectl().run(&["label", "--overwrite", "workflowrun", "run", &format!("touched={value}")])
    };
    announced.hit(SOON).await?;
    label("first")?;
    let stored = scene.hold(Step::Store, Point::Request);
    announced.release();
    stored.hit(SOON).await?;
    label("second")?;
    stored.release();
    until_done_once(&scene).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_stored_when_the_api_server_is_back() -> Result<()> {
    let scene = Scene::begin("wf-outage").await?;
    scene.workflows.api.hold("/");
    once(&scene, "/once/a")?;
    let patch = json!({"http": {"method": "POST", "accountRef": {"name": "api"}}});
    let large = scene.workflows.step("large", "/large?bytes=40000", &patch);
    scene.workflows.run("large", &json!({"workflowSpec": {"steps": [large]}}))?;
    scene.workflows.api.until_arrived("/once/a", 1).await?;
    scene.workflows.api.until_arrived("/large", 1).await?;
    let outage = scene.relay.lose(Point::Request, |_| true);
    scene.workflows.api.release();
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert!(!scene.operator.leads().await, "the Lease could be anyone's by now");
    outage.release();
    until_done_once(&scene).await?;
    let status = scene.workflows.until_ended("large", Phase::Completed).await?;
    assert_eq!((step(&status, "large").output_bytes, scene.keys("/large").len()), (Some(40_000), 1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_is_announced_waits_for_the_api_server_and_is_sent_once() -> Result<()> {
    let scene = Scene::begin("wf-outage-token").await?;
    let outage = scene.lose(Step::Token, Point::Request);
    let announced = scene.relay.hold(Point::Reply, |passing| steps(passing).iter().any(|step| step.phase == Phase::Running));
    once(&scene, "/once/a")?;
    announced.hit(SOON).await?;
    announced.release();
    hits(&outage, 3).await?;
    outage.release();
    until_done_once(&scene).await
}
