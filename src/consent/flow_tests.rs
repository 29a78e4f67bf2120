//! Who may go on, and with what.

use super::*;
use serde_json::json;

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn later(minutes: i64) -> Timestamp {
    now() + SignedDuration::from_mins(minutes)
}

fn account(uid: &str) -> Account {
    Account { namespace: "apps".into(), name: "demo".into(), uid: uid.into() }
}

fn secrets() -> Secrets {
    Secrets::new(&std::array::from_fn(|number| u8::try_from(number).unwrap()))
}

fn endpoints(names_issuer: bool) -> Endpoints {
    let url = |text: &str| text.parse().unwrap();
    let mut endpoints = Endpoints::default();
    (endpoints.issuer, endpoints.names_issuer) = (Some("https://a.example".into()), names_issuer);
    endpoints
        .with(Endpoint::Authorization, url("https://a.example/auth?tenant=x"))
        .with(Endpoint::Token, url("https://a.example/t"))
}

fn begun(names_issuer: bool) -> Consent {
    let redirect_uri = "https://connect.example.com/callback";
    let asked = Asked { pkce: true, redirect_uri, endpoints: &endpoints(names_issuer), login: login() };
    started(account("u"), &secrets(), asked, Some("alice".into()), now())
}

fn login() -> Login {
    Login { origin: "https://a.example".into(), client_id: "app".into() }
}

fn answer() -> Answer {
    Answer {
        state: secrets().state.expose().to_owned(),
        code: Some(Sensitive::new("c0de")),
        issuer: Some("https://a.example".into()),
        error: None,
    }
}

fn taken(prior: &Consent, answer: &Answer) -> Result<Consent, Refusal> {
    deposited(Some(prior), Some(secrets().cookie.expose()), answer, later(1))
}

#[test]
fn a_ticket_admits_once_in_time_and_to_its_own_account() {
    let ticket = Sensitive::new("t1cket");
    let given = ticketed(account("u"), &ticket, "alice", now());
    let admitted =
        |prior: Option<&Consent>, uid: &str, ticket: Option<&str>, now| admit(prior, &account(uid), ticket, false, now);
    assert_eq!(admitted(Some(&given), "u", Some("t1cket"), later(14)), Ok(Some("alice".into())));
    assert_eq!(admitted(Some(&given), "u", Some("t1cket"), later(15)), Err(Refusal::Expired));
    assert_eq!(admitted(Some(&given), "u", Some("guess"), later(1)), Err(Refusal::TicketInvalid));
    assert_eq!(
        admitted(Some(&given), "another", Some("t1cket"), later(1)),
        Err(Refusal::TicketInvalid),
        "another account of its name"
    );
    assert_eq!(admitted(Some(&given), "u", None, later(1)), Err(Refusal::NoTicket));
    assert_eq!(admitted(Some(&begun(true)), "u", Some("t1cket"), later(1)), Err(Refusal::TicketInvalid), "it was used");
    assert_eq!(admitted(None, "u", Some("t1cket"), later(1)), Err(Refusal::TicketInvalid));
    assert_eq!(admit(None, &account("u"), None, true, now()), Ok(None), "it is known who must log in");
}

#[test]
fn what_comes_back_is_taken_from_the_browser_that_was_sent_and_from_the_provider_that_was_asked() {
    let consent = taken(&begun(true), &answer()).unwrap();
    let Phase::Deposited { code, verifier, .. } = &consent.phase else { panic!("{consent:?}") };
    assert_eq!((code.expose(), verifier.as_ref(), consent.by.as_deref()), ("c0de", Some(&secrets().verifier), Some("alice")));
    assert_eq!(taken(&consent, &answer()), Err(Refusal::NotBegun), "a page that is opened twice");
    let guessed = Answer { state: "guess".into(), ..answer() };
    assert_eq!(taken(&begun(true), &guessed), Err(Refusal::NotBegun));
    for cookie in [None, Some("another browser's")] {
        assert_eq!(deposited(Some(&begun(true)), cookie, &answer(), later(1)), Err(Refusal::NotBegun));
    }
    assert_eq!(deposited(None, Some(secrets().cookie.expose()), &answer(), later(1)), Err(Refusal::NotBegun));
    assert_eq!(deposited(Some(&begun(true)), Some(secrets().cookie.expose()), &answer(), later(15)), Err(Refusal::Expired));
}

#[test]
fn the_issuer_is_checked_wherever_it_is_known() {
    let named = |issuer: Option<&str>| Answer { issuer: issuer.map(str::to_owned), ..answer() };
    assert_eq!(taken(&begun(true), &named(Some("https://evil.example"))), Err(Refusal::WrongIssuer));
    assert_eq!(taken(&begun(true), &named(None)), Err(Refusal::WrongIssuer), "it says that it names itself");
    assert_eq!(taken(&begun(false), &named(Some("https://evil.example"))), Err(Refusal::WrongIssuer));
    assert!(taken(&begun(false), &named(None)).is_ok());
}

#[test]
fn a_no_is_told_with_the_provider_s_words_and_only_to_the_right_browser() {
    let denied = Answer { code: None, error: Some(("access_denied".into(), Some("not today".into()))), ..answer() };
    assert_eq!(taken(&begun(true), &denied), Err(Refusal::Denied("access_denied".into(), Some("not today".into()))));
    assert_eq!(deposited(Some(&begun(true)), None, &denied, later(1)), Err(Refusal::NotBegun));
    assert_eq!(taken(&begun(true), &Answer { code: None, ..answer() }), Err(Refusal::Empty));
}

#[test]
fn the_request_carries_a_challenge_and_what_the_provider_needs() {
    let spec = json!({"grant": {"clientCredentials": null, "authorizationCode": {}}, "client": {"secretRef": null},
        "provider": {"overrides": {"parameters": {"authorize": {"prompt": "consent", "scope": "only this"}}}},
        "resources": ["https://api.example.com/"]});
    let plan = Plan::of(&crate::account::seen_tests::account(&spec)).unwrap();
    let parameters = request_parameters(&plan, "app", "https://connect.example.com/callback", &secrets(), true);
    let value = |name: &str| parameters.iter().find(|(there, _)| there == name).map(|(_, value)| value.as_str());
    assert_eq!((value("response_type"), value("prompt"), value("scope")), (Some("code"), Some("consent"), Some("only this")));
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(secrets().verifier.expose()));
    assert_eq!((value("code_challenge"), value("code_challenge_method")), (Some(challenge.as_str()), Some("S256")));
    assert!(!parameters.iter().any(|(_, value)| value.contains(secrets().verifier.expose())));
    let url = authorization_url(&endpoints(true), "app", &parameters, None).unwrap();
    assert!(url.query_pairs().any(|(name, value)| name == "tenant" && value == "x"), "what is there stays: {url}");
    let pushed = authorization_url(&endpoints(true), "app", &parameters, Some("urn:x")).unwrap();
    assert_eq!(pushed.query(), Some("tenant=x&client_id=app&request_uri=urn%3Ax"));
}

#[test]
fn while_a_code_waits_nobody_begins_another_login() {
    let waiting = taken(&begun(true), &answer()).unwrap();
    assert_eq!(admit(Some(&waiting), &account("u"), None, true, later(2)), Err(Refusal::Busy));
    assert_eq!(admit(Some(&waiting), &account("u"), None, true, later(12)), Ok(None), "not for ever");
}

#[test]
fn only_what_may_be_a_name_is_one() {
    for name in ["bot", "a.b-c", "0"] {
        assert!(is_name(name), "{name}");
    }
    for name in ["", "bot;curl evil|sh", "../x", "Bot", "-a", "a-", "a b", "\u{e9}"] {
        assert!(!is_name(name), "{name}");
    }
}
