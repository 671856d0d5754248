//! When each extent of a lap is leased and released. Knows the order of runs;
//! does not know which extents stay or how long anything takes.

use crate::transfer::Transfer;
use crate::types::{ALIGN, ExtentId, Mode, Plan};
use std::ops::Range;

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
    /// What the runs between do with it, taken together.
    pub mode: Mode,
    /// Whether its bytes are written back to the medium when it is released: they
    /// were changed, and either they are read again, in this lap or the next, or no
    /// run reads them and they are a result.
    pub saves: bool,
}

/// The steps of one lap. Every step ends in the lap that it starts in, so at
/// the start of a lap nothing is leased.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    steps: Vec<Step>,
    /// Indices of `steps`, ordered by `last_run`.
    by_last: Vec<u32>,
    /// By run: index of its first step in `steps`; one more for the end.
    leased: Vec<u32>,
    /// By run: index of its first step in `by_last`; one more for the end.
    released: Vec<u32>,
    runs: u32,
    /// By extent: whether its bytes are not needed between laps.
    scratch: Vec<bool>,
}

impl Schedule {
    /// The schedule of `plan`. Two uses of an extent are one step if the runs
    /// between them need at most `near_bytes`, or at most the extent's own length;
    /// otherwise the extent is read twice. Holding it makes the window larger by the
    /// bytes between the uses; reading it again costs its length.
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
        let mut steps = merged(plan, near_bytes);
        let scratch = scratch(plan);
        settle(&mut steps, &scratch);
        let mut by_last: Vec<u32> = (0..steps.len() as u32).collect();
        by_last.sort_by_key(|&i| steps[i as usize].last_run);
        let runs = plan.runs.len() as u32;
        Self {
            leased: starts(steps.iter().map(|s| s.first_run), runs),
            released: starts(steps.iter().map(|s| s.last_run), runs),
            steps,
            by_last,
            runs,
            scratch,
        }
    }

    /// All steps in the order in which they are read: by `first_run`, and within a
    /// run in the order of its uses.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// How many runs a lap has.
    pub fn runs(&self) -> usize {
        self.runs as usize
    }

    /// How many extents the plan has, used in the lap or not.
    pub fn extents(&self) -> usize {
        self.scratch.len()
    }

    /// Whether an extent's bytes are not needed between laps: each lap overwrites it
    /// before reading it, as with what is pushed on a stack.
    pub fn is_scratch(&self, extent: ExtentId) -> bool {
        self.scratch[extent.index()]
    }

    /// The steps to lease before `run`.
    pub fn leased_before(&self, run: u32) -> &[Step] {
        &self.steps[of_run(&self.leased, run)]
    }

    /// The steps to release after `run`.
    pub fn released_after(&self, run: u32) -> impl Iterator<Item = &Step> {
        self.by_last[of_run(&self.released, run)]
            .iter()
            .map(|&i| &self.steps[i as usize])
    }

    /// How often a lap reads each extent if none stays; one value per extent.
    pub fn reads(&self) -> Vec<u32> {
        let mut reads = vec![0; self.extents()];
        for step in self.steps.iter().filter(|s| s.mode.reads()) {
            reads[step.extent.index()] += 1;
        }
        reads
    }

    /// How many reads and writes a lap saves for each extent if it stays; one value
    /// per extent. A changed extent is written once a lap even if it stays, so that
    /// nothing is lost when the power fails; scratch is not.
    pub fn saved_by_staying(&self) -> Vec<u32> {
        let mut saved = self.reads();
        let mut written = self.scratch.clone();
        for step in self.steps.iter().filter(|s| s.saves) {
            let index = step.extent.index();
            // Unless the extent is scratch, staying does not save the first write.
            saved[index] += u32::from(std::mem::replace(&mut written[index], true));
        }
        saved
    }

    /// The bytes that a lap reads; `streamed` has one value per extent.
    pub fn streamed_bytes(&self, streamed: &[bool]) -> u64 {
        let moving = self.steps.iter().filter(|s| streamed[s.extent.index()]);
        moving.filter(|s| s.mode.reads()).map(|s| s.len).sum()
    }

    /// The bytes that these runs of a lap read and write back; `resident` has one
    /// value per extent. A resident extent that changes is written once a lap, after
    /// its last change; scratch that is resident is not written.
    pub fn transfer(&self, resident: &[bool], runs: Range<u32>) -> Transfer {
        let mut sum = Transfer::default();
        let mut written = vec![false; self.extents()];
        for step in self.steps.iter().rev() {
            let index = step.extent.index();
            if step.mode.reads() && !resident[index] && runs.contains(&step.first_run) {
                sum.read += step.len;
            }
            let again = resident[index] && (written[index] || self.scratch[index]);
            if step.saves && !again && runs.contains(&step.last_run) {
                sum.written += step.len;
            }
            written[index] |= step.saves;
        }
        sum
    }
}

/// Prefix sums over runs: index of the first item of each run, then the end. `of` is
/// the run of each item.
fn starts(of: impl Iterator<Item = u32>, runs: u32) -> Vec<u32> {
    let mut starts = vec![0; runs as usize + 1];
    for run in of {
        starts[run as usize + 1] += 1;
    }
    for run in 1..starts.len() {
        starts[run] += starts[run - 1];
    }
    starts
}

/// The indices of a run's items; empty if there is no such run.
fn of_run(starts: &[u32], run: u32) -> Range<usize> {
    match starts.get(run as usize..) {
        Some([start, end, ..]) => *start as usize..*end as usize,
        _ => 0..0,
    }
}

/// The steps of `plan`; `saves` is not set yet.
fn merged(plan: &Plan, near_bytes: u64) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut latest: Vec<Option<usize>> = vec![None; plan.extents.len()];
    // Bytes needed by the runs before each run.
    let mut before: Vec<u64> = vec![0];
    for (run, r) in plan.runs.iter().enumerate() {
        let mut bytes = before[run];
        for used in &r.uses {
            let len = plan.extents[used.extent.index()].len;
            bytes += len;
            if let Some(index) = latest[used.extent.index()] {
                let step = &mut steps[index];
                let last = step.last_run as usize;
                let between = before[run].saturating_sub(before[last + 1]);
                if last == run || between <= near_bytes.max(len) {
                    step.last_run = run as u32;
                    step.mode = step.mode.then(used.mode);
                    continue;
                }
            }
            latest[used.extent.index()] = Some(steps.len());
            steps.push(Step {
                extent: used.extent,
                len,
                first_run: run as u32,
                last_run: run as u32,
                mode: used.mode,
                saves: false,
            });
        }
        before.push(bytes);
    }
    steps
}

/// By extent: whether a lap overwrites it first and reads it later.
fn scratch(plan: &Plan) -> Vec<bool> {
    let mut first: Vec<Option<Mode>> = vec![None; plan.extents.len()];
    let mut read = vec![false; plan.extents.len()];
    for used in plan.runs.iter().flat_map(|r| &r.uses) {
        first[used.extent.index()].get_or_insert(used.mode);
        read[used.extent.index()] |= used.mode != Mode::Write;
    }
    let overwritten = first.into_iter().map(|mode| mode == Some(Mode::Write));
    overwritten
        .zip(read)
        .map(|(over, read)| over && read)
        .collect()
}

/// Sets `saves` of each step: it changes its extent, and the next step of the extent
/// reads it. After the last step of a lap the bytes are needed unless the extent is
/// scratch.
fn settle(steps: &mut [Step], scratch: &[bool]) {
    let mut is_read_next: Vec<bool> = scratch.iter().map(|scratch| !scratch).collect();
    for step in steps.iter_mut().rev() {
        let next = &mut is_read_next[step.extent.index()];
        step.saves = step.mode.writes() && *next;
        *next = step.mode.reads();
    }
}
