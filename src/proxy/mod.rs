//! The sidecar: an app's plain request goes on with a fresh credential.
//!
//! `routes` (or `settings`, in the simple case) say what goes where; a `table` of it is served at each address by a
//! `listener`. A request is given its `answer`: it finds its `way`, the `pool` says with which `account`'s `credential`, `forward` sends it
//! through an `upstream`, to which it is a `message` (and its `framing`) on an `http1` connection, `sending` until all is there, or a stream of HTTP/2, and `judge` says what is done then. Tokens come from a `volume` or the API server, and from the
//! operator by `refresh`.

mod account;
mod activity;
mod admin;
mod answer;
mod body;
mod breaker;
mod buffer;
mod clients;
mod clock;
mod credential;
mod fault;
mod forward;
pub(crate) mod framing;
pub(crate) mod head;
mod http1;
mod judge;
mod listener;
pub(crate) mod message;
mod open_work;
mod patience;
mod pool;
mod refresh;
mod request_id;
mod route_check;
pub(crate) mod routes;
mod run;
mod sending;
mod settings;
mod standing;
mod table;
mod tape;
mod tls;
mod tunnel;
mod upstream;
mod volume;
#[cfg(feature = "proxy-watch")]
mod watch;
mod way;

pub use run::run;
pub use settings::Settings;
