//! The Kubernetes API conventions, line by line, over the generated definitions.

use super::*;
use std::collections::BTreeSet;

fn definition() -> Value {
    let (_, definition) = definitions().remove(0);
    serde_json::to_value(definition).unwrap()
}

fn version() -> Value {
    definition()["spec"]["versions"][0].clone()
}

fn schema() -> Value {
    version()["schema"]["openAPIV3Schema"].clone()
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
    walk(&schema(), "", &mut |path, node| {
        if applies(path, node) {
            seen += 1;
            if !holds(path, node) {
                broken.push(path.to_owned());
            }
        }
    });
    assert!(seen > 0, "{rule}: applies nowhere");
    assert!(broken.is_empty(), "{rule}: not at {broken:?}");
}

fn last(path: &str) -> &str {
    path.rsplit(['.', ']', '}']).next().unwrap_or_default()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn free(path: &str) -> bool {
    path == ".spec.grant.jwtBearer.extraClaims"
}

#[test]
fn line_1_the_group_is_a_domain_of_ours_and_names_are_regular() {
    let spec = &definition()["spec"];
    let group = spec["group"].as_str().unwrap();
    assert!(
        group.contains('.') && group == group.to_lowercase() && !group.ends_with("k8s.io") && !group.ends_with("kubernetes.io")
    );
    let names = &spec["names"];
    assert_eq!(names["plural"], "oauthaccounts");
    assert_eq!(names["singular"], "oauthaccount");
    assert_eq!(names["kind"], "OAuthAccount");
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
    let names = &definition()["spec"]["names"];
    assert_eq!(texts(&names["shortNames"]), ["oacc"]);
    assert_eq!(texts(&names["categories"]), ["oauth"], "not `all`: kubectl delete all must not take accounts along");
}

#[test]
fn line_4_nothing_but_the_usual_stands_at_the_top() {
    let schema = schema();
    let top: BTreeSet<_> = schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
    assert!(top.is_subset(&BTreeSet::from(["apiVersion", "kind", "metadata", "spec", "status"])), "{top:?}");
    assert_eq!(texts(&schema["required"]), ["spec"]);
}

#[test]
fn line_5_status_is_a_subresource() {
    assert!(version()["subresources"]["status"].is_object());
}

#[test]
fn line_7_and_11_conditions_are_a_map_by_type_with_bounds_and_generations() {
    let status = schema()["properties"]["status"].clone();
    let conditions = &status["properties"]["conditions"];
    assert_eq!(conditions["x-kubernetes-list-type"], "map");
    assert_eq!(texts(&conditions["x-kubernetes-list-map-keys"]), ["type"]);
    assert_eq!(texts(&conditions["items"]["required"]), ["lastTransitionTime", "message", "reason", "status", "type"]);
    assert!(conditions["items"]["properties"]["observedGeneration"].is_object());
    assert!(status["properties"]["observedGeneration"].is_object());
}

#[test]
fn line_8_and_12_before_anybody_looked_status_says_so() {
    let pending = schema()["properties"]["status"]["default"]["conditions"].clone();
    let told: Vec<_> =
        pending.as_array().unwrap().iter().map(|c| (c["type"].as_str().unwrap(), c["status"].as_str().unwrap())).collect();
    assert_eq!(told, [("Ready", "Unknown"), ("Authorized", "Unknown"), ("Reconciling", "True")]);
    assert!(pending.as_array().unwrap().iter().all(|condition| condition["reason"] == "Pending"));
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
            let given = path == ".spec.tokenSecret.type"; // Kubernetes' own names of Secret types
            given
                || texts(&node["enum"])
                    .iter()
                    .all(|value| value.starts_with(|c: char| c.is_ascii_uppercase()) && !value.contains(['-', '_', '/']))
        },
    );
}

#[test]
fn line_10_there_is_no_phase() {
    every("no phase", |_, node| node["properties"].is_object(), |_, node| node["properties"]["phase"].is_null());
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
            [".spec.suspend", ".spec.par"].contains(&path) || path.ends_with(".killsOldAccessToken") || path.ends_with(".dynamic")
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
    walk(&schema(), "", &mut |path, node| {
        let required = texts(&node["required"]);
        for (name, property) in node["properties"].as_object().into_iter().flatten() {
            if !property["default"].is_null() {
                defaults += 1;
                assert!(!required.contains(name), "{path}.{name} is required and has a default");
            }
        }
    });
    assert!(defaults > 5);
    let client = schema()["properties"]["spec"]["properties"]["client"].clone();
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
        let rules = schema().pointer(path).unwrap()["x-kubernetes-validations"].clone();
        let rule = rules.as_array().unwrap().iter().find(|rule| rule["message"].as_str().unwrap().contains("exactly one"));
        let rule = rule.unwrap_or_else(|| panic!("{path}"))["rule"].as_str().unwrap().to_owned();
        assert!(rule.ends_with(".size() == 1"), "{rule}");
    }
}

#[test]
fn line_27_messages_say_what_must_and_may_not_be() {
    let mut rules = 0;
    walk(&schema(), "", &mut |path, node| {
        for rule in node["x-kubernetes-validations"].as_array().into_iter().flatten() {
            rules += 1;
            let message = rule["message"].as_str().unwrap_or_else(|| panic!("{path}: {rule}"));
            assert!(message.contains("must ") || message.contains("may not "), "{path}: {message}");
        }
    });
    assert!(rules >= 10, "{rules}");
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
    let columns = version()["additionalPrinterColumns"].clone();
    let shown = |wide: bool| -> Vec<String> {
        let columns = columns.as_array().unwrap().iter().filter(|c| (c["priority"] == 1) == wide);
        columns.map(|c| c["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(shown(false), ["Ready", "Provider", "Grant", "Expires", "Secret", "Age"]);
    assert_eq!(shown(true), ["Reason", "Refreshed", "Next"]);
    assert_eq!(columns.as_array().unwrap().last().unwrap()["name"], "Age");
    let dates = columns.as_array().unwrap().iter().filter(|c| c["type"] == "date");
    assert!(dates.map(|c| c["name"].as_str().unwrap()).eq(["Age"]), "a date column shows <invalid> for what is to come");
}

#[test]
fn line_32_references_can_be_selected_by() {
    let fields: Vec<_> =
        version()["selectableFields"].as_array().unwrap().iter().map(|f| f["jsonPath"].as_str().unwrap().to_owned()).collect();
    assert!(
        fields.contains(&".spec.client.secretRef.name".to_owned()) && fields.contains(&".spec.provider.preset".to_owned()),
        "{fields:?}"
    );
}

#[test]
fn line_39_the_version_is_alpha_and_stored() {
    assert_eq!(version()["name"], "v1alpha1");
    assert_eq!((&version()["served"], &version()["storage"]), (&json!(true), &json!(true)));
}

#[test]
fn the_definition_is_small_enough_to_apply() {
    assert!(serde_json::to_vec(&definition()).unwrap().len() < 100_000);
}
