//! What feeds a lap, as the program's media in virtual time: a drive that answers on demand, or
//! a loop in which everything comes by.
//!
//! Virtual time is counted in ticks, of which an extent takes thousands whatever the medium's
//! speed, so that mercury and light run the same code.

use delayline_fiber::{
    CodingTask, FiberLoop, LoopSpec, LoopTiming, PlacedExtent, interleaved, optimum,
};
use delayline_medium::{Link, Simulated, VirtualClock};

use super::course::Course;
use super::simulate::Set;

/// Ticks of a lap of an on-demand medium, about.
const LAP_TICKS: f64 = 1e11;
/// Ticks of a turn of a loop.
const TURN_TICKS: f64 = 1e10;
/// The media's second, in ticks.
const SECOND: f64 = 1e9;

/// A medium by its figures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SimulatedFeed {
    /// What is asked for comes.
    OnDemand {
        /// In bytes per second.
        rate_bytes_per_s: f64,
        /// From the last byte leaving until the read is there, in seconds.
        latency_s: f64,
        /// Reads at once.
        depth: usize,
    },
    /// What streams comes by once a turn.
    ComesBy {
        /// A turn, in seconds.
        turn_s: f64,
        /// At which the bytes come by, in bytes per second.
        rate_bytes_per_s: f64,
        /// What is asked for on the way comes after this, in seconds.
        latency_s: f64,
    },
}

impl SimulatedFeed {
    /// How many ticks a second takes.
    pub(super) fn ticks_per_s(&self, course: &Course) -> f64 {
        match *self {
            Self::OnDemand {
                rate_bytes_per_s, ..
            } => rate_bytes_per_s * SECOND / rate_in_ticks(course) as f64,
            Self::ComesBy { turn_s, .. } => TURN_TICKS / turn_s,
        }
    }
}

/// A rate such that a lap takes [`LAP_TICKS`], in whole bytes per [`SECOND`].
fn rate_in_ticks(course: &Course) -> u64 {
    let lap_bytes = course.compute().max(course.streamed_bytes());
    (lap_bytes * SECOND / LAP_TICKS).round().max(1.0) as u64
}

/// The drive.
pub(super) fn on_demand(
    case: &Set<'_>,
    latency_s: f64,
    depth: usize,
    clock: &VirtualClock,
) -> Simulated {
    let link = Link {
        rate_bytes_per_s: rate_in_ticks(case.course),
        latency_ns: (latency_s * case.ticks_per_s).round() as u64,
        depth,
        ..Link::default()
    };
    Simulated::without_bytes(link, case.part_lens.clone(), clock.clone())
}

/// The loop, full, its extents placed for a lap of `compute_s` seconds, with a drive
/// behind it that is as fast.
pub(super) fn comes_by(
    case: &Set<'_>,
    ring: LoopTiming,
    latency_s: f64,
    compute_s: f64,
    clock: &VirtualClock,
) -> FiberLoop<Simulated, VirtualClock> {
    let course = case.course;
    let task = CodingTask {
        plan: &course.plan,
        schedule: &case.schedule,
        residency: &course.residency,
        compute_s,
        ring,
    };
    let on_loop = course.residency.streamed();
    let phase_s = match course.is_even {
        false => optimum(&task, &on_loop).phase_s,
        true => {
            // A rounding error does not count as a turn.
            let turns = (compute_s / ring.lap_s - 1e-9).ceil().max(1.0);
            interleaved(&task, &on_loop, turns)
        }
    };
    // What the medium takes for a second, in seconds.
    let second_s = SECOND / case.ticks_per_s;
    let rate = ring.rate_bytes_per_s * second_s;
    let places = course.plan.extents.iter().zip(phase_s);
    let places = places.map(|(&extent, phase_s)| {
        let phase_s = phase_s? / second_s;
        Some(PlacedExtent { extent, phase_s })
    });
    let placed: Vec<PlacedExtent> = places.flatten().collect();
    let mut spec = LoopSpec::new(1.0, 8.0 * rate);
    spec.overhead = 0.0;
    spec.length_km = TURN_TICKS / SECOND / spec.lap_s();
    let behind = Link {
        rate_bytes_per_s: rate.max(1.0) as u64,
        latency_ns: (latency_s * case.ticks_per_s).round() as u64,
        depth: case.depth,
        ..Link::default()
    };
    let behind = Simulated::without_bytes(behind, case.part_lens.clone(), clock.clone());
    let reads = (course.read_len, case.depth);
    FiberLoop::without_bytes(behind, clock.clone(), spec, &placed, reads, &case.part_lens)
}
