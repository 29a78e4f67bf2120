//! The Kubernetes API conventions, line by line, over the generated definitions.

use super::*;
use std::collections::BTreeSet;

/// Every kind, with its definition.
fn all() -> Vec<(String, Value)> {
    let all = definitions().into_iter().map(|(_, definition)| serde_json::to_value(definition).unwrap());
    all.map(|definition| (definition["spec"]["names"]["kind"].as_str().unwrap().to_owned(), definition)).collect()
}

fn definition(kind: &str) -> Value {
    all().into_iter().find(|(there, _)| there == kind).unwrap().1
}

fn version_of(definition: &Value) -> Value {
    definition["spec"]["versions"][0].clone()
}

fn version(kind: &str) -> Value {
    version_of(&definition(kind))
}

fn schema_of(definition: &Value) -> Value {
    version_of(definition)["schema"]["openAPIV3Schema"].clone()
}

fn schema(kind: &str) -> Value {
    schema_of(&definition(kind))
}

/// Every schema node, with its path: properties, items and map values.
fn walk(node: &Value, path: &str, see: &mut dyn FnMut(&str, &Value)) {
    see(path, node);
    for (name, property) in node["properties"].as_object().into_iter().flatten() {
        walk(property, &format!("{path}.{name}"), see);
    }
    if node["items"].is_object() {
        walk(&node["items"], &format!("{path}[]"), see);
    }
    if node["additionalProperties"].is_object() {
        walk(&node["additionalProperties"], &format!("{path}{{}}"), see);
    }
}

/// Fails with every path at which the rule does not hold; and where it never applied, for then it tests nothing.
fn every(rule: &str, applies: impl Fn(&str, &Value) -> bool, holds: impl Fn(&str, &Value) -> bool) {
    let (mut seen, mut broken) = (0, vec![]);
    for (kind, definition) in all() {
        walk(&schema_of(&definition), "", &mut |path, node| {
            if applies(path, node) {
                seen += 1;
                if !holds(path, node) {
                    broken.push(format!("{kind}{path}"));
                }
            }
        });
    }
    assert!(seen > 0, "{rule}: applies nowhere");
    assert!(broken.is_empty(), "{rule}: not at {broken:?}");
}

fn last(path: &str) -> &str {
    path.rsplit(['.', ']', '}']).next().unwrap_or_default()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Free JSON, on purpose: docs/architecture.md says so.
fn free(path: &str) -> bool {
    let step =
        |path: &str| ["http.body", "verify.body", "onCancel.body", "coze.parameters", "coze.ext", "output"].contains(&path);
    let workflow = |path: &str| {
        ["inputs.schema", "schedule.input", "outputs", "onComplete.body"].contains(&path)
            || path.strip_prefix("steps[].").is_some_and(step)
    };
    [".spec.grant.jwtBearer.extraClaims", ".spec.input", ".status.outputs", ".status.steps[].output"].contains(&path)
        || path.strip_prefix(".spec.workflowSpec.").or(path.strip_prefix(".spec.")).is_some_and(workflow)
}

#[test]
fn line_1_the_group_is_a_domain_of_ours_and_names_are_regular() {
    for (kind, definition) in all() {
        let spec = &definition["spec"];
        assert_eq!(spec["names"]["plural"], format!("{}s", kind.to_lowercase()));
        assert_eq!(spec["names"]["singular"], kind.to_lowercase());
        assert_eq!(spec["group"], "oauth-operator.dev");
    }
    let spec = &definition("OAuthAccount")["spec"];
    let group = spec["group"].as_str().unwrap();
    assert!(
        group.contains('.') && group == group.to_lowercase() && !group.ends_with("k8s.io") && !group.ends_with("kubernetes.io")
    );
    use crate::api::vocabulary as v;
    for key in [
        v::ACCOUNT_UID_LABEL,
        v::ACCOUNT_ANNOTATION,
        v::ISSUED_ANNOTATION,
        v::EXPIRY_SOURCE_ANNOTATION,
        v::REQUEST_DIGEST_ANNOTATION,
        v::TEMPLATE_ANNOTATION,
        v::TOKEN_HOSTS_ANNOTATION,
    ] {
        assert!(key.starts_with(&format!("{group}/")), "{key}");
    }
}

#[test]
fn line_2_and_3_short_names_and_the_category_take_nobody_elses() {
    for (kind, short) in [("OAuthAccount", "oacc"), ("Workflow", "owf"), ("WorkflowRun", "owr")] {
        let names = &definition(kind)["spec"]["names"];
        assert_eq!(texts(&names["shortNames"]), [short], "wf is Argo's");
        assert_eq!(texts(&names["categories"]), ["oauth"], "not `all`: kubectl delete all must not take accounts along");
    }
}

#[test]
fn line_4_nothing_but_the_usual_stands_at_the_top() {
    for (_, definition) in all() {
        let schema = schema_of(&definition);
        let top: BTreeSet<_> = schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        assert!(top.is_subset(&BTreeSet::from(["apiVersion", "kind", "metadata", "spec", "status"])), "{top:?}");
        assert_eq!(texts(&schema["required"]), ["spec"]);
    }
}

#[test]
fn line_5_status_is_a_subresource() {
    assert!(all().iter().all(|(_, definition)| version_of(definition)["subresources"]["status"].is_object()));
}

#[test]
fn line_7_and_11_conditions_are_a_map_by_type_with_bounds_and_generations() {
    for (kind, definition) in all() {
        let status = schema_of(&definition)["properties"]["status"].clone();
        let conditions = &status["properties"]["conditions"];
        assert_eq!(conditions["x-kubernetes-list-type"], "map", "{kind}");
        assert_eq!(texts(&conditions["x-kubernetes-list-map-keys"]), ["type"], "{kind}");
        let required = ["lastTransitionTime", "message", "reason", "status", "type"];
        assert_eq!(texts(&conditions["items"]["required"]), required, "{kind}");
        assert!(conditions["items"]["properties"]["observedGeneration"].is_object(), "{kind}");
        assert!(status["properties"]["observedGeneration"].is_object(), "{kind}");
    }
}

#[test]
fn line_8_and_12_before_anybody_looked_status_says_so() {
    let account = [("Ready", "Unknown"), ("Authorized", "Unknown"), ("Reconciling", "True")];
    let kinds = [
        ("OAuthAccount", account.as_slice()),
        ("Workflow", &[("Ready", "Unknown")]),
        ("WorkflowRun", &[("Succeeded", "Unknown")]),
    ];
    for (kind, expected) in kinds {
        let pending = schema(kind)["properties"]["status"]["default"]["conditions"].clone();
        let told: Vec<_> =
            pending.as_array().unwrap().iter().map(|c| (c["type"].as_str().unwrap(), c["status"].as_str().unwrap())).collect();
        assert_eq!(told, expected, "{kind}");
        assert!(pending.as_array().unwrap().iter().all(|condition| condition["reason"] == "Pending"));
    }
}

#[test]
fn line_9_and_16_types_and_reasons_are_camel_case_words() {
    use crate::api::ConditionType;
    let words = ConditionType::ALL.map(ConditionType::as_str);
    assert!(
        words.iter().all(|word| word.chars().next().is_some_and(char::is_uppercase) && word.chars().all(char::is_alphanumeric))
    );
    every(
        "enum values are CamelCase",
        |_, node| node["enum"].is_array(),
        |path, node| {
            // Kubernetes' own names of Secret types, and HTTP's own of methods.
            let given = path == ".spec.tokenSecret.type" || last(path) == "method";
            given
                || texts(&node["enum"])
                    .iter()
                    .all(|value| value.starts_with(|c: char| c.is_ascii_uppercase()) && !value.contains(['-', '_', '/']))
        },
    );
}

#[test]
fn line_10_there_is_no_phase() {
    // But of runs and their steps: people list them by it.
    let run = [".status", ".status.steps[]"];
    every(
        "no phase",
        |path, node| node["properties"].is_object() && !run.contains(&path),
        |_, node| node["properties"]["phase"].is_null(),
    );
}

#[test]
fn line_14_moments_are_named_time() {
    every("…Time", |_, node| node["format"] == "date-time", |path, _| last(path).ends_with("Time"));
    every("no …Timestamp", |path, _| !path.is_empty(), |path, _| !last(path).to_lowercase().ends_with("timestamp"));
}

#[test]
fn line_15_and_18_numbers_are_bounded_integers_and_durations_name_their_unit() {
    every(
        "integers",
        |_, node| ["integer", "number"].iter().any(|type_| node["type"] == *type_),
        |path, node| {
            let bounded = node["minimum"].is_number() && (node["maximum"].is_number() || path.contains(".conditions[]"));
            node["type"] == "integer" && bounded && (node["format"] == "int32" || node["format"] == "int64")
        },
    );
    every(
        "durations",
        |path, node| {
            node["type"] == "integer"
                && ["lifetime", "interval", "lead", "delay", "timeout"].iter().any(|w| last(path).to_lowercase().contains(w))
        },
        |path, _| last(path).ends_with("Seconds"),
    );
}

#[test]
fn line_17_booleans_are_few_and_known() {
    every(
        "booleans",
        |_, node| node["type"] == "boolean",
        |path, _| {
            let known = ["suspend", "par", "killsOldAccessToken", "dynamic", "cancel", "failFast", "doubtful", "answered"];
            known.contains(&last(path))
        },
    );
}

#[test]
fn line_19_names_are_camel_case_with_whole_acronyms() {
    every(
        "camelCase",
        |path, _| !path.is_empty() && !path.ends_with("[]") && !path.ends_with("{}"),
        |path, _| {
            let name = last(path);
            name.starts_with(|c: char| c.is_ascii_lowercase())
                && name.chars().all(char::is_alphanumeric)
                && !name.contains("Url")
                && !name.contains("Id")
        },
    );
}

#[test]
fn line_20_everything_is_bounded() {
    every(
        "lists",
        |_, node| node["type"] == "array",
        |_, node| node["maxItems"].is_number() && node["x-kubernetes-list-type"].is_string(),
    );
    every(
        "strings",
        |path, node| node["type"] == "string" && ![".apiVersion", ".kind"].contains(&path),
        |_, node| node["maxLength"].is_number() || node["enum"].is_array() || node["format"] == "date-time",
    );
    every(
        "maps",
        |path, node| node["type"] == "object" && !node["properties"].is_object() && path != ".metadata",
        |path, node| node["maxProperties"].is_number() || is_empty_member(path),
    );
}

/// Members of the union of grants that have no settings.
fn is_empty_member(path: &str) -> bool {
    [".spec.grant.clientCredentials", ".spec.grant.deviceCode"].contains(&path)
}

#[test]
fn line_21_optional_is_absent_and_never_null() {
    every("no nullable", |_, _| true, |_, node| node["nullable"].is_null() && !texts(&node["type"]).contains(&"null".to_owned()));
}

#[test]
fn line_22_defaults_stand_on_optional_fields() {
    let mut defaults = 0;
    for (_, definition) in all() {
        walk(&schema_of(&definition), "", &mut |path, node| {
            let required = texts(&node["required"]);
            for (name, property) in node["properties"].as_object().into_iter().flatten() {
                if !property["default"].is_null() {
                    defaults += 1;
                    assert!(!required.contains(name), "{path}.{name} is required and has a default");
                }
            }
        });
    }
    assert!(defaults > 5);
    let client = schema("OAuthAccount")["properties"]["spec"]["properties"]["client"].clone();
    assert!(client["properties"]["authMethod"]["default"].is_null(), "a default would override the preset's");
}

#[test]
fn line_23_references_are_named_ref_and_stay_in_the_namespace() {
    every(
        "references",
        |_, node| node["properties"]["name"].is_object() && node["properties"]["key"].is_object(),
        |path, node| path.ends_with("Ref") && node["properties"]["namespace"].is_null(),
    );
    every("names", |path, _| path.ends_with("Ref.name"), |_, node| node["pattern"].is_string() && node["maxLength"] == 253);
}

#[test]
fn line_25_unions_demand_exactly_one_member() {
    for path in ["/properties/spec/properties/provider", "/properties/spec/properties/grant"] {
        let rules = schema("OAuthAccount").pointer(path).unwrap()["x-kubernetes-validations"].clone();
        let rule = rules.as_array().unwrap().iter().find(|rule| rule["message"].as_str().unwrap().contains("exactly one"));
        let rule = rule.unwrap_or_else(|| panic!("{path}"))["rule"].as_str().unwrap().to_owned();
        assert!(rule.ends_with(".size() == 1"), "{rule}");
    }
}

#[test]
fn line_27_messages_say_what_must_and_may_not_be() {
    let mut rules = 0;
    for (_, definition) in all() {
        walk(&schema_of(&definition), "", &mut |path, node| {
            for rule in node["x-kubernetes-validations"].as_array().into_iter().flatten() {
                rules += 1;
                let message = rule["message"].as_str().unwrap_or_else(|| panic!("{path}: {rule}"));
                assert!(message.contains("must ") || message.contains("may not "), "{path}: {message}");
            }
        });
    }
    assert!(rules >= 20, "{rules}");
}

#[test]
fn line_29_unknown_fields_are_kept_in_the_documented_hatch_only() {
    every("pruning", |_, node| !node["x-kubernetes-preserve-unknown-fields"].is_null(), |path, _| free(path));
    every("no embedded resources", |_, _| true, |_, node| node["x-kubernetes-embedded-resource"].is_null());
}

#[test]
fn line_30_every_field_is_explained() {
    every(
        "descriptions",
        |path, _| !path.ends_with("[]") && !path.ends_with("{}") && ![".apiVersion", ".kind", ".metadata"].contains(&path),
        |_, node| node["description"].as_str().is_some_and(|text| text.len() > 5 && text.ends_with(['.', ')'])),
    );
}

#[test]
fn line_31_columns_are_what_a_person_wants_with_age_last() {
    let kinds = [
        ("OAuthAccount", &["Ready", "Provider", "Grant", "Expires", "Secret", "Age"][..], &["Reason", "Refreshed", "Next"][..]),
        ("Workflow", &["Ready", "Schedule", "Time zone", "Suspend", "Last", "Next", "Age"], &["Message"]),
        ("WorkflowRun", &["Workflow", "Phase", "Reason", "Steps", "Started", "Ended", "Age"], &["Message"]),
    ];
    for (kind, narrow, wide) in kinds {
        let columns = version(kind)["additionalPrinterColumns"].clone();
        let shown = |wide: bool| -> Vec<String> {
            let columns = columns.as_array().unwrap().iter().filter(|c| (c["priority"] == 1) == wide);
            columns.map(|c| c["name"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(
            (shown(false), shown(true)),
            (narrow.iter().map(ToString::to_string).collect(), wide.iter().map(ToString::to_string).collect())
        );
        assert_eq!(columns.as_array().unwrap().last().unwrap()["name"], "Age");
        let past = ["Age", "Started", "Ended"];
        let dates = columns.as_array().unwrap().iter().filter(|c| c["type"] == "date");
        assert!(dates.map(|c| c["name"].as_str().unwrap()).all(|name| past.contains(&name)), "<invalid> for what is to come");
    }
}

#[test]
fn line_32_references_can_be_selected_by() {
    let runs = version("WorkflowRun")["selectableFields"].clone();
    assert_eq!(runs, json!([{"jsonPath": ".spec.workflowRef.name"}, {"jsonPath": ".status.phase"}]));
    let fields: Vec<_> = version("OAuthAccount")["selectableFields"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["jsonPath"].as_str().unwrap().to_owned())
        .collect();
    assert!(
        fields.contains(&".spec.client.secretRef.name".to_owned()) && fields.contains(&".spec.provider.preset".to_owned()),
        "{fields:?}"
    );
}

#[test]
fn line_39_the_version_is_alpha_and_stored() {
    for (_, definition) in all() {
        let version = version_of(&definition);
        assert_eq!((&version["name"], &version["served"], &version["storage"]), (&json!("v1alpha1"), &json!(true), &json!(true)));
    }
}

#[test]
fn the_definition_is_small_enough_to_apply() {
    assert!(all().iter().all(|(_, definition)| serde_json::to_vec(definition).unwrap().len() < 100_000));
}
