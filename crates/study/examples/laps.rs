//! How many extents a second the simulation of a lap handles on one core: the
//! real line over a simulated medium, for a model of 810 GB.

use std::time::Instant;

use delayline_study::decode::{Load, Machine, simulate};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let window_bytes = 50_000_000;
    for (name, chosen, latency_s) in [
        ("in order, no latency", 0.0, 0.0),
        ("in order, 15 µs", 0.0, 15e-6),
        ("with experts, 15 µs", 400e9, 15e-6),
    ] {
        let load = Load::even(126, 810e9 - chosen, chosen, window_bytes);
        let machine = Machine {
            rate_bytes_per_s: 32e12,
            latency_s,
            window_bytes,
            resident_bytes: 0,
            compute_s: 0.02,
        };
        let start = Instant::now();
        let lap = simulate(&machine, &load, 4)?;
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
