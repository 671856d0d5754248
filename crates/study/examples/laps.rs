//! How many extents a second the simulation of a lap handles on one core: the
//! real line over a simulated medium, for a model of 810 GB.

use std::time::Instant;

use delayline_study::decode::{Course, SimulatedFeed, SimulatedMachine, simulate};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let window_bytes = 50_000_000;
    let on_demand = |latency_s| SimulatedFeed::OnDemand {
        rate_bytes_per_s: 32e12,
        latency_s,
        depth: 4096,
    };
    let comes_by = SimulatedFeed::ComesBy {
        turn_s: 810e9 / 32e12,
        rate_bytes_per_s: 32.1e12,
        latency_s: 0.0,
    };
    for (name, chosen, feed) in [
        ("in order, no latency", 0.0, on_demand(0.0)),
        ("in order, 15 µs", 0.0, on_demand(15e-6)),
        ("with experts, 15 µs", 400e9, on_demand(15e-6)),
        ("from a loop", 0.0, comes_by),
    ] {
        let course = Course::even(126, 810e9 - chosen, chosen, window_bytes, 0);
        let machine = SimulatedMachine {
            feed,
            compute_s: 0.02,
        };
        let start = Instant::now();
        let lap = simulate(&machine, &course, 4)?;
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "{name}: {:.2} million extents/s ({} in {seconds:.2} s), a lap in {:.3} ms",
            lap.events as f64 / seconds / 1e6,
            lap.events,
            lap.lap_s * 1e3,
        );
    }
    Ok(())
}
