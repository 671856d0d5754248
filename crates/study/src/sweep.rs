//! Decoding over ranges of parameters, in parallel, as rows of CSV.

use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;
use thiserror::Error;

use crate::datasheet::Library;
use crate::decode::{CaseOptions, DecodeError, Decoded, decode};
pub use report::report;

use crate::setting::{Setting, SettingError, VALUES_MAX};

/// Maximum number of rows of a sweep.
const ROWS_MAX: usize = VALUES_MAX;

/// Why a sweep cannot be made.
#[derive(Debug, Error)]
pub enum SweepError {
    /// A figure or parameter that cannot be set so.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// Two columns of one name.
    #[error("{0} is set twice: give all its values at once, as {0}=A,B,C")]
    Twice(String),
    /// Too many combinations.
    #[error("these settings make {0} combinations; at most {ROWS_MAX} are run at once")]
    TooMany(usize),
    /// Every row fails, and all alike.
    #[error("no row has an answer: {0}")]
    Nowhere(String),
    /// A column whose values make no difference.
    #[error("{0} changes no figure of any row: leave it out, or set what the case depends on")]
    Idle(String),
    /// Stopped from outside.
    #[error("stopped")]
    Stopped,
}

/// Names of the base case.
#[derive(Clone, Debug, PartialEq)]
pub struct Base {
    /// Id of the model.
    pub model: String,
    /// Id of the accelerator.
    pub accelerator: String,
    /// Id of the medium, or `own`.
    pub medium: String,
    /// The batch, unless it is set.
    pub batch: u32,
}

/// The columns of the results, behind those of the settings.
pub const COLUMNS: [&str; 16] = [
    "units",
    "lap_s",
    "lap_low_s",
    "lap_high_s",
    "roofline_s",
    "limit",
    "stall_share",
    "passing_bytes",
    "needed_share",
    "tokens_per_s",
    "total_tokens_per_s",
    "joules_per_token",
    "dollars_per_million_tokens",
    "medium_w",
    "medium_dollars",
    "error",
];

/// All combinations of `settings`, in order, as CSV with a line of heads. A
/// combination that has no answer says why in its last column. `done` is called
/// after each, from any thread; when `stop` becomes true, the rest is left.
///
/// # Errors
/// [`SweepError`] when a setting names no parameter or a value that it cannot
/// have, before anything is run; [`SweepError::Stopped`].
pub fn sweep(
    library: &Library,
    ask: &CaseOptions,
    base: &Base,
    settings: &[Setting],
    stop: &AtomicBool,
    done: impl Fn() + Sync,
) -> Result<String, SweepError> {
    let rows = rows(settings)?;
    let (mut tried, mut tried_ask) = (library.clone(), ask.clone());
    for (index, setting) in settings.iter().enumerate() {
        let same = |other: &Setting| other.name == setting.name;
        if settings[..index].iter().any(same) {
            return Err(SweepError::Twice(setting.name.clone()));
        }
        for value in 0..setting.values.len() {
            setting.apply(value, &mut tried, &mut tried_ask)?;
        }
    }
    let results: Vec<Option<(String, Option<String>)>> = (0..rows)
        .into_par_iter()
        .map(|row| {
            if stop.load(Ordering::Relaxed) {
                return None;
            }
            let result = run(library, ask, base, settings, &combination(settings, row));
            done();
            let line = line(&result);
            Some((line, result.err().map(|error| error.to_string())))
        })
        .collect();
    let results: Option<Vec<_>> = results.into_iter().collect();
    let results = results.ok_or(SweepError::Stopped)?;
    let (results, errors): (Vec<String>, Vec<Option<String>>) = results.into_iter().unzip();
    if let Some(Some(error)) = errors.first()
        && errors.len() > 1
        && errors.iter().all(|other| other.as_ref() == Some(error))
    {
        return Err(SweepError::Nowhere(error.clone()));
    }
    if let Some(idle) = idle(settings, &results, || {
        line(&run(library, ask, base, &[], &[]))
    }) {
        return Err(SweepError::Idle(idle.name.clone()));
    }
    let head = |setting: &Setting| match setting.unit.as_str() {
        "" => field(&setting.name),
        unit => field(&format!("{} [{unit}]", setting.name)),
    };
    let heads = settings.iter().map(head);
    let heads: Vec<String> = heads.chain(COLUMNS.map(str::to_owned)).collect();
    let mut csv = heads.join(",") + "\n";
    for (row, result) in results.iter().enumerate() {
        let values = combination(settings, row);
        let values = settings
            .iter()
            .zip(values)
            .map(|(setting, index)| setting.values[index]);
        let values: String = values.map(|value| format!("{value},")).collect();
        csv += &format!("{values}{result}\n");
    }
    Ok(csv)
}

/// A setting whose values, all others being equal, make no difference to any row; one of a
/// single value is compared with what there is without settings.
fn idle<'a>(
    settings: &'a [Setting],
    results: &[String],
    plain: impl Fn() -> String,
) -> Option<&'a Setting> {
    let mut behind = results.len();
    let several = settings.iter().find(|setting| {
        let count = setting.values.len();
        behind /= count.max(1);
        let step = behind;
        // The row in which this setting alone has its first value.
        let first = |row: usize| row - row / step % count * step;
        count > 1 && (0..results.len()).all(|row| results[row] == results[first(row)])
    });
    match settings {
        [only] if only.values.len() == 1 => (results.first() == Some(&plain())).then_some(only),
        _ => several,
    }
}

/// Which row of a sweep's CSV gives each sequence most, the first of several that do; none
/// where no row has an answer.
pub fn best_row(csv: &str) -> Option<usize> {
    let mut lines = csv.lines();
    let column = lines
        .next()?
        .split(',')
        .position(|head| head == "tokens_per_s")?;
    let values = lines.enumerate().filter_map(|(row, line)| {
        let value: f64 = line.split(',').nth(column)?.parse().ok()?;
        Some((row, value))
    });
    let better = |best: (usize, f64), next: (usize, f64)| if next.1 > best.1 { next } else { best };
    values.reduce(better).map(|(row, _)| row)
}

/// Sets what a row of a sweep has, and gives its batch, if that is among it.
///
/// # Errors
/// [`SettingError`] when it cannot be.
pub fn set_row(
    settings: &[Setting],
    row: usize,
    library: &mut Library,
    ask: &mut CaseOptions,
) -> Result<Option<u32>, SettingError> {
    let mut batch = None;
    for (setting, index) in settings.iter().zip(combination(settings, row)) {
        batch = setting.apply(index, library, ask)?.or(batch);
    }
    Ok(batch)
}

/// How many combinations there are.
///
/// # Errors
/// [`SweepError::TooMany`].
pub fn rows(settings: &[Setting]) -> Result<usize, SweepError> {
    let count = settings.iter().try_fold(1usize, |count, setting| {
        count.checked_mul(setting.values.len())
    });
    match count {
        Some(count) if count <= ROWS_MAX => Ok(count),
        count => Err(SweepError::TooMany(count.unwrap_or(usize::MAX))),
    }
}

/// Which value each setting has in the combination `row`; the last changes fastest.
fn combination(settings: &[Setting], row: usize) -> Vec<usize> {
    let mut rest = row;
    let of = |setting: &Setting| {
        let index = rest % setting.values.len();
        rest /= setting.values.len();
        index
    };
    let mut values: Vec<usize> = settings.iter().rev().map(of).collect();
    values.reverse();
    values
}

fn run(
    library: &Library,
    ask: &CaseOptions,
    base: &Base,
    settings: &[Setting],
    values: &[usize],
) -> Result<Decoded, DecodeError> {
    let (mut library, mut ask, mut batch) = (library.clone(), ask.clone(), base.batch);
    for (setting, &value) in settings.iter().zip(values) {
        // Each was tried before.
        if let Ok(Some(set)) = setting.apply(value, &mut library, &mut ask) {
            batch = set;
        }
    }
    let case = ask.case(
        &library,
        &base.model,
        &base.accelerator,
        &base.medium,
        batch,
    )?;
    decode(&library, &case)
}

fn line(result: &Result<Decoded, DecodeError>) -> String {
    let mut fields: Vec<String> = Vec::new();
    match result {
        Ok(d) => {
            let limit = serde_json::to_value(d.limit).unwrap_or_default();
            let numbers = [
                d.medium.units.typical,
                d.lap_s.typical,
                d.lap_s.low,
                d.lap_s.high,
                d.roofline.lap_s(),
            ];
            fields.extend(numbers.map(|number| number.to_string()));
            fields.push(limit.as_str().unwrap_or_default().to_owned());
            // What is known in part only has no number here.
            let known = |parts: &[&str], number: f64| {
                let lacks = d.unknown.iter().any(|part| parts.contains(part));
                (!lacks).then_some(number)
            };
            let numbers = [
                Some(d.stall_share),
                Some(d.passing_bytes),
                Some(d.needed_share),
                Some(d.tokens_per_s.typical),
                Some(d.total_tokens_per_s.typical),
                known(&["power"], d.joules_per_token.typical),
                known(&["power", "price"], d.dollars_per_million.typical),
                Some(d.medium_w.typical),
                Some(d.medium.price.typical),
            ];
            let text = |number: f64| number.to_string();
            fields.extend(numbers.map(|number| number.map_or_else(String::new, text)));
            fields.push(String::new());
        }
        Err(error) => {
            fields.extend((0..COLUMNS.len() - 1).map(|_| String::new()));
            fields.push(field(&error.to_string()));
        }
    }
    fields.join(",")
}

/// A field that cannot be taken for several (RFC 4180).
fn field(text: &str) -> String {
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

mod report;
#[cfg(test)]
mod tests;
