//! The state machine: the known future, what is resident, and which read comes
//! next. Completions go in, reads come out. It does not know the medium, the
//! clock, or how anybody waits.

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

/// An extent, and how it comes to be in memory.
#[derive(Clone, Copy, Debug)]
struct Held {
    extent: Extent,
    residence: Residence,
}

#[derive(Clone, Copy, Debug)]
enum Residence {
    /// It passes through the window, each time that it is enqueued.
    Streamed(Passing),
    /// It stays at this memory position.
    Resident { at: u64, is: Presence },
}

/// Of a streamed extent.
#[derive(Clone, Copy, Debug, Default)]
struct Passing {
    /// How often it occurs in the future.
    enqueued: u32,
    /// Loads under which it changes and that are not written: until then its bytes
    /// on the medium are old, and nobody reads them.
    changing: u32,
}

/// Of a resident extent.
#[derive(Clone, Copy, Debug)]
enum Presence {
    /// Nobody has asked for it yet.
    Absent,
    /// Asked for, no read launched.
    Queued,
    /// Being read, or failed and not yet acquired.
    Loading(Key),
    /// There.
    Loaded,
    /// There and being written: nobody may change it meanwhile.
    Writing(Key),
}

/// What an acquire is after.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Aim {
    Resident(ExtentId),
    /// The future's first entry, which stands there only for this acquire if it
    /// is `on_demand`.
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

/// Sequence numbers start in the middle, because extents that are read on
/// demand come before what was enqueued.
const FIRST_SEQ: u64 = 1 << 63;

#[derive(Debug)]
pub(crate) struct State {
    /// By extent.
    held: Vec<Held>,
    part_lens: Vec<u64>,
    config: Config,
    /// Streamed uses enqueued and not acquired. Those that have a load are the first
    /// ones, and their loads lie in the window in the same order.
    future: VecDeque<Entry>,
    /// Sequence number of the future's first entry.
    base: u64,
    /// Sequence number of the first entry that may have reads to launch.
    cursor: u64,
    writes: WriteBack,
    /// Resident extents to read, each with the sequence number of the entry
    /// that it was enqueued before. May hold some that are read already.
    resident_queue: VecDeque<(u64, ExtentId)>,
    /// Resident extents asked for and not there.
    resident_due: usize,
    window: Window,
    loads: Loads,
    flights: Flights,
    fetches: Fetches,
    leased: u64,
    /// Somebody waits for the future's first entry.
    urgent: bool,
    /// The compute takes extents on demand: prefetching what it does not follow
    /// would only be in its way.
    off_plan: bool,
    /// Bytes in the window were skipped since the last lease.
    gap: bool,
    pub counters: Counters,
    pub trace: Trace,
}

impl State {
    /// The arguments have been checked.
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

    /// Where a resident extent is, and what has become of it.
    fn resident(&self, id: ExtentId) -> Option<(u64, Presence)> {
        match self.held[id.index()].residence {
            Residence::Streamed(_) => None,
            Residence::Resident { at, is } => Some((at, is)),
        }
    }

    fn set(&mut self, id: ExtentId, presence: Presence) {
        match &mut self.held[id.index()].residence {
            Residence::Streamed(_) => unreachable!("only what stays is there or not"),
            Residence::Resident { is, .. } => *is = presence,
        }
    }

    fn passing(&mut self, id: ExtentId) -> &mut Passing {
        match &mut self.held[id.index()].residence {
            Residence::Streamed(passing) => passing,
            Residence::Resident { .. } => unreachable!("only what streams is in the future"),
        }
    }

    /// Lends the memory.
    pub(crate) fn region_mut(&mut self) -> &mut Region {
        &mut self.flights.region
    }

    /// Operations that the medium has.
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

    /// Drops the future. Of the resident extents those that are being read
    /// already are read to their end.
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

    /// Once no operation is under way: drops the resident extents that failed, which
    /// nobody will ask about.
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

    /// Whether every write is over, also where it failed.
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

    /// Nobody wants a load any more. What no read was launched for is free at
    /// once, the rest when its reads are over.
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

    /// Forgets a resident extent's failed load.
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
