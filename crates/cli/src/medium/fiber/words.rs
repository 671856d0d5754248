//! The text about a fiber loop: what circulates, how long the light takes, and what went
//! wrong in it.

use std::fmt::{self, Display, Formatter};

use delayline_fiber::{LoopFigures, PlacedLoop};
use delayline_study::link::Optics;

use crate::output::format_seconds;
use crate::size::{format_rate, places};

/// Gain of optimum coding over the plain order from which on it is reported, as a factor.
const GAIN: f64 = 1.01;

/// What a lap takes with the weights where they are placed.
pub struct Placement<'a>(pub &'a PlacedLoop);

impl Display for Placement<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (coding, figures) = (self.0.coding(), self.0.figures());
        let [lap, plain, bound] =
            [coding.lap_s, figures.predicted_plain_lap_s, coding.bound_s].map(format_seconds);
        let compute = format_seconds(figures.placed_for_compute_s);
        write!(
            f,
            "the weights are placed on the loop for laps of {lap}, of which {compute} compute; in \
             plain order it would be {plain}, at the very best {bound}"
        )?;
        match figures.left_out_bytes {
            0 => Ok(()),
            bytes => write!(f, "; {} of each lap come from the drive", megabytes(bytes)),
        }
    }
}

/// The optics of a design.
pub struct Light<'a>(pub &'a Optics);

impl Display for Light<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let optics = self.0;
        let laps = |laps: f64| if laps == 1.0 { "lap" } else { "laps" };
        let stands = optics.laps_before_regeneration;
        write!(
            f,
            "{}: {} channels, {:.1} dB on average; regenerated after {} {} of {stands} that it \
             stands, when {:.1e} of the worst channel's bits are wrong, of which {} corrects {:.1e}",
            optics.design,
            optics.channels,
            optics.mean_snr_db,
            optics.laps,
            laps(optics.laps),
            optics.worst_bit_error_rate,
            optics.fec.name,
            optics.fec.bit_error_threshold,
        )
    }
}

/// Lines for a summary, each with a line end.
pub struct LoopLines<'a>(pub &'a LoopFigures);

impl Display for LoopLines<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let figures = self.0;
        if figures.pieces == 0 {
            return match figures.is_split() {
                true => writeln!(
                    f,
                    "fiber    holds no piece of the model: all of it comes from the drive"
                ),
                false => writeln!(f, "fiber    empty: all weights stay in memory"),
            };
        }
        self.light(f)?;
        self.placement(f)?;
        self.faults(f)
    }
}

impl LoopLines<'_> {
    /// What circulates.
    fn light(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let figures = self.0;
        let glass = figures.length_km * f64::from(figures.loops);
        let digits = places(glass);
        let loops = match figures.loops {
            1 => String::new(),
            n => format!(" in {n} loops"),
        };
        writeln!(
            f,
            "fiber    {glass:.digits$} km of glass{loops}, {} in flight at {} ({} with error correction)",
            megabytes(figures.placed_bytes * u64::from(figures.copies)),
            format_rate(figures.net_rate_bytes_per_s),
            megabytes(figures.in_flight_bytes),
        )?;
        let copies = match figures.copies {
            1 => String::new(),
            n => format!(
                " in {n} copies, one every {}",
                format_seconds(figures.turn_s)
            ),
        };
        writeln!(
            f,
            "         a lap of light takes {}; {} pieces{copies}, taken {} times, {} more passes unused",
            format_seconds(figures.lap_s),
            figures.pieces,
            figures.pieces_taken,
            figures.passes_missed,
        )
    }

    /// What the loop has no room for, and what the placement gains.
    fn placement(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let figures = self.0;
        if figures.is_split() {
            writeln!(
                f,
                "         {} of each lap have no room in it and come from the drive",
                megabytes(figures.left_out_bytes)
            )?;
        }
        let [coded, plain] = [figures.predicted_lap_s, figures.predicted_plain_lap_s];
        if plain > coded * GAIN {
            let [coded, plain] = [coded, plain].map(format_seconds);
            writeln!(
                f,
                "         placed to come by when they are wanted: by the plan a lap takes {coded}, in plain order {plain}"
            )?;
        }
        Ok(())
    }

    /// What went wrong.
    fn faults(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let figures = self.0;
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
                "         wrong bits found in {}: read from flash and sent anew",
                pieces(figures.pieces_scrubbed)
            )?;
        }
        if figures.pieces_late > figures.pieces_taken / 20 {
            writeln!(
                f,
                "         this machine sets the pace, not the light: it had not copied {} of the pieces when they had passed",
                figures.pieces_late
            )?;
        }
        Ok(())
    }
}

fn pieces(count: u64) -> String {
    match count {
        1 => "one piece".into(),
        n => format!("{n} pieces"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_the_ordinary_is_told_and_nothing_else() {
        let plain = LoopFigures {
            loops: 1,
            copies: 1,
            pieces: 3,
            placed_bytes: 2_000_000,
            predicted_lap_s: 0.05,
            predicted_plain_lap_s: 0.05,
            ..LoopFigures::default()
        };
        let check = |change: fn(&mut LoopFigures), words: &[&str], lines: usize| {
            let mut figures = plain;
            change(&mut figures);
            let text = LoopLines(&figures).to_string();
            assert!(words.iter().all(|word| text.contains(word)), "{text}");
            assert_eq!(text.lines().count(), lines, "{text}");
        };
        check(|_| {}, &["2.00 MB in flight"], 2);
        check(|f| f.copies = 2, &["4.00 MB in flight", "in 2 copies"], 2);
        let gains = &["a lap takes 50.0 ms, in plain order 100 ms"];
        check(|f| f.predicted_plain_lap_s = 0.1, gains, 3);
        let split = &["1.50 MB of each lap", "come from the drive"];
        check(|f| f.left_out_bytes = 1_500_000, split, 3);
        check(|f| f.pieces = 0, &["all weights stay in memory"], 1);
        let none = |f: &mut LoopFigures| (f.pieces, f.left_out_bytes) = (0, 1);
        check(none, &["all of it comes from the drive"], 1);
        check(|f| f.cuts = 2, &["failed 2 times"], 3);
        check(|f| f.pieces_late = 1, &["this machine sets the pace"], 3);
    }
}
