//! What of a stack stays in memory: the newest. Knows lengths and how many bytes
//! there are; does not know when anything is written or read.

use crate::types::ExtentId;
use std::collections::VecDeque;

/// A stack whose newest extents stay in a memory of so many bytes; the oldest are
/// spilled, and only when room is wanted. What is popped is the newest, so this is
/// what is used again soonest, without knowing how much will be pushed: no order
/// writes fewer bytes where all extents have one length.
#[derive(Clone, Debug, Default)]
pub struct SpillOrder {
    capacity: u64,
    used: u64,
    /// The oldest first.
    spilled: Vec<(ExtentId, u64)>,
    kept: VecDeque<(ExtentId, u64)>,
}

impl SpillOrder {
    /// An empty stack with `capacity` bytes of memory.
    pub fn new(capacity: u64) -> Self {
        Self {
            capacity,
            ..Self::default()
        }
    }

    /// Pushes an extent of `len` bytes; returns what has to be written for it, the
    /// oldest first: at last itself, if it does not fit at all.
    pub fn push(&mut self, extent: ExtentId, len: u64) -> Vec<ExtentId> {
        self.kept.push_back((extent, len));
        self.used += len;
        let first = self.spilled.len();
        while self.used > self.capacity
            && let Some(oldest) = self.kept.pop_front()
        {
            self.used -= oldest.1;
            self.spilled.push(oldest);
        }
        self.spilled[first..]
            .iter()
            .map(|(extent, _)| *extent)
            .collect()
    }

    /// Pops the newest extent and tells whether it is in memory; else it has to be
    /// read.
    pub fn pop(&mut self) -> Option<(ExtentId, bool)> {
        if let Some((extent, len)) = self.kept.pop_back() {
            self.used -= len;
            return Some((extent, true));
        }
        let (extent, _) = self.spilled.pop()?;
        Some((extent, false))
    }

    /// Bytes that are in memory; never more than the capacity.
    pub fn used(&self) -> u64 {
        self.used
    }
}
