//! Tokens per second of a model on an accelerator that is fed by a medium: by
//! running the real line in virtual time, and beside it by the closed form.
//! Knows what a lap costs; does not know terminals.
//!
//! The rules, in one place:
//!
//! - A lap gives each sequence of the batch one token. Its compute is
//!   `2 · active parameters · batch / rate of arithmetic`, and then keys and
//!   values of the context at the rate of the accelerator's own memory (none
//!   where it has SRAM alone).
//! - A medium that answers on demand reads what the lap needs: certain weights
//!   ahead of time, chosen experts after each router, when the latency shows.
//! - Where everything comes by, everything passes in every turn, needed or not.
//!   The simulation runs the program's own fiber loop, laid out by the program's
//!   own optimum coding; by the closed form a lap then takes whole turns, so that
//!   a compute of 1.3 turns takes two (unless the window holds so much that some
//!   laps do with one). If the medium holds the model `n` times
//!   over, a turn of the model is an `n`th of the medium's.
//! - The accelerator draws its full power also while it waits.

mod ask;
mod corner;
mod course;
mod feed;
mod plan_file;
mod report;
mod roofline;
mod simulate;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use delayline_line::LineError;
use serde::Serialize;
use thiserror::Error;

use crate::datasheet::{Library, SheetError, SheetKind};
use crate::interval::{Corner, Interval};
use crate::media::{Delivery, MediaError, Need, Sized, Unit};
use crate::model::LanguageModel;

use corner::At;

pub use ask::{CaseOptions, MeasuredMedium};
pub use course::{Course, Demand, extent_bytes};
pub use feed::SimulatedFeed;
pub use plan_file::{PlanError, PlanFile, PlannedExtent, PlannedRun};
pub use report::{CaseGrid, report};
pub use roofline::{Limit, Roofline};
pub use simulate::{SimulatedLap, SimulatedMachine, simulate};

/// How many laps are measured: of a short one some periods of whatever repeats,
/// of a long one fewer, so that they have about so many runs together.
const LAPS: std::ops::RangeInclusive<u64> = 2..=24;
const RUNS: u64 = 20_000;
/// What share of the experts must be needed for the order to be certain again.
pub const CERTAIN_SHARE: f64 = 0.99;

/// What computes, in base units.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Accelerator {
    /// For people.
    pub name: String,
    /// Arithmetic, in operations per second.
    pub compute_flop_per_s: Interval,
    /// The window through which weights pass, in bytes.
    pub sram_bytes: Interval,
    /// Memory beside the chip: bytes and bytes per second.
    pub memory: Option<(Interval, Interval)>,
    /// What it draws, in watts.
    pub power_w: Interval,
    /// What it costs, in dollars.
    pub price: Interval,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// The model.
    pub model: LanguageModel,
    /// What computes it.
    pub accelerator: Accelerator,
    /// What feeds it.
    pub unit: Unit,
    /// At least this many units; otherwise as many as hold the weights.
    pub units: u32,
    /// Enough units for this rate, in bytes per second; 0 for no matter.
    pub feed_bytes_per_s: f64,
    /// Sequences that share a lap.
    pub batch: u32,
    /// Tokens of context of each.
    pub context: u32,
    /// The window in bytes; the accelerator's SRAM if `None`.
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
    /// One lap, in seconds.
    pub lap_s: Interval,
    /// The closed form for the typical values.
    pub roofline: Roofline,
    /// What limits it, by the closed form.
    pub limit: Limit,
    /// The closed form over the simulated lap; 1 where both agree.
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
}

/// Why a case has no answer.
#[derive(Debug, Error)]
pub enum DecodeError {
    /// A data sheet is missing or wrong.
    #[error(transparent)]
    Sheet(#[from] SheetError),
    /// The medium is none.
    #[error(transparent)]
    Media(#[from] MediaError),
    /// A figure that cannot be.
    #[error("{what} is {got}, but must be {expected}")]
    Value {
        /// Which.
        what: &'static str,
        /// What it was.
        got: String,
        /// What is accepted.
        expected: String,
    },
    /// Keys and values do not fit beside the accelerator.
    #[error(
        "keys and values of {batch} sequences of {context} tokens are {kv_gb:.2} GB, but {name} \
         holds {room_gb:.2} GB: at most a batch of {most} fits with this context"
    )]
    Context {
        /// The batch.
        batch: u32,
        /// Tokens of each.
        context: u32,
        /// What they take, in gigabytes.
        kv_gb: f64,
        /// The accelerator.
        name: String,
        /// What it holds, in gigabytes.
        room_gb: f64,
        /// The largest batch that fits.
        most: u32,
    },
    /// The accelerator has no memory to read weights from.
    #[error("{0} has no memory beside its SRAM: choose another medium than `own`")]
    NoMemory(String),
    /// The line could not run.
    #[error("the simulation cannot run: {0}")]
    Line(#[from] LineError),
}

impl Accelerator {
    /// The accelerator of a data sheet.
    ///
    /// # Errors
    /// [`SheetError`] when there is none.
    pub fn of(library: &Library, id: &str) -> Result<Self, SheetError> {
        let sheet = library.sheet(SheetKind::Accelerator, id)?;
        Ok(Self {
            name: sheet.name.clone(),
            compute_flop_per_s: sheet.get("compute"),
            sram_bytes: sheet.get("sram"),
            memory: sheet.find("memory").zip(sheet.find("memory_rate")),
            power_w: sheet.get("power"),
            price: sheet.get("price"),
        })
    }

    /// So many of them that work as one, the model divided among them without
    /// loss: an upper bound of what several can do.
    pub fn times(self, count: u32) -> Self {
        if count == 1 {
            return self;
        }
        let factor = f64::from(count);
        Self {
            name: format!("{count} × {}", self.name),
            compute_flop_per_s: self.compute_flop_per_s * factor,
            sram_bytes: self.sram_bytes * factor,
            memory: self
                .memory
                .map(|(bytes, rate)| (bytes * factor, rate * factor)),
            power_w: self.power_w * factor,
            price: self.price * factor,
        }
    }

    /// Its own memory as a medium. Power and price are in the accelerator's.
    ///
    /// # Errors
    /// [`DecodeError::NoMemory`] where there is only SRAM.
    pub fn own_memory(&self, library: &Library) -> Result<Unit, DecodeError> {
        let Some((capacity, rate)) = self.memory else {
            return Err(DecodeError::NoMemory(self.name.clone()));
        };
        let latency = library.figure("hbm3e.latency")?.value;
        Ok(Unit::plain(
            "own",
            "its own memory",
            capacity,
            rate,
            latency,
        ))
    }
}

/// Runs a case.
///
/// # Errors
/// [`DecodeError`].
pub fn decode(library: &Library, case: &Case) -> Result<Decoded, DecodeError> {
    check(case)?;
    let held = case.model.weights_bytes - case.resident_bytes as f64;
    let need = Need {
        bytes: held.max(1.0),
        rate_bytes_per_s: case.feed_bytes_per_s,
    };
    let medium = Sized::at_least(case.unit.clone(), need, case.units);
    let typical = case.at(&medium, Corner::Typical);
    let lap = run(&typical)?;
    if lap.lap_s <= 0.0 {
        return Err(DecodeError::Value {
            what: "the compute time",
            got: "0 s".to_owned(),
            expected: "above 0 s where all weights stay in the window and nothing passes"
                .to_owned(),
        });
    }
    let mut ends = [lap.lap_s; 2];
    for (end, corner) in ends.iter_mut().zip([Corner::Best, Corner::Worst]) {
        let at = case.at(&medium, corner);
        if (at.machine, &at.course) != (typical.machine, &typical.course) {
            *end = run(&at)?.lap_s;
        }
    }
    let lap_s = Interval::new(ends[0].min(lap.lap_s), lap.lap_s, ends[1].max(lap.lap_s));
    let batch = f64::from(case.batch);
    let total_tokens_per_s = Interval::exact(batch) / lap_s;
    let read_bits_per_s = Interval::exact(lap.streamed_bytes * 8.0) / lap_s;
    let medium_w = medium.standby_w + read_bits_per_s * case.unit.energy_j_per_bit;
    let power_w = medium_w + case.accelerator.power_w;
    let price = medium.price + case.accelerator.price;
    let experts = case.model.experts;
    let needed = case.model.needed_bytes(case.batch);
    Ok(Decoded {
        lap_s,
        roofline: typical.roofline,
        limit: typical.roofline.limit(),
        of_roofline: typical.roofline.lap_s() / lap.lap_s,
        stall_share: (lap.stall_s / lap.lap_s).min(1.0),
        passing_bytes: lap.streamed_bytes,
        needed_share: match case.unit.access {
            Delivery::ComesBy => (needed / case.model.weights_bytes).min(1.0),
            Delivery::OnDemand => 1.0,
        },
        tokens_per_s: Interval::exact(1.0) / lap_s,
        total_tokens_per_s,
        joules_per_token: power_w / total_tokens_per_s,
        dollars_per_million: dollars_per_second(library, price, power_w)? / total_tokens_per_s
            * 1e6,
        distinct_experts: experts.map(|e| e.distinct(case.batch)),
        certain_from_batch: experts.map(|e| e.certain_from(CERTAIN_SHARE)),
        turns: typical.turns,
        copies: typical.copies,
        events: lap.events,
        medium,
    })
}

fn run(at: &At<'_>) -> Result<SimulatedLap, LineError> {
    let runs = at.course.plan.runs.len() as u64;
    let laps = (RUNS / runs.max(1)).clamp(*LAPS.start(), *LAPS.end());
    simulate(&at.machine, &at.course, laps as u32)
}

/// What a second of use costs in dollars: depreciation over the time that is
/// sold, and energy with the building's overhead.
fn dollars_per_second(
    library: &Library,
    price: Interval,
    power_w: Interval,
) -> Result<Interval, SheetError> {
    let economy = library.sheet(SheetKind::Economy, "economy")?;
    let sold_s = economy.get("lifetime") * economy.get("utilisation");
    let energy = power_w * economy.get("overhead") * economy.get("electricity");
    Ok(price / sold_s + energy)
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
    if case.window_bytes.is_some_and(|window| window < 65_536) {
        let got = format!("{} bytes", case.window_bytes.unwrap_or(0));
        return wrong("the window", got, "65536 bytes or more");
    }
    if let Some(compute_s) = case.compute_s
        && !(compute_s >= 0.0 && compute_s.is_finite())
    {
        return wrong("the compute time", format!("{compute_s} s"), "0 s or more");
    }
    if case.resident_bytes as f64 >= case.model.weights_bytes {
        let expected = format!("less than the model's {:.0}", case.model.weights_bytes);
        let got = format!("{} bytes", case.resident_bytes);
        return wrong("the weights that stay", got, &expected);
    }
    let kv = case.model.kv_bytes_per_token * f64::from(case.context);
    let accelerator = &case.accelerator;
    let room = accelerator
        .memory
        .map_or(accelerator.sram_bytes, |(bytes, _)| bytes)
        .high;
    if kv * f64::from(case.batch) > room {
        return Err(DecodeError::Context {
            batch: case.batch,
            context: case.context,
            kv_gb: kv * f64::from(case.batch) * 1e-9,
            name: accelerator.name.clone(),
            room_gb: room * 1e-9,
            most: (room / kv) as u32,
        });
    }
    Ok(())
}
