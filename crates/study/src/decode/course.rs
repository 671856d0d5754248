//! What a lap uses, in order: the plan, what of it stays, and what is known only when the lap
//! gets there. Bytes only; rates and times are elsewhere.

use delayline_plan::{
    ALIGN, Extent, ExtentId, MemoryShare, NEAR_BYTES, Plan, Residency, Run, Schedule, choose,
};

/// Extents of this length in bytes are the largest; longer reads gain nothing (see `plan`).
const EXTENT_MAX: u64 = 4 << 20;
/// But a lap has about so many at most: more of them only take longer to simulate.
const EXTENTS_A_LAP: f64 = 4096.0;
/// How many extents a window holds at least.
const EXTENTS_A_WINDOW: u64 = 16;
/// Maximum number of extents of a simulated lap.
const EXTENTS_MAX: f64 = 2_097_152.0;
/// How often some layers that stand for all fill the room for what is under way.
const WINDOWS_A_PART: f64 = 4.0;

/// Bytes that a lap asks for when it has got there: a row of a table, the
/// experts of a router.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Demand {
    /// Before the compute of this run; the number of runs for after the last.
    pub run: u32,
    /// How many, on average.
    pub bytes: f64,
    /// Compute with them, in the unit of [`Run::compute`].
    pub compute: f64,
}

/// A lap's course through its weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Course {
    /// Extents and runs.
    pub plan: Plan,
    /// What stays, and the window.
    pub residency: Residency,
    /// What is asked for on the way, in order.
    pub demands: Vec<Demand>,
    /// Whether all extents are alike, and so is the compute between them.
    pub is_even: bool,
    /// Longest read in bytes.
    pub read_len: u32,
    /// Room for what was asked for on the way, in bytes.
    pub scratch_bytes: u64,
}

impl Course {
    /// Even layers: `dense_bytes` of certain weights and `chosen_bytes` of
    /// chosen ones spread over `layers`, in extents that suit the window, of
    /// which `resident_bytes` stay, chosen as the program chooses them.
    pub fn even(
        layers: u32,
        dense_bytes: f64,
        chosen_bytes: f64,
        window_bytes: u64,
        resident_bytes: u64,
    ) -> Self {
        let extent = extent_bytes(window_bytes, dense_bytes);
        let layers = layers.max(1);
        let each = dense_bytes / f64::from(layers);
        let pieces = (each / extent as f64).ceil().max(1.0);
        let len = align(each / pieces);
        let count = pieces as usize * layers as usize;
        let extents = (0..count as u64).map(|index| Extent {
            part: 0,
            offset: index * len,
            len,
        });
        let run = |index| Run::reading([ExtentId(index)], len as f64);
        let plan = Plan::cycle(extents.collect(), (0..count as u32).map(run).collect());
        let chosen = chosen_bytes / f64::from(layers);
        let demand = |layer: u32| Demand {
            run: (layer + 1) * pieces as u32,
            bytes: chosen,
            compute: chosen,
        };
        let is_mixed = chosen > 0.0;
        // What is chosen needs room too: half of the window is its.
        let window = match is_mixed {
            true => window_bytes / 2,
            false => window_bytes,
        };
        Self {
            residency: residency(&plan, window / ALIGN * ALIGN, resident_bytes),
            plan,
            demands: match is_mixed {
                true => (0..layers).map(demand).collect(),
                false => Vec::new(),
            },
            is_even: true,
            read_len: len.max(extent).min(1 << 30) as u32,
            scratch_bytes: window_bytes / 2,
        }
    }

    /// All extents together, in bytes.
    pub fn weights_bytes(&self) -> u64 {
        self.plan.extents.iter().map(|extent| extent.len).sum()
    }

    /// What a lap takes from its medium on average, in bytes.
    pub fn streamed_bytes(&self) -> f64 {
        let asked: f64 = self.demands.iter().map(|demand| demand.bytes).sum();
        self.residency.streamed_bytes as f64 + asked
    }

    /// Room for what is under way: the window, and beside it what is asked for on the
    /// way, two reads at least.
    pub fn under_way_bytes(&self) -> f64 {
        let beside = match self.demands.is_empty() {
            true => 0,
            false => self.scratch_bytes.max(2 * u64::from(self.read_len)),
        };
        (self.residency.window + beside) as f64
    }

    /// How many reads a lap has: extents, and pieces of what is asked for on the way.
    pub fn reads(&self) -> u64 {
        let pieces = |demand: &Demand| (demand.bytes / f64::from(self.read_len)).ceil() as u64;
        self.plan.extents.len() as u64 + self.demands.iter().map(pieces).sum::<u64>()
    }

    /// Its first layers, with about so many reads. Layers are alike, so that they stand
    /// for all where the medium answers on demand. `None` where they do not: where some
    /// weights stay, or the room for what is under way is not filled several times.
    pub fn part(&self, reads: u64) -> Option<Self> {
        if !self.is_even || self.residency.resident_bytes > 0 {
            return None;
        }
        let layer = self.demands.first().map_or(1, |demand| demand.run);
        let layers = self.plan.runs.len() as u32 / layer;
        let share = (reads as f64 / self.reads() as f64)
            .max(WINDOWS_A_PART * self.under_way_bytes() / self.streamed_bytes());
        let count = (share * f64::from(layers)).ceil() as u32;
        if count >= layers {
            return None;
        }
        let mut part = self.clone();
        let runs = (count * layer) as usize;
        part.plan.extents.truncate(runs);
        part.plan.runs.truncate(runs);
        part.residency.resident.truncate(runs);
        part.residency.streamed_bytes = part.weights_bytes();
        part.demands.truncate(count as usize);
        Some(part)
    }

    /// All compute of a lap, in the unit of [`Run::compute`].
    pub fn compute(&self) -> f64 {
        let runs: f64 = self.plan.runs.iter().map(|run| run.compute).sum();
        runs + self.demands.iter().map(|d| d.compute).sum::<f64>()
    }
}

/// The smallest window whose extents, of `bytes` that pass it, are not too many to simulate.
pub(super) fn least_window(bytes: f64) -> u64 {
    (bytes / EXTENTS_MAX * EXTENTS_A_WINDOW as f64).ceil() as u64
}

/// The length of extents that suits a window and the certain bytes of a lap, in bytes.
fn extent_bytes(window_bytes: u64, dense_bytes: f64) -> u64 {
    let longest = EXTENT_MAX.max((dense_bytes / EXTENTS_A_LAP) as u64);
    let len = (window_bytes / EXTENTS_A_WINDOW).min(longest);
    (len / ALIGN * ALIGN).max(ALIGN)
}

/// So many bytes in whole pages, one at least.
pub(super) fn align(bytes: f64) -> u64 {
    (bytes / ALIGN as f64).ceil().max(1.0) as u64 * ALIGN
}

/// What stays, and the window, as the program chooses them.
fn residency(plan: &Plan, window: u64, resident: u64) -> Residency {
    let lens = plan.extents.iter().map(|extent| extent.len);
    let (total, longest) = (lens.clone().sum(), lens.max().unwrap_or(0));
    let nothing = Residency {
        resident: vec![false; plan.extents.len()],
        window,
        resident_bytes: 0,
        streamed_bytes: total,
    };
    if resident == 0 && total > window {
        return nothing;
    }
    let memory = MemoryShare {
        available: window + resident,
        lookahead: window.saturating_sub(longest),
    };
    choose(plan, &Schedule::new(plan, NEAR_BYTES), memory).unwrap_or(nothing)
}
