//! What a workflow asks of its inputs, in JSON Schema.

use super::input::{self, InputError};
use super::input_effort::{effort, member};
use jsonschema::{Draft, PatternOptions, ValidationError, ValidationOptions, Validator};
use serde_json::{Value, json};

/// Bytes and levels of a schema itself.
const LARGEST: usize = 64 * 1024;
const DEEPEST: usize = 32;
/// Patterns of a schema, and bytes of the largest program that one becomes: `^.{1,200}$` needs as much, with all of Unicode
/// in its dots.
const MOST_PATTERNS: usize = 100;
const LARGEST_PATTERN: usize = 256 * 1024;
/// How often one value is judged at most; a KiB of a pattern's program counts for one judgement.
const MOST_JUDGEMENTS: u64 = 2_000;
/// Bytes of input by judgements of each. Patterns that are made to be slow take 40 to 80 ns for each byte and KiB (measured, with
/// optimization): four seconds. Anything else takes less.
const MOST_WORK: u64 = 50_000_000;
/// Up to here all failures are collected, which copies the values they are about.
const MOST_EXPLAINED: u64 = 500_000;
const MOST_FAILURES: usize = 3;
/// Letters of a failure.
const LONGEST_FAILURE: usize = 300;

/// Drafts by their `$schema`. Draft 4 is left out: its `id` in a property's place would change what references mean.
const DRAFTS: [(&str, Draft); 4] = [
    ("https://json-schema.org/draft/2020-12/schema", Draft::Draft202012),
    ("https://json-schema.org/draft/2019-09/schema", Draft::Draft201909),
    ("http://json-schema.org/draft-07/schema", Draft::Draft7),
    ("http://json-schema.org/draft-06/schema", Draft::Draft6),
];

/// A schema that is ready to judge inputs: JSON Schema 2020-12, or the draft that its `$schema` names.
///
/// `$ref` leads to `#` or `#/…` only, and nothing is ever fetched. Patterns are regular expressions without look-around and
/// back-references, matched in linear time. `format` is an annotation, as 2020-12 has it by default: what must hold is a
/// `pattern`. A number without a fraction is an integer, be it written 1 or 1.0: an API server knows numbers only.
#[derive(Clone, Debug)]
pub struct InputSchema {
    validator: Validator,
    judgements: u64,
    alternatives: bool,
}

impl InputSchema {
    /// Understands a schema.
    ///
    /// # Errors
    /// Where it is none, refers outside itself, or makes more work than it may: the place in the schema and what is wrong.
    pub fn compile(schema: &Value) -> Result<Self, InputError> {
        let levels = input::depth(schema);
        if levels > DEEPEST {
            return Err(refusal("", format!("it is nested {levels} levels deep; at most {DEEPEST} are allowed")));
        }
        let bytes = input::canonical(schema).len();
        if bytes > LARGEST {
            return Err(refusal("", format!("it has {bytes} bytes of JSON; at most {LARGEST} are allowed")));
        }
        let options = options(draft(schema)?, LARGEST_PATTERN);
        confine(schema, "")?;
        let mut patterns = 0;
        let mut weigh = |pattern: &str| {
            patterns += 1;
            if patterns > MOST_PATTERNS { Err(format!("it has more than {MOST_PATTERNS} patterns")) } else { weigh(pattern) }
        };
        let judgements = effort(schema, &mut weigh).map_err(|(place, reason)| refusal(&place, reason))?;
        if judgements > MOST_JUDGEMENTS {
            let reason = format!("it judges one value {judgements} times over; at most {MOST_JUDGEMENTS} are allowed");
            return Err(refusal("", reason));
        }
        let validator = options.build(schema).map_err(|error| refusal(error.instance_path().as_str(), error.to_string()))?;
        Ok(Self { validator, judgements, alternatives: mentions(schema, &["anyOf", "oneOf"]) })
    }

    /// Judges an input, its size and nesting too.
    ///
    /// # Errors
    /// What [`input::check`] refuses, and up to three failures, each with its place and without the value there. Of a large
    /// input only the first is told, and no place where the schema has alternatives: to explain why none of them fits is to
    /// copy the input for each.
    pub fn validate(&self, input: &Value) -> Result<(), InputError> {
        input::check(input)?;
        let bytes = input::canonical(input).len();
        let work = self.judgements.saturating_mul(bytes as u64);
        if work > MOST_WORK {
            let most = usize::try_from(MOST_WORK / self.judgements).unwrap_or(usize::MAX);
            return Err(InputError::TooLaborious { bytes, most });
        }
        if self.validator.is_valid(input) {
            return Ok(());
        }
        let failures = if work <= MOST_EXPLAINED {
            self.validator.iter_errors(input).take(MOST_FAILURES).map(|failure| explain(&failure)).collect()
        } else if self.alternatives {
            vec!["it is too large to say where".to_owned()]
        } else {
            self.validator.validate(input).err().iter().map(explain).collect()
        };
        Err(InputError::Mismatch(failures))
    }
}

fn options(draft: Draft, pattern: usize) -> ValidationOptions<'static> {
    let patterns = PatternOptions::regex().size_limit(pattern).dfa_size_limit(4 * LARGEST_PATTERN);
    jsonschema::options().with_draft(draft).offline().should_validate_formats(false).with_pattern_options(patterns)
}

/// How slow a pattern can be for each byte it reads: with its states, and so with its program. The smallest limit that it
/// compiles under tells how large that is.
fn weigh(pattern: &str) -> Result<u64, String> {
    let sizes = std::iter::successors(Some(4096), |size| Some(size * 2)).take_while(|size| *size <= LARGEST_PATTERN);
    let fits = |size: &usize| options(Draft::Draft202012, *size).build(&json!({"pattern": pattern})).is_ok();
    sizes.into_iter().find(fits).map(|size| (size / 1024) as u64).ok_or_else(|| {
        let largest = LARGEST_PATTERN / 1024;
        format!(
            "`{pattern}` is no regular expression without look-around and back-references that compiles to {largest} KiB at most"
        )
    })
}

fn draft(schema: &Value) -> Result<Draft, InputError> {
    match schema.get("$schema") {
        _ if !schema.is_object() && !schema.is_boolean() => Err(refusal("", "a schema is an object".to_owned())),
        None => Ok(Draft::Draft202012),
        Some(named) => DRAFTS
            .iter()
            .find(|(uri, _)| named.as_str().map(|named| named.trim_end_matches('#')) == Some(uri))
            .map(|(_, draft)| *draft)
            .ok_or_else(|| refusal("/$schema", "only drafts 2020-12, 2019-09, 07 and 06 of JSON Schema are known".to_owned())),
    }
}

/// Refuses whatever changes where references lead. It looks at data such as `default` too, where nobody writes these words.
fn confine(value: &Value, place: &str) -> Result<(), InputError> {
    if let Value::Object(fields) = value {
        for (keyword, written) in fields.iter().filter_map(|(keyword, value)| Some((keyword.as_str(), value.as_str()?))) {
            let local = written == "#" || written.starts_with("#/");
            let reason = match keyword {
                "$ref" if !local || written.contains('%') => {
                    "only references to `#` and `#/…` are followed, and nothing is fetched"
                }
                "$dynamicRef" | "$recursiveRef" => "only `$ref` is followed",
                "$id" | "$schema" if !place.is_empty() => "it may stand at the root only",
                _ => continue,
            };
            return Err(refusal(&format!("{place}/{keyword}"), reason.to_owned()));
        }
    }
    match value {
        Value::Object(fields) => fields.iter().try_for_each(|(name, field)| confine(field, &member(place, name))),
        Value::Array(items) => items.iter().enumerate().try_for_each(|(at, item)| confine(item, &format!("{place}/{at}"))),
        _ => Ok(()),
    }
}

fn mentions(value: &Value, words: &[&str]) -> bool {
    match value {
        Value::Object(fields) => fields.iter().any(|(name, field)| words.contains(&name.as_str()) || mentions(field, words)),
        Value::Array(items) => items.iter().any(|item| mentions(item, words)),
        _ => false,
    }
}

fn explain(failure: &ValidationError<'_>) -> String {
    short(format!("{}: {}", at(failure.instance_path().as_str()), failure.masked_with("the value")))
}

fn refusal(place: &str, reason: String) -> InputError {
    InputError::Schema { place: short(at(place)), reason: short(reason) }
}

fn at(pointer: &str) -> String {
    if pointer.is_empty() { "at the root".to_owned() } else { format!("at {pointer}") }
}

fn short(text: String) -> String {
    match text.char_indices().nth(LONGEST_FAILURE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Map;
    use std::time::Duration;

    fn schema(schema: &Value) -> InputSchema {
        InputSchema::compile(schema).unwrap()
    }

    fn refused(schema: &Value) -> String {
        InputSchema::compile(schema).unwrap_err().to_string()
    }

    fn failures(judge: &Value, input: &Value) -> Vec<String> {
        match schema(judge).validate(input) {
            Err(InputError::Mismatch(failures)) => failures,
            other => panic!("{judge}: {other:?}"),
        }
    }

    /// On a thread with the stack of an async runtime's, and not for ever.
    fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::Builder::new().stack_size(2 << 20).spawn(move || tell.send(work())).unwrap();
        told.recv_timeout(Duration::from_secs(20)).expect("it neither hangs nor overflows the stack")
    }

    /// Definitions `a0` to `a<count>`, each made of a reference to the next; the last is an integer.
    fn chain(count: usize, link: impl Fn(Value) -> Value) -> Value {
        let mut definitions: Map<String, Value> =
            (0..count).map(|n| (format!("a{n}"), link(json!({"$ref": format!("#/$defs/a{}", n + 1)})))).collect();
        definitions.insert(format!("a{count}"), json!({"type": "integer"}));
        json!({"$ref": "#/$defs/a0", "$defs": definitions})
    }

    #[test]
    fn an_input_that_fits_is_accepted_and_another_told_where_not() {
        let topic = json!({
            "type": "object", "required": ["topic"], "additionalProperties": false,
            "properties": {"topic": {"type": "string", "maxLength": 3}, "count": {"$ref": "#/$defs/count"}},
            "$defs": {"count": {"type": "integer", "minimum": 1}},
        });
        assert_eq!(schema(&topic).validate(&json!({"topic": "abc", "count": 1.0})), Ok(()), "1.0 is an integer");
        assert_eq!(
            schema(&topic).validate(&json!({"topic": 7, "count": 0})).unwrap_err().to_string(),
            "the input does not fit its schema: at /count: the value is less than the minimum of 1; \
             at /topic: the value is not of type \"string\""
        );
        assert_eq!(failures(&topic, &json!({})), ["at the root: \"topic\" is a required property"]);
        assert_eq!(
            failures(&topic, &json!({"topic": "a", "tpoic": "b"})),
            ["at the root: Additional properties are not allowed ('tpoic' was unexpected)"]
        );
        assert_eq!(failures(&json!({"items": false}), &json!([1, 2, 3, 4])).len(), 3, "no more than three");
    }

    #[test]
    fn no_failure_quotes_the_value() {
        let secret = "s3cr3t";
        for (judge, input) in [
            (json!({"type": "integer"}), json!(secret)),
            (json!({"type": ["integer", "null"]}), json!(secret)),
            (json!({"enum": ["a", 1]}), json!(secret)),
            (json!({"const": "a"}), json!(secret)),
            (json!({"pattern": "^a"}), json!(secret)),
            (json!({"maxLength": 1}), json!(secret)),
            (json!({"minLength": 100}), json!(secret)),
            (json!({"not": {"type": "string"}}), json!(secret)),
            (json!({"anyOf": [{"type": "integer"}, {"const": 1}]}), json!(secret)),
            (json!({"oneOf": [{"type": "integer"}, {"const": 1}]}), json!(secret)),
            (json!({"oneOf": [{"type": "string"}, {}]}), json!(secret)),
            (json!(false), json!(secret)),
            (json!({"items": {"type": "integer"}}), json!([secret])),
            (json!({"contains": {"type": "integer"}}), json!([secret])),
            (json!({"uniqueItems": true}), json!([secret, secret])),
            (json!({"maxItems": 0}), json!([secret])),
            (json!({"minItems": 2}), json!([secret])),
            (json!({"prefixItems": [true], "items": false}), json!([1, secret])),
            (json!({"unevaluatedItems": false}), json!([secret])),
            (json!({"maxProperties": 0}), json!({"a": secret})),
            (json!({"minProperties": 2}), json!({"a": secret})),
            (json!({"additionalProperties": false}), json!({"a": secret})),
            (json!({"properties": {"b": {}}, "additionalProperties": false}), json!({"a": secret})),
            (json!({"unevaluatedProperties": false}), json!({"a": secret})),
            (json!({"required": ["b"]}), json!({"a": secret})),
            (json!({"dependentRequired": {"a": ["b"]}}), json!({"a": secret})),
            (json!({"propertyNames": {"maxLength": 0}}), json!({"a": secret})),
            (json!({"maximum": 1}), json!(31337)),
            (json!({"exclusiveMinimum": 40000}), json!(31337)),
            (json!({"multipleOf": 2}), json!(31337)),
        ] {
            let said = failures(&judge, &input).join("; ");
            assert!(said.starts_with("at ") && !said.contains(secret) && !said.contains("31337"), "{judge}: {said}");
        }
    }

    #[test]
    fn long_failures_are_cut() {
        let name = "ä".repeat(1000);
        let said = failures(&json!({"properties": {"a": {}}, "additionalProperties": false}), &json!({name: 1}));
        assert_eq!((said[0].chars().count(), said[0].ends_with('…')), (301, true));
    }

    #[test]
    fn the_draft_is_2020_12_unless_another_is_named() {
        let tuple = |named: &str| json!({"$schema": named, "items": [{"type": "string"}]});
        let latest = json!({"prefixItems": [{"type": "string"}]});
        assert_eq!(failures(&latest, &json!([1])).len(), 1);
        for named in ["http://json-schema.org/draft-07/schema#", "http://json-schema.org/draft-06/schema"] {
            assert_eq!(failures(&tuple(named), &json!([1])).len(), 1, "{named}");
        }
        assert!(refused(&tuple("https://json-schema.org/draft/2020-12/schema")).contains("at /items: "), "a list of old");
        for named in ["http://json-schema.org/draft-04/schema#", "https://example.com/own"] {
            let said =
                "the input schema cannot be used: at /$schema: only drafts 2020-12, 2019-09, 07 and 06 of JSON Schema are known";
            assert_eq!(refused(&tuple(named)), said);
        }
    }

    #[test]
    fn formats_are_annotations() {
        for named in DRAFTS {
            assert_eq!(schema(&json!({"$schema": named.0, "format": "date"})).validate(&json!("soon")), Ok(()), "{}", named.0);
        }
    }

    #[test]
    fn what_is_no_schema_is_refused_at_its_place() {
        for (wrong, said) in [
            (json!("string"), "the input schema cannot be used: at the root: a schema is an object"),
            (json!({"properties": {"a": {"type": "objct"}}}), "at /properties/a/type: \"objct\" is not valid"),
            (json!({"properties": {"a": {"minLength": -1}}}), "at /properties/a/minLength: -1 is less than the minimum of 0"),
            (json!({"properties": {"a": {"pattern": "(a"}}}), "at /properties/a/pattern: `(a` is no regular expression"),
            (json!({"properties": {"a": {"pattern": "(?=a)b"}}}), "without look-around and back-references"),
            (json!({"pattern": "(a{100}){1000}"}), "compiles to 256 KiB at most"),
            (json!({"patternProperties": {"(a": {}}}), "at /patternProperties: `(a` is no regular expression"),
        ] {
            assert!(refused(&wrong).contains(said), "{}", refused(&wrong));
        }
    }

    #[test]
    fn nothing_is_fetched() {
        let alone = "only references to `#` and `#/…` are followed, and nothing is fetched";
        for (reference, said) in [
            ("https://example.com/a.json", alone),
            ("file:///etc/passwd", alone),
            ("other.json", alone),
            ("https://json-schema.org/draft/2020-12/schema", alone),
            ("#name", alone),
            ("#/%24defs/a", alone),
            ("#/$defs/b", "`#/$defs/b` leads nowhere"),
        ] {
            let refused = refused(&json!({"properties": {"a": {"$ref": reference}}, "$defs": {"a": {"$anchor": "name"}}}));
            assert_eq!(refused, format!("the input schema cannot be used: at /properties/a/$ref: {said}"), "{reference}");
        }
        assert!(refused(&json!({"items": {"$dynamicRef": "#a"}})).contains("at /items/$dynamicRef: only `$ref` is followed"));
        assert!(
            refused(&json!({"items": {"$id": "https://example.com/a"}})).contains("at /items/$id: it may stand at the root only")
        );
        assert!(
            refused(&json!({"items": {"$schema": DRAFTS[2].0}})).contains("at /items/$schema: it may stand at the root only")
        );
        let named = json!({"$id": "https://example.com/a", "properties": {"$ref": {"$ref": "#/$defs/b"}}, "$defs": {"b": {"type": "null"}}});
        assert_eq!(
            failures(&named, &json!({"$ref": 1})).len(),
            1,
            "its own name, and a property of that name, are no references"
        );
    }

    #[test]
    fn a_schema_is_bounded_itself() {
        assert!(
            refused(&json!({"const": "a".repeat(LARGEST)})).contains("it has 65548 bytes of JSON; at most 65536 are allowed")
        );
        let deep = |levels| (1..levels).fold(json!({"type": "null"}), |inner, _| json!({"not": inner}));
        assert_eq!(schema(&deep(32)).validate(&json!(1)), Ok(()));
        assert!(refused(&deep(33)).contains("it is nested 33 levels deep; at most 32 are allowed"));
        let many = |count: usize| json!({"properties": (0..count).map(|n| (n.to_string(), json!({"pattern": "^a$"}))).collect::<Map<_, _>>()});
        assert!(InputSchema::compile(&many(100)).is_ok());
        assert!(refused(&many(101)).contains("it has more than 100 patterns"));
    }

    #[test]
    fn schemas_that_refer_to_themselves_end() {
        for endless in [json!({"$ref": "#"}), json!({"not": {"$ref": "#"}}), json!({"anyOf": [{"type": "null"}, {"$ref": "#"}]})]
        {
            assert!(refused(&endless).contains("it refers to itself without going down into the value"), "{endless}");
        }
        let tree = json!({"required": ["name"], "properties": {"children": {"items": {"$ref": "#"}}}});
        let leaf = |name: &str| json!({"name": name, "children": []});
        assert_eq!(schema(&tree).validate(&json!({"name": "a", "children": [leaf("b"), leaf("c")]})), Ok(()));
        assert_eq!(
            failures(&tree, &json!({"name": "a", "children": [leaf("b"), {}]})),
            ["at /children/1: \"name\" is a required property"]
        );
    }

    #[test]
    fn schemas_that_double_are_refused() {
        for keyword in ["allOf", "anyOf", "oneOf"] {
            let bomb = chain(40, |next| json!({keyword: [next, next]}));
            assert!(in_time(move || refused(&bomb)).contains("times over; at most 2000 are allowed"));
        }
        let down = json!({"allOf": (0..5).map(|_| json!({"items": {"$ref": "#"}})).collect::<Vec<_>>()});
        assert!(in_time(move || refused(&down)).contains("times over; at most 2000 are allowed"));
        let again = (0..14)
            .fold(json!({"unevaluatedProperties": false}), |inner, _| json!({"allOf": [inner], "unevaluatedProperties": false}));
        assert!(in_time(move || refused(&again)).contains("times over; at most 2000 are allowed"));
    }

    #[test]
    fn the_heaviest_schema_that_is_allowed_answers() {
        let heavy = chain(8, |next| json!({"anyOf": [next, next]}));
        let deep = chain(60, |next| json!({"anyOf": [next]}));
        for allowed in [heavy, deep] {
            assert_eq!(in_time(move || failures(&allowed, &json!("a"))).len(), 1);
        }
        assert!(
            in_time(|| refused(&chain(65, |next| json!({"anyOf": [next]}))))
                .contains("more than 128 schemas refer to each other in a line")
        );
    }

    #[test]
    fn a_line_of_references_does_not_exhaust_the_stack() {
        assert!(in_time(|| refused(&chain(1700, |next| next))).contains("more than 128 schemas refer to each other in a line"));
    }

    #[test]
    fn a_slow_pattern_is_not_let_loose_on_a_large_input() {
        let slow = schema(&json!({"pattern": "^[01]*1[01]{1000}x"}));
        let Err(InputError::TooLaborious { bytes: 900_002, most }) = slow.validate(&json!("01".repeat(450_000))) else {
            panic!("it was let loose")
        };
        assert!(in_time(move || slow.validate(&json!("01".repeat(most / 40)))).is_err(), "but on a small one");
        let quick = schema(&json!({"pattern": "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"}));
        assert!(matches!(quick.validate(&json!("0".repeat(999_000))), Err(InputError::Mismatch(_))), "{}", quick.judgements);
    }

    #[test]
    fn of_a_large_input_one_failure_is_told() {
        let many: Vec<usize> = (0..150_000).collect();
        assert_eq!(failures(&json!({"items": {"type": "string"}}), &json!(many)), ["at /0: the value is not of type \"string\""]);
        let either = json!({"items": {"anyOf": [{"type": "string"}, {"type": "null"}]}});
        assert_eq!(failures(&either, &json!(many)), ["it is too large to say where"]);
    }

    #[test]
    fn an_input_is_checked_before_it_is_judged() {
        let deep = (0..11).fold(json!(1), |inner, _| json!([inner]));
        assert_eq!(schema(&json!(true)).validate(&deep), Err(InputError::TooDeep(11)));
    }
}
