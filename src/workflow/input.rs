//! What a run may be given.

use serde_json::Value;
use sha2::{Digest, Sha256};

/// Bytes of an input in canonical JSON: etcd takes objects of 1.5 MB, and the run's record needs room beside it.
pub const LARGEST: usize = 1_000_000;
/// Bytes of an input that stands in the run itself.
pub const LARGEST_INLINE: usize = 256 * 1024;
/// Bytes of all that a run's spec holds: its record needs room beside it.
pub const LARGEST_SPEC: usize = 1_000_000;
/// Levels of an input: a scalar has none, `{}` and `[]` one.
pub const DEEPEST: usize = 10;

/// Why an input or its schema is refused; sentences that hold no value of the input, which may be secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// Of so many bytes.
    #[error("the input has {0} bytes of JSON; at most {LARGEST} are allowed")]
    TooLarge(usize),
    /// Of so many levels.
    #[error("the input is nested {0} levels deep; at most {DEEPEST} are allowed")]
    TooDeep(usize),
    /// The schema cannot be used.
    #[error("the input schema cannot be used: {place}: {reason}")]
    Schema {
        /// A JSON pointer into the schema, after "at".
        place: String,
        /// What is wrong there.
        reason: String,
    },
    /// Up to three failures, each with its place in the input.
    #[error("the input does not fit its schema: {}", .0.join("; "))]
    Mismatch(Vec<String>),
    /// The schema judges each value so often that an input of this size takes too long.
    #[error("the input has {bytes} bytes of JSON; its schema is so laborious that at most {most} are allowed")]
    TooLaborious {
        /// What it has.
        bytes: usize,
        /// What it may have.
        most: usize,
    },
}

/// Checks size and nesting.
///
/// # Errors
/// Where one of them is more than is allowed.
pub fn check(input: &Value) -> Result<(), InputError> {
    let levels = depth(input);
    if levels > DEEPEST {
        return Err(InputError::TooDeep(levels));
    }
    let bytes = canonical(input).len();
    if bytes > LARGEST { Err(InputError::TooLarge(bytes)) } else { Ok(()) }
}

/// The SHA-256 of canonical JSON, in hexadecimal: the same for the same value, however its keys were ordered.
#[must_use]
pub fn digest(value: &Value) -> String {
    Sha256::digest(canonical(value)).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Compact, and with sorted keys: `serde_json` keeps them so as long as nobody asks for its feature `preserve_order`.
pub(super) fn canonical(value: &Value) -> String {
    value.to_string()
}

/// Levels of nesting, found without recursion: it is asked before anything recurses.
pub(super) fn depth(value: &Value) -> usize {
    let (mut deepest, mut open) = (0, vec![(value, 0)]);
    while let Some((value, above)) = open.pop() {
        let level = above + usize::from(value.is_array() || value.is_object());
        deepest = deepest.max(level);
        match value {
            Value::Array(items) => open.extend(items.iter().map(|item| (item, level))),
            Value::Object(fields) => open.extend(fields.values().map(|field| (field, level))),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn nested(levels: usize) -> Value {
        (0..levels).fold(json!(1), |inner, level| if level % 2 == 0 { json!([inner]) } else { json!({"a": inner}) })
    }

    #[test]
    fn a_scalar_has_no_level_and_an_empty_object_one() {
        for (value, levels) in
            [(json!("a"), 0), (json!({}), 1), (json!([]), 1), (json!({"a": 1}), 1), (json!([1, {"a": []}, 2]), 3), (nested(7), 7)]
        {
            assert_eq!(depth(&value), levels, "{value}");
        }
    }

    #[test]
    fn ten_levels_are_allowed() {
        assert_eq!(check(&nested(10)), Ok(()));
        assert_eq!(check(&nested(11)).unwrap_err().to_string(), "the input is nested 11 levels deep; at most 10 are allowed");
    }

    #[test]
    fn a_megabyte_is_allowed_as_it_is_written_compactly() {
        assert_eq!(check(&json!("a".repeat(LARGEST - 2))), Ok(()), "with its quotes");
        assert_eq!(
            check(&json!("a".repeat(LARGEST - 1))).unwrap_err().to_string(),
            "the input has 1000001 bytes of JSON; at most 1000000 are allowed"
        );
        assert_eq!(check(&json!("ä".repeat(LARGEST / 2))), Err(InputError::TooLarge(LARGEST + 2)), "bytes, not letters");
    }

    #[test]
    fn the_digest_does_not_depend_on_the_order_of_keys() {
        let (one, other) = (r#"{"b": [1, 2.5], "a": {"d": null, "c": "ä"}}"#, r#"{"a":{"c":"\u00e4","d":null},"b":[1,2.5]}"#);
        let [one, other]: [Value; 2] = [one, other].map(|text| serde_json::from_str(text).unwrap());
        assert_eq!(canonical(&one), r#"{"a":{"c":"ä","d":null},"b":[1,2.5]}"#);
        assert_eq!(digest(&one), digest(&other));
        assert_ne!(digest(&json!([1, 2])), digest(&json!([2, 1])));
        assert_eq!(digest(&json!({})), "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a", "of `{{}}`");
    }
}
