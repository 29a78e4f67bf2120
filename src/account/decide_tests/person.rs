//! A person who is to consent, and the pages on which they do.

use crate::account::seen::tests::at;
use crate::account::{Deposit, Intent, Login, Polled, State, Version};
use crate::api::Trigger;
use crate::oauth::{DeviceAuthorization, Fault, FaultKind, RegisteredClient, Sensitive};
use jiff::{SignedDuration, Timestamp};

/// What the person has said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Answer {
    #[default]
    None,
    Yes,
    No,
}

#[derive(Default)]
pub struct Person {
    /// What they have said to the device code that is open.
    pub answer: Answer,
    /// Where the consent pages are.
    pub pages: Option<&'static str>,
    /// What the pages have left.
    pub deposit: Option<Deposit>,
    /// When the device is polled next, as long as the process lives.
    pub polled: Option<Polled>,
    pub begun: u64,
    pub shown: u64,
    pub polls: u64,
    pub registrations: u64,
    /// Whether the provider gives out codes and clients.
    pub refuses: bool,
}

impl Person {
    /// The provider gives a code.
    pub fn begin(&mut self, now: Timestamp) -> Result<DeviceAuthorization, Fault> {
        if self.refuses {
            return Err(Fault::new(FaultKind::Unavailable, "The device authorization endpoint is away."));
        }
        self.begun += 1;
        self.answer = Answer::None;
        Ok(DeviceAuthorization {
            device_code: Sensitive::new(format!("device-{}", self.begun)),
            user_code: format!("CODE-{}", self.begun),
            verification_url: "https://login.example.com/enter".into(),
            verification_url_complete: None,
            expires: now + SignedDuration::from_secs(600),
            interval: 5,
        })
    }

    /// The provider registers a client.
    pub fn register(&mut self, now: Timestamp) -> Result<RegisteredClient, Fault> {
        self.registrations += 1;
        Ok(RegisteredClient {
            client_id: format!("client-{}", self.registrations),
            client_secret: Some(Sensitive::new("made")),
            expires: Some(now + SignedDuration::from_hours(24 * 90)),
        })
    }

    /// The pages leave a code.
    pub fn consent(&mut self, code: &str, until: i64) {
        self.deposit = Some(Deposit {
            version: Version { uid: "c".into(), resource_version: "1".into() },
            uid: "7d0c".into(),
            code: Sensitive::new(code),
            verifier: Some(Sensitive::new("verifier")),
            redirect_uri: "https://connect.example.com/callback".into(),
            at: at(until - 300),
            expires: at(until),
            login: Login { origin: "https://login.example.com".into(), client_id: "app".into() },
        });
    }

    /// What a poll that mattered is kept under.
    pub fn intent(&self, armed: &State, pass: u64, now: Timestamp) -> Intent {
        Intent {
            id: format!("poll-{pass}"),
            digest: armed.digest().unwrap(),
            started: now,
            deadline: now,
            holder: "operator-1".into(),
            trigger: Trigger::Consented,
            requested: None,
            journal_key: Sensitive::new(""),
        }
    }
}
