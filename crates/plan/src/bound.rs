//! The lower bound of a lap that no policy can beat: from bytes and rates, and for
//! a plan of any shape with a given memory. Does not know rings or media.

use crate::schedule::Schedule;
use crate::transfer::{DriveRates, Transfer};
use crate::types::Plan;

/// Which side of the machine limits a lap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Compute is slower, and hides the stream.
    Compute,
    /// The stream is slower, and compute waits for it.
    Stream,
}

/// The time of a lap on each side if that side never waits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound {
    /// Compute of a lap with everything resident, in seconds.
    pub compute_s: f64,
    /// Streamed bytes of a lap over the device rate, in seconds.
    pub stream_s: f64,
}

impl Bound {
    /// From a lap's compute, its streamed bytes and the device rate. With
    /// nothing to stream the rate does not matter.
    pub fn new(compute_s: f64, streamed_bytes: u64, rate_bytes_per_s: f64) -> Self {
        let stream_s = if streamed_bytes == 0 {
            0.0
        } else {
            streamed_bytes as f64 / rate_bytes_per_s
        };
        Self {
            compute_s,
            stream_s,
        }
    }

    /// The bound: the slower side, in seconds.
    pub fn lap_s(&self) -> f64 {
        self.compute_s.max(self.stream_s)
    }

    /// The bound divided by a lap of `lap_s` seconds: 1 means that the lap reached it.
    pub fn share_of(&self, lap_s: f64) -> f64 {
        self.lap_s() / lap_s
    }

    /// The slower side.
    pub fn side(&self) -> Side {
        if self.stream_s > self.compute_s {
            Side::Stream
        } else {
            Side::Compute
        }
    }
}

/// The shortest possible lap in seconds: `max(compute, streamed / rate)`.
pub fn lap_bound_s(compute_s: f64, streamed_bytes: u64, rate_bytes_per_s: f64) -> f64 {
    Bound::new(compute_s, streamed_bytes, rate_bytes_per_s).lap_s()
}

/// The fewest bytes that a lap must move with a given memory for resident and streamed
/// extents together: within each phase, and per lap if the lap repeats.
///
/// When a phase begins, at most `memory` bytes that it reads are there already; when
/// it ends, at most `memory` bytes that it has changed are still to be written.
/// Everything else is moved while it lasts. Over a lap, what is changed is written
/// once, except scratch that is still in memory when it is read. A cycle of `S` bytes
/// reads `S - memory`; forward and backward reads as much at each turn; a stack writes
/// and reads `S - memory`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeastTransfer {
    /// Within each phase.
    pub phases: Vec<Transfer>,
    /// Per lap, on average over many.
    pub lap: Transfer,
}

impl LeastTransfer {
    /// For `plan` with `memory` bytes.
    pub fn new(plan: &Plan, memory: u64) -> Self {
        let schedule = Schedule::new(plan, 0);
        let phases = plan.phases();
        let count = plan.extents.len();
        let mut least = Self::default();
        // By extent: the phase that changed it last in this lap.
        let mut changed: Vec<Option<usize>> = vec![None; count];
        let mut whole = vec![Transfer::default(); phases.len()];
        for (at, phase) in phases.iter().enumerate() {
            let mut scratch = 0;
            let mut used = vec![false; count];
            for used_by in &plan.runs[phase.start as usize..phase.end as usize] {
                for u in &used_by.uses {
                    let (index, len) = (u.extent.index(), plan.extents[u.extent.index()].len);
                    if !std::mem::replace(&mut used[index], true) && u.mode.reads() {
                        whole[at].read += len;
                        if schedule.is_scratch(u.extent)
                            && changed[index].is_some_and(|p| p + 1 == at)
                        {
                            scratch += len;
                        }
                    }
                    if u.mode.writes() {
                        changed[index] = Some(at);
                    }
                }
            }
            if let Some(before) = at.checked_sub(1) {
                whole[before].written += scratch;
                least.lap.written += scratch.saturating_sub(memory);
            }
            least.lap.read += whole[at].read.saturating_sub(memory);
        }
        for (index, phase) in changed.into_iter().enumerate() {
            let len = plan.extents[index].len;
            let is_scratch = schedule.is_scratch(crate::types::ExtentId(index as u32));
            if let Some(phase) = phase.filter(|_| !is_scratch) {
                whole[phase].written += len;
                least.lap.written += len;
            }
        }
        least.phases = whole.into_iter().map(|t| t.beyond(memory)).collect();
        least
    }

    /// The shortest lap in seconds, with `compute_s` seconds of compute divided among
    /// the runs as `plan` says. A phase takes at least its compute and at least the
    /// time for what is moved while it lasts; the lap takes at least the time for all
    /// that it moves.
    pub fn lap_bound_s(&self, plan: &Plan, compute_s: f64, rates: &DriveRates) -> f64 {
        let times = crate::lap::run_times(plan, compute_s);
        let of_phase = |(phase, moved): (std::ops::Range<u32>, &Transfer)| {
            let compute: f64 = times[phase.start as usize..phase.end as usize].iter().sum();
            compute.max(rates.least_s(*moved))
        };
        let phases: f64 = plan
            .phases()
            .into_iter()
            .zip(&self.phases)
            .map(of_phase)
            .sum();
        phases.max(rates.least_s(self.lap))
    }
}
