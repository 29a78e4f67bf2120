//! Every preset refreshes twice, end to end, with a provider that takes and answers what its page documents.

use crate::story;
use crate::testbed::authorization_server::{Client, random};
use crate::testbed::documented::{Desk, Documented, shapes};
use crate::testbed::keys::{Key, Kind};
use crate::testbed::story::account;
use crate::testbed::{Result, root};
use jiff::Timestamp;
use oauth_operator::oauth::preset_names;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// What the file of a preset says.
fn file(preset: &str) -> Result<Value> {
    let text = std::fs::read_to_string(root().join(format!("src/oauth/presets/{preset}.yaml")))?;
    Ok(serde_saphyr::from_str(&text)?)
}

/// Hosts that a preset's tokens are meant for, its placeholders filled.
fn hosts(file: &Value, parameters: &Value) -> Vec<String> {
    let value = |name: &str, parameter: &Value| {
        let value = parameters.get(name).or(parameter.get("default")).and_then(Value::as_str);
        (format!("{{{name}}}"), value.unwrap_or_default().to_owned())
    };
    let values: Vec<_> =
        file["parameters"].as_object().into_iter().flatten().map(|(name, parameter)| value(name, parameter)).collect();
    let hosts = file["provider"]["apiHosts"].as_array().into_iter().flatten().filter_map(Value::as_str);
    hosts.map(|host| values.iter().fold(host.to_owned(), |host, (name, value)| host.replace(name, value))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_preset_refreshes_twice_with_a_provider_that_does_as_documented() -> Result<()> {
    let (story, _) = story("presets").await?;
    let operator = story.operator("operator-1").await?;
    let providers = Documented::start().await?;
    story.ca("documented-ca", &providers.ca)?;
    let app_key = Key::make(Kind::RsaPkcs1)?;
    let mut objects = vec![];
    let names: Vec<&str> = preset_names().collect();
    for &preset in &names {
        let file = file(preset)?;
        let name = preset.to_lowercase();
        let refreshes = preset != "GitHubApp";
        let client = Client { id: format!("client-of-{name}"), secret: random() };
        let refresh_token = random();
        let desk = Desk::of(preset, if refreshes { "RefreshToken" } else { "GitHubApp" }, &client, &refresh_token)?;
        let parameters = desk.request.get("with").cloned().unwrap_or_else(|| json!({}));
        let endpoint = providers.open(preset, desk)?;
        // Where a refresh has an address of its own, the token endpoint is not asked for one.
        let overrides = match refreshes {
            true => json!({"refreshURL": endpoint, "tokenURL": format!("{}/{preset}/not-for-refreshes", providers.url)}),
            false => json!({"tokenURL": endpoint}),
        };
        let provider = json!({
            "preset": preset, "parameters": parameters, "overrides": overrides, "caBundleRef": {"name": "documented-ca"},
        });
        let public = file["provider"]["clientAuth"]["method"] == json!("None");
        let seed = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": format!("{name}-seed")},
            "stringData": {"client_secret": client.secret, "refresh_token": refresh_token, "key": app_key.pem},
        });
        let key = |key: &str| json!({"name": format!("{name}-seed"), "key": key});
        let patch = match refreshes {
            true => json!({
                "client": {"secretRef": if public { Value::Null } else { key("client_secret") }},
                "grant": {"clientCredentials": null, "refreshToken": {"secretRef": key("refresh_token")}},
                "scopes": ["one", "two"],
            }),
            false => json!({
                "client": null,
                "grant": {"clientCredentials": null, "githubApp": {"appID": 1, "installationID": 2, "keyRef": key("key")}},
            }),
        };
        objects.extend([seed, account(&name, &provider, &client, &patch)]);
    }
    story.kubectl().apply(&json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string())?;

    for (generation, moment) in [(1, None), (2, Some("2026-01-01T00:00:01Z")), (3, Some("2026-01-01T00:00:02Z"))] {
        if let Some(moment) = moment {
            let annotation = format!("oauth-operator.dev/refresh-requested-at={moment}");
            story.kubectl().run(&["annotate", "--overwrite", "oauthaccounts", "--all", &annotation])?;
        }
        for preset in &names {
            let reached = story.until_generation(&preset.to_lowercase(), generation).await;
            assert!(reached.is_ok(), "{preset}: {reached:?}, {:?}", providers.desk(preset)?.complaints);
        }
    }
    let log = operator.process.output();
    for preset in &names {
        let (name, desk, file) = (preset.to_lowercase(), providers.desk(preset)?, file(preset)?);
        assert_eq!(desk.complaints, Vec::<String>::new(), "{preset}");
        assert_eq!(desk.issued.len(), 3, "{preset}: one request a token");
        let secret = format!("{name}-token");
        assert_eq!(story.key(&secret, "access_token")?, desk.issued[2], "{preset}: the newest is published");
        let parameters = desk.request.get("with").cloned().unwrap_or_else(|| Map::new().into());
        assert_eq!(story.key(&secret, "allowed_hosts")?, hosts(&file, &parameters).join("\n"), "{preset}");
        assert_eq!(
            story.key(&secret, "token_type")?.to_lowercase(),
            "bearer",
            "{preset}: it is sent as such, whatever it is called"
        );
        let expected = &desk.reply["expect"];
        if let Some(seconds) = expected["expiresInSeconds"].as_i64() {
            let expires: Timestamp = story.key(&secret, "expires_at")?.parse()?;
            let left = expires.duration_since(Timestamp::now()).as_secs();
            assert!((seconds - 60..=seconds).contains(&left), "{preset}: expires in {left} s, not {seconds} s");
        }
        if expected["scopes"].is_array() {
            assert_eq!(story.key(&secret, "scope")?, "one two", "{preset}");
        }
        if *preset != "GitHubApp" {
            let different: BTreeSet<_> = desk.redeemed.iter().collect();
            let replaced = expected["refreshToken"].is_string();
            assert_eq!((desk.redeemed.len(), different.len()), (3, if replaced { 3 } else { 1 }), "{preset}");
            assert!(desk.redeemed.iter().all(|token| !log.contains(token.as_str())), "{preset}: a refresh token in the log");
        }
        assert!(desk.issued.iter().all(|token| !log.contains(token.as_str())), "{preset}: an access token in the log");
        assert!(story.condition(&name, "RefreshFailing")?.is_none_or(|(status, ..)| status == "False"), "{preset}");
    }
    assert_eq!(names.len(), std::fs::read_dir(root().join("tests/wire-shapes"))?.count(), "every preset has its documents");
    assert!(names.iter().all(|preset| shapes(preset).is_ok()));
    Ok(())
}
