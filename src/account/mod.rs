//! ONE KIND, FOUR VERBS: what is seen of an account is `observe`d, what to do next is `decide`d, one step at a time it
//! is `act`ed on, and what came of it is `report`ed. Only `observe` and `act` touch the world.

#[cfg(feature = "operator")]
pub mod act;
mod backoff;
pub mod consent;
mod consent_secret;
#[cfg(feature = "operator")]
mod consent_steps;
mod credentials;
mod decide;
pub mod demand;
mod grant_plan;
pub mod health;
#[cfg(feature = "operator")]
mod inputs;
mod lifetime;
mod login;
mod login_faults;
mod login_seen;
#[cfg(feature = "operator")]
pub mod memory;
mod next;
mod notice;
#[cfg(feature = "operator")]
pub mod observe;
mod outcome;
mod plan;
mod policy;
mod provider_plan;
mod publication;
mod refresh;
mod report;
mod restart;
mod revocation;
mod schedule;
mod secret;
mod seen;
#[cfg(test)]
pub(crate) use seen::tests as seen_tests;
mod settle;
#[cfg(feature = "operator")]
mod spend;
mod state;
mod state_secret;
pub mod telling;
mod unknown;
#[cfg(test)]
mod wire_shapes;

pub use consent::{Deposit, Polled};
pub use consent_secret::{Consent, Phase, consent_id, consent_manifest, consent_of, consent_secret_name, deposit, version_of};
pub use credentials::{Credentials, GrantSecret, Inputs, readable, references_digest};
pub use decide::decide;
pub use grant_plan::GrantPlan;
#[cfg(feature = "operator")]
pub use inputs::{endpoints, read as read_inputs};
pub use login::{CredentialKind, DeviceSession, Login};
pub use login_seen::{Instance, Liveness, LoginSeen, Redemption, Settlement};
pub use next::Next;
pub use notice::{Notice, notices};
pub use outcome::Outcome;
pub use plan::{ClientIDFrom, Plan, Refusal, token_secret_name};
pub use policy::Policy;
pub use provider_plan::EndpointSource;
pub use publication::{Contents, Extra, Record, Template};
pub use refresh::unfinished;
pub use report::{grant, interim, provider, report};
pub use restart::{Restarted, annotation};
pub use revocation::requests as revocation_requests;
pub use schedule::fraction;
pub use secret::{is_controlled, manifest, patch, view};
pub use seen::{AttemptOutcome, Held, SecretMark, Seen, Stray, TokenSecretView};
#[cfg(feature = "operator")]
pub use spend::ReplyInHand;
pub use state::{Account, INTENT_LIFETIME, Intent, State};
pub use state_secret::{StateView, Version, state_manifest, state_secret_name, state_view};
