//! A program whose token was refused asks the operator for another one.

use super::{cluster, issuer, story};
use crate::testbed::app_pod::{CA, bundle, mounting, pod, projected};
use crate::testbed::asking_program::{Answer, Program, fingerprint};
use crate::testbed::authorization_server::{AuthorizationServer, Client};
use crate::testbed::operator::Operator;
use crate::testbed::story::{Reach, Story, eventually, manifest};
use crate::testbed::{Result, root};
use oauth_operator::api::Trigger;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(20);

/// A ServiceAccount of the tenant's with these rights, and no Pod; its token.
fn person(story: &Story<'_>, name: &str, rules: Value) -> Result<String> {
    let (meta, rights) = (json!({"name": name}), "rbac.authorization.k8s.io/v1");
    let items = json!([
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
        {"apiVersion": rights, "kind": "Role", "metadata": meta, "rules": rules},
        {"apiVersion": rights, "kind": "RoleBinding", "metadata": meta,
         "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
         "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": story.apps}]},
    ]);
    story.kubectl().apply(&json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string())?;
    Ok(story.kubectl().run(&["create", "token", name, "--audience", "oauth-operator"])?.trim().to_owned())
}

fn rule(group: &str, resource: &str, verb: &str, name: &str) -> Value {
    json!({"apiGroups": [group], "resources": [resource], "verbs": [verb], "resourceNames": [name]})
}

/// An account `one` with client credentials and the token that it has.
async fn account(story: &Story<'_>, provider: &AuthorizationServer) -> Result<(Client, String)> {
    let client = provider.register(3600, "client_secret_basic").await?;
    story.account("one", &issuer(provider), &client, &json!({}))?;
    story.until_ready("one").await?;
    Ok((client, story.key("one-token", "access_token")?))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_is_replaced_for_twenty_who_ask_by_one_token_request() -> Result<()> {
    let (story, provider) = story("asked").await?;
    story.may_review()?;
    let operator = story.operator("operator-1").await?;
    let (client, first) = account(&story, provider).await?;
    pod(&story, "web", mounting("one"))?;
    let (program, token) = (Program::beside(&story, &operator).await?, projected(&story, "web")?);

    // What was refused is an older one, or there was none: the newer is there already.
    for refused in [Some("an older one"), None] {
        let answer = program.ask("one", &token, refused).await?;
        assert_eq!(answer.token()?, first);
        let fields: Vec<&String> = answer.body.as_object().ok_or("an object")?.keys().collect();
        assert_eq!(fields, ["accessToken", "expiresAt", "generation", "tokenType"]);
        assert_eq!((&answer.body["generation"], &answer.body["tokenType"]), (&json!(1), &json!("Bearer")));
        assert_eq!(answer.body["expiresAt"], json!(story.key("one-token", "expires_at")?));
    }
    assert_eq!(provider.token_requests(&client).await?, (1, 0), "nobody was asked");
    assert_eq!(story.state("one")?, None, "and nothing written down");

    provider.revoke(&client, &first).await?;
    let twenty = (0..20).map(|_| program.ask("one", &token, Some(&first)));
    let answers = futures::future::try_join_all(twenty).await?;
    let tokens = answers.iter().map(Answer::token).collect::<Result<HashSet<_>>>()?;
    let newest = story.key("one-token", "access_token")?;
    assert_eq!(tokens, HashSet::from([newest.as_str()]), "one token for all");
    assert_ne!(newest, first);
    assert_eq!(provider.introspect(&client, &newest).await?["active"], json!(true));
    assert_eq!(provider.token_requests(&client).await?, (2, 0), "exactly one token request");
    let demanded = || {
        Ok(story.get("one")?.status.filter(|status| status.history.first().is_some_and(|last| last.trigger == Trigger::Demanded)))
    };
    eventually(SOON, demanded).await?.ok_or("status does not say why")?;
    let answered = || Ok(story.state("one")?.filter(|state| state["demand"]["pending"] == json!(false)));
    eventually(SOON, answered).await?.ok_or("the demand stands for ever")?;

    let log = operator.log();
    let told: Vec<_> = log.iter().filter(|line| line["target"] == "audit" && line["what"] == "token handed out").collect();
    assert!(told.iter().all(|line| line["requestID"].as_str().is_some_and(|id| id.len() == 16)), "{told:?}");
    assert_eq!(told.len(), 22, "one line for each");
    let web = format!("system:serviceaccount:{}:web", story.apps);
    let last = told.last().ok_or("a line")?;
    assert_eq!((&last["who"], &last["pod"], &last["right"]), (&json!(web), &json!("web"), &json!("mount")));
    assert_eq!((&last["name"], &last["fingerprint"]), (&json!("one"), &json!(fingerprint(&newest))));
    assert!(
        !log.iter().any(|line| line["msg"].as_str().is_some_and(|said| said.contains("public keys"))),
        "TokenReview was used"
    );
    let output = operator.process.output();
    assert!(![&first, &newest, &token].iter().any(|secret| output.contains(secret.as_str())), "a secret in the log");
    let count = async |result: &str| {
        operator.metric(&format!("oauth_operator_refresh_requests_total{{result=\"{result}\"}}")).await.ok().flatten()
    };
    assert_eq!((count("newer").await, count("refreshed").await), (Some(2.0), Some(20.0)));

    let resting = || -> Result<Vec<String>> {
        Ok(story.writes_by_operator()?.into_iter().filter(|write| write != "update leases oauth-operator").collect())
    };
    let own = |write: &String| ["secrets", "configmaps", "oauthaccounts"].iter().any(|kind| write.contains(kind));
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before: Vec<_> = resting()?.into_iter().filter(own).collect();
    let state = oauth_operator::account::state_secret_name(&story.apps, "one");
    assert_eq!(before.iter().filter(|write| write.contains(&state)).count(), 2, "the demand and its answer: {before:?}");
    program.ask("one", &token, Some(&first)).await?.token()?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(resting()?.into_iter().filter(own).collect::<Vec<_>>(), before, "at rest nothing is written");
    Ok(())
}

/// Who is given a token and who is not, however the operator finds out who they are.
async fn who_may(story: &Story<'_>, provider: &AuthorizationServer, operator: &Operator) -> Result<()> {
    let (client, first) = account(story, provider).await?;
    let program = Program::beside(story, operator).await?;
    let (account, secret) =
        (rule("oauth-operator.dev", "oauthaccounts", "refresh", "one"), rule("", "secrets", "get", "one-token"));
    let projected_volume = json!([{"name": "all", "projected": {"sources": [{"secret": {"name": "one-token"}}]}}]);
    let without_token =
        json!([{"name": "t", "secret": {"secretName": "one-token", "items": [{"key": "expires_at", "path": "e"}]}}]);
    pod(story, "web", mounting("one"))?;
    pod(story, "batch", projected_volume)?;
    pod(story, "clock", without_token)?;
    pod(story, "other", mounting("two"))?;
    let entitled = [projected(story, "web")?, projected(story, "batch")?, person(story, "admin", json!([account, secret]))?];
    for token in &entitled {
        assert_eq!(program.ask("one", token, None).await?.token()?, first);
    }
    let strangers = [
        projected(story, "clock")?,
        projected(story, "other")?,
        // The ServiceAccount of the Pod that may, without the Pod.
        story.kubectl().run(&["create", "token", "web", "--audience", "oauth-operator"])?.trim().to_owned(),
        person(story, "half", json!([account]))?,
        person(story, "other-half", json!([secret]))?,
        person(story, "nobody", json!([]))?,
    ];
    for token in &strangers {
        let (here, nowhere) = (program.ask("one", token, None).await?, program.ask("none", token, None).await?);
        assert_eq!((here.code(), nowhere.code()), ((403, "not_entitled"), (403, "not_entitled")), "{here:?}");
        assert_eq!(here.message(), nowhere.message().replace("OAuthAccount none", "OAuthAccount one"), "names are not told");
        assert!(here.message().contains("must mount the account's token Secret"), "{here:?}");
    }
    let nobody = format!("system:serviceaccount:{}:nobody", story.apps);
    let told = operator.log().into_iter().filter(|line| line["what"] == "token refused" && line["who"] == json!(nobody)).count();
    assert_eq!(told, 2, "who asked in vain is in the audit log");
    assert_eq!(program.ask("none", &entitled[2], None).await?.code(), (403, "not_entitled"));
    let elsewhere = program.of("default");
    assert_eq!(elsewhere.ask("one", &entitled[0], None).await?.code(), (403, "not_entitled"));

    let whole = story.kubectl().run(&["create", "token", "admin"])?;
    let another = story.kubectl().run(&["create", "token", "admin", "--audience", "vault"])?;
    // Not the last character: some of its bits are not part of the signature.
    let (head, tail) = entitled[0].split_at(entitled[0].len() - 20);
    let forged = format!("{head}{}{}", if tail.starts_with('A') { 'B' } else { 'A' }, &tail[1..]);
    let reads = || story.requests_by_operator().map(|all| all.iter().filter(|one| *one == "get secrets one-token").count());
    let before = reads()?;
    for wrong in [whole.trim(), another.trim(), &forged, "not-a-token"] {
        assert_eq!(program.ask("one", wrong, Some("00000000")).await?.code(), (401, "unauthenticated"));
    }
    assert_eq!(reads()?, before, "for whom the cluster has not signed anything, nothing is read ahead");
    let path = format!("/v1/namespaces/{}/accounts/one/refresh", story.apps);
    assert_eq!(program.post(&path, None, "{}".into()).await?.code(), (401, "unauthenticated"));
    for body in ["{", r#"{"rejectedFingerprint":"ABC"}"#, r#"{"rejectedToken":"x"}"#, &" ".repeat(5000)] {
        assert_eq!(program.post(&path, Some(&entitled[0]), body.into()).await?.code(), (400, "malformed"));
    }
    let odd = path.replace("/one/", "/One%3B/");
    assert_eq!(program.post(&odd, Some(&entitled[0]), "{}".into()).await?.code(), (400, "malformed"));

    // The token of a Pod that is gone is worth nothing, not even where another one has taken its name.
    let gone = || story.kubectl().run(&["delete", "pod", "web", "--force", "--grace-period=0"]);
    gone()?;
    let after = program.ask("one", &entitled[0], None).await?;
    assert!([(401, "unauthenticated"), (403, "not_entitled")].contains(&after.code()), "{after:?}");
    pod(story, "web", mounting("one"))?;
    let after = program.ask("one", &entitled[0], None).await?;
    assert!([(401, "unauthenticated"), (403, "not_entitled")].contains(&after.code()), "{after:?}");
    assert_eq!(program.ask("one", &projected(story, "web")?, None).await?.token()?, first);
    assert_eq!(provider.token_requests(&client).await?, (1, 0), "nobody was asked for all that");
    Ok(())
}

fn knows_by_keys(operator: &Operator) -> bool {
    operator.log().iter().any(|line| line["msg"].as_str().is_some_and(|said| said.contains("by the cluster's public keys")))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_given_to_whoever_has_it_anyway_and_to_nobody_else() -> Result<()> {
    let (story, provider) = story("entitled").await?;
    story.may_review()?;
    let operator = story.operator("operator-1").await?;
    who_may(&story, provider, &operator).await?;
    assert!(!knows_by_keys(&operator));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_rights_in_the_whole_cluster_callers_are_known_by_its_public_keys() -> Result<()> {
    let (story, provider) = story("entitled-by-keys").await?;
    let operator = story.operator("operator-1").await?;
    who_may(&story, provider, &operator).await?;
    assert!(knows_by_keys(&operator));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_refused_again_waits_for_a_floor_that_a_restart_does_not_move() -> Result<()> {
    let (story, provider) = story("floor").await?;
    let operator = story.operator("operator-1").await?;
    let (client, first) = account(&story, provider).await?;
    pod(&story, "web", mounting("one"))?;
    let token = projected(&story, "web")?;
    let program = Program::beside(&story, &operator).await?;
    let second = program.ask("one", &token, Some(&first)).await?.token()?.to_owned();
    let began = Instant::now();
    let refused = program.ask("one", &token, Some(&second)).await?;
    assert_eq!(refused.code(), (429, "too_soon"));
    assert!(refused.again.is_some_and(|seconds| (20..=30).contains(&seconds)), "{refused:?}");
    assert!(refused.message().contains("this one is refused as well"), "{refused:?}");
    assert_eq!(program.ask("one", &token, Some(&first)).await?.token()?, second, "what is newer is given at once");

    operator.process.signal(Signal::TERM);
    operator.process.end_within(SOON).await.ok_or("it did not end")?;
    let operator = story.operator("operator-1").await?;
    let program = Program::beside(&story, &operator).await?;
    let refused = program.ask("one", &token, Some(&second)).await?;
    let again = refused.again.ok_or("no Retry-After")?;
    assert_eq!(refused.code(), (429, "too_soon"), "after a restart: {refused:?}");
    assert_eq!(provider.token_requests(&client).await?, (2, 0));
    tokio::time::sleep(Duration::from_secs(again)).await;
    assert!(began.elapsed() < Duration::from_secs(40), "the floor is half a minute");
    let third = program.ask("one", &token, Some(&second)).await?.token()?.to_owned();
    let refused = program.ask("one", &token, Some(&third)).await?;
    assert!(refused.again.is_some_and(|seconds| (50..=60).contains(&seconds)), "it has doubled: {refused:?}");
    assert_eq!(provider.token_requests(&client).await?, (3, 0), "no storm");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_serves_what_the_leader_redeems_and_a_refresh_token_is_spent_once() -> Result<()> {
    let (story, provider) = story("followed").await?;
    let leader = story.operator("operator-1").await?;
    leader.process.until("leading", SOON, async || leader.leads().await).await?;
    let follower = story.operator("operator-2").await?;
    let (client, refresh_token) = provider.log_in(3600, "alice").await?;
    story.login("one", &issuer(provider), &client, &refresh_token, &json!({}))?;
    story.until_ready("one").await?;
    let first = story.key("one-token", "access_token")?;
    pod(&story, "web", mounting("one"))?;
    let token = projected(&story, "web")?;
    let (near, far) = (Program::beside(&story, &follower).await?, Program::beside(&story, &leader).await?);
    let began = Instant::now();
    let twenty = (0..20).map(|number| if number % 4 == 0 { &far } else { &near }.ask("one", &token, Some(&first)));
    let answers = futures::future::try_join_all(twenty).await?;
    let tokens = answers.iter().map(Answer::token).collect::<Result<HashSet<_>>>()?;
    assert_eq!(tokens.len(), 1, "{tokens:?}");
    assert!(!tokens.contains(first.as_str()) && began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let redemptions = provider.redemptions(&client).await?;
    let digests: HashSet<_> = redemptions.iter().map(|(digest, _)| digest).collect();
    assert_eq!((redemptions.len(), digests.len()), (2, 2), "each refresh token once: {redemptions:?}");
    let did = |operator: &Operator, what: &str| operator.log().iter().filter(|line| line["what"] == what).count();
    assert_eq!((did(&leader, "token obtained"), did(&leader, "token handed out")), (2, 5));
    assert_eq!((did(&follower, "token obtained"), did(&follower, "token handed out")), (0, 15));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_survives_the_leader_s_end() -> Result<()> {
    let (story, provider) = story("orphaned").await?;
    let leader = story.operator("operator-1").await?;
    leader.process.until("leading", SOON, async || leader.leads().await).await?;
    let follower = story.operator("operator-2").await?;
    let (client, first) = account(&story, provider).await?;
    pod(&story, "web", mounting("one"))?;
    let (program, token) = (Program::beside(&story, &follower).await?, projected(&story, "web")?);
    leader.process.signal(Signal::KILL);
    let asking = program.ask("one", &token, Some(&first));
    let pending = async {
        let written = || Ok(story.state("one")?.filter(|state| state["demand"]["pending"] == json!(true)));
        let written = eventually(SOON, written).await?.ok_or("no demand is written down")?;
        assert!(!follower.leads().await, "while nobody leads");
        assert_eq!(written["demand"]["rejected"], json!(fingerprint(&first)));
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
    };
    let (answer, pending) = tokio::join!(asking, pending);
    pending?;
    assert_ne!(answer?.token()?, first);
    assert!(follower.leads().await);
    assert_eq!(provider.token_requests(&client).await?, (2, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn why_there_is_no_newer_token_is_said_in_a_sentence() -> Result<()> {
    let (story, provider) = story("denied").await?;
    let operator = story.operator("operator-1").await?;
    let (client, first) = account(&story, provider).await?;
    pod(
        &story,
        "web",
        json!([
            {"name": "one", "secret": {"secretName": "one-token"}}, {"name": "first", "secret": {"secretName": "first-token"}},
            {"name": "busy", "secret": {"secretName": "busy-token"}}, {"name": "over", "secret": {"secretName": "over-token"}},
            {"name": "new", "secret": {"secretName": "new-token"}},
        ]),
    )?;
    let (program, token) = (Program::beside(&story, &operator).await?, projected(&story, "web")?);
    story.kubectl().run(&["patch", "oauthaccount", "one", "--type=merge", "-p", r#"{"spec":{"suspend":true}}"#])?;
    let suspended = || Ok(story.get("one")?.status.filter(|status| status.observed_generation == Some(2)));
    eventually(SOON, suspended).await?.ok_or("not observed")?;
    let answer = program.ask("one", &token, Some(&first)).await?;
    assert_eq!((answer.code(), answer.again), ((503, "suspended"), Some(60)), "{answer:?}");
    assert!(answer.message().starts_with("spec.suspend keeps"), "{answer:?}");
    assert_eq!(program.ask("one", &token, None).await?.token()?, first, "what is published is given out");

    // The provider refuses: the token that is published stays, and whoever asks again is told when to.
    story.kubectl().run(&["patch", "oauthaccount", "one", "--type=merge", "-p", r#"{"spec":{"suspend":false}}"#])?;
    let resumed = || Ok(story.get("one")?.status.filter(|status| status.observed_generation == Some(3)));
    eventually(SOON, resumed).await?.ok_or("not observed")?;
    provider.change(&client, &json!({"client_secret": "another-secret-of-the-client-0123456789"})).await?;
    let answer = program.ask("one", &token, Some(&first)).await?;
    assert_eq!(answer.code(), (502, "provider_failed"), "{answer:?}");
    assert!(answer.again.is_some_and(|seconds| (1..=30).contains(&seconds)), "{answer:?}");
    assert!(!answer.body.to_string().contains(&client.secret), "{answer:?}");
    assert_eq!(provider.token_requests(&client).await?, (1, 1));
    assert_eq!(program.ask("one", &token, Some(&first)).await?.code(), (502, "provider_failed"));
    assert_eq!(provider.token_requests(&client).await?, (1, 1), "it is not asked again before the floor");
    assert_eq!(story.condition("one", "Ready")?.ok_or("no Ready")?.0, "True");

    // A login that is over.
    let (other, refresh_token) = provider.log_in(3600, "alice").await?;
    story.login("over", &issuer(provider), &other, &refresh_token, &json!({}))?;
    story.until_ready("over").await?;
    let held = story.state("over")?.ok_or("no state")?["credential"]["refreshToken"].as_str().unwrap_or_default().to_owned();
    let last = story.key("over-token", "access_token")?;
    let mut body = url::form_urlencoded::Serializer::new(String::new());
    body.append_pair("token", &held).append_pair("client_id", &other.id);
    let request = provider.http()?.post(format!("{}/token/revocation", provider.issuer)).body(body.finish());
    request.header("content-type", "application/x-www-form-urlencoded").send().await?;
    for _ in 0..2 {
        let answer = program.ask("over", &token, Some(&last)).await?;
        assert_eq!(answer.code(), (503, "reauthorization_required"), "{answer:?}");
        assert!(!answer.body.to_string().contains(&held), "{answer:?}");
        story.until("over", "ReauthorizationRequired", "True", "RedeemedElsewhere").await?;
    }

    // Nobody has logged in yet.
    let device = "urn:ietf:params:oauth:grant-type:device_code";
    let waiting = json!({
        "token_endpoint_auth_method": "none", "response_types": [], "grant_types": [device, "refresh_token"], "redirect_uris": [],
    });
    let waiting = provider.register_with(&waiting).await?;
    let spec = json!({
        "grant": {"clientCredentials": null, "deviceCode": {}}, "client": {"secretRef": null}, "scopes": ["openid", "offline_access"],
    });
    story.account_alone("new", &issuer(provider), &waiting, &spec)?;
    story.until("new", "Ready", "False", "AuthorizationPending").await?;
    let answer = program.ask("new", &token, None).await?;
    assert_eq!(answer.code(), (503, "consent_required"), "{answer:?}");
    assert!(answer.message().contains("new-authorization"), "where the code is: {answer:?}");
    let code = story.key("new-authorization", "user_code")?;
    assert!(!answer.body.to_string().contains(&code), "who has it could log in as another: {answer:?}");

    // Nobody can be reached, and there is no token at all.
    let endpoint = story.faulty_endpoint().await?;
    story.account("first", &endpoint.at("/unavailable"), &client, &json!({}))?;
    story.until("first", "RefreshFailing", "True", "ProviderError").await?;
    let answer = program.ask("first", &token, None).await?;
    assert_eq!(answer.code(), (502, "provider_failed"), "{answer:?}");
    story.account("busy", &endpoint.at("/rate-limited"), &client, &json!({}))?;
    story.until("busy", "RefreshFailing", "True", "RateLimited").await?;
    let answer = program.ask("busy", &token, None).await?;
    assert!(answer.status >= 500 && answer.again.is_some_and(|seconds| (20..=31).contains(&seconds)), "{answer:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ca_is_told_where_accounts_live_and_somebody_else_s_configmap_is_left_alone() -> Result<()> {
    let (story, provider) = story("told").await?;
    let operator = story.operator("operator-1").await?;
    assert_eq!(story.kubectl().run(&["get", "configmap", CA, "--ignore-not-found"])?, "", "nobody needs it yet");
    account(&story, provider).await?;
    let told = bundle(&story).await?;
    let system = story.cluster.kubectl().namespaced(&story.system);
    assert_eq!(system.run(&["get", "configmap", CA, "-o", r"jsonpath={.data.ca\.crt}"])?, told);
    let healed = async |edit: &[&str]| -> Result<()> {
        story.kubectl().run(edit)?;
        let right = || {
            Ok(story
                .kubectl()
                .try_run(&["get", "configmap", CA, "-o", r"jsonpath={.data.ca\.crt}"])
                .ok()
                .filter(|there| *there == told))
        };
        eventually(SOON, right).await?.ok_or_else(|| format!("after kubectl {edit:?} it is not put right"))?;
        Ok(())
    };
    healed(&["patch", "configmap", CA, "--type=merge", "-p", r#"{"data":{"ca.crt":"mine"}}"#]).await?;
    healed(&["delete", "configmap", CA]).await?;
    let writes = || {
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(
            story.writes_by_operator()?.iter().filter(|write| write.contains("configmaps")).count(),
        )
    };
    let before = writes()?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(writes()?, before, "at rest nothing is written");

    // The labels are what makes it the operator's.
    story.kubectl().run(&["label", "configmap", CA, "app.kubernetes.io/managed-by=Helm", "--overwrite"])?;
    story.kubectl().run(&["patch", "configmap", CA, "--type=merge", "-p", r#"{"data":{"ca.crt":"mine"}}"#])?;
    operator.process.until("left alone", SOON, async || operator.process.output().contains("is somebody else's")).await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(bundle(&story).await?, "mine");
    assert_eq!(writes()?, before);
    let warnings =
        operator.log().iter().filter(|line| line["msg"].as_str().is_some_and(|said| said.contains("is somebody else's"))).count();
    assert!(warnings <= 2, "it is said once, and not every two seconds: {warnings}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_to_keep_a_ca_accounts_are_served_and_health_says_what_is_missing() -> Result<()> {
    let (story, provider) = story("no-ca").await?;
    let mut role: Value = manifest()?.into_iter().find(|object| object["kind"] == json!("Role")).ok_or("no Role")?;
    role["metadata"]["namespace"] = json!(story.system);
    role["rules"].as_array_mut().ok_or("rules")?.retain(|rule| rule["resources"] != json!(["configmaps"]));
    story.cluster.kubectl().apply(&role.to_string())?;
    let operator = story.operator("operator-1").await?;
    account(&story, provider).await?;
    let (status, verbose) = operator.get("/healthz?verbose").await?;
    assert_eq!(status, 200, "{verbose}");
    assert!(verbose.contains("ca: degraded") && verbose.contains("configmaps"), "what is missing is named: {verbose}");
    assert_eq!(operator.get("/readyz").await?.0, 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_endpoint_s_service_leads_to_what_the_certificate_names() -> Result<()> {
    let story = Story::begin(cluster().await?, "service", Reach::Tenant).await?;
    let service = manifest()?.into_iter().find(|object| object["kind"] == json!("Service")).ok_or("no Service")?;
    assert_eq!((&service["metadata"]["name"], &service["spec"]["ports"][0]["port"]), (&json!("oauth-operator"), &json!(8443)));
    let text = std::fs::read_to_string(root().join("deploy/operator.yaml"))?;
    assert!(text.contains("containerPort: 8443"));
    let operator = story.operator("operator-1").await?;
    for host in ["oauth-operator", "oauth-operator-consent"] {
        let host = format!("{host}.{}.svc", story.system);
        let kubectl = story.cluster.kubectl().namespaced(&story.system);
        let told = || {
            Ok(kubectl.try_run(&["get", "configmap", CA, "-o", r"jsonpath={.data.ca\.crt}"]).ok().filter(|told| !told.is_empty()))
        };
        let told = eventually(SOON, told).await?.ok_or("no bundle")?;
        let ca = reqwest::Certificate::from_pem_bundle(told.as_bytes())?;
        let http = reqwest::Client::builder().tls_certs_only(ca).no_proxy().resolve(&host, operator.tls_address).build()?;
        let answer = http.get(format!("https://{host}:{}/consent/a/b", operator.tls_address.port())).send().await?;
        assert_eq!(answer.status().as_u16(), 404, "without --consent-url there are no pages");
    }
    Ok(())
}
