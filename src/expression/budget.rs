//! What one evaluation may cost.

/// Units of work of one evaluation. Each takes some 15 ns of one core, and none more than 45 ns: at most 180 ms.
pub(super) const MOST_WORK: u64 = 4_000_000;
/// Bytes of a result, and of anything on the way to it.
pub(super) const LARGEST: u64 = 8 * 1024 * 1024;

/// Why an expression is not evaluated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Excess {
    Work,
    Size,
}

/// What one evaluation may still cost.
#[derive(Debug)]
pub(super) struct Budget {
    pub(super) work: u64,
    pub(super) size: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self { work: MOST_WORK, size: LARGEST }
    }
}

impl Budget {
    pub(super) fn spend(&mut self, work: u64) -> Result<(), Excess> {
        self.work = self.work.checked_sub(work).ok_or(Excess::Work)?;
        Ok(())
    }
}
