//! How much work a schema makes, told before it makes any: `allOf` and `$ref` double it in a few bytes, and a validator that has
//! begun cannot be stopped.

use super::input::DEEPEST;
use serde_json::{Map, Value};
use std::collections::HashMap;

/// Schemas that lead to each other at most: the validator recurses along them.
const LONGEST: usize = 128;
/// Members of a keyword's list or map that cost as much as one schema: they are compared or looked up.
const MEMBERS: usize = 16;
/// `unevaluatedProperties` and `unevaluatedItems` ask the schemas beside them again: measured 2.6 times.
const UNEVALUATED: u64 = 3;

/// Whom the schemas under a keyword judge.
#[derive(Clone, Copy)]
enum Judges {
    /// The value itself.
    Same,
    /// Each of them what is in the value.
    Within,
    /// One of them what is in the value, by its name or place.
    OneWithin,
}

const KEYWORDS: [(&str, Judges); 18] = [
    ("allOf", Judges::Same),
    ("anyOf", Judges::Same),
    ("oneOf", Judges::Same),
    ("not", Judges::Same),
    ("if", Judges::Same),
    ("then", Judges::Same),
    ("else", Judges::Same),
    ("dependentSchemas", Judges::Same),
    ("dependencies", Judges::Same),
    ("items", Judges::Within),
    ("additionalItems", Judges::Within),
    ("unevaluatedItems", Judges::Within),
    ("contains", Judges::Within),
    ("additionalProperties", Judges::Within),
    ("unevaluatedProperties", Judges::Within),
    ("propertyNames", Judges::Within),
    ("patternProperties", Judges::Within),
    ("prefixItems", Judges::OneWithin),
];
/// Of these the values are schemas; any other keyword's object is a schema itself.
const MAPS: [&str; 4] = ["dependentSchemas", "dependencies", "patternProperties", "properties"];

/// Where a schema cannot be used, as a JSON pointer into it, and why.
pub(super) type Refusal = (String, String);

#[derive(Clone, Copy)]
struct Judgement {
    weight: u64,
    /// Schemas one behind the other.
    height: usize,
}

/// How often a schema judges one value at most, wherever that stands in an input; patterns weigh what `pattern` says.
///
/// # Errors
/// Where schemas refer to each other in a circle that never goes down into the value, or in too long a line; where a
/// reference leads nowhere; and what `pattern` refuses.
pub(super) fn effort(root: &Value, pattern: &mut dyn FnMut(&str) -> Result<u64, String>) -> Result<u64, Refusal> {
    let mut survey = Survey { root, pattern, known: HashMap::new() };
    let mut most = 0;
    for level in 0..=DEEPEST {
        let judgement = survey.judge(root, level, "", 0)?;
        if judgement.height > LONGEST {
            return Err((String::new(), too_long()));
        }
        most = most.max(judgement.weight);
    }
    Ok(most)
}

struct Survey<'a> {
    root: &'a Value,
    pattern: &'a mut dyn FnMut(&str) -> Result<u64, String>,
    /// By the address of a schema and the level below it; `None` while it is being asked.
    known: HashMap<(usize, usize), Option<Judgement>>,
}

impl<'a> Survey<'a> {
    /// How often this schema has a value judged that stands so many levels below the one it is applied to.
    fn judge(&mut self, schema: &'a Value, level: usize, place: &str, before: usize) -> Result<Judgement, Refusal> {
        let Value::Object(keywords) = schema else { return Ok(Judgement { weight: 1, height: 0 }) };
        let key = (std::ptr::from_ref(schema).addr(), level);
        match self.known.get(&key) {
            Some(Some(judgement)) => return Ok(*judgement),
            Some(None) => return Err((place.to_owned(), "it refers to itself without going down into the value".to_owned())),
            None if before > LONGEST => return Err((place.to_owned(), too_long())),
            None => {}
        }
        self.known.insert(key, None);
        let mut weight = if level == 0 { self.own(keywords, place)? } else { 0 };
        let mut height = 0;
        for (judges, schemas) in self.beneath(keywords, place)? {
            let Some(level) = (if matches!(judges, Judges::Same) { Some(level) } else { level.checked_sub(1) }) else { continue };
            let mut heaviest = 0;
            for (place, schema) in schemas {
                let judgement = self.judge(schema, level, &place, before + 1)?;
                height = height.max(judgement.height + 1);
                match judges {
                    Judges::OneWithin => heaviest = judgement.weight.max(heaviest),
                    _ => weight = weight.saturating_add(judgement.weight),
                }
            }
            weight = weight.saturating_add(heaviest);
        }
        if keywords.contains_key("unevaluatedProperties") || keywords.contains_key("unevaluatedItems") {
            weight = weight.saturating_mul(UNEVALUATED);
        }
        let judgement = Judgement { weight, height };
        self.known.insert(key, Some(judgement));
        Ok(judgement)
    }

    /// What the keywords cost that hold no schema.
    fn own(&mut self, keywords: &Map<String, Value>, place: &str) -> Result<u64, Refusal> {
        let members = keywords.values().map(|value| match value {
            Value::Array(items) => items.len(),
            Value::Object(fields) => fields.len(),
            _ => 0,
        });
        let mut weight = 1 + (members.sum::<usize>() / MEMBERS) as u64;
        let names = keywords.get("patternProperties").and_then(Value::as_object).into_iter().flat_map(Map::keys);
        let names = names.map(|name| (name.as_str(), "patternProperties"));
        for (written, keyword) in names.chain(keywords.get("pattern").and_then(Value::as_str).map(|written| (written, "pattern")))
        {
            let heavy = (self.pattern)(written).map_err(|reason| (format!("{place}/{keyword}"), reason))?;
            weight = weight.saturating_add(heavy);
        }
        Ok(weight)
    }

    /// The schemas right beneath these keywords, those that `$ref` names among them, each with its place.
    #[expect(clippy::type_complexity)]
    fn beneath(&self, keywords: &'a Map<String, Value>, place: &str) -> Result<Vec<(Judges, Vec<(String, &'a Value)>)>, Refusal> {
        let mut all = vec![];
        for (keyword, judges) in KEYWORDS.into_iter().chain([("properties", Judges::OneWithin)]) {
            let place = member(place, keyword);
            match keywords.get(keyword) {
                Some(Value::Array(schemas)) => {
                    // `items` with a list is what `prefixItems` was called before 2020-12.
                    let judges = if keyword == "items" { Judges::OneWithin } else { judges };
                    all.push((
                        judges,
                        schemas.iter().enumerate().map(|(at, schema)| (format!("{place}/{at}"), schema)).collect(),
                    ));
                }
                Some(Value::Object(map)) if MAPS.contains(&keyword) => {
                    all.push((judges, map.iter().map(|(name, schema)| (member(&place, name), schema)).collect()));
                }
                Some(schema) => all.push((judges, vec![(place, schema)])),
                None => {}
            }
        }
        if let Some(reference) = keywords.get("$ref").and_then(Value::as_str) {
            let pointer = reference.trim_start_matches('#');
            let nowhere = || (format!("{place}/$ref"), format!("`{reference}` leads nowhere"));
            all.push((Judges::Same, vec![(pointer.to_owned(), self.root.pointer(pointer).ok_or_else(nowhere)?)]));
        }
        Ok(all)
    }
}

/// The JSON pointer (RFC 6901) to a member of what stands at a place.
pub(super) fn member(place: &str, name: &str) -> String {
    format!("{place}/{}", name.replace('~', "~0").replace('/', "~1"))
}

fn too_long() -> String {
    format!("more than {LONGEST} schemas refer to each other in a line")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Patterns weigh their length.
    fn weight(schema: &Value) -> Result<u64, Refusal> {
        effort(schema, &mut |pattern| if pattern == "(" { Err("it does not close".to_owned()) } else { Ok(pattern.len() as u64) })
    }

    #[test]
    fn what_applies_to_one_value_is_added_up() {
        for (schema, times) in [
            (json!(true), 1),
            (json!({"type": "string"}), 1),
            (json!({"allOf": [true, {"not": {"type": "null"}}]}), 4),
            (json!({"if": true, "then": {"anyOf": [{}, {}]}, "else": {}}), 6),
            (json!({"dependentSchemas": {"a": {}, "b": {}}}), 3),
            (json!({"enum": (0..64).collect::<Vec<_>>()}), 5),
            (json!({"pattern": "^[a-z]$"}), 8),
            (json!({"patternProperties": {"^aa": {}, "^bb": {}}}), 7),
            (json!({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"oneOf": [{}, {}]}}}), 4),
            (json!({"unevaluatedProperties": false, "allOf": [{}, {}]}), 9),
        ] {
            assert_eq!(weight(&schema), Ok(times), "{schema}");
        }
    }

    #[test]
    fn what_applies_to_different_values_is_not() {
        let heavy = json!({"allOf": [{}, {}]});
        for (schema, times) in [
            (json!({"properties": {"a": heavy, "b": heavy, "c": {}}}), 3),
            (json!({"prefixItems": [heavy, heavy]}), 3),
            (json!({"items": [heavy, heavy]}), 3),
            (json!({"items": {"items": {"items": heavy}}}), 3),
            (json!({"properties": {"a": heavy}, "additionalProperties": heavy, "propertyNames": {}}), 7),
            (json!({"items": heavy, "contains": {}}), 4),
        ] {
            assert_eq!(weight(&schema), Ok(times), "{schema}");
        }
    }

    #[test]
    fn recursion_down_into_the_value_is_counted_to_the_deepest_level() {
        let tree = json!({"properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}}, "required": ["value"]});
        assert_eq!(weight(&tree), Ok(2), "each value once, and the reference to it");
        let double = json!({"allOf": [{"items": {"$ref": "#"}}, {"items": {"$ref": "#"}}]});
        assert!(weight(&double).unwrap() >= 1 << DEEPEST, "twice as often at each level");
    }

    #[test]
    fn doubling_is_counted_without_being_done() {
        let mut definitions: Map<String, Value> = (0..60)
            .map(|n| {
                (
                    format!("a{n}"),
                    json!({"allOf": [{"$ref": format!("#/$defs/a{}", n + 1)}, {"$ref": format!("#/$defs/a{}", n + 1)}]}),
                )
            })
            .collect();
        definitions.insert("a60".into(), json!({}));
        assert!(weight(&json!({"$ref": "#/$defs/a0", "$defs": definitions})).unwrap() > 1 << 60);
    }

    #[test]
    fn a_line_is_as_long_as_it_is_however_it_is_entered() {
        // Entered near its end first, which is known then when the line comes to it.
        let mut definitions: Map<String, Value> =
            (0..140).map(|n| (format!("a{n}"), json!({"$ref": format!("#/$defs/a{}", n + 1)}))).collect();
        definitions.insert("a140".into(), json!({}));
        let schema = json!({"allOf": [{"$ref": "#/$defs/a70"}, {"$ref": "#/$defs/a0"}], "$defs": definitions});
        assert_eq!(weight(&schema).unwrap_err().1, "more than 128 schemas refer to each other in a line");
    }

    #[test]
    fn circles_that_stay_at_one_value_are_refused() {
        for (schema, place) in [
            (json!({"$ref": "#"}), ""),
            (json!({"allOf": [{"not": {"$ref": "#"}}]}), ""),
            (
                json!({"properties": {"a": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"$ref": "#/$defs/y"}, "y": {"$ref": "#/$defs/x"}}}),
                "/$defs/x",
            ),
        ] {
            let reason = "it refers to itself without going down into the value";
            assert_eq!(weight(&schema), Err((place.to_owned(), reason.to_owned())), "{schema}");
        }
    }

    #[test]
    fn refusals_say_where() {
        assert_eq!(
            weight(&json!({"properties": {"a/b": {"$ref": "#/$defs/b"}}})),
            Err(("/properties/a~1b/$ref".to_owned(), "`#/$defs/b` leads nowhere".to_owned()))
        );
        assert_eq!(
            weight(&json!({"items": {"pattern": "("}})),
            Err(("/items/pattern".to_owned(), "it does not close".to_owned()))
        );
        assert_eq!(weight(&json!({"patternProperties": {"(": {}}})).unwrap_err().0, "/patternProperties");
    }
}
