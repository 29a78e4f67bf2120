//! What is understood, and what is refused by name.

use super::*;

fn plan(patch: &serde_json::Value) -> Result<Plan, String> {
    Plan::of(&crate::account::seen::tests::account(patch)).map_err(|refusal| refusal.sentence().to_owned())
}

#[test]
fn what_is_supported_is_understood() {
    let plan = plan(&json!({})).unwrap();
    assert_eq!(plan.token_secret_name, "demo-token");
    assert_eq!(plan.authentication, ClientAuthentication::Basic);
}

/// No field of the schema is without effect.
#[test]
fn every_field_of_the_schema_is_acted_on() {
    const ACTED_ON: [&str; 76] = [
        "spec.dpop.algorithm",
        "spec.provider.overrides.authorizationURL",
        "spec.provider.overrides.deviceAuthorizationURL",
        "spec.provider.overrides.registrationURL",
        "spec.provider.overrides.pushedAuthorizationRequestURL",
        "spec.provider.overrides.registration",
        "spec.provider.overrides.parameters",
        "spec.provider.custom.authorizationURL",
        "spec.provider.custom.deviceAuthorizationURL",
        "spec.grant.authorizationCode",
        "spec.grant.deviceCode",
        "spec.par",
        "spec.provider.preset",
        "spec.provider.parameters",
        "spec.provider.overrides.issuer",
        "spec.provider.overrides.tokenURL",
        "spec.provider.overrides.refreshURL",
        "spec.provider.overrides.clientAuth",
        "spec.provider.overrides.body",
        "spec.provider.overrides.case",
        "spec.provider.overrides.accept",
        "spec.provider.overrides.scopeDelimiter",
        "spec.provider.overrides.response",
        "spec.provider.overrides.expiry",
        "spec.provider.overrides.errors",
        "spec.provider.overrides.apiHosts",
        "spec.grant.jwtBearer",
        "spec.grant.tokenExchange",
        "spec.grant.githubApp",
        "spec.grant.password",
        "spec.provider.issuer",
        "spec.provider.custom.tokenURL",
        "spec.provider.caBundleRef.kind",
        "spec.provider.caBundleRef.name",
        "spec.provider.caBundleRef.key",
        "spec.client.id",
        "spec.client.idFrom.secretKeyRef",
        "spec.client.authMethod",
        "spec.client.keyID",
        "spec.client.secretRef",
        "spec.grant.clientCredentials",
        "spec.grant.refreshToken",
        "spec.provider.overrides.rotation.mode",
        "spec.provider.overrides.rotation.graceSeconds",
        "spec.provider.overrides.rotation.onUnknown",
        "spec.provider.overrides.rotation.killsOldAccessToken",
        "spec.provider.overrides.refreshToken.idleSeconds",
        "spec.provider.overrides.refreshToken.absoluteSeconds",
        "spec.provider.overrides.refreshWindow.earliestSecondsBeforeExpiry",
        "spec.provider.overrides.probe.method",
        "spec.provider.overrides.probe.url",
        "spec.expectedSubject",
        "spec.revocationPolicy",
        "spec.provider.overrides.revocationURL",
        "spec.provider.custom.revocationURL",
        "spec.provider.overrides.introspectionURL",
        "spec.provider.custom.introspectionURL",
        "spec.healthCheck",
        "spec.statePolicy",
        "spec.scopes",
        "spec.audience",
        "spec.resources",
        "spec.refresh.beforeExpirySeconds",
        "spec.refresh.beforeExpiryPercent",
        "spec.allowedHosts",
        "spec.restartTargets",
        "spec.restartIntervalSeconds",
        "spec.maxConcurrentSteps",
        "spec.tokenSecret.name",
        "spec.tokenSecret.data",
        "spec.tokenSecret.creationPolicy",
        "spec.tokenSecret.deletionPolicy",
        "spec.tokenSecret.labels",
        "spec.tokenSecret.annotations",
        "spec.suspend",
        "spec.tokenSecret.type",
    ];
    fn leaves(node: &serde_json::Value, path: &str, found: &mut Vec<String>) {
        match node["properties"].as_object() {
            Some(properties) if !properties.is_empty() => {
                properties.iter().for_each(|(name, property)| leaves(property, &format!("{path}.{name}"), found));
            }
            _ => found.push(path.to_owned()),
        }
    }
    let (_, definition) = crate::api::schema::definitions().remove(0);
    let definition = serde_json::to_value(definition).unwrap();
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let mut found = vec![];
    leaves(schema, "spec", &mut found);
    assert!(found.len() > 60, "{}", found.len());
    let covers = |known: &[&str], path: &str| known.iter().any(|known| path == *known || path.starts_with(&format!("{known}.")));
    for path in &found {
        assert!(covers(&ACTED_ON, path), "{path} is new: act on it");
    }
    for known in &ACTED_ON {
        assert!(found.iter().any(|path| covers(&[known], path)), "{known} is no field");
    }
}

#[test]
fn the_digest_follows_what_is_asked_for_and_nothing_else() {
    let digest = |patch| plan(&patch).unwrap().request_digest();
    let base = digest(json!({}));
    assert_ne!(base, digest(json!({"scopes": ["other"]})));
    assert_ne!(base, digest(json!({"client": {"secretRef": {"name": "other"}}})));
    assert_ne!(base, digest(json!({"client": {"authMethod": "ClientSecretPost"}})));
    assert_ne!(base, digest(json!({"provider": {"caBundleRef": {"name": "other"}}})));
    assert_ne!(base, digest(json!({"client": {"id": "other"}})));
    assert_ne!(base, digest(json!({"provider": {"issuer": "https://other.example.com"}})));
    assert_eq!(
        base, "f5390be5012c7b493216d8501f5f2005",
        "another digest makes every account ask for a new token after an upgrade"
    );
    let bound = digest(json!({"dpop": {"algorithm": "ES256"}}));
    assert_eq!(bound, "15c113b40564d25b34386e62417dfc14", "the same where tokens are bound to a key");
    assert!(bound != base && bound != digest(json!({"dpop": {"algorithm": "EdDSA"}})));
    assert_eq!(bound, digest(json!({"dpop": {}})), "spelled out or not");
    assert_eq!(base, digest(json!({"suspend": true, "tokenSecret": {"labels": {"a": "b"}}})));
}

#[test]
fn a_url_with_a_password_is_refused() {
    let refusal = plan(&json!({"provider": {"issuer": "https://me:secret@login.example.com"}})).unwrap_err();
    assert!(refusal.contains("may not carry a user or password"), "{refusal}");
    assert!(!refusal.contains("secret@"), "{refusal}");
}

#[test]
fn the_secret_to_publish_in_is_none_to_read_from() {
    for patch in [
        json!({"tokenSecret": {"name": "app"}}),
        json!({"client": {"secretRef": {"name": "demo-token"}}}),
        json!({"provider": {"caBundleRef": {"kind": "Secret", "name": "demo-token"}}}),
        json!({"grant": {"clientCredentials": null, "refreshToken": {"secretRef": {"name": "demo-token", "key": "k"}}}}),
        json!({"client": {"id": null, "idFrom": {"secretKeyRef": {"name": "demo-token", "key": "k"}}}}),
    ] {
        let refusal = plan(&patch).unwrap_err();
        assert!(refusal.contains("in which the token is to be published"), "{refusal}");
    }
    assert!(plan(&json!({"provider": {"caBundleRef": {"name": "demo-token"}}})).is_ok(), "a ConfigMap of that name is no Secret");
}

#[test]
fn what_does_not_go_together_is_said() {
    let seed = json!({"clientCredentials": null, "refreshToken": {"secretRef": {"name": "s", "key": "k"}}});
    for (patch, words) in [
        (json!({"expectedSubject": "me"}), "spec.expectedSubject speaks of a person's login"),
        (json!({"grant": seed, "client": {"authMethod": "None"}}), "has no use with authMethod None"),
        (
            json!({"grant": seed, "provider": {"issuer": null, "custom": {"tokenURL": "https://a.example/t"}, "overrides": {"rotation": {"onUnknown": "Probe"}}}}),
            "needs spec.provider.overrides.probe or introspectionURL.",
        ),
        (
            json!({"grant": seed, "provider": {"overrides": {"rotation": {"onUnknown": "Grace"}}}}),
            "needs spec.provider.overrides.rotation.graceSeconds.",
        ),
        (
            json!({"grant": seed, "provider": {"overrides": {"probe": {"method": "GET", "url": "https://me@a.example"}}}}),
            "may not carry a user or password",
        ),
    ] {
        let refusal = plan(&patch).unwrap_err();
        assert!(refusal.contains(words), "{patch}: {refusal}");
    }
}

#[test]
fn a_template_that_can_be_made_of_no_token_is_refused_by_its_key() {
    for (text, words) in [
        ("${token.accessToken", "spec.tokenSecret.data[header] cannot be used: an expression that begins with ${ does not end."),
        ("${token.refreshToken}", "spec.tokenSecret.data[header] cannot be used: ${token.refreshToken} names a field"),
        ("${secret}", "names secret, which does not exist."),
    ] {
        let refusal = plan(&json!({"tokenSecret": {"data": {"header": text}}})).unwrap_err();
        assert!(refusal.contains(words), "{refusal}");
    }
    let broken = json!({"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": "{\"auths\": ${token.scope}"}});
    assert!(
        plan(&json!({"tokenSecret": broken})).unwrap_err().contains("[.dockerconfigjson] cannot be used: it is no JSON object.")
    );
    assert!(plan(&json!({"tokenSecret": {"data": {"header": "Bearer ${token.accessToken} ${token.scopes[0]}"}}})).is_ok());
}

#[test]
fn a_client_without_a_secret_is_public() {
    let grant = json!({"clientCredentials": null, "refreshToken": {"secretRef": {"name": "s", "key": "k"}}});
    for client in [json!({"secretRef": null}), json!({"secretRef": null, "authMethod": "None"})] {
        let plan = plan(&json!({"grant": grant, "client": client})).unwrap();
        assert_eq!((plan.authentication, plan.client_secret), (ClientAuthentication::None, None));
    }
}

#[test]
fn an_issuer_is_not_its_document() {
    let refusal =
        plan(&json!({"provider": {"issuer": "https://login.example.com/a/.well-known/openid-configuration"}})).unwrap_err();
    assert!(refusal.ends_with("without /.well-known/: https://login.example.com/a."), "{refusal}");
}
