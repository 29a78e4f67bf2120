//! What people see; pure. Plain HTML: it works without JavaScript, by keyboard and with a screen reader, in light and dark.

use super::flow::Refusal;
use crate::account::DeviceSession;
use crate::api::vocabulary::REFRESH_REQUESTED_ANNOTATION;
use base64::Engine;
use jiff::Timestamp;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use qrcode::QrCode;
use qrcode::render::svg;
use sha2::{Digest, Sha256};
use std::sync::LazyLock;

const STYLE: &str = include_str!("style.css");

/// The one style that the pages may have, as a Content Security Policy names it.
static STYLE_DIGEST: LazyLock<String> =
    LazyLock::new(|| format!("'sha256-{}'", base64::engine::general_purpose::STANDARD.encode(Sha256::digest(STYLE))));

/// A page with its Content Security Policy.
pub struct Page {
    /// HTML.
    pub html: String,
    /// Header `Content-Security-Policy`.
    pub policy: String,
}

/// Which account it is about.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Who is asked, as people know them.
    pub provider: String,
    /// Host of the page on which they log in.
    pub host: String,
    /// What is asked for.
    pub scopes: Vec<String>,
    /// Who must log in, where that is known.
    pub expected: Option<String>,
}

/// `leads_away`: whether its form leads to the provider.
fn page(title: &str, leads_away: bool, body: &Markup) -> Page {
    let html = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="robots" content="noindex";
                title { (title) " – oauth-operator" }
                style { (PreEscaped(STYLE)) }
            }
            body { main { (body) } }
        }
    };
    // Browsers judge a form by every redirect that follows it, and providers send people on to origins that nobody here knows.
    let target = if leads_away { "'self' https:" } else { "'self'" };
    let policy = format!(
        "default-src 'none'; style-src {}; form-action {target}; base-uri 'none'; frame-ancestors 'none'",
        &*STYLE_DIGEST
    );
    Page { html: html.into_string(), policy }
}

fn about(subject: &Subject) -> Markup {
    html! {
        dl {
            dt { "Account" } dd { code { (subject.name) } " in namespace " code { (subject.namespace) } }
            @if !subject.host.is_empty() { dt { "Log in at" } dd { (subject.host) } }
            dt { "Provider" } dd { (subject.provider) }
            dt { "Permissions" }
            dd {
                @if subject.scopes.is_empty() { "the provider’s default" }
                @else { ul { @for scope in &subject.scopes { li { code { (scope) } } } } }
            }
            @if let Some(expected) = &subject.expected { dt { "Log in as" } dd { code { (expected) } } }
        }
    }
}

/// Before a browser is sent to the provider, or shown a device's code.
pub fn start(subject: &Subject, ticket: Option<&str>, leads_away: bool) -> Page {
    let verb = if leads_away { "Continue to the provider" } else { "Show the code" };
    let body = html! {
        h1 { "Connect this account" }
        p { "Programs in your cluster will use the login that you make now. Continue only if you expected this page." }
        (about(subject))
        form method="post" {
            @if let Some(ticket) = ticket { input type="hidden" name="ticket" value=(ticket); }
            button type="submit" { (verb) }
        }
        p.hint { "You will be asked to log in at the provider, not here: this page never asks for a password." }
    };
    page("Connect this account", leads_away, &body)
}

/// For who has come without a ticket.
pub fn needs_ticket(namespace: &str, name: &str, base: &str) -> Page {
    let command = format!(
        "curl -X POST -H \"Authorization: Bearer $(kubectl create token YOUR-SERVICE-ACCOUNT --audience {base})\" {base}/tickets/{namespace}/{name}"
    );
    let body = html! {
        h1 { "This account needs a link that works once" }
        p {
            "Whoever connects an account decides whose login programs use. So the link comes from somebody who has the verb "
            code { "authorize" } " on the account:"
        }
        pre tabindex="0" { (command) }
        p { "Open the address that it prints, within a quarter of an hour." }
    };
    page("A link is needed", false, &body)
}

/// The code of a device: to be entered elsewhere.
pub fn device(subject: &Subject, session: &DeviceSession, asked: bool, now: Timestamp) -> Page {
    let DeviceSession { user_code: code, verification_url: url, verification_url_complete: complete, expires, .. } = session;
    let minutes = (expires.duration_since(now).as_secs() / 60).max(1);
    let link = complete.as_ref().unwrap_or(url);
    let body = html! {
        h1 { "Enter this code" }
        @if asked { p role="status" { "The provider has not heard of it yet. Enter the code there, and then come back." } }
        p.code { (code) }
        p { "Open " a href=(url) rel="noreferrer" { (url) } " on any device and enter it, within " (minutes) " minutes." }
        @if let Some(drawing) = quick_response(link) {
            figure {
                div role="img" aria-label={ "QR code that leads to " (link) } { (PreEscaped(drawing)) }
                figcaption { "Or scan this with a phone." }
            }
        }
        (about(subject))
        // A page that loads itself anew would talk over a screen reader (WCAG 2.2.1).
        form method="get" {
            button type="submit" name="entered" value="yes" { "I have entered it" }
        }
    };
    page("Enter this code", false, &body)
}

fn quick_response(text: &str) -> Option<String> {
    let drawn = QrCode::new(text.as_bytes()).ok()?;
    let drawn = drawn.render::<svg::Color<'_>>().min_dimensions(180, 180).build();
    // Without the declaration of XML, which HTML does not know.
    Some(drawn.split_once("?>").map_or(drawn.clone(), |(_, drawing)| drawing.to_owned()))
}

/// It is done.
pub fn connected(subject: &Subject) -> Page {
    let body = html! {
        h1 { "The account is connected" }
        p role="status" { "Its token is in the cluster and is kept fresh from now on. You can close this page." }
        (about(subject))
    };
    page("Connected", false, &body)
}

/// The code is there, and what comes of it is not known yet.
pub fn working(subject: &Subject) -> Page {
    let body = html! {
        h1 { "Nearly done" }
        p role="status" { "You are back from the provider, and the operator fetches the token." }
        (about(subject))
        form method="get" { button type="submit" { "Look again" } }
    };
    page("Nearly done", false, &body)
}

/// The provider took the login and gave no token.
pub fn failed(subject: &Subject, why: &str) -> Page {
    let body = html! {
        h1 { "The account is not connected" }
        p role="alert" { (why) }
        (about(subject))
        p { "To try again, begin anew." }
    };
    page("Not connected", false, &body)
}

/// No code is open that somebody could enter.
pub fn no_code(subject: &Subject) -> Page {
    let command = format!(
        "kubectl annotate oauthaccount {} --namespace {} --overwrite {REFRESH_REQUESTED_ANNOTATION}=$(date -u +%Y-%m-%dT%H:%M:%SZ)",
        subject.name, subject.namespace
    );
    let body = html! {
        h1 { "No code is open" }
        p role="status" { "Codes are good for some minutes only, and nobody has entered the last one. Ask for another:" }
        pre tabindex="0" { (command) }
        form method="get" { button type="submit" { "Look again" } }
        (about(subject))
    };
    page("No code is open", false, &body)
}

/// It was long ago.
pub fn forgotten(subject: &Subject) -> Page {
    let command = format!("kubectl get oauthaccount {} --namespace {}", subject.name, subject.namespace);
    let body = html! {
        h1 { "This page does not know any more" }
        p { "It tells of a login that was just made. How the account is now:" }
        pre tabindex="0" { (command) }
    };
    page("Not known any more", false, &body)
}

/// Something keeps it from beginning.
pub fn unavailable(title: &str, why: &str) -> Page {
    let body = html! {
        h1 { (title) }
        p role="alert" { (why) }
    };
    page(title, false, &body)
}

/// It does not go on.
pub fn refused(refusal: &Refusal) -> Page {
    let (title, why) = match refusal {
        Refusal::NoTicket => ("A link is needed", "The address holds no ticket; ask for a link that works once.".to_owned()),
        Refusal::TicketInvalid => (
            "This link does not work any more",
            "It was used already, or another was given out since. Ask for a new one.".to_owned(),
        ),
        Refusal::Expired => ("Too much time has passed", "Links and logins are good for a quarter of an hour. Ask for a new link.".to_owned()),
        Refusal::NotBegun => (
            "This login was not begun in this browser",
            "Nothing was connected. Open the link again in one browser, let it keep cookies, and go through in one go.".to_owned(),
        ),
        Refusal::WrongIssuer => (
            "Another provider has answered",
            "Nothing was connected: the answer does not come from the provider that was asked. If this happens again, tell whoever runs the operator.".to_owned(),
        ),
        Refusal::Denied(code, words) if code == "access_denied" => (
            "You said no",
            words.clone().unwrap_or_else(|| "Nothing was connected. If that was a slip, ask for a new link.".into()),
        ),
        Refusal::Denied(code, words) => (
            "The provider refuses",
            format!("It says {code}{}. Check the account’s client, scopes and redirect URI at the provider.", words.as_ref().map(|words| format!(": {words}")).unwrap_or_default()),
        ),
        Refusal::Busy => (
            "Another login is being completed",
            "Somebody has just logged in for this account. Wait a minute, and see whether it is connected.".to_owned(),
        ),
        Refusal::Empty => ("The answer is empty", "The provider sent you back without a code and without an error. Ask for a new link.".to_owned()),
    };
    unavailable(title, &why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject() -> Subject {
        Subject {
            namespace: "apps".into(),
            name: "demo".into(),
            provider: "Coze".into(),
            host: "www.coze.com".into(),
            scopes: vec!["<script>alert(1)</script>".into()],
            expected: Some("alice".into()),
        }
    }

    #[test]
    fn what_others_wrote_is_text_and_never_markup() {
        let pages = [
            start(&subject(), Some("\"><b>"), true),
            failed(&subject(), "<img src=x>"),
            refused(&Refusal::Denied("<i>".into(), Some("<u>".into()))),
        ];
        for page in pages {
            for markup in ["<script", "<b>", "<img", "<i>", "<u>"] {
                assert!(!page.html.contains(markup), "{markup} in {}", page.html);
            }
        }
    }

    #[test]
    fn a_page_may_do_nothing_but_show_its_style_and_send_its_form() {
        let page = start(&subject(), None, true);
        assert!(page.policy.starts_with("default-src 'none'; style-src 'sha256-"), "{}", page.policy);
        assert!(page.policy.contains("form-action 'self' https:; base-uri 'none'; frame-ancestors 'none'"));
        assert!(!page.html.contains("<script") && !page.html.contains(" style=") && !page.html.contains("onclick"));
    }

    #[test]
    fn a_device_s_code_comes_as_text_link_and_drawing() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let session = DeviceSession {
            user_code: "AB-CD".into(),
            verification_url: "https://a.example/d".into(),
            verification_url_complete: Some("https://a.example/d?c=AB-CD".into()),
            expires: now,
            interval: 5,
        };
        let page = device(&subject(), &session, true, now);
        for part in ["AB-CD", "href=\"https://a.example/d\"", "<svg", "QR code that leads to", "within 1 minutes"] {
            assert!(page.html.contains(part), "{part}");
        }
        assert!(!page.html.contains("<?xml"));
    }
}
