//! Randomness that nobody can guess.

use crate::oauth::hex;
use ring::rand::{SecureRandom, SystemRandom};

/// What one request is called in the audit log: 16 hex digits.
pub fn request_id() -> String {
    hex(&bytes::<8>())
}

/// So many random bytes.
///
/// # Panics
/// Where the kernel has none to give: nothing may be done then that relies on them.
#[expect(clippy::expect_used, reason = "to go on without randomness would be worse")]
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).expect("the kernel's source of randomness");
    bytes
}
