//! The window: where each extent's bytes lie, and when they may be overwritten.
//! It does not know why an extent is wanted, nor what a read is.

use std::collections::VecDeque;
use std::ops::{Index, IndexMut};

use delayline_plan::{ExtentId, Mode};

use crate::flights::Failure;

/// Name of a [`Load`] in [`Loads`].
pub(crate) type Key = u32;

/// What the bytes of a load are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Wanted by somebody who has not come yet.
    Ahead,
    /// In the compute's hands.
    Leased,
    /// Changed: its bytes are nowhere else until they are written.
    Dirty,
    /// Wanted by nobody: free once no operation is under way on it.
    Done,
}

/// One extent on its way into memory, or there.
#[derive(Debug)]
pub(crate) struct Load {
    pub extent: ExtentId,
    pub mode: Mode,
    /// Sequence number of the future's entry that it serves (streamed ones).
    pub seq: u64,
    /// First byte in the window's endless positions (streamed ones).
    pub pos: u64,
    /// First byte in memory.
    pub at: u64,
    /// Bytes reserved.
    pub len: u64,
    /// Bytes, from the start, for which operations have been launched: reads, or
    /// writes once it is dirty.
    pub issued: u64,
    /// Bytes not yet in memory; once it is dirty, not yet written.
    pub missing: u64,
    /// Bytes that came; less than `len` where the file ends. Once it is dirty, bytes
    /// that were written.
    pub landed: u64,
    /// Operations under way or waiting to be tried again.
    pub under_way: u32,
    pub phase: Phase,
    /// It changed while it was being written, and is written once more.
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

    /// Turns it into one that is to be written, from its start.
    pub(crate) fn soil(&mut self) {
        self.phase = Phase::Dirty;
        (self.issued, self.missing, self.landed) = (0, self.len, 0);
    }

    /// First position behind it.
    pub(crate) fn end(&self) -> u64 {
        self.pos + self.len
    }

    /// Whether no further operation will be launched for it.
    pub(crate) fn all_issued(&self) -> bool {
        self.issued == self.len || self.failure.is_some()
    }

    /// Whether nothing more will happen to it: whole, or failed and quiet.
    pub(crate) fn settled(&self) -> bool {
        self.missing == 0 || (self.failure.is_some() && self.under_way == 0)
    }

    fn free(&self) -> bool {
        self.phase == Phase::Done && self.under_way == 0
    }
}

/// All loads, by key; freed places are used again.
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

/// The ring of bytes `[0, len)`, used in endless positions: position `p` is
/// byte `p % len`. Loads lie in it in the order in which they were placed;
/// space comes back at both ends, never in the middle.
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

    /// Bytes that have come for those who have not come yet.
    pub(crate) fn ahead(&self, loads: &Loads) -> u64 {
        let loads = self.order.iter().map(|&key| &loads[key]);
        let ahead = loads.filter(|load| load.phase == Phase::Ahead);
        ahead.map(|load| load.landed).sum()
    }

    /// Whether the positions below `end` have the window to themselves.
    pub(crate) fn reaches(&self, loads: &Loads, end: u64) -> bool {
        self.order
            .front()
            .is_none_or(|&front| end <= loads[front].pos + self.len)
    }

    /// Where `len` bytes go that come after position `head`: an extent is
    /// contiguous in memory, so it moves up rather than straddle the ring's end.
    fn after(&self, head: u64, len: u64) -> u64 {
        if head % self.len + len <= self.len {
            head
        } else {
            head.next_multiple_of(self.len)
        }
    }

    /// Where the next load of `len` bytes will lie.
    pub(crate) fn next_pos(&self, loads: &Loads, len: u64) -> u64 {
        let head = self.order.back().map_or(0, |&back| loads[back].end());
        self.after(head, len)
    }

    /// Memory position of window position `pos`.
    pub(crate) fn memory(&self, pos: u64) -> u64 {
        pos % self.len
    }

    /// Takes in a load that was made for [`Window::next_pos`].
    pub(crate) fn push(&mut self, key: Key) {
        self.order.push_back(key);
    }

    /// Gives back what is free at either end.
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

    /// How `len` bytes, wanted now by somebody for whom `own` may already be
    /// placed, find room; leases stay where they are. Leases come before all
    /// that is ahead, because they are taken in the order of placing.
    pub(crate) fn room(&self, loads: &Loads, own: Option<Key>, len: u64) -> Room {
        let mut leased = self
            .order
            .iter()
            .map(|&key| &loads[key])
            .take_while(|load| load.phase != Phase::Ahead)
            .filter(|load| load.phase == Phase::Leased);
        // What is done leaves by itself: the first lease decides how far the
        // window reaches, the last one where the free part begins.
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

    /// How many loads lie in it.
    pub(crate) fn count(&self) -> usize {
        self.order.len()
    }

    /// The load at a place in the order.
    pub(crate) fn key(&self, place: usize) -> Key {
        self.order[place]
    }
}

/// Whether and how an extent that somebody waits for finds room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// When reads under way are over.
    Made,
    /// When what lies ahead is dropped, itself included.
    BehindLeases,
    /// Not as long as the leases are out.
    Never,
}
