//! The providers of the presets, as their pages have them: for each the request that it documents, and the reply
//! (tests/wire-shapes). What is not the documented request is refused and written down.

use super::authorization_server::{Client, random};
use super::tls_server::serve;
use super::{Result, root};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use url::{Url, form_urlencoded};

/// One provider.
#[derive(Clone)]
pub struct Desk {
    /// What it documents to be asked.
    pub request: Value,
    /// What it documents to answer: `status`, `body` and what is to be made of it.
    pub reply: Value,
    client: Client,
    refresh_token: String,
    replaced: BTreeSet<String>,
    /// Access tokens that it has issued.
    pub issued: Vec<String>,
    /// Refresh tokens that came.
    pub redeemed: Vec<String>,
    /// What came that is not documented.
    pub complaints: Vec<String>,
}

/// The providers, for as long as the runtime that started them.
pub struct Documented {
    /// `https://127.0.0.1:<port>`.
    pub url: String,
    /// The CA to trust, PEM.
    pub ca: String,
    desks: Arc<Mutex<BTreeMap<String, Desk>>>,
}

/// What a preset's provider documents.
pub fn shapes(preset: &str) -> Result<Value> {
    let text = std::fs::read_to_string(root().join(format!("tests/wire-shapes/{preset}.yaml")))?;
    Ok(serde_saphyr::from_str(&text)?)
}

impl Desk {
    /// The first request that is documented for a grant, and the first reply that is a token.
    pub fn of(preset: &str, grant: &str, client: &Client, refresh_token: &str) -> Result<Self> {
        let shapes = shapes(preset)?;
        let first = |list: &str, wanted: &dyn Fn(&Value) -> bool| {
            let found = shapes[list].as_array().into_iter().flatten().find(|shape| wanted(shape)).cloned();
            found.ok_or_else(|| format!("{preset}: nothing in {list}"))
        };
        Ok(Self {
            request: first("requests", &|shape| shape["grant"] == json!(grant) && shape.get("authMethod").is_none())?,
            reply: first("replies", &|shape| shape["expect"]["accessToken"].is_string())?,
            client: client.clone(),
            refresh_token: refresh_token.to_owned(),
            replaced: BTreeSet::new(),
            issued: vec![],
            redeemed: vec![],
            complaints: vec![],
        })
    }

    /// What a word of the documents stands for.
    fn meant(&self, word: &str) -> String {
        let Client { id, secret } = &self.client;
        let basic = |id: &str, secret: &str| format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")));
        match word {
            "client" => id.clone(),
            "secret" => secret.clone(),
            "refresh-1" => self.refresh_token.clone(),
            "Bearer secret" => format!("Bearer {secret}"),
            word if word == basic("client", "secret") => basic(id, secret),
            other => other.to_owned(),
        }
    }

    /// Whether this is the documented request.
    fn judge(&mut self, head: &http::request::Parts, body: &[u8]) -> std::result::Result<(), String> {
        let documented = self.request.clone();
        let said = |what: &str| documented[what].as_str().unwrap_or_default().to_owned();
        if head.method.as_str() != said("method") {
            return Err(format!("{} is not {}", head.method, said("method")));
        }
        for (name, value) in documented["headers"].as_object().into_iter().flatten() {
            let sent = head.headers.get(name).and_then(|value| value.to_str().ok());
            let expected = value.as_str().map(|value| self.meant(value));
            if sent.map(str::to_owned) != expected {
                return Err(format!("header {name} is not as documented"));
            }
        }
        let mut sent: BTreeMap<String, Value> = if documented.get("json").is_some() {
            serde_json::from_slice(body).map_err(|error| format!("no JSON: {error}"))?
        } else {
            let pairs: Vec<(String, String)> = form_urlencoded::parse(body).into_owned().collect();
            let all: BTreeMap<_, _> = pairs.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
            if all.len() != pairs.len() {
                return Err("a parameter comes twice".into());
            }
            all
        };
        let expected = documented.get("json").or(documented.get("form"));
        for (name, value) in expected.and_then(Value::as_object).into_iter().flatten() {
            let value = value.as_str().map_or_else(|| value.clone(), |text| json!(self.meant(text)));
            match sent.remove(name) {
                Some(there) if value == json!(self.refresh_token) => {
                    let there = there.as_str().unwrap_or_default().to_owned();
                    self.redeemed.push(there.clone());
                    if self.replaced.contains(&there) {
                        return Err("a refresh token that was replaced comes again".into());
                    }
                    if there != self.refresh_token {
                        return Err("a refresh token that was never issued".into());
                    }
                }
                Some(there) if there == value => {}
                Some(_) => return Err(format!("{name} is not as documented")),
                None => return Err(format!("{name} is missing")),
            }
        }
        match sent.keys().next() {
            Some(name) => Err(format!("{name} is not documented")),
            None => Ok(()),
        }
    }

    /// The documented reply, with tokens of its own.
    fn issue(&mut self) -> (u16, String) {
        let mut body = filled(self.reply["body"].as_str().unwrap_or_default());
        let access_token = random();
        body = body.replace(
            &format!("\"{}\"", self.reply["expect"]["accessToken"].as_str().unwrap_or_default()),
            &format!("\"{access_token}\""),
        );
        self.issued.push(access_token);
        if let Some(documented) = self.reply["expect"]["refreshToken"].as_str() {
            let next = random();
            body = body.replace(&format!("\"{documented}\""), &format!("\"{next}\""));
            self.replaced.insert(std::mem::replace(&mut self.refresh_token, next));
        }
        let status = self.reply["status"].as_u64().and_then(|status| u16::try_from(status).ok());
        (status.unwrap_or(200), body)
    }
}

/// `${epoch+3600}` and its kin, from now.
fn filled(body: &str) -> String {
    let mut parts = body.split("${");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let (moment, rest) = part.split_once('}').expect("a placeholder ends");
        let (form, seconds) = moment.split_once('+').expect("a form and seconds");
        let at = Timestamp::now() + SignedDuration::from_secs(seconds.parse().expect("seconds"));
        let at = Timestamp::from_second(at.as_second()).expect("a moment");
        let moment = match form {
            "epoch" => at.as_second().to_string(),
            "epochms" => at.as_millisecond().to_string(),
            "iso" => at.to_string(),
            other => panic!("{other} is no form of a moment"),
        };
        text + &moment + rest
    })
}

impl Documented {
    pub async fn start() -> Result<Self> {
        let desks: Arc<Mutex<BTreeMap<String, Desk>>> = Arc::default();
        let kept = desks.clone();
        let (address, ca) = serve("testbed documents", move |request| answer(request, kept.clone())).await?;
        Ok(Self { url: format!("https://{address}"), ca, desks })
    }

    /// Opens the desk of a preset's provider: its token endpoint, at the path that is documented beneath the preset's name.
    pub fn open(&self, preset: &str, desk: Desk) -> Result<String> {
        let documented: Url = desk.request["url"].as_str().ok_or("no url")?.parse()?;
        self.desks.lock().expect("nobody panics while holding it").insert(preset.to_owned(), desk);
        Ok(format!("{}/{preset}{}", self.url, documented.path()))
    }

    /// What became of it so far.
    pub fn desk(&self, preset: &str) -> Result<Desk> {
        let desk = self.desks.lock().expect("nobody panics while holding it").get(preset).cloned();
        Ok(desk.ok_or_else(|| format!("no desk for {preset}"))?)
    }
}

type Answer = std::result::Result<Response<Full<Bytes>>, Infallible>;

async fn answer(request: Request<Incoming>, desks: Arc<Mutex<BTreeMap<String, Desk>>>) -> Answer {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let (preset, path) = head.uri.path().trim_start_matches('/').split_once('/').unwrap_or_default();
    let mut desks = desks.lock().expect("nobody panics while holding it");
    let (status, body) = match desks.get_mut(preset) {
        None => (404, "there is no such provider".to_owned()),
        Some(desk) => {
            let documented = desk.request["url"].as_str().and_then(|url| url.parse::<Url>().ok());
            let judged = if documented.is_some_and(|url| url.path() == format!("/{path}")) && head.uri.query().is_none() {
                desk.judge(&head, &body)
            } else {
                Err(format!("{} is not the documented path", head.uri))
            };
            match judged {
                Ok(()) => desk.issue(),
                Err(complaint) => {
                    desk.complaints.push(complaint.clone());
                    (400, json!({"error": "invalid_request", "error_description": complaint}).to_string())
                }
            }
        }
    };
    let response = Response::builder().status(status).header("content-type", "application/json");
    Ok(response.body(Full::new(body.into())).expect("a response"))
}
