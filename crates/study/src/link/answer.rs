//! The answer to `study link`: the line with typical figures, and what becomes
//! of it when every figure is at its worst or at its best.

use rayon::prelude::*;
use serde::Serialize;
use thiserror::Error as ThisError;

use super::carried::{Carried, carried_with_channels};
use super::cost::{Cost, cost};
use super::design::{Design, SpanDesign};
use super::resolve::line;
use crate::datasheet::{Library, SheetError, SheetKind};
use crate::interval::{Corner, Interval};
use crate::optics;
use crate::optics::lap::delay_s;
use crate::optics::link::LineReport;

/// Why there is no answer.
#[derive(Debug, ThisError)]
pub enum Error {
    /// The design.
    #[error(transparent)]
    Design(#[from] optics::Error),
    /// The data sheets.
    #[error(transparent)]
    Sheet(#[from] SheetError),
}

/// Everything there is to say of a design.
#[derive(Clone, Debug, Serialize)]
pub struct Answer {
    /// The design, defaults filled in.
    pub design: Design,
    /// Net rate in bit/s.
    pub net_rate_bit_per_s: Interval,
    /// Time of a lap.
    pub delay_s: Interval,
    /// Bytes under way.
    pub bytes_in_flight: Interval,
    /// Laps before the first lit channel fails. The formats are chosen anew for
    /// each corner: a better line may carry more and go fewer laps.
    pub laps_before_regeneration: Interval,
    /// Mean over the channels of their SNR in dB.
    pub mean_snr_db: Interval,
    /// Watts and dollars of the typical line.
    pub cost: Cost,
    /// What is beyond the models, and which corner of the figures does not work.
    pub marks: Vec<String>,
    /// The line with typical figures.
    pub typical: LineReport,
}

/// A design's line with typical figures, and at those ends of their ranges at which it
/// works.
pub(super) struct Solved {
    pub typical: LineReport,
    ends: Vec<LineReport>,
    failed: Vec<String>,
}

impl Solved {
    pub(super) fn carried(&self) -> Carried {
        Carried::of(&self.typical, &self.ends, self.failed.clone())
    }
}

/// Solves a design at each corner. One whose figures are all at their worst need not
/// work: then that is said, and the rest goes on.
pub(super) fn solved(design: &Design, library: &Library) -> Result<Solved, Error> {
    let solve = |corner: &Corner| Ok(line(design, library, *corner)?.solve()?);
    let corners = library.corners();
    let reports: Vec<Result<LineReport, Error>> = corners.par_iter().map(solve).collect();
    let mut solved: Vec<(Corner, Result<LineReport, Error>)> =
        corners.iter().copied().zip(reports).collect();
    let middle = solved
        .iter()
        .position(|(corner, _)| *corner == Corner::Typical);
    let (_, typical) = solved.remove(middle.expect("one corner is the typical one"));
    let typical = typical?;
    let (mut ends, mut failed) = (Vec::new(), Vec::new());
    for (corner, report) in solved {
        let figures = match corner {
            Corner::Best => "best",
            _ => "worst",
        };
        let why = match report {
            Ok(report) if report.net_rate_bit_per_s > 0.0 || typical.net_rate_bit_per_s <= 0.0 => {
                ends.push(report);
                continue;
            }
            Ok(_) => "no channel carries data".to_owned(),
            Err(Error::Design(error)) => error.to_string(),
            Err(error) => return Err(error),
        };
        failed.push(format!(
            "With all figures at their {figures} the line does not work, and the ranges leave \
             that out: {why}."
        ));
    }
    Ok(Solved {
        typical,
        ends,
        failed,
    })
}

/// Solves a design with the sheets' figures at their typical values, and at both
/// ends of their ranges.
///
/// # Errors
/// [`Error`], naming key, value and what is accepted.
pub fn answer(design: &Design, library: &Library) -> Result<Answer, Error> {
    let (carried, typical) = carried_with_channels(design, library)?;
    let delay = lap_s(design, library)?;
    let cost = cost(design, library, &carried)?;
    let marks = [carried.marks, cost.marks()].concat();
    Ok(Answer {
        design: design.clone(),
        net_rate_bit_per_s: carried.net_rate_bit_per_s,
        delay_s: delay,
        bytes_in_flight: carried.net_rate_bit_per_s * delay / 8.0,
        laps_before_regeneration: carried.laps_before_regeneration,
        mean_snr_db: carried.mean_snr_db,
        cost,
        marks,
        typical,
    })
}

/// Time of a lap of a design, in seconds.
///
/// # Errors
/// When there is no data sheet of its fiber.
pub fn lap_s(design: &Design, library: &Library) -> Result<Interval, Error> {
    let of_kind = |kind: &SpanDesign| {
        let sheet = library.sheet(SheetKind::Fiber, design.fiber_of(kind))?;
        let length_km = kind.km * f64::from(kind.count);
        Ok(sheet
            .get("group_index")
            .rising(|index| delay_s(length_km, index)))
    };
    design.kinds().iter().map(of_kind).sum()
}
