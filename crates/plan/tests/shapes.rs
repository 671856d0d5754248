//! Constructors of plans, and what their steps read and save: against a memory
//! that loses what is not leased, over all small plans.

mod common;

use common::{Random, extents, random_cases, subset};
use delayline_plan::{
    ALIGN, ExtentId, Frame, Mode, Plan, RoundTrip, Run, Schedule, Step, Transfer, Use,
};

fn ids<const N: usize>(of: [u32; N]) -> [ExtentId; N] {
    of.map(ExtentId)
}

fn order(plan: &Plan) -> Vec<Vec<(u32, Mode)>> {
    let uses = |run: &Run| run.uses.iter().map(|u| (u.extent.0, u.mode)).collect();
    plan.runs.iter().map(uses).collect()
}

#[test]
fn there_and_back_is_a_palindrome_with_one_turn() {
    let layer = |weights, state| RoundTrip {
        there: Run::reading(ids([weights]), 1.0),
        back: Run {
            uses: ids([weights, state]).map(Use::modify).to_vec(),
            compute: 2.0,
        },
    };
    let plan = Plan::there_and_back(extents(&[1; 4]), vec![layer(0, 1), layer(2, 3)]);
    use Mode::{Modify, Read};
    let expect = [
        vec![(0, Read)],
        vec![(2, Read)],
        vec![(2, Modify), (3, Modify)],
        vec![(0, Modify), (1, Modify)],
    ];
    assert_eq!(order(&plan), expect);
    assert_eq!(plan.phases(), [0..2, 2..4]);
    let schedule = Schedule::new(&plan, 0);
    // The last layer's weights are still in memory at the turn.
    assert_eq!(schedule.reads(), [2, 1, 1, 1]);
    assert_eq!(schedule.saved_by_staying(), [2, 1, 1, 1]);
    let streamed = schedule.transfer(&[false; 4], 0..4);
    assert_eq!((streamed.read, streamed.written), (5 * ALIGN, 4 * ALIGN));
    let stays = schedule.transfer(&[true; 4], 0..4);
    assert_eq!((stays.read, stays.written), (0, 4 * ALIGN));
}

#[test]
fn a_stack_is_written_forward_and_read_in_reverse() {
    let frame = |extents: &[u32]| Frame {
        extents: extents.iter().copied().map(ExtentId).collect(),
        there: 1.0,
        back: 2.0,
    };
    let frames = vec![frame(&[0, 1]), frame(&[]), frame(&[2])];
    let plan = Plan::stack(extents(&[2; 3]), frames);
    use Mode::{Read, Write};
    let expect = [
        vec![(0, Write), (1, Write)],
        vec![],
        vec![(2, Write)],
        vec![(2, Read)],
        vec![],
        vec![(1, Read), (0, Read)],
    ];
    assert_eq!(order(&plan), expect);
    assert_eq!(plan.phases(), [0..3, 3..6]);
    let schedule = Schedule::new(&plan, 0);
    assert!((0..3).all(|i| schedule.is_scratch(ExtentId(i))));
    // The last frame is popped at once and moves nothing.
    let moved = Transfer {
        read: 4 * ALIGN,
        written: 4 * ALIGN,
    };
    assert_eq!(schedule.transfer(&[false; 3], 0..6), moved);
    assert_eq!(schedule.transfer(&[false; 3], 0..3).read, 0);
    assert_eq!(schedule.transfer(&[false; 3], 3..6).written, 0);
    assert_eq!(schedule.saved_by_staying(), [2, 2, 0]);
}

#[test]
fn a_trace_reads_each_extent_of_a_batch_once() {
    let batches = [vec![0, 1, 0], vec![], vec![1, 1]].map(|b| b.into_iter().map(ExtentId));
    let batches: Vec<Vec<ExtentId>> = batches.into_iter().map(Iterator::collect).collect();
    let plan = Plan::trace(extents(&[1; 2]), &batches);
    use Mode::Read;
    let expect = [vec![(0, Read), (1, Read)], vec![], vec![(1, Read)]];
    assert_eq!(order(&plan), expect);
    assert_eq!(plan.phases().first(), Some(&(0..3)));
    assert_eq!(Plan::default().phases().first(), Some(&(0..0)));
}

/// A machine whose memory loses what is not leased. Contents are numbers; a use
/// that changes its extent stores a new one.
struct Machine {
    medium: Vec<u64>,
    /// Contents of leased extents.
    memory: Vec<Option<u64>>,
    /// Contents of each extent if nothing were ever lost.
    truth: Vec<u64>,
    moved: Transfer,
    changes: u64,
}

impl Machine {
    fn new(extents: usize) -> Self {
        Self {
            medium: vec![0; extents],
            memory: vec![None; extents],
            truth: vec![0; extents],
            moved: Transfer::default(),
            changes: 0,
        }
    }

    /// Runs one lap with `steps`; false if a use reads wrong contents or the medium
    /// misses a result at the end.
    fn lap(&mut self, plan: &Plan, schedule: &Schedule, steps: &[Step]) -> bool {
        for (run, r) in plan.runs.iter().enumerate() {
            for step in steps.iter().filter(|s| s.first_run == run as u32) {
                let index = step.extent.index();
                self.memory[index] = step.mode.reads().then_some(self.medium[index]);
                self.moved.read += if step.mode.reads() { step.len } else { 0 };
            }
            for used in &r.uses {
                let index = used.extent.index();
                if used.mode.reads() && self.memory[index] != Some(self.truth[index]) {
                    return false;
                }
                if used.mode.writes() {
                    self.changes += 1;
                    self.truth[index] = self.changes;
                    self.memory[index] = Some(self.changes);
                }
            }
            for step in steps.iter().filter(|s| s.last_run == run as u32) {
                let index = step.extent.index();
                if step.saves {
                    self.medium[index] = self.memory[index].unwrap();
                    self.moved.written += step.len;
                }
                self.memory[index] = None;
            }
        }
        let extents = 0..plan.extents.len();
        let mut kept = extents.filter(|&i| !schedule.is_scratch(ExtentId(i as u32)));
        kept.all(|i| self.medium[i] == self.truth[i])
    }
}

/// Whether two laps with these steps succeed.
fn is_right(plan: &Plan, schedule: &Schedule, steps: &[Step]) -> bool {
    let mut machine = Machine::new(plan.extents.len());
    let mut lap = || machine.lap(plan, schedule, steps);
    lap() && lap()
}

/// Steps read what is needed; every step that saves is necessary, and none is missing.
fn check_steps(plan: &Plan, near_bytes: u64) {
    let schedule = Schedule::new(plan, near_bytes);
    let steps = schedule.steps();
    assert!(is_right(plan, &schedule, steps), "{plan:?}");
    for at in 0..steps.len() {
        let mut fewer = steps.to_vec();
        if std::mem::replace(&mut fewer[at].saves, false) {
            assert!(!is_right(plan, &schedule, &fewer), "step {at}: {plan:?}");
        }
    }
    let mut machine = Machine::new(plan.extents.len());
    machine.lap(plan, &schedule, steps);
    let runs = plan.runs.len() as u32;
    let none = vec![false; plan.extents.len()];
    assert_eq!(schedule.transfer(&none, 0..runs), machine.moved);
    check_stays(plan, &schedule, machine.moved);
}

/// For all subsets: what stays is never read, and is written once a lap if it changes
/// and is not scratch.
fn check_stays(plan: &Plan, schedule: &Schedule, all: Transfer) {
    let (runs, count) = (plan.runs.len() as u32, plan.extents.len());
    let worth = schedule.saved_by_staying();
    for mask in 0..1 << count {
        let resident = subset(mask, count);
        let moved = schedule.transfer(&resident, 0..runs);
        let halves = schedule.transfer(&resident, 0..runs / 2)
            + schedule.transfer(&resident, runs / 2..runs);
        assert_eq!(moved, halves);
        let mut expect = all.bytes();
        for (i, extent) in plan
            .extents
            .iter()
            .enumerate()
            .filter(|(i, _)| resident[*i])
        {
            expect -= u64::from(worth[i]) * extent.len;
            let id = ExtentId(i as u32);
            let changes = |r: &Run| r.uses.iter().any(|u| u.extent == id && u.mode.writes());
            let is_kept = plan.runs.iter().any(changes) && !schedule.is_scratch(id);
            let alone: Vec<bool> = (0..count).map(|other| other == i).collect();
            let rest = schedule.transfer(&alone, 0..runs);
            let others = schedule
                .steps()
                .iter()
                .filter(|s| s.extent != id && s.saves);
            let others: u64 = others.map(|s| s.len).sum();
            assert_eq!(rest.written - others, u64::from(is_kept) * extent.len);
        }
        assert_eq!(moved.bytes(), expect, "{resident:?}: {plan:?}");
    }
}

/// A run that uses extent `i` as base-4 digit `i` says: not at all, or in one of three
/// modes.
fn run_of(digits: u32, extents: u32) -> Run {
    let mode = |i: u32| match digits / 4_u32.pow(i) % 4 {
        0 => None,
        1 => Some(Use::read(ExtentId(i))),
        2 => Some(Use::write(ExtentId(i))),
        _ => Some(Use::modify(ExtentId(i))),
    };
    Run {
        uses: (0..extents).filter_map(mode).collect(),
        compute: 1.0,
    }
}

#[test]
fn all_small_laps_read_and_save_what_they_need_and_no_more() {
    // Up to five runs over one extent and three over two, each used in any mode or
    // not; first with all uses of an extent as one step, then with each use apart.
    for (count, runs) in [(1, 5), (2, 3)] {
        let uses = 4_u32.pow(count);
        for case in 0..uses.pow(runs) {
            let run = |i| run_of(case / uses.pow(i) % uses, count);
            let mut plan = Plan::cycle(extents(&[1, 2][..count as usize]), Vec::new());
            for i in 0..runs {
                plan.runs.push(run(i));
                check_steps(&plan, u64::MAX);
            }
            // A run with nine blocks between any two uses keeps them apart.
            plan.extents.extend_from_slice(&extents(&[9]));
            let far = || Run::reading([ExtentId(count)], 1.0);
            for i in (1..runs).rev() {
                plan.runs.insert(i as usize, far());
            }
            check_steps(&plan, 0);
        }
    }
}

#[test]
fn random_laps_read_and_save_what_they_need_and_no_more() {
    random_cases(300, |random: &mut Random| {
        let blocks: Vec<u64> = (0..5).map(|_| random.between(1, 4)).collect();
        let runs = (0..random.between(1, 9)).map(|_| run_of(random.any() as u32, 5));
        let plan = Plan::cycle(extents(&blocks), runs.collect());
        check_steps(&plan, random.between(0, 8) * ALIGN);
    });
}
