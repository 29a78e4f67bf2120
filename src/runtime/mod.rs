//! THE LOOP: watches fill caches and wake accounts, the leader reconciles them, probes and metrics tell how it goes.

mod controller;
mod leadership;
mod operator;
mod references;
mod server;
mod settings;
mod watches;

pub use operator::run;
pub use settings::Settings;

/// Accounts that may be reconciled at once. Most of them wait: for their provider at its gate, or for the API server.
pub const CONCURRENT_RECONCILES: u16 = 1024;
