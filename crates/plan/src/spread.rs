//! Which extents stay so that the rest comes evenly. Knows when a lap uses what
//! and how many bytes may stay; does not know windows or rates.

use crate::schedule::Schedule;

/// How often the density of the stream is halved in on.
const HALVINGS: u32 = 14;

/// A choice in the making: which extents stay, and what is left for more.
#[derive(Clone, Debug)]
pub(crate) struct Stay {
    /// One value an extent.
    pub resident: Vec<bool>,
    /// Bytes that may still become resident.
    pub left: u64,
}

/// The lap as the spread sees it.
pub(crate) struct Uses<'a> {
    schedule: &'a Schedule,
    /// How often each extent is read.
    reads: Vec<u32>,
    /// Share of the lap's compute time between the step before (cyclic) and
    /// each step; sums to 1.
    since: Vec<f64>,
}

impl<'a> Uses<'a> {
    /// `times` are the compute times of the runs, which sum to 1.
    pub fn new(schedule: &'a Schedule, times: &[f64]) -> Self {
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
        Self {
            schedule,
            reads: schedule.reads(),
            since: since.collect(),
        }
    }

    /// Adds extents to those that stay, for `stay.left` bytes at most: first
    /// what is read several times a lap, for each byte of it saves several;
    /// then so much of everything that the rest is spread evenly over the
    /// compute time; then what still fits. `ahead` is how many bytes can have
    /// been read before they are used.
    pub fn spread(&self, stay: &mut Stay, ahead: u64) {
        self.keep_repeated(stay);
        let all = self.streamed(&stay.resident) as f64;
        // The stream as thin as possible: everything streamed is certainly
        // possible, and thinner than the memory allows certainly is not.
        let (mut thin, mut thick) = ((all - stay.left as f64).max(0.0), 4.0 * all);
        let mut best = stay.clone();
        for _ in 0..HALVINGS {
            let density = (thin + thick) / 2.0;
            match self.diffused(stay, density, ahead as f64) {
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

    /// Adds to those that stay what still fits, the most saved first.
    pub fn fill(&self, stay: &mut Stay) {
        let steps = self.schedule.steps().iter();
        let mut rest: Vec<_> = steps.filter(|s| !stay.resident[s.extent.index()]).collect();
        rest.sort_by_key(|s| std::cmp::Reverse((self.reads[s.extent.index()], s.len)));
        for step in rest {
            stay.keep(step.extent.index(), step.len);
        }
    }

    fn keep_repeated(&self, stay: &mut Stay) {
        let repeated = |s: &&crate::Step| self.reads[s.extent.index()] > 1;
        let mut steps: Vec<_> = self.schedule.steps().iter().filter(repeated).collect();
        steps.sort_by_key(|s| std::cmp::Reverse((self.reads[s.extent.index()], s.len)));
        for step in steps {
            stay.keep(step.extent.index(), step.len);
        }
    }

    fn streamed(&self, resident: &[bool]) -> u64 {
        let steps = self.schedule.steps().iter();
        let moving = steps.filter(|s| !resident[s.extent.index()]);
        moving.map(|s| s.len).sum()
    }

    /// Error diffusion: streams `density` bytes a lap, evenly over the compute
    /// time, as whole extents: each as soon as at least half of it is due.
    /// While a run computes for long, no more than `ahead` bytes can become
    /// due, for no more can have been read when it ends; making up for it all
    /// at once would be a stall. `None` if more would stay than may.
    fn diffused(&self, from: &Stay, density: f64, ahead: f64) -> Option<Stay> {
        let mut due = 0.0;
        let mut streams = vec![false; self.schedule.steps().len()];
        // What the end of a lap leaves over belongs to the start of the next.
        for _ in 0..2 {
            for (i, step) in self.schedule.steps().iter().enumerate() {
                due = (due + density * self.since[i]).min(ahead);
                let index = step.extent.index();
                if from.resident[index] {
                    continue;
                }
                let len = step.len as f64;
                streams[i] = self.reads[index] > 1 || due >= len / 2.0;
                if streams[i] {
                    due -= len;
                }
            }
        }
        let mut stay = from.clone();
        for (step, streams) in self.schedule.steps().iter().zip(streams) {
            let index = step.extent.index();
            if !streams && !stay.resident[index] && !stay.keep(index, step.len) {
                return None;
            }
        }
        Some(stay)
    }
}

impl Stay {
    /// Lets an extent stay if it does not yet and fits; false if it does not.
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
