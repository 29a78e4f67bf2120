//! What of a request's and a response's head is passed on: hop-by-hop fields end here, and so do the app's own credentials.

use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, COOKIE, EXPECT,
    HOST, MAX_FORWARDS, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, RANGE, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version};
use smallvec::SmallVec;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
/// Where some APIs expect their key: what the app puts there is no credential of ours.
pub const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// Name of a request, given by whoever saw it first.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Fields that are of one connection (RFC 9110 §7.6.1), and are the proxy's own to set.
pub fn is_connection_specific(name: &HeaderName) -> bool {
    [
        CONNECTION,
        KEEP_ALIVE,
        PROXY_CONNECTION,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
        TE,
        TRANSFER_ENCODING,
        UPGRADE,
        CONTENT_LENGTH,
    ]
    .contains(name)
}

/// Why a request is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Improper(pub &'static str);

/// Judges what would be dangerous to pass on, whatever the route.
///
/// # Errors
/// What is wrong with it.
pub fn judge(method: &Method, uri: &Uri, version: Version, headers: &HeaderMap) -> Result<(), Improper> {
    if method == Method::CONNECT {
        return Err(Improper("CONNECT asks for a tunnel; the proxy leads to its upstream only."));
    }
    // It would show the credential to the app (RFC 9110 §9.3.8).
    if method == Method::TRACE {
        return Err(Improper("TRACE would be answered with the credential; it is not passed on."));
    }
    judge_framing(headers)?;
    // RFC 9112 §3.2: one Host, which names a host, or is empty.
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next();
    if version == Version::HTTP_11 && (host.is_none() || hosts.next().is_some()) {
        return Err(Improper("A request has one Host, and no more than one."));
    }
    if host.is_some_and(|host| !host.is_empty() && Authority::try_from(host.as_bytes()).is_err()) {
        return Err(Improper("The Host names no host."));
    }
    let path = uri.path();
    if !path.starts_with('/') {
        return Err(Improper("The request's target is no path."));
    }
    if has_dot_segment(path) {
        return Err(Improper("The path holds a . or .. segment, which could leave its route; send it resolved."));
    }
    Ok(())
}

/// Judges what an upstream answers, whatever the route.
///
/// # Errors
/// What is wrong with it.
pub fn judge_answer(status: StatusCode, headers: &HeaderMap, wants_upgrade: bool) -> Result<(), Improper> {
    if status == StatusCode::SWITCHING_PROTOCOLS && !wants_upgrade {
        return Err(Improper("It changed its protocol, which nobody had asked for."));
    }
    judge_framing(headers)
}

/// Two ways to tell where a body ends are how messages are smuggled (RFC 9112 §6.1). A coding other than chunked would be lost
/// on the way, for it is of one connection.
fn judge_framing(headers: &HeaderMap) -> Result<(), Improper> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let Some(first) = codings.next() else { return Ok(()) };
    if headers.contains_key(CONTENT_LENGTH) {
        return Err(Improper("Content-Length and Transfer-Encoding contradict each other; send one of them."));
    }
    if codings.next().is_some() || !first.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Err(Improper("Of transfer codings only chunked is passed on, once."));
    }
    Ok(())
}

/// Whether a segment is `.` or `..`, also where its dots or the slashes around it are encoded, or are backslashes: upstreams
/// differ in what they decode first.
fn has_dot_segment(path: &str) -> bool {
    if !path.contains("/.") && !path.contains(['%', '\\']) {
        return false;
    }
    let plain = path.to_ascii_lowercase().replace("%2e", ".").replace("%2f", "/").replace("%5c", "/").replace('\\', "/");
    plain.split('/').any(|segment| segment == "." || segment == "..")
}

/// What an app wants to change its connection to, where it does. Not `h2c`: that is between two hops, and a way to talk past
/// whoever stands between (RFC 9113 §3.1 has taken it back).
pub fn wanted_upgrade(version: Version, headers: &HeaderMap) -> Option<HeaderValue> {
    let wanted = headers.get(UPGRADE).filter(|_| version == Version::HTTP_11)?;
    let nominated = tokens(headers).any(|token| token.eq_ignore_ascii_case("upgrade"));
    let is_h2c = wanted.as_bytes().len() >= 3 && wanted.as_bytes()[..3].eq_ignore_ascii_case(b"h2c");
    (nominated && !is_h2c).then(|| wanted.clone())
}

/// What `Connection` nominates.
fn tokens(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(',')).map(str::trim)
}

/// Takes away what is of one connection, and what `Connection` nominates. `TE: trailers` stays: gRPC asks for it end to end.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    const OTHERS: [HeaderName; 6] =
        [KEEP_ALIVE, PROXY_CONNECTION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TRANSFER_ENCODING, UPGRADE];
    if headers.contains_key(CONNECTION) {
        let nominated: Names = tokens(headers).filter_map(|token| token.parse().ok()).collect();
        for name in nominated {
            // Where the message ends, and where it goes, is not anybody's to take away.
            if name != CONTENT_LENGTH && name != HOST && name != TE {
                headers.remove(name);
            }
        }
        headers.remove(CONNECTION);
    }
    strip(headers, |name| OTHERS.contains(name));
    if headers.get(TE).is_some_and(|value| value != "trailers") {
        let trailers = headers.get_all(TE).iter().filter_map(|value| value.to_str().ok()).any(|text| {
            text.split(',').any(|coding| coding.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("trailers"))
        });
        headers.remove(TE);
        if trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
    }
}

/// A few names.
type Names = SmallVec<[HeaderName; 8]>;

/// Takes away what there is of these: one look at each field is cheaper than a search for each name.
fn strip(headers: &mut HeaderMap, unwanted: impl Fn(&HeaderName) -> bool) {
    let there: Names = headers.keys().filter(|name| unwanted(name)).cloned().collect();
    for name in there {
        headers.remove(name);
    }
}

/// Takes away what the app has for credentials, and what the proxy answers itself.
pub fn strip_credentials(headers: &mut HeaderMap, further: &[HeaderName]) {
    const OWN: [HeaderName; 3] = [AUTHORIZATION, X_API_KEY, EXPECT];
    strip(headers, |name| OWN.contains(name) || further.contains(name));
}

/// Takes away what may not come behind a body (RFC 9110 §6.5.1), as it says where the message ends, where it goes or who sent it.
pub fn strip_trailers(trailers: &mut HeaderMap, further: impl Fn(&HeaderName) -> bool) {
    const OWN: [HeaderName; 13] = [
        AUTHORIZATION,
        X_API_KEY,
        EXPECT,
        HOST,
        COOKIE,
        SET_COOKIE,
        CACHE_CONTROL,
        CONTENT_ENCODING,
        CONTENT_RANGE,
        CONTENT_TYPE,
        MAX_FORWARDS,
        RANGE,
        TRAILER,
    ];
    strip(trailers, |name| is_connection_specific(name) || OWN.contains(name) || further(name));
}

/// Joins what HTTP/2 may have split (RFC 9113 §8.2.3): on HTTP/1.1 a request has one `Cookie`.
pub fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() > 1
        && let Ok(whole) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]))
    {
        headers.insert(COOKIE, whole);
    }
}

/// Name of this request: the app's, where it has given one that can be passed on.
pub fn request_id(headers: &HeaderMap) -> Option<&HeaderValue> {
    headers
        .get(REQUEST_ID)
        .filter(|id| (1..=128).contains(&id.as_bytes().len()) && id.as_bytes().iter().all(|byte| (0x21..0x7f).contains(byte)))
}

/// The path as it is sent on, without the route's beginning where that is to be taken away.
pub fn target(uri: &Uri, prefix: Option<&str>) -> PathAndQuery {
    let whole = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let Some(rest) = prefix.and_then(|prefix| whole.as_str().strip_prefix(prefix)) else { return whole };
    let rest = if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") };
    rest.parse().unwrap_or(whole)
}

/// Seconds that an answer asks for patience: delta-seconds, or a date (RFC 9110 §10.2.3).
pub fn retry_after(headers: &HeaderMap, now: jiff::Timestamp) -> Option<u64> {
    let text = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(seconds);
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    u64::try_from(date.duration_since(now).as_secs()).ok()
}

/// Whether a request may be sent twice though the first was received (RFC 9110 §9.2.2), and has no body that it changes.
pub fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Whether a status says that a gateway or service fails, rather than the request.
pub fn is_transient(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap())).collect()
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn hop_by_hop_fields_and_what_connection_nominates_end_here() {
        let mut headers = headers(&[
            ("connection", "keep-alive, X-Hop, content-length, host, te"),
            ("connection", "x-other"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "close"),
            ("proxy-authorization", "Basic eA=="),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("te", "gzip, trailers;q=0.5"),
            ("x-hop", "1"),
            ("x-other", "1"),
            ("host", "a"),
            ("content-length", "3"),
            ("trailer", "grpc-status"),
            ("accept", "*/*"),
        ]);
        strip_hop_by_hop(&mut headers);
        assert_eq!(names(&headers), ["accept", "content-length", "host", "te", "trailer"]);
        assert_eq!(headers[TE], "trailers");
    }

    #[test]
    fn the_apps_credentials_end_here() {
        let mut headers =
            headers(&[("authorization", "x"), ("x-api-key", "y"), ("expect", "100-continue"), ("cookie", "c"), ("x-mine", "z")]);
        strip_credentials(&mut headers, &[HeaderName::from_static("x-mine")]);
        assert_eq!(names(&headers), ["cookie"]);
    }

    #[test]
    fn what_comes_behind_a_body_cannot_forge_what_stood_before_it() {
        let mut trailers = headers(&[
            ("authorization", "x"),
            ("x-api-key", "x"),
            ("content-length", "42"),
            ("transfer-encoding", "chunked"),
            ("host", "evil.example"),
            ("x-mine", "x"),
            ("grpc-status", "0"),
        ]);
        strip_trailers(&mut trailers, |name| name == "x-mine");
        assert_eq!(names(&trailers), ["grpc-status"]);
    }

    #[test]
    fn cookies_that_http2_has_split_are_one_again() {
        let mut split = headers(&[("cookie", "a=1"), ("accept", "*/*"), ("cookie", "b=2; c=3")]);
        join_cookies(&mut split);
        assert_eq!(split.get_all(COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2; c=3"]);
        assert_eq!(names(&split), ["accept", "cookie"]);
    }

    #[test]
    fn what_could_leave_its_route_or_be_smuggled_is_refused() {
        let refused = |method: &Method, uri: &str, pairs: &[(&str, &str)]| {
            judge(method, &uri.parse().unwrap(), Version::HTTP_2, &headers(pairs)).is_err()
        };
        assert!(refused(&Method::CONNECT, "example.com:443", &[]));
        assert!(refused(&Method::TRACE, "/", &[]));
        assert!(refused(&Method::POST, "/", &[("content-length", "1"), ("transfer-encoding", "chunked")]));
        assert!(refused(&Method::OPTIONS, "*", &[]));
        for path in ["/a/../b", "/a/..", "/./a", "/a/%2e%2E/b", "/a/.%2e", "/%2e/", "/a%2f..%2Fb", "/a/..\\b", "/a/..%5cb"] {
            assert!(refused(&Method::GET, path, &[]), "{path}");
        }
        for path in ["/", "/a/...", "/a/.well-known/x", "/a..b/c", "/%2ea", "/a?x=/../", "/%20", "/a%2fb", "/a\\b"] {
            assert!(!refused(&Method::GET, path, &[]), "{path}");
        }
    }

    #[test]
    fn a_message_ends_where_everybody_says_it_does() {
        for (pairs, refused) in [
            (&[("transfer-encoding", "Chunked")][..], false),
            (&[("content-length", "1"), ("transfer-encoding", "chunked")], true),
            (&[("transfer-encoding", "chunked, chunked")], true),
            (&[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")], true),
            (&[("transfer-encoding", "gzip, chunked")], true),
            (&[("transfer-encoding", "gzip")], true),
        ] {
            let uri = Uri::from_static("/");
            assert_eq!(judge(&Method::POST, &uri, Version::HTTP_2, &headers(pairs)).is_err(), refused, "{pairs:?}");
            assert_eq!(judge_answer(StatusCode::OK, &headers(pairs), false).is_err(), refused, "{pairs:?}");
        }
        assert!(judge_answer(StatusCode::SWITCHING_PROTOCOLS, &headers(&[]), false).is_err());
        assert!(judge_answer(StatusCode::SWITCHING_PROTOCOLS, &headers(&[]), true).is_ok());
    }

    #[test]
    fn a_request_has_one_host() {
        let refused =
            |version, pairs: &[(&str, &str)]| judge(&Method::GET, &Uri::from_static("/"), version, &headers(pairs)).is_err();
        assert!(refused(Version::HTTP_11, &[]));
        assert!(refused(Version::HTTP_11, &[("host", "a"), ("host", "a")]));
        for host in ["a b", "a/b", "a, b"] {
            assert!(refused(Version::HTTP_11, &[("host", host)]), "{host}");
        }
        for host in ["", "a", "a.example:80", "[::1]:80", "127.0.0.1"] {
            assert!(!refused(Version::HTTP_11, &[("host", host)]), "{host}");
        }
        assert!(!refused(Version::HTTP_2, &[]) && !refused(Version::HTTP_10, &[]));
    }

    #[test]
    fn an_upgrade_is_wanted_by_both_fields_and_never_to_h2c() {
        let wanted = |version, pairs: &[(&str, &str)]| wanted_upgrade(version, &headers(pairs)).is_some();
        let both = [("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")];
        assert!(wanted(Version::HTTP_11, &both));
        assert!(!wanted(Version::HTTP_2, &both));
        assert!(!wanted(Version::HTTP_11, &both[1..]));
        assert!(!wanted(Version::HTTP_11, &[("connection", "upgrade"), ("upgrade", "H2C")]));
    }

    #[test]
    fn a_request_id_is_kept_where_it_can_be_passed_on() {
        assert!(request_id(&headers(&[("x-request-id", "a-b_c.1")])).is_some());
        let long = "x".repeat(129);
        for bad in ["", "a b", &long] {
            assert!(request_id(&headers(&[("x-request-id", bad)])).is_none(), "{bad}");
        }
    }

    #[test]
    fn the_target_loses_its_beginning_and_keeps_its_query() {
        let target = |uri: &str, prefix| target(&uri.parse().unwrap(), prefix).to_string();
        assert_eq!(target("http://evil.example/a/b?c=d", None), "/a/b?c=d");
        assert_eq!(target("/coze/v3/chat?c=d", Some("/coze")), "/v3/chat?c=d");
        assert_eq!(target("/coze", Some("/coze")), "/");
        assert_eq!(target("/coze?x", Some("/coze")), "/?x");
    }

    #[test]
    fn patience_is_asked_for_in_seconds_or_by_a_date() {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let after = |text| retry_after(&headers(&[("retry-after", text)]), now);
        assert_eq!(after("30"), Some(30));
        assert_eq!(after("Thu, 01 Jan 2026 00:02:00 GMT"), Some(120));
        assert_eq!(after("Thu, 01 Jan 2025 00:02:00 GMT"), None);
        assert_eq!(after("soon"), None);
    }
}
