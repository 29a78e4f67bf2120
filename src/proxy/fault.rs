//! Errors of the proxy's own: their codes, and the shapes in which the SDKs of the APIs in front of it can read them.

use http::{HeaderName, HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::json;

/// Header that names the code: what carries it came from the proxy, and not from the upstream.
pub const ERROR_HEADER: HeaderName = HeaderName::from_static("x-oauth-proxy-error");

/// Shape of an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
pub enum Envelope {
    /// `{"error": {"code", "message", "details", "request_id"}}`
    #[default]
    Plain,
    /// `{"code", "msg", "detail": {"logid"}}`, as coze.com/open/docs/developer_guides/coze_error_codes has it: SDKs take a code
    /// other than 0 for an error.
    Coze,
    /// `{"error": {"message", "type", "param", "code"}}`, as platform.openai.com/docs/guides/error-codes has it.
    #[serde(rename = "OpenAI")]
    #[value(name = "openai")]
    OpenAi,
    /// `{"type": "error", "error": {"type", "message"}, "request_id"}`, as docs.anthropic.com/en/api/errors has it.
    Anthropic,
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// No route has this path.
    RouteNotFound,
    /// A route has this path, but not with this method.
    MethodNotAllowed,
    /// A request that is not passed on.
    BadRequest,
    /// The listener has clients, and this is none of them.
    ClientUnauthenticated,
    /// The client asks more often than it may.
    ClientRateLimited,
    /// No account of the pool has a token that can be sent.
    CredentialUnavailable,
    /// All accounts of the pool have as many requests under way as they may.
    AccountSaturated,
    /// No account of the pool allows this upstream.
    HostNotAllowed,
    /// No connection.
    UpstreamUnreachable,
    /// No TLS.
    UpstreamTlsFailed,
    /// The connection ended, or what came is no HTTP.
    UpstreamBroken,
    /// No answer in time.
    UpstreamTimeout,
    /// The app's own body did not come.
    RequestTimeout,
}

impl Code {
    /// As the header and the plain shape name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::RouteNotFound => "route_not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::BadRequest => "bad_request",
            Self::ClientUnauthenticated => "client_unauthenticated",
            Self::ClientRateLimited => "client_rate_limited",
            Self::CredentialUnavailable => "credential_unavailable",
            Self::AccountSaturated => "account_saturated",
            Self::HostNotAllowed => "host_not_allowed",
            Self::UpstreamUnreachable => "upstream_unreachable",
            Self::UpstreamTlsFailed => "upstream_tls_failed",
            Self::UpstreamBroken => "upstream_broken",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::RequestTimeout => "request_timeout",
        }
    }

    /// Status code.
    pub fn status(self) -> StatusCode {
        match self {
            Self::RouteNotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::ClientUnauthenticated => StatusCode::UNAUTHORIZED,
            Self::ClientRateLimited => StatusCode::TOO_MANY_REQUESTS,
            Self::CredentialUnavailable | Self::AccountSaturated | Self::HostNotAllowed => StatusCode::SERVICE_UNAVAILABLE,
            Self::UpstreamUnreachable | Self::UpstreamTlsFailed | Self::UpstreamBroken => StatusCode::BAD_GATEWAY,
            Self::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
        }
    }

    /// The number that stands for it in Coze's shape: ours, and none of Coze's.
    fn number(self) -> u32 {
        900_000_000 + u32::from(self.status().as_u16()) * 100 + self as u32
    }

    /// The type that Anthropic's SDK knows.
    fn anthropic(self) -> &'static str {
        match self.status() {
            StatusCode::NOT_FOUND => "not_found_error",
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            StatusCode::GATEWAY_TIMEOUT => "timeout_error",
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE => "api_error",
            _ => "invalid_request_error",
        }
    }

    /// The type that OpenAI's SDK knows.
    fn openai(self) -> &'static str {
        match self.status() {
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        }
    }
}

/// An error of the proxy's own.
#[derive(Clone, Debug)]
pub struct Fault {
    /// What went wrong.
    pub code: Code,
    /// One sentence that says what, where, and what to do. It holds no secret.
    pub message: String,
    /// Seconds after which it may be tried again.
    pub retry_after: Option<u64>,
}

impl Fault {
    /// One without a moment.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after: None }
    }

    /// The same, with one.
    #[must_use]
    pub fn after(self, seconds: u64) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    /// Its body. `details` is what else is known: the route.
    pub fn body(&self, envelope: Envelope, route: Option<&str>, request_id: &str) -> Vec<u8> {
        let Self { code, message, .. } = self;
        let value = match envelope {
            Envelope::Plain => {
                json!({"error": {"code": code.name(), "message": message, "details": {"route": route}, "request_id": request_id}})
            }
            Envelope::Coze => json!({"code": code.number(), "msg": message, "detail": {"logid": request_id}}),
            Envelope::OpenAi => {
                json!({"error": {"message": message, "type": code.openai(), "param": null, "code": code.name()}})
            }
            Envelope::Anthropic => {
                json!({"type": "error", "error": {"type": code.anthropic(), "message": message}, "request_id": request_id})
            }
        };
        value.to_string().into_bytes()
    }
}

impl Envelope {
    /// Header in which the SDK looks for the request's id, beside `x-request-id`.
    pub fn id_header(self) -> Option<HeaderName> {
        match self {
            Self::Coze => Some(HeaderName::from_static("x-tt-logid")),
            Self::Anthropic => Some(HeaderName::from_static("request-id")),
            Self::Plain | Self::OpenAi => None,
        }
    }
}

/// The code as a header's value.
pub fn code_header(code: Code) -> HeaderValue {
    HeaderValue::from_static(code.name())
}
