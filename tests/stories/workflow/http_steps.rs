//! HTTP steps and the tokens that they send: whose, where to, and what is done when one is refused.

use super::runs::scene;
use crate::testbed::step_server::StepServer;
use crate::testbed::workflows::{said, step, why};
use crate::testbed::{Result, authorization_server::random};
use crate::{issuer, provider};
use oauth_operator::api::{Notice, Phase, RunReason};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_was_revoked_is_replaced_once_and_the_request_sent_once_more() -> Result<()> {
    let (workflows, _operator) = scene("wf-revoked").await?;
    let provider = provider().await?;
    let client = workflows.account("revoked", provider, &issuer(provider)).await?;
    let token = workflows.story.key("revoked-token", "access_token")?;
    provider.revoke(&client, &token).await?;
    let (before, _) = provider.token_requests(&client).await?;
    let post = json!({"http": {"method": "POST", "accountRef": {"name": "revoked"}}});
    workflows.run("first", &json!({"workflowSpec": {"steps": [workflows.step("post", "/echo/post", &post)]}}))?;
    let status = workflows.until_ended("first", Phase::Completed).await?;
    assert_eq!(step(&status, "post").attempts, 1, "a resend is a part of the attempt");
    let requests = workflows.api.requests_to("/echo/post");
    let clients: Vec<_> = requests.iter().map(|request| request.client.clone()).collect();
    assert_eq!(clients, [None, Some(client.id.clone())]);
    assert_eq!(requests[0].token(), Some(token.as_str()));
    assert_eq!(requests[0].header("idempotency-key"), requests[1].header("idempotency-key"));
    assert_eq!(provider.token_requests(&client).await?.0, before + 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_token_that_is_refused_too_ends_the_step_and_403_asks_for_none() -> Result<()> {
    let (workflows, _operator) = scene("wf-unauthorized").await?;
    let provider = provider().await?;
    let stubborn = workflows.account("stubborn", provider, &issuer(provider)).await?;
    let forbidden = workflows.account("forbidden", provider, &issuer(provider)).await?;
    let before = (provider.token_requests(&stubborn).await?.0, provider.token_requests(&forbidden).await?.0);
    let of = |account: &str| json!({"http": {"accountRef": {"name": account}}, "retry": {"limit": 3, "backoff": {"initialSeconds": 1}}});
    let run = |steps: Value| json!({"workflowSpec": {"steps": steps}});
    workflows.run("stubborn", &run(json!([workflows.step("a", "/unauthorized/s?times=99", &of("stubborn"))])))?;
    workflows.run("forbidden", &run(json!([workflows.step("a", "/status/403", &of("forbidden"))])))?;
    let bare = workflows.step("a", "/unauthorized/bare?times=99", &json!({"retry": {"limit": 3}}));
    workflows.run("bare", &run(json!([bare])))?;

    let status = workflows.until_ended("stubborn", Phase::Failed).await?;
    assert_eq!((said(&status).0.as_str(), step(&status, "a").http_status), ("AuthFailed", Some(401)));
    assert!(said(&status).1.contains("A fresh one was refused as well"), "{}", said(&status).1);
    assert_eq!(workflows.api.requests_to("/unauthorized/s").len(), 2);
    let status = workflows.until_ended("forbidden", Phase::Failed).await?;
    assert_eq!((said(&status).0.as_str(), step(&status, "a").http_status), ("PermissionDenied", Some(403)));
    assert_eq!(workflows.api.requests_to("/status/403").len(), 1);
    let status = workflows.until_ended("bare", Phase::Failed).await?;
    assert_eq!(said(&status).0, "AuthFailed");
    assert!(said(&status).1.contains("name an account in accountRef"), "{}", said(&status).1);
    let after = (provider.token_requests(&stubborn).await?.0, provider.token_requests(&forbidden).await?.0);
    assert_eq!(after, (before.0 + 1, before.1), "one forced refresh, and none for 403");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_goes_to_no_host_that_its_account_does_not_name_and_follows_no_redirect() -> Result<()> {
    let (workflows, _operator) = scene("wf-hosts").await?;
    let elsewhere = StepServer::start(provider().await?).await?;
    workflows.story.ca("elsewhere-ca", &elsewhere.ca)?;
    let run = |step: Value| json!({"workflowSpec": {"steps": [step]}});
    let account = json!({"accountRef": {"name": "api"}});
    let other = json!({"http": {"url": format!("{}/items", elsewhere.url), "caBundleRef": {"name": "elsewhere-ca"}, "accountRef": {"name": "api"}}});
    workflows.run("elsewhere", &run(workflows.step("a", "", &other)))?;
    let redirect = format!("/redirect?to={}/open/x", elsewhere.url);
    workflows.run("with", &run(workflows.step("a", &redirect, &json!({ "http": account }))))?;
    workflows.run("without", &run(workflows.step("a", &redirect, &json!({}))))?;

    let status = workflows.until_ended("elsewhere", Phase::Failed).await?;
    let (reason, message) = said(&status);
    let host = elsewhere.url.trim_start_matches("https://");
    assert_eq!(reason, "PermissionDenied", "{message}");
    assert!(message.contains(host) && message.contains("spec.allowedHosts"), "{message}");
    for name in ["with", "without"] {
        let status = workflows.until_ended(name, Phase::Failed).await?;
        let (reason, message) = said(&status);
        assert_eq!((reason.as_str(), step(&status, "a").http_status), ("StepFailed", Some(302)), "{message}");
        assert!(message.contains("not followed"), "{message}");
    }
    assert_eq!(workflows.api.requests_to("/redirect").len(), 2);
    assert!(elsewhere.requests().is_empty(), "{:?}", elsewhere.requests());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_waits_for_its_account_and_goes_on_when_it_comes_back() -> Result<()> {
    let (workflows, _operator) = scene("wf-waits").await?;
    let (provider, kubectl) = (provider().await?, workflows.story.kubectl());
    let waits = |path: &str| workflows.step("a", path, &json!({"http": {"accountRef": {"name": "late"}}}));
    workflows.run("too-late", &json!({"workflowSpec": {"timeoutSeconds": 4, "steps": [waits("/items?run=too-late")]}}))?;
    workflows.run("patient", &json!({"workflowSpec": {"steps": [waits("/items?run=patient")]}}))?;
    let status = workflows.until("patient", |status| said(status).0 == "AccountNotReady").await?;
    assert_eq!((status.phase, step(&status, "a").phase), (Phase::Pending, Phase::Pending));
    assert!(said(&status).1.contains("There is no OAuthAccount late"), "{}", said(&status).1);
    let status = workflows.until_ended("too-late", Phase::Failed).await?;
    assert_eq!((said(&status).0.as_str(), step(&status, "a").attempts), ("AccountNotReady", 0));
    assert!(said(&status).1.contains("timeoutSeconds (4)"), "{}", said(&status).1);
    assert!(workflows.api.requests().is_empty());

    workflows.account("late", provider, &issuer(provider)).await?;
    workflows.until_ended("patient", Phase::Completed).await?;

    // In the middle of a run: the account goes while the first step is under way, and comes back without what it needs.
    workflows.api.hold("/open/hold");
    let first = workflows.step("first", "/open/hold", &json!({}));
    let second =
        workflows.step("second", "/items?run=middle", &json!({"dependsOn": ["first"], "http": {"accountRef": {"name": "late"}}}));
    workflows.run("middle", &json!({"workflowSpec": {"steps": [first, second]}}))?;
    workflows.api.until_arrived("/open/hold", 1).await?;
    kubectl.run(&["delete", "oauthaccount", "late"])?;
    workflows.api.release();
    let status = workflows.until("middle", |status| said(status).0 == "AccountNotReady").await?;
    assert_eq!((status.phase, step(&status, "first").phase), (Phase::Running, Phase::Completed));
    let client = provider.register(3600, "client_secret_basic").await?;
    kubectl.run(&["delete", "secret", "late-client", "--ignore-not-found"])?;
    workflows.story.account_alone("late", &issuer(provider), &client, &json!({"allowedHosts": [workflows.host()]}))?;
    let status = workflows.until("middle", |status| said(status).1.contains("is not Ready")).await?;
    assert_eq!(said(&status).0, "AccountNotReady");
    workflows.story.secret("late-client", &[("client_secret", &client.secret)])?;
    workflows.until_ended("middle", Phase::Completed).await?;
    assert_eq!(workflows.api.requests_to("/items").len(), 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_an_api_repeats_is_nowhere_to_be_read() -> Result<()> {
    let (workflows, operator) = scene("wf-canary").await?;
    let account = json!({"accountRef": {"name": "api"}});
    let padding = random().repeat(600);
    let echo = |name: &str, patch: Value| {
        let mut all = json!({"http": {"method": "POST", "accountRef": {"name": "api"}}});
        crate::testbed::story::merge(&mut all, &patch);
        workflows.step(name, &format!("/echo/{name}"), &all)
    };
    let small = echo("small", json!({}));
    let large = echo("large", json!({"http": {"body": {"padding": padding}}}));
    let refused = echo("refused", json!({"http": {"successWhen": "response.body.method == 'GET'"}, "onError": "Continue"}));
    let crooked = echo("crooked", json!({"output": "${response.body.headers.authorization.nothing}", "onError": "Continue"}));
    let mut told = workflows.step("told", "/open/told", &json!({"http": {"method": "POST", "body": {"outputs": "${outputs}"}}}))
        ["http"]
        .clone();
    crate::testbed::story::merge(&mut told, &account);
    let spec = json!({
        "steps": [small, large, refused, crooked],
        "outputs": {"small": "${steps.small.output.headers.authorization}", "large": "${steps.large.output}"},
        "onComplete": told,
    });
    workflows.run("canary", &json!({ "workflowSpec": spec }))?;
    let status = workflows.until("canary", |status| status.completion == Some(Notice::Delivered)).await?;
    assert_eq!(status.phase, Phase::Completed, "{status:?}");
    let token = workflows.story.key("api-token", "access_token")?;
    assert!(workflows.api.requests_to("/echo").iter().all(|request| request.token() == Some(&token)));
    let kubectl = workflows.story.kubectl();
    let everything = kubectl.run(&["get", "workflowruns,events,controllerrevisions", "-o", "yaml"])?;
    assert!(everything.contains("Bearer ***") && !everything.contains(&token));
    assert!(!operator.process.output().contains(&token));
    let mut secrets = vec![];
    for reference in [step(&status, "large").output_ref.as_ref(), status.outputs_ref.as_ref()] {
        let reference = reference.ok_or("it is kept in a Secret")?;
        secrets.push(super::outputs::unpacked(&workflows.story, reference)?);
    }
    assert!(secrets.iter().all(|output| output.contains("Bearer ***") && !output.contains(&token)));
    let told = &workflows.api.requests_to("/open/told")[0];
    assert_eq!(told.body["outputs"]["small"], "Bearer ***");
    assert!(!told.body.to_string().contains(&token));
    assert_eq!(why(&status, "crooked").0, Some(RunReason::InvalidDefinition));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_that_meet_one_refused_token_ask_for_one_new_one() -> Result<()> {
    let (workflows, _operator) = scene("wf-together").await?;
    let provider = provider().await?;
    let client = workflows.account("shared", provider, &issuer(provider)).await?;
    let token = workflows.story.key("shared-token", "access_token")?;
    provider.revoke(&client, &token).await?;
    let (before, _) = provider.token_requests(&client).await?;
    let spec = |name: &str| {
        let step = workflows.step("a", &format!("/items?run={name}"), &json!({"http": {"accountRef": {"name": "shared"}}}));
        json!({"workflowSpec": {"steps": [step]}})
    };
    let names: Vec<_> = (0..5).map(|number| format!("run-{number}")).collect();
    for name in &names {
        workflows.run(name, &spec(name))?;
    }
    for name in &names {
        workflows.until_ended(name, Phase::Completed).await?;
    }
    assert_eq!(provider.token_requests(&client).await?.0, before + 1);
    let requests = workflows.api.requests_to("/items").len();
    assert!((6..=10).contains(&requests), "{requests}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_step_is_told_when_its_run_began() -> Result<()> {
    let (workflows, _operator) = scene("wf-begun").await?;
    let header = json!({"http": {"headers": [{"name": "x-begun", "value": "${run.startTime}"}]}});
    let first = workflows.step("first", "/open/begun-1", &header);
    let mut second = workflows.step("second", "/open/begun-2", &header);
    second["dependsOn"] = json!(["first"]);
    workflows.run("begun", &json!({"workflowSpec": {"steps": [first, second]}}))?;
    let status = workflows.until_ended("begun", Phase::Completed).await?;
    let began = status.start_time.ok_or("no startTime")?.0.to_string();
    for place in ["/open/begun-1", "/open/begun-2"] {
        assert_eq!(workflows.api.requests_to(place)[0].header("x-begun"), Some(began.as_str()), "{place}");
    }
    Ok(())
}
