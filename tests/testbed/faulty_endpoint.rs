//! A token endpoint that misbehaves on request, in ways that a real one will not: the last path segment names how.

use super::Result;
use super::tls_server::serve;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The endpoint, for as long as the runtime that started it.
pub struct FaultyEndpoint {
    /// `https://127.0.0.1:<port>`.
    pub url: String,
    /// Host and port.
    pub authority: String,
    /// The CA to trust, PEM.
    pub ca: String,
    requests: Arc<Mutex<HashMap<String, u64>>>,
}

impl FaultyEndpoint {
    pub async fn start() -> Result<Self> {
        let requests: Arc<Mutex<HashMap<String, u64>>> = Arc::default();
        let counted = requests.clone();
        let (address, ca) = serve("testbed faults", move |request| answer(request, counted.clone())).await?;
        Ok(Self { url: format!("https://{address}"), authority: address.to_string(), ca, requests })
    }

    /// `spec.provider` for the fault at this path; its CA is where [`Story::faulty_endpoint`](super::story::Story) puts it.
    pub fn at(&self, path: &str) -> serde_json::Value {
        serde_json::json!({"custom": {"tokenURL": format!("{}{path}", self.url)}, "caBundleRef": {"name": "faulty-ca"}})
    }

    /// Requests to a path so far.
    pub fn requests(&self, path: &str) -> u64 {
        self.requests.lock().expect("nobody panics while holding it").get(path).copied().unwrap_or(0)
    }
}

type Answer = std::result::Result<Response<Full<Bytes>>, Infallible>;

fn reply(status: u16, content_type: &str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let response = Response::builder().status(status).header("content-type", content_type);
    response.body(Full::new(body.into())).expect("a response")
}

fn token(lifetime: &str) -> Response<Full<Bytes>> {
    let token = super::authorization_server::random();
    reply(200, "application/json", format!(r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":{lifetime}}}"#))
}

fn login(lifetime: &str, refresh_token_lifetime: &str) -> Response<Full<Bytes>> {
    let random = super::authorization_server::random;
    let reply_of_a_login = format!(
        r#"{{"access_token":"{}","token_type":"Bearer","expires_in":{lifetime},"refresh_token":"{}","refresh_token_expires_in":{refresh_token_lifetime}}}"#,
        random(),
        random()
    );
    reply(200, "application/json", reply_of_a_login)
}

fn document(host: &str, issuer: &str, token_endpoint: &str) -> Response<Full<Bytes>> {
    let document = serde_json::json!({"issuer": format!("https://{host}/{issuer}"), "token_endpoint": token_endpoint});
    reply(200, "application/json", document.to_string())
}

/// Of half a minute.
fn patience(mut response: Response<Full<Bytes>>) -> Response<Full<Bytes>> {
    response.headers_mut().insert("retry-after", "30".parse().expect("a header"));
    response
}

async fn answer(request: Request<Incoming>, requests: Arc<Mutex<HashMap<String, u64>>>) -> Answer {
    let path = request.uri().path().to_owned();
    let host = request.headers().get("host").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let credentials = request.headers().get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let count = {
        let mut requests = requests.lock().expect("nobody panics while holding it");
        let count = requests.entry(path.clone()).or_default();
        *count += 1;
        *count
    };
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    Ok(match parts.as_slice() {
        ["html"] => reply(200, "text/html", "<html><body>Please sign in</body></html>"),
        ["empty"] => reply(200, "application/json", ""),
        ["huge"] => reply(200, "application/json", vec![b' '; 8 << 20]),
        ["header-injection"] => reply(200, "application/json", r#"{"access_token":"a\r\nX-Evil: b","expires_in":3600}"#),
        ["redirect"] => {
            let mut response = reply(307, "text/plain", "");
            response.headers_mut().insert("location", "https://127.0.0.1:1/stolen".parse().expect("a header"));
            response
        }
        ["lifetime-in-words"] => token("\"soon\""),
        ["lifetime", seconds] => token(seconds),
        // A login that says itself when its refresh token expires.
        ["login", seconds, refresh_token_seconds] => login(seconds, refresh_token_seconds),
        // The secret, the header and the body come back in an error's words.
        ["echo"] => {
            use base64::Engine;
            let basic = credentials.strip_prefix("Basic ").unwrap_or_default();
            let decoded = base64::engine::general_purpose::STANDARD.decode(basic).unwrap_or_default();
            let words = format!("{credentials} {} {}", String::from_utf8_lossy(&decoded), String::from_utf8_lossy(&body));
            let error = serde_json::json!({"error": "invalid_client", "error_description": words});
            reply(401, "application/json", error.to_string())
        }
        // An issuer that speaks RFC 8414 only, one whose document is endless, and one that points inside.
        [".well-known", "oauth-authorization-server", "rfc8414"] => {
            document(&host, "rfc8414", &format!("https://{host}/lifetime/3600"))
        }
        ["endless", ".well-known", "openid-configuration"] => reply(200, "application/json", vec![b' '; 2 << 20]),
        ["inside", ".well-known", "openid-configuration"] => document(&host, "inside", "https://127.0.0.2:8443/token"),
        ["rate-limited"] => patience(reply(429, "text/plain", "slow down")),
        ["in-maintenance"] => patience(reply(503, "text/html", "<html>maintenance until half past</html>")),
        // One token of so many seconds, then nothing but trouble.
        ["once", seconds] if count == 1 => token(seconds),
        ["once", _] | ["unavailable"] => reply(503, "text/html", "<html>maintenance</html>"),
        // So many milliseconds until a token of an hour.
        ["slow", milliseconds] => {
            tokio::time::sleep(Duration::from_millis(milliseconds.parse().unwrap_or(0))).await;
            token("3600")
        }
        _ => reply(404, "text/plain", "no such fault"),
    })
}
