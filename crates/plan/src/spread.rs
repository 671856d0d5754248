//! Chooses the extents that stay so that the others stream evenly over the lap. Knows
//! when a lap uses each extent and how many bytes may stay; does not know rates.

use crate::schedule::{Schedule, Step};
use std::ops::Range;

/// Bisection steps for the density of the stream.
const BISECTIONS: u32 = 14;

/// An unfinished choice: which extents stay, and how many bytes are left.
#[derive(Clone, Debug)]
pub(crate) struct Stay {
    /// Whether each extent stays; one value per extent.
    pub resident: Vec<bool>,
    /// Bytes that may still become resident.
    pub left: u64,
}

/// What staying saves for each extent, and the compute time between the steps of a lap.
pub(crate) struct Uses<'a> {
    schedule: &'a Schedule,
    /// By extent: how many reads and writes a lap saves if it stays.
    worth: Vec<u32>,
    /// By step: share of the lap's compute time since the step before (cyclic);
    /// sums to 1. In a lap with turns each phase gets a share in proportion to its
    /// bytes, because what stays streams in none of them.
    since: Vec<f64>,
}

impl<'a> Uses<'a> {
    /// `times` are the compute times of the runs, which sum to 1; `phases` are the
    /// runs of each phase.
    pub fn new(schedule: &'a Schedule, times: &[f64], phases: &[Range<u32>]) -> Self {
        let mut starts = Vec::with_capacity(times.len());
        let mut sum = 0.0;
        for time in times {
            starts.push(sum);
            sum += time;
        }
        let at = |i: usize| starts[schedule.steps()[i].first_run as usize];
        let count = schedule.steps().len();
        let since = (0..count).map(|i| match i {
            0 => 1.0 + at(0) - at(count - 1),
            _ => at(i) - at(i - 1),
        });
        let mut since: Vec<f64> = since.collect();
        if phases.len() > 1 {
            even_out(schedule, phases, &mut since);
        }
        Self {
            schedule,
            worth: schedule.saved_by_staying(),
            since,
        }
    }

    /// Adds resident extents of at most `stay.left` bytes. Classes of extents that
    /// save most per byte come first. Of the first class that does not fit as a whole,
    /// a part is chosen so that the others stream evenly over the compute time; then
    /// whatever still fits. `ahead` is how many bytes can be read before they are
    /// used.
    pub fn spread(&self, stay: &mut Stay, ahead: u64) {
        let class = self.keep_classes(stay);
        let all = self.streamed(&stay.resident) as f64;
        // Search for the lowest density of the stream that the memory allows. `thick`
        // is certainly possible; below `thin` is not.
        let (mut thin, mut thick) = (
            (all - f64::from(class) * stay.left as f64).max(0.0),
            4.0 * all,
        );
        let mut best = stay.clone();
        for _ in 0..BISECTIONS {
            let density = (thin + thick) / 2.0;
            match self.diffused(stay, class, density, ahead as f64) {
                Some(stays) => {
                    best = stays;
                    thick = density;
                }
                None => thin = density,
            }
        }
        *stay = best;
        self.fill(stay);
    }

    /// Adds resident extents that still fit, those that save most first.
    pub fn fill(&self, stay: &mut Stay) {
        let steps = self.schedule.steps().iter();
        let mut rest: Vec<_> = steps.filter(|s| !stay.resident[s.extent.index()]).collect();
        rest.sort_by_key(|s| std::cmp::Reverse((self.worth[s.extent.index()], s.len)));
        for step in rest {
            stay.keep(step.extent.index(), step.len);
        }
    }

    /// Makes whole classes of extents resident that save more than one transfer a lap,
    /// the highest first, as long as they fit; returns the first class that does not,
    /// or 1.
    fn keep_classes(&self, stay: &mut Stay) -> u32 {
        let mut classes: Vec<u32> = self.worth.iter().copied().filter(|w| *w > 1).collect();
        classes.sort_unstable_by(|a, b| b.cmp(a));
        classes.dedup();
        for class in classes {
            let mut whole = stay.clone();
            let mut steps = self.schedule.steps().iter();
            let is_of = |s: &&Step| self.worth[s.extent.index()] == class;
            if steps
                .by_ref()
                .filter(is_of)
                .all(|s| whole.keep(s.extent.index(), s.len))
            {
                *stay = whole;
            } else {
                return class;
            }
        }
        1
    }

    fn streamed(&self, resident: &[bool]) -> u64 {
        let steps = self.schedule.steps().iter();
        let moving = steps.filter(|s| !resident[s.extent.index()]);
        moving.map(|s| s.len).sum()
    }

    /// Error diffusion: streams `density` bytes a lap, evenly over the compute
    /// time, as whole extents: each if at least half of it is due when it is used.
    /// At most `ahead` bytes can be due at once, because no more can have been read
    /// by the end of a long run; streaming more at once would stall. `None` if more
    /// would stay than fits.
    fn diffused(&self, from: &Stay, class: u32, density: f64, ahead: f64) -> Option<Stay> {
        let mut due = 0.0;
        let mut streams: Vec<Option<bool>> = Vec::new();
        // The second pass starts with what the end of the lap leaves due.
        for _ in 0..2 {
            streams = vec![None; from.resident.len()];
            for (i, step) in self.schedule.steps().iter().enumerate() {
                due = (due + density * self.since[i]).min(ahead);
                let index = step.extent.index();
                if from.resident[index] {
                    continue;
                }
                let len = step.len as f64;
                let passes = || self.worth[index] != class || due >= len / 2.0;
                // The first use in a lap decides for all.
                if *streams[index].get_or_insert_with(passes) {
                    due -= len;
                }
            }
        }
        let mut stay = from.clone();
        for step in self.schedule.steps() {
            let index = step.extent.index();
            if streams[index] == Some(false) && !stay.keep(index, step.len) {
                return None;
            }
        }
        Some(stay)
    }
}

/// Gives each phase a share of the lap in proportion to the bytes of its steps.
fn even_out(schedule: &Schedule, phases: &[Range<u32>], since: &mut [f64]) {
    let steps = schedule.steps();
    let all: u64 = steps.iter().map(|s| s.len).sum();
    for phase in phases {
        let low = steps.partition_point(|s| s.first_run < phase.start);
        let high = steps.partition_point(|s| s.first_run < phase.end);
        let bytes: u64 = steps[low..high].iter().map(|s| s.len).sum();
        let time: f64 = since[low..high].iter().sum();
        if time > 0.0 {
            let factor = bytes as f64 / all as f64 / time;
            since[low..high].iter_mut().for_each(|s| *s *= factor);
        }
    }
}

impl Stay {
    /// Makes an extent resident; false if it does not fit.
    fn keep(&mut self, index: usize, len: u64) -> bool {
        if self.resident[index] {
            return true;
        }
        if len > self.left {
            return false;
        }
        self.resident[index] = true;
        self.left -= len;
        true
    }
}
