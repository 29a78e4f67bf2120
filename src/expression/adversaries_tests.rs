//! What somebody would write who wants us to work for ever: each is refused, or comes to an end within its bounds.

use super::budget::LARGEST;
use super::error::ExpressionError;
use super::evaluation::Evaluation;
use super::program::Program;
use super::{Condition, Scope, Tree};
use serde_json::{Value, json};
use std::sync::Arc;

fn items(count: usize) -> Vec<Value> {
    let item = |id: usize| {
        let email = format!("u{id}@example.com");
        json!({"id": id, "name": format!("{id}{}", "n".repeat(120)), "price": id % 50, "tags": ["a", "b"], "seller": {"email": email}})
    };
    (0..count).map(item).collect()
}

fn scope() -> Scope {
    let input = json!({
        "items": items(300), "nums": (0..5000).collect::<Vec<_>>(), "text": "lorem ipsum ".repeat(20_000), "quotes": "\"\\\u{1}".repeat(1000),
        "long": "x".repeat(1_000_000), "ints": format!("[{}1]", "1,".repeat(5000)), "pattern": "((a{16}){16}){2}", "n": 3, "half": 0.5,
        "map": (0..300).map(|n| (format!("k{n}"), json!(n))).collect::<serde_json::Map<_, _>>(),
    });
    Scope::default().with("input", Arc::new(input)).with("two", Arc::new(json!([1, 2])))
}

/// What a source comes to, and the most that it was said to take: nothing may take more.
fn evaluated(source: &str, scope: &Scope) -> Result<Value, ExpressionError> {
    let program = Program::bare(source)?;
    let mut evaluation = Evaluation::new(&program.references, scope)?;
    let value = evaluation.json(&program)?;
    let taken = value.to_string().len() as u64;
    let bound = LARGEST - evaluation.left();
    assert!(taken <= bound, "{source}: {taken} bytes, at most {bound}");
    Ok(value)
}

/// Sources that go through more than there is time for, or make more than there is room for.
const REFUSED: &[&str] = &[
    "input.items.map(a, input.items.map(b, input.items.map(c, 1)))",
    "input.items.map(a, input.items.map(b, input.items.map(c, a.id + b.id + c.id)))",
    "input.items.all(a, input.items.all(b, input.items.all(c, a.id + b.id + c.id >= 0)))",
    "input.nums.map(a, input.nums.filter(b, b == a))",
    "input.nums.map(a, input.nums)",
    "input.nums.map(a, input)",
    "input.nums.map(a, input.text)",
    "input.nums.map(a, input.text + input.text)",
    "input.nums.map(a, [a, a, a, a]).map(a, [a, a, a, a]).map(a, [a, a, a, a]).map(a, [a, a, a, a]).map(a, [a, a, a, a])",
    "input.nums.exists(a, input.long.contains('y'))",
    "input.nums.exists(a, input.text.matches('(a|b)*c'))",
    "input.nums.exists(a, size(input.long) == 0)",
    "input.nums.exists(a, input.long == input.text + 'x' || input.long + 'x' == input.long)",
    "input.nums.exists(a, input.items == 1 || input.items + input.items == [])",
    "input.nums.exists(a, a + input == 1)",
    "input.nums.exists(a, {input: 1} == {})",
    "input.nums.exists(a, 7 == input.items)",
    "input.nums.exists(a, input.items in [7])",
    "input.nums.exists(a, [1] == [input.items])",
    "input.nums.exists(a, input.nums[input.half] == 1)",
    "input.nums.exists(a, input.?items.hasValue())",
    "input.nums.exists(a, input.items in input.items)",
    "input.nums.exists(a, -1 in input.nums)",
    "input.long.matches(input.pattern)",
    "input.text.split('').distinct()",
    "input.nums.map(a, input.nums.sort())",
    "input.long.replace('', input.text)",
    "input.text.replace('l', input.text)",
    "input.text.split('').join(input.text)",
    "input.text.split('').map(c, input.nums)",
    "[input.long, input.long, input.long, input.long, input.long, input.long, input.long, input.long, input.long]",
    "{'a': input.long + input.long + input.long + input.long + input.long + input.long + input.long + input.long + input.long}",
    "json.decode(input.long)",
    "json.encode(json.encode(json.encode(json.encode(input.long))))",
    "json.decode(input.ints).map(a, json.decode(input.ints).map(b, b))",
    "json.decode(input.ints).map(a, json.decode(input.ints))",
    "input.nums.map(a, json.decode(input.ints)[0])",
    "input.map.map(a, input.map.map(b, input.map))",
    "[input].map(x, [x, x, x, x, x, x, x, x]).map(x, [x, x, x, x, x, x, x, x])",
    "two.map(a, input).map(a, [a, a]).map(a, [a, a]).map(a, [a, a]).map(a, [a, a])",
    "input.nums.map(n, string(5e-324) + string(n)).map(s, s + s + s + s + s + s)",
];

/// Sources that look like it, and are let through.
const BOUNDED: &[&str] = &[
    "input.items.map(i, i.id)",
    "input.items.filter(i, i.price > 10).map(i, {'id': i.id, 'n': i.name})",
    "input.items.map(i, i.tags.map(t, t + string(i.id)))",
    "input.items.map(i, input.items[0].tags.map(t, t))",
    "input.items.filter(i, i.seller.email.matches('^u[0-9]+@example[.]com$')).map(i, i.seller.email.split('@')[0])",
    "input.items.slice(0, 20).map(a, input.items.slice(0, 20).filter(b, b.id == a.id).map(b, b.name))",
    "input.items.map(i, i.tags).flatten().distinct()",
    "input.items + input.items + [1] + [input.items]",
    "[input.items, input.nums, {'a': input.map}]",
    "two.map(a, two.map(b, two.map(c, [a, b, c])))",
    "two.map(a, [a, a]).map(a, [a, a]).map(a, [a, a]).map(a, [a, a]).map(a, [a, a]).map(a, [a, a])",
    "['x'].map(s, s + s).map(s, s + s).map(s, s + s).map(s, s + s).map(s, s + s).map(s, s + s).map(s, s + s)",
    "[{}].map(m, {'a': m, 'b': m}).map(m, {'a': m, 'b': m, 'c': m.a}).map(m, {'a': m.c, 'b': [m, m]})",
    "input.nums.map(n, n % 2 == 0 ? {'a': [n]} : {'a': 'text', 'b': n}).map(m, m.a)",
    "input.nums.map(n, n % 2 == 0 ? [n, n] : []).flatten()",
    "input.nums.map(n, {string(n): n, 'k': [n]})",
    "input.map.map(k, {k: input.map[k]})",
    "([] + input.map).filter(x, true)",
    "(input.nums + input.map).map(x, [x])",
    "[input.map] + [[1]] + input.map",
    "(input.n > 1 ? input.map : input.items[0]).map(k, k)",
    "[input.map, input.items][input.n - 2].map(x, x)",
    "[input.map, [1, 'x'], ['a']].map(x, x.map(y, y))",
    "input[['items', 'nums', 'map'][input.n - 1]].map(x, x)",
    "input.quotes",
    "json.encode(input.quotes)",
    "json.encode(json.encode(input.quotes))",
    "json.decode(json.encode(input.items.slice(0, 100))).map(i, i.tags)",
    "json.decode(input.ints).map(n, [n, n])",
    "json.decode('[{\"a\": [1, 2, {\"b\": \"c\"}]}]')[0].a[2].b",
    "base64.encode(bytes(input.quotes)) + string(base64.decode(base64.encode(bytes(input.quotes))))",
    "input.quotes.split('') + [input.quotes.replace('\\\\', '\"\"')]",
    "input.text.split(' ').slice(0, 100).join('\"')",
    "input.text.replace('lorem', 'a longer one')",
    "input.text.replace('', 'ab')",
    "input.text.upperAscii().lowerAscii().trim().reverse()",
    "input.items.map(i, i.name).sort().reverse()",
    "[string(5e-324), string(1e308), string(-1.5e-300), string(input.half), string(input.n), string(true), string(b'\\x01')]",
    "[input.?items.orValue([]), input.?nope.orValue('x'), optional.of(input.map).orValue({})]",
    "[input.?map.?k1.orValue(0), input.map[?'k2'].or(optional.of(1)).value(), [?input.?n], {?'a': input.?n}]",
    "input.items.exists(i, i.nope) || true",
    "[5.5, 1, 'a', null, true, 18446744073709551615u, -9223372036854775808]",
];

#[test]
fn what_could_cost_too_much_is_refused() {
    let scope = scope();
    for source in REFUSED {
        let error = evaluated(source, &scope).map(|value| value.to_string().len()).unwrap_err().to_string();
        let shown = source.chars().take(80).collect::<String>();
        let why = error.strip_prefix(&shown).unwrap_or_else(|| panic!("{source}: {error}"));
        assert!(
            why.contains(" could cost too much ") || why.contains(" could become larger than 8 MiB: take only"),
            "{source}: {error}"
        );
    }
}

#[test]
fn what_is_let_through_keeps_within_its_bounds() {
    let scope = scope();
    for source in BOUNDED {
        evaluated(source, &scope).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn lists_of_five_thousand_are_gone_through() {
    let scope = Scope::default().with("response", Arc::new(json!({"body": {"items": items(5000)}})));
    for source in [
        "response.body.items.map(i, i.id)",
        "response.body.items.filter(i, i.price > 10).map(i, {'id': i.id, 'n': i.name})",
        "response.body.items.map(i, i.tags.map(t, t))",
        "response.body.items.filter(i, i.seller.email.endsWith('7@example.com'))",
    ] {
        let value = evaluated(source, &scope).unwrap_or_else(|error| panic!("{error}"));
        assert!(value.as_array().is_some_and(|values| values.len() > 400), "{source}");
    }
}

#[test]
fn one_long_text_among_short_ones_is_counted_once() {
    let message = |n: usize| json!({"role": if n.is_multiple_of(2) { "user" } else { "assistant" }, "text": "m".repeat(if n == 7 { 500_000 } else { 100 })});
    let scope = Scope::default().with("input", Arc::new(json!((0..2000).map(message).collect::<Vec<_>>())));
    let value = evaluated("input.filter(m, m.role == 'assistant').map(m, m.role + ': ' + m.text)", &scope).unwrap();
    assert!(value.to_string().len() > 500_000);
}

#[test]
fn only_what_is_referred_to_counts() {
    let large = json!(vec![json!({}); 700_000]);
    let response = json!({"status": 200, "body": large});
    let scope = Scope::default().with("response", Arc::new(response)).with("other", Arc::new(large.clone()));
    let scope = scope.with_member("steps", "a", Arc::new(json!({"n": 1, "rows": large})));
    let holds = |source: &str| Condition::parse(source).unwrap().holds(&scope).map_err(|error| error.to_string());
    assert_eq!(holds("response.status == 200 && steps.a.n == 1 && has(response.body) && has(steps.a)"), Ok(true));
    assert!(holds("response == null").unwrap_err().contains("response is too large to go through: refer to those of its fields"));
    assert!(holds("steps.a == null").unwrap_err().contains("steps is too large"));
}

#[test]
fn a_tree_has_one_budget() {
    let scope = scope();
    let tree =
        |expressions: usize| Tree::parse(&json!(vec!["${input.items.map(i, i.id)[0]}"; expressions])).unwrap().evaluate(&scope);
    assert!(tree(10).is_ok());
    assert!(tree(500).unwrap_err().to_string().contains("could cost too much"));
}

#[test]
fn what_is_larger_than_it_may_be_is_not_parsed() {
    for (source, words) in [
        (format!("'{}'", "a".repeat(2050)), "longer than 2048"),
        (format!("{}1{}", "(".repeat(17), ")".repeat(17)), "16 deep"),
        (format!("false{}", " || true".repeat(65)), "more than 64 operators"),
        (format!("1{}", " + 1".repeat(41)), "operators more than 40 deep: join long texts"),
        (format!("{}1{}", "[1].map(a, ".repeat(3), " + 1".repeat(32)) + ")))", "more than 40 deep"),
        (format!("{}true", "!-".repeat(130)), "more than 64 operators"),
        (format!("a{}", ".a".repeat(41)), "more than 40 deep"),
        ("[1].map(a, [1].map(b, [1].map(c, [1].map(d, a))))".into(), "more than 3 loops within each other, the innermost over d"),
        ("[1].map(a, [1].map(b, [1].map(c, [1].all(d, true))))".into(), "more than 3 loops"),
    ] {
        let error = Condition::parse(&source).unwrap_err().to_string();
        assert!(error.contains(words), "{source}: {error}");
    }
    for source in [
        format!("{}1{}", "(".repeat(16), ")".repeat(16)),
        format!("1{}", " + 1".repeat(40)),
        format!("false{}", " || true".repeat(64)),
        "[1].map(a, [1].map(b, [1].map(c, [1])))".into(),
        "[1].map(a, a).map(a, a).map(a, a).map(a, a).map(a, a)".into(),
        "[[1].map(a, a)].map(b, b).filter(c, [c].all(d, [d].all(e, true)))".into(),
    ] {
        assert!(Condition::parse(&source).is_ok(), "{source}");
    }
}

/// A thread has 2 MiB unless it is made with more: the worst that is let through needs less, even unoptimized.
#[test]
fn the_worst_that_is_let_through_fits_a_small_stack() {
    let deep = (0..49).fold(json!(1), |inner, _| json!({"a": [inner]}));
    let nested = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
    let worst = [
        format!("{}'a'{}", "(".repeat(16), ")".repeat(16)),
        format!("'a'{}", "+'a'".repeat(40)),
        format!("{}true", "!-".repeat(20)),
        format!("{}'a'", "false?'b':".repeat(40)),
        format!("false{}", "||false".repeat(64)),
        format!("[{}1]", "1,".repeat(1000)),
        format!("input{}", ".a".repeat(40)),
        format!("input{}", ".?a".repeat(40)),
        format!("input{}", "[0]".repeat(40)),
        format!("input{}", ".a[0]".repeat(20)),
        format!("{}'a'{}", "dyn(".repeat(16), ")".repeat(16)),
        format!("{}input{}", "[1].map(a,[1].map(b,[1].map(c,", ")))"),
        format!("[1].map(a,[1].map(b,[1].map(c,'a'{})))", "+'a'".repeat(27)),
        format!("[1].map(a,[1].map(b,[1].map(c,{}a{})))", "[".repeat(10), "]".repeat(10)),
        format!("[1].map(a,[1].all(b,[1].all(c,true{})))", "&&true".repeat(50)),
        format!("[1]{}", ".map(a,a)".repeat(30)),
        format!("[1]{}", ".map(a,[a])".repeat(30)),
        format!("{}{}", "[1].filter(a,".repeat(3), "false?true:".repeat(25) + "true)))"),
        "json.encode(input)".to_owned(),
        "input == input && input + input == 1".to_owned(),
        format!("json.decode('{}')", nested(120)),
        format!("json.decode('{}').flatten().map(x, x)", nested(127)),
        format!("json.encode(json.decode('{}'))", nested(90)),
        "\"\\u{110000}\"".to_owned(),
        "'\\".to_owned(),
        "\0".to_owned(),
        "9223372036854775808".to_owned(),
        "-9223372036854775808".to_owned(),
        "18446744073709551616u".to_owned(),
        "1e999".to_owned(),
        "0x".to_owned(),
        "'💥' + '\\U0010FFFF'".to_owned(),
        "b'\\xff' + b'\\377'".to_owned(),
        "'''a''' + r'\\d' + \"\"\"b\"\"\"".to_owned(),
    ];
    let evaluated = std::thread::Builder::new().stack_size(2048 * 1024).spawn(move || {
        let scope = Scope::default().with("input", Arc::new(deep));
        let reached = worst.iter().filter(|source| {
            // Whatever comes of it, it comes back.
            let parsed = Tree::parse(&json!(format!("${{{source}}}")));
            parsed.map(|tree| tree.evaluate(&scope)).is_ok()
        });
        reached.count()
    });
    assert!(evaluated.unwrap().join().unwrap() >= 20);
}

/// Each is an input that one of the library's functions could stumble over.
#[test]
fn no_argument_makes_a_function_panic() {
    let odd = [
        "-1",
        "0",
        "1",
        "9223372036854775807",
        "-9223372036854775808",
        "''",
        "'é'",
        "'aé💥'",
        "[]",
        "[1, 'a', null, [1]]",
        "{}",
        "null",
        "1.5",
        "18446744073709551615u",
        "b'\\xff'",
        "true",
        "double('NaN')",
        "[double('NaN'), 1.0]",
        "optional.none()",
        "int",
    ];
    let scope = Scope::default();
    let mut reached = 0;
    for name in super::language::names().split(", ") {
        for first in odd {
            let mut sources = vec![format!("{name}({first})"), format!("{first}.{name}()")];
            for second in odd {
                sources.push(format!("{first}.{name}({second})"));
                sources.push(format!("{first}.{name}({second}, -1)"));
                sources.push(format!("{first}.{name}('é', {second})"));
                sources.push(format!("{first}.{name}('', 'é', {second})"));
            }
            for source in sources {
                reached += usize::from(evaluated(&source, &scope).is_ok());
            }
        }
    }
    for operator in ["+", "-", "*", "/", "%", "==", "!=", "<", "<=", ">", ">=", "in", "&&", "||"] {
        for (left, right) in odd.iter().flat_map(|left| odd.map(|right| (left, right))) {
            reached += usize::from(evaluated(&format!("{left} {operator} {right}"), &scope).is_ok());
        }
    }
    for (left, right) in odd.iter().flat_map(|left| odd.map(|right| (left, right))) {
        for source in [
            format!("{left}[{right}]"),
            format!("{left}[?{right}].orValue(1)"),
            format!("{{{left}: {right}}}"),
            format!("-({left})"),
            format!("!{left}"),
            format!("{left}.map(x, x == {right})"),
        ] {
            reached += usize::from(evaluated(&source, &scope).is_ok());
        }
    }
    assert!(reached > 1000, "{reached}");
}

/// The parser is the library's: what is no expression at all must not make it panic, either.
#[test]
fn no_source_makes_the_parser_panic() {
    let sources = REFUSED.iter().chain(BOUNDED);
    for source in sources {
        let characters = source.chars().collect::<Vec<_>>();
        for at in (0..characters.len()).step_by(3) {
            let cut: String = characters[..at].iter().collect();
            let rest: String = characters[at..].iter().collect();
            for broken in [format!("{cut}'{rest}"), format!("{cut}é{{{rest}"), cut, rest] {
                let _ = Condition::parse(&broken);
            }
        }
    }
}

#[test]
fn what_is_parsed_once_is_used_by_many() {
    fn shared<T: Clone + std::fmt::Debug + Send + Sync>() {}
    shared::<Tree>();
    shared::<Condition>();
    shared::<super::Address>();
    shared::<super::References>();
    fn sent<T: Clone + Default + Send + Sync>() {}
    sent::<Scope>();
}
