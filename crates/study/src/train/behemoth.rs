//! Behemoth's question: accelerators whose own memory holds weights and state, or flash
//! beside as many or as few of them. Speed, price, and how long the drives last.

use delayline_plan::DriveRates;
use serde::Serialize;

use super::{Recipe, TrainError, TrainStep, TrainedModel};
use crate::datasheet::{Library, SheetKind};
use crate::decode::Accelerator;
use crate::interval::Interval;

/// Copies of weights and state on flash: one is read, the other written.
const COPIES: f64 = 2.0;
const BILLION: f64 = 1e9;

/// What a step runs on, by data sheets.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainMachine {
    /// One accelerator.
    pub accelerator: Accelerator,
    /// Share of its arithmetic that training reaches.
    pub utilisation: Interval,
    /// One drive: capacity in bytes.
    pub drive_bytes: Interval,
    /// Its rate reading, in bytes per second.
    pub read_bytes_per_s: Interval,
    /// Writing.
    pub write_bytes_per_s: Interval,
    /// How often it can be written over.
    pub endurance: Interval,
    /// Its price, in dollars a byte.
    pub price_per_byte: Interval,
    /// Joules a bit.
    pub energy_j_per_bit: Interval,
    /// Its name.
    pub drive: String,
}

impl TrainMachine {
    /// An accelerator with drives of the sheet `store`.
    ///
    /// # Errors
    /// [`TrainError`] when a sheet is not there, or has no rate or endurance of writing.
    pub fn of(library: &Library, accelerator: &str, store: &str) -> Result<Self, TrainError> {
        let sheet = library.sheet(SheetKind::Store, store)?;
        let writes = |key: &str| {
            sheet.find(key).ok_or_else(|| TrainError::Value {
                what: "the medium",
                got: store.to_owned(),
                expected: format!(
                    "one whose sheet has `{key}`, such as ssd; --datasheets adds it to others"
                ),
            })
        };
        let machine = Accelerator::of(library, accelerator)?;
        if let Some(key) = machine.unknown.first() {
            return Err(TrainError::Value {
                what: "the accelerator",
                got: accelerator.to_owned(),
                expected: format!("one whose sheet has `{key}`; --datasheets adds it to others"),
            });
        }
        Ok(Self {
            accelerator: machine,
            utilisation: library.figure("training.utilisation")?.value,
            drive_bytes: sheet.get("capacity"),
            read_bytes_per_s: sheet.get("rate"),
            write_bytes_per_s: writes("write_rate")?,
            endurance: writes("endurance")?,
            price_per_byte: sheet.get("price"),
            energy_j_per_bit: sheet.get("energy"),
            drive: sheet.name.clone(),
        })
    }

    /// Operations a second that one accelerator reaches.
    pub fn flop_per_s(&self) -> Interval {
        self.accelerator.compute_flop_per_s * self.utilisation
    }

    /// What so many drives do together, at their least, typical or best: reads and writes
    /// take the time that they would take apart.
    pub fn rates(&self, drives: f64, pick: impl Fn(Interval) -> f64) -> DriveRates {
        let (read, write) = (
            drives * pick(self.read_bytes_per_s),
            drives * pick(self.write_bytes_per_s),
        );
        DriveRates {
            read,
            write,
            mixed: 2.0 / (1.0 / read + 1.0 / write),
        }
    }

    /// The break-even batch with so many drives for each accelerator, in tokens.
    pub fn break_even_tokens(&self, recipe: &Recipe, drives: f64) -> Interval {
        let flop = self.flop_per_s();
        let tokens = |flop_per_s: f64, pick: fn(Interval) -> f64| {
            let step = TrainStep {
                recipe: *recipe,
                parameters: BILLION,
                layers: 1,
                tokens: 1.0,
                flop_per_s,
                rates: self.rates(drives, pick),
                memory: 0,
            };
            step.break_even_tokens(if recipe.waits { 1.0 } else { 0.0 })
        };
        Interval::new(
            tokens(flop.low, |value| value.high),
            tokens(flop.typical, |value| value.typical),
            tokens(flop.high, |value| value.low),
        )
    }
}

/// A machine that trains the model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Contender {
    /// What holds weights and state.
    pub name: String,
    /// How many accelerators.
    pub accelerators: f64,
    /// How many drives; none where memory holds everything.
    pub drives: f64,
    /// Tokens a second.
    pub tokens_per_s: Interval,
    /// Of the machine, in dollars.
    pub price: Interval,
    /// Until the drives are worn out, in years; the machine runs all the time.
    pub drives_last_years: Option<Interval>,
    /// Of a billion tokens, in dollars: machine, energy, and drives that wear out.
    pub dollars_per_billion: Interval,
}

/// The contenders for a model whose batch is `tokens`.
///
/// # Errors
/// [`TrainError`] when a sheet lacks what it takes, or the accelerator has no memory.
pub fn contenders(
    library: &Library,
    machine: &TrainMachine,
    recipe: &Recipe,
    model: &TrainedModel,
    tokens: f64,
) -> Result<Vec<Contender>, TrainError> {
    let (memory, _) = machine.accelerator.home();
    let needed = recipe.in_memory * model.parameters;
    let holding = (needed / memory.typical).ceil().max(1.0);
    let economy =
        |key: &str| Ok::<Interval, TrainError>(library.figure(&format!("economy.{key}"))?.value);
    let costs = Costs {
        electricity: economy("electricity")?,
        overhead: economy("overhead")?,
        used_s: economy("lifetime")? * economy("utilisation")?,
    };
    let waiting = if recipe.waits { 1.0 } else { 0.0 };
    let flash = |accelerators: f64| {
        let step = TrainStep {
            recipe: *recipe,
            parameters: model.parameters,
            layers: model.layers,
            tokens,
            flop_per_s: machine.flop_per_s().typical * accelerators,
            rates: machine.rates(1.0, |value| value.typical),
            memory: 0,
        };
        let hold = COPIES * recipe.held() * model.parameters / machine.drive_bytes.typical;
        // With so many neither pass waits.
        let feed = step.free_tokens(waiting) / tokens;
        hold.max(feed).ceil()
    };
    let cases = [
        ("memory", holding, 0.0),
        ("flash, as many accelerators", holding, flash(holding)),
        ("flash, one accelerator", 1.0, flash(1.0)),
    ];
    let contender = |(name, accelerators, drives): (&str, f64, f64)| {
        let tokens_per_s =
            machine.flop_per_s() * (accelerators / (recipe.flop() * model.parameters));
        let moved = recipe.moved(waiting);
        let steps_per_s = tokens_per_s / tokens;
        let is_flash = if drives > 0.0 { model.parameters } else { 0.0 };
        let written_per_s = steps_per_s * (moved.written * is_flash);
        let moved_per_s = steps_per_s * (moved.bytes() * is_flash);
        let held = machine.drive_bytes * drives;
        let drives_price = held * machine.price_per_byte;
        let machine_price = machine.accelerator.price * accelerators;
        let power = machine.accelerator.power_w * accelerators
            + moved_per_s * machine.energy_j_per_bit * 8.0;
        let by_age = drives_price / costs.used_s;
        let by_wear = written_per_s / machine.endurance * machine.price_per_byte;
        let per_s = machine_price / costs.used_s
            + power * costs.overhead * costs.electricity
            + by_age.max(by_wear);
        let year = 365.25 * 86_400.0;
        Contender {
            name: name.to_owned(),
            accelerators,
            drives,
            tokens_per_s,
            price: machine_price + drives_price,
            drives_last_years: (moved.written * is_flash > 0.0)
                .then(|| held * machine.endurance / written_per_s / year),
            dollars_per_billion: per_s / tokens_per_s * BILLION,
        }
    };
    Ok(cases.map(contender).into())
}

/// What money and energy cost.
struct Costs {
    electricity: Interval,
    overhead: Interval,
    /// Seconds in which a machine earns its price.
    used_s: Interval,
}
