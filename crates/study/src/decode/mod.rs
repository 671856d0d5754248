//! Tokens per second of a model on an accelerator that is fed by a medium: by
//! running the real line in virtual time, and beside it the bound of a closed form.
//!
//! The rules, in one place:
//!
//! - A lap gives each sequence of the batch one token. Its compute is arithmetic
//!   (`2 · active parameters · batch`) or reading what is near, whichever takes
//!   longer, and the software's time for each layer (`software.rs`). What is near:
//!   weights that stay, keys and values, and the window. Each lies somewhere, on the
//!   chip or in the memory beside it, has room there and passes at its rate
//!   (`room.rs`).
//! - An accelerator's own memory holds all weights; nothing passes a window.
//! - A medium that answers on demand reads what the lap needs: certain weights
//!   ahead of time, chosen experts after each router, when the latency shows.
//! - Where everything comes by, everything passes in every turn, needed or not.
//!   The simulation runs the program's own fiber loop, laid out by the program's
//!   own optimum coding; through a small window a lap then takes whole turns, so that
//!   a compute of 1.3 turns takes two (unless the window holds so much that some
//!   laps do with one). If the medium holds the model `n` times
//!   over, a turn of the model is an `n`th of the medium's.
//! - The accelerator draws its full power also while it waits.

mod accelerator;
mod ask;
#[cfg(test)]
mod bounds_tests;
mod corner;
mod course;
mod error;
mod feed;
mod measured;
mod plan_file;
mod report;
mod roofline;
mod room;
mod simulate;
mod software;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use delayline_line::LineError;
use serde::Serialize;

use crate::datasheet::{Library, SheetError, SheetKind};
use crate::interval::{Corner, Interval};
use crate::media::{Delivery, Need, Sized, Unit};
use crate::model::LanguageModel;

use corner::At;

pub use accelerator::Accelerator;
pub use ask::{CaseOptions, DEFAULT_SOFTWARE, MeasuredMedium};
pub use course::{Course, Demand};
pub use error::DecodeError;
pub use feed::SimulatedFeed;
pub use measured::{
    EXPECTED, MeasuredSystem, SystemPrediction, SystemUse, measured_report, predictions,
};
pub use plan_file::{PlanError, PlanFile, PlannedExtent, PlannedRun};
pub use report::{CaseGrid, PORTS, extrapolated, headline, report};
pub use roofline::{Limit, Roofline};
pub use room::{Window, WindowPlace};
pub use simulate::{SimulatedLap, SimulatedMachine, simulate};
pub use software::Software;

/// How many laps are measured: several of a short one, so that periodic effects average out;
/// fewer of a long one, or a part of one, with about so many reads in all.
const LAPS: std::ops::RangeInclusive<u64> = 1..=24;
const READS: u64 = 20_000;
/// What share of the experts must be needed for the order to be certain again.
pub const CERTAIN_SHARE: f64 = 0.99;
/// The medium that is the accelerator's own memory.
const OWN: &str = "own";
/// A medium of which only rates were measured.
const MEASURED: &str = "measured";
/// Smallest window that is simulated, in bytes.
const WINDOW_MIN: u64 = 65_536;

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// The model.
    pub model: LanguageModel,
    /// What computes it.
    pub accelerator: Accelerator,
    /// What runs it.
    pub software: Software,
    /// What feeds it.
    pub unit: Unit,
    /// At least this many units; otherwise as many as hold the weights.
    pub units: u32,
    /// Enough units for this rate, in bytes per second; 0 if any rate will do.
    pub feed_bytes_per_s: f64,
    /// Sequences that share a lap.
    pub batch: u32,
    /// Tokens of context of each.
    pub context: u32,
    /// The window in bytes; if `None`, the better of the chip's own memory and a part
    /// of the memory beside it.
    pub window_bytes: Option<u64>,
    /// Weights that stay with the accelerator, in bytes.
    pub resident_bytes: u64,
    /// Compute of a lap in seconds, where it was measured.
    pub compute_s: Option<f64>,
    /// What the program made of a model and a budget, instead of even layers.
    pub plan: Option<Arc<Planned>>,
}

/// A plan of the program's.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// The model, for people.
    pub model: String,
    /// What a lap uses.
    pub course: Course,
    /// Reads that the program has under way at once.
    pub depth: usize,
}

/// What came out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Decoded {
    /// The medium, as many units as it takes.
    pub medium: Sized,
    /// What the medium draws on average over a lap, in watts.
    pub medium_w: Interval,
    /// How many accelerators share each layer.
    pub accelerators: u32,
    /// The window, if weights pass one.
    pub window: Option<Window>,
    /// One lap, in seconds.
    pub lap_s: Interval,
    /// The closed form for the typical values.
    pub roofline: Roofline,
    /// What limits it, by the closed form.
    pub limit: Limit,
    /// The bound over the lap: 1 where the bound is reached, never more.
    pub of_roofline: f64,
    /// Share of the lap in which the compute waited.
    pub stall_share: f64,
    /// Bytes that pass in a lap.
    pub passing_bytes: f64,
    /// Share of them that the lap needed.
    pub needed_share: f64,
    /// Tokens per second of one sequence.
    pub tokens_per_s: Interval,
    /// Tokens per second of all.
    pub total_tokens_per_s: Interval,
    /// Joules a token, without the building's overhead.
    pub joules_per_token: Interval,
    /// Dollars for a million tokens: depreciation and energy.
    pub dollars_per_million: Interval,
    /// Of a mixture: how many different experts of a layer a lap needs.
    pub distinct_experts: Option<f64>,
    /// Of a mixture: from which batch on the order is as good as certain.
    pub certain_from_batch: Option<u32>,
    /// Turns of the medium that a lap takes, where everything comes by.
    pub turns: Option<u32>,
    /// How often the medium holds the model, where everything comes by.
    pub copies: Option<u32>,
    /// Extents that passed in the simulation.
    pub events: u64,
    /// What is not published of the accelerator, power or price: joules and dollars are lower
    /// bounds without it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<&'static str>,
}

/// Runs a case.
///
/// # Errors
/// [`DecodeError`].
pub fn decode(library: &Library, case: &Case) -> Result<Decoded, DecodeError> {
    check(case)?;
    let windows = case.windows()?;
    if case.is_own() {
        let need = Need {
            bytes: case.model.weights_bytes,
            rate_bytes_per_s: 0.0,
        };
        let medium = Sized::new(case.unit.clone(), need);
        return decoded(library, case, medium, None, case.near());
    }
    let medium = case.sized();
    let window = case.better_window(&medium, windows);
    let typical = case.at(&medium, window, Corner::Typical);
    let end = |corner| {
        let at = case.at(&medium, window, corner);
        let is_typical = (at.machine, &at.course) == (typical.machine, &typical.course);
        (!is_typical).then(|| run(&at)).transpose()
    };
    let (lap, (best, worst)) = rayon::join(
        || run(&typical),
        || rayon::join(|| end(Corner::Best), || end(Corner::Worst)),
    );
    let lap = lap?;
    let or_typical = |end: Option<SimulatedLap>| end.map_or(lap.lap_s, |end| end.lap_s);
    let (best_s, worst_s) = (or_typical(best?), or_typical(worst?));
    let laps = Laps {
        lap_s: Interval::new(best_s.min(lap.lap_s), lap.lap_s, worst_s.max(lap.lap_s)),
        stall_share: (lap.stall_s / lap.lap_s).min(1.0),
        roofline: typical.roofline,
        passing_bytes: lap.streamed_bytes,
        turns: typical.turns,
        copies: typical.copies,
        events: lap.events,
    };
    decoded(library, case, medium, Some(window), laps)
}

/// Tokens per second of one sequence with all figures typical, as [`decode()`] says.
///
/// # Errors
/// [`DecodeError`].
pub fn typical_tokens_per_s(case: &Case) -> Result<f64, DecodeError> {
    check(case)?;
    let windows = case.windows()?;
    if case.is_own() {
        return Ok(1.0 / case.near().lap_s.typical);
    }
    let medium = case.sized();
    let window = case.better_window(&medium, windows);
    Ok(1.0 / run(&case.at(&medium, window, Corner::Typical))?.lap_s)
}

/// What laps of a case came to.
struct Laps {
    lap_s: Interval,
    stall_share: f64,
    roofline: Roofline,
    passing_bytes: f64,
    turns: Option<u32>,
    copies: Option<u32>,
    events: u64,
}

impl Case {
    /// Whether all weights are in the accelerator's own memory.
    fn is_own(&self) -> bool {
        self.unit.id == OWN
    }

    /// The medium, as many units as hold the weights that do not stay.
    fn sized(&self) -> Sized {
        let held = self.model.weights_bytes - self.resident_bytes as f64;
        let need = Need {
            bytes: held.max(1.0),
            rate_bytes_per_s: self.feed_bytes_per_s,
        };
        Sized::at_least(self.unit.clone(), need, self.units)
    }

    /// The window with the shorter lap; the first, the chip's own, where both are as good.
    fn better_window(&self, medium: &Sized, windows: Vec<Window>) -> Window {
        let lap_s = |window: &Window| self.at(medium, *window, Corner::Typical).roofline.lap_s();
        let better = |best: Window, other: Window| match lap_s(&other) < lap_s(&best) * (1.0 - 1e-3)
        {
            true => other,
            false => best,
        };
        let best = windows.into_iter().reduce(better);
        best.expect("there is a window")
    }

    /// Laps over weights that all are in the accelerator's own memory: what the formula
    /// gives, because nothing has to come in time.
    fn near(&self) -> Laps {
        let window = Window {
            bytes: 0,
            place: WindowPlace::Memory,
        };
        let needed = self.model.needed_bytes(self.batch);
        let lap_s = |corner| self.compute_s(window, needed, 0.0, corner);
        let lap_s = Interval::new(
            lap_s(Corner::Best),
            lap_s(Corner::Typical),
            lap_s(Corner::Worst),
        );
        let arithmetic_s = self.flop() / self.accelerator.compute_flop_per_s.typical;
        let (_, rate) = self.accelerator.home();
        let bytes = needed + self.kv_bytes();
        Laps {
            lap_s,
            stall_share: 0.0,
            roofline: Roofline::new(arithmetic_s, bytes, rate.typical, 0.0, 0.0),
            passing_bytes: needed,
            turns: None,
            copies: None,
            events: 0,
        }
    }
}

/// Rates, energy and money of laps.
fn decoded(
    library: &Library,
    case: &Case,
    medium: Sized,
    window: Option<Window>,
    laps: Laps,
) -> Result<Decoded, DecodeError> {
    let lap_s = laps.lap_s;
    let total_tokens_per_s = Interval::exact(f64::from(case.batch)) / lap_s;
    let read_bits_per_s = Interval::exact(laps.passing_bytes * 8.0) / lap_s;
    let medium_w = medium.standby_w + read_bits_per_s * case.unit.energy_j_per_bit;
    let batch = f64::from(case.batch);
    // Energy of reading does not depend on the time of a lap; standby does.
    let standing_w = medium.standby_w + case.accelerator.power_w;
    let read_j = case.unit.energy_j_per_bit * (laps.passing_bytes * 8.0);
    let joules_per_token = (standing_w * lap_s + read_j) / batch;
    let price = medium.price + case.accelerator.price;
    let worn = price * lap_s / batch / sold_s(library)?;
    let experts = case.model.experts;
    let needed = case.model.needed_bytes(case.batch);
    Ok(Decoded {
        medium_w,
        accelerators: case.accelerator.count,
        window,
        lap_s,
        roofline: laps.roofline,
        limit: laps.roofline.limit(),
        of_roofline: laps.roofline.lap_s() / lap_s.typical,
        stall_share: laps.stall_share,
        passing_bytes: laps.passing_bytes,
        needed_share: match case.unit.access {
            Delivery::ComesBy => (needed / case.model.weights_bytes).min(1.0),
            Delivery::OnDemand => 1.0,
        },
        tokens_per_s: Interval::exact(1.0) / lap_s,
        total_tokens_per_s,
        joules_per_token,
        dollars_per_million: (worn + joules_per_token * dollars_per_joule(library)?) * 1e6,
        distinct_experts: experts.map(|e| e.distinct(case.batch)),
        certain_from_batch: experts.map(|e| e.certain_from(CERTAIN_SHARE)),
        turns: laps.turns,
        copies: laps.copies,
        events: laps.events,
        unknown: case.accelerator.unknown.clone(),
        medium,
    })
}

fn run(at: &At<'_>) -> Result<SimulatedLap, LineError> {
    if at.course.streamed_bytes() <= 0.0 {
        // Nothing has to come in time.
        return Ok(SimulatedLap {
            lap_s: at.machine.compute_s,
            stall_s: 0.0,
            streamed_bytes: 0.0,
            events: 0,
        });
    }
    // On a loop a lap is whole turns, so no part of it can stand for all.
    let part = match at.machine.feed {
        SimulatedFeed::OnDemand { .. } => at.course.part(READS),
        SimulatedFeed::ComesBy { .. } => None,
    };
    let course = part.as_ref().unwrap_or(&at.course);
    let times = at.course.streamed_bytes() / course.streamed_bytes();
    let machine = SimulatedMachine {
        compute_s: at.machine.compute_s / times,
        ..at.machine
    };
    let laps = (READS / course.reads().max(1)).clamp(*LAPS.start(), *LAPS.end());
    let lap = simulate(&machine, course, laps as u32)?;
    // The measured laps may count one read more or less: a few parts in ten thousand.
    Ok(SimulatedLap {
        lap_s: (times * lap.lap_s).max(at.roofline.lap_s()),
        stall_s: times * lap.stall_s,
        streamed_bytes: at.course.streamed_bytes(),
        ..lap
    })
}

/// For how many seconds of use a machine is paid.
fn sold_s(library: &Library) -> Result<Interval, SheetError> {
    let economy = library.sheet(SheetKind::Economy, "economy")?;
    Ok(economy.get("lifetime") * economy.get("utilisation"))
}

/// What a joule of the machine costs in dollars, with the building's overhead.
fn dollars_per_joule(library: &Library) -> Result<Interval, SheetError> {
    let economy = library.sheet(SheetKind::Economy, "economy")?;
    Ok(economy.get("overhead") * economy.get("electricity"))
}

fn check(case: &Case) -> Result<(), DecodeError> {
    let wrong = |what, got: String, expected: &str| {
        Err(DecodeError::Value {
            what,
            got,
            expected: expected.to_owned(),
        })
    };
    if case.batch == 0 {
        return wrong("the batch", "0".to_owned(), "1 or more");
    }
    if case.window_bytes.is_some_and(|window| window < WINDOW_MIN) {
        let got = format!("{} bytes", case.window_bytes.unwrap_or(0));
        return wrong("the window", got, "65536 bytes or more");
    }
    if let Some(compute_s) = case.compute_s
        && !(compute_s >= 0.0 && compute_s.is_finite())
    {
        return wrong("the compute time", format!("{compute_s} s"), "0 s or more");
    }
    if !case.is_own() && case.resident_bytes as f64 >= case.model.weights_bytes {
        let expected = format!(
            "less than the model's {:.0}; `own` is the medium that keeps everything",
            case.model.weights_bytes
        );
        let got = format!("{} bytes", case.resident_bytes);
        return wrong("the size of the weights that stay", got, &expected);
    }
    Ok(())
}
