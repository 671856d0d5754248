//! When each extent of a lap is leased and released. Knows the order of runs;
//! does not know which extents stay, nor how long anything takes.

use crate::types::{ALIGN, ExtentId, Plan};

/// A good value for `near_bytes` of [`Schedule::new`].
pub const NEAR_BYTES: u64 = 8 << 20;

/// One stay of an extent in the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Which extent.
    pub extent: ExtentId,
    /// Its length in bytes.
    pub len: u64,
    /// It is leased before this run starts.
    pub first_run: u32,
    /// It is released after this run has ended; at least `first_run`.
    pub last_run: u32,
}

/// The steps of one lap. Every step ends in the lap that it starts in, so at
/// the start of a lap nothing is leased.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    steps: Vec<Step>,
    /// Indices of `steps`, ordered by `last_run`.
    by_last: Vec<u32>,
    runs: u32,
    extents: u32,
}

impl Schedule {
    /// The schedule of `plan`. Two uses of an extent are one step if what the
    /// runs between them need is at most `near_bytes`, or at most the extent's
    /// own length; otherwise the extent is read twice. Holding it would take
    /// the bytes between out of the window, reading it again costs its length.
    ///
    /// # Panics
    /// If a run needs an extent that the plan does not have, or an extent's
    /// length is not a positive multiple of [`ALIGN`].
    pub fn new(plan: &Plan, near_bytes: u64) -> Self {
        let aligned = |len: u64| len > 0 && len.is_multiple_of(ALIGN);
        assert!(
            plan.extents.iter().all(|e| aligned(e.len)),
            "an extent's length must be a positive multiple of {ALIGN}"
        );
        let mut steps: Vec<Step> = Vec::new();
        let mut latest: Vec<Option<usize>> = vec![None; plan.extents.len()];
        // Bytes needed by the runs before each run.
        let mut before: Vec<u64> = vec![0];
        for (run, r) in plan.runs.iter().enumerate() {
            let mut bytes = before[run];
            for &extent in &r.needs {
                let len = plan.extents[extent.index()].len;
                bytes += len;
                if let Some(index) = latest[extent.index()] {
                    let step = &mut steps[index];
                    let last = step.last_run as usize;
                    let between = before[run].saturating_sub(before[last + 1]);
                    if last == run || between <= near_bytes.max(len) {
                        step.last_run = run as u32;
                        continue;
                    }
                }
                latest[extent.index()] = Some(steps.len());
                steps.push(Step {
                    extent,
                    len,
                    first_run: run as u32,
                    last_run: run as u32,
                });
            }
            before.push(bytes);
        }
        let mut by_last: Vec<u32> = (0..steps.len() as u32).collect();
        by_last.sort_by_key(|&i| steps[i as usize].last_run);
        Self {
            steps,
            by_last,
            runs: plan.runs.len() as u32,
            extents: plan.extents.len() as u32,
        }
    }

    /// All steps, ordered by `first_run`, within a run by need: the order in
    /// which they are read.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// How many runs a lap has.
    pub fn runs(&self) -> usize {
        self.runs as usize
    }

    /// How many extents the plan has, used in the lap or not.
    pub fn extents(&self) -> usize {
        self.extents as usize
    }

    /// The steps to lease before `run`.
    pub fn leased_before(&self, run: u32) -> &[Step] {
        let low = self.steps.partition_point(|s| s.first_run < run);
        let high = self.steps.partition_point(|s| s.first_run <= run);
        &self.steps[low..high]
    }

    /// The steps to release after `run`.
    pub fn released_after(&self, run: u32) -> impl Iterator<Item = &Step> {
        let last = |&i: &u32| self.steps[i as usize].last_run;
        let low = self.by_last.partition_point(|i| last(i) < run);
        let high = self.by_last.partition_point(|i| last(i) <= run);
        self.by_last[low..high]
            .iter()
            .map(|&i| &self.steps[i as usize])
    }

    /// How often a lap reads each extent if none stays; one value an extent.
    pub fn reads(&self) -> Vec<u32> {
        let mut reads = vec![0; self.extents()];
        for step in &self.steps {
            reads[step.extent.index()] += 1;
        }
        reads
    }

    /// The bytes that a lap reads; `streamed` has one value an extent.
    pub fn streamed_bytes(&self, streamed: &[bool]) -> u64 {
        let moving = self.steps.iter().filter(|s| streamed[s.extent.index()]);
        moving.map(|s| s.len).sum()
    }
}
