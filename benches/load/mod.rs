//! A load generator for HTTP/1.1 and HTTP/2, plain and TLS: the engine of `examples/load.rs`, which people point at their own
//! deployment, and of `benches/proxy`, which points it at ours and at others.
//!
//! Closed loop: each connection sends its next request when the last one has ended; this finds the highest rate. Open loop:
//! requests are due at fixed moments, and latency counts from the moment a request was *due*, so that a stall is seen by all
//! the requests that it delayed, and not only by the one that met it (no coordinated omission). Streams: server-sent events
//! held open, each event checked for its place in the order.
//!
//! It checks what it gets: a response counts when its status is 2xx and its body has come to its proper end; everything else is
//! an error, by kind. Linux only, for its timers.
#![allow(dead_code, reason = "the example and the benchmark each use their part")]
#![allow(clippy::disallowed_methods, reason = "it reads the clock to tell how old an event is")]

pub mod alarm;
pub mod events;
pub mod failure;
pub mod job;
pub mod line;
pub mod report;
pub mod requests;
pub mod streams;
pub mod tally;
pub mod target;
