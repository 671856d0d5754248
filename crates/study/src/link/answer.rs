//! The answer to `study link`: the line with typical figures, and what becomes
//! of it when every figure is at its worst or at its best.

use rayon::prelude::*;
use serde::Serialize;
use thiserror::Error as ThisError;

use super::cost::{Cost, cost};
use super::design::Design;
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
    /// The line with typical figures.
    pub typical: LineReport,
}

/// Solves a design with the sheets' figures at their typical values, and at both
/// ends of their ranges.
///
/// # Errors
/// [`Error`], naming key, value and what is accepted.
pub fn answer(design: &Design, library: &Library) -> Result<Answer, Error> {
    let solve = |corner: &Corner| Ok(line(design, library, *corner)?.solve()?);
    let reports: Vec<Result<LineReport, Error>> = Corner::ALL.par_iter().map(solve).collect();
    let mut reports = reports.into_iter();
    let mut next = || reports.next().expect("a report for each corner");
    let (worst, typical, best) = (next()?, next()?, next()?);
    let over = |f: &dyn Fn(&LineReport) -> f64| {
        let (a, b, c) = (f(&worst), f(&typical), f(&best));
        Interval::new(a.min(b).min(c), b, a.max(b).max(c))
    };
    let net_rate = over(&|report| report.net_rate_bit_per_s);
    let sheet = library.sheet(SheetKind::Fiber, &design.fiber)?;
    let delay = sheet
        .get("group_index")
        .rising(|index| delay_s(typical.length_km, index));
    Ok(Answer {
        design: design.clone(),
        net_rate_bit_per_s: net_rate,
        delay_s: delay,
        bytes_in_flight: net_rate * delay / 8.0,
        laps_before_regeneration: over(&|report| report.laps_before_regeneration as f64),
        mean_snr_db: over(&LineReport::mean_snr_db),
        cost: cost(design, library, &typical)?,
        typical,
    })
}
