//! What a lap takes with extents at given places, by simulation: the window over
//! many laps, filled by what comes by.

use super::search::Search;
use crate::schedule::Step;
use std::collections::VecDeque;

/// Laps of compute that are simulated before the steady state is measured, and
/// over which it is. 60 is a multiple of all small periods.
pub(super) const WARM_LAPS: usize = 12;
pub(super) const LAPS: usize = 60;

impl Search<'_> {
    /// The simulation: a lap in the steady state, in seconds.
    pub(super) fn lap_s(&self, phase_s: &[f64]) -> f64 {
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
