use super::*;

fn sidecar() -> Sidecar {
    Sidecar {
        image: "ghcr.io/oauth-operator/oauth-proxy:0.1.0".into(),
        image_pull_policy: "IfNotPresent".into(),
        operator_namespace: "oauth-operator-system".into(),
    }
}

/// A Pod that asks, with `patch` merged into it.
fn pod(patch: &Value) -> Value {
    let mut pod = json!({
        "metadata": {"name": "app", "annotations": {
            "oauth-operator.dev/inject": "coze-prod", "oauth-operator.dev/proxy-upstream": "https://api.coze.com",
        }},
        "spec": {"containers": [{"name": "app", "image": "app", "futureField": {"kept": true}}]},
    });
    json_patch::merge(&mut pod, patch);
    pod
}

fn injected(patch: &Value) -> Value {
    match inject(&pod(patch), &sidecar(), |_| None) {
        Ok(Outcome::Injected(injection)) => injection.into_pod(pod(patch)).unwrap(),
        other => panic!("{patch}: {other:?}"),
    }
}

fn refused(patch: &Value) -> String {
    inject(&pod(patch), &sidecar(), |_| None).unwrap_err().to_string()
}

#[test]
fn the_sidecar_is_that_of_the_manifest_by_hand() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/proxy.yaml")).unwrap();
    let by_hand: Value = serde_saphyr::from_str(&text).unwrap();
    let by_hand = &by_hand["spec"]["template"]["spec"];
    let annotations = json!({"metadata": {"annotations": {"oauth-operator.dev/proxy-envelope": "coze"}}});
    let pod = injected(&annotations);
    let (container, expected) = (&pod["spec"]["initContainers"][0], &by_hand["initContainers"][0]);
    for field in ["name", "image", "restartPolicy", "args", "env", "startupProbe", "readinessProbe", "livenessProbe", "resources"]
    {
        assert_eq!(container[field], expected[field], "{field}");
    }
    assert_eq!(container["ports"][0]["containerPort"], expected["ports"][0]["containerPort"]);
    assert_eq!(container["ports"][0]["name"], expected["ports"][0]["name"]);
    let places = |container: &Value| {
        let mounts = container["volumeMounts"].as_array().unwrap().iter();
        mounts.map(|mount| (mount["mountPath"].clone(), mount["readOnly"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(places(container), places(expected));
    let (volumes, expected) = (&pod["spec"]["volumes"], &by_hand["volumes"]);
    for field in ["secretName", "optional", "items"] {
        assert_eq!(volumes[0]["secret"][field], expected[0]["secret"][field], "{field}");
    }
    assert_eq!(volumes[1]["projected"]["sources"], expected[1]["projected"]["sources"]);
}

#[test]
fn what_is_there_stays_and_the_sidecar_comes_first() {
    let before = json!({"spec": {
        "initContainers": [{"name": "migrate", "image": "migrate"}], "volumes": [{"name": "data", "emptyDir": {}}], "hostNetwork": false,
    }});
    let after = injected(&before);
    let names = |list: &Value| list.as_array().unwrap().iter().map(|one| one["name"].clone()).collect::<Vec<_>>();
    assert_eq!(names(&after["spec"]["initContainers"]), ["oauth-proxy", "migrate"]);
    assert_eq!(names(&after["spec"]["volumes"]), ["data", "oauth-proxy-token-0", "oauth-proxy-operator"]);
    assert_eq!(after["metadata"]["annotations"]["oauth-operator.dev/injected"], env!("CARGO_PKG_VERSION"));
    let mut rest = after.clone();
    rest["spec"]["initContainers"].as_array_mut().unwrap().remove(0);
    rest["spec"]["volumes"].as_array_mut().unwrap().truncate(1);
    rest["metadata"]["annotations"].as_object_mut().unwrap().remove("oauth-operator.dev/injected");
    assert_eq!(rest, pod(&before), "whatever else stands in it");
    let null = injected(&json!({"spec": {"securityContext": {}}}));
    assert_eq!(null["spec"]["initContainers"].as_array().unwrap().len(), 1);
}

#[test]
fn a_second_time_changes_nothing() {
    let once = injected(&json!({}));
    assert_eq!(inject(&once, &sidecar(), |_| None), Ok(Outcome::Left));
    let later = Sidecar { image: "another".into(), ..sidecar() };
    assert_eq!(inject(&once, &later, |_| None), Ok(Outcome::Left), "of another version too");
}

#[test]
fn pods_that_do_not_ask_are_left() {
    let inject_label = |value: &str| json!({"metadata": {"labels": {"oauth-operator.dev/inject": value}}});
    for patch in [
        json!({"metadata": {"annotations": {"oauth-operator.dev/inject": null}}}),
        json!({"metadata": {"annotations": null}}),
        json!({"metadata": null}),
        inject_label("disabled"),
        json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}}),
    ] {
        assert_eq!(inject(&pod(&patch), &sidecar(), |_| None), Ok(Outcome::Left), "{patch}");
    }
    injected(&inject_label("enabled"));
    for odd in [json!(null), json!([]), json!("x"), json!({"metadata": []}), json!({"metadata": {"annotations": "x"}})] {
        assert_eq!(inject(&odd, &sidecar(), |_| None), Ok(Outcome::Left), "{odd}");
    }
}

#[test]
fn what_cannot_be_is_refused_with_what_to_do() {
    let app = |fields: Value| {
        let mut container = json!({"name": "app", "image": "app"});
        json_patch::merge(&mut container, &fields);
        json!({"spec": {"containers": [container]}})
    };
    let port = |port: u16| app(json!({"ports": [{"containerPort": 80}, {"containerPort": port, "protocol": "TCP"}]}));
    let init = json!({"spec": {"initContainers": [{"name": "first", "image": "x", "ports": [{"containerPort": 15081}]}]}});
    let routed = |patch: Value| {
        let mut routed = json!({"metadata": {"annotations": {
            "oauth-operator.dev/proxy-upstream": null, "oauth-operator.dev/proxy-routes": "routes",
        }}});
        json_patch::merge(&mut routed, &patch);
        routed
    };
    for (patch, why) in [
        (json!({"spec": {"hostNetwork": true}}), "take hostNetwork away"),
        (json!({"spec": {"os": {"name": "windows"}}}), "for Linux"),
        (app(json!({"name": "oauth-proxy"})), "container oauth-proxy that was not injected"),
        (json!({"spec": {"initContainers": [{"name": "oauth-proxy", "image": "x"}]}}), "that was not injected"),
        (port(15080), "container app has the port 15080, which is the sidecar's; set oauth-operator.dev/proxy-port"),
        (port(15081), "container app has the port 15081, which is the sidecar's; give the app another"),
        (port(15082), "container app has the port 15082"),
        (init, "container first has the port 15081"),
        (routed(port(15081)), "the port 15081"),
        (
            json!({"spec": {"volumes": [{"name": "oauth-proxy-operator", "emptyDir": {}}]}}),
            "a volume oauth-proxy-operator already",
        ),
        (json!({"metadata": {"annotations": {"oauth-operator.dev/inject": "a,a"}}}), "names a twice"),
        (
            json!({"metadata": {"annotations": {"oauth-operator.dev/proxy-uptream": "x"}}}),
            "oauth-operator.dev/proxy-uptream is no",
        ),
        (json!({"metadata": {"annotations": {"oauth-operator.dev/inject": "a".repeat(250)}}}), "too long"),
        (json!({"spec": {"containers": "x"}}), "cannot be read as a Pod"),
        (json!({"spec": null}), "no spec"),
    ] {
        let said = refused(&patch);
        assert!(said.contains(why) && said.starts_with("the sidecar oauth-proxy cannot be added: "), "{patch}: {said}");
    }
    injected(&app(json!({"ports": [{"containerPort": 15080, "protocol": "UDP"}]})));
    injected(&routed(port(15080)));
    let mut moved = port(15080);
    json_patch::merge(&mut moved, &json!({"metadata": {"annotations": {"oauth-operator.dev/proxy-port": "8000"}}}));
    let args = injected(&moved)["spec"]["initContainers"][0]["args"].clone();
    assert!(args.as_array().unwrap().contains(&json!("--listen=127.0.0.1:8000,[::1]:8000")), "{args}");
}

#[test]
fn the_secret_is_what_annotation_or_account_say() {
    let pod = pod(&json!({"metadata": {"annotations": {"oauth-operator.dev/inject": "plain,named=mine,known"}}}));
    let known = |name: &str| (name != "plain").then(|| format!("{name}-elsewhere"));
    let Ok(Outcome::Injected(injection)) = inject(&pod, &sidecar(), known) else { panic!("not injected") };
    let volumes = &injection.volumes;
    let secrets: Vec<_> = volumes.iter().filter_map(|volume| volume["secret"]["secretName"].as_str()).collect();
    assert_eq!(secrets, ["plain-token", "mine", "known-elsewhere"]);
    assert_eq!(injection.accounts, ["plain", "named", "known"]);
    assert_eq!(injection.presumed, [("plain".to_owned(), "plain-token".to_owned())]);
    let args = &injection.container["args"];
    let args = args.as_array().unwrap();
    for account in ["plain", "named", "known"] {
        assert!(args.contains(&json!(format!("--account=/var/run/oauth/{account}"))), "{args:?}");
    }
}

#[test]
fn every_volume_is_optional_and_readable_to_any_user() {
    let all = [
        json!({"oauth-operator.dev/proxy-upstream-ca": "ca"}),
        json!({"oauth-operator.dev/proxy-upstream": null, "oauth-operator.dev/proxy-routes": "routes"}),
    ];
    for annotations in all {
        let pod = injected(&json!({"metadata": {"annotations": annotations}}));
        let volumes = pod["spec"]["volumes"].as_array().unwrap();
        assert_eq!(volumes.len(), 3);
        let mounts = pod["spec"]["initContainers"][0]["volumeMounts"].as_array().unwrap();
        let mounted: Vec<_> = mounts.iter().map(|mount| &mount["name"]).collect();
        assert_eq!(volumes.iter().map(|volume| &volume["name"]).collect::<Vec<_>>(), mounted);
        for volume in volumes {
            let source = ["secret", "configMap", "projected"].iter().find_map(|kind| volume.get(kind)).unwrap();
            assert_eq!(source["defaultMode"], 0o444, "{volume}");
            let optional = source.pointer("/sources/1/configMap/optional").unwrap_or(&source["optional"]);
            assert_eq!(optional, true, "{volume}");
        }
    }
}

#[test]
fn a_pod_that_runs_as_root_does_not_make_the_sidecar_do_so() {
    let user = |context: Value| {
        let pod = injected(&json!({"spec": {"securityContext": context}}));
        let context = &pod["spec"]["initContainers"][0]["securityContext"];
        assert_eq!(context["runAsNonRoot"], true);
        (context["runAsUser"].as_i64(), context["runAsGroup"].as_i64())
    };
    assert_eq!(user(json!({"runAsUser": 0})), (Some(65532), Some(65532)));
    assert_eq!(user(json!({"runAsGroup": 0})), (Some(65532), Some(65532)));
    assert_eq!(user(json!({"fsGroup": 1, "runAsNonRoot": false})), (None, None), "the image says it");
}
