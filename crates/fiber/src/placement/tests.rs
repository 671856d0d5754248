//! Tests of the choice among ways to divide memory.

use crate::spec::LoopSpec;
use delayline_plan::{ExtentId, NEAR_BYTES, Run, Schedule};

use super::*;

const MB: u64 = 1 << 20;

/// 60 layers of 1 MiB and a head of 26, each a run.
fn model() -> Plan {
    let lens = (0..=60).map(|i| if i < 60 { MB } else { 26 * MB });
    let mut plan = Plan::default();
    for (i, len) in (0..).zip(lens) {
        let offset = plan.extents.last().map_or(0, |e: &Extent| e.offset + e.len);
        let part = 0;
        plan.extents.push(Extent { part, offset, len });
        plan.runs.push(Run::reading([ExtentId(i)], len as f64));
    }
    plan
}

/// A window of `window` MiB, through which the head streams unless it stays.
fn way(window: u64, stays: bool) -> Residency {
    let mut resident = vec![false; 60];
    resident.push(stays);
    let resident_bytes = if stays { 26 * MB } else { 0 };
    Residency {
        resident,
        window: window * MB,
        resident_bytes,
        streamed_bytes: 86 * MB - resident_bytes,
    }
}

/// The window, in MiB, of the way that is chosen for a loop that holds `holds` MiB.
fn taken(holds: u64, ways: &[Residency]) -> Result<u64, PlacementError> {
    let mut spec = LoopSpec::new(1e4, 1e9);
    spec.rate_bit_per_s *= (holds * MB) as f64 / spec.capacity_bytes() as f64;
    let plan = model();
    let lap = LapOutline {
        plan: &plan,
        schedule: &Schedule::new(&plan, NEAR_BYTES),
        weight_bytes: 86 * MB,
        threads: 2,
        read_len: 4 << 20,
        free_bytes: None,
    };
    let taken = fittest(&LoopMaker::new(spec), &lap, ways.iter().cloned())?;
    Ok(taken.window / MB)
}

#[test]
fn a_shorter_window_is_taken_where_laps_are_shorter() {
    // With the head in the window a slow lap takes two turns, with the head in
    // memory one; with nothing to read ahead it takes many.
    let (long, short, none) = (way(30, false), way(8, true), way(1, true));
    let check = |holds, ways: &[&Residency], window| {
        let ways: Vec<Residency> = ways.iter().map(|&way| way.clone()).collect();
        assert_eq!(
            taken(holds, &ways).unwrap(),
            window,
            "{holds} MiB, {ways:?}"
        );
    };
    check(92, &[&long, &short, &none], 8);
    check(92, &[&long, &none], 30);
    check(92, &[&none, &short], 8);
    // Room enough to wait for the head.
    check(130, &[&long, &short], 30);
    // Only what streams has to fit.
    check(70, &[&long, &short], 8);
    let refused = taken(50, &[long, short]).unwrap_err().to_string();
    assert!(refused.contains("90.2 MB should circulate"), "{refused}");
}
