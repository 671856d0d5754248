//! The window: where each extent's bytes are in memory, and when they may be
//! overwritten. It does not know why an extent is needed or how it is read.

use std::collections::VecDeque;
use std::ops::{Index, IndexMut};

use delayline_plan::{ExtentId, Mode};

use crate::flights::Failure;

/// Index of a [`Load`] in [`Loads`].
pub(crate) type Key = u32;

/// The state of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Not acquired yet.
    Ahead,
    /// Leased to the compute.
    Leased,
    /// Changed and to be written: the only copy of its bytes.
    Dirty,
    /// Not needed: free once no operation is under way on it.
    Done,
}

/// One extent in memory, or being read or written.
#[derive(Debug)]
pub(crate) struct Load {
    pub extent: ExtentId,
    pub mode: Mode,
    /// Sequence number of its entry in the future (streamed extents).
    pub seq: u64,
    /// First byte as a window position, which grows without limit (streamed extents).
    pub pos: u64,
    /// First byte in memory.
    pub at: u64,
    /// Bytes reserved.
    pub len: u64,
    /// Bytes, from the start, for which operations were launched: reads, or writes
    /// once it is dirty.
    pub issued: u64,
    /// Bytes not yet in memory; once it is dirty, not yet written.
    pub missing: u64,
    /// Bytes read; fewer than `len` where the file ends. Once it is dirty, bytes
    /// written.
    pub landed: u64,
    /// Number of operations under way or to be retried.
    pub under_way: u32,
    pub phase: Phase,
    /// It changed while it was being written, and has to be written again.
    pub changed_again: bool,
    pub failure: Option<Box<Failure>>,
}

impl Load {
    pub(crate) fn new(extent: ExtentId, seq: u64, pos: u64, at: u64, len: u64) -> Self {
        Self {
            extent,
            mode: Mode::Read,
            seq,
            pos,
            at,
            len,
            issued: 0,
            missing: len,
            landed: 0,
            under_way: 0,
            phase: Phase::Ahead,
            changed_again: false,
            failure: None,
        }
    }

    /// Makes it dirty, to be written from its start.
    pub(crate) fn soil(&mut self) {
        self.phase = Phase::Dirty;
        (self.issued, self.missing, self.landed) = (0, self.len, 0);
    }

    /// The window position after its last byte.
    pub(crate) fn end(&self) -> u64 {
        self.pos + self.len
    }

    /// Whether no further operation will be launched for it.
    pub(crate) fn all_issued(&self) -> bool {
        self.issued == self.len || self.failure.is_some()
    }

    /// Whether it is complete, or failed with no operation under way.
    pub(crate) fn settled(&self) -> bool {
        self.missing == 0 || (self.failure.is_some() && self.under_way == 0)
    }

    fn free(&self) -> bool {
        self.phase == Phase::Done && self.under_way == 0
    }
}

/// All loads, by key; freed keys are reused.
#[derive(Debug, Default)]
pub(crate) struct Loads {
    all: Vec<Load>,
    free: Vec<Key>,
}

impl Loads {
    pub(crate) fn add(&mut self, load: Load) -> Key {
        if let Some(key) = self.free.pop() {
            self[key] = load;
            return key;
        }
        self.all.push(load);
        (self.all.len() - 1) as Key
    }

    pub(crate) fn remove(&mut self, key: Key) {
        debug_assert_eq!(self[key].under_way, 0);
        self.free.push(key);
    }
}

impl Index<Key> for Loads {
    type Output = Load;
    fn index(&self, key: Key) -> &Load {
        &self.all[key as usize]
    }
}

impl IndexMut<Key> for Loads {
    fn index_mut(&mut self, key: Key) -> &mut Load {
        &mut self.all[key as usize]
    }
}

/// The ring of bytes `[0, len)`. Window positions grow without limit: position `p` is
/// byte `p % len`. Loads lie in it in the order in which they were placed;
/// room becomes free at both ends, never in the middle.
#[derive(Debug)]
pub(crate) struct Window {
    len: u64,
    order: VecDeque<Key>,
}

impl Window {
    pub(crate) fn new(len: u64) -> Self {
        Self {
            len,
            order: VecDeque::new(),
        }
    }

    /// Bytes between the first and the last byte in use, gaps included.
    pub(crate) fn fill(&self, loads: &Loads) -> u64 {
        match (self.order.front(), self.order.back()) {
            (Some(&front), Some(&back)) => (loads[back].end() - loads[front].pos).min(self.len),
            _ => 0,
        }
    }

    /// Bytes read of loads that are not acquired yet.
    pub(crate) fn ahead(&self, loads: &Loads) -> u64 {
        let loads = self.order.iter().map(|&key| &loads[key]);
        let ahead = loads.filter(|load| load.phase == Phase::Ahead);
        ahead.map(|load| load.landed).sum()
    }

    /// Whether the positions below `end` can be used without overwriting a load.
    pub(crate) fn reaches(&self, loads: &Loads, end: u64) -> bool {
        self.order
            .front()
            .is_none_or(|&front| end <= loads[front].pos + self.len)
    }

    /// The position of `len` bytes placed after `head`: an extent is contiguous in
    /// memory, so one that would straddle the ring's end moves up to the next start.
    fn after(&self, head: u64, len: u64) -> u64 {
        if head % self.len + len <= self.len {
            head
        } else {
            head.next_multiple_of(self.len)
        }
    }

    /// The position of the next load of `len` bytes.
    pub(crate) fn next_pos(&self, loads: &Loads, len: u64) -> u64 {
        let head = self.order.back().map_or(0, |&back| loads[back].end());
        self.after(head, len)
    }

    /// Memory position of window position `pos`.
    pub(crate) fn memory(&self, pos: u64) -> u64 {
        pos % self.len
    }

    /// Adds a load placed at [`Window::next_pos`].
    pub(crate) fn push(&mut self, key: Key) {
        self.order.push_back(key);
    }

    /// Removes loads that are free at either end.
    pub(crate) fn trim(&mut self, loads: &mut Loads) {
        while let Some(&key) = self.order.front() {
            if !loads[key].free() {
                break;
            }
            self.order.pop_front();
            loads.remove(key);
        }
        while let Some(&key) = self.order.back() {
            if !loads[key].free() {
                break;
            }
            self.order.pop_back();
            loads.remove(key);
        }
    }

    /// How an extent of `len` bytes that an acquire waits for finds room; `own` is its
    /// load, if it is placed already. Leases cannot move. They come before all loads that
    /// are ahead, because loads are leased in the order in which they were placed.
    pub(crate) fn room(&self, loads: &Loads, own: Option<Key>, len: u64) -> Room {
        let mut leased = self
            .order
            .iter()
            .map(|&key| &loads[key])
            .take_while(|load| load.phase != Phase::Ahead)
            .filter(|load| load.phase == Phase::Leased);
        // Loads that are done become free: the first lease limits how far the window
        // reaches, and the free part begins after the last.
        let Some(first) = leased.next() else {
            return Room::Made;
        };
        let limit = first.pos + self.len;
        if own.is_some_and(|key| loads[key].end() <= limit) {
            return Room::Made;
        }
        let last = leased.last().unwrap_or(first);
        if self.after(last.end(), len) + len <= limit {
            Room::BehindLeases
        } else {
            Room::Never
        }
    }

    /// Whether the last load is leased.
    pub(crate) fn ends_leased(&self, loads: &Loads) -> bool {
        let last = self.order.back();
        last.is_some_and(|&key| loads[key].phase == Phase::Leased)
    }

    /// Number of loads in it.
    pub(crate) fn count(&self) -> usize {
        self.order.len()
    }

    /// The load at an index in the order.
    pub(crate) fn key(&self, place: usize) -> Key {
        self.order[place]
    }
}

/// Whether and how an extent that an acquire waits for finds room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// Once reads under way are over.
    Made,
    /// Once all loads that are ahead are dropped, its own included.
    BehindLeases,
    /// Not before a lease is released.
    Never,
}
