//! The fiber loop in words: what circulates, how long the light takes, and what
//! went wrong in it.

use std::fmt::{self, Display, Formatter};

use delayline_runtime::Circuit;

use crate::output::format_seconds;
use crate::report::FiberFigures;
use crate::size::{format_rate, places};

/// Where the weights lie and what that is worth.
pub struct Placement<'a>(pub &'a Circuit);

impl Display for Placement<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let coding = self.0.coding();
        let [lap, plain, bound] =
            [coding.lap_s, self.0.plain_lap_s(), coding.bound_s].map(format_seconds);
        write!(
            f,
            "the weights are placed on the loop for laps of {lap}; in plain order it would be \
             {plain}, at the very best {bound}"
        )?;
        match self.0.left_out_bytes() {
            0 => Ok(()),
            bytes => write!(f, "; {} of each lap come from the drive", megabytes(bytes)),
        }
    }
}

/// Lines for a summary, each with its end.
pub struct Loop<'a>(pub &'a FiberFigures);

impl Display for Loop<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let figures = self.0;
        let glass = figures.length_km * f64::from(figures.loops);
        let loops = match figures.loops {
            1 => String::new(),
            n => format!(" in {n} loops"),
        };
        writeln!(
            f,
            "fiber    {glass} km of glass{loops}, {} in flight at {} ({} with error correction)",
            megabytes(figures.placed_bytes),
            format_rate(figures.net_rate_bytes_per_s),
            megabytes(figures.in_flight_bytes),
        )?;
        writeln!(
            f,
            "         a lap of light takes {}; {} pieces, taken {} times, {} more passes unused",
            format_seconds(figures.lap_s),
            figures.pieces,
            figures.pieces_taken,
            figures.passes_missed,
        )?;
        if figures.cuts > 0 {
            let dark = megabytes(figures.dark_bytes);
            writeln!(
                f,
                "         the light failed {}: {dark} came from flash meanwhile",
                times(figures.cuts)
            )?;
        }
        if figures.wrong_bits > 0 {
            writeln!(
                f,
                "         {} wrong bits found in {} pieces, which were read from flash and sent anew",
                figures.wrong_bits, figures.pieces_scrubbed
            )?;
        }
        if figures.pieces_late > figures.pieces_taken / 20 {
            writeln!(
                f,
                "         this machine was too slow for {} of the pieces: the real loop is faster",
                figures.pieces_late
            )?;
        }
        Ok(())
    }
}

fn times(count: u64) -> String {
    match count {
        1 => "once".into(),
        n => format!("{n} times"),
    }
}

/// `98.4 MB`: decimal, as line rates are.
fn megabytes(bytes: u64) -> String {
    let (value, unit) = match bytes {
        ..1_000_000_000 => (bytes as f64 / 1e6, "MB"),
        _ => (bytes as f64 / 1e9, "GB"),
    };
    format!("{value:.0$} {unit}", places(value))
}
