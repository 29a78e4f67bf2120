//! What goes over the wire, byte for byte.

use super::*;

fn request(authentication: ClientAuthentication) -> TokenRequest {
    TokenRequest {
        endpoint: "https://login.example.com/token".parse().unwrap(),
        client_id: Some("a:b c".into()),
        client_id_is_secret: false,
        client_secret: Some(Sensitive::new("s%cr&t")),
        authentication,
        grant: GrantRequest::ClientCredentials,
        scopes: vec!["read".into(), "write".into()],
        audience: Some("api".into()),
        resources: vec!["https://a.example.com/".into(), "https://b.example.com/".into()],
        dialect: Arc::default(),
        dpop_key: None,
    }
}

fn moment() -> Moment {
    Moment { now: "2026-01-01T00:00:00Z".parse().unwrap(), id: "once".into(), dpop_nonce: None }
}

fn body(request: &http::Request<Vec<u8>>) -> Vec<(String, String)> {
    url::form_urlencoded::parse(request.body()).into_owned().collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

#[test]
fn basic_authentication_form_encodes_id_and_secret() {
    let composed = request(ClientAuthentication::Basic).compose(&moment()).unwrap();
    assert_eq!(composed.method(), http::Method::POST);
    assert_eq!(composed.uri(), "https://login.example.com/token");
    assert_eq!(composed.headers()["content-type"], "application/x-www-form-urlencoded");
    let basic = composed.headers()["authorization"].to_str().unwrap().strip_prefix("Basic ").unwrap().to_owned();
    let decoded = STANDARD.decode(&basic).unwrap();
    assert_eq!(String::from_utf8(decoded).unwrap(), "a%3Ab+c:s%25cr%26t");
    let secrets = request(ClientAuthentication::Basic).secrets();
    assert!(secrets.iter().any(|secret| secret.expose() == basic), "the header's value is a secret");
    let expected = pairs(&[
        ("grant_type", "client_credentials"),
        ("scope", "read write"),
        ("audience", "api"),
        ("resource", "https://a.example.com/"),
        ("resource", "https://b.example.com/"),
    ]);
    assert_eq!(body(&composed), expected);
}

#[test]
fn post_authentication_puts_them_into_the_body() {
    let composed = request(ClientAuthentication::Post).compose(&moment()).unwrap();
    assert!(composed.headers().get("authorization").is_none());
    let fields = body(&composed);
    assert!(fields.contains(&("client_id".into(), "a:b c".into())), "{fields:?}");
    assert!(fields.contains(&("client_secret".into(), "s%cr&t".into())), "{fields:?}");
}

#[test]
fn a_public_client_refreshes_with_its_id_alone() {
    let token = Sensitive::new("r3fresh+t");
    let request = TokenRequest {
        client_secret: None,
        grant: GrantRequest::RefreshToken(token.clone()),
        audience: None,
        resources: vec![],
        ..request(ClientAuthentication::None)
    };
    let composed = request.compose(&moment()).unwrap();
    assert!(composed.headers().get("authorization").is_none());
    let expected = pairs(&[
        ("grant_type", "refresh_token"),
        ("refresh_token", "r3fresh+t"),
        ("client_id", "a:b c"),
        ("scope", "read write"),
    ]);
    let mut fields = body(&composed);
    fields.sort();
    let mut sorted = expected;
    sorted.sort();
    assert_eq!(fields, sorted);
    assert_eq!(request.secrets(), [token], "the refresh token is a secret, the id of a public client is none");
}

#[test]
fn an_assertion_lives_as_long_as_it_is_told_to_and_never_dies_under_way() {
    for (said, lives, left) in [(3600, 3600, 3540), (120, 120, 60), (10, 65, 5)] {
        let key = crate::oauth::assertion_tests::key();
        let lifetime = Some(SignedDuration::from_secs(said));
        let grant = GrantRequest::Assertion(Box::new(Assertion { lifetime, ..Assertion::by(key) }));
        let composed = TokenRequest { grant, ..request(ClientAuthentication::Basic) }.compose(&moment()).unwrap();
        let assertion = body(&composed).into_iter().find(|(name, _)| name == "assertion").unwrap().1;
        let claims = crate::oauth::claims(&assertion).unwrap();
        let at = |claim: &str| claims[claim].as_i64().unwrap();
        assert_eq!(at("exp") - at("iat"), lives, "{said}");
        assert_eq!(at("exp") - moment().now.as_second(), left, "{said}");
    }
}

#[test]
fn a_key_is_proved_in_a_header_of_its_own_under_an_id_of_its_own() {
    let keys = [crate::oauth::assertion_tests::key(), crate::oauth::assertion_tests::key()];
    let authentication = ClientAuthentication::PrivateKeyJWT { key_id: None };
    let [client, bound] = keys.map(Some);
    let request = TokenRequest { client_secret: client, dpop_key: bound, ..request(authentication) };
    let composed = request.compose(&Moment { dpop_nonce: Some("n-1".into()), ..moment() }).unwrap();
    let claims = crate::oauth::claims(composed.headers()["dpop"].to_str().unwrap()).unwrap();
    assert_eq!((&claims["htm"], &claims["htu"]), (&json!("POST"), &json!("https://login.example.com/token")));
    assert_eq!((&claims["iat"], &claims["nonce"]), (&json!(moment().now.as_second()), &json!("n-1")));
    let assertion = body(&composed).into_iter().find(|(name, _)| name == "client_assertion").unwrap().1;
    assert_ne!(crate::oauth::claims(&assertion).unwrap()["jti"], claims["jti"], "servers may remember both in one place");
    let broken = TokenRequest { dpop_key: Some(Sensitive::new("scribbled")), ..request };
    let fault = broken.compose(&moment()).unwrap_err();
    assert!(fault.kind == FaultKind::StateUnreadable && !fault.message.contains("scribbled"), "{fault}");
}

#[test]
fn debug_shows_no_secret() {
    assert!(!format!("{:?}", request(ClientAuthentication::Basic)).contains("s%cr&t"));
}
