//! Predicted laps: computed by hand, against a simulation in whole blocks and ticks,
//! and for the shape of an 8B model.

mod common;

use common::{Random, bytes, inverse, plan, random_plan, subset};
use delayline_plan::{
    ALIGN, Bound, MemoryShare, NEAR_BYTES, Plan, Residency, Schedule, Side, choose, first_lap_s,
    lap_bound_s, lap_time_s, window_min,
};

fn residency(plan: &Plan, schedule: &Schedule, resident: Vec<bool>, window: u64) -> Residency {
    Residency {
        resident_bytes: bytes(plan, &resident),
        streamed_bytes: schedule.streamed_bytes(&inverse(&resident)),
        window,
        resident,
    }
}

#[test]
fn the_bound_is_the_slower_side() {
    assert_eq!(lap_bound_s(2.0, 300, 100.0), 3.0);
    assert_eq!(Bound::new(2.0, 300, 100.0).side(), Side::Stream);
    assert_eq!(lap_bound_s(4.0, 300, 100.0), 4.0);
    assert_eq!(Bound::new(4.0, 300, 100.0).side(), Side::Compute);
    assert_eq!(lap_bound_s(4.0, 0, 0.0), 4.0);
}

/// Extents of one block, one per run; a block takes a second to read and a second to
/// compute. The first `resident` extents stay; `window` is in blocks. `expect`: first
/// and steady lap in seconds.
fn check_line(extents: u32, resident: u32, window: u64, expect: (f64, f64)) {
    let runs: Vec<(Vec<u32>, f64)> = (0..extents).map(|i| (vec![i], 1.0)).collect();
    let plan = plan(&vec![1; extents as usize], &runs);
    let schedule = Schedule::new(&plan, 0);
    let stays = (0..extents).map(|i| i < resident).collect();
    let residency = residency(&plan, &schedule, stays, window * ALIGN);
    let (compute_s, rate) = (f64::from(extents), ALIGN as f64);
    let first_s = first_lap_s(&plan, &schedule, &residency, compute_s, rate);
    let steady_s = lap_time_s(&plan, &schedule, &residency, compute_s, rate);
    let close = |a: f64, b: f64| a == b || (a - b).abs() < 1e-9;
    assert!(close(first_s, expect.0), "first {first_s}");
    assert!(close(steady_s, expect.1), "steady {steady_s}");
}

#[test]
fn laps_by_hand() {
    // Everything stays: the first lap reads, one ahead of compute.
    check_line(4, 4, 0, (5.0, 4.0));
    // A window of one: read, compute, read, compute.
    check_line(4, 0, 1, (8.0, 8.0));
    // A window of two: both at the same time.
    check_line(4, 0, 2, (5.0, 4.0));
    // Two stay; the window of one fills while those are computed, for the third.
    check_line(4, 2, 1, (6.0, 5.0));
    // No window to pass through.
    check_line(4, 3, 0, (f64::INFINITY, f64::INFINITY));
}

#[test]
fn the_first_lap_reads_resident_extents_while_the_ring_is_full() {
    // One block streams through a window of one in each of runs 0 and 1, four
    // blocks stay for run 2. While run 0 computes (3 s), three of them arrive.
    let runs = [(vec![0], 3.0), (vec![1], 1.0), (vec![2], 1.0)];
    let plan = plan(&[1, 1, 4], &runs);
    let schedule = Schedule::new(&plan, 0);
    let residency = residency(&plan, &schedule, vec![false, false, true], ALIGN);
    // 0..1 read, 1..4 compute, 4..5 read, 5..6 compute (the fourth block), 6..7.
    let first_s = first_lap_s(&plan, &schedule, &residency, 5.0, ALIGN as f64);
    assert!((first_s - 7.0).abs() < 1e-9, "{first_s}");
}

/// Average lap in ticks of a machine that reads one block a tick and computes in whole
/// ticks, over `laps` laps after as many others. `None` if it deadlocks.
fn ticks(plan: &Plan, schedule: &Schedule, residency: &Residency, laps: usize) -> Option<f64> {
    let window = residency.window / ALIGN;
    let all = schedule.steps().iter();
    let steps: Vec<_> = all
        .filter(|s| !residency.resident[s.extent.index()])
        .collect();
    // Start of each step over all laps.
    let mut starts: Vec<u64> = Vec::new();
    let mut end = 0_u64;
    for i in 0..(2 * laps + 1) * steps.len() {
        let len = steps[i % steps.len()].len / ALIGN;
        if end / window != (end + len - 1) / window {
            end = end.next_multiple_of(window);
        }
        starts.push(end);
        end += len;
    }
    let len = |i: usize| steps[i % steps.len()].len / ALIGN;
    let mut released = vec![false; starts.len()];
    let (mut tail, mut reading, mut read) = (0, 0, 0);
    let (mut tick, mut halfway) = (0, 0);
    for lap in 0..2 * laps {
        for (run, r) in plan.runs.iter().enumerate() {
            let run = run as u32;
            let needs = steps.iter().filter(|s| s.first_run <= run).count();
            let mut compute = r.compute as u64;
            let mut idle = 0;
            loop {
                let ready = reading >= lap * steps.len() + needs;
                if ready && compute == 0 {
                    break;
                }
                tick += 1;
                compute -= u64::from(ready);
                // Read one block, if it lies in the window.
                if reading < starts.len() && starts[reading] + read < starts[tail] + window {
                    read += 1;
                    if read == len(reading) {
                        (reading, read) = (reading + 1, 0);
                    }
                } else if !ready {
                    idle += 1;
                    if idle > 1 {
                        return None;
                    }
                }
            }
            for (i, step) in steps.iter().enumerate() {
                if step.last_run == run {
                    released[lap * steps.len() + i] = true;
                }
            }
            while released[tail] {
                tail += 1;
            }
        }
        if lap + 1 == laps {
            halfway = tick;
        }
    }
    Some((tick - halfway) as f64 / laps as f64)
}

#[test]
fn steady_laps_are_those_of_a_machine_of_blocks_and_ticks() {
    let laps = 300;
    let mut stuck = 0;
    for seed in 0..250 {
        let mut random = Random(seed);
        let mut plan = random_plan(&mut random, 6, 5);
        let slow = random.between(1, 4) as f64;
        for run in &mut plan.runs {
            run.compute *= slow;
        }
        let schedule = Schedule::new(&plan, random.between(0, 6) * ALIGN);
        // Two extents at least stream.
        let resident = subset(random.any() as u32 & 0b11_0110, 6);
        let least = window_min(&schedule, &inverse(&resident)) / ALIGN;
        let window = (least + random.between(0, 12)).saturating_sub(3).max(1);
        let residency = residency(&plan, &schedule, resident, window * ALIGN);
        let compute_s = plan.runs.iter().map(|r| r.compute).sum();
        let lap_s = lap_time_s(&plan, &schedule, &residency, compute_s, ALIGN as f64);
        let Some(expect_s) = ticks(&plan, &schedule, &residency, laps) else {
            assert!(window < least, "seed {seed}");
            assert_eq!(lap_s, f64::INFINITY, "seed {seed}");
            stuck += 1;
            continue;
        };
        let bound_s = lap_bound_s(compute_s, residency.streamed_bytes, ALIGN as f64);
        assert!(lap_s >= bound_s, "seed {seed}: {lap_s} {bound_s}");
        // The average of the ticks may be off by one lap.
        let off = (lap_s - expect_s).abs();
        let tolerance = (compute_s + 60.0) / laps as f64;
        assert!(off <= tolerance, "seed {seed}: {lap_s} and {expect_s}");
        let first_s = first_lap_s(&plan, &schedule, &residency, compute_s, ALIGN as f64);
        let all: u64 = residency.resident_bytes + residency.streamed_bytes;
        assert!(
            first_s >= lap_bound_s(compute_s, all, ALIGN as f64) - 1e-9,
            "seed {seed}"
        );
    }
    assert!(stuck > 5, "too few cases of a window too small: {stuck}");
}

/// The matrices of Llama 3.1 8B in Q4_0, each in a run with compute in proportion to
/// its bytes, and attention between them; with the Q6_K output head if `head`.
fn llama_8b(head: bool) -> Plan {
    let blocks_of = |rows: u64, columns: u64, bits: f64| {
        ((rows * columns) as f64 * bits / 8.0 / ALIGN as f64).ceil() as u64
    };
    let attention = [4096, 1024, 1024, 4096].map(|rows| blocks_of(rows, 4096, 4.5));
    let feed_forward = [blocks_of(14336, 4096, 4.5); 3];
    let (mut blocks, mut runs) = (Vec::new(), Vec::new());
    let mut matrix = |b: u64| {
        runs.push((vec![blocks.len() as u32], b as f64));
        blocks.push(b);
        if blocks.len() % 7 == 3 {
            runs.push((Vec::new(), 500.0));
        }
    };
    for _ in 0..32 {
        attention
            .into_iter()
            .chain(feed_forward)
            .for_each(&mut matrix);
    }
    if head {
        matrix(blocks_of(128_256, 4096, 6.5625));
    }
    plan(&blocks, &runs)
}

const BUDGETS: [f64; 5] = [1.1, 1.25, 1.5, 2.0, 4.0];
const SPEEDS: [f64; 9] = [0.125, 0.5, 0.8, 0.9, 1.0, 1.1, 1.25, 2.0, 8.0];

/// Calls `check(residency, speed, lap, bound)` for all budgets and speeds, with one
/// second of compute per lap.
fn for_each_lap(plan: &Plan, lookahead: u64, check: impl Fn(&Residency, f64, f64, f64)) {
    let schedule = Schedule::new(plan, NEAR_BYTES);
    let total: u64 = plan.extents.iter().map(|e| e.len).sum();
    for budget in BUDGETS {
        let available = (total as f64 / budget) as u64;
        let memory = MemoryShare {
            available,
            lookahead,
        };
        let chosen = choose(plan, &schedule, memory).unwrap();
        assert!(chosen.resident_bytes + chosen.window <= available);
        // All but the window and less than 3 MiB is used for resident extents.
        let best = total - available + chosen.window;
        assert!(chosen.streamed_bytes < best + (3 << 20), "{budget}");
        for speed in SPEEDS {
            let rate = speed * chosen.streamed_bytes as f64;
            let lap_s = lap_time_s(plan, &schedule, &chosen, 1.0, rate);
            let bound_s = lap_bound_s(1.0, chosen.streamed_bytes, rate);
            assert!(lap_s >= bound_s);
            check(&chosen, speed, lap_s, bound_s);
        }
    }
}

#[test]
fn the_laps_of_an_8b_model_are_within_1_percent_of_the_bound() {
    let plan = llama_8b(false);
    for_each_lap(&plan, 64 << 20, |chosen, speed, lap_s, bound_s| {
        let name = format!("{} streamed at {speed}", chosen.streamed_bytes);
        assert!(lap_s <= 1.01 * bound_s, "{name}: {lap_s} {bound_s}");
    });
    // With one extent of lookahead, 13 %.
    for_each_lap(&plan, 32 << 20, |chosen, speed, lap_s, bound_s| {
        let name = format!("{} streamed at {speed}", chosen.streamed_bytes);
        assert!(lap_s <= 1.13 * bound_s, "{name}: {lap_s} {bound_s}");
    });
}

#[test]
fn a_resident_head_costs_the_reading_that_the_window_cannot_take() {
    let plan = llama_8b(true);
    let times: f64 = plan.runs.iter().map(|r| r.compute).sum();
    let head_s = plan.runs.last().unwrap().compute / times;
    for_each_lap(&plan, 64 << 20, |chosen, speed, lap_s, bound_s| {
        assert!(chosen.resident.last().unwrap());
        let name = format!("{} streamed at {speed}", chosen.streamed_bytes);
        let rate = speed * chosen.streamed_bytes as f64;
        let idle_s = (head_s - chosen.window as f64 / rate).max(0.0);
        let possible_s = bound_s.max(chosen.streamed_bytes as f64 / rate + idle_s);
        assert!(lap_s <= 1.03 * possible_s, "{name}: {lap_s} {possible_s}");
    });
}
