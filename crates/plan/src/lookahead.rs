//! A cache of rows of one length whose next batches are known. Rows that are used
//! soonest stay; of rows in no known batch, those expected most often. It decides
//! which row is in which slot and which rows are to be read; it does not know where
//! the rows are or their bytes.
//!
//! The unit of time is the batch: the order within one is free. Batches are
//! *announced* as soon as they are known, *staged* when their missing rows get slots
//! and are to be read, and *retired* when they have been used. Rows of staged batches
//! are pinned. Rows that no announced batch uses are evicted first, the least expected
//! first, and of equals the least recently used; then the row whose next batch is
//! latest (Belady). Everything takes constant time per row.

use rustc_hash::FxHashMap;
use std::collections::VecDeque;

mod expected;
mod list;

pub use expected::ExpectedUse;
use list::{Links, List};

/// Stands for no slot, no batch and no row.
const NONE: u32 = u32::MAX;

/// A row that is in memory or announced.
#[derive(Clone, Copy, Debug)]
struct Known {
    slot: u32,
    /// The last announced batch that uses it, and its index there.
    last: (u32, u32),
}

/// What is in a slot.
#[derive(Clone, Copy, Debug)]
struct Held {
    row: u32,
    /// The first announced batch that uses it and is not staged.
    next: u32,
    /// Staged batches that use it.
    pins: u32,
    class: u8,
}

/// An announced batch.
#[derive(Clone, Debug)]
struct Ahead {
    rows: Vec<u32>,
    /// For each row the next announced batch that uses it.
    next: Vec<u32>,
    /// Rows that had to be read for it; empty until it is staged.
    missed: Vec<u32>,
    /// Slots whose next use is this batch.
    waiting: List,
}

/// A row that is to be read into a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MissedRow {
    /// Which row.
    pub row: u32,
    /// The slot to read it into.
    pub slot: u32,
}

/// The slots and the announced batches.
#[derive(Clone, Debug)]
pub struct Lookahead {
    held: Vec<Held>,
    links: Links,
    free: Vec<u32>,
    known: FxHashMap<u32, Known>,
    expected: ExpectedUse,
    batches: VecDeque<Ahead>,
    /// Number of the first of `batches`.
    first: u32,
    /// How many of `batches` are staged.
    staged: usize,
    /// No slot waits for a batch after this one.
    latest: u32,
    /// By class: unpinned slots whose rows no announced batch uses.
    classes: Vec<List>,
    /// One bit per class: whether its list has slots.
    filled: [u64; 4],
    pinned: usize,
    /// Rows that staged batches had to read.
    outstanding: usize,
    /// Sum of the rows of `batches`.
    announced: usize,
}

/// Bytes that the tables take for each slot.
const SLOT_BYTES: u64 = (size_of::<Held>() + 3 * size_of::<u32>()) as u64;

impl Lookahead {
    /// An empty cache of `slots` rows. Up to `ahead` rows can be announced before its
    /// tables grow.
    pub fn new(slots: u32, ahead: usize, expected: ExpectedUse) -> Self {
        let empty = Held {
            row: NONE,
            next: NONE,
            pins: 0,
            class: 0,
        };
        let mut known = FxHashMap::default();
        known.reserve(slots as usize + ahead);
        Self {
            held: vec![empty; slots as usize],
            links: Links::new(slots),
            free: (0..slots).rev().collect(),
            known,
            expected,
            batches: VecDeque::new(),
            first: 0,
            staged: 0,
            latest: 0,
            classes: vec![List::default(); 256],
            filled: [0; 4],
            pinned: 0,
            outstanding: 0,
            announced: 0,
        }
    }

    /// Bytes that [`Lookahead::new`] allocates, without expected uses.
    pub fn table_bytes(slots: u64, ahead: u64) -> u64 {
        // The map fills seven eighths of a power of two, a byte beside each entry.
        let buckets = ((slots + ahead) * 8 / 7 + 1).next_power_of_two();
        slots * SLOT_BYTES + buckets * (size_of::<(u32, Known)>() as u64 + 1)
    }

    /// Further bytes for each announced row until its batch is retired.
    pub const AHEAD_BYTES: u64 = 12;

    /// How many rows there is room for.
    pub fn slots(&self) -> usize {
        self.held.len()
    }

    /// How many batches are announced and not retired, and how many of those are staged.
    pub fn ahead(&self) -> (usize, usize) {
        (self.batches.len(), self.staged)
    }

    /// Rows of the batches that are announced and not retired; a row counts once per
    /// batch.
    pub fn announced(&self) -> usize {
        self.announced
    }

    /// Rows that staged batches had to read.
    pub fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// The slot of a row that is in memory.
    pub fn slot_of(&self, row: u32) -> Option<u32> {
        let known = self.known.get(&row)?;
        (known.slot != NONE).then_some(known.slot)
    }

    /// Appends a batch to those announced. `rows` ascend strictly.
    ///
    /// # Panics
    /// If they do not, or are more than there are slots.
    pub fn announce(&mut self, rows: Vec<u32>) {
        assert!(rows.is_sorted_by(|a, b| a < b), "rows in order, each once");
        assert!(rows.len() <= self.held.len(), "a batch that fits");
        let number = self.first + self.batches.len() as u32;
        let mut waiting = List::default();
        for (index, &row) in (0..).zip(&rows) {
            let fresh = Known {
                slot: NONE,
                last: (NONE, 0),
            };
            let known = self.known.entry(row).or_insert(fresh);
            let before = std::mem::replace(&mut known.last, (number, index));
            if before.0 != NONE {
                let batch = &mut self.batches[(before.0 - self.first) as usize];
                batch.next[before.1 as usize] = number;
            }
            let slot = known.slot;
            if slot == NONE || self.held[slot as usize].next != NONE {
                continue;
            }
            if self.held[slot as usize].pins == 0 {
                self.unlink(slot);
                self.links.push(&mut waiting, slot);
            }
            self.held[slot as usize].next = number;
        }
        if !waiting.is_empty() {
            self.latest = number;
        }
        self.announced += rows.len();
        self.batches.push_back(Ahead {
            next: vec![NONE; rows.len()],
            rows,
            missed: Vec::new(),
            waiting,
        });
    }

    /// Stages the next announced batch: gives slots to its missing rows and appends
    /// them to `missed`. Returns `false`, and does nothing, if there is no such batch,
    /// no room, or staged batches would have to read more than `outstanding_max` rows;
    /// the last does not apply if no batch is staged.
    pub fn stage(&mut self, outstanding_max: usize, missed: &mut Vec<MissedRow>) -> bool {
        let Some(batch) = self.batches.get(self.staged) else {
            return false;
        };
        let (mut missing, mut to_pin) = (0, 0);
        for row in &batch.rows {
            match self.known[row].slot {
                NONE => missing += 1,
                slot => to_pin += usize::from(self.held[slot as usize].pins == 0),
            }
        }
        let room = self.held.len() - self.pinned - to_pin;
        let too_many = self.staged > 0 && self.outstanding + missing > outstanding_max;
        if missing > room || too_many {
            return false;
        }
        let rows = std::mem::take(&mut self.batches[self.staged].rows);
        let next = std::mem::take(&mut self.batches[self.staged].next);
        let mut absent = Vec::with_capacity(missing);
        for (&row, &next) in rows.iter().zip(&next) {
            if self.expected.count(row) {
                self.regrade();
            }
            let slot = self.known[&row].slot;
            if slot == NONE {
                absent.push((row, next));
                continue;
            }
            if self.held[slot as usize].pins == 0 {
                self.unlink(slot);
                self.pinned += 1;
            }
            let held = &mut self.held[slot as usize];
            held.pins += 1;
            held.next = next;
        }
        let first_missed = missed.len();
        for (row, next) in absent {
            let slot = self.free.pop().unwrap_or_else(|| self.evict());
            self.held[slot as usize] = Held {
                row,
                next,
                pins: 1,
                class: 0,
            };
            self.pinned += 1;
            self.known.get_mut(&row).expect("announced").slot = slot;
            missed.push(MissedRow { row, slot });
        }
        self.outstanding += missing;
        let batch = &mut self.batches[self.staged];
        batch.missed = missed[first_missed..].iter().map(|m| m.row).collect();
        (batch.rows, batch.next) = (rows, next);
        self.staged += 1;
        true
    }

    /// Removes the first staged batch, which has been used.
    ///
    /// # Panics
    /// If none is staged.
    pub fn retire(&mut self) {
        assert!(self.staged > 0, "a staged batch");
        let batch = self.batches.pop_front().expect("staged");
        debug_assert!(batch.waiting.is_empty(), "what it uses is pinned");
        let number = self.first;
        self.first += 1;
        self.staged -= 1;
        self.outstanding -= batch.missed.len();
        self.announced -= batch.rows.len();
        for row in batch.rows {
            let known = self.known.get_mut(&row).expect("announced");
            if known.last.0 == number {
                known.last = (NONE, 0);
            }
            let slot = known.slot;
            let held = &mut self.held[slot as usize];
            held.pins -= 1;
            if held.pins == 0 {
                self.pinned -= 1;
                self.link(slot);
            }
        }
    }

    /// Forgets all announced batches. Only the first `whole` staged batches have been
    /// read; rows missed by the others are dropped.
    pub fn forget(&mut self, whole: usize) {
        let batches = std::mem::take(&mut self.batches);
        let mut absent = Vec::new();
        for (index, batch) in batches.into_iter().enumerate() {
            if index >= whole && index < self.staged {
                absent.extend(batch.missed);
            }
            for row in batch.rows {
                if self.known.get(&row).is_some_and(|known| known.slot == NONE) {
                    self.known.remove(&row);
                }
            }
        }
        for row in absent {
            let known = self.known.remove(&row).expect("it has a slot");
            self.held[known.slot as usize].row = NONE;
            self.free.push(known.slot);
        }
        (self.first, self.staged, self.latest) = (0, 0, 0);
        (self.pinned, self.outstanding, self.announced) = (0, 0, 0);
        self.classes.fill(List::default());
        self.filled = [0; 4];
        for slot in 0..self.held.len() as u32 {
            let held = &mut self.held[slot as usize];
            (held.pins, held.next) = (0, NONE);
            if held.row != NONE {
                self.known.get_mut(&held.row).expect("held").last = (NONE, 0);
                self.link(slot);
            }
        }
    }

    /// Empties all slots and forgets all announced batches.
    pub fn clear(&mut self) {
        self.forget(0);
        self.known.clear();
        self.classes.fill(List::default());
        self.filled = [0; 4];
        self.free = (0..self.held.len() as u32).rev().collect();
        self.held.iter_mut().for_each(|held| held.row = NONE);
    }

    /// Puts an unpinned slot into its list: of its next batch, or of its class.
    fn link(&mut self, slot: u32) {
        let held = &mut self.held[slot as usize];
        if held.next == NONE {
            held.class = self.expected.class(held.row);
            let class = usize::from(held.class);
            self.filled[class / 64] |= 1 << (class % 64);
            self.links.push(&mut self.classes[class], slot);
        } else {
            self.latest = self.latest.max(held.next);
            let batch = &mut self.batches[(held.next - self.first) as usize];
            self.links.push(&mut batch.waiting, slot);
        }
    }

    /// Removes an unpinned slot from its list.
    fn unlink(&mut self, slot: u32) {
        let held = self.held[slot as usize];
        if held.next == NONE {
            let class = usize::from(held.class);
            self.links.remove(&mut self.classes[class], slot);
            if self.classes[class].is_empty() {
                self.filled[class / 64] &= !(1 << (class % 64));
            }
        } else {
            let batch = &mut self.batches[(held.next - self.first) as usize];
            self.links.remove(&mut batch.waiting, slot);
        }
    }

    /// Empties the slot whose row is worth least, and returns it.
    fn evict(&mut self) -> u32 {
        let word = self.filled.iter().position(|&word| word != 0);
        let slot = match word {
            Some(word) => {
                let class = word * 64 + self.filled[word].trailing_zeros() as usize;
                self.classes[class].first()
            }
            None => loop {
                let batch = &self.batches[(self.latest - self.first) as usize];
                match batch.waiting.first() {
                    Some(slot) => break Some(slot),
                    None => self.latest -= 1,
                }
            },
        };
        let slot = slot.expect("room was counted");
        self.unlink(slot);
        let row = self.held[slot as usize].row;
        let known = self.known.get_mut(&row).expect("held");
        known.slot = NONE;
        if known.last.0 == NONE {
            self.known.remove(&row);
        }
        slot
    }

    /// Sorts unpinned slots into their classes again after the counts were halved, in
    /// order of class and age.
    fn regrade(&mut self) {
        let classes = std::mem::replace(&mut self.classes, vec![List::default(); 256]);
        self.filled = [0; 4];
        for mut class in classes {
            while let Some(slot) = class.first() {
                self.links.remove(&mut class, slot);
                self.link(slot);
            }
        }
    }
}
