//! The two parts of the tests' testbed that this benchmark stands on; the whole of it would bring a control plane along.
#![allow(dead_code, reason = "the tests use the rest")]
#![allow(clippy::expect_used, reason = "a testbed that cannot go on stops and says where")]

#[path = "../../tests/testbed/certificates.rs"]
pub mod certificates;
#[path = "../../tests/testbed/process.rs"]
pub mod process;

/// What a benchmark does with its own mistakes and those of the machine: it stops and says so.
pub type Result<T> = std::result::Result<T, Error>;
/// Any mistake.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// The folder of the checkout.
pub fn root() -> std::path::PathBuf {
    std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
