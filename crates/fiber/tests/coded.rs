//! The real line over a fiber loop in virtual time takes what the coding predicts.

mod ring;

use delayline_fiber::{
    Coding, CodingTask, FiberLoop, LoopSpec, LoopTiming, PlacedExtent, in_order, optimum,
};
use delayline_line::{Clock, Config, Line, LineSetup, Region};
use delayline_medium::{Link, Simulated, VirtualClock};
use delayline_plan::{ALIGN, Extent, ExtentId, Plan, Residency, Run, Schedule};
use ring::spec;

/// A model of `count` extents of `pages` pages, one a run.
fn model(count: u64, pages: u64) -> (Plan, Vec<Extent>) {
    let extent = |i: u64| Extent {
        part: 0,
        offset: i * pages * ALIGN,
        len: pages * ALIGN,
    };
    let extents: Vec<Extent> = (0..count).map(extent).collect();
    let run = |i| Run::reading([ExtentId(i)], 1.0);
    let runs = (0..count as u32).map(run).collect();
    (Plan::cycle(extents.clone(), runs), extents)
}

/// A lap of the real line over a loop in virtual time, in seconds, as the mean of thirty.
fn line_lap_s(task: &CodingTask<'_>, spec: &LoopSpec, coding: &Coding) -> f64 {
    let (plan, clock) = (task.plan, VirtualClock::new());
    let placed: Vec<PlacedExtent> = plan
        .extents
        .iter()
        .zip(&coding.phase_s)
        .map(|(&extent, phase)| PlacedExtent {
            extent,
            phase_s: phase.unwrap(),
        })
        .collect();
    let total: u64 = plan.extents.iter().map(|e| e.len).sum();
    let link = Link {
        rate_bytes_per_s: 1_000_000_000,
        latency_ns: 0,
        depth: 64,
        ..Link::default()
    };
    let behind = Simulated::without_bytes(link, vec![total], clock.clone());
    let read_len = task.ring.read_len as u32;
    let measures = (read_len, 512);
    let fiber = FiberLoop::without_bytes(
        behind,
        clock.clone(),
        spec.clone(),
        &placed,
        measures,
        &[total],
    );
    let config = Config {
        window: task.residency.window,
        read_len,
        retries: 0,
    };
    let setup = LineSetup {
        extents: plan.extents.clone(),
        part_lens: vec![total],
        homes: vec![None; plan.extents.len()],
        config,
    };
    let region = Region::new(config.window);
    let mut line = Line::new(fiber, clock.clone(), region, setup).unwrap();
    let order = || task.schedule.steps().iter().map(|step| step.extent);
    let run_ns = (task.compute_s * 1e9) as u64 / plan.runs.len() as u64;
    line.enqueue(order());
    let (mut ends, laps) = (Vec::new(), 40);
    for _ in 0..laps {
        line.enqueue(order());
        for id in order() {
            let lease = line.acquire(id).unwrap();
            clock.advance_ns(run_ns);
            line.release(lease);
            line.pump().unwrap();
        }
        ends.push(clock.now_ns());
    }
    (ends[laps - 1] - ends[9]) as f64 * 1e-9 / (laps - 10) as f64
}

#[test]
fn the_line_on_a_loop_takes_what_the_plan_predicts() {
    for (pages, read_pages, copies) in [(8, 8, 1), (8, 3, 1), (8, 8, 4), (8, 3, 7)] {
        for (compute_laps, window) in [(0.4, 10), (1.8, 3), (2.5, 8), (3.3, 20)] {
            let (plan, _) = model(48, pages);
            let schedule = Schedule::new(&plan, 0);
            let bytes = 48 * pages * ALIGN;
            let mut spec = spec((bytes + bytes / 20) * u64::from(copies));
            spec.copies = copies;
            let residency = Residency {
                resident: vec![false; 48],
                resident_bytes: 0,
                streamed_bytes: bytes,
                window: window * pages * ALIGN,
            };
            let task = CodingTask {
                plan: &plan,
                schedule: &schedule,
                residency: &residency,
                compute_s: compute_laps * spec.turn_s(),
                ring: LoopTiming {
                    lap_s: spec.turn_s(),
                    rate_bytes_per_s: spec.net_bytes_per_s(),
                    guard_s: 0.0,
                    read_len: read_pages * ALIGN,
                    behind_bytes_per_s: 1e9,
                },
            };
            let all = vec![true; 48];
            for coding in [in_order(&task, &all), optimum(&task, &all)] {
                let real_s = line_lap_s(&task, &spec, &coding);
                let off = real_s / coding.lap_s - 1.0;
                assert!(
                    off.abs() < 0.01,
                    "{compute_laps} turns of {copies}, window {window}, reads of {read_pages}: {real_s} {}",
                    coding.lap_s
                );
            }
        }
    }
}
