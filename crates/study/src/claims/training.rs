//! Claims 13 to 15, about training with weights and optimizer state on flash, after Behemoth.

use super::list::{finding, typical, value};
use super::{Claim, ClaimError, less, turn};
use crate::datasheet::Library;
use crate::interval::Interval;
use crate::report::format::{digits, percent};
use crate::train::{Recipe, TrainMachine};

/// What trains, and what holds what is trained.
const ACCELERATOR: &str = "b200";
const DRIVE: &str = "ssd";
/// Copies of weights and state on flash: one is read, the other written.
const COPIES: f64 = 2.0;

/// AdamW in fp32.
fn recipe() -> Recipe {
    Recipe::ALL[0]
}

/// The break-even batch of one accelerator with one drive, in tokens.
fn even(library: &Library) -> Result<Interval, ClaimError> {
    let machine = TrainMachine::of(library, ACCELERATOR, DRIVE)?;
    Ok(machine.break_even_tokens(&recipe(), 1.0))
}

pub fn batch(library: &Library) -> Result<Claim, ClaimError> {
    let even = even(library)?;
    let normal = value(library, "training.batch")?;
    let said = value(library, "said-behemoth.speed_ratio")?;
    let margin = |library: &Library| {
        let even = self::even(library).ok()?.typical;
        Some(typical(library, "training.batch")? - even)
    };
    let inputs = [
        "b200.compute",
        "training.utilisation",
        "training.batch",
        "ssd.rate",
        "ssd.write_rate",
        "said-behemoth.speed_ratio",
    ];
    Ok(Claim {
        number: 13,
        said: "From a normal batch on, training from flash is as fast as from memory".to_owned(),
        numbers_said: Vec::new(),
        computed: vec![
            finding("tokens a step from which on one drive keeps up", even, ""),
            finding("tokens of a normal step", normal, ""),
            finding(
                "tokens at which it is as much slower as was said",
                even / said,
                "",
            ),
        ],
        verdict: less(even, normal),
        because: format!(
            "a step moves {} bytes a parameter whatever its batch, and computes {} operations a \
             parameter and token: one drive beside one accelerator keeps up from {} tokens on",
            digits(recipe().moved(0.0).bytes()),
            digits(recipe().flop()),
            digits(even.typical)
        ),
        turns: vec![
            turn(
                library,
                "ssd.write_rate",
                "a normal batch just hides the drive",
                margin,
            )?,
            turn(
                library,
                "training.batch",
                "a normal batch just hides the drive",
                margin,
            )?,
        ],
        inputs: inputs.map(str::to_owned).into(),
    })
}

/// Seconds of a step on as many accelerators as hold everything: the model's size cancels.
fn step_s(library: &Library) -> Result<Interval, ClaimError> {
    let machine = TrainMachine::of(library, ACCELERATOR, DRIVE)?;
    let (memory, _) = machine.accelerator.home();
    let tokens = value(library, "training.batch")?;
    let operations = tokens * memory * (recipe().flop() / recipe().in_memory);
    Ok(operations / machine.flop_per_s())
}

/// What a step writes, of what a drive can take over its life: bytes a parameter.
fn worn(library: &Library) -> Result<Interval, ClaimError> {
    let written = Interval::exact(recipe().moved(0.0).written);
    Ok(written / value(library, "ssd.endurance")?)
}

/// Dollars a parameter: in memory, on flash that is replaced when it is worn out, and on
/// flash that never wears.
fn prices(library: &Library) -> Result<[Interval; 3], ClaimError> {
    let per_byte = value(library, "ssd.price")?;
    let memory = value(library, "hbm3e.price")? * recipe().in_memory;
    let held = Interval::exact(COPIES * recipe().held());
    let used_s = value(library, "economy.lifetime")? * value(library, "economy.utilisation")?;
    let steps = used_s / step_s(library)?;
    let bought = held.max(steps * worn(library)?);
    Ok([memory, bought * per_byte, held * per_byte])
}

pub fn price(library: &Library) -> Result<Claim, ClaimError> {
    let [memory, flash, unworn] = prices(library)?;
    let said = value(library, "said-behemoth.price_ratio")?;
    let margin = |library: &Library| {
        let [memory, flash, _] = prices(library).ok()?;
        Some(memory.typical - flash.typical)
    };
    let inputs = [
        "b200.compute",
        "b200.memory",
        "training.utilisation",
        "training.batch",
        "ssd.price",
        "ssd.endurance",
        "hbm3e.price",
        "economy.lifetime",
        "economy.utilisation",
        "said-behemoth.price_ratio",
    ];
    let ratio = "memory over flash";
    Ok(Claim {
        number: 14,
        said: "Flash holds weights and state for less than memory".to_owned(),
        numbers_said: vec![finding(ratio, said, "")],
        computed: vec![
            finding("memory for a billion parameters", memory * 1e9, "$"),
            finding("flash for them, replaced when worn out", flash * 1e9, "$"),
            finding("flash for them, if it did not wear", unworn * 1e9, "$"),
            finding(ratio, memory / flash, ""),
        ],
        verdict: less(flash, memory),
        because: format!(
            "two copies on flash cost {} of the memory; but at the pace of as many accelerators as \
             hold everything the drives are written over so often that flash costs {} times the \
             memory: endurance decides",
            percent(unworn.typical / memory.typical),
            digits(flash.typical / memory.typical)
        ),
        turns: vec![
            turn(
                library,
                "ssd.endurance",
                "flash and memory cost the same",
                margin,
            )?,
            turn(
                library,
                "training.batch",
                "flash and memory cost the same",
                margin,
            )?,
            turn(
                library,
                "hbm3e.price",
                "flash and memory cost the same",
                margin,
            )?,
        ],
        inputs: inputs.map(str::to_owned).into(),
    })
}

/// Seconds until drives that hold two copies and no more are worn out.
fn life_s(library: &Library) -> Result<Interval, ClaimError> {
    let copies = Interval::exact(COPIES * recipe().held());
    Ok(copies / worn(library)? * step_s(library)?)
}

pub fn wear(library: &Library) -> Result<Claim, ClaimError> {
    let life = life_s(library)?;
    let planned = value(library, "economy.lifetime")?;
    let margin = |library: &Library| {
        Some(typical(library, "economy.lifetime")? - life_s(library).ok()?.typical)
    };
    let inputs = [
        "b200.compute",
        "b200.memory",
        "training.utilisation",
        "training.batch",
        "ssd.endurance",
        "economy.lifetime",
    ];
    let day = 86_400.0;
    Ok(Claim {
        number: 15,
        said: "Training wears flash out before it is old".to_owned(),
        numbers_said: Vec::new(),
        computed: vec![
            finding(
                "days until drives with two copies are worn out",
                life / day,
                "",
            ),
            finding("days until they would be old", planned / day, ""),
            finding("a step", step_s(library)?, "s"),
        ],
        verdict: less(life, planned),
        because: "each step writes weights and state once, and what fits is written over once in \
                  two steps: larger drives, larger batches and fewer accelerators last longer"
            .to_owned(),
        turns: vec![turn(
            library,
            "ssd.endurance",
            "they last as long as the machine",
            margin,
        )?],
        inputs: inputs.map(str::to_owned).into(),
    })
}
