//! Randomness that nobody can guess.

use ring::rand::{SecureRandom, SystemRandom};

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
