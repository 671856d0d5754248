//! Steps and the smallest window: against a simulated ring, exhaustive over small laps
//! and all phases.

mod common;

use common::{Random, inverse, plan, random_plan, subset};
use delayline_plan::{ALIGN, Plan, Schedule, Step, window_min};

fn steps(plan: &Plan, near_bytes: u64) -> Vec<(u32, u32, u32)> {
    let schedule = Schedule::new(plan, near_bytes);
    let steps = schedule.steps().iter();
    steps
        .map(|s| (s.extent.0, s.first_run, s.last_run))
        .collect()
}

#[test]
fn near_uses_are_one_step_and_far_ones_two() {
    // Extent 0 is used by the first and the last run, with 3 blocks between.
    let lap = |len| {
        let runs = [vec![0, 1], vec![2], vec![3], vec![0]].map(|needs| (needs, 1.0));
        plan(&[len, 1, 1, 2], &runs)
    };
    let apart = vec![(0, 0, 0), (1, 0, 0), (2, 1, 1), (3, 2, 2), (0, 3, 3)];
    let joined = vec![(0, 0, 3), (1, 0, 0), (2, 1, 1), (3, 2, 2)];
    assert_eq!(steps(&lap(2), 0), apart);
    assert_eq!(steps(&lap(2), 3 * ALIGN - 1), apart);
    assert_eq!(steps(&lap(2), 3 * ALIGN), joined);
    assert_eq!(steps(&lap(3), 0), joined, "not farther than its own length");
}

#[test]
fn a_schedule_tells_what_to_lease_and_release() {
    for seed in 0..100 {
        let plan = random_plan(&mut Random(seed), 9, 5);
        let schedule = Schedule::new(&plan, 3 * ALIGN);
        assert!(schedule.steps().is_sorted_by_key(|s| s.first_run));
        let mut leased: Vec<Step> = Vec::new();
        for (run, r) in plan.runs.iter().enumerate() {
            let run = run as u32;
            leased.extend(schedule.leased_before(run));
            for used in &r.uses {
                let times = leased.iter().filter(|s| s.extent == used.extent).count();
                assert_eq!(times, 1, "seed {seed} run {run}");
            }
            for step in schedule.released_after(run) {
                assert!(r.needs(step.extent), "seed {seed} run {run}");
                leased.retain(|s| s != step);
            }
        }
        assert!(leased.is_empty(), "seed {seed}");
        let reads: u32 = schedule.reads().iter().sum();
        assert_eq!(reads as usize, schedule.steps().len());
    }
}

/// Whether a ring of `window` blocks completes two laps if it starts at `phase` with
/// the step of index `first`.
fn passes(steps: &[Step], runs: u32, window: u64, phase: u64, first: usize) -> bool {
    let mut end = phase;
    // Start, and the absolute run after which it is released.
    let mut placed: Vec<(u64, u32)> = Vec::new();
    for lap in 0..2 {
        for run in 0..runs {
            let now = lap * runs + run;
            let skipped = if lap == 0 { first } else { 0 };
            let due = steps.iter().skip(skipped).filter(|s| s.first_run == run);
            for step in due {
                let len = step.len / ALIGN;
                if len > window {
                    return false;
                }
                if end / window != (end + len - 1) / window {
                    end = end.next_multiple_of(window);
                }
                placed.push((end, lap * runs + step.last_run));
                end += len;
                let oldest = placed.iter().find(|(_, until)| *until >= now);
                if oldest.is_some_and(|(start, _)| end - start > window) {
                    return false;
                }
            }
        }
    }
    true
}

/// Checks that `window_min` works from all starts, as do larger windows, and
/// that no smaller one does.
fn check(schedule: &Schedule, streamed: &[bool]) {
    let all = schedule.steps().iter();
    let steps: Vec<Step> = all
        .filter(|s| streamed[s.extent.index()])
        .copied()
        .collect();
    let least = window_min(schedule, streamed) / ALIGN;
    let runs = schedule.runs() as u32;
    let every_start = |w: u64| {
        let mut starts = (0..w).flat_map(|phase| (0..steps.len()).map(move |first| (phase, first)));
        starts.all(|(phase, first)| passes(&steps, runs, w, phase, first))
    };
    if steps.is_empty() {
        assert_eq!(least, 0);
        return;
    }
    for window in least..least + 3 {
        assert!(every_start(window), "{window} blocks: {steps:?}");
    }
    for window in least.saturating_sub(2).max(1)..least {
        assert!(!every_start(window), "{window} blocks: {steps:?}");
    }
    // A window that works from one phase is smaller by less than the largest step.
    let largest = steps.iter().map(|s| s.len / ALIGN).max().unwrap_or(0);
    let some_phase = |w: u64| (0..w).any(|phase| passes(&steps, runs, w, phase, 0));
    let lucky = (largest..=least).find(|&w| some_phase(w)).unwrap();
    assert!(least < lucky + largest, "{least} and {lucky}: {steps:?}");
}

#[test]
fn the_smallest_window_is_exact_for_all_small_laps() {
    // Four extents of 1 to 3 blocks, each starting a run or not, each leased
    // for 1 to 3 runs.
    for case in 0..81 * 8 * 81_u32 {
        let digit = |i: u32| case / 8 / 3_u32.pow(i) % 3;
        let mut runs: Vec<(Vec<u32>, f64)> = vec![(Vec::new(), 1.0); 6];
        let mut run = 0;
        for extent in 0..4_u32 {
            if extent > 0 && case >> (extent - 1) & 1 == 1 {
                run += 1;
            }
            let last = run + digit(4 + extent) as usize;
            runs[run].0.push(extent);
            if last > run {
                runs[last].0.push(extent);
            }
        }
        let blocks: Vec<u64> = (0..4).map(|i| 1 + u64::from(digit(i))).collect();
        // New extents of a run come before those that it uses again.
        for (needs, _) in &mut runs {
            needs.sort_unstable();
        }
        let schedule = Schedule::new(&plan(&blocks, &runs), u64::MAX);
        assert_eq!(schedule.steps().len(), 4);
        check(&schedule, &[true; 4]);
    }
}

#[test]
fn the_smallest_window_is_exact_for_random_laps_and_subsets() {
    for seed in 0..400 {
        let mut random = Random(seed);
        let plan = random_plan(&mut random, 8, 6);
        let schedule = Schedule::new(&plan, random.between(0, 12) * ALIGN);
        let resident = subset(random.any() as u32, 8);
        check(&schedule, &inverse(&resident));
    }
}
