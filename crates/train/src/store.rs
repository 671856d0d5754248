//! The store: extents with two copies, of which one is read and the other written, and
//! commits, which record which copy counts. Does not know what the bytes mean.

use crate::arena::ItemId;
use crate::order::{Order, Recorder};
use crate::pager::{Failed, Item, Pager, Place};
use crate::record::{NONE, Record, Row};
use crate::{Error, TrainCounters};
use delayline_line::{Medium, Region};
use delayline_medium::{Memory, RealClock};
use delayline_plan::{ALIGN, Mode};
use std::sync::Arc;

/// Bytes of memory that records pass through on their way to the drive.
const CHUNK: u64 = 64 << 10;

/// The part of the records.
const RECORDS: u16 = 0;

/// The parts of the first copies of the state and of what waits. The part of the second
/// copies follows each.
const STATE: u16 = 1;
const WAITING: u16 = 3;

/// The extents of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateLayout {
    /// Length of each extent of the state in bytes.
    pub lens: Vec<u64>,
    /// Length in bytes of each extent that may be empty: gradients that wait for their
    /// update. They are numbered after those of the state.
    pub waiting: Vec<u64>,
    /// Whether each extent has two copies, so that a crash loses at most the current step.
    /// With one copy, a store that ends within a step cannot be opened again.
    pub twin: bool,
    /// Maximum length of the caller's data in a commit, in bytes.
    pub payload: u64,
}

impl StateLayout {
    /// Length of each part in bytes: records, first and second copies of the state, first
    /// and second copies of what waits. With one copy, the parts of second copies are one
    /// page long.
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

    /// The smallest memory that works, in bytes; `together` is the maximum number of bytes
    /// that are leased at once.
    pub fn min_memory(&self, together: u64) -> u64 {
        let largest = self.lens.iter().chain(&self.waiting).max();
        CHUNK + together.max(padded(*largest.unwrap_or(&0)))
    }

    fn record_room(&self) -> u64 {
        Record::len(self.lens.len() + self.waiting.len(), self.payload as usize)
    }

    fn is_waiting(&self, extent: u32) -> bool {
        extent as usize >= self.lens.len()
    }

    /// The part with the first copy of an extent.
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

/// A leased extent, to be given back with [`StateStore::release`].
#[derive(Debug)]
#[must_use = "an extent that is not given back stays in memory for ever"]
pub struct StateLease {
    item: ItemId,
    mode: Mode,
    at: u64,
}

impl StateLease {
    /// The extent.
    pub fn extent(&self) -> u32 {
        self.item
    }

    /// The memory position of its first byte.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Whether it may be read, overwritten or changed.
    pub fn mode(&self) -> Mode {
        self.mode
    }
}

/// Weights and optimizer state on a medium. What is in use is in memory.
pub struct StateStore<M: Medium> {
    pager: Pager<M, RealClock>,
    layout: StateLayout,
    /// The record of the last commit.
    record: Record,
    /// Whether a commit failed after its record may have been written.
    broken: bool,
    /// With one copy: whether the record on the drive says that the extents may have
    /// changed.
    marked: bool,
}

impl<M: Medium> StateStore<M> {
    /// A new store on a medium with the parts of [`StateLayout::part_lens`]. Its extents are
    /// empty until they are written. It can be opened after the first commit.
    ///
    /// # Errors
    /// [`Error::Memory`] if the memory is too small for the largest extent.
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

    /// Opens a store with the content of its last commit; `records` is the whole part of
    /// the records.
    ///
    /// # Errors
    /// [`Error::NoRecord`] and [`Error::Torn`] if no commit can be used, [`Error::Memory`]
    /// if the memory is too small for the largest extent.
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
        let need = layout.min_memory(0);
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
                pager.place_at(item, place(copy), row.sum);
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

    /// The caller's data in the last commit.
    pub fn payload(&self) -> &[u8] {
        &self.record.payload
    }

    /// The extents.
    pub fn layout(&self) -> &StateLayout {
        &self.layout
    }

    /// The memory that extents are in while they are leased.
    pub fn memory(&self) -> &Arc<Memory> {
        &self.pager.memory
    }

    /// The medium.
    pub fn medium(&self) -> &M {
        &self.pager.medium
    }

    /// The medium, to change its settings. Only the store may submit operations to it.
    pub fn medium_mut(&mut self) -> &mut M {
        &mut self.pager.medium
    }

    /// The counters so far.
    pub fn counters(&self) -> TrainCounters {
        let mut counters = self.pager.counters;
        if let Order::Recorded(recorder) = &self.pager.order {
            counters.deviations = recorder.deviations;
        }
        counters
    }

    /// Waits until an extent is in memory and leases it, to be read, overwritten or changed.
    /// An extent that is to be overwritten is not read: its memory has any content.
    ///
    /// # Errors
    /// [`Error::NoRoom`], [`Error::Nothing`], [`Error::Moved`], [`Error::Checksum`]: another
    /// call tries again. [`Error::Sync`], [`Error::Broken`] and [`Error::Lost`]: the store
    /// has to be opened again.
    ///
    /// # Panics
    /// If there is no such extent.
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

    /// Leases several extents that are used together, in this order and with one mode. They
    /// are moved next to each other if they do not fit otherwise.
    ///
    /// # Errors
    /// As [`StateStore::acquire`]; none is leased then.
    ///
    /// # Panics
    /// If there is no such extent.
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

    /// Takes a lease back. A changed extent of the state is written as soon as no lease on
    /// it may change it. One that waits is written when its memory is needed, after
    /// [`StateStore::write_soon`], or at the commit.
    pub fn release(&mut self, lease: StateLease) {
        let changed = lease.mode.writes();
        self.pager.release(lease.item, lease.mode, changed);
    }

    /// Says that an extent that waits does not change before the next commit, so that it is
    /// written as soon as possible.
    pub fn write_soon(&mut self, extent: u32) {
        self.pager.write_soon(extent);
    }

    /// Empties an extent that waited.
    ///
    /// # Errors
    /// [`Error::Lost`].
    ///
    /// # Panics
    /// If it is one of the state, or leased.
    pub fn forget(&mut self, extent: u32) -> Result<(), Error> {
        assert!(self.layout.is_waiting(extent), "extents of the state stay");
        self.pager.forget(extent)
    }

    /// Whether an extent is empty.
    pub fn is_empty(&self, extent: u32) -> bool {
        self.pager.is_empty(extent)
    }

    /// Whether an extent is leased.
    pub fn is_held(&self, extent: u32) -> bool {
        self.pager.is_held(extent)
    }

    /// Handles completed operations and submits new ones. Never waits.
    pub fn pump(&mut self) {
        self.pager.pump();
    }

    /// Ends a step. The next one is expected to use extents in the same order.
    pub fn end_step(&mut self) {
        if let Order::Recorded(recorder) = &mut self.pager.order {
            recorder.end_step();
        }
    }

    /// Makes the content of all extents, and `payload`, durable. A store that is opened
    /// after a crash has the content of this commit or of the one before.
    ///
    /// # Errors
    /// [`Error::Held`] if an extent is leased to be changed, [`Error::Nothing`] if one of the
    /// state was never written, [`Error::Record`] if `payload` does not fit,
    /// [`Error::Moved`] if an extent cannot be written: the store can be used after these.
    /// After another error it has to be opened again, and until then all calls return
    /// [`Error::Broken`].
    pub fn commit(&mut self, payload: &[u8]) -> Result<(), Error> {
        if self.broken {
            return Err(Error::Broken);
        }
        let state = self.layout.lens.len() as ItemId;
        let extents = state + self.layout.waiting.len() as ItemId;
        let len = Record::len(extents as usize, payload.len());
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
            payload: payload.to_vec(),
        };
        // If an error occurs from here on, the new record may be on the drive or not. So
        // nothing that either record names may be overwritten.
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

    /// With one copy: writes a record that says that the extents may have changed.
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

    /// Writes a record to its place and syncs it.
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

/// The layout of the store that a record is of.
pub(crate) fn layout_of(record: &Record) -> StateLayout {
    let mut lens: Vec<u64> = record.rows.iter().map(|row| row.len).collect();
    // The room of a record is known, so the payload follows from it.
    let payload = record.room - Record::len(lens.len(), 0).min(record.room);
    let waiting = lens.split_off(lens.len() - record.waiting as usize);
    let mut layout = StateLayout {
        lens,
        waiting,
        twin: record.twin,
        payload,
    };
    while layout.record_room() < record.room {
        layout.payload += 1;
    }
    layout
}
