//! The store: extents with two copies, one read and the other written, and commits that
//! say which of them counts. It does not know what the bytes mean.

use crate::arena::ItemId;
use crate::order::{Order, Recorder};
use crate::pager::{Failed, Pager, Place};
use crate::record::{Record, Row};
use crate::{Error, TrainCounters};
use delayline_line::{Medium, Region};
use delayline_medium::{Memory, RealClock};
use delayline_plan::{ALIGN, Mode};
use std::sync::Arc;

/// Bytes through which a record goes to the drive.
const CHUNK: u64 = 64 << 10;

/// Part of the records, of the first and the second copies, and of what no commit holds.
const RECORDS: u16 = 0;
const FIRST: u16 = 1;
const SCRATCH: u16 = 3;

/// What a store holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateLayout {
    /// Bytes of each extent of the state.
    pub lens: Vec<u64>,
    /// Bytes of each extent that no commit holds (gradients that wait), numbered after
    /// those of the state.
    pub scratch: Vec<u64>,
    /// Two copies of each extent: a crash loses at most the running step. With one, a
    /// store that ends within a step cannot be opened again.
    pub twin: bool,
    /// Room for the caller's bytes in a commit.
    pub words: u64,
}

impl StateLayout {
    /// Length of each part in bytes: records, first copies, second copies, scratch. A
    /// store with one copy has a page as its part of second ones.
    pub fn part_lens(&self) -> Vec<u64> {
        let sum = |lens: &[u64]| lens.iter().map(|&len| padded(len)).sum::<u64>().max(ALIGN);
        let copy = sum(&self.lens);
        let second = if self.twin { copy } else { ALIGN };
        vec![2 * self.record_room(), copy, second, sum(&self.scratch)]
    }

    /// Least memory that it works in: `together` are the most bytes that are in use at
    /// once.
    pub fn least_memory(&self, together: u64) -> u64 {
        let largest = self.lens.iter().chain(&self.scratch).max();
        CHUNK + together.max(padded(*largest.unwrap_or(&0)))
    }

    fn record_room(&self) -> u64 {
        Record::len(self.lens.len(), self.words as usize)
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
            ..Record::default()
        };
        Self::build(medium, memory, layout, record)
    }

    /// The store whose part of records holds `records`: as the last commit left it.
    /// `scratch` is as in [`StateLayout`].
    ///
    /// # Errors
    /// [`Error::NoRecord`] and [`Error::Torn`] when no commit can be trusted,
    /// [`Error::Memory`] when an extent does not fit.
    pub fn open(
        medium: M,
        memory: (Arc<Memory>, Region),
        records: &[u8],
        scratch: Vec<u64>,
    ) -> Result<Self, Error> {
        let record = Record::newest(records)?;
        let layout = layout_of(&record, scratch);
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
        for (index, &len) in layout.lens.iter().enumerate() {
            let item = pager.add(len, true);
            let row = record.rows.get(index);
            let copy = row.map_or(u8::from(layout.twin), |row| row.copy);
            let part = |copy: u8| FIRST + u16::from(copy);
            pager.item_mut(item).to = Place {
                part: part(if layout.twin { 1 - copy } else { 0 }),
                offset,
            };
            if let Some(row) = row {
                let place = Place {
                    part: part(copy),
                    offset,
                };
                pager.is_at(item, place, row.sum);
            }
            offset += padded(len);
        }
        let mut offset = 0;
        for &len in &layout.scratch {
            let item = pager.add(len, false);
            let part = SCRATCH;
            pager.item_mut(item).to = Place { part, offset };
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
        if mode.writes() && !self.layout.twin && !self.is_scratch(extent) {
            self.mark()?;
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

    /// Takes a lease back. One that was taken to change or overwrite is written.
    pub fn release(&mut self, lease: StateLease) {
        let changed = lease.mode.writes();
        self.pager.release(lease.item, lease.mode, changed);
    }

    /// An extent of the scratch holds nothing any more.
    ///
    /// # Errors
    /// [`Error::Lost`].
    ///
    /// # Panics
    /// When it is one of the state, or held.
    pub fn forget(&mut self, extent: u32) -> Result<(), Error> {
        assert!(self.is_scratch(extent), "extents of the state stay");
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
    /// [`Error::Nothing`] when one was never written, [`Error::Record`] when `words` do
    /// not fit, [`Error::Moved`] when an extent cannot be written: the store stays
    /// usable after these. After another error it is [`Error::Broken`]. The last commit
    /// stands in each case.
    pub fn commit(&mut self, words: &[u8]) -> Result<(), Error> {
        if self.broken {
            return Err(Error::Broken);
        }
        let extents = self.layout.lens.len() as ItemId;
        let len = Record::len(extents as usize, words.len());
        if len > self.layout.record_room() {
            let room = self.layout.record_room();
            return Err(Error::Record { len, room });
        }
        if let Some(item) = (0..extents).find(|&item| self.pager.is_empty(item)) {
            return Err(Error::Nothing { item });
        }
        self.pager.settle(0..extents)?;
        let row = |item: ItemId| {
            let placed = self.pager.item(item);
            Row {
                len: self.layout.lens[item as usize],
                copy: (placed.from.part - FIRST) as u8,
                sum: placed.sum,
            }
        };
        let record = Record {
            number: self.record.number + 1,
            room: self.layout.record_room(),
            twin: self.layout.twin,
            within_step: false,
            rows: (0..extents).map(row).collect(),
            words: words.to_vec(),
        };
        // From here on the record may be found whatever is said of it, so that nothing
        // that it speaks of may change.
        self.broken = true;
        self.sync(FIRST)?;
        if self.layout.twin {
            self.sync(FIRST + 1)?;
        }
        self.put(&record)?;
        self.record = record;
        self.broken = false;
        self.marked = false;
        self.pager.counters.commits += 1;
        for item in 0..extents {
            let twin = self.layout.twin;
            let item = self.pager.item_mut(item);
            if std::mem::take(&mut item.fresh) && twin {
                let part = FIRST + (1 - (item.from.part - FIRST));
                item.to = Place { part, ..item.from };
            }
        }
        Ok(())
    }

    fn is_scratch(&self, extent: u32) -> bool {
        extent as usize >= self.layout.lens.len()
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
pub(crate) fn layout_of(record: &Record, scratch: Vec<u64>) -> StateLayout {
    let lens: Vec<u64> = record.rows.iter().map(|row| row.len).collect();
    // As many words as fit into its room.
    let words = record.room - Record::len(lens.len(), 0).min(record.room);
    let mut layout = StateLayout {
        lens,
        scratch,
        twin: record.twin,
        words,
    };
    while layout.record_room() < record.room {
        layout.words += 1;
    }
    layout
}
