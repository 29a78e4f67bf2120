//! WHAT THE PROTOCOL SAYS: requests, replies, lifetimes and error classes of RFC 6749 and its family. Pure: bytes in,
//! judgements out; no socket and no clock.

mod discovery;
mod expiry;
mod fault;
mod outbound;
mod sensitive;
mod token_reply;
mod token_request;

pub use discovery::{Metadata, metadata_urls, read_metadata};
pub use expiry::{Expiry, LONGEST_LIFETIME};
pub use fault::{Fault, FaultKind, retry_after};
pub use outbound::{OutboundPolicy, REFUSED, host_and_port};
pub(crate) use sensitive::hex;
pub use sensitive::{Sensitive, exposed};
pub use token_reply::{Ending, Reply, Token, judge, successor};
pub use token_request::{ClientAuthentication, GrantRequest, TokenRequest};
