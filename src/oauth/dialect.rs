//! How a provider speaks, where it differs from RFC 6749: quirks are data.

use crate::api::{
    AuthMethod, BasicEncoding, BodyFormat, ErrorOverrides, ExpiryOverrides, FieldCase, ParameterOverrides, ProviderOverrides,
    ResponseOverrides,
};
use serde_json::Value;

/// How requests to a provider are written and its replies read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// Client authentication where the account names none.
    pub method: Option<AuthMethod>,
    /// Encoding of id and secret in HTTP Basic.
    pub basic_encoding: BasicEncoding,
    /// Audience of assertions; none: the token endpoint.
    pub assertion_audience: Option<String>,
    /// Format of a request's body.
    pub body: BodyFormat,
    /// Case of field names in request and reply.
    pub field_case: FieldCase,
    /// Header `Accept`.
    pub accept: String,
    /// Extra parameters.
    pub parameters: ParameterOverrides,
    /// What separates scopes in requests.
    pub scope_delimiter: String,
    /// Where the reply's fields stand.
    pub response: ResponseOverrides,
    /// When a token expires.
    pub expiry: ExpiryOverrides,
    /// How errors look.
    pub errors: ErrorOverrides,
}

/// Error codes of RFC 6749 §5.2, RFC 8707 §2, RFC 8628 §3.5 and RFC 9449 §5 and §8.
const KNOWN: [&str; 15] = [
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
    "access_denied",
    "server_error",
    "temporarily_unavailable",
    "invalid_target",
    "authorization_pending",
    "slow_down",
    "expired_token",
    "invalid_dpop_proof",
    "use_dpop_nonce",
];

impl Default for Dialect {
    /// RFC 6749, to the letter.
    fn default() -> Self {
        Self::of(&ProviderOverrides::default())
    }
}

impl Dialect {
    /// What the knobs say, and RFC 6749 where they say nothing.
    pub fn of(knobs: &ProviderOverrides) -> Self {
        let client = knobs.client_auth.clone().unwrap_or_default();
        Self {
            method: client.method,
            basic_encoding: client.basic_encoding.unwrap_or(BasicEncoding::Form),
            assertion_audience: client.assertion_audience,
            body: knobs.body.unwrap_or(BodyFormat::Form),
            field_case: knobs.field_case.unwrap_or(FieldCase::Snake),
            accept: knobs.accept.clone().unwrap_or_else(|| "application/json".into()),
            parameters: knobs.parameters.clone().unwrap_or_default(),
            scope_delimiter: knobs.scope_delimiter.clone().unwrap_or_else(|| " ".into()),
            response: knobs.response.clone().unwrap_or_default(),
            expiry: knobs.expiry.clone().unwrap_or_default(),
            errors: knobs.errors.clone().unwrap_or_default(),
        }
    }

    /// A field's name as the provider spells it.
    pub fn name(&self, field: &str) -> String {
        match self.field_case {
            FieldCase::Snake => field.to_owned(),
            FieldCase::Camel => camel(field),
        }
    }

    /// The object of a reply that holds its fields.
    pub fn root<'a>(&self, body: &'a Value) -> &'a Value {
        self.response.root.as_deref().and_then(|path| at(body, path)).filter(|root| root.is_object()).unwrap_or(body)
    }

    /// A field of a reply, at the path that the provider puts it or under its usual name.
    pub fn field<'a>(&self, root: &'a Value, path: Option<&String>, usual: &str) -> Option<&'a Value> {
        let found = match path {
            Some(path) => at(root, path),
            None => root.get(self.name(usual)),
        };
        found.filter(|value| !value.is_null())
    }

    /// The code of RFC 6749 or its family that one of the provider's stands for.
    pub fn meaning<'a>(&'a self, code: &'a str) -> &'a str {
        self.errors.codes.get(code).map_or(code, String::as_str)
    }

    /// The code of the error that a reply tells of, in the provider's own word; none where it tells of none.
    pub fn error_code(&self, body: &Value, status: u16) -> Option<String> {
        let failed = self.errors.ok_field.as_ref().is_some_and(|path| at(body, path).and_then(Value::as_bool) == Some(false));
        let usual = ["error".to_owned()];
        let paths = if self.errors.code_paths.is_empty() { &usual[..] } else { &self.errors.code_paths[..] };
        let codes: Vec<String> = paths.iter().filter_map(|path| at(body, path)).filter_map(code).collect();
        let ErrorOverrides { codes: ours, terminal, transient, .. } = &self.errors;
        // Several fields may say something; what is known of the provider goes first, then the words of the RFCs.
        let listed = |code: &&String| terminal.contains(code) || transient.contains(code) || ours.contains_key(*code);
        let best = codes.iter().find(listed).or_else(|| codes.iter().find(|code| KNOWN.contains(&code.as_str())));
        let code = best.or(codes.first()).cloned();
        let by_status = || self.errors.http_overrides.get(&status.to_string()).cloned();
        code.or_else(by_status).or_else(|| failed.then(|| "unknown_error".to_owned()))
    }
}

/// A value by its dotted path.
pub fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(value, |value, name| match value {
        Value::Array(items) => items.get(name.parse::<usize>().ok()?),
        other => other.get(name),
    })
}

/// An error code as text; zero, `false` and nothing are none.
fn code(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) if number.as_f64() != Some(0.0) => Some(number.to_string()),
        _ => None,
    }
}

fn camel(snake: &str) -> String {
    let mut words = snake.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |mut name, word| {
        let mut letters = word.chars();
        name.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        name.push_str(letters.as_str());
        name
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn dialect(knobs: Value) -> Dialect {
        Dialect::of(&serde_json::from_value(knobs).unwrap())
    }

    #[test]
    fn names_follow_the_case() {
        assert_eq!(Dialect::default().name("code_verifier"), "code_verifier");
        assert_eq!(dialect(json!({"case": "Camel"})).name("client_id_issued_at"), "clientIdIssuedAt");
    }

    #[test]
    fn an_error_is_found_wherever_the_provider_puts_it() {
        let coze = dialect(json!({"errors": {"codePaths": ["error_code", "error", "code"], "okField": "ok"}}));
        for (body, code) in [
            (json!({"error_code": "slow_down"}), Some("slow_down")),
            (json!({"code": 700_012_006, "msg": "no"}), Some("700012006")),
            (json!({"code": 0, "error": ""}), None),
            (json!({"ok": false}), Some("unknown_error")),
            (json!({"ok": false, "error": "token_revoked"}), Some("token_revoked")),
            (json!({"ok": true}), None),
        ] {
            assert_eq!(coze.error_code(&body, 200).as_deref(), code, "{body}");
        }
        let zoom = dialect(json!({"errors": {"codePaths": ["reason", "error"], "codes": {"BAD_CLIENT_ID": "invalid_client"}}}));
        let told = |body: Value| zoom.error_code(&body, 400);
        assert_eq!(told(json!({"reason": "Invalid Token!", "error": "invalid_grant"})).as_deref(), Some("invalid_grant"));
        assert_eq!(told(json!({"reason": "Nonsense", "error": "BAD_CLIENT_ID"})).as_deref(), Some("BAD_CLIENT_ID"));
        assert_eq!((zoom.meaning("BAD_CLIENT_ID"), zoom.meaning("other")), ("invalid_client", "other"));
        assert_eq!(told(json!({"reason": "Nonsense"})).as_deref(), Some("Nonsense"));
        let atlassian = dialect(json!({"errors": {"httpOverrides": {"403": "invalid_grant"}}}));
        assert_eq!(atlassian.error_code(&json!({}), 403).as_deref(), Some("invalid_grant"));
        assert_eq!(atlassian.error_code(&json!({"error": "other"}), 403).as_deref(), Some("other"));
    }

    #[test]
    fn a_root_that_is_not_there_is_the_reply_itself() {
        let nested = dialect(json!({"response": {"root": "data", "accessToken": "token.0"}}));
        let body = json!({"data": {"token": ["a"]}, "access_token": "b"});
        assert_eq!(nested.field(nested.root(&body), nested.response.access_token.as_ref(), "access_token"), Some(&json!("a")));
        assert_eq!(nested.root(&json!({"x": 1})), &json!({"x": 1}));
    }
}
