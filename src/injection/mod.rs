//! THE SIDECAR, PUT INTO PODS: what annotations of a Pod ask for (`asked`), what is added for it (`sidecar`), the Pod with it or a
//! refusal (`pod`, of which `seen` is looked at), the same for manifests (`manifests`, pure all of them), and the webhook that the API server shows new Pods
//! (`review`, pure, and `serve`). The webhook and `oauth-operator inject` run the same code.

mod asked;
pub mod manifests;
mod pod;
#[cfg(feature = "operator")]
pub mod review;
mod seen;
#[cfg(feature = "operator")]
pub mod serve;
mod sidecar;

pub use pod::{Injection, Outcome, Refusal, inject};
pub use sidecar::Sidecar;

/// Name of the sidecar's container.
pub const CONTAINER: &str = "oauth-proxy";
/// Port on which the sidecar takes the app's requests, where the Pod does not say.
const PORT: u16 = 15080;
/// Its probes and metrics.
const ADMIN_PORT: u16 = 15081;
/// Its log level and drain.
const CONTROL_PORT: u16 = 15082;
