//! Simulates what a lap takes with extents at given places: the window over many laps,
//! filled from the loop as extents pass.

use super::search::Search;
use std::collections::VecDeque;

/// Laps of compute that are simulated before the steady state is measured, and over which
/// it is measured. 60 is a multiple of all small periods.
pub(super) const WARM_LAPS: usize = 12;
pub(super) const LAPS: usize = 60;

impl Search<'_> {
    /// The simulation: a lap in the steady state, in seconds.
    pub(super) fn lap_s(&self, phase_s: &[f64]) -> f64 {
        let mut ring = Ring::new(self, 1.0);
        let mut warm_s = 0.0;
        for lap in 0..WARM_LAPS + LAPS {
            if lap == WARM_LAPS {
                warm_s = ring.now_s;
            }
            if !ring.lap(|read| self.comes_s(read, phase_s)) {
                return f64::INFINITY;
            }
        }
        (ring.now_s - warm_s) / LAPS as f64
    }

    /// When a read has come. One that is asked for while it passes has missed that pass.
    fn comes_s(&self, read: Read, phase_s: &[f64]) -> f64 {
        let ring = &self.task.ring;
        let begins_s = phase_s[read.i] + ring.takes_s(read.from);
        // A rounding error must not cost a lap.
        let laps = ((read.asked_s - begins_s) / ring.lap_s - 1e-9)
            .ceil()
            .max(0.0);
        begins_s + laps * ring.lap_s + read.len as f64 / ring.rate_bytes_per_s
    }

    /// When each extent would begin to pass if it passed as soon as there is room for it, in
    /// laps of compute of `turns` turns or more: in seconds since the first one began.
    /// Compute is taken to be slower by the factor `slower`, so that there is time to spare.
    pub(super) fn ready_s(&self, turns: f64, slower: f64) -> Vec<f64> {
        let loop_ = &self.task.ring;
        let mut begins_s = vec![f64::NEG_INFINITY; self.extents.len()];
        let mut passed_s: f64 = 0.0;
        let mut ring = Ring::new(self, slower);
        for _ in 0..WARM_LAPS {
            ring.lap(|read| {
                let begins_s = &mut begins_s[read.i];
                if read.from == 0 {
                    *begins_s = (*begins_s + turns * loop_.lap_s).max(passed_s);
                }
                // An extent passes as a whole, so the last read may delay the first.
                *begins_s = begins_s.max(read.asked_s - loop_.takes_s(read.from));
                passed_s = *begins_s + loop_.takes_s(read.from + read.len);
                passed_s
            });
        }
        let first_s = begins_s.first().copied().unwrap_or(0.0);
        begins_s.iter().map(|begin_s| begin_s - first_s).collect()
    }
}

/// A read of something on the loop: `len` bytes from `from` of the extent with this
/// index among those on the loop.
#[derive(Clone, Copy)]
struct Read {
    i: usize,
    from: u64,
    len: u64,
    asked_s: f64,
}

/// The window over any number of laps, filled from the loop as extents pass.
struct Ring<'a, 'b> {
    search: &'a Search<'b>,
    /// Factor by which compute is slower.
    slower: f64,
    /// Position after the last step placed.
    end: u64,
    /// When the last read was asked for: reads are asked for in order.
    asked_s: f64,
    /// When the medium behind has completed its reads so far.
    behind_s: f64,
    now_s: f64,
    /// A time, and the position up to which reads can be asked for from then on.
    room: VecDeque<(f64, u64)>,
}

impl<'a, 'b> Ring<'a, 'b> {
    fn new(search: &'a Search<'b>, slower: f64) -> Self {
        Self {
            search,
            slower,
            end: 0,
            asked_s: 0.0,
            behind_s: 0.0,
            now_s: 0.0,
            room: VecDeque::from([(0.0, search.task.residency.window)]),
        }
    }

    /// Simulates one lap, in which `comes_s` returns when a read on the loop has come;
    /// false if the window is too small.
    fn lap(&mut self, mut comes_s: impl FnMut(Read) -> f64) -> bool {
        let Search { task, layout, .. } = self.search;
        let window = task.residency.window;
        let starts = layout.positions(&mut self.end, window);
        let mut next = 0;
        for (run, time_s) in self.search.times.iter().enumerate() {
            while next < layout.started[run] {
                let step = layout.steps[next];
                // Each read is made as soon as there is room for it.
                for from in (0..step.len).step_by(task.ring.read_len as usize) {
                    let len = (step.len - from).min(task.ring.read_len);
                    let end = starts[next] + from + len;
                    while self.room.front().is_some_and(|&(_, limit)| limit < end) {
                        self.room.pop_front();
                    }
                    let Some(&(since_s, _)) = self.room.front() else {
                        return false;
                    };
                    self.asked_s = self.asked_s.max(since_s);
                    let asked_s = self.asked_s;
                    let came_s = match self.search.index[step.extent.index()] {
                        Some(i) => comes_s(Read {
                            i,
                            from,
                            len,
                            asked_s,
                        }),
                        None => {
                            let takes_s = len as f64 / task.ring.behind_bytes_per_s;
                            self.behind_s = self.behind_s.max(asked_s) + takes_s;
                            self.behind_s
                        }
                    };
                    self.now_s = self.now_s.max(came_s);
                }
                next += 1;
            }
            self.now_s += time_s * self.slower;
            let limit = starts[layout.oldest[run]] + window;
            if self.room.back().is_none_or(|&(_, most)| most < limit) {
                self.room.push_back((self.now_s, limit));
            }
        }
        true
    }
}
