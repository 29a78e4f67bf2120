//! The operator as users run it, killed at every arrow of the refresh protocol. The arrows are held from outside, by relays
//! before API server and provider; redemptions are counted at the provider, which ends a login when a refresh token comes
//! twice.

use super::provider;
use crate::testbed::Result;
use crate::testbed::authorization_server::Client;
use crate::testbed::operator::Operator;
use crate::testbed::relay::{Held, Passing, Point, Relay};
use crate::testbed::story::{Story, eventually};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

/// How long anything may take to come to where it is held.
const SOON: Duration = Duration::from_secs(20);

/// A step of the protocol, by the request that makes it.
#[derive(Clone, Copy, Debug)]
enum Step {
    Arm,
    Redeem,
    Keep,
    Publish,
    Say,
}

impl Step {
    fn is(self, passing: &Passing) -> bool {
        let writes = ["PUT", "POST", "PATCH"].contains(&passing.method.as_str());
        let state = || passing.state().filter(|_| writes);
        match self {
            Self::Arm => state().is_some_and(|state| !state["intent"].is_null()),
            Self::Keep => state().is_some_and(|state| state["intent"].is_null()),
            Self::Redeem => passing.method == "POST" && passing.path == "/token",
            Self::Publish => writes && passing.path.contains("/secrets") && passing.state().is_none(),
            Self::Say => writes && passing.path.contains("/status"),
        }
    }
}

/// An account `login` with a token, and an operator, each behind a relay.
struct Scene {
    story: Story<'static>,
    api: Relay,
    token_endpoint: Relay,
    client: Client,
    operator: Operator,
}

impl Scene {
    async fn begin(name: &str, token_seconds: u32) -> Result<Self> {
        Self::rotating(name, token_seconds, &json!({}), |_| json!({})).await
    }

    /// With a client of this metadata, and what the account says of its provider, whose address it is given.
    async fn rotating(name: &str, token_seconds: u32, client_is: &Value, overrides: impl Fn(&str) -> Value) -> Result<Self> {
        let (story, provider) = super::story(name).await?;
        let api = story.cluster.relay().await?;
        let token_endpoint = Relay::before(&provider.issuer, &provider.ca).await?;
        story.ca("relay-ca", &token_endpoint.ca)?;
        let operator = story.released_operator("operator-1", Some(&api)).await?;
        let (client, refresh_token) = provider.log_in(token_seconds, "alice").await?;
        provider.change(&client, client_is).await?;
        let token_url = format!("{}/token", token_endpoint.url);
        let custom = json!({
            "custom": {"tokenURL": token_url}, "caBundleRef": {"name": "relay-ca"}, "overrides": overrides(&token_endpoint.url),
        });
        story.login("login", &custom, &client, &refresh_token, &json!({}))?;
        story.until_ready("login").await?;
        Ok(Self { story, api, token_endpoint, client, operator })
    }

    fn hold(&self, step: Step, point: Point) -> Held {
        let relay = if matches!(step, Step::Redeem) { &self.token_endpoint } else { &self.api };
        relay.hold(point, move |passing| step.is(passing))
    }

    /// Asks for a refresh. What is asked twice within a second is asked once.
    fn refresh(&self) -> Result<()> {
        static ASKED: AtomicI64 = AtomicI64::new(0);
        let moment = jiff::Timestamp::from_second(1_767_225_600 + ASKED.fetch_add(1, Ordering::Relaxed))?;
        let annotation = format!("oauth-operator.dev/refresh-requested-at={moment}");
        self.story.kubectl().run(&["annotate", "--overwrite", "oauthaccount", "login", &annotation]).map(drop)
    }

    async fn kill(&self) -> Result<()> {
        self.operator.process.signal(Signal::KILL);
        self.operator.process.end_within(SOON).await.map(drop).ok_or_else(|| "SIGKILL does not end it".into())
    }

    async fn restart(&mut self) -> Result<()> {
        self.operator = self.story.released_operator("operator-1", Some(&self.api)).await?;
        Ok(())
    }

    /// Refresh tokens that came to the provider: how often each, and how many were refused.
    async fn redemptions(&self) -> Result<(Vec<usize>, usize)> {
        let all = provider().await?.redemptions(&self.client).await?;
        let mut digests: Vec<&String> = all.iter().map(|(digest, _)| digest).collect();
        digests.sort();
        digests.dedup();
        let often = digests.iter().map(|digest| all.iter().filter(|(other, _)| other == *digest).count()).collect();
        Ok((often, all.iter().filter(|(_, status)| *status != 200).count()))
    }

    /// The published token, and whether its provider calls it active.
    async fn published(&self) -> Result<(String, bool)> {
        let token = self.story.key("login-token", "access_token")?;
        let said = provider().await?.introspect(&self.client, &token).await?;
        Ok((token, said["active"] == json!(true)))
    }
}

/// Killed at an arrow after which nothing is lost: the next process finishes the refresh, and each refresh token was
/// redeemed once.
async fn nothing_is_lost(step: Step, point: Point) -> Result<()> {
    let place = format!("{step:?} {point:?}");
    let mut scene = Scene::begin(&format!("crash-{step:?}-{point:?}").to_lowercase(), 3600).await?;
    let held = scene.hold(step, point);
    scene.refresh()?;
    held.hit(SOON).await.map_err(|error| format!("{place}: {error}"))?;
    scene.kill().await?;
    held.abandon();
    let began = Instant::now();
    scene.restart().await?;
    scene.story.until_generation("login", 2).await.map_err(|error| format!("{place}: {error}"))?;
    assert!(began.elapsed() < Duration::from_secs(15), "{place}: the next process works after {:?}", began.elapsed());
    assert_eq!(scene.redemptions().await?, (vec![1, 1], 0), "{place}: each refresh token once, none refused");
    let unknown = scene.story.condition("login", "RefreshOutcomeUnknown")?;
    assert_eq!((unknown, scene.published().await?.1), (None, true), "{place}");
    // And it goes on.
    scene.refresh()?;
    scene.story.until_generation("login", 3).await.map_err(|error| format!("{place}: {error}"))?;
    assert_eq!(scene.redemptions().await?, (vec![1, 1, 1], 0), "{place}");
    assert_eq!(std::fs::read_dir(scene.story.folder.join("operator-1.journal"))?.count(), 0, "{place}: the journal is empty");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_anything_is_armed_it_begins_anew() -> Result<()> {
    nothing_is_lost(Step::Arm, Point::Request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_with_a_reply_in_hand_it_finds_it_in_the_journal() -> Result<()> {
    nothing_is_lost(Step::Keep, Point::Request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_when_the_reply_is_kept_it_publishes() -> Result<()> {
    nothing_is_lost(Step::Keep, Point::Reply).await?;
    nothing_is_lost(Step::Publish, Point::Request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_when_the_token_is_published_it_says_so() -> Result<()> {
    nothing_is_lost(Step::Publish, Point::Reply).await?;
    nothing_is_lost(Step::Say, Point::Request).await?;
    nothing_is_lost(Step::Say, Point::Reply).await
}

/// Killed where nobody can know whether the refresh token was spent: it is not posted again while there is anything to
/// lose, the old token stays, and a person is told.
async fn nobody_knows(step: Step, point: Point, redeemed: usize) -> Result<()> {
    let place = format!("{step:?} {point:?}");
    let mut scene = Scene::begin(&format!("crash-{step:?}-{point:?}").to_lowercase(), 3600).await?;
    let before = scene.published().await?;
    let held = scene.hold(step, point);
    scene.refresh()?;
    held.hit(SOON).await.map_err(|error| format!("{place}: {error}"))?;
    scene.kill().await?;
    held.abandon();
    scene.restart().await?;
    scene
        .story
        .until("login", "RefreshOutcomeUnknown", "True", "OutcomeUnknown")
        .await
        .map_err(|error| format!("{place}: {error}"))?;
    scene.story.until_ready("login").await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(scene.redemptions().await?, (vec![1; redeemed], 0), "{place}: nothing was posted twice");
    assert_eq!(scene.published().await?, before, "{place}: the token published before stays, as good as it was");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_arming_and_the_reply_it_does_not_post_again() -> Result<()> {
    nobody_knows(Step::Arm, Point::Reply, 1).await?;
    nobody_knows(Step::Redeem, Point::Request, 1).await?;
    nobody_knows(Step::Redeem, Point::Reply, 2).await
}

/// What became of a doubt when the old token was nearly spent; with it the whole story of a token of a minute.
async fn gamble(name: &str, point: Point) -> Result<Scene> {
    let mut scene = Scene::begin(name, 64).await?;
    let held = scene.hold(Step::Redeem, point);
    scene.refresh()?;
    held.hit(SOON).await?;
    scene.kill().await?;
    held.abandon();
    scene.restart().await?;
    scene.story.until("login", "RefreshOutcomeUnknown", "True", "OutcomeUnknown").await?;
    let before = scene.redemptions().await?.0.len();
    let posted = Instant::now();
    while scene.redemptions().await?.0.iter().sum::<usize>() == before {
        let (ready, ..) = scene.story.condition("login", "Ready")?.ok_or("no Ready")?;
        assert_eq!(ready, "True");
        if posted.elapsed() > Duration::from_secs(60) {
            return Err("the gamble was never taken".into());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(posted.elapsed() > Duration::from_secs(15), "not before the token is nearly spent: {:?}", posted.elapsed());
    Ok(scene)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_that_never_arrived_is_made_before_the_token_expires() -> Result<()> {
    let scene = gamble("gamble-won", Point::Request).await?;
    scene.story.until_generation("login", 2).await?;
    assert_eq!(scene.redemptions().await?, (vec![1, 1], 0));
    let (ready, ..) = scene.story.condition("login", "Ready")?.ok_or("no Ready")?;
    assert_eq!((ready.as_str(), scene.story.condition("login", "RefreshOutcomeUnknown")?), ("True", None));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_reached_nobody_costs_the_login_and_that_is_said() -> Result<()> {
    let scene = gamble("gamble-lost", Point::Reply).await?;
    let message = scene.story.until("login", "ReauthorizationRequired", "True", "Authentication").await?;
    assert!(message.contains("invalid_grant"), "{message}");
    let (mut often, refused) = scene.redemptions().await?;
    often.sort_unstable();
    assert_eq!((often, refused), (vec![1, 2], 1), "once before the crash, and once when nothing was left to lose");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_is_held_until_the_api_server_takes_it() -> Result<()> {
    let scene = Scene::begin("keep-refused", 3600).await?;
    let lost = scene.api.lose(Point::Request, |passing| Step::Keep.is(passing));
    scene.refresh()?;
    let tried = || Ok((lost.hits() >= 3).then_some(()));
    eventually(SOON, tried).await?.ok_or("it is not offered again")?;
    lost.release();
    scene.story.until_generation("login", 2).await?;
    assert_eq!(scene.redemptions().await?, (vec![1, 1], 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_starts_again_keeps_its_reply_while_another_one_leads() -> Result<()> {
    let mut scene = Scene::begin("keep-without-lease", 3600).await?;
    let second = scene.story.operator("operator-2").await?;
    let held = scene.hold(Step::Keep, Point::Request);
    scene.refresh()?;
    held.hit(SOON).await?;
    scene.kill().await?;
    held.abandon();
    second.process.until("leading", Duration::from_secs(20), async || second.leads().await).await?;
    let began = Instant::now();
    scene.restart().await?;
    scene.story.until_generation("login", 2).await?;
    assert!(began.elapsed() < Duration::from_secs(15), "the leader publishes what is kept at once, and not when the intent ends");
    assert!(second.leads().await && !scene.operator.leads().await);
    assert_eq!((scene.redemptions().await?, scene.published().await?.1), ((vec![1, 1], 0), true));
    assert_eq!(scene.story.condition("login", "RefreshOutcomeUnknown")?, None);
    assert_eq!(std::fs::read_dir(scene.story.folder.join("operator-1.journal"))?.count(), 0, "the journal is empty");
    scene.refresh()?;
    scene.story.until_generation("login", 3).await?;
    assert_eq!(scene.redemptions().await?, (vec![1, 1, 1], 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_dies_while_the_api_server_is_away_has_its_reply_when_it_is_back() -> Result<()> {
    let mut scene = Scene::begin("keep-away", 3600).await?;
    let held = scene.hold(Step::Redeem, Point::Reply);
    scene.refresh()?;
    held.hit(SOON).await?;
    let away = scene.api.lose(Point::Request, |_| true);
    held.release();
    let folder = scene.story.folder.join("operator-1.journal");
    let journalled = || Ok((std::fs::read_dir(&folder)?.count() > 0).then_some(()));
    eventually(SOON, journalled).await?.ok_or("the reply is not in the journal")?;
    scene.kill().await?;
    let back = async {
        tokio::time::sleep(Duration::from_secs(10)).await;
        away.release();
    };
    let (restarted, ()) = tokio::join!(scene.restart(), back);
    restarted?;
    scene.story.until_generation("login", 2).await?;
    assert_eq!((scene.redemptions().await?, scene.published().await?.1), ((vec![1, 1], 0), true));
    assert_eq!(scene.story.condition("login", "RefreshOutcomeUnknown")?, None);
    assert_eq!(std::fs::read_dir(&folder)?.count(), 0, "the journal is empty");
    // Whoever reads the log finds what was the matter, and is not flooded with it: it is tried, and told, ever more seldom.
    let log = scene.operator.log();
    let told = |line: &&Value| line["msg"] == "watch interrupted; it is begun again" && line["watch"] == "watch-logins";
    let of_logins: Vec<&Value> = log.iter().filter(told).collect();
    assert!((1..=4).contains(&of_logins.len()), "{of_logins:?}");
    assert!(
        of_logins[0]["error"].as_str().is_some_and(|error| error.contains("the API server was not reached: ")),
        "{of_logins:?}"
    );
    assert!(log.iter().any(|line| line["msg"] == "the watch works again" && line["watch"] == "watch-logins"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_arming_that_is_lost_is_looked_up() -> Result<()> {
    let scene = Scene::begin("arm-lost", 3600).await?;
    let lost = scene.api.lose(Point::Reply, |passing| Step::Arm.is(passing));
    scene.refresh()?;
    lost.hit(SOON).await?;
    scene.story.until_generation("login", 2).await?;
    assert_eq!((scene.redemptions().await?, lost.hits()), ((vec![1, 1], 0), 1), "armed once, and found to be");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_armed_too_long_ago_is_not_posted() -> Result<()> {
    let scene = Scene::begin("arm-late", 3600).await?;
    let held = scene.hold(Step::Arm, Point::Reply);
    scene.refresh()?;
    held.hit(SOON).await?;
    tokio::time::sleep(Duration::from_millis(10_500)).await;
    assert_eq!(scene.redemptions().await?, (vec![1], 0));
    held.release();
    let told = |line: &serde_json::Value| line["msg"].as_str().is_some_and(|msg| msg.contains("was held up for 10 s"));
    let said = || Ok(scene.operator.log().iter().any(told).then_some(()));
    eventually(SOON, said).await?.ok_or("the intent was too old, and that is not said")?;
    assert_eq!(scene.redemptions().await?, (vec![1], 0));
    scene.refresh()?;
    scene.story.until_generation("login", 2).await?;
    assert_eq!(scene.redemptions().await?, (vec![1, 1], 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_paused_between_arming_and_posting_posts_nothing_when_it_wakes() -> Result<()> {
    let scene = Scene::begin("arm-paused", 3600).await?;
    let second = scene.story.operator("operator-2").await?;
    let held = scene.hold(Step::Arm, Point::Reply);
    scene.refresh()?;
    held.hit(SOON).await?;
    scene.operator.process.pause();
    held.release();
    second.process.until("leading", Duration::from_secs(20), async || second.leads().await).await?;
    // Its successor waits for the intent to run out, and then calls the outcome unknown.
    let told = || Ok(scene.story.condition("login", "RefreshOutcomeUnknown")?.map(drop));
    eventually(Duration::from_secs(90), told).await?.ok_or("the successor never settled the intent")?;
    scene.operator.process.signal(Signal::CONT);
    let ended = scene.operator.process.end_within(SOON).await.ok_or("a leader without Lease goes on")?;
    assert!(!ended.success());
    assert_eq!(scene.redemptions().await?, (vec![1], 0), "nobody has posted what was armed");
    let state = scene.story.state("login")?.ok_or("no state")?;
    assert!(state["intent"].is_null() && !state["credential"]["doubt"].is_null(), "{}", state["intent"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn asked_to_end_with_a_reply_in_hand_it_keeps_it_first() -> Result<()> {
    let scene = Scene::begin("terminated", 3600).await?;
    let held = scene.hold(Step::Redeem, Point::Reply);
    scene.refresh()?;
    held.hit(SOON).await?;
    scene.operator.process.signal(Signal::TERM);
    tokio::time::sleep(Duration::from_secs(1)).await;
    held.release();
    let ended = scene.operator.process.end_within(SOON).await.ok_or("it does not end")?;
    assert!(ended.success(), "{ended:?}");
    let state = scene.story.state("login")?.ok_or("no state")?;
    assert_eq!((&state["generation"], state["intent"].is_null()), (&json!(2), true));
    assert_eq!(scene.story.key("login-token", "generation")?, "2");
    Ok(())
}

/// A refresh ends at this point, and the next process knows by what the account says of its provider what to do with it: long before
/// the token is nearly spent.
async fn known_what_to_do(scene: &mut Scene, point: Point, meanwhile: impl AsyncFn(&Scene) -> Result<()>) -> Result<()> {
    let held = scene.hold(Step::Redeem, point);
    scene.refresh()?;
    held.hit(SOON).await?;
    scene.kill().await?;
    held.abandon();
    meanwhile(scene).await?;
    scene.restart().await
}

/// How often each refresh token came, and how many were refused.
async fn came(scene: &Scene) -> Result<(Vec<usize>, usize)> {
    let (mut often, refused) = scene.redemptions().await?;
    often.sort_unstable();
    Ok((often, refused))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_reached_nobody_costs_nothing_where_refresh_tokens_stay() -> Result<()> {
    let never = |_: &str| json!({"rotation": {"mode": "Never"}});
    let mut scene = Scene::rotating("unknown-never", 3600, &json!({"rotates": false}), never).await?;
    known_what_to_do(&mut scene, Point::Reply, async |_| Ok(())).await?;
    scene.story.until_generation("login", 2).await?;
    assert_eq!(came(&scene).await?, (vec![3], 0), "at first, for nobody, and again");
    assert_eq!(scene.story.condition("login", "RefreshOutcomeUnknown")?, None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_reached_nobody_costs_nothing_within_the_provider_s_grace() -> Result<()> {
    let grace = |_: &str| json!({"rotation": {"mode": "Always", "graceSeconds": 120}});
    let mut scene = Scene::rotating("unknown-grace", 3600, &json!({"graceSeconds": 120}), grace).await?;
    known_what_to_do(&mut scene, Point::Reply, async |_| Ok(())).await?;
    scene.story.until_generation("login", 2).await?;
    assert_eq!(came(&scene).await?, (vec![1, 2], 0), "it was accepted once more");
    assert_eq!(scene.story.condition("login", "RefreshOutcomeUnknown")?, None);
    scene.refresh()?;
    scene.story.until_generation("login", 3).await?;
    assert_eq!(came(&scene).await?, (vec![1, 1, 2], 0), "and what came for it is what is used");
    Ok(())
}

/// What a provider says of itself that ends the access token before at a refresh, and lets itself be asked.
fn probed(url: &str) -> Value {
    json!({
        "rotation": {"mode": "Always", "killsOldAccessToken": true},
        "probe": {"method": "GET", "url": format!("{url}/testbed/resource")},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_lives_tells_that_the_refresh_never_happened() -> Result<()> {
    let mut scene = Scene::rotating("unknown-alive", 3600, &json!({}), probed).await?;
    known_what_to_do(&mut scene, Point::Request, async |_| Ok(())).await?;
    scene.story.until_generation("login", 2).await?;
    assert_eq!(came(&scene).await?, (vec![1, 1], 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_dead_tells_that_the_login_is_lost_at_once() -> Result<()> {
    let mut scene = Scene::rotating("unknown-dead", 3600, &json!({}), probed).await?;
    let end = async |scene: &Scene| {
        let token = scene.story.key("login-token", "access_token")?;
        provider().await?.revoke(&scene.client, &token).await
    };
    known_what_to_do(&mut scene, Point::Reply, end).await?;
    let message = scene.story.until("login", "ReauthorizationRequired", "True", "Authentication").await?;
    assert!(message.contains("invalid_grant"), "{message}");
    assert_eq!(came(&scene).await?, (vec![1, 2], 1), "one more post costs nothing, and nobody waits for the token's end");
    Ok(())
}
