//! The closed form of a loop (a lap takes whole turns of it, if the layout is
//! the best) against the medium that the program runs from: the real line over
//! the real `FiberLoop` in virtual time, with the plan's own layouts.

use delayline_line::{Clock, Config, Line};
use delayline_medium::{FiberLoop, Link, LoopSpec, Placed, Simulated, Source, VirtualClock};
use delayline_plan::{
    ALIGN, Extent, ExtentId, Loop, Plan, Residency, Run, Schedule, Task, in_order, optimum,
};

const EXTENTS: u64 = 96;
const LEN: u64 = 16 * ALIGN;
const WINDOW: u64 = 12 * LEN;
/// One byte a nanosecond, net.
const RATE: f64 = 1e9;
const LAPS: u32 = 24;

/// A lap of the line in turns of the loop, if its compute takes `compute` turns.
fn turns(compute: f64, is_coded: bool) -> f64 {
    let extents: Vec<Extent> = (0..EXTENTS)
        .map(|n| Extent {
            part: 0,
            offset: n * LEN,
            len: LEN,
        })
        .collect();
    let bytes = EXTENTS * LEN;
    let turn_s = bytes as f64 / RATE;
    let plan = Plan {
        extents: extents.clone(),
        runs: (0..EXTENTS as u32)
            .map(|n| Run {
                needs: vec![ExtentId(n)],
                compute: 1.0,
            })
            .collect(),
    };
    let schedule = Schedule::new(&plan, 0);
    let residency = Residency {
        resident: vec![false; EXTENTS as usize],
        window: WINDOW,
        resident_bytes: 0,
        streamed_bytes: bytes,
    };
    let task = Task {
        plan: &plan,
        schedule: &schedule,
        residency: &residency,
        compute_s: compute * turn_s,
        ring: Loop {
            lap_s: turn_s,
            rate_bytes_per_s: RATE,
            guard_s: 0.0,
            read_len: LEN,
            behind_bytes_per_s: RATE,
        },
    };
    let on_loop = vec![true; EXTENTS as usize];
    let coding = match is_coded {
        true => optimum(&task, &on_loop),
        false => in_order(&task, &on_loop),
    };
    let mut spec = LoopSpec::new(1.0, RATE * 8.0);
    spec.overhead = 0.0;
    spec.length_km = turn_s / spec.lap_s();
    let placed: Vec<Placed> = extents
        .iter()
        .zip(&coding.phase_s)
        .filter_map(|(&extent, phase)| phase.map(|phase_s| Placed { extent, phase_s }))
        .collect();
    let clock = VirtualClock::new();
    let link = Link {
        rate_bytes_per_s: 1,
        latency_ns: 0,
        depth: 64,
    };
    let behind = Simulated::new(link, Source::Lengths(vec![bytes]), clock.clone());
    let measures = (LEN as u32, 64);
    let fiber = FiberLoop::without_bytes(behind, clock.clone(), spec, &placed, measures, &[bytes]);
    let config = Config {
        window: WINDOW,
        read_len: LEN as u32,
        retries: 0,
    };
    let homes = vec![None; EXTENTS as usize];
    let mut line = Line::new(fiber, clock.clone(), extents, vec![bytes], homes, config)
        .expect("the line can work with that");
    let ids = || (0..EXTENTS as u32).map(ExtentId);
    let each_ns = compute * turn_s * 1e9 / EXTENTS as f64;
    let mut start_ns = 0;
    line.lay(ids());
    for lap in 0..2 * LAPS {
        if lap == LAPS {
            start_ns = clock.now_ns();
        }
        line.lay(ids());
        for id in ids() {
            let lease = line.acquire(id).expect("nothing fails");
            clock.advance_ns(each_ns as u64);
            line.release(lease);
            line.pump().expect("nothing fails");
        }
    }
    (clock.now_ns() - start_ns) as f64 * 1e-9 / f64::from(LAPS) / turn_s
}

/// Compute within a turn: the lap is the turn, in the plain order too.
#[test]
fn a_lap_is_a_turn_if_its_compute_is_shorter() {
    for compute in [0.1, 0.5, 0.8] {
        for is_coded in [false, true] {
            let turns = turns(compute, is_coded);
            assert!((turns - 1.0).abs() < 0.01, "{compute} {is_coded}: {turns}");
        }
    }
}

/// Compute beyond a turn: with the plan's best layout a lap takes whole turns, as
/// the study reckons; in the plain order it takes twice as many or more.
#[test]
fn the_best_layout_takes_whole_turns() {
    for (compute, whole) in [(1.5, 2.0), (1.8, 2.0), (2.6, 3.0)] {
        let (coded, plain) = (turns(compute, true), turns(compute, false));
        assert!(
            (coded - whole).abs() < 0.01,
            "{compute}: {coded} turns, coded"
        );
        assert!(plain > 1.9 * whole, "{compute}: {plain} turns, in order");
    }
}
