//! The inverse of a loop's capacity: the shortest length that holds so much. Longer loops hold
//! more until the light carries less for it.

use rayon::prelude::*;
use serde::Serialize;
use serde_json::json;
use thiserror::Error;

use super::{MediaError, unit};
use crate::datasheet::{Library, SheetKind};
use crate::interval::Interval;
use crate::report::format::{digits, dollars_range, si, si_range};
use crate::report::{Headline, Report, ReportTable};

/// Lengths that are tried in an interval.
const TRIED: usize = 12;
/// Rounds, each of which divides the interval by that.
const ROUNDS: usize = 3;
/// The longest loop that is tried, as a multiple of its own length.
const LONGEST: f64 = 1e5;

/// Why there is no such length.
#[derive(Debug, Error)]
pub enum SolveError {
    /// The medium.
    #[error(transparent)]
    Media(#[from] MediaError),
    /// It has no length.
    #[error(
        "{0} has no length to solve for: expected a loop, such as fiber:hollow-core or said-loop"
    )]
    NoLength(String),
    /// However long it is, it holds less.
    #[error(
        "one loop of {name} holds {} at no length: the most is {}, with {} km, since the light \
         carries less the farther it goes; take {} of these side by side, or fewer laps",
        si(*bytes, "B"), si(*most_bytes, "B"), digits(*at_km), digits((bytes / most_bytes).ceil())
    )]
    Never {
        /// The loop.
        name: String,
        /// What it should hold.
        bytes: f64,
        /// What it holds at most.
        most_bytes: f64,
        /// With which length.
        at_km: f64,
    },
}

/// A loop of some length.
#[derive(Clone, Debug, Serialize)]
pub struct SolvedLength {
    /// What it is called at any length.
    pub name: String,
    /// Its length in kilometres.
    pub length_km: f64,
    /// The loop.
    pub unit: super::Unit,
}

/// The shortest of the lengths looked at with which one loop holds `bytes`.
///
/// # Errors
/// [`SolveError`].
pub fn length_for(library: &Library, id: &str, bytes: f64) -> Result<SolvedLength, SolveError> {
    let own = unit(library, id)?;
    let kinds = [SheetKind::Design, SheetKind::Loop];
    if !kinds.iter().any(|&kind| library.sheet(kind, id).is_ok()) {
        return Err(SolveError::NoLength(own.name));
    }
    let own_km = library
        .figure(&format!("{id}.length"))
        .map_err(MediaError::from)?;
    let own_km = own_km.value.typical * 1e-3;
    let name = library.any(id).map_err(MediaError::from)?.name.clone();
    let at = |km: f64| -> Option<SolvedLength> {
        // Typical figures decide; the ends of their ranges are solved for the answer alone.
        let mut changed = library.clone().typically();
        changed
            .set(&format!("{id}.length"), Interval::exact(km))
            .ok()?;
        let unit = unit(&changed, id).ok()?;
        Some(SolvedLength {
            name: name.clone(),
            length_km: km,
            unit,
        })
    };
    let holds = |one: &SolvedLength| one.unit.capacity_bytes.typical >= bytes * (1.0 - 1e-9);
    // At its own rate a loop has to be this long, and longer loops carry less.
    let at_own_rate_km = own_km * bytes / own.capacity_bytes.typical;
    let (mut from, mut to) = (at_own_rate_km.min(own_km * LONGEST), own_km * LONGEST);
    let mut best: Option<SolvedLength> = None;
    let mut most: Option<SolvedLength> = None;
    for round in 0..ROUNDS {
        let share = |n: usize| n as f64 / TRIED as f64;
        let lengths: Vec<f64> = (0..=TRIED)
            .map(|n| from * (to / from).powf(share(n)))
            .collect();
        let lengths = if round == 0 {
            with_own(lengths, own_km)
        } else {
            lengths
        };
        let tried: Vec<Option<SolvedLength>> = lengths.par_iter().map(|&km| at(km)).collect();
        for one in tried.iter().flatten() {
            let more = |most: &SolvedLength| {
                one.unit.capacity_bytes.typical > most.unit.capacity_bytes.typical
            };
            if most.as_ref().is_none_or(more) {
                most = Some(one.clone());
            }
        }
        let first = tried
            .iter()
            .position(|one| one.as_ref().is_some_and(&holds));
        let Some(first) = first else { break };
        best = tried[first].clone();
        to = lengths[first];
        match first {
            0 => break,
            _ => from = lengths[first - 1],
        }
    }
    let most = most.unwrap_or(SolvedLength {
        name,
        length_km: own_km,
        unit: own,
    });
    let best = best.ok_or(SolveError::Never {
        name: most.name,
        bytes,
        most_bytes: most.unit.capacity_bytes.typical,
        at_km: most.length_km,
    })?;
    let mut changed = library.clone();
    changed
        .set(&format!("{id}.length"), Interval::exact(best.length_km))
        .map_err(MediaError::from)?;
    Ok(SolvedLength {
        unit: unit(&changed, id)?,
        ..best
    })
}

/// Adds shorter lengths, with which a loop may carry more than at its own.
fn with_own(mut lengths: Vec<f64>, own_km: f64) -> Vec<f64> {
    let first = lengths[0];
    if first > own_km {
        lengths.extend([own_km, (own_km * first).sqrt()]);
    } else {
        lengths.extend([first / 1.5, first / 1.2]);
    }
    lengths.sort_by(f64::total_cmp);
    lengths
}

/// `200 km`, or `12 m` of what is shorter than a kilometre.
fn kilometres(km: f64) -> String {
    match km < 1.0 {
        true => si(km * 1e3, "m"),
        false => format!("{} km", digits(km)),
    }
}

/// The lengths with which each of `media` holds `bytes`.
///
/// # Errors
/// [`SolveError`] of the first that has none.
pub fn solve_report(library: &Library, media: &[String], bytes: f64) -> Result<Report, SolveError> {
    let solved: Result<Vec<SolvedLength>, SolveError> = media
        .iter()
        .map(|id| length_for(library, id, bytes))
        .collect();
    let solved = solved?;
    let mut table = ReportTable::new(
        "",
        &[
            "medium", "length", "capacity", "rate", "wait", "power", "price",
        ],
    );
    for one in &solved {
        table.row([
            one.unit.name.clone(),
            kilometres(one.length_km),
            si_range(one.unit.capacity_bytes, "B"),
            si(one.unit.rate_bytes_per_s.typical, "B/s"),
            si(one.unit.latency_s.typical, "s"),
            si_range(one.unit.standby_w, "W"),
            dollars_range(one.unit.price),
        ]);
    }
    let sentence = solved.first().map_or(String::new(), |one| {
        format!(
            "{} of {} hold {}: the shortest length that does, to a hundredth.",
            kilometres(one.length_km),
            one.name,
            si(bytes, "B"),
        )
    });
    let mut report = Report {
        title: format!("Length of one loop that holds {}", si(bytes, "B")),
        answer: sentence,
        tables: vec![table],
        headline: solved.first().map(|one| Headline {
            what: "length".to_owned(),
            value: one.length_km * 1e3,
            unit: "m",
        }),
        notes: solved
            .iter()
            .flat_map(|one| one.unit.marks.clone())
            .collect(),
        json: json!({"hold_bytes": bytes, "solved": solved}),
        ..Report::default()
    };
    let ids: Vec<&str> = media.iter().map(String::as_str).collect();
    report.cite(library, &ids);
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a loop at a rate that was said, length is what it holds over what a kilometre
    /// holds; of a design, as long a loop holds it and one a fiftieth shorter does not.
    #[test]
    fn a_length_holds_what_is_asked_and_a_shorter_one_does_not() {
        let library = Library::embedded();
        let said = length_for(&library, "said-loop", 313.39e9).expect("it goes on for ever");
        assert!((said.length_km / 2000.0 - 1.0).abs() < 0.01, "{said:?}");
        let bytes = 20e9;
        let solved = length_for(&library, "c-l", bytes).expect("it reaches so far");
        let held = |km: f64| {
            let mut changed = library.clone();
            changed
                .set("c-l.length", Interval::exact(km))
                .expect("it can be");
            unit(&changed, "c-l")
                .expect("it works")
                .capacity_bytes
                .typical
        };
        assert!(held(solved.length_km) >= bytes * 0.999, "{solved:?}");
        assert!(held(solved.length_km / 1.02) < bytes, "{solved:?}");
    }

    #[test]
    fn what_no_length_holds_is_said_with_the_most_that_one_does() {
        let library = Library::embedded();
        let error = length_for(&library, "c-l", 1e15)
            .expect_err("light fades")
            .to_string();
        for part in [
            "today's C+L line",
            "at no length",
            "the most is",
            "side by side",
        ] {
            assert!(error.contains(part), "{error}");
        }
        let error = length_for(&library, "dram", 1e9)
            .expect_err("it has none")
            .to_string();
        assert!(error.contains("DDR5 has no length"), "{error}");
    }
}
