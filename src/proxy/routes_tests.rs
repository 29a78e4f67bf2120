//! A routes file and its mistakes.

use super::*;

const GOOD: &str = r#"accounts:
- {name: a, directory: /a}
listeners:
- addresses: ["127.0.0.1:15080"]
  routes:
  - name: api
    upstream: {url: "https://api.example.com"}
    pool: [{account: a}]
"#;

fn refused(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    Routes::read(&GOOD.replacen(from, to, 1)).err().unwrap_or_else(|| panic!("{to} is taken"))
}

#[test]
fn what_is_left_out_has_defaults() {
    let routes = Routes::read(GOOD).unwrap();
    let route = &routes.listeners[0].routes[0];
    assert_eq!((route.path.value.as_str(), route.rejected_statuses.as_slice()), ("/", &[401][..]));
    assert_eq!(route.credential, CredentialHeader { header: http::header::AUTHORIZATION, prefix: "Bearer ".into() });
    assert_eq!((route.timeouts, route.limits), (Timeouts::default(), Limits::default()));
    assert_eq!((route.pool[0].weight, route.pool[0].priority), (1, 0));
    assert_eq!(routes.replay_budget_bytes, 32 * 1024 * 1024);
}

#[test]
fn a_mistake_is_told_with_its_line() {
    for (from, to, line, words) in [
        ("pool: [{account: a}]", "pool: [{account: b}]", 8, "\"b\" is not among `accounts`"),
        ("pool: [{account: a}]", "pool: [{account: a}, {account: a}]", 8, "twice in this pool"),
        ("pool: [{account: a}]", "pool: [{account: a, weight: 0}]", 8, "weight 0"),
        ("pool: [{account: a}]", "pool: []", 6, "empty `pool`"),
        ("    pool:", "    retries: 3\n    pool:", 8, "retries"),
        ("url: \"https://api.example.com\"", "url: \"http://api.example.com\"", 7, "in the open"),
        ("url: \"https://api.example.com\"", "url: \"https://api.example.com/v1\"", 7, "scheme, host and port alone"),
        ("url: \"https://api.example.com\"", "url: \"ftp://api.example.com\"", 7, "https://"),
        ("127.0.0.1:15080", "0.0.0.0:15080", 4, "loopback"),
        ("127.0.0.1:15080", "localhost", 4, "invalid"),
        ("- {name: a, directory: /a}", "- {name: a, directory: /a}\n- {name: a, directory: /b}", 3, "two accounts"),
        ("{name: a, directory: /a}", "{name: a}", 2, "`directory` or `secret`"),
        ("    pool:", "    path: v1\n    pool:", 8, "is no path"),
        ("    pool:", "    rejectedStatuses: [429]\n    pool:", 6, "429"),
        ("    pool:", "    headers: {set: {Authorization: x}}\n    pool:", 6, "the proxy's own"),
        ("    pool:", "    headers: {set: {x-a: \"1\\r\\n2\"}}\n    pool:", 6, "no header may carry"),
        ("    pool:", "    stickyHeader: \"no header\"\n    pool:", 8, "header"),
        ("    pool:", "    methods: [\"G T\"]\n    pool:", 8, "method"),
    ] {
        let why = refused(from, to);
        let told = why.contains(&format!("line {line}")) || why.contains(&format!("{line}:"));
        assert!(told && why.contains(words), "{to}: {why}");
    }
}

#[test]
fn a_listener_beyond_loopback_needs_clients_with_digests() {
    let open = GOOD.replace("127.0.0.1:15080", "0.0.0.0:15080");
    let with =
        |digest: &str| open.replacen("  routes:", &format!("  clients: [{{name: ci, keySHA256: \"{digest}\"}}]\n  routes:"), 1);
    assert!(Routes::read(&with(&"0".repeat(64))).is_ok());
    assert!(Routes::read(&with("abc")).unwrap_err().contains("64 hex digits"));
}

#[test]
fn plaintext_goes_to_loopback_or_by_permission() {
    for (url, taken) in [
        ("http://127.0.0.1:8080", true),
        ("http://[::1]:8080", true),
        ("http://localhost:8080", true),
        ("http://10.0.0.1", false),
        ("http://127.0.0.1.example.com", false),
    ] {
        assert_eq!(Routes::read(&GOOD.replace("https://api.example.com", url)).is_ok(), taken, "{url}");
    }
    let permitted = GOOD.replace("{url: \"https://api.example.com\"}", "{url: \"http://api.example.com\", allowPlaintext: true}");
    assert!(Routes::read(&permitted).is_ok());
    let secret = Routes::read(&GOOD.replace("https://api.example.com", "https://user:hunter2@api.example.com")).unwrap_err();
    assert!(!secret.contains("hunter2"), "{secret}");
}

#[test]
fn two_routes_of_one_path_differ_in_their_methods() {
    let second = |methods: &str| {
        format!("{GOOD}  - name: more\n    {methods}\n    upstream: {{url: \"https://b.example\"}}\n    pool: [{{account: a}}]\n")
    };
    assert!(Routes::read(&second("methods: [GET]")).unwrap_err().contains("no methods of its own"));
    let first = second("methods: [GET]").replacen("  - name: api\n", "  - name: api\n    methods: [POST]\n", 1);
    assert!(Routes::read(&first).is_ok());
}
