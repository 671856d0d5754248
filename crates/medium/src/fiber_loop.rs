//! A fiber loop as a medium: what circulates passes the tap once a lap, and
//! whoever is not there waits for the next. Around any inner medium, which has
//! the true bytes: it fills the loop, repairs it, and stands in when the light
//! is gone. The same code runs in real and in virtual time. It does not know
//! why a piece lies where it does: that is the plan's business.
//!
//! A piece is the bytes of one read of a streamed extent. It passes at
//! `t0 + start + n · lap`. A read that was submitted before that takes it when
//! its last bit has passed; one submitted later waits for the lap after. What
//! is not on the loop, or no whole piece of it (a row of a table), is read from
//! the medium behind: a delay line is the wrong place to look for one row.
//!
//! Each piece carries a checksum. Bits go wrong at a given rate per lap; a piece
//! that does not check when it is taken is read from the medium behind, given to
//! whoever waits, and sent into the loop anew.

mod fault;
mod fill;
mod gauge;
mod glass;
mod orbit;
mod quantity;
mod spec;

pub use gauge::{Gauge, LoopFigures, LoopNotice};
pub use orbit::{Placed, pieces};
pub use quantity::Quantity;
pub use spec::{Cut, DoesNotFit, LoopSpec, SpecBuilder, SpecError};

use self::fault::Fault;
use self::glass::Glass;
use self::orbit::{Orbit, Piece};
use crate::{Memory, Pace, Rng};
use delayline_line::{Completion, Medium, Read};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::io;
use std::sync::Arc;

/// Wrong bits of a piece that are drawn at most: more make it no worse.
const FLIPS: u64 = 64;
/// A piece that does not circulate comes by in no lap.
const DARK: u64 = u64::MAX;

/// The loop, the medium behind it, and the reads under way in both.
pub struct FiberLoop<M, C> {
    // First: it writes into memory until it is dropped.
    glass: Option<Glass>,
    behind: M,
    clock: C,
    spec: LoopSpec,
    orbit: Orbit,
    light: Vec<Light>,
    /// Pieces that do not circulate.
    dark: usize,
    /// When lap 0 began, by the clock.
    t0_ns: u64,
    depth: usize,
    /// Reads that wait for their piece, and by when it has passed.
    passing: BinaryHeap<Reverse<(u64, u64)>>,
    waiting: HashMap<u64, Waiting>,
    tickets: u64,
    /// Reads for the medium behind that it has no place for yet.
    queue: VecDeque<Read>,
    /// Why each read is with the medium behind, by its name; queued ones too.
    errands: HashMap<u64, Errand>,
    cut: Fault,
    rng: Rng,
    gauge: Gauge,
    scratch: Vec<Completion>,
}

/// What is known of the light that carries one piece.
#[derive(Clone, Copy)]
struct Light {
    /// The first lap in which it comes by; [`DARK`] if in none.
    from_lap: u64,
    /// The lap in which it was last looked at, or sent.
    seen_lap: u64,
    /// Whether it was ever taken.
    taken: bool,
}

struct Waiting {
    read: Read,
    piece: u32,
    /// Without glass: whether it would check.
    good: bool,
}

/// Why a read is with the medium behind.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Errand {
    /// It is nobody else's.
    Beside,
    /// The loop does not have the piece, or not as it should be.
    Light(u32),
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
        placed: &[Placed],
        (read_len, depth): (u32, usize),
        part_lens: &[u64],
    ) -> io::Result<Self> {
        let orbit = Orbit::new(&spec, placed, read_len, part_lens);
        let glass = Glass::new(orbit.pieces.iter().map(|piece| piece.bytes), memory)?;
        Ok(Self::build(behind, clock, spec, orbit, depth, Some(glass)))
    }

    /// As [`FiberLoop::new`], but full from the start and without bytes: what is
    /// taken from it leaves the memory as it is. For studies in virtual time.
    pub fn without_bytes(
        behind: M,
        clock: C,
        spec: LoopSpec,
        placed: &[Placed],
        (read_len, depth): (u32, usize),
        part_lens: &[u64],
    ) -> Self {
        let orbit = Orbit::new(&spec, placed, read_len, part_lens);
        let mut all = Self::build(behind, clock, spec, orbit, depth, None);
        all.dark = 0;
        all.light.iter_mut().for_each(|light| light.from_lap = 0);
        all.expect_cut();
        all
    }

    fn build(
        behind: M,
        clock: C,
        spec: LoopSpec,
        orbit: Orbit,
        depth: usize,
        glass: Option<Glass>,
    ) -> Self {
        let gauge = Gauge::default();
        gauge.count(|figures| {
            figures.lap_ns = orbit.lap_ns;
            figures.pieces = orbit.pieces.len() as u64;
            figures.placed_bytes = orbit.pieces.iter().map(|p| u64::from(p.len)).sum();
            figures.in_flight_bytes =
                (figures.placed_bytes as f64 / (1.0 - spec.overhead)).round() as u64;
        });
        let dark = Light {
            from_lap: DARK,
            seen_lap: 0,
            taken: false,
        };
        Self {
            glass,
            behind,
            t0_ns: clock.now_ns(),
            clock,
            light: vec![dark; orbit.pieces.len()],
            dark: orbit.pieces.len(),
            rng: Rng::new(spec.seed),
            spec,
            orbit,
            depth,
            passing: BinaryHeap::new(),
            waiting: HashMap::new(),
            tickets: 0,
            queue: VecDeque::new(),
            errands: HashMap::new(),
            cut: Fault::None,
            gauge,
            scratch: Vec::new(),
        }
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
        self.waiting.len() + self.errands.len()
    }

    /// Since lap 0 began.
    fn now_ns(&self) -> u64 {
        self.clock.now_ns() - self.t0_ns
    }

    /// Sends the piece from where it lies in memory: its place passes the
    /// sender once a lap as well, and a lap after that it is back at the tap.
    fn send(&mut self, piece: u32, at: u64) {
        let bytes = self.orbit.pieces[piece as usize].bytes;
        if let Some(glass) = &mut self.glass
            && glass.send(piece, at, bytes).is_err()
        {
            // The host has no room: the piece stays dark, its bytes come from
            // the medium behind.
            return;
        }
        let sent = self.orbit.next_lap(piece, self.now_ns());
        let light = &mut self.light[piece as usize];
        let was_dark = std::mem::replace(&mut light.from_lap, sent + 1) == DARK;
        light.seen_lap = sent;
        if was_dark {
            self.dark -= 1;
            let cuts = self.gauge.figures().cuts;
            if self.dark == 0 && cuts > 0 {
                self.gauge.tell(LoopNotice::Refilled);
            }
        }
    }

    /// Has a read wait for its piece.
    fn await_piece(&mut self, read: Read, piece: u32) {
        let now_ns = self.now_ns();
        let Piece { bytes, .. } = self.orbit.pieces[piece as usize];
        let light = &mut self.light[piece as usize];
        let lap = self.orbit.next_lap(piece, now_ns).max(light.from_lap);
        let mean = self.spec.residual_ber * f64::from(bytes) * 8.0;
        let laps = lap.saturating_sub(light.seen_lap);
        let missed = if light.taken {
            laps.saturating_sub(1)
        } else {
            0
        };
        light.seen_lap = light.seen_lap.max(lap);
        light.taken = true;
        let count = poisson(&mut self.rng, mean * laps as f64).min(FLIPS);
        let bits = u64::from(bytes) * 8;
        let flips: Vec<u64> = (0..count).map(|_| self.rng.below(bits)).collect();
        self.gauge.count(|figures| {
            figures.missed += missed;
            figures.wrong_bits += count;
        });
        let ticket = self.tickets;
        self.tickets += 1;
        let good = flips.is_empty();
        if let Some(glass) = &mut self.glass {
            glass.take(ticket, piece, bytes, read.slot.at(), flips);
        }
        let passed_ns = self.orbit.passed_ns(piece, lap);
        self.passing.push(Reverse((passed_ns, ticket)));
        self.waiting.insert(ticket, Waiting { read, piece, good });
    }

    /// Takes out what has passed.
    fn land_light(&mut self, done: &mut Vec<Completion>) {
        let now_ns = self.now_ns();
        while let Some(&Reverse((passed_ns, ticket))) = self.passing.peek()
            && passed_ns <= now_ns
        {
            self.passing.pop();
            let Waiting { read, piece, good } =
                self.waiting.remove(&ticket).expect("one for each ticket");
            let late = self
                .glass
                .as_mut()
                .is_some_and(|glass| !glass.is_out(ticket));
            if !self.checks(ticket, piece, good) {
                self.gauge.count(|figures| figures.scrubbed += 1);
                self.send_errand(read, Errand::Light(piece));
                continue;
            }
            let bytes = self.orbit.pieces[piece as usize].bytes;
            self.gauge.count(|figures| {
                figures.taken += 1;
                figures.taken_bytes += u64::from(bytes);
                figures.late += u64::from(late);
            });
            done.push(Completion {
                id: read.id,
                slot: read.slot,
                result: Ok(bytes),
            });
        }
    }

    fn checks(&mut self, ticket: u64, piece: u32, good: bool) -> bool {
        match &mut self.glass {
            Some(glass) => glass.taken(ticket, piece),
            None => good,
        }
    }

    /// Has the medium behind do a read.
    fn send_errand(&mut self, read: Read, errand: Errand) {
        let twin = self.errands.insert(read.id, errand);
        assert!(twin.is_none(), "two reads under way are named {}", read.id);
        self.queue.push_back(read);
        self.pass_on();
    }

    /// Gives the medium behind what it has place for.
    fn pass_on(&mut self) {
        while self.errands.len() - self.queue.len() < self.behind.depth()
            && let Some(read) = self.queue.pop_front()
        {
            self.behind.submit(read);
        }
    }

    /// Takes what the medium behind has done.
    fn land_errands(&mut self, wait: bool, done: &mut Vec<Completion>) {
        let mut came = std::mem::take(&mut self.scratch);
        self.behind.poll(wait, &mut came);
        for completion in came.drain(..) {
            let errand = self.errands.remove(&completion.id).expect("its own reads");
            let bytes = u64::from(*completion.result.as_ref().unwrap_or(&0));
            match errand {
                Errand::Beside => self.gauge.count(|figures| {
                    figures.beside += 1;
                    figures.beside_bytes += bytes;
                }),
                Errand::Light(piece) => {
                    let is_dark = self.light[piece as usize].from_lap == DARK;
                    if is_dark {
                        self.gauge.count(|figures| figures.dark_bytes += bytes);
                    }
                    let whole = bytes == u64::from(self.orbit.pieces[piece as usize].bytes);
                    if whole && !matches!(self.cut, Fault::Lasts { .. }) {
                        self.send(piece, completion.slot.at());
                    }
                }
            }
            done.push(completion);
        }
        self.scratch = came;
        self.pass_on();
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
    fn depth(&self) -> usize {
        self.depth
    }

    fn submit(&mut self, read: Read) {
        assert!(
            self.under_way() < self.depth,
            "more than {} reads under way",
            self.depth
        );
        self.follow_fault();
        match self.orbit.find(read.part, read.offset, read.slot.len()) {
            Some(piece) if self.light[piece as usize].from_lap != DARK => {
                self.await_piece(read, piece);
            }
            Some(piece) => self.send_errand(read, Errand::Light(piece)),
            None => self.send_errand(read, Errand::Beside),
        }
    }

    fn poll(&mut self, wait: bool, done: &mut Vec<Completion>) {
        let before = done.len();
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
                _ => self.land_errands(true, done),
            }
        }
    }
}

/// How often something happens that happens `mean` times on average (Knuth,
/// The Art of Computer Programming, 3.4.1; beyond 30 the mean itself, which is
/// more than is asked for here).
fn poisson(rng: &mut Rng, mean: f64) -> u64 {
    if mean <= 0.0 {
        return 0;
    }
    if mean > 30.0 {
        return mean as u64;
    }
    let limit = (-mean).exp();
    let (mut count, mut product) = (0, 1.0);
    loop {
        product *= (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        if product <= limit {
            return count;
        }
        count += 1;
    }
}
