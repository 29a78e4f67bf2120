//! Memory that answers are read into. It is a worker's and is lent to one connection after the other, the one last given back first:
//! what was just written to an app is still in the core's cache when the next answer is read over it.

use bytes::{Bytes, BytesMut};
use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

/// Bytes that a read asks for, at least; and how often that is doubled at most. It grows while reads are filled.
const LEAST: usize = 8 * 1024;
const DOUBLED: usize = 6;
/// Small reads in a row after which the next asks for less.
const SMALL: u8 = 8;
/// The size of a buffer that has more memory than its reads ask for: a head that came in pieces stands in it.
const OUTGROWN: usize = usize::MAX;
/// Buffers of one size that a worker keeps.
const KEPT: usize = 4;

thread_local! {
    /// By how often their size was doubled: who reads little is lent little, which stays so however long an app leaves it unread.
    static FREE: RefCell<[Vec<BytesMut>; DOUBLED + 1]> = const { RefCell::new([const { Vec::new() }; DOUBLED + 1]) };
}

/// What a connection has read and not used up.
#[derive(Default)]
pub struct Buffer {
    bytes: BytesMut,
    /// How often the size of its memory was doubled, where it has some.
    lent: Option<usize>,
    /// How often that of the next read is to be.
    doubled: usize,
    /// Small reads in a row.
    small: u8,
}

impl Buffer {
    /// Makes room for the next read: so many bytes. What stood there before has been written in most cases, and its memory serves
    /// again.
    pub fn make_room(&mut self) -> usize {
        if self.lent.is_none() {
            self.bytes = FREE.with_borrow_mut(|free| free[self.doubled].pop()).unwrap_or_default();
            self.lent = Some(self.doubled);
        }
        let size = LEAST << self.doubled;
        self.bytes.reserve(size);
        if self.bytes.capacity() > 2 * size {
            self.lent = Some(OUTGROWN);
        }
        self.bytes.capacity() - self.bytes.len()
    }

    /// A read brought so many bytes where there was room for so many.
    pub fn filled(&mut self, count: usize, room: usize) {
        if count == room {
            (self.doubled, self.small) = ((self.doubled + 1).min(DOUBLED), 0);
        } else if count < (LEAST << self.doubled) / 4 {
            self.small += 1;
            if self.small >= SMALL {
                (self.doubled, self.small) = (self.doubled.saturating_sub(1), 0);
            }
        } else {
            self.small = 0;
        }
    }

    /// Gives back the memory that nothing stands in.
    pub fn rest(&mut self) {
        if let Some(doubled) = self.lent.filter(|_| self.bytes.is_empty()) {
            let (bytes, _) = (std::mem::take(&mut self.bytes), self.lent.take());
            // It may have grown since, or its reads have: it is kept among those of its size, or not at all.
            if doubled == self.doubled {
                FREE.with_borrow_mut(|free| {
                    if free[doubled].len() < KEPT {
                        free[doubled].push(bytes);
                    }
                });
            }
        }
    }

    /// What it holds.
    pub fn into_bytes(self) -> Bytes {
        self.bytes.freeze()
    }
}

impl Deref for Buffer {
    type Target = BytesMut;

    fn deref(&self) -> &BytesMut {
        &self.bytes
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BufMut;

    fn read(buffer: &mut Buffer, count: usize) -> usize {
        let room = buffer.make_room();
        buffer.put_bytes(b'x', count);
        buffer.filled(count, room);
        room
    }

    /// One whose reads were filled again and again.
    fn full_ten_times() -> Buffer {
        let mut buffer = Buffer::default();
        for _ in 0..10 {
            let room = buffer.make_room();
            read(&mut buffer, room);
            buffer.clear();
            buffer.rest();
        }
        buffer
    }

    #[test]
    fn what_is_given_back_last_is_lent_first() {
        let (mut one, mut other) = (Buffer::default(), Buffer::default());
        read(&mut one, 100);
        let memory = one.as_ptr();
        let passed = one.split().freeze();
        one.rest();
        drop(passed);
        // The allocator would give it to whoever asks next.
        let _somebody = vec![0_u8; LEAST];
        read(&mut other, 100);
        assert_eq!(other.as_ptr(), memory);
    }

    #[test]
    fn what_is_not_used_up_stays() {
        let mut buffer = Buffer::default();
        read(&mut buffer, 100);
        buffer.rest();
        assert_eq!(buffer.len(), 100);
        assert_eq!(buffer.into_bytes(), [b'x'; 100].as_slice());
    }

    #[test]
    fn reads_grow_while_they_are_filled_and_shrink_when_little_comes() {
        let mut buffer = full_ten_times();
        assert_eq!(buffer.make_room(), 512 * 1024);
        for _ in 0..6 * usize::from(SMALL) {
            read(&mut buffer, 10);
            buffer.clear();
            buffer.rest();
        }
        assert_eq!(buffer.make_room(), 8 * 1024);
    }

    #[test]
    fn a_worker_keeps_few() {
        let mut buffers: Vec<Buffer> = (0..10).map(|_| Buffer::default()).collect();
        buffers.iter_mut().for_each(|buffer| {
            read(buffer, 1);
        });
        buffers.iter_mut().for_each(|buffer| {
            buffer.clear();
            buffer.rest();
        });
        assert_eq!(FREE.with_borrow(|free| free.iter().map(Vec::len).sum::<usize>()), KEPT);
    }

    #[test]
    fn what_came_in_many_pieces_before_it_could_be_used_is_lent_to_nobody() {
        let mut buffer = Buffer::default();
        for _ in 0..1000 {
            read(&mut buffer, 100);
        }
        assert!(buffer.capacity() >= 100_000);
        buffer.clear();
        buffer.rest();
        // Its address says nothing: the allocator may give what was just freed to whoever asks next.
        assert_eq!(Buffer::default().make_room(), LEAST);
    }

    /// A slow app pins what it was sent, which must not be a large buffer for a few bytes because others read much.
    #[test]
    fn who_reads_little_is_lent_little() {
        full_ten_times();
        assert_eq!(Buffer::default().make_room(), 8 * 1024);
    }
}
