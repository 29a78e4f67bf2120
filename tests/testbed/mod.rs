//! The real parts that tests, demo and bench stand on: a Kubernetes control plane, an authorization server, the operator, the
//! proxy, Prometheus, nginx, curl, SDKs. Each is a process of its own that ends with its caller, however that ends.
#![allow(dead_code, reason = "tests, demo and bench each use their part")]
#![allow(clippy::disallowed_macros, clippy::disallowed_methods, reason = "it speaks to whoever runs the tests")]
#![allow(clippy::expect_used, reason = "a testbed that cannot go on stops and says where")]

pub mod app_pod;
pub mod asking_program;
pub mod authorization_server;
pub mod aws;
pub mod browser;
pub mod canary;
pub mod certificates;
pub mod client;
pub mod cluster;
pub mod coze;
pub mod coze_platform;
pub mod curl;
pub mod documented;
pub mod dpop;
pub mod faulty_endpoint;
pub mod gate;
pub mod github;
pub mod helm;
pub mod introspection;
pub mod keys;
pub mod kubectl;
pub mod mortal_client;
pub mod name_server;
pub mod namespaces;
pub mod nginx;
pub mod node;
pub mod node_images;
pub mod operator;
pub mod pages;
pub mod process;
pub mod prometheus;
pub mod proxy;
pub mod raw_upstream;
pub mod received;
pub mod refresh_endpoint;
pub mod relay;
pub mod resource_server;
pub mod sdk;
pub mod step_server;
pub mod story;
pub mod tls_server;
pub mod token_volume;
pub mod vendor;
pub mod wire;
pub mod workflows;

/// What the testbed does with its own mistakes and those of the machine: it stops and says so.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The folder of the checkout.
pub fn root() -> std::path::PathBuf {
    std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
