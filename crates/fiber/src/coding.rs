//! Optimum coding: where on a loop each extent circulates, so that it passes when the
//! compute is ready for it. Programmers of drum and mercury-line machines placed each
//! instruction one access time ahead of its use; here these are weights. It knows the
//! lap of the loop, schedule, residency and compute, not what circulates or how it is
//! read.
//!
//! **The loop.** An extent passes the tap once in each lap of the loop, and can
//! be taken if there was room for it in the window when it began to pass;
//! otherwise it comes one lap later. So a lap of the compute takes a whole
//! number of laps of the loop, on average over many, and never less than one.
//! In order of use, the extents follow each other at the line rate: compute that is
//! slower than that fills the window, misses what passes then, and waits for it almost
//! a lap each time.
//!
//! **The coding.** Let one lap of compute be `m` laps of the loop, evenly: that
//! gives the time at which each extent is wanted, and modulo the lap its place on the
//! loop. Sorted by that, extents are packed around the loop; what is wanted in the
//! second lap then lies between what is wanted in the first, as sectors of a disk were
//! interleaved. The times at which extents are wanted follow from compute alone, from
//! bytes alone, or from the window: as soon as there is room. All small `m`, several
//! ways of packing, and the plain order are tried by simulation, the best one is
//! improved by exchanges, and its distance to the bound is reported.

mod best;
mod ring;
mod search;

use self::best::Best;
use self::search::{Search, Slack};
use delayline_plan::{Plan, Residency, Schedule};

/// Maximum number of laps of the loop to a lap of compute that is tried.
const TURNS_MAX: usize = 48;

/// Factors by which compute is taken to be slower where extents are placed as soon as the
/// window has room, so that of equally good placements one with time to spare is chosen.
const SLOWER: [f64; 3] = [2.0, 1.3, 1.0];

/// The loop as the coding sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoopTiming {
    /// One lap of what circulates, in seconds.
    pub lap_s: f64,
    /// Rate at which extents pass.
    pub rate_bytes_per_s: f64,
    /// Time without bytes after each read of an extent, in seconds.
    pub guard_s: f64,
    /// Longest read in bytes.
    pub read_len: u64,
    /// Rate of extents that are streamed, but not from the loop.
    pub behind_bytes_per_s: f64,
}

impl LoopTiming {
    /// Time in which an extent of `len` bytes passes, guard times included, in seconds.
    pub fn takes_s(&self, len: u64) -> f64 {
        let guards = len.div_ceil(self.read_len) as f64 * self.guard_s;
        len as f64 / self.rate_bytes_per_s + guards
    }
}

/// Where the extents circulate, and what a lap then takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Coding {
    /// By extent: when it begins to pass in each lap of the loop, in seconds;
    /// `None` if it is not on the loop.
    pub phase_s: Vec<Option<f64>>,
    /// A lap of compute in the steady state, in seconds.
    pub lap_s: f64,
    /// The time that no placement can undercut, in seconds.
    pub bound_s: f64,
}

impl Coding {
    /// How much longer the lap is than the bound, as a share of it.
    pub fn distance(&self) -> f64 {
        self.lap_s / self.bound_s - 1.0
    }
}

/// What is placed, for which loop and which compute.
#[derive(Clone, Copy, Debug)]
pub struct CodingTask<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// Its schedule.
    pub schedule: &'a Schedule,
    /// What stays and what streams.
    pub residency: &'a Residency,
    /// Compute of a lap when nothing is waited for, in seconds.
    pub compute_s: f64,
    /// The loop.
    pub ring: LoopTiming,
}

/// The plain order: the extents one after the other, as the lap uses them. `on_loop` has
/// one value an extent; resident ones are never on it.
pub fn in_order(task: &CodingTask<'_>, on_loop: &[bool]) -> Coding {
    let search = Search::new(task, on_loop);
    let order: Vec<usize> = (0..search.extents.len()).collect();
    search.coding(&search.packed(&order, Slack::End))
}

/// The best placement that was found. Arguments as in [`in_order`].
///
/// What is on the loop has to fit: the sum of [`LoopTiming::takes_s`] is at most its
/// lap.
pub fn optimum(task: &CodingTask<'_>, on_loop: &[bool]) -> Coding {
    let search = Search::new(task, on_loop);
    let mut best = constructed(&search);
    best.improve();
    search.coding(&best.phase_s)
}

/// A good placement, without the exchanges that may make it better: for comparing
/// many tasks. Arguments as in [`optimum`].
pub fn draft(task: &CodingTask<'_>, on_loop: &[bool]) -> Coding {
    let search = Search::new(task, on_loop);
    search.coding(&constructed(&search).phase_s)
}

/// The best of all placements that are constructed, without exchanges.
fn constructed<'a, 'b>(search: &'a Search<'b>) -> Best<'a, 'b> {
    let plain: Vec<usize> = (0..search.extents.len()).collect();
    let mut best = Best::new(search, &plain);
    let fewest = (search.bound_s() / search.task.ring.lap_s).ceil() as usize;
    for turns in 1..=(fewest + 8).min(TURNS_MAX) {
        let turns = turns as f64;
        if best.is_done() {
            break;
        }
        for wanted in [&search.by_compute, &search.by_bytes] {
            if best.is_done() {
                break;
            }
            let (order, ideal_s) = search.wanted(wanted, turns);
            best.offer(search.packed(&order, Slack::End), &order);
            best.offer(search.packed(&order, Slack::Even), &order);
            best.offer(search.near(&order, &ideal_s), &order);
        }
        for slower in SLOWER {
            if best.is_done() {
                break;
            }
            let (order, ideal_s) = search.ready(turns, slower);
            best.offer(search.near(&order, &ideal_s), &order);
        }
    }
    best
}

/// The placement for a lap of compute of `turns` laps of the loop, without simulating it
/// or trying others: where all extents are alike, there is none better. By extent, in
/// seconds as in [`Coding::phase_s`].
pub fn interleaved(task: &CodingTask<'_>, on_loop: &[bool], turns: f64) -> Vec<Option<f64>> {
    let search = Search::new(task, on_loop);
    let (order, _) = search.wanted(&search.by_compute, turns);
    let phase_s = search.packed(&order, Slack::Even);
    let phase = |index: &Option<usize>| index.map(|i| phase_s[i]);
    search.index.iter().map(phase).collect()
}

/// A lap of compute in the steady state with extents at these places, in
/// seconds.
pub fn coded_lap_s(task: &CodingTask<'_>, phase_s: &[Option<f64>]) -> f64 {
    let on_loop: Vec<bool> = phase_s.iter().map(Option::is_some).collect();
    let search = Search::new(task, &on_loop);
    let of = |extent: &usize| phase_s[*extent].unwrap_or(0.0);
    let phases: Vec<f64> = search.extents.iter().map(of).collect();
    search.lap_s(&phases)
}
