//! Decoding over ranges of parameters, in parallel, as rows for a spreadsheet.
//! Knows which parameters there are; does not know files or terminals.

use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;
use thiserror::Error;

use crate::datasheet::{Library, SheetError};
use crate::decode::{CaseOptions, DecodeError, Decoded, decode};
use crate::interval::Interval;
use crate::report::format::plain;

/// A parameter and the values that it takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// `sheet.key` of a figure, or `batch`, `context`, `units`, `accelerators`,
    /// `feed`, `window`, `resident`.
    pub name: String,
    /// In the unit of the data sheet; bytes and bytes per second for the others.
    pub values: Vec<f64>,
}

/// Parameters that are not figures of a data sheet.
const OWN: [&str; 7] = [
    "batch",
    "context",
    "units",
    "accelerators",
    "feed",
    "window",
    "resident",
];
/// Largest value of a parameter in bytes or bytes per second.
const BYTES_MAX: f64 = 1e18;
/// Maximum number of rows of a sweep.
const ROWS_MAX: usize = 1_000_000;

/// Why a sweep cannot be made.
#[derive(Debug, Error)]
pub enum SweepError {
    /// A setting that cannot be read.
    #[error(
        "`{0}` sets nothing: expected NAME=VALUE, NAME=A,B,C, NAME=FROM..TO:COUNT or \
         NAME=FROM..TO:COUNT:log, such as article.length=10..1000:21:log"
    )]
    Setting(String),
    /// A whole number was asked for.
    #[error("{name} is {value}, but must be a whole number from {least} to 4294967295")]
    Whole {
        /// Which parameter.
        name: String,
        /// What it was.
        value: f64,
        /// The least that it may be.
        least: u32,
    },
    /// Bytes, or bytes per second, out of range.
    #[error("{name} is {}, but must be from 0 to {}", plain(*value), plain(BYTES_MAX))]
    Bytes {
        /// Which parameter.
        name: String,
        /// What it was.
        value: f64,
    },
    /// Two columns of one name.
    #[error("{0} is set twice: give all its values at once, as {0}=A,B,C")]
    Twice(String),
    /// Too many combinations.
    #[error("these settings make {0} combinations; at most {ROWS_MAX} are run at once")]
    TooMany(usize),
    /// A parameter that there is not.
    #[error("{0}; or one of {own}", own = OWN.join(", "))]
    Unknown(SheetError),
    /// A value that a figure cannot have.
    #[error(transparent)]
    Sheet(#[from] SheetError),
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

impl FromStr for Setting {
    type Err = SweepError;

    fn from_str(text: &str) -> Result<Self, SweepError> {
        let fail = || SweepError::Setting(text.to_owned());
        let (name, values) = text.split_once('=').ok_or_else(fail)?;
        let name = name.trim();
        if name.is_empty() {
            return Err(fail());
        }
        let values = parse_values(values.trim()).ok_or_else(fail)?;
        Ok(Self {
            name: name.to_owned(),
            values,
        })
    }
}

fn parse_values(text: &str) -> Option<Vec<f64>> {
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|n| n.is_finite());
    let Some((from, rest)) = text.split_once("..") else {
        return text.split(',').map(number).collect();
    };
    let mut parts = rest.split(':');
    let (from, to) = (number(from)?, number(parts.next()?)?);
    let count: usize = parts
        .next()?
        .trim()
        .parse()
        .ok()
        .filter(|n| (2..=ROWS_MAX).contains(n))?;
    let log = match parts.next() {
        None => false,
        Some("log") => true,
        Some(_) => return None,
    };
    if parts.next().is_some() || (log && (from <= 0.0 || to <= 0.0)) {
        return None;
    }
    let at = |n: usize| n as f64 / (count - 1) as f64;
    let value = |n| match log {
        true => from * (to / from).powf(at(n)),
        false => from + (to - from) * at(n),
    };
    Some((0..count).map(value).collect())
}

/// Sets `library` and `ask`, and gives the batch, if it is set.
///
/// # Errors
/// [`SweepError`] when there is no such parameter or it cannot be that.
pub fn apply(
    library: &mut Library,
    ask: &mut CaseOptions,
    name: &str,
    value: f64,
) -> Result<Option<u32>, SweepError> {
    let whole = |least: u32| match value {
        v if v.fract() == 0.0 && (f64::from(least)..=f64::from(u32::MAX)).contains(&v) => {
            Ok(v as u32)
        }
        _ => Err(SweepError::Whole {
            name: name.to_owned(),
            value,
            least,
        }),
    };
    let bytes = || match value {
        v if (0.0..=BYTES_MAX).contains(&v) => Ok(v),
        _ => Err(SweepError::Bytes {
            name: name.to_owned(),
            value,
        }),
    };
    match name {
        "batch" => return whole(1).map(Some),
        "context" => ask.context = whole(0)?,
        "units" => ask.units = whole(0)?,
        "accelerators" => ask.accelerators = whole(0)?,
        "feed" => ask.feed_bytes_per_s = bytes()?,
        "window" => ask.window_bytes = Some(bytes()? as u64),
        "resident" => ask.resident_bytes = bytes()? as u64,
        _ => {
            library.figure(name).map_err(SweepError::Unknown)?;
            library.set(name, Interval::exact(value))?;
        }
    }
    Ok(None)
}

/// The columns of the results, behind those of the settings.
const COLUMNS: [&str; 16] = [
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
        if settings[..index]
            .iter()
            .any(|other| other.name == setting.name)
        {
            return Err(SweepError::Twice(setting.name.clone()));
        }
        for &value in &setting.values {
            apply(&mut tried, &mut tried_ask, &setting.name, value)?;
        }
    }
    let lines: Vec<Option<String>> = (0..rows)
        .into_par_iter()
        .map(|row| {
            if stop.load(Ordering::Relaxed) {
                return None;
            }
            let values = combination(settings, row);
            let result = run(library, ask, base, settings, &values);
            done();
            Some(line(&values, &result))
        })
        .collect();
    let heads = settings.iter().map(|setting| field(&setting.name));
    let heads: Vec<String> = heads.chain(COLUMNS.map(str::to_owned)).collect();
    let mut csv = heads.join(",") + "\n";
    for line in lines {
        csv += &line.ok_or(SweepError::Stopped)?;
        csv.push('\n');
    }
    Ok(csv)
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

/// The values of the combination `row`; the last setting changes fastest.
fn combination(settings: &[Setting], row: usize) -> Vec<f64> {
    let mut rest = row;
    let mut values: Vec<f64> = settings
        .iter()
        .rev()
        .map(|setting| {
            let index = rest % setting.values.len();
            rest /= setting.values.len();
            setting.values[index]
        })
        .collect();
    values.reverse();
    values
}

fn run(
    library: &Library,
    ask: &CaseOptions,
    base: &Base,
    settings: &[Setting],
    values: &[f64],
) -> Result<Decoded, DecodeError> {
    let (mut library, mut ask, mut batch) = (library.clone(), ask.clone(), base.batch);
    for (setting, &value) in settings.iter().zip(values) {
        // Each was tried before.
        if let Ok(Some(set)) = apply(&mut library, &mut ask, &setting.name, value) {
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

fn line(values: &[f64], result: &Result<Decoded, DecodeError>) -> String {
    let mut fields: Vec<String> = values.iter().map(ToString::to_string).collect();
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
            let numbers = [
                d.stall_share,
                d.passing_bytes,
                d.needed_share,
                d.tokens_per_s.typical,
                d.total_tokens_per_s.typical,
                d.joules_per_token.typical,
                d.dollars_per_million.typical,
                d.medium_w.typical,
                d.medium.price.typical,
            ];
            fields.extend(numbers.map(|number| number.to_string()));
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

#[cfg(test)]
mod tests;
