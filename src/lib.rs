//! oauth-operator keeps OAuth access tokens fresh in Kubernetes Secrets.
//!
//! Users write [`api`]; [`oauth`] knows the protocol; for each kind we observe, decide, act and report ([`account`]); the
//! rest of the [`world`] is at arm's length; [`runtime`] keeps it turning, and [`telemetry`] tells how it goes.
//!
//! Each module may use only what stands before it here: `api`, `oauth`, `world`, `account`, `runtime`; `telemetry` is a
//! leaf that all may use. What decides is pure and builds without the feature `operator`, so that the compiler refuses a
//! socket, a client or a runtime in it.

pub mod account;
pub mod api;
pub mod oauth;
#[cfg(feature = "operator")]
pub mod runtime;
#[cfg(feature = "operator")]
pub mod telemetry;
#[cfg(feature = "operator")]
pub mod world;
