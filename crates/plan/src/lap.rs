//! How long a lap takes: a fluid simulation in seconds. Knows schedule, residency,
//! compute and a constant device rate; does not know requests, latency, queues
//! or media, and assumes that writing back takes no time.
//!
//! The drive reads the steps in order at the device rate, byte by byte, as far
//! as the ring has room (the rules are those of [`window_min`]). A run starts
//! when the one before has ended and its extents are there. Extents that no later
//! run needs are released when it ends. Room in the ring becomes free at the ends
//! of runs alone, so one pass over the runs computes all times exactly, without
//! time steps.
//!
//! [`window_min`]: crate::window_min

use crate::bound::lap_bound_s;
use crate::residency::Residency;
use crate::schedule::{Schedule, Step};
use crate::types::Plan;
use std::collections::VecDeque;

/// Maximum number of laps simulated to find the steady state.
const LAPS_MAX: usize = 256;

/// The length of a lap in the steady state, in seconds. `compute_s` is the lap's
/// compute without any wait, divided among the runs as the plan says;
/// `rate_bytes_per_s` is the device rate. Never below [`lap_bound_s`]; infinite if
/// the window is too small; the average if pads differ from lap to lap.
pub fn lap_time_s(
    plan: &Plan,
    schedule: &Schedule,
    residency: &Residency,
    compute_s: f64,
    rate_bytes_per_s: f64,
) -> f64 {
    let times = run_times(plan, compute_s);
    let (stay, window) = (&residency.resident, residency.window);
    let lap_s = steady(&times, schedule, stay, window, rate_bytes_per_s, LAPS_MAX);
    // The runs' shares may sum to a rounding error less.
    lap_s.max(compute_s)
}

/// The length of the first lap in seconds. Nothing is in memory yet, so resident
/// extents are read as well, in order of use; while the ring is full, later ones
/// are read ahead. Arguments as in [`lap_time_s`].
pub fn first_lap_s(
    plan: &Plan,
    schedule: &Schedule,
    residency: &Residency,
    compute_s: f64,
    rate_bytes_per_s: f64,
) -> f64 {
    let times = run_times(plan, compute_s);
    let layout = LapLayout::new(schedule, &residency.resident);
    let mut ring = Ring::new(residency.window, rate_bytes_per_s);
    ring.arrivals = first_reads(schedule, &residency.resident);
    ring.lap(&layout, &times).unwrap_or(f64::INFINITY)
}

/// Seconds of compute of each run. If no run has a share, all take the same time.
pub fn run_times(plan: &Plan, compute_s: f64) -> Vec<f64> {
    let total: f64 = plan.runs.iter().map(|r| r.compute).sum();
    let share = |compute: f64| match total > 0.0 {
        true => compute / total,
        false => 1.0 / plan.runs.len() as f64,
    };
    let runs = plan.runs.iter();
    runs.map(|r| compute_s * share(r.compute)).collect()
}

/// The length of a lap in the steady state in seconds, for runs of `times` seconds.
///
/// The positions of the steps depend only on the phase of the ring at the start of
/// the lap, not on time. So the phases repeat with some period; over whole
/// periods the system is linear in the (max, +) sense, and its growth per
/// period becomes constant, from an empty ring after a few periods. If it has not
/// after `laps_max` laps, the average of the second half is taken.
pub(crate) fn steady(
    times: &[f64],
    schedule: &Schedule,
    resident: &[bool],
    window: u64,
    rate_bytes_per_s: f64,
    laps_max: usize,
) -> f64 {
    let layout = LapLayout::new(schedule, resident);
    let reading = layout.steps.iter().filter(|s| s.mode.reads());
    let streamed = reading.map(|s| s.len).sum();
    let bound = lap_bound_s(times.iter().sum(), streamed, rate_bytes_per_s);
    if streamed == 0 {
        return bound;
    }
    let mut ring = Ring::new(window, rate_bytes_per_s);
    let mut phases = vec![0];
    let mut ends = vec![0.0];
    let mut period = None;
    while ends.len() <= laps_max {
        let Some(end) = ring.lap(&layout, times) else {
            return f64::INFINITY;
        };
        ends.push(end);
        let phase = ring.phase();
        if period.is_none() {
            let seen = phases.iter().rposition(|&p| p == phase);
            period = seen.map(|at| phases.len() - at);
            phases.push(phase);
        }
        if let Some(period) = period
            && let Some(mark) = ends.len().checked_sub(2 * period + 1)
            && mark > 0
        {
            let last = end - ends[mark + period];
            let previous = ends[mark + period] - ends[mark];
            if (last - previous).abs() <= 1e-12 * end {
                return bound.max(last / period as f64);
            }
        }
    }
    // Whole periods from the second half, where there are any.
    let last = ends.len() - 1;
    let span = match period {
        Some(period) if period <= last / 2 => last / 2 / period * period,
        _ => last / 2,
    };
    bound.max((ends[last] - ends[last - span]) / span.max(1) as f64)
}

/// Which steps of a lap stream, and which of them each run needs and releases. The
/// same for every lap.
pub struct LapLayout<'a> {
    /// The streamed steps in order.
    pub steps: Vec<&'a Step>,
    /// By run: how many of `steps` start before or in it.
    pub started: Vec<usize>,
    /// By run: index of the oldest of `steps` not released after it; their number if
    /// all are.
    pub oldest: Vec<usize>,
}

impl<'a> LapLayout<'a> {
    /// The steps of a schedule that stream, where `resident` marks the extents that stay.
    pub fn new(schedule: &'a Schedule, resident: &[bool]) -> Self {
        let all = schedule.steps().iter();
        let steps: Vec<&Step> = all.filter(|s| !resident[s.extent.index()]).collect();
        let (mut started, mut oldest) = (Vec::new(), Vec::new());
        let (mut start, mut old) = (0, 0);
        for run in 0..schedule.runs() as u32 {
            while steps.get(start).is_some_and(|s| s.first_run <= run) {
                start += 1;
            }
            while steps.get(old).is_some_and(|s| s.last_run <= run) {
                old += 1;
            }
            started.push(start);
            oldest.push(old);
        }
        Self {
            steps,
            started,
            oldest,
        }
    }

    /// The start of each step of a lap in a ring of `window` bytes that is used
    /// up to `end`, followed by the start of the next lap's first step, which is the
    /// tail once this lap has released everything. Advances `end`.
    pub fn positions(&self, end: &mut u64, window: u64) -> Vec<u64> {
        let mut starts = Vec::with_capacity(self.steps.len() + 1);
        for step in &self.steps {
            starts.push(place(window, *end, step.len));
            *end = starts[starts.len() - 1] + step.len;
        }
        let next = self.steps.first();
        starts.push(next.map_or(*end, |s| place(window, *end, s.len)));
        starts
    }
}

/// The start of a step of `len` bytes that follows position `end` in a ring of
/// `window` bytes.
fn place(window: u64, end: u64, len: u64) -> u64 {
    match end.checked_rem(window) {
        Some(phase) if phase + len > window => end - phase + window,
        _ => end,
    }
}

/// A resident extent that the first lap still has to read.
struct Arrival {
    /// The run that needs it first.
    run: u32,
    /// Index of the streamed step that it is read before.
    before: usize,
    /// Bytes still to read.
    left: f64,
}

fn first_reads(schedule: &Schedule, resident: &[bool]) -> VecDeque<Arrival> {
    let mut seen = vec![false; schedule.extents()];
    let (mut before, mut arrivals) = (0, VecDeque::new());
    for step in schedule.steps() {
        let index = step.extent.index();
        if !resident[index] {
            before += 1;
        } else if !std::mem::replace(&mut seen[index], true) && step.mode.reads() {
            arrivals.push_back(Arrival {
                run: step.first_run,
                before,
                left: step.len as f64,
            });
        }
    }
    arrivals
}

/// The window and the drive that fills it, over any number of laps.
struct Ring {
    window: u64,
    rate: f64,
    /// End position of the last step placed.
    end: u64,
    /// Time at which the drive finishes the reads so far.
    drive_s: f64,
    /// Time at which the last run so far ended.
    now_s: f64,
    /// A time, and the position below which can be read from then on; both ascend.
    room: VecDeque<(f64, u64)>,
    arrivals: VecDeque<Arrival>,
}

impl Ring {
    fn new(window: u64, rate: f64) -> Self {
        Self {
            window,
            rate,
            end: 0,
            drive_s: 0.0,
            now_s: 0.0,
            room: VecDeque::from([(0.0, window)]),
            arrivals: VecDeque::new(),
        }
    }

    fn phase(&self) -> u64 {
        self.end % self.window
    }

    /// Simulates one lap; returns when it ends, in seconds since the first began,
    /// or `None` if the ring is too small.
    fn lap(&mut self, layout: &LapLayout, times: &[f64]) -> Option<f64> {
        let starts = layout.positions(&mut self.end, self.window);
        let mut next = 0;
        for (run, time) in times.iter().enumerate() {
            let waits = next < layout.started[run] || self.arrival_due(run, usize::MAX);
            while next < layout.started[run] {
                while self.arrival_due(run, next) {
                    self.read_arrival(f64::INFINITY);
                }
                let step = layout.steps[next];
                match step.mode.reads() {
                    true => self.read(starts[next], step.len)?,
                    false => self.wait_for_room(starts[next] + step.len)?,
                }
                next += 1;
            }
            while self.arrival_due(run, usize::MAX) {
                self.read_arrival(f64::INFINITY);
            }
            if waits {
                self.now_s = self.now_s.max(self.drive_s);
            }
            self.now_s += time;
            let limit = starts[layout.oldest[run]] + self.window;
            if self.room.back().is_none_or(|&(_, last)| last < limit) {
                self.room.push_back((self.now_s, limit));
            }
        }
        Some(self.now_s)
    }

    /// Reads a streamed step as room comes free.
    fn read(&mut self, start: u64, len: u64) -> Option<()> {
        let (mut at, end) = (start, start + len);
        while at < end {
            let &(since_s, limit) = self.room.front()?;
            if limit <= at {
                self.room.pop_front();
                continue;
            }
            while self.drive_s < since_s && !self.arrivals.is_empty() {
                self.read_arrival(since_s);
            }
            let bytes = limit.min(end) - at;
            self.drive_s = self.drive_s.max(since_s) + bytes as f64 / self.rate;
            at += bytes;
        }
        Some(())
    }

    /// Waits for room up to `end`, for a step that is not read.
    fn wait_for_room(&mut self, end: u64) -> Option<()> {
        while self.room.front()?.1 < end {
            self.room.pop_front();
        }
        Some(())
    }

    /// Whether the next resident extent is due in `run` or earlier, before the
    /// streamed step of index `before`.
    fn arrival_due(&self, run: usize, before: usize) -> bool {
        let next = self.arrivals.front();
        next.is_some_and(|a| a.run as usize <= run && a.before <= before)
    }

    /// Reads the next resident extent, until `until_s` at most.
    fn read_arrival(&mut self, until_s: f64) {
        let Some(next) = self.arrivals.front_mut() else {
            return;
        };
        let done_s = self.drive_s + next.left / self.rate;
        if done_s <= until_s {
            self.drive_s = done_s;
            self.arrivals.pop_front();
        } else {
            next.left -= (until_s - self.drive_s) * self.rate;
            self.drive_s = until_s;
        }
    }
}
