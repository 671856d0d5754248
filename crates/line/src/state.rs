//! The state machine: the known future, what is resident, and which operation is next.
//! It takes completions and returns operations. It does not know the medium or the
//! clock, and does not wait.

use std::collections::VecDeque;

use delayline_plan::{Extent, ExtentId, Mode, Use};

use crate::fetches::{Came, Fetches};
use crate::flights::Flights;
use crate::trace::{EventKind, Trace};
use crate::types::{Config, Counters, LineSetup, PartSpan};
use crate::window::{Key, Loads, Phase, Window};
use crate::{LineError, Region};

mod acquire;
mod reads;
mod writes;

use writes::WriteBack;

/// An extent, and whether it streams or stays.
#[derive(Clone, Copy, Debug)]
struct Held {
    extent: Extent,
    residence: Residence,
}

#[derive(Clone, Copy, Debug)]
enum Residence {
    /// It passes through the window each time that it is enqueued.
    Streamed(Passing),
    /// It stays at this memory position.
    Resident { at: u64, is: Presence },
}

/// The state of a streamed extent.
#[derive(Clone, Copy, Debug, Default)]
struct Passing {
    /// How often it occurs in the future.
    enqueued: u32,
    /// Number of its loads that change it and are not written back. While there are
    /// any, its bytes on the medium are old and must not be read.
    changing: u32,
}

/// The state of a resident extent.
#[derive(Clone, Copy, Debug)]
enum Presence {
    /// Not requested.
    Absent,
    /// Requested, no read launched.
    Queued,
    /// Being read, or failed and not yet acquired.
    Loading(Key),
    /// In memory.
    Loaded,
    /// In memory and being written: not leased until that is done.
    Writing(Key),
}

/// What an acquire waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Aim {
    Resident(ExtentId),
    /// The future's first entry; if `on_demand`, it was added for this acquire alone.
    Front {
        on_demand: bool,
    },
}

/// One use of a streamed extent in the known future.
#[derive(Clone, Copy, Debug)]
struct Entry {
    extent: ExtentId,
    mode: Mode,
    load: Option<Key>,
}

/// Sequence numbers start in the middle of their range, because extents read on demand
/// are inserted before the first entry.
const FIRST_SEQ: u64 = 1 << 63;

#[derive(Debug)]
pub(crate) struct State {
    /// By extent.
    held: Vec<Held>,
    part_lens: Vec<u64>,
    config: Config,
    /// Uses of streamed extents enqueued and not acquired. Those with a load come first,
    /// and their loads are in the window in the same order.
    future: VecDeque<Entry>,
    /// Sequence number of the future's first entry.
    base: u64,
    /// Sequence number of the first entry that may have reads to launch.
    cursor: u64,
    writes: WriteBack,
    /// Resident extents to read, each with the sequence number of the entry
    /// that it was enqueued before. May contain some that have been read.
    resident_queue: VecDeque<(u64, ExtentId)>,
    /// Number of resident extents requested and not loaded.
    resident_due: usize,
    window: Window,
    loads: Loads,
    flights: Flights,
    fetches: Fetches,
    leased: u64,
    /// An acquire waits for the future's first entry.
    urgent: bool,
    /// The last acquire was on demand: the compute does not follow the plan, so nothing
    /// is prefetched.
    off_plan: bool,
    /// Bytes in the window were skipped since the last lease.
    gap: bool,
    pub counters: Counters,
    pub trace: Trace,
}

impl State {
    /// The arguments must have been checked by `check.rs`.
    pub(crate) fn new(setup: LineSetup, region: Region, depth: usize) -> Self {
        let LineSetup {
            extents,
            part_lens,
            homes,
            config,
        } = setup;
        let held = |(extent, home): (Extent, Option<u64>)| Held {
            extent,
            residence: match home {
                None => Residence::Streamed(Passing::default()),
                Some(at) => Residence::Resident {
                    at,
                    is: Presence::Absent,
                },
            },
        };
        Self {
            held: extents.into_iter().zip(homes).map(held).collect(),
            future: VecDeque::new(),
            base: FIRST_SEQ,
            cursor: FIRST_SEQ,
            writes: WriteBack::new(part_lens.len()),
            resident_queue: VecDeque::new(),
            resident_due: 0,
            window: Window::new(config.window),
            loads: Loads::default(),
            flights: Flights::new(region, depth, config.retries),
            fetches: Fetches::default(),
            leased: 0,
            urgent: false,
            off_plan: false,
            gap: false,
            counters: Counters::default(),
            trace: Trace::default(),
            part_lens,
            config,
        }
    }

    fn extent(&self, id: ExtentId) -> Extent {
        self.held[id.index()].extent
    }

    /// Memory position and state of a resident extent.
    fn resident(&self, id: ExtentId) -> Option<(u64, Presence)> {
        match self.held[id.index()].residence {
            Residence::Streamed(_) => None,
            Residence::Resident { at, is } => Some((at, is)),
        }
    }

    fn set(&mut self, id: ExtentId, presence: Presence) {
        match &mut self.held[id.index()].residence {
            Residence::Streamed(_) => unreachable!("only resident extents have a presence"),
            Residence::Resident { is, .. } => *is = presence,
        }
    }

    fn passing(&mut self, id: ExtentId) -> &mut Passing {
        match &mut self.held[id.index()].residence {
            Residence::Streamed(passing) => passing,
            Residence::Resident { .. } => unreachable!("only streamed extents are in the future"),
        }
    }

    /// The region that lends the memory.
    pub(crate) fn region_mut(&mut self) -> &mut Region {
        &mut self.flights.region
    }

    /// Number of operations that the medium has not completed.
    pub(crate) fn under_way(&self) -> usize {
        self.flights.under_way()
    }

    pub(crate) fn ahead(&self) -> usize {
        self.future.len() + self.resident_due
    }

    pub(crate) fn arrived(&self) -> u64 {
        self.window.ahead(&self.loads)
    }

    pub(crate) fn enqueue(&mut self, Use { extent: id, mode }: Use) {
        self.off_plan = false;
        let Some((_, is)) = self.resident(id) else {
            let (extent, load) = (id, None);
            self.future.push_back(Entry { extent, mode, load });
            self.passing(id).enqueued += 1;
            return;
        };
        match is {
            Presence::Loading(key) if self.loads[key].settled() => self.drop_resident(id, key),
            Presence::Absent => {}
            _ => return,
        }
        self.resident_due += 1;
        self.set(id, Presence::Queued);
        let seq = self.base + self.future.len() as u64;
        self.resident_queue.push_back((seq, id));
    }

    /// Drops the future. Resident extents of which reads were launched are still read to
    /// their end.
    pub(crate) fn forget(&mut self) {
        while !self.future.is_empty() {
            self.skip_front();
        }
        self.window.trim(&mut self.loads);
        self.note_fill();
        let mut queue = std::mem::take(&mut self.resident_queue);
        queue.retain(|&(_, id)| match self.resident(id) {
            Some((_, Presence::Loading(key))) => !self.loads[key].all_issued(),
            Some((_, Presence::Queued)) => {
                self.set(id, Presence::Absent);
                self.resident_due -= 1;
                false
            }
            _ => false,
        });
        self.resident_queue = queue;
    }

    /// Drops the failed loads of resident extents. No operation may be under way.
    pub(crate) fn forget_failures(&mut self) {
        for id in (0..self.held.len() as u32).map(ExtentId) {
            if let Some((_, Presence::Loading(key))) = self.resident(id)
                && self.loads[key].settled()
            {
                self.drop_resident(id, key);
            }
        }
    }

    /// Bytes that are changed and not written.
    pub(crate) fn dirty(&self) -> u64 {
        self.writes.bytes()
    }

    /// Whether every write has succeeded or failed.
    pub(crate) fn is_settled(&self) -> bool {
        self.writes.is_settled()
    }

    /// Whether every sync is over.
    pub(crate) fn is_synced(&self) -> bool {
        self.writes.is_synced()
    }

    pub(crate) fn fetch(&mut self, spans: &[PartSpan]) -> u32 {
        self.fetches.add(spans)
    }

    pub(crate) fn guess(&mut self, spans: &[PartSpan]) -> u32 {
        self.fetches.guess(spans)
    }

    pub(crate) fn promote(&mut self, number: u32) {
        let came = self.fetches.promote(number);
        self.count(came);
    }

    pub(crate) fn cancel_guess(&mut self, number: u32) {
        let came = self.fetches.cancel(number);
        self.count(came);
    }

    fn count(&mut self, came: Came) {
        self.counters.bytes_read += came.read;
        self.counters.bytes_wasted += came.wasted;
    }

    pub(crate) fn fetch_ready(&self, number: u32) -> bool {
        self.fetches.settled(number)
    }

    pub(crate) fn end_fetch(&mut self, number: u32) -> Result<(), LineError> {
        self.fetches.end(number).map_or(Ok(()), |failure| {
            Err(LineError::Fetch {
                part: failure.part,
                offset: failure.offset,
                attempts: failure.attempts,
                source: failure.source,
            })
        })
    }

    fn pop_front(&mut self) -> Entry {
        let entry = self.future.pop_front().expect("an entry of the future");
        self.passing(entry.extent).enqueued -= 1;
        self.base += 1;
        self.cursor = self.cursor.max(self.base);
        entry
    }

    fn skip_front(&mut self) {
        let Entry { extent, load, .. } = self.pop_front();
        self.trace.push(|| EventKind::Skip(extent));
        if let Some(key) = load {
            self.discard(key);
        }
    }

    /// Drops a load. Bytes for which no read was launched are free at once, the others
    /// when their reads are over.
    fn discard(&mut self, key: Key) {
        let load = &mut self.loads[key];
        load.phase = Phase::Done;
        load.len = load.issued;
        self.counters.bytes_wasted += load.landed;
        if load.mode.writes() {
            let extent = load.extent;
            self.passing(extent).changing -= 1;
        }
    }

    /// Drops a resident extent's failed load.
    fn drop_resident(&mut self, id: ExtentId, key: Key) {
        self.counters.bytes_wasted += self.loads[key].landed;
        self.loads.remove(key);
        self.set(id, Presence::Absent);
        self.resident_due -= 1;
    }

    fn note_fill(&mut self) {
        let Self {
            trace,
            window,
            loads,
            ..
        } = self;
        trace.window(|| window.fill(loads));
    }
}
