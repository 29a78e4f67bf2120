//! Logs and metrics: every name that an operator of clusters may search for stands here.

pub mod catalogue;
pub mod logs;
pub mod metrics;
pub mod panics;
#[cfg(feature = "proxy")]
pub mod proxy_metrics;
