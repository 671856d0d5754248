//! All claims in their order, and what they share.

use super::loops::{amplifiers, conveyor, fiber_price, growth, in_flight, keeping};
use super::passive::passive;
use super::rivals::{dram_price, flash, hollow, trap, vacuum};
use super::training;
use super::{Claim, ClaimError, Finding};
use crate::datasheet::Library;
use crate::interval::Interval;
use crate::media::{Need, Sized, Unit, size, unit};

/// The loop that the claims are about: as it was said, or another in its place.
pub(super) const LOOP: &str = "said-loop";

/// What decides how much the loop holds, and how fast it is.
pub(super) const HELD: &[&str] = &[
    "loop.rate",
    "loop.length",
    "fiber.group_index",
    "fiber.cores",
];
/// What decides what it draws.
pub(super) const POWER: &[&str] = &[
    "transceiver.energy",
    "loop.rate",
    "fiber.cores",
    "loop.regenerations",
    "amplifier.power",
    "loop.sites",
    "loop.amplifiers_per_site",
];
/// What decides what it costs.
pub(super) const PRICE: &[&str] = &[
    "transceiver.price",
    "loop.rate",
    "fiber.cores",
    "loop.regenerations",
    "amplifier.price",
    "loop.sites",
    "loop.amplifiers_per_site",
    "fiber.price",
    "loop.length",
];

/// All claims with their answers.
///
/// # Errors
/// [`ClaimError`] when a data sheet lacks what one takes.
pub fn all(library: &Library) -> Result<Vec<Claim>, ClaimError> {
    [
        in_flight,
        keeping,
        fiber_price,
        amplifiers,
        conveyor,
        growth,
        flash,
        hollow,
        trap,
        vacuum,
        dram_price,
        passive,
        training::batch,
        training::price,
        training::wear,
    ]
    .into_iter()
    .map(|claim| claim(library))
    .collect()
}

pub(super) fn finding(what: &str, value: Interval, unit: &'static str) -> Finding {
    Finding {
        what: what.to_owned(),
        value,
        unit,
    }
}

/// All paths of all groups, each once.
pub(super) fn paths(library: &Library, groups: &[&[&str]]) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for path in groups.iter().copied().flatten() {
        let path = path_of(library, path);
        if !all.contains(&path) {
            all.push(path);
        }
    }
    all
}

/// A figure's path, where `loop`, `fiber`, `transceiver` and `amplifier` stand for the
/// sheets of the loop and what it is made of.
pub(super) fn path_of(library: &Library, path: &str) -> String {
    let (id, key) = path.split_once('.').unwrap_or((path, ""));
    let sheet = library.any(LOOP).ok();
    match (id, sheet.and_then(|sheet| sheet.references.get(id))) {
        ("loop", _) => format!("{LOOP}.{key}"),
        (_, Some(part)) => format!("{part}.{key}"),
        _ => path.to_owned(),
    }
}

pub(super) fn value(library: &Library, path: &str) -> Result<Interval, ClaimError> {
    Ok(library.figure(&path_of(library, path))?.value)
}

pub(super) fn typical(library: &Library, path: &str) -> Option<f64> {
    Some(value(library, path).ok()?.typical)
}

pub(super) fn article(library: &Library) -> Result<Unit, ClaimError> {
    Ok(unit(library, LOOP)?)
}

/// What the article's loop holds and delivers, as a need for its rivals.
pub(super) fn articles_need(library: &Library) -> Result<Need, ClaimError> {
    let unit = article(library)?;
    Ok(Need {
        bytes: unit.capacity_bytes.typical,
        rate_bytes_per_s: unit.rate_bytes_per_s.typical,
    })
}

pub(super) fn rival(library: &Library, id: &str) -> Result<Sized, ClaimError> {
    Ok(size(library, id, articles_need(library)?)?)
}

pub(super) fn unit_of(library: &Library, id: &str) -> Option<Unit> {
    unit(library, id).ok()
}
