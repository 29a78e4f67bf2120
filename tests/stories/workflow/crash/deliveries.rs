//! One run for each way to deliver a step, and what each must have come to after a crash.

use super::Scene;
use crate::testbed::Result;
use crate::testbed::workflows::{said, step};
use oauth_operator::api::{Phase, RunReason};
use serde_json::{Value, json};

/// How a step is delivered; the name of its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    AtMostOnce,
    AtLeastOnce,
    Get,
    Verify,
}

impl Delivery {
    pub const ALL: [Self; 4] = [Self::AtMostOnce, Self::AtLeastOnce, Self::Get, Self::Verify];

    pub const fn run(self) -> &'static str {
        match self {
            Self::AtMostOnce => "at-most-once",
            Self::AtLeastOnce => "at-least-once",
            Self::Get => "get",
            Self::Verify => "verify",
        }
    }

    /// Where its requests go.
    pub const fn path(self) -> &'static str {
        match self {
            Self::AtMostOnce => "/once/at-most-once",
            Self::AtLeastOnce => "/once/at-least-once",
            Self::Get => "/open/get",
            Self::Verify => "/once/verify",
        }
    }

    /// What says how it is delivered; nothing where the method says it.
    fn patch(self, scene: &Scene) -> Value {
        let api = &scene.workflows.api;
        let verify = json!({
            "url": format!("{}/verify/verify", api.url), "caBundleRef": {"name": "api-ca"}, "successWhen": "response.body.done",
        });
        let method = if self == Self::Get { "GET" } else { "POST" };
        let mut patch = json!({"http": {"method": method, "accountRef": {"name": "api"}}});
        match self {
            Self::AtMostOnce | Self::Get => {}
            Self::AtLeastOnce => patch["delivery"] = json!("AtLeastOnce"),
            Self::Verify => (patch["delivery"], patch["verify"]) = (json!("Verify"), verify),
        }
        patch
    }
}

/// How often requests came.
#[derive(Clone, Copy, Debug)]
pub struct Counted {
    /// Of the step that is sent at most once; none where that it was not known whether it was.
    pub at_most_once: (Phase, usize),
    /// Of those that may be repeated.
    pub repeated: usize,
    /// How often was asked whether the one with `verify` was carried out.
    pub verified: usize,
}

impl Scene {
    /// Begins a run for each delivery.
    pub fn deliver(&self) -> Result<()> {
        for delivery in Delivery::ALL {
            let step = self.workflows.step("a", delivery.path(), &delivery.patch(self));
            self.workflows.run(delivery.run(), &json!({"workflowSpec": {"steps": [step]}}))?;
        }
        Ok(())
    }

    /// Waits until each step is Running, as far as anybody can see.
    pub async fn until_announced(&self) -> Result<()> {
        for delivery in Delivery::ALL {
            self.workflows.until(delivery.run(), |status| status.phase == Phase::Running).await?;
        }
        Ok(())
    }

    /// Waits until each has ended, and counts.
    pub async fn until_delivered(&self, counted: Counted) -> Result<()> {
        let (phase, times) = counted.at_most_once;
        let status = self.workflows.until_ended(Delivery::AtMostOnce.run(), phase).await?;
        if phase == Phase::Failed {
            assert_eq!(step(&status, "a").reason, Some(RunReason::OutcomeUnknown));
            let (reason, message) = said(&status);
            assert_eq!(reason, "OutcomeUnknown");
            assert!(message.starts_with("Step a: ") && message.contains("AtMostOnce"), "{message}");
        }
        assert_eq!(self.keys(Delivery::AtMostOnce.path()).len(), times, "sent at most once");
        for delivery in [Delivery::AtLeastOnce, Delivery::Get] {
            let status = self.workflows.until_ended(delivery.run(), Phase::Completed).await?;
            let key = step(&status, "a").idempotency_key.clone().ok_or("no key")?;
            assert_eq!(self.keys(delivery.path()), vec![key; counted.repeated], "{delivery:?}");
        }
        self.workflows.until_ended(Delivery::Verify.run(), Phase::Completed).await?;
        assert_eq!(self.keys(Delivery::Verify.path()).len(), 1, "carried out exactly once");
        assert_eq!(self.keys("/verify").len(), counted.verified, "asked whether it was carried out");
        Ok(())
    }
}
