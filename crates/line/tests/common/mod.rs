//! A simulated medium in virtual time that checks the line: it fills buffers with
//! garbage until their read completes, and panics on a read into memory that is
//! in use. It does not know which reads should come.
#![allow(dead_code, missing_docs)]

pub mod drive;

use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;

use std::io;

use delayline_line::{
    Caps, Clock, Completion, Config, Lease, Line, LineError, LineSetup, Medium, MediumError,
    MediumEvent, Op, Region, Stats, Verb,
};
use delayline_plan::{ALIGN, Extent, ExtentId};

pub const PAGE: u64 = ALIGN;

/// Virtual time in nanoseconds.
#[derive(Debug, Default)]
pub struct Time(Cell<u64>);

impl Time {
    pub fn advance(&self, ns: u64) {
        self.0.set(self.0.get() + ns);
    }
}

impl Clock for Time {
    fn now_ns(&self) -> u64 {
        self.0.get()
    }
}

/// A small generator (SplitMix64), so that a seed reproduces a failure.
#[derive(Clone, Debug)]
pub struct Rng(pub u64);

impl Rng {
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % end
    }

    pub fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }
}

/// How the medium behaves.
#[derive(Clone, Debug)]
pub struct Manner {
    pub depth: usize,
    pub ns_per_page: u64,
    pub latency_ns: u64,
    /// Maximum random delay of a read, so that reads complete out of order.
    pub jitter_ns: u64,
    pub short_percent: u64,
    pub error_percent: u64,
    /// Reads that start in this range of part 0 always fail.
    pub broken: Range<u64>,
    /// Every read fails as of a medium that is gone.
    pub gone: bool,
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            depth: 4,
            ns_per_page: 1000,
            latency_ns: 5000,
            jitter_ns: 0,
            short_percent: 0,
            error_percent: 0,
            broken: 0..0,
            gone: false,
        }
    }
}

#[derive(Debug)]
pub struct Sim {
    caps: Caps,
    stats: Stats,
    pub manner: Manner,
    pub memory: Vec<u8>,
    /// Memory that nothing may be read into.
    pub guarded: Vec<Range<u64>>,
    /// Reads that completed with an error or too few bytes.
    pub faults: u64,
    window: u64,
    part_lens: Vec<u64>,
    time: Rc<Time>,
    rng: Rng,
    bus_free_ns: u64,
    under_way: Vec<(u64, Op)>,
}

const GARBAGE: u8 = 0xEE;

/// Fills `out` with the file's bytes from `offset` on.
fn file(part: u16, offset: u64, out: &mut [u8]) {
    let key = u64::from(part) << 60;
    let word = |n: usize| {
        let mixed = (offset / 8 + n as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (key ^ mixed).to_le_bytes()
    };
    let whole = out.len() / 8;
    let (words, rest) = out.split_at_mut(8 * whole);
    for (n, bytes) in words.chunks_exact_mut(8).enumerate() {
        bytes.copy_from_slice(&word(n));
    }
    rest.copy_from_slice(&word(whole)[..rest.len()]);
}

fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

fn range(op: &Op) -> Range<u64> {
    op.buffer.at()..op.buffer.at() + u64::from(op.buffer.len())
}

impl Sim {
    pub fn in_flight(&self) -> usize {
        self.under_way.len()
    }

    /// Whether memory from `at` on holds the `len` bytes of the file at `offset`.
    pub fn holds(&self, part: u16, offset: u64, len: u64, at: u64) -> bool {
        let len = len.min(self.part_lens[usize::from(part)] - offset) as usize;
        let mut page = [0; PAGE as usize];
        (0..len).step_by(PAGE as usize).all(|done| {
            let page = &mut page[..(PAGE as usize).min(len - done)];
            file(part, offset + done as u64, page);
            let at = at as usize + done;
            self.memory[at..at + page.len()] == *page
        })
    }

    fn complete(&mut self, op: Op) -> Completion {
        let (part, offset) = (op.part, op.offset);
        let to_end = self.part_lens[usize::from(part)] - offset;
        let mut got = to_end.min(u64::from(op.buffer.len())) as u32;
        let broken = part == 0 && self.manner.broken.contains(&offset);
        let result = if self.manner.gone {
            Err(MediumError::gone("sim", io::Error::other("gone")))
        } else if broken || self.rng.percent(self.manner.error_percent) {
            let broken = io::Error::other("broken");
            Err(MediumError::failed("sim", op.asked(), broken))
        } else {
            if self.rng.percent(self.manner.short_percent) {
                got = self.rng.below(u64::from(got)) as u32;
                self.faults += 1;
            }
            let at = op.buffer.at() as usize;
            file(part, offset, &mut self.memory[at..at + got as usize]);
            Ok(got)
        };
        self.faults += u64::from(result.is_err());
        self.stats.count(op.verb, &result);
        op.complete(result)
    }
}

impl Medium for Sim {
    fn caps(&self) -> &Caps {
        &self.caps
    }

    fn submit(&mut self, op: Op) {
        assert_eq!(op.verb, Verb::Read);
        let buffer = range(&op);
        assert!(self.under_way.len() < self.manner.depth, "queue overrun");
        assert!((buffer.start | buffer.end | op.offset).is_multiple_of(PAGE) && !buffer.is_empty());
        assert!(
            buffer.end <= self.window || buffer.start >= self.window,
            "{buffer:?} lies across the window's end"
        );
        assert!(buffer.end <= self.memory.len() as u64);
        for other in self.under_way.iter().map(|(_, op)| range(op)) {
            assert!(!overlap(&buffer, &other), "{buffer:?} overlaps {other:?}");
        }
        for guarded in &self.guarded {
            assert!(
                !overlap(&buffer, guarded),
                "{buffer:?} overwrites {guarded:?}"
            );
        }
        self.memory[buffer.start as usize..buffer.end as usize].fill(GARBAGE);
        let pages = (buffer.end - buffer.start) / PAGE;
        self.bus_free_ns =
            self.bus_free_ns.max(self.time.now_ns()) + pages * self.manner.ns_per_page;
        let jitter_ns = self.rng.below(self.manner.jitter_ns + 1);
        let due_ns = self.bus_free_ns + self.manner.latency_ns + jitter_ns;
        self.under_way.push((due_ns, op));
    }

    fn poll(&mut self, wait: bool, done: &mut Vec<Completion>) {
        let first_ns = self.under_way.iter().map(|(due_ns, _)| *due_ns).min();
        if let (true, Some(first_ns)) = (wait, first_ns) {
            let now_ns = self.time.now_ns();
            self.time.advance(first_ns.saturating_sub(now_ns));
        }
        let now_ns = self.time.now_ns();
        while let Some(n) = self
            .under_way
            .iter()
            .position(|(due_ns, _)| *due_ns <= now_ns)
        {
            // Completions are returned in no particular order.
            let (_, op) = self.under_way.swap_remove(n);
            let completion = self.complete(op);
            done.push(completion);
        }
    }

    fn stats(&self) -> Stats {
        self.stats
    }

    fn events(&mut self, _: &mut Vec<MediumEvent>) {}
}

/// A line over a simulated medium, with its setup for checks.
pub struct Bench {
    pub line: Line<Sim, Rc<Time>>,
    pub time: Rc<Time>,
    pub extents: Vec<Extent>,
    pub homes: Vec<Option<u64>>,
}

impl Bench {
    /// Consecutive extents of `pages` pages in one part, which ends `cut` bytes before
    /// the last one does. The homes of `resident` ones follow the window in memory, then
    /// `spare` pages for fetches.
    pub fn new(
        pages: &[u64],
        resident: &[usize],
        cut: u64,
        config: Config,
        manner: Manner,
        seed: u64,
        spare: u64,
    ) -> Self {
        let mut extents = Vec::new();
        let mut homes = Vec::new();
        let (mut offset, mut memory) = (0, config.window);
        for (n, pages) in pages.iter().enumerate() {
            let len = pages * PAGE;
            let part = 0;
            extents.push(Extent { part, offset, len });
            homes.push(resident.contains(&n).then_some(memory));
            memory += homes[n].map_or(0, |_| len);
            offset += len;
        }
        let part_lens = vec![offset - cut];
        let time = Rc::new(Time::default());
        let memory = memory + spare * PAGE;
        let sim = Sim {
            caps: Caps {
                depth: manner.depth,
                ..Caps::default()
            },
            stats: Stats::default(),
            manner,
            memory: vec![0; memory as usize],
            guarded: Vec::new(),
            faults: 0,
            window: config.window,
            part_lens: part_lens.clone(),
            time: time.clone(),
            rng: Rng(seed),
            bus_free_ns: 0,
            under_way: Vec::new(),
        };
        let setup = LineSetup {
            extents: extents.clone(),
            part_lens,
            homes: homes.clone(),
            config,
        };
        let line = Line::new(sim, time.clone(), Region::new(memory), setup);
        Self {
            line: line.unwrap(),
            time,
            extents,
            homes,
        }
    }

    /// Memory position of the pages for fetches.
    pub fn spare_at(&self) -> u64 {
        let homes = self.homes.iter().zip(&self.extents);
        let ends = homes.filter_map(|(home, extent)| home.map(|at| at + extent.len));
        ends.max().unwrap_or(self.line.medium().window)
    }

    /// Bytes of an extent within its file.
    pub fn bytes(&self, id: ExtentId) -> u64 {
        let extent = self.extents[id.index()];
        extent
            .len
            .min(self.line.medium().part_lens[0] - extent.offset)
    }

    /// Acquires an extent, checks all its bytes, and guards them from now on.
    pub fn acquire(&mut self, id: ExtentId) -> Result<Lease, LineError> {
        let lease = self.line.acquire(id)?;
        assert_eq!(lease.extent(), id);
        let range = self.range(&lease);
        match self.homes[id.index()] {
            Some(home) => assert_eq!(lease.at(), home),
            None => {
                assert!(range.end <= self.line.medium().window);
                for other in &self.line.medium().guarded {
                    assert!(!overlap(&range, other), "lease {range:?} on {other:?}");
                }
            }
        }
        self.verify(&lease);
        self.line.medium_mut().guarded.push(range);
        Ok(lease)
    }

    /// Checks that a leased extent's bytes are still there.
    pub fn verify(&self, lease: &Lease) {
        let Extent { part, offset, len } = self.extents[lease.extent().index()];
        assert!(
            self.line.medium().holds(part, offset, len, lease.at()),
            "extent {} is not whole in memory",
            lease.extent().0
        );
    }

    /// Checks a lease's bytes again and releases it.
    pub fn release(&mut self, lease: Lease) {
        self.verify(&lease);
        // A resident extent stays guarded: it must never be read again.
        if self.homes[lease.extent().index()].is_none() {
            let range = self.range(&lease);
            let guarded = &mut self.line.medium_mut().guarded;
            let n = guarded.iter().position(|other| *other == range).unwrap();
            guarded.swap_remove(n);
        }
        self.line.release(lease);
    }

    fn range(&self, lease: &Lease) -> Range<u64> {
        lease.at()..lease.at() + self.extents[lease.extent().index()].len
    }
}
