//! Between JSON and the language's values. Its own conversion makes every integer unsigned, and copies every text.

use super::references::Use;
use cel::common::types::{CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelUInt};
use cel::common::value::Val;
use serde_json::{Number, Value};
use std::borrow::Cow;
use std::collections::HashMap;

/// Lists and objects within each other that a result may have: a reader of JSON gives up at 128, and a result becomes part of
/// something larger.
const DEEPEST: usize = 100;

/// Why a value is no JSON.
#[derive(Debug, PartialEq)]
pub(super) enum NoJson {
    /// It is of this type.
    Type(String),
    /// NaN, or infinite.
    Number,
    /// A key that is no text.
    Key,
    TooDeep,
}

/// What is used of a value, its texts borrowed from it: a loop copies each element that it goes through.
pub(super) fn borrowed<'v>(value: &'v Value, used: &Use) -> Box<dyn Val + 'v> {
    match value {
        Value::Object(members) if !used.whole => object(used.fields.iter().filter_map(|(field, used)| {
            let (field, value) = members.get_key_value(field)?;
            Some((CelString::from(field.as_str()), borrowed(value, used)))
        })),
        // Only whether it is there matters.
        _ if !used.whole && used.fields.is_empty() => Box::new(CelNull),
        whole => built(whole, &|text| Cow::Borrowed(text.as_str())),
    }
}

/// A value that nothing else holds.
pub(super) fn owned<'v>(value: Value) -> Box<dyn Val + 'v> {
    built(&value, &|text| Cow::Owned(text.clone()))
}

fn built<'j, 'v>(value: &'j Value, text: &impl Fn(&'j String) -> Cow<'v, str>) -> Box<dyn Val + 'v> {
    match value {
        Value::Null => Box::new(CelNull),
        Value::Bool(truth) => Box::new(CelBool::from(*truth)),
        Value::Number(number) => built_number(number),
        Value::String(string) => Box::new(CelString::from(text(string))),
        Value::Array(elements) => {
            Box::new(CelList::from(elements.iter().map(|element| built(element, text)).collect::<Vec<_>>()))
        }
        Value::Object(members) => object(members.iter().map(|(key, value)| (CelString::from(text(key)), built(value, text)))),
    }
}

fn object<'v>(members: impl Iterator<Item = (CelString<'v>, Box<dyn Val + 'v>)>) -> Box<dyn Val + 'v> {
    let members = members.map(|(key, value)| (CelMapKey::String(key), value));
    Box::new(CelMap::from(members.collect::<HashMap<_, _>>()))
}

fn built_number<'v>(number: &Number) -> Box<dyn Val + 'v> {
    if let Some(int) = number.as_i64() {
        Box::new(CelInt::from(int))
    } else if let Some(uint) = number.as_u64() {
        Box::new(CelUInt::from(uint))
    } else {
        Box::new(CelDouble::from(number.as_f64().unwrap_or(f64::NAN)))
    }
}

/// A value as JSON, the keys of its objects in order.
pub(super) fn written(value: &dyn Val) -> Result<Value, NoJson> {
    written_at(value, 0)
}

fn written_at(value: &dyn Val, depth: usize) -> Result<Value, NoJson> {
    if depth > DEEPEST {
        return Err(NoJson::TooDeep);
    }
    if let Some(text) = value.downcast_ref::<CelString>() {
        Ok(Value::String(text.inner().to_owned()))
    } else if let Some(int) = value.downcast_ref::<CelInt>() {
        Ok(Value::from(*int.inner()))
    } else if let Some(list) = value.downcast_ref::<CelList>() {
        list.inner().iter().map(|element| written_at(element.as_ref(), depth + 1)).collect()
    } else if let Some(map) = value.downcast_ref::<CelMap>() {
        let mut members = map.inner().iter().collect::<Vec<_>>();
        members.sort_by(|left, right| left.0.cmp(right.0));
        let members = members.into_iter().map(|(key, value)| match key {
            CelMapKey::String(key) => Ok((key.inner().to_owned(), written_at(value.as_ref(), depth + 1)?)),
            _ => Err(NoJson::Key),
        });
        members.collect::<Result<_, _>>().map(Value::Object)
    } else if let Some(truth) = value.downcast_ref::<CelBool>() {
        Ok(Value::Bool(*truth.inner()))
    } else if let Some(double) = value.downcast_ref::<CelDouble>() {
        Number::from_f64(*double.inner()).map(Value::Number).ok_or(NoJson::Number)
    } else if let Some(uint) = value.downcast_ref::<CelUInt>() {
        Ok(Value::from(*uint.inner()))
    } else if value.downcast_ref::<CelNull>().is_some() {
        Ok(Value::Null)
    } else {
        Err(NoJson::Type(value.get_type().name().to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_goes_there_and_back() {
        for value in [
            json!(null),
            json!(true),
            json!(-1),
            json!(i64::MAX),
            json!(u64::MAX),
            json!(1.5),
            json!(2.0),
            json!("téxt \" \u{1}"),
            json!([]),
            json!([[], {}, [1, [2.5, "three"]]]),
            json!({"a": {"b": [null, {"c": 18_446_744_073_709_551_615_u64}]}, "": 1}),
        ] {
            assert_eq!(written(owned(value.clone()).as_ref()), Ok(value.clone()));
            let whole = Use { whole: true, ..Use::default() };
            assert_eq!(written(borrowed(&value, &whole).as_ref()), Ok(value.clone()));
        }
    }

    #[test]
    fn integers_are_of_the_smallest_kind_that_holds_them() {
        for (value, kind) in
            [(json!(1), "int"), (json!(i64::MIN), "int"), (json!(i64::MAX as u64 + 1), "uint"), (json!(1.0), "double")]
        {
            assert_eq!(owned(value).get_type().name(), kind);
        }
    }

    #[test]
    fn only_what_is_used_is_converted() {
        let value = json!({"a": {"b": 1, "c": 2}, "d": {"e": 3}, "f": 4});
        let whole = Use { whole: true, ..Use::default() };
        let one = |field: &str, used: Use| Use { whole: false, fields: [(field.to_owned(), used)].into() };
        let mut used = one("a", one("b", whole));
        used.fields.insert("d".into(), Use::default());
        used.fields.insert("missing".into(), Use::default());
        assert_eq!(written(borrowed(&value, &used).as_ref()), Ok(json!({"a": {"b": 1}, "d": {}})));
    }

    #[test]
    fn what_is_too_deep_is_no_json() {
        let deep = |levels: usize| (0..levels).fold(json!(1), |inner, _| json!([inner]));
        assert!(written(owned(deep(DEEPEST)).as_ref()).is_ok());
        assert_eq!(written(owned(deep(DEEPEST + 1)).as_ref()), Err(NoJson::TooDeep));
    }
}
