//! What can go wrong with a request, by kind.

use std::fmt;

/// Why a request does not count. The kinds are few, so that they can be counted; `Status` has one for each code, and for
/// each `x-oauth-proxy-error` with which the proxy answers on its own behalf.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// No connection: refused, unreachable, or no TLS.
    Connect,
    /// A response with a status other than 2xx, and the proxy's code where it is the proxy's own.
    Status(u16, Option<String>),
    /// The connection ended before the response's head.
    NoResponse,
    /// The body ended before its proper end.
    CutBody,
    /// Not answered in time; of a stream: no event in time.
    Timeout,
    /// A numbered event came twice, or after a later one.
    EventOutOfOrder,
    /// A number is missing between two events.
    EventLost,
    /// Open loop: due before the end, and never sent, because its connection was too late.
    Unsent,
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect => formatter.write_str("connect"),
            Self::Status(code, None) => write!(formatter, "status {code}"),
            Self::Status(code, Some(own)) => write!(formatter, "status {code} {own}"),
            Self::NoResponse => formatter.write_str("no response"),
            Self::CutBody => formatter.write_str("cut body"),
            Self::Timeout => formatter.write_str("timeout"),
            Self::EventOutOfOrder => formatter.write_str("event out of order"),
            Self::EventLost => formatter.write_str("event lost"),
            Self::Unsent => formatter.write_str("unsent"),
        }
    }
}
