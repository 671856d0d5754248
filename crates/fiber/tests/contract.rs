//! The contract of a medium, held by a loop: intact, with bits that flip, and without light.

#[path = "../../medium/tests/contract/mod.rs"]
mod contract;

use contract::{ALIGN, DEPTH, LONGEST, Make, Model, dram, simulated};
use delayline_fiber::{FiberLoop, LoopSpec, PlacedExtent};
use delayline_line::{Medium, Region};
use delayline_medium::{Memory, Pace, RealClock, VirtualClock};
use delayline_plan::Extent;
use std::sync::Arc;

/// The media under test.
const MEDIA: [(&str, Make); 4] = [
    ("fiber loop", |model, memory, region| {
        let clock = VirtualClock::new();
        let behind = simulated(model, memory, &clock);
        Box::new(fiber(model, (memory, region), behind, clock, 0.0))
    }),
    ("fiber loop in real time", |model, memory, region| {
        Box::new(fiber(
            model,
            (memory, region),
            dram(model, memory),
            RealClock::new(),
            0.0,
        ))
    }),
    ("fiber loop with decay", |model, memory, region| {
        let clock = VirtualClock::new();
        let behind = simulated(model, memory, &clock);
        Box::new(fiber(model, (memory, region), behind, clock, 1e-5))
    }),
    ("fiber loop, cut", |model, memory, region| {
        let clock = VirtualClock::new();
        let behind = simulated(model, memory, &clock);
        let mut all = fiber(model, (memory, region), behind, clock, 0.0);
        all.break_fiber();
        Box::new(all)
    }),
];

/// A loop on which every page of the model is a piece, and every other one
/// the start of a longer piece too. It is filled from `behind`.
fn fiber<M: Medium, C: Pace>(
    model: &Model,
    (memory, region): (&Arc<Memory>, &mut Region),
    behind: M,
    clock: C,
    residual_ber: f64,
) -> FiberLoop<M, C> {
    // A lap of 5 ms holds the model many times over.
    let spec = LoopSpec {
        residual_ber,
        ..LoopSpec::new(1000.0, 1e10)
    };
    let mut placed = Vec::new();
    for (part, bytes) in model.bytes.iter().enumerate() {
        for offset in (0..bytes.len() as u64).step_by(ALIGN as usize) {
            for pages in [1, 3] {
                let extent = Extent {
                    part: part as u16,
                    offset,
                    len: pages * ALIGN,
                };
                if pages == 1 || offset % (2 * ALIGN) == 0 {
                    let phase_s = placed.len() as f64 * 1e-5 % spec.lap_s();
                    placed.push(PlacedExtent { extent, phase_s });
                }
            }
        }
    }
    let part_lens: Vec<u64> = model.bytes.iter().map(|bytes| bytes.len() as u64).collect();
    let measures = (LONGEST as u32, DEPTH);
    let mut all = FiberLoop::new(
        behind,
        clock,
        memory.clone(),
        spec,
        &placed,
        measures,
        &part_lens,
    )
    .unwrap();
    all.fill(region, 0..memory.len(), |_, _| {
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    all
}
