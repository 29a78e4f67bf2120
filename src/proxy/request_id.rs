//! Names of requests that have none.

use http::HeaderValue;
use std::sync::atomic::{AtomicU64, Ordering};

/// Makes names: a random beginning of the process's own, and a number.
pub struct RequestIds {
    beginning: u64,
    number: AtomicU64,
}

impl Default for RequestIds {
    fn default() -> Self {
        Self { beginning: fastrand::u64(..), number: AtomicU64::new(0) }
    }
}

impl RequestIds {
    /// 32 hex digits, unlike any other.
    pub fn next(&self) -> HeaderValue {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let mut digits = [0; 32];
        for (place, half) in digits.chunks_exact_mut(16).zip([self.beginning, number]) {
            for (digit, byte) in place.chunks_exact_mut(2).zip(half.to_be_bytes()) {
                digit.copy_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
        }
        // Hex digits are a header's value.
        HeaderValue::from_bytes(&digits).unwrap_or_else(|_| HeaderValue::from_static("0"))
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_32_hex_digits_and_differ() {
        let ids = RequestIds { beginning: 0x0123_4567_89ab_cdef, number: AtomicU64::new(254) };
        assert_eq!(ids.next(), "0123456789abcdef00000000000000fe");
        assert_eq!(ids.next(), "0123456789abcdef00000000000000ff");
        assert_eq!(ids.next(), "0123456789abcdef0000000000000100");
        assert_ne!(RequestIds::default().beginning, RequestIds::default().beginning);
    }
}
