//! A fiber loop as a medium: what circulates passes the tap once a lap, and a read
//! that comes too late waits for the next pass. The medium behind it has the true
//! bytes: the loop is filled and repaired from it, and read from it when the light is
//! gone. The same code runs in real and in virtual time. It does not know why a piece
//! lies where it does: placement decides that.
//!
//! A piece is the bytes of one read of a streamed extent. It passes at
//! `t0 + start + n · turn`. A read that was submitted before that completes when the
//! last bit has passed; one submitted later waits for the next turn. A turn is a lap
//! divided by the number of copies of each piece. What is not on the loop, or is no
//! whole piece of it (a row of a table), is read from the medium behind.
//!
//! Each piece has a checksum. Bits flip at a given rate per lap; a piece whose checksum
//! is wrong when it is taken is read from the medium behind instead, and sent into the
//! loop again.

mod behind;
mod fault;
mod fill;
mod tap;

pub use fill::FillError;

use behind::Behind;

use self::fault::Fault;
use crate::gauge::{Gauge, LoopFigures, LoopNotice};
use crate::glass::Glass;
use crate::light::Lights;
use crate::orbit::{Orbit, PlacedExtent};
use crate::spec::LoopSpec;
use delayline_line::{
    Caps, Completion, Durability, EventClass, Medium, MediumError, MediumEvent, Op, Rates, Stats,
    Verb,
};
use delayline_medium::{Memory, Pace, Rng};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::io;
use std::sync::Arc;

/// The loop, the medium behind it, and the reads under way in both.
pub struct FiberLoop<M, C> {
    // First: it writes into memory until it is dropped.
    glass: Option<Glass>,
    behind: Behind<M>,
    clock: C,
    spec: LoopSpec,
    orbit: Orbit,
    lights: Lights,
    /// Whether a cut has left pieces dark, and [`LoopNotice::Refilled`] is still to come.
    refilling: bool,
    /// When lap 0 began, in nanoseconds of the clock.
    t0_ns: u64,
    /// How extents are cut into pieces, and where the files end.
    read_len: u32,
    part_lens: Vec<u64>,
    caps: Caps,
    stats: Stats,
    /// Completions of operations that are not reads.
    at_once: Vec<Completion>,
    /// Reads that wait for their piece, by ticket, and when it has passed, in nanoseconds
    /// since lap 0 began.
    passing: BinaryHeap<Reverse<(u64, u64)>>,
    waiting: HashMap<u64, Waiting>,
    tickets: u64,
    /// Reads for the medium behind, beyond its depth.
    queue: VecDeque<Op>,
    /// Reads of the medium behind, queued or under way, by their id.
    behind_reads: HashMap<u64, BehindRead>,
    cut: Fault,
    rng: Rng,
    gauge: Gauge,
    scratch: Vec<Completion>,
}

struct Waiting {
    op: Op,
    piece: u32,
    pass: u64,
    /// Without glass: whether its checksum would be right.
    good: bool,
}

/// Why a read goes to the medium behind.
#[derive(Clone, Copy, PartialEq, Eq)]
enum BehindRead {
    /// It is no whole piece of the loop.
    Beside,
    /// This piece does not circulate.
    Dark(u32),
    /// This piece was wrong when it passed.
    Wrong(u32),
}

impl<M: Medium, C: Pace> FiberLoop<M, C> {
    /// A dark loop around `behind`, which reads into `memory` too, of files that are
    /// `part_lens` bytes long. `measures` are the longest read in bytes and the maximum
    /// number of reads at once; as the line does, the loop cuts the extents that circulate
    /// into such reads. Nothing circulates before [`FiberLoop::fill`]; pieces that are read
    /// without it are sent into the loop as they come.
    ///
    /// # Errors
    /// When the system has no room for the bytes in flight, or refuses a thread.
    pub fn new(
        behind: M,
        clock: C,
        memory: Arc<Memory>,
        spec: LoopSpec,
        placed: &[PlacedExtent],
        measures: (u32, usize),
        part_lens: &[u64],
    ) -> io::Result<Self> {
        let mut all = Self::without_bytes(behind, clock, spec, placed, measures, part_lens);
        let glass = Glass::new(all.orbit.pieces.iter().map(|piece| piece.bytes), memory)?;
        all.glass = Some(glass);
        all.lights.go_dark();
        all.cut = Fault::None;
        Ok(all)
    }

    /// Replaces what circulates by `placed`, each extent `copies` times. Everything is
    /// dark then, and the figures start again from 0.
    ///
    /// # Errors
    /// As [`FiberLoop::new`].
    ///
    /// # Panics
    /// When reads are under way.
    pub fn place(&mut self, placed: &[PlacedExtent], copies: u32) -> io::Result<()> {
        assert!(self.under_way() == 0, "nothing is moved while it is read");
        self.spec.copies = copies;
        self.orbit = Orbit::new(&self.spec, placed, self.read_len, &self.part_lens);
        if let Some(glass) = &mut self.glass {
            let lens = self.orbit.pieces.iter().map(|piece| piece.bytes);
            *glass = Glass::new(lens, glass.memory().clone())?;
        }
        self.lights = Lights::new(self.orbit.pieces.len(), copies);
        self.refilling = false;
        self.cut = Fault::None;
        self.t0_ns = self.clock.now_ns();
        let fresh = LoopFigures::at_start(&self.spec, &self.orbit);
        self.gauge.count(|figures| *figures = fresh);
        Ok(())
    }

    /// As [`FiberLoop::new`], but full from the start and without bytes: reads leave the
    /// memory as it is. For studies in virtual time.
    pub fn without_bytes(
        behind: M,
        clock: C,
        spec: LoopSpec,
        placed: &[PlacedExtent],
        (read_len, depth): (u32, usize),
        part_lens: &[u64],
    ) -> Self {
        let orbit = Orbit::new(&spec, placed, read_len, part_lens);
        let gauge = Gauge::default();
        let caps = Caps {
            depth,
            largest_len: read_len,
            best_len: read_len,
            rates: Rates {
                read_bytes_per_s: Some(spec.net_bytes_per_s() as u64),
                ..Rates::default()
            },
            writable: false,
            durability: Durability::Volatile,
            ..behind.caps().clone()
        };
        gauge.count(|figures| *figures = LoopFigures::at_start(&spec, &orbit));
        let mut all = Self {
            glass: None,
            behind: Behind::new(behind),
            t0_ns: clock.now_ns(),
            clock,
            lights: Lights::new(orbit.pieces.len(), spec.copies),
            refilling: false,
            rng: Rng::new(spec.seed),
            spec,
            orbit,
            read_len,
            part_lens: part_lens.to_vec(),
            caps,
            stats: Stats::default(),
            at_once: Vec::new(),
            passing: BinaryHeap::new(),
            waiting: HashMap::new(),
            tickets: 0,
            queue: VecDeque::new(),
            behind_reads: HashMap::new(),
            cut: Fault::None,
            gauge,
            scratch: Vec::new(),
        };
        all.lights.shine();
        all.expect_cut();
        all
    }

    /// Access to figures and events, also while the line owns the loop.
    pub fn gauge(&self) -> Gauge {
        self.gauge.clone()
    }

    /// The medium behind.
    pub fn behind_mut(&mut self) -> &mut M {
        &mut self.behind
    }

    fn under_way(&self) -> usize {
        self.waiting.len() + self.behind_reads.len() + self.at_once.len()
    }

    /// Nanoseconds since lap 0 began.
    fn now_ns(&self) -> u64 {
        self.clock.now_ns() - self.t0_ns
    }

    /// Queues a read of the medium behind.
    fn read_behind(&mut self, op: Op, why: BehindRead) {
        let twin = self.behind_reads.insert(op.id, why);
        assert!(twin.is_none(), "two reads under way are named {}", op.id);
        self.queue.push_back(op);
        self.pass_on();
    }

    /// Submits queued reads, as many as the depth of the medium behind allows.
    fn pass_on(&mut self) {
        while self.behind_reads.len() - self.queue.len() < self.behind.caps().depth
            && let Some(op) = self.queue.pop_front()
        {
            self.behind.submit(op);
        }
    }

    /// Takes the completions of the medium behind; returns how many there were.
    fn land_behind(&mut self, wait: bool, done: &mut Vec<Completion>) -> usize {
        let mut came = std::mem::take(&mut self.scratch);
        self.behind.poll(wait, &mut came);
        let over = came.len();
        for completion in came.drain(..) {
            let why = self
                .behind_reads
                .remove(&completion.id)
                .expect("its own reads");
            let bytes = u64::from(*completion.result.as_ref().unwrap_or(&0));
            match why {
                BehindRead::Beside => self.gauge.count(|figures| {
                    figures.reads_beside += 1;
                    figures.beside_bytes += bytes;
                }),
                BehindRead::Dark(piece) | BehindRead::Wrong(piece) => {
                    if why == BehindRead::Dark(piece) {
                        self.gauge.count(|figures| figures.dark_bytes += bytes);
                    }
                    let whole = bytes == u64::from(self.orbit.pieces[piece as usize].bytes);
                    if whole && !matches!(self.cut, Fault::Lasts { .. }) {
                        self.send(piece, completion.buffer.at());
                    }
                }
            }
            self.stats.count(Verb::Read, &completion.result);
            done.push(completion);
        }
        self.scratch = came;
        self.pass_on();
        over
    }

    /// When the loop itself does something next, in nanoseconds of the clock.
    fn next_ns(&self) -> Option<u64> {
        let passed_ns = self
            .passing
            .peek()
            .map(|&Reverse((ns, _))| ns + self.t0_ns)?;
        Some(match self.cut {
            Fault::Comes { at_ns, .. } => passed_ns.min(at_ns),
            _ => passed_ns,
        })
    }
}

impl<M: Medium, C: Pace> Medium for FiberLoop<M, C> {
    fn caps(&self) -> &Caps {
        &self.caps
    }

    fn submit(&mut self, op: Op) {
        assert!(
            self.under_way() < self.caps.depth,
            "more than {} operations under way",
            self.caps.depth
        );
        if let Some(glass) = &self.glass {
            glass.memory().check_owns(&op.buffer);
        }
        self.follow_fault();
        if op.verb != Verb::Read {
            let result = without_writes(&op, self.part_lens.len());
            self.stats.count(op.verb, &result);
            return self.at_once.push(op.complete(result));
        }
        let Some(piece) = self.orbit.find(op.part, op.offset, op.buffer.len()) else {
            return self.read_behind(op, BehindRead::Beside);
        };
        match self.next_pass(piece) {
            Some(pass) => self.await_piece(op, piece, pass),
            None => self.read_behind(op, BehindRead::Dark(piece)),
        }
    }

    fn poll(&mut self, wait: bool, done: &mut Vec<Completion>) {
        let before = done.len();
        done.append(&mut self.at_once);
        loop {
            self.follow_fault();
            self.land_light(done);
            if !self.behind_reads.is_empty() {
                self.land_behind(false, done);
            }
            if !wait || done.len() > before || self.under_way() == 0 {
                return;
            }
            // Waits for the medium behind first: a lap may take longer than its reads.
            match self.next_ns() {
                Some(next_ns) if self.behind_reads.is_empty() => self.clock.wait_until_ns(next_ns),
                next_ns => {
                    if self.land_behind(true, done) > 0 {
                        continue;
                    }
                    // The medium behind will never complete its reads.
                    match next_ns {
                        Some(next_ns) => self.clock.wait_until_ns(next_ns),
                        None => return,
                    }
                }
            }
        }
    }

    fn stats(&self) -> Stats {
        self.stats
    }

    fn events(&mut self, out: &mut Vec<MediumEvent>) {
        self.behind.events(out);
        out.extend(
            self.gauge
                .take_notices()
                .into_iter()
                .map(|notice| MediumEvent {
                    class: match notice {
                        LoopNotice::Cut { bytes } => EventClass::Lost { bytes },
                        LoopNotice::Mended => EventClass::Recovering,
                        LoopNotice::Refilled => EventClass::Recovered,
                    },
                    message: notice.to_string(),
                }),
        );
    }
}

/// The result of a write, which a loop refuses, or of a sync, which has nothing to do.
fn without_writes(op: &Op, parts: usize) -> Result<u32, MediumError> {
    if usize::from(op.part) >= parts {
        let reason = format!("there is no such part: the model has {parts}, counted from 0");
        let reason = io::Error::new(io::ErrorKind::NotFound, reason);
        let part = format!("part {}", op.part);
        return Err(MediumError::refused(part, op.asked(), reason));
    }
    if op.verb == Verb::Sync {
        return Ok(0);
    }
    let reason = "a fiber loop takes no writes; write to the medium behind it, and fill it again";
    let reason = io::Error::new(io::ErrorKind::Unsupported, reason);
    Err(MediumError::refused("fiber loop", op.asked(), reason))
}
