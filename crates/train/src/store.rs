//! The store: extents with two copies, one read and the other written, and commits that
//! say which of them counts. It does not know what the bytes mean.

use crate::arena::ItemId;
use crate::order::{Order, Recorder};
use crate::pager::{Failed, Item, Pager, Place};
use crate::record::{NONE, Record, Row};
use crate::{Error, TrainCounters};
use delayline_line::{Medium, Region};
use delayline_medium::{Memory, RealClock};
use delayline_plan::{ALIGN, Mode};
use std::sync::Arc;

/// Bytes through which a record goes to the drive.
const CHUNK: u64 = 64 << 10;

/// Part of the records, and those of the first copies; the second ones are behind them.
const RECORDS: u16 = 0;
const STATE: u16 = 1;
const WAITING: u16 = 3;

/// What a store holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateLayout {
    /// Bytes of each extent of the state.
    pub lens: Vec<u64>,
    /// Bytes of each extent that may hold nothing (gradients that wait for their update),
    /// numbered after those of the state.
    pub waiting: Vec<u64>,
    /// Two copies of each extent: a crash loses at most the running step. With one, a
    /// store that ends within a step cannot be opened again.
    pub twin: bool,
    /// Room for the caller's bytes in a commit.
    pub words: u64,
}

impl StateLayout {
    /// Length of each part in bytes: records, first and second copies of the state, first
    /// and second copies of what waits. A store with one copy has a page as its parts of
    /// second ones.
    pub fn part_lens(&self) -> [u64; 5] {
        let sum = |lens: &[u64]| lens.iter().map(|&len| padded(len)).sum::<u64>().max(ALIGN);
        let second = |first: u64| if self.twin { first } else { ALIGN };
        let (state, waiting) = (sum(&self.lens), sum(&self.waiting));
        [
            2 * self.record_room(),
            state,
            second(state),
            waiting,
            second(waiting),
        ]
    }

    /// Least memory that it works in: `together` are the most bytes that are in use at
    /// once.
    pub fn least_memory(&self, together: u64) -> u64 {
        let largest = self.lens.iter().chain(&self.waiting).max();
        CHUNK + together.max(padded(*largest.unwrap_or(&0)))
    }

    fn record_room(&self) -> u64 {
        Record::len(self.lens.len() + self.waiting.len(), self.words as usize)
    }

    fn is_waiting(&self, extent: u32) -> bool {
        extent as usize >= self.lens.len()
    }

    /// Part of an extent's first copies.
    fn part(&self, extent: u32) -> u16 {
        match self.is_waiting(extent) {
            true => WAITING,
            false => STATE,
        }
    }
}

fn padded(len: u64) -> u64 {
    len.max(1).next_multiple_of(ALIGN)
}

/// An extent in the caller's hands. It goes back with [`StateStore::release`].
#[derive(Debug)]
#[must_use = "an extent that is not given back holds its room for ever"]
pub struct StateLease {
    item: ItemId,
    mode: Mode,
    at: u64,
}

impl StateLease {
    /// Which extent.
    pub fn extent(&self) -> u32 {
        self.item
    }

    /// Memory position of its first byte.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// What for.
    pub fn mode(&self) -> Mode {
        self.mode
    }
}

/// Weights and optimizer state on a medium, of which what is in use is in memory.
pub struct StateStore<M: Medium> {
    pager: Pager<M, RealClock>,
    layout: StateLayout,
    record: Record,
    broken: bool,
    /// With one copy: the record on the drive says that a step has begun.
    marked: bool,
}

impl<M: Medium> StateStore<M> {
    /// A new store on a medium with the parts that the layout asks for. Its extents hold
    /// nothing until they are written; nothing is on the drive until the first commit.
    ///
    /// # Errors
    /// [`Error::Memory`] when an extent does not fit.
    pub fn create(
        medium: M,
        memory: (Arc<Memory>, Region),
        layout: StateLayout,
    ) -> Result<Self, Error> {
        let record = Record {
            number: 0,
            room: layout.record_room(),
            twin: layout.twin,
            waiting: layout.waiting.len() as u64,
            ..Record::default()
        };
        Self::build(medium, memory, layout, record)
    }

    /// The store whose part of records holds `records`: as the last commit left it.
    ///
    /// # Errors
    /// [`Error::NoRecord`] and [`Error::Torn`] when no commit can be trusted,
    /// [`Error::Memory`] when an extent does not fit.
    pub fn open(medium: M, memory: (Arc<Memory>, Region), records: &[u8]) -> Result<Self, Error> {
        let record = Record::newest(records)?;
        let layout = layout_of(&record);
        Self::build(medium, memory, layout, record)
    }

    fn build(
        medium: M,
        memory: (Arc<Memory>, Region),
        layout: StateLayout,
        record: Record,
    ) -> Result<Self, Error> {
        let have = memory.0.len();
        let need = layout.least_memory(0);
        if have < need {
            return Err(Error::Memory {
                memory: have,
                need,
                what: "the largest extent and the commit record",
            });
        }
        let order = Order::Recorded(Recorder::default());
        let mut pager = Pager::new((medium, RealClock::new()), memory, CHUNK, order);
        let mut offset = 0;
        for (index, &len) in layout.lens.iter().chain(&layout.waiting).enumerate() {
            if index == layout.lens.len() {
                offset = 0;
            }
            let item = pager.add(len, !layout.is_waiting(index as u32));
            let row = record.rows.get(index).filter(|row| row.copy != NONE);
            let copy = row.map_or(u8::from(layout.twin), |row| row.copy);
            let place = |copy: u8| Place {
                part: layout.part(item) + u16::from(copy),
                offset,
            };
            pager.item_mut(item).to = place(if layout.twin { 1 - copy } else { 0 });
            if let Some(row) = row {
                pager.is_at(item, place(copy), row.sum);
            }
            offset += padded(len);
        }
        Ok(Self {
            pager,
            layout,
            record,
            broken: false,
            marked: false,
        })
    }

    /// How many commits there were.
    pub fn commits(&self) -> u64 {
        self.record.number
    }

    /// The caller's bytes of the last commit.
    pub fn words(&self) -> &[u8] {
        &self.record.words
    }

    /// What it holds.
    pub fn layout(&self) -> &StateLayout {
        &self.layout
    }

    /// The memory that its extents pass through.
    pub fn memory(&self) -> &Arc<Memory> {
        &self.pager.memory
    }

    /// The medium.
    pub fn medium(&self) -> &M {
        &self.pager.medium
    }

    /// The medium, to set it up; operations are the store's to submit and to reap.
    pub fn medium_mut(&mut self) -> &mut M {
        &mut self.pager.medium
    }

    /// What it has done so far.
    pub fn counters(&self) -> TrainCounters {
        let mut counters = self.pager.counters;
        if let Order::Recorded(recorder) = &self.pager.order {
            counters.deviations = recorder.deviations;
        }
        counters
    }

    /// Waits until an extent is in memory and leases it: to be read, to be changed, or
    /// to be overwritten, which brings whatever its memory held.
    ///
    /// # Errors
    /// [`Error`]; the store stays usable, and asking again tries again.
    ///
    /// # Panics
    /// When there is no such extent.
    pub fn acquire(&mut self, extent: u32, mode: Mode) -> Result<StateLease, Error> {
        if self.broken {
            return Err(Error::Broken);
        }
        if mode.writes() {
            if !self.layout.twin {
                self.mark()?;
            }
            if self.layout.is_waiting(extent) {
                self.pager.item_mut(extent).eager = false;
            }
        }
        let at = self.pager.acquire(extent, mode)?;
        let item = extent;
        Ok(StateLease { item, mode, at })
    }

    /// Leases several extents that are used together, in this order, for one purpose.
    ///
    /// # Errors
    /// As [`StateStore::acquire`]; none is leased then. [`Error::NoRoom`] only where they
    /// do not all fit beside what is held.
    ///
    /// # Panics
    /// When there is no such extent.
    pub fn acquire_together(
        &mut self,
        extents: &[u32],
        mode: Mode,
    ) -> Result<Vec<StateLease>, Error> {
        let mut leases = Vec::with_capacity(extents.len());
        let mut is_placed = false;
        while leases.len() < extents.len() {
            match self.acquire(extents[leases.len()], mode) {
                Ok(lease) => leases.push(lease),
                Err(error) => {
                    for lease in leases.drain(..) {
                        self.pager.release(lease.item, lease.mode, false);
                    }
                    let is_free = !extents.iter().any(|&extent| self.pager.is_held(extent));
                    if is_placed || !is_free || !matches!(error, Error::NoRoom { .. }) {
                        return Err(error);
                    }
                    self.pager.place_together(extents)?;
                    is_placed = true;
                }
            }
        }
        Ok(leases)
    }

    /// Takes a lease back. What was changed is written at once; extents that wait when
    /// room is wanted, after [`StateStore::write_soon`], or at the commit.
    pub fn release(&mut self, lease: StateLease) {
        let changed = lease.mode.writes();
        self.pager.release(lease.item, lease.mode, changed);
    }

    /// An extent that waits will not change any more before the commit.
    pub fn write_soon(&mut self, extent: u32) {
        self.pager.write_soon(extent);
    }

    /// An extent that waited holds nothing any more.
    ///
    /// # Errors
    /// [`Error::Lost`].
    ///
    /// # Panics
    /// When it is one of the state, or held.
    pub fn forget(&mut self, extent: u32) -> Result<(), Error> {
        assert!(self.layout.is_waiting(extent), "extents of the state stay");
        self.pager.forget(extent)
    }

    /// Whether an extent holds nothing.
    pub fn is_empty(&self, extent: u32) -> bool {
        self.pager.is_empty(extent)
    }

    /// Whether somebody has a lease on an extent.
    pub fn is_held(&self, extent: u32) -> bool {
        self.pager.is_held(extent)
    }

    /// Takes in what has completed and submits what is wanted. Never waits.
    pub fn pump(&mut self) {
        self.pager.pump();
    }

    /// A step is over: the next one is expected to use extents in the same order.
    pub fn turn(&mut self) {
        if let Order::Recorded(recorder) = &mut self.pager.order {
            recorder.turn();
        }
    }

    /// Makes what all extents hold now, and `words`, what is found when the store is
    /// opened: whatever happens, that or the commit before.
    ///
    /// # Errors
    /// [`Error::Held`] when somebody has a lease to change an extent,
    /// [`Error::Nothing`] when one of the state was never written, [`Error::Record`] when `words` do
    /// not fit, [`Error::Moved`] when an extent cannot be written: the store stays
    /// usable after these. After another error it is [`Error::Broken`]. The last commit
    /// stands in each case.
    pub fn commit(&mut self, words: &[u8]) -> Result<(), Error> {
        if self.broken {
            return Err(Error::Broken);
        }
        let state = self.layout.lens.len() as ItemId;
        let extents = state + self.layout.waiting.len() as ItemId;
        let len = Record::len(extents as usize, words.len());
        if len > self.layout.record_room() {
            let room = self.layout.record_room();
            return Err(Error::Record { len, room });
        }
        if let Some(item) = (0..state).find(|&item| self.pager.is_empty(item)) {
            return Err(Error::Nothing { item });
        }
        self.pager.settle(0..extents)?;
        let lens = self.layout.lens.iter().chain(&self.layout.waiting);
        let row = |(item, &len): (ItemId, &u64)| {
            let placed = self.pager.item(item);
            let copy = match self.pager.is_empty(item) {
                true => NONE,
                false => (placed.from.part - self.layout.part(item)) as u8,
            };
            let sum = placed.sum;
            Row { len, copy, sum }
        };
        let record = Record {
            number: self.record.number + 1,
            room: self.layout.record_room(),
            twin: self.layout.twin,
            within_step: false,
            rows: (0..).zip(lens).map(row).collect(),
            waiting: self.record.waiting,
            words: words.to_vec(),
        };
        // From here on the record may be found whatever is said of it, so that nothing
        // that it speaks of may change.
        self.broken = true;
        for part in STATE..WAITING + 2 {
            let is_in = |item: &Item| item.fresh && item.from.part == part;
            if (0..extents).any(|item| is_in(self.pager.item(item))) {
                self.sync(part)?;
            }
        }
        self.put(&record)?;
        self.record = record;
        self.broken = false;
        self.marked = false;
        self.pager.counters.commits += 1;
        for extent in 0..extents {
            let (twin, first) = (self.layout.twin, self.layout.part(extent));
            let item = self.pager.item_mut(extent);
            if std::mem::take(&mut item.fresh) && twin {
                let part = first + (1 - (item.from.part - first));
                item.to = Place { part, ..item.from };
            }
        }
        Ok(())
    }

    /// With one copy, says on the drive that it is about to change.
    fn mark(&mut self) -> Result<(), Error> {
        if self.marked || self.record.number == 0 {
            return Ok(());
        }
        let record = Record {
            number: self.record.number + 1,
            within_step: true,
            ..self.record.clone()
        };
        self.broken = true;
        self.put(&record)?;
        self.broken = false;
        self.record.number = record.number;
        self.marked = true;
        Ok(())
    }

    /// Writes a record to its place and waits until it stays there.
    fn put(&mut self, record: &Record) -> Result<(), Error> {
        let start = record.number % 2 * record.room;
        let bytes = record.to_bytes();
        for (index, bytes) in bytes.chunks(CHUNK as usize).enumerate() {
            let offset = start + index as u64 * CHUNK;
            let part = RECORDS;
            let written = self.pager.write_at(Place { part, offset }, 0, bytes);
            written.map_err(failed)?;
        }
        self.sync(RECORDS)
    }

    fn sync(&mut self, part: u16) -> Result<(), Error> {
        self.pager.sync(part).map_err(failed)
    }
}

fn failed(failed: Failed) -> Error {
    match failed {
        Failed::Medium(source) => Error::Sync { source },
        Failed::Lost(operations) => Error::Lost { operations },
    }
}

/// What a record says of its store.
pub(crate) fn layout_of(record: &Record) -> StateLayout {
    let mut lens: Vec<u64> = record.rows.iter().map(|row| row.len).collect();
    // As many words as fit into its room.
    let words = record.room - Record::len(lens.len(), 0).min(record.room);
    let waiting = lens.split_off(lens.len() - record.waiting as usize);
    let mut layout = StateLayout {
        lens,
        waiting,
        twin: record.twin,
        words,
    };
    while layout.record_room() < record.room {
        layout.words += 1;
    }
    layout
}
