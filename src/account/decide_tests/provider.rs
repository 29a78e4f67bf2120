//! A provider that rotates refresh tokens strictly: each is good once, and one that comes again ends the login.

use crate::oauth::{Ending, Fault, FaultKind, Reply};
use serde_json::json;

/// What becomes of the next POST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is answered.
    Answered,
    /// No connection stands.
    NotConnected,
    /// It is lost before the provider sees it.
    RequestLost,
    /// The provider sees it, and its answer is lost.
    ReplyLost,
    /// The provider answers so, without looking at it.
    Status(u16),
}

/// A login with the provider.
pub struct Provider {
    /// The refresh token that is good; none: the login is over.
    pub live: Option<String>,
    /// Whether a refresh replaces the refresh token.
    pub rotates: bool,
    /// Every refresh token that was seen, in order.
    pub seen: Vec<String>,
    /// Refresh tokens of this login that are spent.
    spent: Vec<String>,
    /// Refresh tokens issued so far.
    issued: u64,
    /// How often a spent one came.
    pub reused: u64,
    /// What becomes of the next POST.
    pub fate: Fate,
    /// Whether it binds tokens to keys (RFC 9449).
    pub binds: bool,
    /// Thumbprint of the key that the POST under way proves.
    pub proof: Option<String>,
    /// Thumbprint of the key that the refresh token is bound to.
    pub bound: Option<String>,
    /// How often the refresh token came without that key.
    pub unproven: u64,
    /// Fields added to the next reply, or taken away by null.
    pub reply: serde_json::Value,
    /// How long access tokens live.
    pub lifetime: i64,
}

impl Provider {
    pub fn new() -> Self {
        Self {
            live: Some("r1".into()),
            rotates: true,
            seen: vec![],
            spent: vec![],
            issued: 1,
            reused: 0,
            fate: Fate::Answered,
            binds: true,
            proof: None,
            bound: None,
            unproven: 0,
            reply: json!({}),
            lifetime: 3600,
        }
    }

    /// A person logs in anew: a refresh token that nobody has seen.
    pub fn log_in(&mut self) -> String {
        self.spent.clear();
        self.bound = None;
        self.issue()
    }

    fn issue(&mut self) -> String {
        self.issued += 1;
        let token = format!("r{}", self.issued);
        self.live = Some(token.clone());
        token
    }

    /// One POST of a refresh token.
    pub fn post(&mut self, refresh_token: &str) -> Ending {
        let broken = || Fault::new(FaultKind::NotConnected, "The exchange broke off.");
        match self.fate {
            Fate::NotConnected => return Ending::NotSent(broken()),
            Fate::RequestLost => return Ending::Lost(broken()),
            Fate::Status(status) => return Ending::Replied(Reply { status, retry_after: None, dpop_nonce: None, body: vec![] }),
            Fate::Answered | Fate::ReplyLost => {}
        }
        let reply = self.answer(refresh_token);
        if self.fate == Fate::ReplyLost { Ending::Lost(broken()) } else { Ending::Replied(reply) }
    }

    fn answer(&mut self, refresh_token: &str) -> Reply {
        self.seen.push(refresh_token.to_owned());
        let live = self.live.as_deref() == Some(refresh_token);
        let proven = self.bound.is_none() || self.bound == self.proof;
        self.unproven += u64::from(live && !proven);
        if !live || !proven {
            // Reuse detection: whoever sends a spent one may have stolen it.
            if self.spent.iter().any(|spent| spent == refresh_token) {
                self.live = None;
                self.reused += 1;
            }
            let body = json!({"error": "invalid_grant", "error_description": "unknown or spent"}).to_string();
            return Reply { status: 400, retry_after: None, dpop_nonce: None, body: body.into_bytes() };
        }
        let access_token = format!("access-{}", self.seen.len());
        let bound = self.binds && self.proof.is_some();
        let token_type = if bound { "DPoP" } else { "Bearer" };
        let mut body = json!({"access_token": access_token, "token_type": token_type, "expires_in": self.lifetime});
        self.bound = self.proof.clone().filter(|_| bound && self.rotates);
        if self.rotates {
            self.spent.push(refresh_token.to_owned());
            body["refresh_token"] = json!(self.issue());
        }
        for (key, value) in self.reply.as_object().into_iter().flatten() {
            match value {
                serde_json::Value::Null => drop(body.as_object_mut().unwrap().remove(key)),
                value => body[key] = value.clone(),
            }
        }
        Reply { status: 200, retry_after: None, dpop_nonce: None, body: body.to_string().into_bytes() }
    }
}
