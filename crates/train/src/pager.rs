//! Brings items into memory when they are acquired, and writes them back after they have
//! changed. The expected order decides which are read ahead and which are evicted. Does not
//! know what a step or a commit is.

mod transfers;

use crate::arena::{Arena, Found, ItemId, Verdict};
use crate::order::Order;
use crate::{Error, TrainCounters};
use delayline_line::{Clock, Completion, Medium, MediumError, Region};
use delayline_medium::Memory;
use delayline_plan::{ALIGN, Mode};
use std::collections::VecDeque;
use std::sync::Arc;
pub(crate) use transfers::Failed;
use transfers::{Flights, Transfer};

/// Maximum number of retries of an operation, and of an item whose checksum is wrong.
pub(crate) const RETRIES: u32 = 3;

/// Maximum number of uses that are read ahead.
const AHEAD: usize = 256;

/// The place of an item on the medium.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub part: u16,
    pub offset: u64,
}

/// Where the bytes of an item are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nowhere: the item is empty.
    Empty,
    /// Only on the medium.
    Away,
    /// Being read into memory.
    Coming,
    /// In memory, and also on the medium unless it is dirty.
    Here,
}

#[derive(Debug)]
pub(crate) struct Item {
    /// Length in bytes, a multiple of `ALIGN`.
    pub len: u64,
    /// Where it was last written, and the checksum of these bytes.
    pub from: Place,
    pub sum: u64,
    /// Where it is written next.
    pub to: Place,
    /// Whether it was written since the caller last reset this.
    pub fresh: bool,
    /// Whether it is written as soon as it has changed.
    pub eager: bool,
    /// Its memory position, if it is in memory or being read.
    at: u64,
    state: State,
    /// Number of callers that hold it, and of those that may change it.
    pins: u32,
    writers: u32,
    /// Whether its bytes in memory differ from those on the medium.
    dirty: bool,
    transfer: Option<Transfer>,
    /// Number of consecutive reads with a wrong checksum.
    wrong: u32,
    /// The error of the last read, which the next acquisition returns.
    failure: Option<Failure>,
}

/// Why an item could not be read or written.
#[derive(Clone, Debug)]
enum Failure {
    Medium(MediumError),
    Checksum,
}

/// The items, and the memory that they are in while they are used.
pub(crate) struct Pager<M: Medium, C: Clock> {
    pub medium: M,
    pub memory: Arc<Memory>,
    pub order: Order,
    pub counters: TrainCounters,
    clock: C,
    arena: Arena,
    len: u64,
    items: Vec<Item>,
    flights: Flights,
    /// Items with pieces to submit: those that a caller waits for, other reads, and writes.
    demanded: VecDeque<ItemId>,
    reads: VecDeque<ItemId>,
    writes: VecDeque<ItemId>,
    /// Whether the next piece is a write; reads and writes alternate.
    write_turn: bool,
    /// Bytes of the items that are being read.
    coming: u64,
    /// The first failed write that is not reported yet.
    write_failure: Option<(ItemId, Failure)>,
    done: Vec<Completion>,
}

impl<M: Medium, C: Clock> Pager<M, C> {
    /// A pager without items, in the part of the memory that begins at `start`.
    pub fn new(
        (medium, clock): (M, C),
        (memory, region): (Arc<Memory>, Region),
        start: u64,
        order: Order,
    ) -> Self {
        let len = memory.len() - start;
        let depth = medium.caps().depth;
        let op_len = (len / 32 / ALIGN * ALIGN).clamp(128 << 10, 4 << 20);
        let op_len = op_len.min(u64::from(medium.caps().largest_len)) as u32;
        Self {
            medium,
            clock,
            memory,
            order,
            counters: TrainCounters::default(),
            arena: Arena::new(start, len),
            len,
            items: Vec::new(),
            flights: Flights::new(region, depth, op_len),
            demanded: VecDeque::new(),
            reads: VecDeque::new(),
            writes: VecDeque::new(),
            write_turn: false,
            coming: 0,
            write_failure: None,
            done: Vec::new(),
        }
    }

    /// Adds an empty item. It is written as soon as it has changed if it is `eager`.
    pub fn add(&mut self, len: u64, eager: bool) -> ItemId {
        self.items.push(Item {
            len: len.max(1).next_multiple_of(ALIGN),
            from: Place::default(),
            sum: 0,
            to: Place::default(),
            fresh: false,
            eager,
            at: 0,
            state: State::Empty,
            pins: 0,
            writers: 0,
            dirty: false,
            transfer: None,
            wrong: 0,
            failure: None,
        });
        self.items.len() as ItemId - 1
    }

    /// Sets where an item is on the medium, and the checksum of its bytes.
    pub fn place_at(&mut self, item: ItemId, place: Place, sum: u64) {
        let item = &mut self.items[item as usize];
        (item.from, item.sum, item.state) = (place, sum, State::Away);
    }

    pub fn item(&self, item: ItemId) -> &Item {
        &self.items[item as usize]
    }

    pub fn item_mut(&mut self, item: ItemId) -> &mut Item {
        &mut self.items[item as usize]
    }

    /// Bytes of memory for items.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Waits until an item is in memory, and holds it there. Returns its memory position.
    pub fn acquire(&mut self, item: ItemId, mode: Mode) -> Result<u64, Error> {
        self.order.used(item, mode);
        self.reap(false);
        // Nothing is read ahead before the item is held, because that could evict it.
        let mut since = None;
        let result = loop {
            match self.try_acquire(item, mode) {
                Ok(None) => {}
                Ok(Some(at)) => break Ok(at),
                Err(error) => break Err(error),
            }
            since.get_or_insert_with(|| self.clock.now_ns());
            self.submit();
            if let Err(error) = self.wait() {
                break Err(error);
            }
        };
        if let Some(since) = since {
            self.counters.stalls += 1;
            self.counters.stall_ns += self.clock.now_ns() - since;
        }
        self.pump();
        result
    }

    /// Moves items that nobody holds next to each other, and starts to read them. Needed if
    /// they do not all fit where they are, because of the gaps between them.
    pub fn place_together(&mut self, ids: &[ItemId]) -> Result<(), Error> {
        for &id in ids {
            while self.item(id).dirty || self.item(id).transfer.is_some() {
                if self.item(id).transfer.is_none() {
                    self.take_write_failure()?;
                    self.begin_write(id);
                }
                self.wait()?;
            }
            if self.item(id).state == State::Here {
                let at = self.item(id).at;
                self.item_mut(id).state = State::Away;
                self.arena.free(at);
            }
        }
        let len = ids.iter().map(|&id| self.item(id).len).sum();
        let mut at = loop {
            if let Some(at) = self.room(len)? {
                break at;
            }
            self.wait()?;
        };
        for &id in ids {
            let len = self.item(id).len;
            if self.item(id).state == State::Away {
                self.begin_read(id, at);
                self.demanded.push_back(id);
            }
            at += len;
        }
        self.submit();
        Ok(())
    }

    /// Gives an item back; `changed` says that its bytes have changed.
    pub fn release(&mut self, id: ItemId, mode: Mode, changed: bool) {
        let item = self.item_mut(id);
        item.pins -= 1;
        item.writers -= u32::from(mode.writes());
        if changed {
            item.dirty = true;
        }
        if item.dirty && item.eager && item.writers == 0 {
            self.begin_write(id);
        }
    }

    /// Writes an item as soon as nobody may change it.
    pub fn write_soon(&mut self, id: ItemId) {
        self.item_mut(id).eager = true;
        self.begin_write(id);
    }

    /// Empties an item.
    ///
    /// # Panics
    /// If somebody holds it.
    pub fn forget(&mut self, id: ItemId) -> Result<(), Error> {
        assert_eq!(self.item(id).pins, 0, "an item that is held");
        if let Some(transfer) = &mut self.item_mut(id).transfer {
            transfer.cancel();
        }
        while self
            .item(id)
            .transfer
            .as_ref()
            .is_some_and(Transfer::is_under_way)
        {
            self.wait()?;
        }
        let item = self.item_mut(id);
        let (was, at, len) = (item.state, item.at, item.len);
        item.transfer = None;
        (item.state, item.dirty, item.fresh, item.wrong) = (State::Empty, false, false, 0);
        item.failure = None;
        self.forget_write_failure(id);
        match was {
            State::Here => self.arena.free(at),
            State::Coming => {
                self.arena.free(at);
                self.coming -= len;
            }
            State::Empty | State::Away => {}
        }
        Ok(())
    }

    /// Whether somebody holds an item.
    pub fn is_held(&self, item: ItemId) -> bool {
        self.item(item).pins > 0
    }

    /// Whether an item is empty.
    pub fn is_empty(&self, item: ItemId) -> bool {
        self.item(item).state == State::Empty
    }

    /// Handles completed operations and submits new ones. Never waits.
    pub fn pump(&mut self) {
        self.reap(false);
        self.read_ahead();
        self.make_clean();
        if self.submit() > 0 {
            self.reap(false);
        }
    }

    /// Waits until all changed items among `items` are written.
    pub fn settle(&mut self, items: std::ops::Range<ItemId>) -> Result<(), Error> {
        let since = self.clock.now_ns();
        for id in items.clone() {
            if self.item(id).writers > 0 {
                return Err(Error::Held { item: id });
            }
            if self.item(id).dirty {
                self.begin_write(id);
            }
        }
        let mut from = items.start;
        while let Some(id) = (from..items.end).find(|&id| self.item(id).dirty) {
            from = id;
            if self.item(id).transfer.is_none() {
                self.take_write_failure()?;
                self.begin_write(id);
            }
            self.submit();
            self.wait()?;
        }
        self.counters.commit_ns += self.clock.now_ns() - since;
        Ok(())
    }

    /// Holds an item if it is in memory. Otherwise starts what has to be done first, and
    /// returns `None`.
    fn try_acquire(&mut self, id: ItemId, mode: Mode) -> Result<Option<u64>, Error> {
        let item = self.item_mut(id);
        if let Some(failure) = item.failure.take() {
            return Err(error(id, failure, false));
        }
        match item.state {
            State::Empty if mode.reads() => Err(Error::Nothing { item: id }),
            State::Here => {
                // Bytes must not change while they are being written.
                if mode.writes()
                    && let Some(transfer) = &mut item.transfer
                {
                    transfer.cancel();
                    if transfer.is_under_way() {
                        return Ok(None);
                    }
                    item.transfer = None;
                }
                item.pins += 1;
                item.writers += u32::from(mode.writes());
                Ok(Some(item.at))
            }
            State::Coming => {
                self.demanded.push_back(id);
                Ok(None)
            }
            State::Away | State::Empty => {
                let len = item.len;
                let Some(at) = self.room(len)? else {
                    return Ok(None);
                };
                if mode.reads() {
                    self.begin_read(id, at);
                    self.demanded.push_back(id);
                    return Ok(None);
                }
                self.arena.take(at, len, id);
                let item = self.item_mut(id);
                (item.at, item.state) = (at, State::Here);
                (item.pins, item.writers) = (1, 1);
                self.note_peak();
                Ok(Some(at))
            }
        }
    }

    /// Makes room for an item that a caller waits for. Returns its memory position, or
    /// `None` if an operation has to end first.
    fn room(&mut self, len: u64) -> Result<Option<u64>, Error> {
        let found = self.arena.find(len, |other| self.judge(other));
        match found {
            Some(found) if !found.wait => {
                self.evict(&found);
                Ok(Some(found.at))
            }
            Some(found) => {
                self.take_write_failure()?;
                for other in found.evict {
                    if self.item(other).dirty {
                        self.begin_write(other);
                    }
                }
                Ok(None)
            }
            None if self.flights.under_way() > 0 => Ok(None),
            None => {
                self.take_write_failure()?;
                let held = self.items.iter().filter(|item| item.pins > 0);
                Err(Error::NoRoom {
                    len,
                    held: held.map(|item| item.len).sum(),
                    memory: self.len,
                })
            }
        }
    }

    /// Whether the bytes of an item may be used for another one.
    fn judge(&self, id: ItemId) -> Verdict {
        let item = self.item(id);
        if item.pins > 0 {
            return Verdict::Stays;
        }
        Verdict::MayGo {
            distance: self.order.distance(id),
            wait: item.dirty || item.transfer.is_some(),
        }
    }

    fn evict(&mut self, found: &Found) {
        for &id in &found.evict {
            let item = self.item_mut(id);
            debug_assert!(item.state == State::Here && !item.dirty);
            item.state = State::Away;
            let at = item.at;
            self.arena.free(at);
        }
    }

    /// Starts to read the items that are used next, as long as the items that are evicted
    /// for them are used later.
    fn read_ahead(&mut self) {
        for (id, due) in self.order.upcoming(AHEAD) {
            // Leaves memory for items that are not in the expected order.
            if self.coming > self.len / 2 {
                break;
            }
            let item = self.item(id);
            if item.state != State::Away || item.failure.is_some() {
                continue;
            }
            let len = item.len;
            let judge = |other| match self.judge(other) {
                Verdict::MayGo { distance, wait } if !wait && distance > due => {
                    Verdict::MayGo { distance, wait }
                }
                _ => Verdict::Stays,
            };
            let Some(found) = self.arena.find(len, judge) else {
                break;
            };
            self.evict(&found);
            self.begin_read(id, found.at);
            self.reads.push_back(id);
        }
    }

    /// Starts to write changed items, those used latest first, until an eighth of the
    /// memory is free or can be freed without another write.
    fn make_clean(&mut self) {
        let want = self.len / 8;
        let mut have = self.len - self.arena.used();
        if have >= want {
            return;
        }
        let mut dirty = Vec::new();
        for (id, item) in (0..).zip(&self.items) {
            if item.state != State::Here || item.pins > 0 {
                continue;
            }
            if !item.dirty || item.transfer.is_some() {
                have += item.len;
            } else {
                dirty.push((self.order.distance(id), id));
            }
        }
        dirty.sort_unstable();
        while have < want
            && let Some((_, id)) = dirty.pop()
        {
            have += self.item(id).len;
            self.begin_write(id);
        }
    }

    fn note_peak(&mut self) {
        self.counters.peak = self.counters.peak.max(self.arena.used());
    }

    /// Forgets the error of an item whose bytes are on the medium now, or not needed.
    fn forget_write_failure(&mut self, id: ItemId) {
        if self.write_failure.as_ref().is_some_and(|(of, _)| *of == id) {
            self.write_failure = None;
        }
    }

    /// Returns the error of a failed write, if there was one. The item is still in memory.
    fn take_write_failure(&mut self) -> Result<(), Error> {
        match self.write_failure.take() {
            Some((id, failure)) => Err(error(id, failure, true)),
            None => Ok(()),
        }
    }
}

fn error(item: ItemId, failure: Failure, write: bool) -> Error {
    let attempts = RETRIES + 1;
    match failure {
        Failure::Medium(source) => Error::Moved {
            item,
            write,
            attempts,
            source,
        },
        Failure::Checksum => Error::Checksum { item, attempts },
    }
}
