//! etcd and kube-apiserver are gone, and the leader's container dies with a reply that it could not store: the kubelet starts it again
//! beside its journal, and the reply is stored when they are back.

use crate::refresh::{ask, leader, redemptions};
use crate::scene::{SYSTEM, Scene};
use crate::testbed::Result;
use crate::testbed::relay::{Point, Relay};
use crate::testbed::story::{Story, eventually};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

pub async fn run(scene: &Scene, story: &Story<'_>) -> Result<()> {
    let token_endpoint = Relay::before(&scene.provider.issuer, &scene.provider.ca).await?;
    story.ca("outage-ca", &token_endpoint.ca)?;
    let (client, refresh_token) = scene.provider.log_in(3600, "alice").await?;
    let custom = json!({"custom": {"tokenURL": format!("{}/token", token_endpoint.url)}, "caBundleRef": {"name": "outage-ca"}});
    story.login("kept", &custom, &client, &refresh_token, &json!({}))?;
    story.until_ready("kept").await?;
    let leader = leader(story)?;
    let system = scene.node.cluster.kubectl().namespaced(SYSTEM);
    let uid = system.run(&["get", "pod", &leader, "-o", "jsonpath={.metadata.uid}"])?;
    let journal = PathBuf::from(format!("/var/lib/kubelet/pods/{uid}/volumes/kubernetes.io~empty-dir/journal"));
    let replies = || -> Result<usize> { Ok(std::fs::read_dir(&journal)?.count()) };

    let held = token_endpoint.hold(Point::Reply, |passing| passing.path == "/token");
    ask(story, "kept", 1)?;
    held.hit(SOON).await?;
    let control_plane = scene.node.cluster.control_plane.as_ref().ok_or("the control plane is ours")?;
    control_plane.api_server.kill()?;
    control_plane.etcd.kill()?;
    held.release();
    let journalled = || Ok((replies()? > 0).then_some(()));
    eventually(SOON, journalled).await?.ok_or("the reply is not in the journal")?;
    let died = container(&uid)?.ok_or("the leader's container does not run")?;
    kill_process(died, Signal::KILL)?;
    let another = || Ok(container(&uid)?.filter(|pid| *pid != died));
    eventually(SOON, another).await?.ok_or("the kubelet does not start the container again")?;
    // With nobody to ask, it waits and keeps what it has.
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(replies()? > 0, "the reply is still there");
    control_plane.etcd.restart()?;
    control_plane.api_server.restart()?;
    let back = async || scene.node.cluster.kubectl().try_run(&["get", "--raw", "/readyz"]).is_ok();
    control_plane.api_server.until("ready again", SOON, back).await?;

    story.until_generation("kept", 2).await.map_err(|error| format!("{error}\n{}", scene.node.state(SYSTEM)))?;
    assert_eq!(redemptions(scene, &client).await?, [200, 200], "each refresh token was redeemed once");
    assert_eq!(story.condition("kept", "RefreshOutcomeUnknown")?, None);
    let stored = || Ok((replies()? == 0).then_some(()));
    eventually(SOON, stored).await?.ok_or("the journal is not emptied")?;
    let restarts = "jsonpath={.status.containerStatuses[*].restartCount}";
    let counted = || Ok(system.run(&["get", "pod", &leader, "-o", restarts])? != "0");
    scene.until("the same Pod says that its container was started again", SYSTEM, SOON, counted).await?;
    // And it goes on from there.
    ask(story, "kept", 2)?;
    story.until_generation("kept", 3).await?;
    assert_eq!(redemptions(scene, &client).await?, [200, 200, 200]);
    scene.node.rolled_out(SYSTEM, "deployment/oauth-operator", SOON)
}

/// The operator's process in the container of a Pod.
fn container(pod: &str) -> Result<Option<Pid>> {
    let in_group = |process: &Path| {
        // The driver of control groups may write an underscore for each dash.
        std::fs::read_to_string(process.join("cgroup")).is_ok_and(|groups| groups.replace('_', "-").contains(pod))
    };
    let is_operator = |process: &Path| std::fs::read_link(process.join("exe")).is_ok_and(|exe| exe.ends_with("oauth-operator"));
    for process in std::fs::read_dir("/proc")?.flatten() {
        let path = process.path();
        if let Ok(pid) = process.file_name().to_string_lossy().parse()
            && in_group(&path)
            && is_operator(&path)
        {
            return Ok(Pid::from_raw(pid));
        }
    }
    Ok(None)
}
