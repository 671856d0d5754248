//! `fiber:`: a loop by its parameters, or by the name of a preset or design. The ranges of
//! its parameters are the fiber crate's, the optics of a design the study's.

mod presets;
#[cfg(test)]
mod tests;
mod words;

use std::any::Any;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use delayline_fiber::{
    LoopFigures, LoopMaker, LoopSpec, Order, PlacedLoop, Quantity, SpecBuilder, SpecError,
};
use delayline_study::link::Optics;

use super::{MediumArg, MediumFigures, MediumKind, MediumTold, Pairs};
use crate::run::show_filling;

use self::presets::PresetSource;
use self::words::{Light, LoopLines, Placement};

pub(super) const KIND: MediumKind = MediumKind {
    name: "fiber",
    examples: || {
        let names = presets::names();
        format!("fiber:length=10000km,rate=20Gbit/s, fiber:NAME with one of {names}")
    },
    parse,
    told,
};

/// Parameters besides those of the loop: how it is used, and which design it is of.
const OURS: [&str; 7] = [
    "split", "order", "compute", "copies", "preset", "design", "laps",
];

fn parse(pairs: Pairs, folder: &Path) -> Result<MediumArg> {
    let (fiber, optics) = from_pairs(pairs, folder)?;
    let maker = LoopMaker {
        progress: Some(show_filling),
        ..fiber
    };
    Ok(MediumArg {
        maker: Some(Arc::new(maker)),
        before: optics.map(|optics| Light(&optics).to_string()),
        is_held_in_memory: true,
        ..MediumArg::default()
    })
}

fn told(made: &dyn Any) -> Option<MediumTold> {
    let placed: &PlacedLoop = made.downcast_ref()?;
    let gauge = placed.gauge();
    let notices = move || gauge.take_notices().iter().map(|n| n.to_string()).collect();
    Some(MediumTold {
        before: Some(Placement(placed).to_string()),
        figures: figures(&placed.figures()),
        notices: Box::new(notices),
    })
}

fn figures(figures: &LoopFigures) -> MediumFigures {
    let (source, allows) = match figures.is_split() {
        true if figures.pieces == 0 => ("drive", "fiber and drive allow"),
        true => ("fiber and the drive", "fiber and drive allow"),
        false if figures.pieces == 0 => ("drive", "the fiber allows"),
        false => ("fiber", "the fiber allows"),
    };
    MediumFigures {
        kind: KIND.name.into(),
        source: source.into(),
        allows: allows.into(),
        lines: LoopLines(figures).to_string(),
        held_bytes: figures.placed_bytes,
        turn_s: figures.turn_s,
        rate_bytes_per_s: Some(figures.net_rate_bytes_per_s),
        is_split: figures.is_split(),
        details: serde_json::to_value(figures).unwrap_or_default(),
    }
}

/// A loop from parameters, and the optics of its design, if it is of one. Names of files
/// are relative to `folder`.
fn from_pairs(pairs: Pairs, folder: &Path) -> Result<(LoopMaker, Option<Optics>)> {
    let mut fiber = LoopMaker::new(LoopSpec::new(f64::NAN, f64::NAN));
    let mut source = PresetSource::default();
    let mut given = Vec::new();
    for (key, value) in pairs {
        if !use_of(&mut fiber, &key, &value)? && !source.set(&key, &value, folder)? {
            given.push((key, value));
        }
    }
    // By themselves first, so that a wrong one is reported before any optics are computed.
    let alone = with(SpecBuilder::new(), &given)?;
    let (base, optics) = source.light(alone)?;
    fiber.spec = with(base, &given)?.build()?;
    Ok((fiber, optics))
}

/// Sets the loop's own parameters.
fn with(mut builder: SpecBuilder, given: &[(String, String)]) -> Result<SpecBuilder> {
    for (key, value) in given {
        match builder.set(key, value) {
            Err(SpecError::UnknownKey { key, known }) => {
                let known = format!("{known}, {}", OURS.join(", "));
                return Err(SpecError::UnknownKey { key, known }.into());
            }
            other => other?,
        }
    }
    Ok(builder)
}

/// Sets a parameter of how the loop is used; false if the key is not one of them.
fn use_of(fiber: &mut LoopMaker, key: &str, value: &str) -> Result<bool, SpecError> {
    match key {
        "split" => {
            fiber.split = match value {
                "yes" | "true" => true,
                "no" | "false" => false,
                _ => return Err(wrong(key, value, "yes or no")),
            }
        }
        "order" => {
            fiber.order = match value {
                "optimum" => Order::Optimum,
                "plain" => Order::Plain,
                _ => return Err(wrong(key, value, "optimum or plain")),
            }
        }
        "compute" => {
            let seconds = Quantity::Time.parse(value);
            let seconds = seconds.filter(|s| (1e-9..=1e6).contains(s));
            let expected = "the time of a decoding lap, 1ns to 1000000s";
            fiber.compute_s = Some(seconds.ok_or_else(|| wrong(key, value, expected))?);
        }
        "copies" => {
            let copies = value.parse().ok().filter(|&copies: &u32| copies > 0);
            let expected = "a whole number from 1: how often the weights circulate";
            fiber.copies = Some(copies.ok_or_else(|| wrong(key, value, expected))?);
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn wrong(key: &str, value: &str, expected: &str) -> SpecError {
    SpecError::Value {
        key: key.into(),
        value: value.into(),
        expected: expected.into(),
    }
}
