//! What is fuzzed (`make fuzz`): each takes bytes from outside to where they are understood, and checks what must hold whatever they are,
//! beside that nothing panics. Compiled for tests and with `--cfg fuzzing` alone.

use crate::account::Plan;
use crate::api::{OAuthAccount, OAuthAccountSpec, WorkflowSpec};
use crate::expression::{Address, Condition, Field, Scope, Template, Tree, Variables};
use crate::injection::{Sidecar, manifests::inject_manifests};
use crate::oauth::{Dialect, Reply, Sensitive, judge, preset, preset_names, read_metadata, successor};
use crate::proxy::{head, routes::Routes};
use crate::workflow::Definition;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::{Arc, LazyLock};
use url::Url;

/// What nobody may repeat.
const SECRET: &str = "s3cret-of-the-client";
/// Bytes of a sentence that people are told: an Event's note has 1 KiB.
const LONGEST_SENTENCE: usize = 4096;

static DIALECTS: LazyLock<Vec<Dialect>> = LazyLock::new(|| {
    let presets = preset_names().filter_map(preset).map(|preset| Dialect::of(&preset.provider));
    std::iter::once(Dialect::default()).chain(presets).collect()
});

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap_or_default()
}

fn answered(status: u16, dialect: u8, body: Vec<u8>) {
    let dialect = &DIALECTS[usize::from(dialect) % DIALECTS.len()];
    let reply = Reply { status, retry_after: Some("30".into()), dpop_nonce: None, body };
    let secrets = [Sensitive::new(SECRET)];
    match judge(&reply, dialect, &secrets, now(), now()) {
        Ok(token) => {
            assert!((200..300).contains(&status), "a token in an answer {status}");
            assert!(!token.access_token.expose().is_empty());
            let kept = successor(&reply, dialect).map(|token| token.expose().to_owned());
            let told = token.refresh_token.map(|token| token.expose().to_owned());
            assert!(told.is_none() || told == kept, "a refresh token that would be lost with a crash");
        }
        Err(fault) => {
            assert!(!fault.message.contains(SECRET), "{}", fault.message);
            assert!(fault.message.len() < LONGEST_SENTENCE && !fault.message.contains(char::is_control), "{:?}", fault.message);
        }
    }
}

/// An answer of a token endpoint that grants: two bytes choose the status and the provider, the rest is its body.
pub fn token_response(data: &[u8]) {
    let [status, dialect, body @ ..] = data else { return };
    answered(if status % 4 == 0 { 201 } else { 200 }, *dialect, body.to_vec());
}

/// An answer that refuses.
pub fn error_body(data: &[u8]) {
    let [status, dialect, body @ ..] = data else { return };
    let codes = [200, 302, 400, 401, 403, 404, 409, 429, 500, 503];
    answered(codes[usize::from(*status) % codes.len()], *dialect, body.to_vec());
    // What a provider repeats of us.
    let words = String::from_utf8_lossy(body);
    let echo = json!({"error": "invalid_request", "error_description": format!("{words}{SECRET}{words}")}).to_string();
    answered(400, *dialect, echo.into_bytes());
}

/// Metadata of an issuer.
pub fn discovery(data: &[u8]) {
    match read_metadata("https://issuer.example.com", data) {
        Ok(endpoints) => {
            for (_, url) in endpoints.iter() {
                assert_eq!(url.scheme(), "https", "{url}");
            }
        }
        Err(fault) => assert!(fault.message.len() < LONGEST_SENTENCE, "{:?}", fault.message),
    }
}

/// Tokens that are JWTs, or nearly: when they expire, and whose they are.
pub fn jwt(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let body = json!({"access_token": text, "token_type": "Bearer", "id_token": text, "refresh_token": text});
    answered(200, 0, body.to_string().into_bytes());
    // The parts in the clear, so that more than base64 is found out.
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let coded: Vec<_> = text.split('\n').map(|part| URL_SAFE_NO_PAD.encode(part)).collect();
    let body = json!({"access_token": coded.join("."), "token_type": "Bearer", "id_token": coded.join(".")});
    answered(200, 0, body.to_string().into_bytes());
}

/// Templates of keys of token Secrets.
pub fn template(data: &[u8]) {
    let Ok(source) = std::str::from_utf8(data) else { return };
    let fields = vec![("accessToken", Field::Text("a token".into())), ("type", Field::Text("Bearer".into()))];
    let variables = Variables::default().with("token", fields);
    if let Ok(template) = Template::parse(source) {
        // Evaluated twice, it says the same.
        let said = |rendered: Result<String, _>| rendered.map_err(|error: crate::expression::ExpressionError| error.to_string());
        assert_eq!(said(template.render(&variables)), said(template.render(&variables)), "{source}");
    }
}

/// Expressions of workflows, in all places where they may stand.
pub fn expression(data: &[u8]) {
    let Ok(source) = std::str::from_utf8(data) else { return };
    let scope = |text: &str, number: f64| {
        let input = json!({"text": text, "number": number, "list": [1, 2, text], "object": {"a": {"b": null}}, "truth": true});
        let step = json!({"output": [1.5, text]});
        Scope::default().with("input", Arc::new(input)).with_member("steps", "one", Arc::new(step))
    };
    let usual = scope("a", 7.0);
    if let Ok(condition) = Condition::parse(source) {
        let _ = condition.holds(&usual);
    }
    if let Ok(tree) = Tree::parse(&Value::String(source.to_owned())) {
        let _ = tree.evaluate(&usual);
    }
    if let Ok(address) = Address::parse(source)
        && let (Ok(one), Ok(another)) = (address.render(&usual), address.render(&scope("@evil.example:1/..\\?b=c&d;e#f ", 1e21)))
    {
        let shape = |url: &str| {
            let url = Url::parse(url).unwrap_or_else(|error| panic!("{source} becomes {url}: {error}"));
            let segments = url.path_segments().map_or(0, Iterator::count);
            let parameters = url.query().map(|query| query.split(['&', ';']).count());
            (url.origin().ascii_serialization(), url.username().to_owned(), segments, parameters, url.fragment().is_some())
        };
        assert_eq!(shape(&one), shape(&another), "{source}: a value changes where {one} leads: {another}");
    }
}

/// Objects that users write: manifests for the sidecar, accounts and workflows.
pub fn object_yaml(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    static SIDECAR: LazyLock<Sidecar> = LazyLock::new(|| Sidecar {
        image: "proxy".into(),
        image_pull_policy: "Always".into(),
        operator_namespace: "system".into(),
    });
    if let Ok(injected) = inject_manifests(text, &SIDECAR) {
        assert!(text.contains("oauth-operator.dev/inject") || injected == text, "what does not ask is changed");
        let again = inject_manifests(&injected, &SIDECAR);
        assert_eq!(again.as_deref().ok(), Some(injected.as_str()), "a second time changes something");
    }
    let options = serde_saphyr::options! { with_snippet: false };
    if let Ok(spec) = serde_saphyr::from_str_with_options::<OAuthAccountSpec>(text, options.clone()) {
        let mut account = OAuthAccount::new("a", spec);
        account.metadata.namespace = Some("b".into());
        if let Err(refusal) = Plan::of(&account) {
            assert!(!refusal.sentence().is_empty());
        }
    }
    if let Ok(spec) = serde_saphyr::from_str_with_options::<WorkflowSpec>(text, options) {
        let _ = Definition::of(&spec);
    }
}

/// The sidecar's routes file.
pub fn routes(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Err(error) = Routes::read(text) {
        assert!(!error.is_empty());
    }
}

/// What an upstream says is understood the same way however it comes, and ends where it says.
pub fn http_answer(data: &[u8]) {
    use crate::proxy::framing::Piece;
    use crate::proxy::message::{Head, Malformed, read_head};
    use bytes::BytesMut;
    /// Status, body, trailers, and what is left behind them.
    type Said = (u16, Vec<u8>, usize, Vec<u8>);
    let all = |size: usize| -> Result<Option<Said>, Malformed> {
        let (mut bytes, mut pieces) = (BytesMut::new(), data.chunks(size));
        let Head { response, mut framing, .. } = loop {
            if let Some(head) = read_head(&mut bytes, &http::Method::GET)? {
                break head;
            }
            let Some(piece) = pieces.next() else { return Ok(None) };
            bytes.extend_from_slice(piece);
        };
        let (mut body, mut trailers) = (vec![], 0);
        loop {
            match framing.next(&mut bytes)? {
                Piece::Data(piece) => {
                    assert!(!piece.is_empty(), "nothing is no piece");
                    body.extend_from_slice(&piece);
                }
                Piece::Trailers(fields) => trailers = fields.len(),
                Piece::End => break,
                Piece::Missing => {
                    let Some(piece) = pieces.next() else { break };
                    bytes.extend_from_slice(piece);
                }
            }
        }
        let left = pieces.fold(bytes.to_vec(), |left, piece| [&left, piece].concat());
        Ok(Some((response.status().as_u16(), body, trailers, left)))
    };
    let whole = all(data.len().max(1));
    for size in [1, 7] {
        // Which of two faults is found first depends on what has come; that there is one does not.
        let pieces = all(size);
        assert_eq!(pieces.as_ref().ok(), whole.as_ref().ok(), "in pieces of {size}");
    }
}

/// Heads of requests: lines as they come, a method and a path first.
pub fn http_head(data: &[u8]) {
    use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version};
    let mut lines = data.split(|byte| *byte == b'\n');
    let mut first = lines.next().unwrap_or_default().splitn(2, |byte| *byte == b' ');
    let Ok(method) = Method::from_bytes(first.next().unwrap_or_default()) else { return };
    let Ok(uri) = Uri::try_from(first.next().unwrap_or_default()) else { return };
    let mut headers = HeaderMap::new();
    for line in lines.take(64) {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let name = HeaderName::from_bytes(parts.next().unwrap_or_default());
        let value = HeaderValue::from_bytes(parts.next().unwrap_or_default().trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    let framing =
        |headers: &HeaderMap| ["content-length", "host"].map(|name| headers.get_all(name).iter().cloned().collect::<Vec<_>>());
    let _ = head::judge(&method, &uri, Version::HTTP_11, &headers);
    let _ = head::judge_answer(StatusCode::OK, &headers, true);
    let _ = head::wanted_upgrade(Version::HTTP_11, &headers);
    let _ = head::target(&uri, Some("/api"));
    let before = framing(&headers);
    head::strip_hop_by_hop(&mut headers);
    assert_eq!(framing(&headers), before, "where a message ends is nobody's to take away");
    head::strip_credentials(&mut headers, &[]);
    head::join_cookies(&mut headers);
    for name in ["authorization", "proxy-authorization", "x-api-key", "connection", "upgrade", "transfer-encoding", "keep-alive"]
    {
        assert!(!headers.contains_key(name), "{name} is passed on");
    }
    assert!(headers.get_all("cookie").iter().count() <= 1);
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    type Target = fn(&[u8]);

    /// All targets: what a fuzzer begins with goes through each on every run of the tests, whole, cut off, and with a byte changed.
    #[test]
    fn what_a_fuzzer_begins_with_is_understood_or_refused() {
        let targets: [(&str, Target); 10] = [
            ("discovery", super::discovery),
            ("error_body", super::error_body),
            ("expression", super::expression),
            ("http_answer", super::http_answer),
            ("http_head", super::http_head),
            ("jwt", super::jwt),
            ("object_yaml", super::object_yaml),
            ("routes", super::routes),
            ("template", super::template),
            ("token_response", super::token_response),
        ];
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
        for (name, target) in targets {
            assert!(root.join("targets").join(name).with_extension("rs").exists(), "{name}");
            let inputs: Vec<_> = std::fs::read_dir(root.join("corpus").join(name)).unwrap().flatten().collect();
            assert!(inputs.len() > 2, "{name} begins with next to nothing");
            for input in inputs {
                let bytes = std::fs::read(input.path()).unwrap();
                target(&bytes);
                let step = bytes.len() / 16 + 1;
                for at in (0..bytes.len()).step_by(step) {
                    target(&bytes[..at]);
                    let mut changed = bytes.clone();
                    changed[at] ^= 0x15;
                    target(&changed);
                }
            }
        }
        assert_eq!(std::fs::read_dir(root.join("targets")).unwrap().count(), targets.len());
    }
}
