use super::*;
use serde_json::json;

fn sidecar() -> Sidecar {
    Sidecar { image: "proxy".into(), image_pull_policy: "Always".into(), operator_namespace: "system".into() }
}

const ANNOTATIONS: &str = r#"{oauth-operator.dev/inject: a, oauth-operator.dev/proxy-upstream: "https://api.example.com"}"#;

fn injected(text: &str) -> String {
    inject_manifests(text, &sidecar()).unwrap()
}

fn faults(text: &str) -> Vec<String> {
    inject_manifests(text, &sidecar()).unwrap_err().iter().map(ToString::to_string).collect()
}

/// A manifest of a kind whose Pod stands at this place.
fn workload(version: &str, kind: &str, place: &str) -> Value {
    let annotations: Value = serde_saphyr::from_str(ANNOTATIONS).unwrap();
    let pod = json!({"metadata": {"annotations": annotations}, "spec": {"containers": [{"name": "app", "image": "app"}]}});
    let mut object = place.split('/').skip(1).collect::<Vec<_>>().into_iter().rfold(pod, |inner, key| json!({key: inner}));
    object["apiVersion"] = json!(version);
    object["kind"] = json!(kind);
    object["metadata"]["name"] = json!("app");
    object
}

#[test]
fn every_workload_of_kubernetes_gets_it_in_its_pod_template() {
    for (version, kind, place) in [
        ("v1", "Pod", ""),
        ("v1", "PodTemplate", "/template"),
        ("v1", "ReplicationController", "/spec/template"),
        ("apps/v1", "Deployment", "/spec/template"),
        ("apps/v1", "StatefulSet", "/spec/template"),
        ("apps/v1", "DaemonSet", "/spec/template"),
        ("apps/v1", "ReplicaSet", "/spec/template"),
        ("batch/v1", "Job", "/spec/template"),
        ("batch/v1", "CronJob", "/spec/jobTemplate/spec/template"),
    ] {
        let before = workload(version, kind, place);
        let after: Value = serde_saphyr::from_str(&injected(&before.to_string())).unwrap();
        let pod = before.pointer(place).unwrap();
        let Ok(Outcome::Injected(expected)) = inject(pod, &sidecar(), |_| None) else { panic!("{kind}") };
        assert_eq!(after.pointer(place), expected.into_pod(pod.clone()).as_ref(), "{kind}");
        assert_eq!((&after["kind"], &after["metadata"]["name"]), (&json!(kind), &json!("app")));
        assert_eq!(injected(&after.to_string()), after.to_string(), "{kind}: a second time changes nothing");
    }
}

#[test]
fn what_does_not_ask_passes_to_the_byte() {
    let others = [
        "# only a comment\n",
        "",
        "%YAML 1.2\n---\nkind: ConfigMap # oauth-operator.dev\ndata: {mode: 0400, yes: 'on'}\n...\n",
        "kind: ConfigMap\nx: oauth-operator.dev/v1alpha1\nx: twice is no matter of ours\n",
        "a: |\n  --- no marker\n---not: one\n",
        "---\n--- # twice\nkind: Rollout\napiVersion: argoproj.io/v1alpha1\nspec: {template: {metadata: {annotations: {oauth-operator.dev/inject: a}}}}\n",
        "apiVersion: v1\nkind: Pod\nmetadata:\n  labels: {oauth-operator.dev/inject: disabled}\n  annotations: {oauth-operator.dev/inject: a}\r\n",
        "not: [yaml\n---\n\tneither: {",
        "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Pod\n  metadata: {annotations: {oauth-operator.dev/else: a}}",
    ];
    for text in others {
        assert_eq!(injected(text), text);
    }
    let pod = format!("apiVersion: v1\nkind: Pod\nmetadata:\n  annotations: {ANNOTATIONS}\nspec: {{containers: []}}\n");
    let stream = format!("# head\n---\nkind: A # one\n---\n{pod}---\nkind: B # two\n");
    let after = injected(&stream);
    assert!(after.starts_with("# head\n---\nkind: A # one\n---\napiVersion: v1\n"), "{after}");
    assert!(after.ends_with("\n---\nkind: B # two\n"), "{after}");
    let documents: Vec<Value> = serde_saphyr::from_multiple(&after).unwrap();
    assert_eq!(documents.len(), 3);
    assert_eq!(documents[1]["spec"]["initContainers"][0]["name"], "oauth-proxy");
}

#[test]
fn items_of_lists_get_it_each() {
    let (pod, mut typed) = (workload("v1", "Pod", ""), workload("apps/v1", "Deployment", "/spec/template"));
    let other = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "oauth-operator.dev"}});
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [pod, other]});
    let after: Value = serde_saphyr::from_str(&injected(&list.to_string())).unwrap();
    assert_eq!(after["items"][0]["spec"]["initContainers"][0]["name"], "oauth-proxy");
    assert_eq!(after["items"][1], other);
    // As the API server answers: the list says of what kind its items are.
    typed.as_object_mut().unwrap().retain(|key, _| key != "kind" && key != "apiVersion");
    let list = json!({"apiVersion": "apps/v1", "kind": "DeploymentList", "items": [typed]});
    let after: Value = serde_saphyr::from_str(&injected(&list.to_string())).unwrap();
    assert_eq!(after["items"][0]["spec"]["template"]["spec"]["initContainers"][0]["name"], "oauth-proxy");
}

#[test]
fn faults_name_document_kind_and_name_and_there_is_no_half_of_an_answer() {
    let asks = format!("metadata: {{name: web, namespace: shop, annotations: {ANNOTATIONS}}}");
    let text = format!(
        "kind: A\n---\napiVersion: v1\nkind: Pod\n{asks}\nspec: {{hostNetwork: true, containers: []}}\n---\napiVersion: apps/v1\nkind: Deployment\n{asks}\nspec: {{template: {{}}}}\n---\nx: [oauth-operator.dev/inject\n"
    );
    let said = faults(&text);
    assert_eq!(said.len(), 3, "{said:#?}");
    let starts = [
        "document 2, Pod shop/web: the sidecar oauth-proxy cannot be added: hostNetwork is set",
        "document 3, Deployment shop/web: the annotation oauth-operator.dev/inject stands at the Deployment itself; its place is spec.template.metadata.annotations",
        "document 4 (from line 12 on): it cannot be read: ",
    ];
    for (said, start) in said.iter().zip(starts) {
        assert!(said.starts_with(start), "{said}");
    }
    let secret = format!("apiVersion: v1\nkind: Pod\n{asks}\nspec: {{containers: [{{env: [{{value: hunter2}}]]}}\n");
    let said = faults(&secret);
    assert!(!said[0].contains("hunter2"), "{said:?}");
}

#[test]
fn values_mean_afterwards_what_they_meant_before() {
    let odd = [
        "yes",
        "no",
        "on",
        "off",
        "null",
        "~",
        "0400",
        "0o400",
        "0x1F",
        "1_000",
        "1e3",
        "1:20",
        ".inf",
        "2001-01-01",
        "",
        " x ",
        "a: b",
        "# c",
        "- d",
        "{e",
        "'",
        "\"",
        "\\n",
        "two\nlines\n",
        "trailing \nspace",
        "\ttab",
        "ä\u{1F600}",
        "=",
        "<<",
        "%",
        "@x",
        "`",
    ];
    let mut pod = workload("v1", "Pod", "");
    let long = "word ".repeat(60);
    let values: Vec<_> = odd.iter().copied().chain([long.as_str()]).collect();
    pod["spec"]["containers"][0]["args"] = json!(values);
    let text = injected(&pod.to_string());
    let after: Value = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(after["spec"]["containers"][0]["args"], json!(values), "{text}");
    // Unquoted, as kubectl reads them.
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{annotations: {ANNOTATIONS}}}\nspec: {{volumes: [{{name: s, secret: {{defaultMode: 0400}}}}], hostPID: no}}\n"
    );
    let after: Value = serde_saphyr::from_str(&injected(&text)).unwrap();
    assert_eq!((&after["spec"]["volumes"][0]["secret"]["defaultMode"], &after["spec"]["hostPID"]), (&json!(256), &json!(false)));
}
