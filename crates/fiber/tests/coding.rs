//! Optimum coding against all placements of small loops, and what it gains over the plain
//! order.

#[path = "../../plan/tests/common/mod.rs"]
mod common;

use common::{Random, plan};
use delayline_fiber::{Coding, CodingTask, LoopTiming, coded_lap_s, in_order, optimum};
use delayline_plan::{ALIGN, Plan, Residency, Schedule};

/// A loop that passes one block a second and holds `blocks`.
fn ring(blocks: u64) -> LoopTiming {
    LoopTiming {
        lap_s: blocks as f64,
        rate_bytes_per_s: ALIGN as f64,
        guard_s: 0.0,
        read_len: 1 << 20,
        behind_bytes_per_s: ALIGN as f64 / 4.0,
    }
}

/// Everything streams, through a window of `window` blocks.
fn streamed(plan: &Plan, window: u64) -> Residency {
    let bytes = plan.extents.iter().map(|e| e.len).sum();
    Residency {
        resident: vec![false; plan.extents.len()],
        resident_bytes: 0,
        streamed_bytes: bytes,
        window: window * ALIGN,
    }
}

/// One run an extent, with this compute in seconds each.
fn chain(blocks: &[u64], compute_s: &[f64]) -> Plan {
    let runs: Vec<(Vec<u32>, f64)> = (0..)
        .map(|i| vec![i])
        .zip(compute_s.iter().copied())
        .collect();
    plan(blocks, &runs)
}

/// The shortest lap over all places on a grid of a block, the first extent at 0
/// (turning the loop changes nothing).
fn exhaustive(task: &CodingTask<'_>, blocks: &[u64], around: u64) -> f64 {
    fn go(
        task: &CodingTask<'_>,
        blocks: &[u64],
        used: &mut [bool],
        at: &mut Vec<u64>,
        best: &mut f64,
    ) {
        let Some(&len) = blocks.get(at.len()) else {
            let phase_s: Vec<_> = at.iter().map(|&at| Some(at as f64)).collect();
            *best = best.min(coded_lap_s(task, &phase_s));
            return;
        };
        let around = used.len();
        let last = if at.is_empty() { 1 } else { around };
        for start in 0..last {
            let arc: Vec<usize> = (0..len as usize).map(|i| (start + i) % around).collect();
            if arc.iter().any(|&i| used[i]) {
                continue;
            }
            arc.iter().for_each(|&i| used[i] = true);
            at.push(start as u64);
            go(task, blocks, used, at, best);
            at.pop();
            arc.iter().for_each(|&i| used[i] = false);
        }
    }
    let mut best = f64::INFINITY;
    go(
        task,
        blocks,
        &mut vec![false; around as usize],
        &mut Vec::new(),
        &mut best,
    );
    best
}

/// Places do not overlap and lie on the loop.
fn check_sound(coding: &Coding, plan: &Plan, ring: &LoopTiming) {
    let mut arcs: Vec<(f64, f64)> = coding
        .phase_s
        .iter()
        .zip(&plan.extents)
        .filter_map(|(phase, extent)| phase.map(|at| (at, at + ring.takes_s(extent.len))))
        .collect();
    arcs.sort_by(|a, b| a.0.total_cmp(&b.0));
    assert!(
        arcs.iter()
            .all(|arc| arc.0 >= 0.0 && arc.1 <= ring.lap_s + 1e-6),
        "{arcs:?}"
    );
    assert!(
        arcs.windows(2).all(|two| two[0].1 <= two[1].0 + 1e-6),
        "{arcs:?}"
    );
}

/// The whole plan through a window of `window` blocks: the optimum that was found, and
/// the plain order.
fn coded(plan: &Plan, window: u64, compute_s: f64, ring: LoopTiming) -> [Coding; 2] {
    let task = CodingTask {
        plan,
        schedule: &Schedule::new(plan, 0),
        residency: &streamed(plan, window),
        compute_s,
        ring,
    };
    let all = vec![true; plan.extents.len()];
    let (found, plain) = (optimum(&task, &all), in_order(&task, &all));
    check_sound(&found, plan, &ring);
    check_sound(&plain, plan, &ring);
    [found, plain]
}

/// Laps of the optimum that was found and of the plain order, over those of the true
/// optimum.
fn compare(blocks: &[u64], compute_s: &[f64], around: u64, window: u64) -> (f64, f64) {
    let plan = chain(blocks, compute_s);
    let schedule = Schedule::new(&plan, 0);
    let residency = streamed(&plan, window);
    let ring = ring(around);
    let task = CodingTask {
        plan: &plan,
        schedule: &schedule,
        residency: &residency,
        compute_s: compute_s.iter().sum(),
        ring,
    };
    let all = vec![true; blocks.len()];
    let (found, plain) = (optimum(&task, &all), in_order(&task, &all));
    check_sound(&found, &plan, &ring);
    check_sound(&plain, &plan, &ring);
    assert_eq!(found.lap_s, coded_lap_s(&task, &found.phase_s));
    assert!(found.lap_s >= found.bound_s - 1e-9 && found.lap_s <= plain.lap_s + 1e-9);
    let best = exhaustive(&task, blocks, around);
    (found.lap_s / best, plain.lap_s / best)
}

#[test]
fn small_loops_come_near_the_true_optimum() {
    let (mut worst, mut exact, mut cases, mut gain) = (1.0f64, 0, 0, 1.0f64);
    for blocks in [[1, 1, 1, 1, 1], [1, 2, 1, 2, 1], [2, 1, 1, 1, 2]] {
        let sum: u64 = blocks.iter().sum();
        for around in [sum, sum + 1] {
            for window in [2, 3, 4] {
                for compute in [0.25, 0.5, 1.0, 1.5, 2.0, 3.0] {
                    for even in [true, false] {
                        let compute_s: Vec<f64> = (0..blocks.len())
                            .map(|i| if even || i % 2 == 0 { compute } else { 0.1 })
                            .collect();
                        let (found, plain) = compare(&blocks, &compute_s, around, window);
                        if found > worst {
                            eprintln!("{found:.3} {blocks:?} of {around}, {window}, {compute_s:?}");
                        }
                        worst = worst.max(found);
                        gain = gain.max(plain);
                        exact += u32::from(found <= 1.0 + 1e-9);
                        cases += 1;
                    }
                }
            }
        }
    }
    eprintln!("worst {worst:.3}, {exact} of {cases} exact, the plain order up to {gain:.2}");
    assert!(worst <= 1.5 + 1e-9, "{worst}");
    assert!(
        f64::from(exact) >= 0.9 * f64::from(cases),
        "{exact} of {cases}"
    );
    assert!(gain >= 2.0, "{gain}");
}

/// A model of equal layers; laps in seconds in the plain order, coded, and the
/// bound, where one lap of the loop is 1 s.
fn layers(count: u32, compute_s: f64, window: u64, full: f64) -> [f64; 3] {
    let blocks = vec![4; count as usize];
    let plan = chain(&blocks, &vec![1.0; count as usize]);
    let ring = LoopTiming {
        lap_s: 1.0,
        rate_bytes_per_s: streamed(&plan, window).streamed_bytes as f64 / full,
        ..ring(1)
    };
    let [coded, plain] = coded(&plan, window, compute_s, ring);
    [plain.lap_s, coded.lap_s, coded.bound_s]
}

#[test]
fn compute_slower_than_the_line_waits_laps_in_the_plain_order_and_not_coded() {
    // (layers, compute, window in blocks, share of the loop in use)
    for (count, compute_s, window, full, plain_min, coded_max) in [
        // Faster than the line: nothing to gain.
        (64, 0.5, 32, 0.9, 0.999, 1.0 + 1e-6),
        // Two and a half laps of light to a lap of compute, and an eighth of
        // the model in the window: in order, each windowful costs a lap.
        (64, 2.5, 32, 0.9, 6.0, 3.0 + 1e-6),
        (64, 2.5, 32, 1.0, 6.0, 3.0 + 1e-6),
        // Two extents in the window: every second one is missed.
        (64, 1.8, 8, 0.95, 32.0 - 1e-6, 2.0 + 1e-6),
        (64, 3.8, 16, 0.95, 16.0, 4.0 + 1e-6),
        (256, 7.3, 8, 0.8, 128.0 - 1e-6, 8.0 + 1e-6),
    ] {
        let [plain, coded, bound] = layers(count, compute_s, window, full);
        eprintln!("{count} layers, {compute_s} s: {plain:.3} {coded:.3} {bound:.3}");
        assert!(
            plain >= plain_min && coded <= coded_max,
            "{plain} {coded} {bound}"
        );
    }
}

#[test]
fn random_models_come_within_a_lap_of_light_of_the_bound() {
    let mut random = Random(11);
    let (mut sum, mut plain_sum) = (0.0, 0.0);
    for case in 0..40 {
        let count = random.between(20, 60) as usize;
        let blocks: Vec<u64> = (0..count).map(|_| random.between(1, 6)).collect();
        let compute_s: Vec<f64> = (0..count).map(|_| random.between(1, 8) as f64).collect();
        let plan = chain(&blocks, &compute_s);
        let total: u64 = blocks.iter().sum();
        let ring = ring(total + total / 10);
        let compute_s = ring.lap_s * random.between(2, 40) as f64 / 10.0;
        let [coded, plain] = coded(&plan, total / 5 + 12, compute_s, ring);
        let over = (coded.lap_s - coded.bound_s) / ring.lap_s;
        assert!(
            over <= 1.0 + 1e-9,
            "case {case}: {over} laps over the bound, seed 11"
        );
        sum += coded.lap_s / coded.bound_s;
        plain_sum += plain.lap_s / coded.bound_s;
    }
    eprintln!(
        "coded {:.3}, in order {:.3} of the bound",
        sum / 40.0,
        plain_sum / 40.0
    );
    assert!(sum < plain_sum * 0.9);
}

#[test]
fn what_is_not_on_the_loop_comes_from_behind_it() {
    let plan = chain(&[1, 1, 1, 1], &[1.0; 4]);
    let schedule = Schedule::new(&plan, 0);
    let residency = streamed(&plan, 2);
    let task = CodingTask {
        plan: &plan,
        schedule: &schedule,
        residency: &residency,
        compute_s: 4.0,
        ring: ring(4),
    };
    let none = optimum(&task, &[false; 4]);
    // Four blocks at four seconds each.
    assert_eq!((none.lap_s, none.bound_s), (16.0, 16.0));
    assert_eq!(none.phase_s, vec![None; 4]);
    let some = optimum(&task, &[true, false, true, false]);
    assert!(some.lap_s < none.lap_s);
    assert_eq!(some.phase_s.iter().flatten().count(), 2);
}

/// Coded laps, in turns of the loop, by window, of a small model with an output head of
/// three tenths of its bytes and compute, which has to fit into the window at once.
fn with_a_head(compute_s: f64, windows: std::ops::Range<u64>) -> Vec<f64> {
    let (layers, head) = (60, 26);
    let mut blocks = vec![1; layers];
    blocks.push(head);
    let sum: u64 = blocks.iter().sum();
    let shares: Vec<f64> = blocks.iter().map(|&b| b as f64 / sum as f64).collect();
    let plan = chain(&blocks, &shares);
    // One fifteenth of the loop is free.
    let ring = LoopTiming {
        lap_s: 1.0,
        rate_bytes_per_s: (sum * ALIGN) as f64 * 16.0 / 15.0,
        read_len: 4 * ALIGN,
        ..ring(1)
    };
    let lap = |window| coded(&plan, window, compute_s, ring)[0].lap_s;
    windows.map(lap).collect()
}

#[test]
fn where_the_window_is_full_decides_where_the_loop_is_empty() {
    // Whatever the window, the free fifteenth of the loop lies where the head has to be
    // waited for: before it until it has room, after it while it computes.
    for compute_s in [0.05, 0.1, 0.12, 0.15, 0.2] {
        let laps = with_a_head(compute_s, 26..40);
        assert!(
            laps.iter().all(|lap| lap - 1.0 < 1e-9),
            "{compute_s}: {laps:?}"
        );
    }
    // It computes for longer: then three layers have to fit beside it.
    let laps = with_a_head(0.3, 26..40);
    assert!(laps[3..].iter().all(|lap| lap - 1.0 < 1e-9), "{laps:?}");
    assert!(laps[..3].iter().all(|lap| lap - 2.0 < 1e-9), "{laps:?}");
}
