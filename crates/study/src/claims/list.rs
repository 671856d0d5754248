//! All claims in their order, and what they share. Each takes its numbers from
//! the data sheets.

use super::loops::{amplifiers, conveyor, fiber_price, growth, in_flight, keeping};
use super::rivals::{dram_price, flash, hollow, trap, vacuum};
use super::{Claim, ClaimError, Finding};
use crate::datasheet::Library;
use crate::interval::Interval;
use crate::media::{Need, Sized, Unit, size, unit};

/// What decides how much the article's loop holds, and how fast it is.
pub(super) const HELD: &[&str] = &[
    "article.rate",
    "article.length",
    "smf.group_index",
    "smf.cores",
];
/// What decides what it draws.
pub(super) const POWER: &[&str] = &[
    "zr400.energy",
    "article.rate",
    "smf.cores",
    "article.regenerations",
    "edfa.power",
    "article.sites",
    "article.amplifiers_per_site",
];
/// What decides what it costs.
pub(super) const PRICE: &[&str] = &[
    "zr400.price",
    "article.rate",
    "smf.cores",
    "article.regenerations",
    "edfa.price",
    "article.sites",
    "article.amplifiers_per_site",
    "smf.price",
    "article.length",
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
pub(super) fn paths(groups: &[&[&str]]) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for path in groups.iter().copied().flatten() {
        if !all.iter().any(|other| other == path) {
            all.push((*path).to_owned());
        }
    }
    all
}

pub(super) fn value(library: &Library, path: &str) -> Result<Interval, ClaimError> {
    Ok(library.figure(path)?.value)
}

pub(super) fn typical(library: &Library, path: &str) -> Option<f64> {
    Some(library.figure(path).ok()?.value.typical)
}

pub(super) fn article(library: &Library) -> Result<Unit, ClaimError> {
    Ok(unit(library, "article")?)
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
