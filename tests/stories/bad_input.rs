//! Bad input gets a sentence that says what is allowed, or a condition that says what is wrong; nobody else notices.

use super::{cluster, issuer, story};
use crate::testbed::Result;
use crate::testbed::authorization_server::Client;
use crate::testbed::process::free_port;
use crate::testbed::story::{account, eventually};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

/// The API server itself refuses these, with no operator about.
#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_object_is_refused_with_what_is_allowed() -> Result<()> {
    let kubectl = cluster().await?.kubectl();
    let client = Client { id: "app".into(), secret: "unused".into() };
    let provider = json!({"issuer": "https://login.example.com"});
    let key = json!({"name": "s", "key": "k"});
    let long = "x".repeat(201);
    let cases = [
        ("a", json!({"provider": {"issuer": null}}), "must set exactly one of `preset`, `issuer` and `custom`"),
        ("a", json!({"provider": {"preset": "Coze"}}), "must set exactly one of `preset`, `issuer` and `custom`"),
        (
            "a",
            json!({"provider": {"issuer": "http://login.example.com"}}),
            "must be an https URL without user, query and fragment",
        ),
        (
            "a",
            json!({"provider": {"issuer": "https://login.example.com/?tenant=a"}}),
            "must be an https URL without user, query and fragment",
        ),
        (
            "a",
            json!({"provider": {"issuer": "https://user@login.example.com"}}),
            "must be an https URL without user, query and fragment",
        ),
        (
            "a",
            json!({"provider": {"parameters": {"Tenant": "a"}}}),
            "keys of `parameters` must be names such as tenant or region",
        ),
        ("a", json!({"provider": {"parameters": {"tenant": "a/../b"}}}), "spec.provider.parameters.tenant"),
        ("a", json!({"provider": {"caBundleRef": {"name": "Not_A_Name"}}}), "spec.provider.caBundleRef.name"),
        ("a", json!({"grant": {"clientCredentials": null}}), "must set exactly one of `clientCredentials`, `refreshToken`"),
        ("a", json!({"grant": {"deviceCode": {}}}), "must set exactly one of `clientCredentials`, `refreshToken`"),
        ("a", json!({"client": {"id": null}}), "must set `client.id` or `client.idFrom` for this grant"),
        ("a", json!({"client": {"idFrom": {"secretKeyRef": key}}}), "may not set both `id` and `idFrom`"),
        ("a", json!({"client": {"authMethod": "None"}}), "`client.authMethod` may not be None with `grant.clientCredentials`"),
        (
            "a",
            json!({"client": {"authMethod": "ClientSecretPost", "secretRef": null}}),
            "must set `client.secretRef` for this `client.authMethod`",
        ),
        ("a", json!({"client": {"authMethod": "clientSecretPost"}}), "supported values: \"ClientSecretBasic\""),
        ("a", json!({"scopes": ["a b"]}), "must hold one scope an entry"),
        ("a", json!({"scopes": ["a", "a"]}), "Duplicate value"),
        ("a", json!({"refresh": {}}), "must set exactly one of `beforeExpirySeconds` and `beforeExpiryPercent`"),
        ("a", json!({"refresh": {"beforeExpiryPercent": 51}}), "should be less than or equal to 50"),
        ("a", json!({"allowedHosts": ["https://api.example.com"]}), "must hold hosts such as api.example.com"),
        ("a", json!({"tokenSecret": {"labels": {"kubernetes.io/x": "y"}}}), "`labels` may not use the prefixes kubernetes.io/"),
        (
            "a",
            json!({"tokenSecret": {"labels": {"app.kubernetes.io/managed-by": "y"}}}),
            "`labels` may not use the prefixes kubernetes.io/",
        ),
        (
            "a",
            json!({"tokenSecret": {"annotations": {"kubernetes.io/service-account.name": "admin"}}}),
            "`annotations` may not use the prefixes kubernetes.io/",
        ),
        (
            "a",
            json!({"tokenSecret": {"annotations": {"oauth-operator.dev/account": "b"}}}),
            "`annotations` may not use the prefixes",
        ),
        ("a", json!({"tokenSecret": {"type": "kubernetes.io/service-account-token"}}), "spec.tokenSecret.type"),
        ("a", json!({"tokenSecret": {"data": {"access_token": "x"}}}), "may not be those the operator writes itself"),
        (
            "a",
            json!({"provider": {"issuer": null, "custom": {"tokenURL": "http://login.example.com/token"}}}),
            "must be an https URL without user and fragment, such as",
        ),
        ("a", json!({"client": {"secretRef": null}}), "must set `client.secretRef` for `grant.clientCredentials`"),
        ("a", json!({"tokenSecret": {"labels": {"-a": "y"}}}), "keys of `labels` must be label names"),
        ("a", json!({"tokenSecret": {"annotations": {"a b": "y"}}}), "keys of `annotations` must be annotation names"),
        ("a", json!({"tokenSecret": {"data": {"a/b": "x"}}}), "keys of `data` must consist of letters"),
        (
            "a",
            json!({"tokenSecret": {"type": "kubernetes.io/dockerconfigjson"}}),
            "`data` must have the key .dockerconfigjson for the type kubernetes.io/dockerconfigjson",
        ),
        (
            "a",
            json!({"tokenSecret": {"type": "kubernetes.io/basic-auth", "data": {"user": "x"}}}),
            "`data` must have the key username or password for the type kubernetes.io/basic-auth",
        ),
        (
            "a",
            json!({"tokenSecret": {"creationPolicy": "Merge"}}),
            "must set `name`, and may not set `type`, `labels` and `annotations`, where `creationPolicy` is Merge",
        ),
        (
            "a",
            json!({"grant": {"clientCredentials": null, "tokenExchange": {"subjectToken": {}}}}),
            "must set exactly one of `serviceAccountToken` and `secretRef`",
        ),
        (long.as_str(), json!({}), "must have at most 200 characters"),
    ];
    // Every sentence that the definition knows is heard at least once.
    let definition: Value = serde_json::to_value(oauth_operator::api::schema::definitions().remove(0).1)?;
    let mut unheard = BTreeSet::new();
    collect_messages(&definition, &mut unheard);
    for (name, patch, words) in cases {
        let manifest = account(name, &provider, &client, &patch).to_string();
        let refusal = kubectl.feed(&["apply", "--dry-run=server", "-f", "-"], &manifest);
        let refusal = refusal.err().ok_or_else(|| format!("accepted: {patch}"))?;
        assert!(refusal.contains(words), "{patch} must be refused with {words:?}, not: {refusal}");
        unheard.retain(|message| !refusal.contains(message.as_str()));
    }
    assert!(unheard.is_empty(), "no case for {unheard:?}");
    let misspelled = account("a", &provider, &client, &json!({"scope": ["read"]})).to_string();
    let refusal = kubectl.feed(&["apply", "--dry-run=server", "--validate=strict", "-f", "-"], &misspelled);
    assert!(refusal.is_err_and(|refusal| refusal.contains("unknown field \"spec.scope\"")));
    kubectl.feed(&["apply", "--dry-run=server", "-f", "-"], &account("a", &provider, &client, &json!({})).to_string())?;
    Ok(())
}

fn collect_messages(node: &Value, messages: &mut BTreeSet<String>) {
    match node {
        Value::Object(object) => {
            for rule in object.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten() {
                messages.extend(rule["message"].as_str().map(str::to_owned));
            }
            object.values().for_each(|value| collect_messages(value, messages));
        }
        Value::Array(items) => items.iter().for_each(|item| collect_messages(item, messages)),
        _ => {}
    }
}

/// What is wrong with a refresh token is said before anything is sent, and a better one is taken up at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_that_is_none_is_named_and_a_better_one_is_taken_up() -> Result<()> {
    let (story, provider) = story("bad-seeds").await?;
    let _operator = story.operator("operator-1").await?;
    let (client, refresh_token) = provider.log_in(3600, "alice").await?;
    for (name, seed, words) in [
        ("empty", "", "is empty; put the credential there"),
        ("line-break", "abc\n", "ends with a line break; remove it"),
        ("two-lines", "abc\ndef", "holds a character at position 3 that no credential may have"),
    ] {
        story.login(name, &issuer(provider), &client, seed, &json!({}))?;
        let message = story.until(name, "RefreshFailing", "True", "Configuration").await?;
        assert!(message.contains(&format!("Key refresh_token of Secret {name}-seed {words}")), "{message}");
    }
    assert_eq!(provider.token_requests(&client).await?, (0, 0));
    story.secret("empty-seed", &[("refresh_token", &refresh_token)])?;
    story.until_ready("empty").await?;
    story.kubectl().run(&["delete", "secret", "empty-seed"])?;
    story.kubectl().run(&[
        "annotate",
        "oauthaccount",
        "empty",
        "oauth-operator.dev/refresh-requested-at=2026-01-01T00:00:01Z",
    ])?;
    story.until_generation("empty", 2).await?;
    Ok(())
}

/// A template that can be made of no token stalls before one is asked for.
#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_cannot_be_made_stalls_with_its_key() -> Result<()> {
    let (story, provider) = story("bad-templates").await?;
    let operator = story.operator("operator-1").await?;
    let client = provider.register(3600, "client_secret_basic").await?;
    let explosive = format!("${{{}}}", "token.accessToken + ".repeat(20) + "''");
    for (name, text, words) in [
        ("unknown", "${token.refreshToken}", "names a field that does not exist"),
        ("endless", "${token.accessToken", "does not end"),
        ("nested", "${token.scopes.map(a, token.scopes.map(b, a + b))}", "goes through a list, which is not allowed here"),
        ("explosive", &explosive, "has more than 32 operators"),
    ] {
        story.account(name, &issuer(provider), &client, &json!({"tokenSecret": {"data": {"header": text}}}))?;
        let message = story.until(name, "Stalled", "True", "Configuration").await?;
        assert!(message.contains("spec.tokenSecret.data[header] cannot be used") && message.contains(words), "{message}");
    }
    assert_eq!(provider.token_requests(&client).await?, (0, 0));
    assert!(operator.process.ended().is_none());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_cannot_be_used_stalls_with_its_name() -> Result<()> {
    let (story, provider) = story("unusable").await?;
    let _operator = story.operator("operator-1").await?;
    let client = provider.register(3600, "client_secret_basic").await?;
    story.account("later", &issuer(provider), &client, &json!({"expectedSubject": "alice"}))?;
    let message = story.until("later", "Stalled", "True", "Configuration").await?;
    assert!(message.contains("spec.expectedSubject speaks of a person's login"), "{message}");
    story.until("later", "Ready", "False", "Configuration").await?;
    assert_eq!(provider.token_requests(&client).await?, (0, 0));
    story.kubectl().run(&[
        "patch",
        "oauthaccount",
        "later",
        "--type=json",
        "-p",
        r#"[{"op": "remove", "path": "/spec/expectedSubject"}]"#,
    ])?;
    story.until_ready("later").await?;
    assert_eq!(story.condition("later", "Stalled")?, None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_named_and_its_arrival_is_enough() -> Result<()> {
    let (story, provider) = story("missing").await?;
    let _operator = story.operator("operator-1").await?;
    let client = provider.register(3600, "client_secret_basic").await?;
    story.account_alone("early", &issuer(provider), &client, &json!({}))?;
    let message = story.until("early", "Ready", "False", "Configuration").await?;
    assert_eq!(message, format!("Secret early-client does not exist in namespace {}; create it.", story.apps));
    story.until("early", "Reconciling", "True", "Configuration").await?;
    story.secret("early-client", &[("secret", &client.secret)])?;
    let other_key = async || story.until("early", "Ready", "False", "Configuration").await;
    let mut message = other_key().await?;
    for _ in 0..50 {
        if message.contains("has no key") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        message = other_key().await?;
    }
    assert_eq!(message, "Secret early-client has no key client_secret; add it, or name another key.");
    story.secret("early-client", &[("client_secret", &client.secret)])?;
    story.until_ready("early").await?;

    let unknown_ca = json!({"issuer": provider.issuer, "caBundleRef": {"name": "no-ca"}});
    story.account("no-ca", &unknown_ca, &client, &json!({}))?;
    let message = story.until("no-ca", "Ready", "False", "Configuration").await?;
    assert!(message.starts_with("ConfigMap no-ca does not exist"), "{message}");
    story.ca("no-ca", &provider.ca)?;
    story.until_ready("no-ca").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_in_a_secret_is_named_without_being_shown() -> Result<()> {
    let (story, provider) = story("garbage").await?;
    let _operator = story.operator("operator-1").await?;
    let client = provider.register(3600, "client_secret_basic").await?;
    let with_line_break = format!("{}\n", client.secret);
    for (name, value, words) in [
        ("line-break", with_line_break.as_str(), "ends with a line break; remove it"),
        ("empty", "", "is empty"),
        ("binary", "\u{1}\u{2}\u{3}", "holds a character at position 0"),
        ("two-lines", "first-half\nsecond-half", "holds a character at position 10"),
    ] {
        story.secret(&format!("{name}-client"), &[("client_secret", value)])?;
        story.account_alone(name, &issuer(provider), &client, &json!({}))?;
        let message = story.until(name, "Stalled", "True", "Configuration").await?;
        assert!(
            message.starts_with(&format!("Key client_secret of Secret {name}-client ")) && message.contains(words),
            "{message}"
        );
        assert!(!message.contains("second-half"), "{message}");
    }
    story.ca("bad-ca", "-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")?;
    story.account("bad-ca", &json!({"issuer": provider.issuer, "caBundleRef": {"name": "bad-ca"}}), &client, &json!({}))?;
    let message = story.until("bad-ca", "Stalled", "True", "Configuration").await?;
    assert!(message.contains("Key ca.crt of ConfigMap bad-ca holds no PEM certificate"), "{message}");
    assert_eq!(provider.token_requests(&client).await?, (0, 0));

    story.secret("line-break-client", &[("client_secret", &client.secret)])?;
    story.until_ready("line-break").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_client_secret_stalls_until_it_is_corrected() -> Result<()> {
    let (story, provider) = story("wrong-secret").await?;
    let operator = story.operator("operator-1").await?;
    let client = provider.register(3600, "client_secret_basic").await?;
    let wrong = Client { secret: "certainly-not-the-secret".into(), ..client.clone() };
    story.account("wrong", &issuer(provider), &wrong, &json!({}))?;
    let message = story.until("wrong", "Stalled", "True", "Authentication").await?;
    assert!(message.contains("invalid_client") && message.contains("spec.client.secretRef"), "{message}");
    story.until("wrong", "Authorized", "False", "Authentication").await?;
    let audit: Vec<_> = operator.log().into_iter().filter(|line| line["target"] == "audit").collect();
    assert!(audit.len() == 1 && audit[0]["what"] == "no token obtained" && audit[0]["result"] == "invalid_client", "{audit:?}");
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert_eq!(
        provider.token_requests(&client).await?.1 + provider.token_requests(&wrong).await?.1,
        2,
        "one refusal, counted twice: no retries"
    );
    story.secret("wrong-client", &[("client_secret", &client.secret)])?;
    story.until_ready("wrong").await?;
    story.until("wrong", "Authorized", "True", "TokenIssued").await?;

    let narrow = provider.register_with(&json!({"accessTokenTtl": 3600, "scope": "read"})).await?;
    story.account("narrow", &issuer(provider), &narrow, &json!({"scopes": ["admin"]}))?;
    let message = story.until("narrow", "Stalled", "True", "Authorization").await?;
    assert!(message.contains("invalid_scope") && message.contains("spec.scopes"), "{message}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_answers_nonsense_is_quoted_and_bounded() -> Result<()> {
    let (story, provider) = story("nonsense").await?;
    let operator = story.operator("operator-1").await?;
    let endpoint = story.faulty_endpoint().await?;
    let client = provider.register(3600, "client_secret_basic").await?;
    let custom = |path: &str| endpoint.at(path);
    for (name, path, reason, words) in [
        ("html", "/html", "ProviderError", "a body that is no JSON object"),
        ("empty", "/empty", "ProviderError", "an empty body"),
        ("huge", "/huge", "ProviderError", "larger than 256 KiB"),
        ("injection", "/header-injection", "ProviderError", "control or non-ASCII characters"),
        ("redirect", "/redirect", "ProviderError", "redirects are never followed"),
        ("zero", "/lifetime/0", "ProviderError", "a lifetime of 0 s"),
        ("negative", "/lifetime/-3600", "ProviderError", "a lifetime of -3600 s"),
        ("past", "/lifetime/1600000000", "ProviderError", "already expired"),
        ("text", "/lifetime-in-words", "ProviderError", "no number of seconds"),
        ("limited", "/rate-limited", "RateLimited", "the provider asks for patience"),
        ("maintenance", "/unavailable", "ProviderError", "the provider is in trouble"),
        ("nowhere", "/no-such-fault", "Configuration", "check the endpoint in spec.provider"),
    ] {
        // Clients of their own: patience asked of one is asked of all that share its id.
        let client = Client { id: format!("client-of-{name}"), ..client.clone() };
        story.account(name, &custom(path), &client, &json!({}))?;
        let message = story.until(name, "Ready", "False", reason).await?;
        assert!(message.contains(words), "{name}: {message}");
        assert_eq!(story.read_secret(&format!("{name}-token"))?, None, "{name}: nothing is published");
    }
    let limited = story.get("limited")?.status.ok_or("no status")?;
    let (last, next) = (limited.last_attempt_time.ok_or("no attempt")?, limited.next_attempt_time.ok_or("no next attempt")?);
    assert!(next.0.duration_since(last.0).as_secs() >= 30, "Retry-After: 30 is heard");
    assert_eq!(endpoint.requests("/rate-limited"), 1);

    // Tokens that are nearly over when they come are not published, and not asked for without end.
    story.account("fleeting", &custom("/lifetime/2"), &client, &json!({}))?;
    let message = story.until("fleeting", "Ready", "False", "ProviderError").await?;
    assert!(message.contains("lives for"), "{message}");
    assert!(endpoint.requests("/lifetime/2") <= 3, "{} requests", endpoint.requests("/lifetime/2"));

    // A lifetime in milliseconds since the epoch, ten minutes ahead, is understood for what it is.
    let ahead = jiff::Timestamp::now().as_millisecond() + 600_000;
    story.account("epoch", &custom(&format!("/lifetime/{ahead}")), &client, &json!({}))?;
    story.until_ready("epoch").await?;
    let expires: jiff::Timestamp = story.key("epoch-token", "expires_at")?.parse()?;
    assert_eq!(expires.as_second(), ahead / 1000);

    // Meanwhile an account in order has its token at once.
    story.account("well", &issuer(provider), &client, &json!({}))?;
    story.until_ready("well").await?;
    let (status, health) = operator.get("/healthz?verbose").await?;
    assert!(status == 200 && health.contains("token-requests: unhealthy") && health.contains("overall: healthy"), "{health}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_cannot_be_reached_is_named_with_the_cause() -> Result<()> {
    let (story, provider) = story("unreachable").await?;
    let _operator = story.operator("operator-1").await?;
    let client = provider.register(3600, "client_secret_basic").await?;
    let port = free_port()?;
    let cases: Vec<(&str, Value, &str, String)> = vec![
        ("refused", json!({"issuer": format!("https://127.0.0.1:{port}")}), "Network", "Connection refused".into()),
        (
            "unknown-name",
            json!({"issuer": "https://no-such-host.invalid"}),
            "Network",
            "The name no-such-host.invalid does not resolve".into(),
        ),
        ("private-ca", json!({"issuer": provider.issuer}), "Network", "name it in spec.provider.caBundleRef".into()),
        (
            "other-issuer",
            json!({"issuer": provider.issuer.replace("127.0.0.1", "localhost"), "caBundleRef": {"name": "provider-ca"}}),
            "Configuration",
            format!("names another issuer, \"{}\"", provider.issuer),
        ),
        (
            "no-discovery",
            json!({"issuer": format!("{}/realms/none", provider.issuer), "caBundleRef": {"name": "provider-ca"}}),
            "Configuration",
            "answers HTTP 404 where its discovery document should be".into(),
        ),
    ];
    for (name, provider, reason, words) in &cases {
        story.account(name, provider, &client, &json!({}))?;
        let message = story.until(name, "Ready", "False", reason).await?;
        assert!(message.contains(words), "{name}: {message}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn discovery_speaks_both_dialects_and_trusts_no_document() -> Result<()> {
    let (story, provider) = story("discovery").await?;
    let _operator = story.operator_with("operator-1", &["--allowed-cidrs", "127.0.0.1/32"]).await?;
    let endpoint = story.faulty_endpoint().await?;
    let client = provider.register(3600, "client_secret_basic").await?;
    let issuer = |path: &str| json!({"issuer": format!("{}/{path}", endpoint.url), "caBundleRef": {"name": "faulty-ca"}});
    story.account("rfc8414", &issuer("rfc8414"), &client, &json!({}))?;
    story.until_ready("rfc8414").await?;
    story.account("endless", &issuer("endless"), &client, &json!({}))?;
    let message = story.until("endless", "Ready", "False", "ProviderError").await?;
    assert!(message.contains("larger than 1024 KiB"), "{message}");
    story.account("inside", &issuer("inside"), &client, &json!({}))?;
    let message = story.until("inside", "Stalled", "True", "Configuration").await?;
    assert!(message.contains("its address is not a public one"), "{message}");
    Ok(())
}

/// Whoever may write to one namespace may nest as deep as the API server takes it, which is deeper than most readers of JSON go.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_nested_without_end_keeps_nobody_else_waiting() -> Result<()> {
    let (story, provider) = story("nested").await?;
    let kubectl = story.kubectl();
    let objects = format!("{}{{}}{}", r#"{"a":"#.repeat(300), "}".repeat(300));
    let fields = format!("{}{{}}{}", r#"{"f:a":"#.repeat(300), "}".repeat(300));
    let managed = format!(
        r#""managedFields":[{{"manager":"m","operation":"Update","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{fields}}}]"#
    );
    for (resource, kind) in [("secrets", "Secret"), ("configmaps", "ConfigMap")] {
        let object = format!(r#"{{"apiVersion":"v1","kind":"{kind}","metadata":{{"name":"nested",{managed}}}}}"#);
        let path = format!("/api/v1/namespaces/{}/{resource}", story.apps);
        kubectl.feed(&["create", "--raw", &path, "-f", "-"], &object)?;
    }
    let group = format!("/apis/oauth-operator.dev/v1alpha1/namespaces/{}", story.apps);
    let nested = |kind: &str, spec: &str| {
        format!(r#"{{"apiVersion":"oauth-operator.dev/v1alpha1","kind":"{kind}","metadata":{{"name":"nested"}},"spec":{spec}}}"#)
    };
    let run = nested("WorkflowRun", &format!(r#"{{"workflowRef":{{"name":"any"}},"input":{objects}}}"#));
    kubectl.feed(&["create", "--raw", &format!("{group}/workflowruns"), "-f", "-"], &run)?;
    let steps = format!(r#"{{"steps":[{{"name":"a","http":{{"url":"https://api.example.com","body":{{"json":{objects}}}}}}}]}}"#);
    kubectl.feed(&["create", "--raw", &format!("{group}/workflows"), "-f", "-"], &nested("Workflow", &steps))?;

    let operator = story.operator("operator-1").await?;
    let client = provider.register(3600, "client_secret_basic").await?;
    story.account("beside", &issuer(provider), &client, &json!({}))?;
    story.until_ready("beside").await?;
    let told = || -> Result<Option<()>> {
        let events: Value = serde_json::from_str(&kubectl.run(&["get", "events.events.k8s.io", "-o", "json"])?)?;
        let of = |kind: &str| {
            events["items"].as_array().into_iter().flatten().any(|event| {
                event["reason"] == json!("Unreadable")
                    && event["regarding"]["kind"] == json!(kind)
                    && event["regarding"]["name"] == json!("nested")
                    && event["note"].as_str().is_some_and(|note| note.contains("recursion limit"))
            })
        };
        Ok((of("WorkflowRun") && of("Workflow")).then_some(()))
    };
    eventually(Duration::from_secs(20), told).await?.ok_or("nobody is told that they cannot be read")?;
    // While it watches, too.
    let again = run.replace(r#""name":"nested""#, r#""name":"nested-again""#);
    kubectl.feed(&["create", "--raw", &format!("{group}/workflowruns"), "-f", "-"], &again)?;
    kubectl.run(&["annotate", "secret/nested", "configmap/nested", "seen=twice"])?;
    story.account("afterwards", &issuer(provider), &client, &json!({}))?;
    story.until_ready("afterwards").await?;
    assert!(operator.metric("oauth_operator_unreadable_objects_total").await?.is_some_and(|count| count >= 3.0));
    let log = operator.process.output();
    assert!(!log.contains("watch interrupted"), "{log}");
    Ok(())
}
