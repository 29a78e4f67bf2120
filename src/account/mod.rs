//! ONE KIND, FOUR VERBS: what is seen of an account is `observe`d, what to do next is `decide`d, one step at a time it
//! is `act`ed on, and what came of it is `report`ed. Only `observe` and `act` touch the world.

#[cfg(feature = "operator")]
pub mod act;
mod backoff;
mod decide;
#[cfg(feature = "operator")]
pub mod observe;
mod plan;
mod publication;
mod report;
mod schedule;
mod seen;

pub use decide::{Next, decide};
pub use plan::{EndpointSource, Plan};
pub use publication::{Contents, Record};
pub use report::{Notice, notices, report};
pub use schedule::renewal;
pub use seen::{
    AttemptOutcome, Credentials, Inputs, Outcome, Seen, SecretMark, TokenSecretView, readable, references_digest,
};
