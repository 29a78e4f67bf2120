use super::*;

fn sidecar() -> Sidecar {
    Sidecar { image: "proxy".into(), image_pull_policy: "Always".into(), operator_namespace: "system".into() }
}

/// As the API server asks, with `patch` merged into the request.
fn asked(patch: &Value) -> Value {
    let mut review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "0c9a8d74", "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"}, "namespace": "shop", "operation": "CREATE",
            "userInfo": {"username": "ada"}, "oldObject": null, "dryRun": false,
            "object": {
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"generateName": "web-", "creationTimestamp": null, "annotations": {
                    "oauth-operator.dev/inject": "a,b", "oauth-operator.dev/proxy-upstream": "https://api.example.com",
                }},
                "spec": {"containers": [{"name": "app", "image": "app"}], "initContainers": [{"name": "init", "image": "init"}]},
            },
        },
    });
    json_patch::merge(&mut review["request"], patch);
    review
}

fn reviewed(patch: &Value) -> Reviewed {
    let known = |namespace: &str, name: &str| (name == "b").then(|| format!("{namespace}-{name}"));
    review(asked(patch).to_string().as_bytes(), &sidecar(), known).unwrap()
}

fn answer(reviewed: &Reviewed) -> Value {
    reviewed.answer.clone()
}

#[test]
fn the_patch_makes_the_pod_that_injection_makes() {
    let reviewed = reviewed(&json!({}));
    assert_eq!((reviewed.result, &*reviewed.who, &*reviewed.name, &*reviewed.namespace), ("injected", "ada", "web-", "shop"));
    assert_eq!((reviewed.accounts.join(","), &*reviewed.uid, reviewed.dry_run), ("a,b".to_owned(), "0c9a8d74", false));
    let answer = answer(&reviewed);
    assert_eq!((&answer["apiVersion"], &answer["kind"]), (&json!("admission.k8s.io/v1"), &json!("AdmissionReview")));
    let response = &answer["response"];
    assert_eq!((&response["uid"], &response["allowed"]), (&json!("0c9a8d74"), &json!(true)));
    assert_eq!(response["patchType"], "JSONPatch");
    let warning = "no OAuthAccount a is here yet; its token is expected in Secret a-token";
    assert_eq!(response["warnings"], json!([warning]), "the other is known");
    let patch = base64::engine::general_purpose::STANDARD.decode(response["patch"].as_str().unwrap()).unwrap();
    let mut pod = asked(&json!({}))["request"]["object"].clone();
    let Ok(Outcome::Injected(expected)) = super::super::inject(&pod, &sidecar(), |name| (name == "b").then(|| "shop-b".into()))
    else {
        panic!("not injected")
    };
    let expected = expected.into_pod(pod.clone());
    json_patch::patch(&mut pod, &serde_json::from_slice::<json_patch::Patch>(&patch).unwrap()).unwrap();
    assert_eq!(Some(pod), expected);
}

#[test]
fn the_patch_is_right_whatever_there_is() {
    for spec in
        [json!({"initContainers": null}), json!({"initContainers": [], "volumes": []}), json!({"volumes": [{"name": "data"}]})]
    {
        let asked = asked(&json!({"object": {"spec": spec}}));
        let reviewed = review(asked.to_string().as_bytes(), &sidecar(), |_, _| None).unwrap();
        let patch =
            base64::engine::general_purpose::STANDARD.decode(reviewed.answer["response"]["patch"].as_str().unwrap()).unwrap();
        let mut pod = asked["request"]["object"].clone();
        let Ok(Outcome::Injected(expected)) = super::super::inject(&pod, &sidecar(), |_| None) else { panic!("not injected") };
        let expected = expected.into_pod(pod.clone());
        json_patch::patch(&mut pod, &serde_json::from_slice::<json_patch::Patch>(&patch).unwrap()).unwrap();
        assert_eq!(Some(pod), expected, "{spec}");
    }
}

#[test]
fn what_is_said_of_a_huge_annotation_is_short() {
    for (annotation, value) in [
        ("oauth-operator.dev/inject", "A".repeat(1 << 20)),
        ("oauth-operator.dev/inject", "a,".repeat(1 << 19)),
        ("oauth-operator.dev/proxy-upstream", "x".repeat(1 << 20)),
        (&format!("oauth-operator.dev/proxy-{}", "z".repeat(1 << 20)), "x".to_owned()),
    ] {
        let reviewed = reviewed(&json!({"object": {"metadata": {"annotations": {annotation: value}}}}));
        let why = reviewed.why.unwrap();
        assert!(why.len() < 1000 && why.contains("oauth-operator.dev/"), "{why:.100}");
    }
}

#[test]
fn a_refusal_is_a_bad_request_with_its_sentence() {
    let reviewed = reviewed(&json!({"dryRun": true, "name": "web", "object": {"spec": {"hostNetwork": true}}}));
    assert_eq!((reviewed.result, &*reviewed.name, reviewed.dry_run), ("refused", "web", true));
    let response = &answer(&reviewed)["response"];
    assert_eq!((&response["allowed"], &response["status"]["code"]), (&json!(false), &json!(400)));
    assert_eq!(response["patch"], Value::Null);
    let message = response["status"]["message"].as_str().unwrap();
    assert!(message.contains("hostNetwork") && reviewed.why.as_deref() == Some(message), "{message}");
}

#[test]
fn nothing_else_is_touched() {
    for patch in [
        json!({"operation": "UPDATE"}),
        json!({"operation": "DELETE", "object": null}),
        json!({"subResource": "ephemeralcontainers"}),
        json!({"kind": {"group": "apps", "version": "v1", "kind": "Deployment"}}),
        json!({"object": {"metadata": {"annotations": null}}}),
    ] {
        let reviewed = reviewed(&patch);
        let answer = answer(&reviewed);
        assert_eq!((reviewed.result, &answer["response"]["allowed"]), ("left", &json!(true)), "{patch}");
        assert_eq!(answer["response"]["patch"], Value::Null, "{patch}");
    }
}

#[test]
fn what_is_no_review_is_told_so() {
    let mut older = asked(&json!({}));
    older["apiVersion"] = json!("admission.k8s.io/v1beta1");
    let mut answered = asked(&json!({}));
    answered["request"] = Value::Null;
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for text in
        ["", "{}", "[]", "null", &deep, &older.to_string(), &answered.to_string(), &asked(&json!({"object": 7})).to_string()]
    {
        let error = review(text.as_bytes(), &sidecar(), |_, _| None).map(|_| ()).unwrap_err();
        assert!(!error.is_empty(), "{text}");
    }
}
