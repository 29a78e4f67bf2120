//! THE LOOP: watches fill caches and wake accounts, the leader reconciles them, probes and metrics tell how it goes.

mod account_cache;
mod account_gauges;
mod bundles;
pub mod command_line;
mod controller;
mod history;
mod injection;
mod leadership;
mod operator;
mod probe;
mod recovery;
mod references;
pub mod schedules;
mod server;
mod settings;
mod sweep;
mod tls_server;
mod told_watch;
mod watches;
mod workflow_runs;
mod workflow_watches;
mod workqueue;

pub use operator::run;
pub use probe::{NotReady, Probe, probe};
pub use settings::Settings;

/// Accounts of one scope that may be reconciled at once. Most of them wait, for their provider at its gate or for the API
/// server, which have limits of their own: so many that those of one dead provider do not take every place.
pub const CONCURRENT_RECONCILES: u16 = 16_384;
