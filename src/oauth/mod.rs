//! WHAT THE PROTOCOL SAYS: requests, replies, lifetimes and error classes of RFC 6749 and its family. Pure: bytes in,
//! judgements out; no socket and no clock.

mod assertion;
mod device;
mod dialect;
mod discovery;
mod dpop;
mod expiry;
mod fault;
mod introspection;
mod outbound;
mod preset;
mod resource_request;
mod sensitive;
mod token_reply;
mod token_request;

pub use assertion::SigningKey;
#[cfg(test)]
pub(crate) use assertion::tests as assertion_tests;
pub use device::{DeviceAuthorization, RegisteredClient, read_device_authorization, read_pushed, read_registration};
pub use dialect::Dialect;
pub use discovery::{Endpoint, Endpoints, metadata_urls, read_metadata};
pub use dpop::{DPOP, DPoPKey, is_bound, told_nonce, wanted_nonce};
#[cfg(feature = "operator")]
pub(crate) use expiry::claims;
pub use expiry::{Expiry, LONGEST_LIFETIME};
pub use fault::{Fault, FaultKind, retry_after};
pub use introspection::{Introspection, read_introspection};
pub use outbound::{OutboundPolicy, REFUSED, TlsSettings, host_and_port, host_matches};
pub use preset::{Preset, knobs, names as preset_names, preset};
pub use resource_request::resource_request;
pub(crate) use sensitive::hex;
pub use sensitive::{Sensitive, exposed, exposed_option};
pub use token_reply::{Ending, Reply, Token, judge, successor};
pub use token_request::{Assertion, ClientAuthentication, GrantRequest, Moment, TokenRequest};
