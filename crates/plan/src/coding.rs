//! Optimum coding: where on a loop each extent circulates, so that it comes by
//! when the compute is ready for it. Programmers of drum and mercury-line
//! machines placed each instruction one access time ahead of its use; here it
//! is weights. Knows the lap of the loop, schedule, residency and compute; does
//! not know what circulates or how it is read.
//!
//! **The loop.** An extent passes the tap once in each lap of the loop, and can
//! be taken if there was room for it in the window when it began to pass;
//! otherwise it comes one lap later. So a lap of the compute takes a whole
//! number of laps of the loop, on average over many, and never less than one.
//! In order of use, an extent follows the one before at the line rate: compute
//! that is slower than that fills the window, misses what passes then, and
//! waits for it almost a lap each time.
//!
//! **The coding.** Let one lap of compute be `m` laps of the loop, evenly: that
//! says when each extent is wanted, and modulo the lap where on the loop it
//! should lie. Sorted by that, extents are packed around the loop; what is wanted
//! in the second lap then lies between what is wanted in the first, as sectors
//! of a disk were interleaved. All small `m`, several ways of packing, and the
//! plain order are tried by simulation, the best one is improved by exchanges,
//! and its distance to the bound is reported.

use crate::lap::{Layout, run_times};
use crate::residency::Residency;
use crate::schedule::{Schedule, Step};
use crate::types::Plan;
use std::collections::VecDeque;

/// Laps of compute that are simulated before the steady state is measured, and
/// over which it is. 60 is a multiple of all small periods.
const WARM_LAPS: usize = 12;
const LAPS: usize = 60;

/// Steps that all simulations of one search may take together: a fraction of a second.
const EFFORT: usize = 5_000_000;

/// Laps of the loop to a lap of compute that are tried at most.
const TURNS_MAX: usize = 48;

/// The loop as the coding sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loop {
    /// One lap of what circulates, in seconds.
    pub lap_s: f64,
    /// At which extents pass.
    pub rate_bytes_per_s: f64,
    /// Time without bytes behind each read of an extent, in seconds.
    pub guard_s: f64,
    /// Longest read in bytes.
    pub read_len: u64,
    /// At which extents come that are streamed, but not from the loop.
    pub behind_bytes_per_s: f64,
}

impl Loop {
    /// What an extent of `len` bytes takes of the loop, in seconds.
    pub fn takes_s(&self, len: u64) -> f64 {
        let guards = len.div_ceil(self.read_len) as f64 * self.guard_s;
        len as f64 / self.rate_bytes_per_s + guards
    }
}

/// Where the extents circulate, and what that is worth.
#[derive(Clone, Debug, PartialEq)]
pub struct Coding {
    /// By extent: when it begins to pass in each lap of the loop, in seconds;
    /// `None` if it is not on the loop.
    pub phase_s: Vec<Option<f64>>,
    /// A lap of compute in the steady state, in seconds.
    pub lap_s: f64,
    /// No placement makes it shorter, in seconds.
    pub bound_s: f64,
}

impl Coding {
    /// How much longer the lap is than the bound, as a share of it.
    pub fn distance(&self) -> f64 {
        self.lap_s / self.bound_s - 1.0
    }
}

/// What is placed, and for whom.
#[derive(Clone, Copy, Debug)]
pub struct Task<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// Its schedule.
    pub schedule: &'a Schedule,
    /// What stays and what streams.
    pub residency: &'a Residency,
    /// Compute of a lap when nothing is waited for, in seconds.
    pub compute_s: f64,
    /// The loop.
    pub ring: Loop,
}

/// The plain order: as the lap uses them, one behind the other. `on_loop` has
/// one value an extent; resident ones are never on it.
pub fn in_order(task: &Task<'_>, on_loop: &[bool]) -> Coding {
    let search = Search::new(task, on_loop);
    let order: Vec<usize> = (0..search.extents.len()).collect();
    search.coding(&search.packed(&order, Slack::End))
}

/// The best placement that was found. Arguments as in [`in_order`].
///
/// What is on the loop has to fit: the sum of [`Loop::takes_s`] is at most its
/// lap.
pub fn optimum(task: &Task<'_>, on_loop: &[bool]) -> Coding {
    let search = Search::new(task, on_loop);
    let plain: Vec<usize> = (0..search.extents.len()).collect();
    let mut best = Best::new(&search, &plain);
    let fewest = (search.bound_s() / task.ring.lap_s).ceil() as usize;
    for turns in 1..=(fewest + 8).min(TURNS_MAX) {
        for wanted in [&search.by_compute, &search.by_bytes] {
            if best.is_done() {
                break;
            }
            let (order, ideal) = search.wanted(wanted, turns as f64);
            best.offer(search.packed(&order, Slack::End), &order);
            best.offer(search.packed(&order, Slack::Even), &order);
            best.offer(search.near(&order, &ideal), &order);
        }
    }
    best.improve();
    search.coding(&best.phase_s)
}

/// The placement for a lap of compute of `turns` laps of the loop, without trying
/// others or how long it takes: where all extents are alike, nothing better is to
/// be found. By extent, in seconds as in [`Coding::phase_s`].
pub fn interleaved(task: &Task<'_>, on_loop: &[bool], turns: f64) -> Vec<Option<f64>> {
    let search = Search::new(task, on_loop);
    let (order, _) = search.wanted(&search.by_compute, turns);
    let phase_s = search.packed(&order, Slack::Even);
    let phase = |index: &Option<usize>| index.map(|i| phase_s[i]);
    search.index.iter().map(phase).collect()
}

/// A lap of compute in the steady state with extents at these places, in
/// seconds.
pub fn coded_lap_s(task: &Task<'_>, phase_s: &[Option<f64>]) -> f64 {
    let on_loop: Vec<bool> = phase_s.iter().map(Option::is_some).collect();
    let search = Search::new(task, &on_loop);
    let of = |extent: &usize| phase_s[*extent].unwrap_or(0.0);
    let phases: Vec<f64> = search.extents.iter().map(of).collect();
    search.lap_s(&phases)
}

/// Where the free part of the loop goes.
#[derive(Clone, Copy)]
enum Slack {
    /// Behind the last.
    End,
    /// The same share behind each.
    Even,
}

/// What does not change while places are tried. Places are by index into
/// `extents`.
struct Search<'a> {
    task: Task<'a>,
    layout: Layout<'a>,
    times: Vec<f64>,
    /// Those on the loop, in order of first use.
    extents: Vec<usize>,
    /// By extent: its index there.
    index: Vec<Option<usize>>,
    takes_s: Vec<f64>,
    /// When each is wanted, as a share of the lap: by compute done until then,
    /// and by bytes streamed until then.
    by_compute: Vec<f64>,
    by_bytes: Vec<f64>,
}

impl<'a> Search<'a> {
    fn new(task: &Task<'a>, on_loop: &[bool]) -> Self {
        let resident = &task.residency.resident;
        let layout = Layout::new(task.schedule, resident);
        let times = run_times(task.plan, task.compute_s);
        let mut search = Self {
            task: *task,
            times,
            extents: Vec::new(),
            index: vec![None; on_loop.len()],
            takes_s: Vec::new(),
            by_compute: Vec::new(),
            by_bytes: Vec::new(),
            layout,
        };
        let mut starts = vec![0.0];
        for time in &search.times {
            starts.push(starts[starts.len() - 1] + time);
        }
        let total_s: f64 = starts[starts.len() - 1];
        let bytes: u64 = search.layout.steps.iter().map(|step| step.len).sum();
        let mut before = 0;
        for step in &search.layout.steps {
            let extent = step.extent.index();
            if on_loop[extent] && search.index[extent].is_none() {
                search.index[extent] = Some(search.extents.len());
                search.extents.push(extent);
                search.takes_s.push(task.ring.takes_s(step.len));
                let done_s = starts[step.first_run as usize];
                let share = if total_s > 0.0 { done_s / total_s } else { 0.0 };
                search.by_compute.push(share);
                search.by_bytes.push(before as f64 / bytes as f64);
            }
            before += step.len;
        }
        search
    }

    /// In which order the loop should carry what is `wanted` after these shares of
    /// a lap of `turns` turns, and where each would lie best, in seconds.
    fn wanted(&self, wanted: &[f64], turns: f64) -> (Vec<usize>, Vec<f64>) {
        let phase = |i: usize| (wanted[i] * turns).fract() * self.task.ring.lap_s;
        let mut order: Vec<usize> = (0..self.extents.len()).collect();
        order.sort_by(|&a, &b| phase(a).total_cmp(&phase(b)).then(a.cmp(&b)));
        let ideal = order.iter().map(|&i| phase(i)).collect();
        (order, ideal)
    }

    /// Compute, or one lap of the loop, for nothing on it comes twice in one.
    fn bound_s(&self) -> f64 {
        match self.extents.is_empty() {
            true => self.task.compute_s,
            false => self.task.compute_s.max(self.task.ring.lap_s),
        }
    }

    fn coding(&self, phase_s: &[f64]) -> Coding {
        let phase = |index: &Option<usize>| index.map(|i| phase_s[i]);
        Coding {
            phase_s: self.index.iter().map(phase).collect(),
            lap_s: self.lap_s(phase_s),
            bound_s: self.bound_s(),
        }
    }

    /// One behind the other in this order.
    fn packed(&self, order: &[usize], slack: Slack) -> Vec<f64> {
        let sum: f64 = self.takes_s.iter().sum();
        let free_s = (self.task.ring.lap_s - sum).max(0.0);
        let gap_s = match slack {
            Slack::End => 0.0,
            Slack::Even => free_s / order.len().max(1) as f64,
        };
        let mut phase_s = vec![0.0; order.len()];
        let mut at_s = 0.0;
        for &i in order {
            phase_s[i] = at_s;
            at_s += self.takes_s[i] + gap_s;
        }
        phase_s
    }

    /// In this order, each as near to its ideal place as those before it and
    /// the end of the loop allow.
    fn near(&self, order: &[usize], ideal_s: &[f64]) -> Vec<f64> {
        let mut latest_s = vec![0.0; order.len()];
        let mut end_s = self.task.ring.lap_s;
        for (place, &i) in order.iter().enumerate().rev() {
            end_s -= self.takes_s[i];
            latest_s[place] = end_s;
        }
        let mut phase_s = vec![0.0; order.len()];
        let mut at_s: f64 = 0.0;
        for (place, &i) in order.iter().enumerate() {
            at_s = at_s.max(ideal_s[place].min(latest_s[place]));
            phase_s[i] = at_s;
            at_s += self.takes_s[i];
        }
        phase_s
    }

    /// The simulation: a lap in the steady state, in seconds.
    fn lap_s(&self, phase_s: &[f64]) -> f64 {
        let mut ring = Ring {
            window: self.task.residency.window,
            end: 0,
            asked_s: 0.0,
            behind_s: 0.0,
            now_s: 0.0,
            room: VecDeque::from([(0.0, self.task.residency.window)]),
        };
        let mut warm_s = 0.0;
        for lap in 0..WARM_LAPS + LAPS {
            if lap == WARM_LAPS {
                warm_s = ring.now_s;
            }
            if !ring.lap(self, phase_s) {
                return f64::INFINITY;
            }
        }
        (ring.now_s - warm_s) / LAPS as f64
    }

    /// When the `len` bytes at `from` of a step have come, which were asked for at
    /// `asked_s`. Asked for in the middle of their passing, they are missed.
    fn comes_s(
        &self,
        step: &Step,
        (from, len): (u64, u64),
        asked_s: f64,
        behind_s: &mut f64,
        phase_s: &[f64],
    ) -> f64 {
        let ring = &self.task.ring;
        let Some(i) = self.index[step.extent.index()] else {
            *behind_s = behind_s.max(asked_s) + len as f64 / ring.behind_bytes_per_s;
            return *behind_s;
        };
        let begins_s = phase_s[i] + ring.takes_s(from);
        // A rounding error is no lap.
        let laps = ((asked_s - begins_s) / ring.lap_s - 1e-9).ceil().max(0.0);
        begins_s + laps * ring.lap_s + len as f64 / ring.rate_bytes_per_s
    }
}

/// The window over any number of laps, as in `lap.rs`, but filled by what comes by.
struct Ring {
    window: u64,
    /// Position behind the last step placed.
    end: u64,
    /// When the last step was asked for: they are in order.
    asked_s: f64,
    /// When the medium behind has done what it was asked.
    behind_s: f64,
    now_s: f64,
    /// From when on positions below what can be asked for.
    room: VecDeque<(f64, u64)>,
}

impl Ring {
    /// One lap; false if the window is too small.
    fn lap(&mut self, search: &Search<'_>, phase_s: &[f64]) -> bool {
        let layout = &search.layout;
        let starts = layout.positions(&mut self.end, self.window);
        let mut next = 0;
        for (run, time_s) in search.times.iter().enumerate() {
            while next < layout.started[run] {
                let step = layout.steps[next];
                // Each read is made as soon as there is room for it.
                for from in (0..step.len).step_by(search.task.ring.read_len as usize) {
                    let len = (step.len - from).min(search.task.ring.read_len);
                    let end = starts[next] + from + len;
                    while self.room.front().is_some_and(|&(_, limit)| limit < end) {
                        self.room.pop_front();
                    }
                    let Some(&(since_s, _)) = self.room.front() else {
                        return false;
                    };
                    self.asked_s = self.asked_s.max(since_s);
                    let behind_s = &mut self.behind_s;
                    let came_s = search.comes_s(step, (from, len), self.asked_s, behind_s, phase_s);
                    self.now_s = self.now_s.max(came_s);
                }
                next += 1;
            }
            self.now_s += time_s;
            let limit = starts[layout.oldest[run]] + self.window;
            if self.room.back().is_none_or(|&(_, most)| most < limit) {
                self.room.push_back((self.now_s, limit));
            }
        }
        true
    }
}

/// The best placement so far, and what may still be spent on a better one.
struct Best<'a, 'b> {
    search: &'a Search<'b>,
    phase_s: Vec<f64>,
    order: Vec<usize>,
    lap_s: f64,
    left: usize,
}

impl<'a, 'b> Best<'a, 'b> {
    fn new(search: &'a Search<'b>, plain: &[usize]) -> Self {
        let phase_s = search.packed(plain, Slack::End);
        let mut best = Self {
            search,
            phase_s: Vec::new(),
            order: Vec::new(),
            lap_s: f64::INFINITY,
            left: EFFORT,
        };
        best.offer(phase_s, plain);
        best
    }

    /// Whether nothing better can be found, or not within the effort.
    fn is_done(&self) -> bool {
        self.left == 0 || self.lap_s <= self.search.bound_s() * (1.0 + 1e-9)
    }

    /// Takes a placement if it is better.
    fn offer(&mut self, phase_s: Vec<f64>, order: &[usize]) -> bool {
        let steps = self.search.layout.steps.len() * (WARM_LAPS + LAPS);
        self.left = self.left.saturating_sub(steps.max(1));
        let lap_s = self.search.lap_s(&phase_s);
        let better = self.phase_s.is_empty() || lap_s < self.lap_s * (1.0 - 1e-9);
        if better {
            self.phase_s = phase_s;
            self.order = order.to_vec();
            self.lap_s = lap_s;
        }
        better
    }

    /// Exchanges neighbours, then those farther apart, as long as it helps.
    fn improve(&mut self) {
        let count = self.order.len();
        let mut apart = 1;
        while apart < count && !self.is_done() {
            let mut helped = false;
            for place in 0..count {
                if self.is_done() {
                    return;
                }
                let mut order = self.order.clone();
                order.swap(place, (place + apart) % count);
                for slack in [Slack::End, Slack::Even] {
                    helped |= self.offer(self.search.packed(&order, slack), &order);
                }
            }
            apart = if helped { 1 } else { apart + 1 };
        }
    }
}
