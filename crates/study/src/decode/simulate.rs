//! Laps of the real line in virtual time, from a course and what feeds it.

use std::collections::{HashMap, VecDeque};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use delayline_fiber::LoopTiming;
use delayline_line::{
    Clock, Config, Line, LineError, LineSetup, Medium, PartSpan, Region, Ticket, Walk,
};
use delayline_medium::VirtualClock;
use delayline_plan::{ALIGN, Extent, NEAR_BYTES, Plan, Residency, Run, Schedule, Step, Use};
use xxhash_rust::xxh3::Xxh3;

use super::course::{Course, Demand, align};
use super::feed::{self, SimulatedFeed};

/// Maximum number of reads under way at once.
const DEPTH_MAX: usize = 4096;

/// Laps that are remembered, 100 bytes each.
const KNOWN_MAX: usize = 1 << 17;

/// Laps by [`key`].
static KNOWN: LazyLock<Mutex<HashMap<u128, SimulatedLap>>> = LazyLock::new(Mutex::default);

/// A machine: what feeds it and what a lap computes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SimulatedMachine {
    /// What feeds it.
    pub feed: SimulatedFeed,
    /// Compute of a lap that never waits, in seconds.
    pub compute_s: f64,
}

/// What a lap took, in the steady state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SimulatedLap {
    /// From lap to lap, in seconds.
    pub lap_s: f64,
    /// The part of it that the compute waited, in seconds.
    pub stall_s: f64,
    /// Bytes that it took from the medium.
    pub streamed_bytes: f64,
    /// Extents and pieces that passed in the whole simulation.
    pub events: u64,
}

/// The average of `laps` laps in the steady state: some before them fill the window and
/// settle the loop.
///
/// # Errors
/// [`LineError`] when the window is too small for what is leased together.
pub fn simulate(
    machine: &SimulatedMachine,
    course: &Course,
    laps: u32,
) -> Result<SimulatedLap, LineError> {
    // Prices and powers change no lap, so many questions share their laps.
    let key = key(machine, course, laps);
    if let Some(lap) = known().get(&key) {
        return Ok(*lap);
    }
    let lap = simulate_anew(machine, course, laps)?;
    let mut known = known();
    if known.len() < KNOWN_MAX {
        known.insert(key, lap);
    }
    Ok(lap)
}

/// Everything that decides a lap.
fn key(machine: &SimulatedMachine, course: &Course, laps: u32) -> u128 {
    // Destructured, so that a new field cannot be forgotten.
    let Course {
        plan,
        residency,
        demands,
        is_even,
        read_len,
        scratch_bytes,
    } = course;
    let Plan {
        extents,
        runs,
        turns,
    } = plan;
    let Residency {
        resident,
        window,
        resident_bytes,
        streamed_bytes,
    } = residency;
    let mut hasher = Xxh3::new();
    hasher.update(format!("{machine:?} {turns:?} {is_even} {read_len} {laps}").as_bytes());
    let mut add = |value: u64| hasher.update(&value.to_le_bytes());
    [*window, *resident_bytes, *streamed_bytes, *scratch_bytes]
        .into_iter()
        .for_each(&mut add);
    add(extents.len() as u64);
    for (&Extent { part, offset, len }, &stays) in extents.iter().zip(resident) {
        add(u64::from(part) << 1 | u64::from(stays));
        add(offset);
        add(len);
    }
    add(runs.len() as u64);
    for Run { uses, compute } in runs {
        add(compute.to_bits());
        add(uses.len() as u64);
        for &Use { extent, mode } in uses {
            add(u64::from(extent.0) << 8 | mode as u64);
        }
    }
    for &Demand {
        run,
        bytes,
        compute,
    } in demands
    {
        add(run.into());
        add(bytes.to_bits());
        add(compute.to_bits());
    }
    hasher.digest128()
}

fn known() -> MutexGuard<'static, HashMap<u128, SimulatedLap>> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn simulate_anew(
    machine: &SimulatedMachine,
    course: &Course,
    laps: u32,
) -> Result<SimulatedLap, LineError> {
    let clock = VirtualClock::new();
    let scratch = Scratch::new(course);
    let set = Set {
        course,
        schedule: Schedule::new(&course.plan, NEAR_BYTES),
        ticks_per_s: machine.feed.ticks_per_s(course),
        part_lens: part_lens(course, &scratch),
        depth: depth(course, &scratch),
    };
    match machine.feed {
        SimulatedFeed::OnDemand {
            latency_s, depth, ..
        } => {
            let medium = feed::on_demand(&set, latency_s, set.depth.min(depth.max(1)), &clock);
            Simulation::new(set, machine.compute_s, scratch, medium, clock)?.measure(1, laps)
        }
        SimulatedFeed::ComesBy {
            turn_s,
            rate_bytes_per_s,
            latency_s,
        } => {
            let ring = LoopTiming {
                lap_s: turn_s,
                rate_bytes_per_s,
                guard_s: 0.0,
                read_len: course.read_len.into(),
                behind_bytes_per_s: rate_bytes_per_s,
            };
            let medium = feed::comes_by(&set, ring, latency_s, machine.compute_s, &clock);
            Simulation::new(set, machine.compute_s, scratch, medium, clock)?.measure(laps, laps)
        }
    }
}

/// What a simulation is of, whatever the medium.
pub(super) struct Set<'a> {
    pub course: &'a Course,
    pub schedule: Schedule,
    pub ticks_per_s: f64,
    /// The parts of the course, and one more for what is asked for on the way.
    pub part_lens: Vec<u64>,
    /// As many reads as window and scratch can have under way.
    pub depth: usize,
}

/// The parts of the course, and one more for what is asked for on the way.
fn part_lens(course: &Course, scratch: &Scratch) -> Vec<u64> {
    let mut lens = Vec::new();
    for extent in &course.plan.extents {
        let part = usize::from(extent.part);
        if lens.len() <= part {
            lens.resize(part + 1, 0);
        }
        lens[part] = lens[part].max(extent.offset + extent.len);
    }
    let most = course.demands.iter().map(|demand| demand.bytes);
    let most = most.fold(0.0, f64::max);
    lens.push(align(2.0 * most) + 2 * scratch.piece);
    lens
}

/// As many reads as the window and the room beside it can have under way.
fn depth(course: &Course, scratch: &Scratch) -> usize {
    let read_len = u64::from(course.read_len);
    let reads = course.plan.extents.iter().map(|e| e.len.min(read_len));
    let shortest = reads.min().unwrap_or(ALIGN);
    let in_window = course.residency.window.div_ceil(shortest) + scratch.pieces;
    (in_window as usize + 1).min(DEPTH_MAX)
}

struct Simulation<'a, M: Medium> {
    set: Set<'a>,
    line: Line<M, VirtualClock>,
    clock: VirtualClock,
    /// Ticks of a unit of compute.
    ticks_a_unit: f64,
    /// Ticks of compute that are not yet whole.
    fraction: f64,
    scratch: Scratch,
    events: u64,
}

/// Where chosen weights go: a ring of pieces behind everything else.
struct Scratch {
    /// Length of a piece in bytes.
    piece: u64,
    /// How many there is room for.
    pieces: u64,
    /// Memory position of the first.
    at: u64,
    /// The part that they come from.
    part: u16,
    /// Bytes of demands that are not yet whole pages.
    fraction: f64,
}

impl Scratch {
    fn new(course: &Course) -> Self {
        let piece = u64::from(course.read_len);
        let parts = course.plan.extents.iter().map(|e| e.part);
        Self {
            piece,
            pieces: (course.scratch_bytes / piece).max(2),
            at: course.residency.window + course.residency.resident_bytes,
            part: parts.max().unwrap_or(0) + 1,
            fraction: 0.0,
        }
    }

    /// Piece `index` of a demand, `len` bytes of it.
    fn span(&self, index: u64, len: u64) -> PartSpan {
        PartSpan {
            part: self.part,
            offset: index * self.piece,
            len,
            at: self.at + index % self.pieces * self.piece,
        }
    }
}

impl<'a, M: Medium> Simulation<'a, M> {
    fn new(
        set: Set<'a>,
        compute_s: f64,
        scratch: Scratch,
        medium: M,
        clock: VirtualClock,
    ) -> Result<Self, LineError> {
        let course = set.course;
        let config = Config {
            window: course.residency.window,
            read_len: course.read_len,
            retries: 0,
        };
        let setup = LineSetup {
            extents: course.plan.extents.clone(),
            part_lens: set.part_lens.clone(),
            homes: homes(course),
            config,
        };
        // There are no bytes, so the memory has no end.
        let region = Region::new(u64::MAX);
        let units = course.compute();
        Ok(Self {
            line: Line::new(medium, clock.clone(), region, setup)?,
            clock,
            ticks_a_unit: match units > 0.0 {
                true => compute_s * set.ticks_per_s / units,
                false => 0.0,
            },
            fraction: 0.0,
            scratch,
            events: 0,
            set,
        })
    }

    /// The average of `laps` laps after `warm` others.
    fn measure(&mut self, warm: u32, laps: u32) -> Result<SimulatedLap, LineError> {
        self.lay();
        for _ in 0..warm {
            self.lap()?;
        }
        let (start, before) = (self.clock.now_ns(), self.line.counters());
        for _ in 0..laps {
            self.lap()?;
        }
        let counters = self.line.counters();
        let each = f64::from(laps) * self.set.ticks_per_s;
        Ok(SimulatedLap {
            lap_s: (self.clock.now_ns() - start) as f64 / each,
            stall_s: (counters.stall_ns - before.stall_ns) as f64 / each,
            streamed_bytes: (counters.bytes_read - before.bytes_read) as f64 / f64::from(laps),
            events: self.events,
        })
    }

    fn lay(&mut self) {
        let steps = self.set.schedule.steps().iter();
        self.line.enqueue(steps.map(|step: &Step| step.extent));
    }

    /// One pass over the plan; the next is laid at its start, so that reading
    /// goes on across its end.
    fn lap(&mut self) -> Result<(), LineError> {
        self.lay();
        let course = self.set.course;
        let mut demands = course.demands.iter().peekable();
        let mut walk = Walk::new();
        for doing in &course.plan.runs {
            self.events += walk.begin(&self.set.schedule, &mut self.line)? as u64;
            while let Some(demand) = demands.next_if(|demand| demand.run <= walk.run()) {
                self.demand(demand)?;
            }
            self.compute(doing.compute);
            walk.end(&self.set.schedule, &mut self.line)?;
        }
        demands.try_for_each(|demand| self.demand(demand))
    }

    /// What is known only now: fetched in pieces ahead of all prefetch, as many
    /// at once as there is room for.
    fn demand(&mut self, demand: &Demand) -> Result<(), LineError> {
        let exact = demand.bytes + self.scratch.fraction;
        let bytes = (exact / ALIGN as f64).floor() as u64 * ALIGN;
        self.scratch.fraction = exact - bytes as f64;
        let piece = self.scratch.piece;
        let len = |index: u64| (bytes - index * piece).min(piece);
        let pieces = bytes.div_ceil(piece);
        let mut asked: VecDeque<Ticket> = VecDeque::new();
        let mut next = 0;
        for index in 0..pieces {
            while next < pieces && (asked.len() as u64) < self.scratch.pieces {
                let span = self.scratch.span(next, len(next));
                asked.push_back(self.line.fetch(&[span]));
                next += 1;
            }
            let ticket = asked.pop_front().expect("there is one for each piece");
            self.line.fetched(ticket)?;
            self.events += 1;
            self.compute(demand.compute * len(index) as f64 / demand.bytes);
            self.line.pump()?;
        }
        Ok(())
    }

    fn compute(&mut self, units: f64) {
        let exact = units * self.ticks_a_unit + self.fraction;
        self.fraction = exact.fract();
        self.clock.advance_ns(exact as u64);
    }
}

/// Where each extent that stays is in memory: behind the window.
fn homes(course: &Course) -> Vec<Option<u64>> {
    let mut behind = course.residency.window;
    let extents = course.plan.extents.iter().zip(&course.residency.resident);
    let home = extents.map(|(extent, &stays)| {
        stays.then(|| {
            behind += extent.len;
            behind - extent.len
        })
    });
    home.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Layers are alike: some of them take their share of what all take.
    #[test]
    fn some_layers_stand_for_all() {
        let check = |chosen: f64, window: u64, latency_s: f64, compute_s: f64| {
            let course = Course::even(60, 6e9, chosen, window, 0);
            let part = course.part(course.reads() / 3).expect("it is long");
            let times = course.compute() / part.compute();
            assert!(times > 1.5 && part.streamed_bytes() * times / course.streamed_bytes() > 0.999);
            let lap_s = |course: &Course, compute_s: f64| {
                let feed = SimulatedFeed::OnDemand {
                    rate_bytes_per_s: 1e11,
                    latency_s,
                    depth: 4096,
                };
                let machine = SimulatedMachine { feed, compute_s };
                simulate_anew(&machine, course, 1).expect("it runs").lap_s
            };
            let (all, some) = (lap_s(&course, compute_s), lap_s(&part, compute_s / times));
            let what = format!("{chosen} {window} {latency_s} {compute_s}");
            assert!(
                (times * some / all - 1.0).abs() < 2e-3,
                "{what}: {some} {all}"
            );
        };
        for chosen in [0.0, 6e9] {
            for window in [16 << 20, 128 << 20] {
                for latency_s in [0.0, 1e-5, 1e-3] {
                    for compute_s in [0.01, 0.06, 0.5] {
                        check(chosen, window, latency_s, compute_s);
                    }
                }
            }
        }
        // Nothing stands for a lap of which a part stays, or that is short.
        assert!(
            Course::even(60, 6e9, 0.0, 16 << 20, 1 << 30)
                .part(2_000)
                .is_none()
        );
        assert!(Course::even(60, 6e9, 0.0, 4 << 30, 0).part(200).is_none());
    }

    /// A lap that is remembered is the one that would be simulated, and whatever decides it
    /// decides which one is remembered.
    #[test]
    fn what_is_remembered_is_what_would_be_simulated() {
        let drive = |rate_bytes_per_s| SimulatedFeed::OnDemand {
            rate_bytes_per_s,
            latency_s: 1e-5,
            depth: 64,
        };
        let ring = SimulatedFeed::ComesBy {
            turn_s: 0.01,
            rate_bytes_per_s: 1e11,
            latency_s: 1e-5,
        };
        let mut keys = Vec::new();
        for feed in [drive(1e9), drive(2e9), ring] {
            for compute_s in [0.0, 0.03] {
                for (layers, chosen, window) in
                    [(8, 0.0, 8 << 20), (8, 1e7, 8 << 20), (9, 0.0, 16 << 20)]
                {
                    let course = Course::even(layers, 1e8, chosen, window, 0);
                    let machine = SimulatedMachine { feed, compute_s };
                    for laps in [2, 3] {
                        let anew = simulate_anew(&machine, &course, laps).expect("it runs");
                        for _ in 0..2 {
                            let lap = simulate(&machine, &course, laps).expect("it runs");
                            assert_eq!(lap, anew);
                        }
                        keys.push(key(&machine, &course, laps));
                    }
                }
            }
        }
        let all = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), all);
        // Each figure of a course by itself.
        let course = Course::even(8, 1e8, 1e7, 8 << 20, 0);
        let machine = SimulatedMachine {
            feed: ring,
            compute_s: 0.0,
        };
        let changes: [fn(&mut Course); 10] = [
            |c| c.is_even = !c.is_even,
            |c| c.read_len += 4096,
            |c| c.scratch_bytes += 1,
            |c| c.residency.window += 4096,
            |c| c.residency.resident[0] = !c.residency.resident[0],
            |c| c.plan.extents[0].len += 4096,
            |c| c.plan.runs[0].compute += 1.0,
            |c| c.plan.runs[0].uses.truncate(0),
            |c| c.plan.turns.push(1),
            |c| c.demands[0].bytes += 1.0,
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut changed = course.clone();
            change(&mut changed);
            assert_ne!(
                key(&machine, &changed, 2),
                key(&machine, &course, 2),
                "{number}"
            );
        }
    }
}
