//! Which extents stay and how large the window is. Knows plan, schedule and
//! how much memory there is; does not know what else the memory holds or the
//! rate of a drive.
//!
//! Every byte of window is a byte that cannot stay, and what does not stay is
//! read in every lap. So there are two questions. *Which extents must stay so
//! that the window can be small?* Streaming one output head of 431 MB needs a
//! window of 431 MB. [`choose`] tries decreasing limits of the window. For each it
//! makes extents longer than the limit resident, and, where several extents are
//! leased together, the largest of them until the rest fits. *Which of the
//! others stay?* Those that leave a stream spread evenly over the lap's compute
//! time (see `spread.rs`), so that the drive always has something to read and
//! never more than the window can take. In a plan that goes forward and backward,
//! every resident extent used in both passes saves its length at each turn, so the
//! choice among them is free for that. Each limit gives one division of the memory;
//! the one with the shortest simulated laps is taken, at several rates around the
//! one at which compute and stream take the same time, where mistakes cost most.
//!
//! **How good.** Measured against the best of all subsets of up to 10 extents,
//! each with all the memory it leaves as window (`tests/optimum.rs`). While the
//! window has room for one more of the largest extents than it needs, the
//! steady lap is longer by at most the reading time of the lookahead and 3.5
//! of the largest extents; on average by half of one. The reasons: the lookahead
//! is not resident, and the best subset need not grant it; memory too small for
//! any further extent is left unused; whole extents spread evenly only to within
//! one. None of them depends on the number of extents, so they matter less the
//! larger the model: for the shape of an 8B model and a lookahead of
//! two of the largest extents the lap is within 1 % of its bound at every rate
//! and budget, with one of them within 13 % (`tests/laps.rs`). Two limits hold for
//! every choice. Where a run computes longer than the window takes to read,
//! as a resident head of 10 % of the lap can, the drive pauses for the
//! difference (a longer lookahead helps, and costs as many bytes a lap). And
//! without any lookahead a window of one extent cannot be read into while it
//! is used, so that a lap takes up to compute *plus* stream.

use crate::bound::lap_bound_s;
use crate::lap::{run_times, steady};
use crate::schedule::Schedule;
use crate::spread::{Stay, Uses};
use crate::types::{ALIGN, Plan};
use crate::window::{Live, window_min};
use thiserror::Error;

/// The memory that [`choose`] divides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryShare {
    /// Bytes for window and resident extents together.
    pub available: u64,
    /// Bytes requested beyond the smallest possible window, so that reads run
    /// ahead of the compute. Fewer are granted when memory is short.
    pub lookahead: u64,
}

/// Which extents stay, and the window for the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Residency {
    /// Whether each extent stays; one value per extent of the plan.
    pub resident: Vec<bool>,
    /// Length of the window in bytes, a multiple of [`ALIGN`]; 0 if nothing is
    /// streamed.
    pub window: u64,
    /// Sum of the resident extents in bytes.
    pub resident_bytes: u64,
    /// What a lap reads, in bytes; an extent read twice counts twice.
    pub streamed_bytes: u64,
}

impl Residency {
    /// Whether each extent passes through the window; one value per extent.
    pub fn streamed(&self) -> Vec<bool> {
        self.resident.iter().map(|stays| !stays).collect()
    }
}

/// Not enough memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "{available} bytes are too few for the window and the weights that must stay: give at least {needed}"
)]
pub struct TooSmall {
    /// The [`MemoryShare::available`] that was given, in bytes.
    pub available: u64,
    /// The smallest [`MemoryShare::available`] that works for this plan, in bytes.
    pub needed: u64,
}

/// Maximum number of divisions compared by simulation.
const TRIED_MAX: usize = 5;
/// Device rates of the simulations, relative to the one that streams a lap's bytes in
/// its compute time.
const SPEEDS: [f64; 4] = [0.5, 1.0, 2.0, 4.0];
/// Maximum number of laps of such a simulation.
const LAPS_MAX: usize = 8;

/// Divides the memory: the window gets the minimum that the streamed extents need
/// ([`window_min`]) and the lookahead, the resident extents all the rest.
/// `resident_bytes + window` never exceeds `memory.available`.
///
/// If everything fits, everything stays and the window is 0. An extent that no
/// run needs stays only then. Extents read several times a lap are the first to
/// stay. The lookahead shrinks, to nothing if necessary, before the memory counts
/// as too small; up to half of it may be given up for a smaller stream.
///
/// # Errors
/// [`TooSmall`] with the smallest `available` that is accepted. It may exceed the
/// minimum over all subsets by at most two and a half of the largest extents, rarely
/// by one (`tests/optimum.rs`).
pub fn choose(
    plan: &Plan,
    schedule: &Schedule,
    memory: MemoryShare,
) -> Result<Residency, TooSmall> {
    let lens: Vec<u64> = plan.extents.iter().map(|e| e.len).collect();
    if let Some(all) = everything(schedule, &lens, memory.available) {
        return Ok(all);
    }
    let caps = caps(schedule, &lens);
    let needed = caps.iter().map(|c| c.bytes + c.window).min().unwrap_or(0);
    if memory.available < needed {
        return Err(TooSmall {
            available: memory.available,
            needed,
        });
    }
    let times = run_times(plan, 1.0);
    let uses = Uses::new(schedule, &times, &plan.phases());
    let divisions: Vec<Residency> = worth_trying(&caps, memory)
        .map(|(cap, lookahead)| divide(schedule, &lens, &uses, cap, memory.available, lookahead))
        .collect();

    let streamed = divisions.iter().map(|d| d.streamed_bytes);
    let least = streamed.min().unwrap_or(0);
    let excess = |d: &Residency| -> f64 {
        let at = |speed: f64| {
            let rate = speed * least as f64;
            steady(&times, schedule, &d.resident, d.window, rate, LAPS_MAX)
                / lap_bound_s(1.0, least, rate)
        };
        SPEEDS.into_iter().map(at).sum()
    };
    let best = divisions
        .into_iter()
        .map(|d| (excess(&d), d.streamed_bytes, d))
        .min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let (_, _, best) = best.expect("the cap that needs least is always tried");
    debug_assert!(best.resident_bytes + best.window <= memory.available);
    Ok(best)
}

/// Of the caps that fit, those with the smallest windows, each with its lookahead
/// in bytes.
fn worth_trying(caps: &[Cap], memory: MemoryShare) -> impl Iterator<Item = (&Cap, u64)> {
    let spare = move |c: &Cap| memory.available.saturating_sub(c.bytes + c.window);
    let spare_max = caps.iter().map(spare).max().unwrap_or(0);
    let wish = memory.lookahead.min(spare_max) / ALIGN * ALIGN;
    let lookahead = move |c: &Cap| spare(c).min(wish) / ALIGN * ALIGN;
    // The simulation has no latency and would trade all lookahead for resident bytes.
    // So a cap must leave half of it, or a window as large as with all of it.
    let granted = caps.iter().filter(|c| spare(c) >= wish);
    let ample = granted.map(|c| c.window + wish).min().unwrap_or(0);
    caps.iter()
        .rev()
        .filter(move |c| c.bytes + c.window <= memory.available)
        .filter(move |c| spare(c) >= wish / 2 || c.window + lookahead(c) >= ample)
        .map(move |c| (c, lookahead(c)))
        .take(TRIED_MAX)
}

/// Everything that a lap reads resident, if it fits.
fn everything(schedule: &Schedule, lens: &[u64], available: u64) -> Option<Residency> {
    let reads = schedule.reads();
    let all: u64 = lens.iter().sum();
    let resident: Vec<bool> = reads.iter().map(|&n| n > 0 || all <= available).collect();
    let stays = lens.iter().zip(&resident).filter(|(_, stays)| **stays);
    let resident_bytes: u64 = stays.map(|(len, _)| len).sum();
    (resident_bytes <= available).then_some(Residency {
        resident,
        window: 0,
        resident_bytes,
        streamed_bytes: 0,
    })
}

/// A set of extents that must stay so that the window can be small.
struct Cap {
    resident: Vec<bool>,
    /// Sum of their lengths.
    bytes: u64,
    /// The smallest window for the rest.
    window: u64,
}

/// Caps from everything streamed to everything resident; each window is smaller
/// than the one before by at least an eighth.
fn caps(schedule: &Schedule, lens: &[u64]) -> Vec<Cap> {
    let mut caps = Vec::new();
    let mut limit = u64::MAX;
    loop {
        let cap = capped(schedule, lens, limit);
        let window = cap.window;
        caps.push(cap);
        if window == 0 {
            return caps;
        }
        limit = (window - ALIGN).min(window / 8 * 7);
    }
}

/// The extents that must stay so that the rest needs at most `limit` bytes of
/// window. Where too much is leased at once, the largest stays; of equals, the one
/// that would be leased longest.
fn capped(schedule: &Schedule, lens: &[u64], limit: u64) -> Cap {
    let mut streamed = vec![true; lens.len()];
    let mut live = Live::default();
    let mut bytes = 0;
    for step in schedule.steps() {
        let index = step.extent.index();
        if streamed[index] && step.len > limit {
            streamed[index] = false;
            bytes += step.len;
        }
        if streamed[index] {
            live.push(step);
        }
        while live.need() > limit
            && let Some(largest) = live.take_largest()
        {
            streamed[largest.index()] = false;
            bytes += lens[largest.index()];
        }
    }
    let window = window_min(schedule, &streamed);
    Cap {
        resident: streamed.into_iter().map(|s| !s).collect(),
        bytes,
        window,
    }
}

/// Divides the memory under a cap: fills it up with resident extents.
fn divide(
    schedule: &Schedule,
    lens: &[u64],
    uses: &Uses,
    cap: &Cap,
    available: u64,
    lookahead: u64,
) -> Residency {
    let mut stay = Stay {
        resident: cap.resident.clone(),
        left: available - cap.bytes - cap.window - lookahead,
    };
    uses.spread(&mut stay, cap.window + lookahead);
    let mut window = cap.window;
    loop {
        // Further resident extents may have made the window smaller.
        let streamed: Vec<bool> = stay.resident.iter().map(|stays| !stays).collect();
        let smaller = window_min(schedule, &streamed);
        let before = stay.resident.clone();
        stay.left += window - smaller;
        window = smaller;
        uses.fill(&mut stay);
        if stay.resident == before {
            let kept = lens.iter().zip(&stay.resident).filter(|(_, stays)| **stays);
            return Residency {
                window: window + lookahead,
                resident_bytes: kept.map(|(len, _)| len).sum(),
                streamed_bytes: schedule.streamed_bytes(&streamed),
                resident: stay.resident,
            };
        }
    }
}
