//! How large the window must be. Knows the ring's rules; does not know what
//! stays or how long anything takes.
//!
//! **The ring.** Positions only grow; position `p` is byte `p mod W` of a
//! window of `W` bytes. Streamed steps are placed in order at consecutive
//! positions; one that would straddle a multiple of `W` moves up to it, and the
//! pad before it is lost. The tail is the position of the oldest step not yet
//! released (a pad before it does not count). A byte can be read once it lies
//! in `tail..tail + W`. Before run `r` the steps with `first_run = r` are
//! acquired, after all steps with `last_run < r` have been released.
//!
//! **No deadlock.** Before run `r` let `j` be the oldest step with
//! `last_run ≥ r`, and `i` the last with `first_run ≤ r`. The run can start if
//! and only if `j..=i` fit: `end(i) − start(j) ≤ W`. Steps released between
//! them count, for bytes become free in order only. Let `S` be the sum of
//! their lengths. As long as the whole is no longer than `W` it crosses at most
//! one multiple of `W`, and so has at most one pad, which is smaller than the
//! step behind it: at most that length − `ALIGN`. With `L` the largest of
//! `j+1..=i`, `W ≥ S + L − ALIGN` always suffices (`S`, if `j = i`). And it is
//! needed: if `j` starts where `ALIGN` bytes are missing for the largest step
//! before the multiple of `W`, the pad is `L − ALIGN`. So the largest such
//! value over all runs is the *smallest* window that works from every start: at
//! any step, in any phase of the ring. No start is excluded, because extents
//! can be skipped and laps cut short. As nothing is leased across the end of a
//! lap, joining laps adds nothing. A window that works from some starts only
//! can be smaller, by at most `L − ALIGN`, for `S` is always needed.

use crate::schedule::{Schedule, Step};
use crate::types::{ALIGN, ExtentId};
use std::collections::VecDeque;

/// The smallest window in bytes with which the line cannot deadlock, wherever
/// in the lap and in the ring it starts. `streamed` has one value per extent; only
/// streamed extents need window. 0 if nothing is streamed.
pub fn window_min(schedule: &Schedule, streamed: &[bool]) -> u64 {
    let mut live = Live::default();
    let mut needed = 0;
    for step in schedule.steps() {
        if streamed[step.extent.index()] {
            live.push(step);
            needed = needed.max(live.need());
        }
    }
    needed
}

/// The steps between the oldest unreleased and the newest: what must fit.
#[derive(Default)]
pub(crate) struct Live<'a> {
    steps: VecDeque<&'a Step>,
    sum: u64,
    /// Lengths greater than all later ones, each with its step's number: the
    /// front is the largest of all.
    peaks: VecDeque<(u64, u64)>,
    /// Number of the front of `steps`.
    front: u64,
}

impl<'a> Live<'a> {
    /// Adds the next step, after removing those released before it.
    pub fn push(&mut self, step: &'a Step) {
        while let Some(old) = self.steps.front()
            && old.last_run < step.first_run
        {
            self.sum -= old.len;
            self.steps.pop_front();
            self.front += 1;
        }
        let place = self.front + self.steps.len() as u64;
        self.steps.push_back(step);
        self.sum += step.len;
        while self.peaks.back().is_some_and(|&(len, _)| len <= step.len) {
            self.peaks.pop_back();
        }
        self.peaks.push_back((step.len, place));
        // A pad before the oldest step does not count.
        while self.peaks.front().is_some_and(|&(_, at)| at <= self.front) {
            self.peaks.pop_front();
        }
    }

    /// The window that these steps need in the worst phase, in bytes.
    pub fn need(&self) -> u64 {
        self.sum + self.peaks.front().map_or(0, |&(len, _)| len - ALIGN)
    }

    /// Removes the largest extent and returns it.
    pub fn take_largest(&mut self) -> Option<ExtentId> {
        let largest = self
            .steps
            .iter()
            .max_by_key(|s| (s.len, s.last_run))?
            .extent;
        for step in std::mem::take(self).steps {
            if step.extent != largest {
                self.push(step);
            }
        }
        Some(largest)
    }
}
