//! The state machine: the known future, what is resident, and which read comes
//! next. Completions go in, reads come out. It does not know the medium, the
//! clock, or how anybody waits.

use std::collections::VecDeque;

use delayline_plan::{Extent, ExtentId, Mode, Use};

use crate::fetches::{Came, Fetches};
use crate::flights::Flights;
use crate::trace::{EventKind, Trace};
use crate::types::{Config, Counters, FetchSpan, LineSetup};
use crate::window::{Key, Loads, Phase, Window};
use crate::{LineError, Region};

mod acquire;
mod reads;
mod writes;

use writes::WriteBack;

/// How an extent comes to be in memory.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// Through the window, each time that it is enqueued.
    Streamed,
    /// Resident, nobody has asked for it yet.
    Absent,
    /// Resident, asked for, no read launched.
    Queued,
    /// Resident, being read, or failed and not yet acquired.
    Loading(Key),
    /// Resident and there.
    Loaded,
    /// Resident and there, being written: nobody may change it meanwhile.
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
    extents: Vec<Extent>,
    part_lens: Vec<u64>,
    homes: Vec<Option<u64>>,
    config: Config,
    ways: Vec<Way>,
    /// Streamed uses enqueued and not acquired. Those that have a load are the first
    /// ones, and their loads lie in the window in the same order.
    future: VecDeque<Entry>,
    /// Sequence number of the future's first entry.
    base: u64,
    /// Sequence number of the first entry that may have reads to launch.
    cursor: u64,
    /// How often each extent occurs in the future.
    uses: Vec<u32>,
    /// Loads of each streamed extent under which it changes and that are not
    /// written: until then its bytes on the medium are old, and nobody reads them.
    changing: Vec<u32>,
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
        let way = |home: &Option<u64>| home.map_or(Way::Streamed, |_| Way::Absent);
        Self {
            ways: homes.iter().map(way).collect(),
            future: VecDeque::new(),
            base: FIRST_SEQ,
            cursor: FIRST_SEQ,
            uses: vec![0; extents.len()],
            changing: vec![0; extents.len()],
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
            extents,
            part_lens,
            homes,
            config,
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
        match self.ways[id.index()] {
            Way::Streamed => {
                let (extent, load) = (id, None);
                self.future.push_back(Entry { extent, mode, load });
                self.uses[id.index()] += 1;
                return;
            }
            Way::Loading(key) if self.loads[key].settled() => self.drop_resident(id, key),
            Way::Absent => {}
            Way::Queued | Way::Loading(_) | Way::Loaded | Way::Writing(_) => return,
        }
        self.resident_due += 1;
        self.ways[id.index()] = Way::Queued;
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
        let Self {
            resident_queue,
            resident_due,
            ways,
            loads,
            ..
        } = self;
        resident_queue.retain(|&(_, id)| match ways[id.index()] {
            Way::Loading(key) => !loads[key].all_issued(),
            Way::Queued => {
                ways[id.index()] = Way::Absent;
                *resident_due -= 1;
                false
            }
            _ => false,
        });
    }

    /// Once no operation is under way: drops the resident extents that failed, which
    /// nobody will ask about.
    pub(crate) fn forget_failures(&mut self) {
        for index in 0..self.ways.len() {
            match self.ways[index] {
                Way::Loading(key) if self.loads[key].settled() => {
                    self.drop_resident(ExtentId(index as u32), key);
                }
                _ => {}
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

    pub(crate) fn fetch(&mut self, spans: &[FetchSpan]) -> u32 {
        self.fetches.add(spans)
    }

    pub(crate) fn guess(&mut self, spans: &[FetchSpan]) -> u32 {
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
        self.uses[entry.extent.index()] -= 1;
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
            self.changing[load.extent.index()] -= 1;
        }
    }

    /// Forgets a resident extent's failed load.
    fn drop_resident(&mut self, id: ExtentId, key: Key) {
        self.counters.bytes_wasted += self.loads[key].landed;
        self.loads.remove(key);
        self.ways[id.index()] = Way::Absent;
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
