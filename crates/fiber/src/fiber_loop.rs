//! A fiber loop as a medium: what circulates passes the tap once a lap, and
//! whoever is not there waits for the next. Around any inner medium, which has
//! the true bytes: it fills the loop, repairs it, and stands in when the light
//! is gone. The same code runs in real and in virtual time. It does not know
//! why a piece lies where it does: that is the plan's business.
//!
//! A piece is the bytes of one read of a streamed extent. It passes at
//! `t0 + start + n · turn`. A read that was submitted before that takes it when
//! its last bit has passed; one submitted later waits for the turn after. A turn
//! is a lap, or, if the loop holds each piece several times, that part of one.
//! What is not on the loop, or no whole piece of it (a row of a table), is read from
//! the medium behind: a delay line is the wrong place to look for one row.
//!
//! Each piece carries a checksum. Bits go wrong at a given rate per lap; a piece
//! that does not check when it is taken is read from the medium behind, given to
//! whoever waits, and sent into the loop anew.

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
    /// Whether a cut has left pieces dark of which nobody was told that they are
    /// back.
    refilling: bool,
    /// When lap 0 began, by the clock.
    t0_ns: u64,
    /// How extents are cut into pieces, and where the files end.
    read_len: u32,
    part_lens: Vec<u64>,
    caps: Caps,
    stats: Stats,
    /// What ends without the loop.
    at_once: Vec<Completion>,
    /// Reads that wait for their piece, and by when it has passed.
    passing: BinaryHeap<Reverse<(u64, u64)>>,
    waiting: HashMap<u64, Waiting>,
    tickets: u64,
    /// Reads for the medium behind that it has no place for yet.
    queue: VecDeque<Op>,
    /// Why each read is with the medium behind, by its name; queued ones too.
    errands: HashMap<u64, Errand>,
    cut: Fault,
    rng: Rng,
    gauge: Gauge,
    scratch: Vec<Completion>,
}

struct Waiting {
    op: Op,
    piece: u32,
    pass: u64,
    /// Without glass: whether it would check.
    good: bool,
}

/// Why a read is with the medium behind.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Errand {
    /// It is nobody else's.
    Beside,
    /// The piece does not circulate.
    Dark(u32),
    /// It does, but what came by was wrong.
    Wrong(u32),
}

impl<M: Medium, C: Pace> FiberLoop<M, C> {
    /// A dark loop around `behind`, for up to `depth` reads at once into
    /// `memory` (that of `behind`), of files that are `part_lens` bytes long.
    /// The extents that circulate are cut into reads of `read_len` bytes as the
    /// line does. Nothing circulates before [`FiberLoop::fill`]; what is read
    /// without that is sent into the loop as it comes.
    ///
    /// # Errors
    /// When the system has no room for the bytes in flight, or no thread.
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

    /// Places anew what circulates, so many copies of it. Everything is dark then,
    /// and the figures begin anew.
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

    /// As [`FiberLoop::new`], but full from the start and without bytes: what is
    /// taken from it leaves the memory as it is. For studies in virtual time.
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
            errands: HashMap::new(),
            cut: Fault::None,
            gauge,
            scratch: Vec::new(),
        };
        all.lights.shine();
        all.expect_cut();
        all
    }

    /// Figures and events, also for when the line has the loop.
    pub fn gauge(&self) -> Gauge {
        self.gauge.clone()
    }

    /// The medium behind.
    pub fn behind_mut(&mut self) -> &mut M {
        &mut self.behind
    }

    fn under_way(&self) -> usize {
        self.waiting.len() + self.errands.len() + self.at_once.len()
    }

    /// Since lap 0 began.
    fn now_ns(&self) -> u64 {
        self.clock.now_ns() - self.t0_ns
    }

    /// Has the medium behind do a read.
    fn send_errand(&mut self, op: Op, errand: Errand) {
        let twin = self.errands.insert(op.id, errand);
        assert!(twin.is_none(), "two reads under way are named {}", op.id);
        self.queue.push_back(op);
        self.pass_on();
    }

    /// Gives the medium behind what it has place for.
    fn pass_on(&mut self) {
        while self.errands.len() - self.queue.len() < self.behind.caps().depth
            && let Some(op) = self.queue.pop_front()
        {
            self.behind.submit(op);
        }
    }

    /// Takes what the medium behind has done; returns how many reads.
    fn land_errands(&mut self, wait: bool, done: &mut Vec<Completion>) -> usize {
        let mut came = std::mem::take(&mut self.scratch);
        self.behind.poll(wait, &mut came);
        let over = came.len();
        for completion in came.drain(..) {
            let errand = self.errands.remove(&completion.id).expect("its own reads");
            let bytes = u64::from(*completion.result.as_ref().unwrap_or(&0));
            match errand {
                Errand::Beside => self.gauge.count(|figures| {
                    figures.reads_beside += 1;
                    figures.beside_bytes += bytes;
                }),
                Errand::Dark(piece) | Errand::Wrong(piece) => {
                    if errand == Errand::Dark(piece) {
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

    /// When something happens next without the medium behind, by the clock.
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
            return self.send_errand(op, Errand::Beside);
        };
        match self.next_pass(piece) {
            Some(pass) => self.await_piece(op, piece, pass),
            None => self.send_errand(op, Errand::Dark(piece)),
        }
    }

    fn poll(&mut self, wait: bool, done: &mut Vec<Completion>) {
        let before = done.len();
        done.append(&mut self.at_once);
        loop {
            self.follow_fault();
            self.land_light(done);
            if !self.errands.is_empty() {
                self.land_errands(false, done);
            }
            if !wait || done.len() > before || self.under_way() == 0 {
                return;
            }
            // What the medium behind does takes moments, a lap may be longer.
            match self.next_ns() {
                Some(next_ns) if self.errands.is_empty() => self.clock.wait_until_ns(next_ns),
                next_ns => {
                    if self.land_errands(true, done) > 0 {
                        continue;
                    }
                    // The medium behind has lost what it was asked for.
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

/// A loop takes no writes; what nobody writes is settled.
fn without_writes(op: &Op, parts: usize) -> Result<u32, MediumError> {
    if usize::from(op.part) >= parts {
        let reason = format!("there is no such part: the model has {parts}");
        let reason = io::Error::new(io::ErrorKind::NotFound, reason);
        let part = format!("part {}", op.part);
        return Err(MediumError::refused(part, op.asked(), reason));
    }
    if op.verb == Verb::Sync {
        return Ok(0);
    }
    let reason = "what circulates is a copy that nobody can change on its way; \
                  write to the medium behind, and fill the loop again";
    let reason = io::Error::new(io::ErrorKind::Unsupported, reason);
    Err(MediumError::refused("fiber loop", op.asked(), reason))
}
