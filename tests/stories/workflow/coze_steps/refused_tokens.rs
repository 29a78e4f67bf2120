//! Tokens that the authorization server has ended before their time: the platform refuses them, in each of its words for it.

use super::{Scene, only};
use crate::testbed::Result;
use crate::testbed::authorization_server::Client;
use crate::testbed::coze_platform::{Behaviour, CozeRequest, Dialect, Ending, Failure, Frame};
use crate::testbed::story::merge;
use crate::testbed::workflows::said;
use oauth_operator::api::Phase;
use serde_json::{Value, json};

impl Scene {
    /// An account of its own: what is refused of one says nothing of another.
    async fn another(&self, name: &str) -> Result<Client> {
        let client = self.provider.register(3600, "client_secret_basic").await?;
        self.account_of(name, &client)?;
        self.workflows.story.until_ready(name).await?;
        Ok(client)
    }

    /// Ends the token that an account has now, at the authorization server.
    async fn revoke(&self, account: &str, client: &Client) -> Result<()> {
        let token = self.workflows.story.key(&format!("{account}-token"), "access_token")?;
        self.provider.revoke(client, &token).await
    }

    /// Whether each request came with a token that is taken, in order.
    fn taken(&self, workflow: &str) -> Vec<bool> {
        self.requests(workflow).iter().map(|request| request.client.is_some()).collect()
    }
}

fn as_account(name: &str, patch: Value) -> Value {
    let mut step = json!({"coze": {"accountRef": {"name": name}}});
    merge(&mut step, &patch);
    step
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_token_is_refreshed_once_and_the_request_is_sent_once_more() -> Result<()> {
    let scene = Scene::begin("wf-coze-fresh").await?;
    let words = [
        ("status", "Sync", Failure::authentication()),
        ("code", "Stream", Failure::authentication().with_http(200)),
        ("session", "Async", Failure::wrong_session()),
        ("studio", "Sync", Failure::wrong_session().with_http(401)),
    ];
    for (name, mode, failure) in words {
        let client = scene.another(name).await?;
        scene.platform.refuse_with(failure);
        scene.revoke(name, &client).await?;
        scene.ask(name, name, Behaviour::Echo, mode, &as_account(name, json!({})))?;
        let status = scene.workflows.until_ended(name, Phase::Completed).await?;
        assert_eq!((only(&status).attempts, &only(&status).output), (1, &Some(json!({"output": null}))), "{name}");
        let taken = scene.taken(name);
        assert!(!taken[0] && taken[1..].iter().all(|taken| *taken), "{name}: {taken:?}");
        assert_eq!(taken.len(), if mode == "Async" { 3 } else { 2 }, "{name}");
        assert_eq!((scene.begun(name).len(), scene.tokens_of(&client).await?), (1, 2), "{name}");
    }
    // Steps that are refused at once share one refresh.
    scene.revoke("coze", &scene.client).await?;
    let steps: Vec<_> = (0..5).map(|n| scene.step(&format!("s{n}"), &format!("80{n}"), "Sync", &json!({}))).collect();
    scene.run("together", &json!({"steps": steps, "parallelism": 5}))?;
    scene.workflows.until_ended("together", Phase::Completed).await?;
    assert_eq!(scene.tokens().await?, 2);
    for index in 0..5 {
        assert_eq!(scene.begun(&format!("80{index}")).len(), 1);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_that_refuses_every_token_is_asked_twice_and_no_more() -> Result<()> {
    let scene = Scene::begin("wf-coze-never").await?;
    let patch = json!({"delivery": "AtLeastOnce", "retry": {"limit": 3, "backoff": {"initialSeconds": 1}}});
    let refused = Frame::Error { code: 4100, message: "authentication is invalid".into() };
    let cases = [
        ("code", "Sync", Behaviour::Fail(Failure::authentication().with_http(200))),
        ("status", "Stream", Behaviour::Fail(Failure::authentication())),
        ("session", "Async", Behaviour::Fail(Failure::wrong_session())),
        ("event", "Stream", Behaviour::Stream(vec![refused])),
    ];
    for (name, mode, behaviour) in cases {
        let client = scene.another(name).await?;
        scene.ask(name, name, behaviour, mode, &as_account(name, patch.clone()))?;
        let status = scene.workflows.until_ended(name, Phase::Failed).await?;
        let (reason, message) = said(&status);
        assert_eq!(reason, "AuthFailed", "{name}: {message}");
        assert!(message.contains("A fresh one was refused as well"), "{name}: {message}");
        let requests = scene.requests(name);
        assert_eq!((requests.len(), only(&status).attempts), (2, 1), "{name}");
        assert_ne!(requests[0].token(), requests[1].token(), "{name}");
        assert_eq!(scene.tokens_of(&client).await?, 2, "{name}: {message}");
        // The next run finds a token that was got just now, and that no other one is got at once.
        scene.run(&format!("{name}-2"), &json!({"steps": [scene.step("ask", name, mode, &as_account(name, json!({})))]}))?;
        let status = scene.workflows.until_ended(&format!("{name}-2"), Phase::Failed).await?;
        assert_eq!(said(&status).0, "AuthFailed");
        assert!(said(&status).1.contains("it is not refreshed again before"), "{:?}", said(&status));
        assert_eq!((scene.requests(name).len(), scene.tokens_of(&client).await?), (3, 2), "{name}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_that_is_refused_every_time_starts_no_round_of_refreshes() -> Result<()> {
    let scene = Scene::begin("wf-coze-session").await?;
    scene.platform.speak(Dialect::CozeStudio);
    scene.platform.fail_polls(100, &Failure::wrong_session());
    let forever = Behaviour::Async { running_polls: usize::MAX, ending: Ending::Cancel };
    scene.ask("history", "7001", forever, "Async", &json!({"coze": {"dialect": "CozeStudio"}}))?;
    let status = scene.workflows.until_ended("history", Phase::Failed).await?;
    assert_eq!(said(&status).0, "AuthFailed");
    assert_eq!((scene.requests("7001").len(), scene.tokens().await?), (3, 2));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_refused_while_a_run_is_asked_for_does_not_end_the_run() -> Result<()> {
    let scene = Scene::begin("wf-coze-polled").await?;
    let forever = || Behaviour::Async { running_polls: usize::MAX, ending: Ending::Cancel };
    scene.ask("revoked", "7001", forever(), "Async", &json!({}))?;
    let client = scene.another("word").await?;
    scene.ask("word", "7002", forever(), "Async", &as_account("word", json!({})))?;
    scene.until_asked("7001", |requests| requests.len() >= 2).await?;
    scene.until_asked("7002", |requests| requests.len() >= 2).await?;
    scene.revoke("coze", &scene.client).await?;
    let refused_then_taken = |requests: &[CozeRequest]| {
        let refused = requests.iter().position(|request| request.client.is_none());
        refused.is_some_and(|at| requests[at..].iter().any(|request| request.client.is_some()))
    };
    scene.until_asked("7001", refused_then_taken).await?;
    scene.platform.finish(&scene.begun("7001")[0].id, Ending::Success(json!("done")));
    let status = scene.workflows.until_ended("revoked", Phase::Completed).await?;
    assert_eq!((only(&status).output.clone(), only(&status).attempts), (Some(json!("done")), 1));
    assert_eq!(scene.taken("7001").iter().filter(|taken| !**taken).count(), 1);
    assert_eq!((scene.begun("7001").len(), scene.tokens().await?), (1, 2));

    // By word alone, though the token is good; and again, before another one may be had.
    for tokens in [2, 2] {
        let polls = scene.requests("7002").len();
        scene.platform.fail_polls(1, &Failure::authentication().with_http(200));
        scene.until_asked("7002", |requests| requests.len() >= polls + 2).await?;
        assert_eq!(scene.tokens_of(&client).await?, tokens);
    }
    scene.platform.finish(&scene.begun("7002")[0].id, Ending::Success(json!("done")));
    scene.workflows.until_ended("word", Phase::Completed).await?;
    assert_eq!(scene.begun("7002").len(), 1);
    Ok(())
}
