//! What was said about the idea, answered with numbers: each claim is computed from the data
//! sheets and judged, and for each input the value is found at which the verdict would change.
//! No figure is in the code.

mod about;
mod list;
mod loops;
mod passive;
mod report;
mod rivals;
#[cfg(test)]
mod tests;
mod training;

use serde::Serialize;

use crate::datasheet::{Library, SheetError};
use crate::decode::DecodeError;
use crate::interval::Interval;
use crate::media::MediaError;
use crate::train::TrainError;
use thiserror::Error;

pub use about::about;
pub use list::all;
pub use report::report;

/// Whether a claim is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Over the whole range of the inputs.
    Holds,
    /// Nowhere in the range of the inputs.
    Fails,
    /// For some values of the inputs and not for others.
    Depends,
}

/// One computed number of a claim.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// What it is.
    pub what: String,
    /// In base units.
    pub value: Interval,
    /// The base unit; `$` for dollars, empty for plain numbers, `%` for shares
    /// of 1.
    pub unit: &'static str,
}

/// Where a verdict would turn.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Turn {
    /// The input that would have to change, `sheet.key`.
    pub input: String,
    /// What it is now, in `unit`.
    pub now: Interval,
    /// What would be so from there on.
    pub so_that: String,
    /// What it would have to be, in `unit`; `None` if no possible value of it
    /// alone turns the verdict.
    pub at: Option<f64>,
    /// As on the data sheet.
    pub unit: String,
}

/// A claim and its answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Claim {
    /// As in the list of claims.
    pub number: u32,
    /// What was said.
    pub said: String,
    /// The numbers that were said, if there were some.
    pub numbers_said: Vec<Finding>,
    /// What the data sheets give.
    pub computed: Vec<Finding>,
    /// Whether it is right.
    pub verdict: Verdict,
    /// Why, in a sentence.
    pub because: String,
    /// Where the verdict would turn.
    pub turns: Vec<Turn>,
    /// The figures that decide it, `sheet.key`.
    pub inputs: Vec<String>,
}

/// Why a claim has no answer: a data sheet lacks what it takes.
#[derive(Debug, Error)]
pub enum ClaimError {
    /// Claims are about loops.
    #[error("`{id}` is no loop: claims are about loops, such as {expected}")]
    NoLoop {
        /// What was named.
        id: String,
        /// The loops that there are.
        expected: String,
    },
    /// A sheet or figure.
    #[error(transparent)]
    Sheet(#[from] SheetError),
    /// A medium.
    #[error(transparent)]
    Media(#[from] MediaError),
    /// A model on a medium.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A machine that trains.
    #[error(transparent)]
    Train(#[from] TrainError),
}

/// Whether `left` is less than `right`, over the whole range of both.
pub fn less(left: Interval, right: Interval) -> Verdict {
    if left.high < right.low {
        Verdict::Holds
    } else if left.low >= right.high {
        Verdict::Fails
    } else {
        Verdict::Depends
    }
}

impl Verdict {
    /// Both together.
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Holds, Self::Holds) => Self::Holds,
            (Self::Fails, _) | (_, Self::Fails) => Self::Fails,
            _ => Self::Depends,
        }
    }

    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Fails => "fails",
            Self::Depends => "depends",
        }
    }
}

/// Steps of the search over a figure's possible values, on each side.
const STEPS: i32 = 400;
/// By how much a step changes it: the search ends at e^12, 160,000 times more
/// or less.
const STEP: f64 = 0.03;
/// Bisection steps.
const HALVINGS: usize = 60;

/// The value of the figure `path` nearest to its present one at which `margin`
/// (of the typical values) changes its sign, all else as it is; `so_that` says
/// what that means.
///
/// # Errors
/// [`ClaimError`] when there is no such figure.
pub fn turn(
    library: &Library,
    path: &str,
    so_that: &str,
    margin: impl Fn(&Library) -> Option<f64>,
) -> Result<Turn, ClaimError> {
    let path = &list::path_of(library, path);
    let figure = library.figure(path)?.clone();
    let now = figure.written;
    let mut changed = library.clone();
    let mut at = |value: f64| {
        changed.set(path, Interval::exact(value)).ok()?;
        margin(&changed).filter(|margin| margin.is_finite())
    };
    let start = now.typical;
    let mut crosses = |a: f64, b: f64| Some(at(a)?.signum() != at(b)?.signum());
    let mut found = None;
    'search: for step in 0..STEPS {
        for sign in [1.0, -1.0] {
            // A figure below 0, a rate of decline, moves in the same way.
            let edge = |step: i32| start * (sign * STEP * f64::from(step)).exp();
            if crosses(edge(step), edge(step + 1)) == Some(true) {
                found = Some((edge(step), edge(step + 1)));
                break 'search;
            }
        }
    }
    let at = found.map(|(mut near, mut far)| {
        for _ in 0..HALVINGS {
            let middle = (near + far) / 2.0;
            match crosses(near, middle) {
                Some(true) => far = middle,
                _ => near = middle,
            }
        }
        (near + far) / 2.0
    });
    Ok(Turn {
        input: path.to_owned(),
        so_that: so_that.to_owned(),
        now,
        at,
        unit: figure.unit,
    })
}
