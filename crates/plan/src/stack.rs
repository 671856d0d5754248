//! Which extents of a stack stay in memory: the newest. Knows lengths and the
//! capacity; does not know when anything is written or read.

use crate::types::ExtentId;
use std::collections::VecDeque;

/// A stack whose newest extents stay in a memory of limited size. The oldest are
/// spilled, only when room is needed. The newest are popped first, so those used
/// again soonest stay, and the final height need not be known. If all extents have
/// one length, no other order writes fewer bytes.
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

    /// Pushes an extent of `len` bytes. Returns the extents to spill for it, the
    /// oldest first; the last of them is the new one itself if it does not fit at all.
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

    /// Pops the newest extent. The flag says whether it is in memory; if not, it has
    /// to be read.
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
