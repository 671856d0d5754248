//! A design as a medium to run a model from: length, delay and net rate of the loop, and how
//! its light decays.

use delayline_fiber::LoopSpec;
use serde::Serialize;

use super::Error;
use super::design::{Design, LAPS};
use super::resolve::line;
use crate::datasheet::Library;
use crate::interval::Corner;
use crate::optics;
use crate::optics::link::{LineReport, OpticalLine};
use crate::optics::modulation::{Fec, required_snr_db};
use crate::report::format::plain;

/// A loop with the light of a design in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Lit {
    /// As the loop medium takes it.
    pub spec: LoopSpec,
    /// Where its figures come from.
    pub optics: Optics,
}

/// What the optics say of a loop.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Optics {
    /// The design's name.
    pub design: String,
    /// Channels that carry data, of one core.
    pub channels: usize,
    /// Mean over the channels of their SNR in dB, after the design's laps.
    pub mean_snr_db: f64,
    /// Laps from one regeneration to the next.
    pub laps: f64,
    /// Laps that the first channel to fail allows.
    pub laps_before_regeneration: u64,
    /// Share of the bits of the worst channel that are wrong before correction,
    /// after the laps from one regeneration to the next.
    pub worst_bit_error_rate: f64,
    /// The forward error correction.
    pub fec: Fec,
}

/// The typical line of a design as a loop in which light goes `laps` laps from
/// one regeneration to the next; without a number, as many as the design has.
/// Its formats are those for the design's number: more laps than the correction
/// stands, and the loop decays.
///
/// Each regeneration makes the errors of the laps before it last, so their share
/// in a lap is that of one regeneration over the laps between two.
///
/// # Errors
/// [`Error`], naming key, value and what is accepted; also when no channel
/// carries data.
pub fn lit(design: &Design, library: &Library, laps: Option<f64>) -> Result<Lit, Error> {
    let line = line(design, library, Corner::Typical)?;
    let report = line.solve()?;
    let laps = laps.unwrap_or(design.laps);
    LAPS.check("laps", laps)?;
    let fec = *design.signal.correction()?;
    let rate_bit_per_s: f64 = report.channels.iter().map(|c| c.net_rate_bit_per_s).sum();
    if rate_bit_per_s <= 0.0 {
        return Err(dark(&line, &report).into());
    }
    let (mut wrong, mut worst) = (0.0, 0.0f64);
    let rates = line.bit_error_rates(&report, laps);
    for (channel, before) in report.channels.iter().zip(rates) {
        let Some(before) = before else { continue };
        worst = worst.max(before);
        wrong += channel.net_rate_bit_per_s / rate_bit_per_s * fec.residual(before);
    }
    let kept = 1.0 / ((1.0 + fec.overhead) * (1.0 + design.signal.framing_overhead));
    let spec = LoopSpec {
        group_index: line.group_index(),
        overhead: 1.0 - kept,
        loops: report.cores,
        residual_ber: wrong / laps,
        ..LoopSpec::new(report.length_km, rate_bit_per_s / kept)
    };
    let optics = Optics {
        design: design.name.clone(),
        channels: report.groups.iter().map(|group| group.lit).sum(),
        mean_snr_db: report.mean_snr_db(),
        laps,
        laps_before_regeneration: report.laps_before_regeneration,
        worst_bit_error_rate: worst,
        fec,
    };
    Ok(Lit { spec, optics })
}

/// Behind this line no channel carries data.
fn dark(line: &OpticalLine, report: &LineReport) -> optics::Error {
    let best_db = report.channels.iter().map(|channel| channel.snr_db);
    let ends = &line.transceiver;
    let needed_db = ends
        .formats
        .iter()
        .map(|format| required_snr_db(*format, ends.bit_error_threshold) + ends.margin_db);
    optics::Error::Value {
        key: "length".into(),
        value: format!("{} km", plain(report.length_km)),
        accepted: format!(
            "a line behind which some channel has the {:.1} dB that its format needs: the best \
             has {:.1} dB after {}, so no channel carries data",
            needed_db.fold(f64::MAX, f64::min),
            best_db.fold(f64::MIN, f64::max),
            match report.laps {
                1.0 => "a lap".to_owned(),
                laps => format!("{laps} laps"),
            },
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::{PRESETS, answer};

    fn design(name: &str) -> Design {
        let (_, text) = PRESETS.iter().find(|(preset, _)| *preset == name).unwrap();
        Design::parse(text).unwrap()
    }

    #[test]
    fn a_design_s_loop_is_what_the_study_says_of_it() {
        let library = Library::embedded();
        for (name, _) in PRESETS {
            let design = design(name);
            let Lit { spec, optics } = lit(&design, &library, None).unwrap();
            let said = answer(&design, &library).unwrap();
            let close = |a: f64, b: f64| assert!((a / b - 1.0).abs() < 1e-9, "{name}: {a} {b}");
            close(spec.length_km, said.typical.length_km);
            close(spec.lap_s(), said.delay_s.typical);
            close(
                spec.net_bytes_per_s() * 8.0,
                said.net_rate_bit_per_s.typical,
            );
            close(
                spec.net_bytes_per_s() * spec.lap_s(),
                said.bytes_in_flight.typical,
            );
            assert_eq!(spec.loops, said.typical.cores, "{name}");
            close(optics.mean_snr_db, said.typical.mean_snr_db());
            // The formats are chosen for the design's laps, so the code corrects.
            assert!(optics.worst_bit_error_rate <= optics.fec.bit_error_threshold);
            assert!(
                (spec.residual_ber * design.laps / 1e-15 - 1.0).abs() < 1e-9,
                "{name}"
            );
        }
    }

    #[test]
    fn light_decays_from_the_lap_that_the_correction_does_not_stand() {
        let library = Library::embedded();
        for name in ["c-l", "hollow-core"] {
            let design = design(name);
            let stands = lit(&design, &library, None)
                .unwrap()
                .optics
                .laps_before_regeneration;
            let mut before = 0.0;
            for laps in [1, stands, stands + 1, 4 * stands, 40 * stands] {
                let Lit { spec, optics } = lit(&design, &library, Some(laps as f64)).unwrap();
                assert_eq!(optics.laps_before_regeneration, stands, "{name}");
                assert!(optics.worst_bit_error_rate >= before, "{name}, {laps} laps");
                before = optics.worst_bit_error_rate;
                let share = spec.residual_ber * laps as f64;
                let corrects = share <= 1e-15 * (1.0 + 1e-9);
                assert_eq!(corrects, laps <= stands, "{name}, {laps} laps: {share}");
            }
        }
    }

    #[test]
    fn another_length_is_another_line() {
        let library = Library::embedded();
        let short = design("c-l").of_length(100.0).unwrap();
        assert_eq!((short.spans, short.span_km), (2, 50.0));
        let spec = lit(&short, &library, None).unwrap().spec;
        assert!((spec.length_km - 100.0).abs() < 1e-9);
        let long = design("c-l").of_length(3000.0).unwrap();
        let far = lit(&long, &library, None).unwrap();
        assert!(
            far.spec.net_bytes_per_s() < spec.net_bytes_per_s(),
            "fewer bits a symbol"
        );
        assert!(far.spec.residual_ber <= 1.0001e-15);
        let error = lit(&design("c-l").of_length(200_000.0).unwrap(), &library, None);
        let message = error.unwrap_err().to_string();
        for word in ["length = 200000 km", "no channel", "dB"] {
            assert!(message.contains(word), "{message}");
        }
        assert!(design("c-l").of_length(1e9).is_err());
        assert!(lit(&design("c-l"), &library, Some(0.5)).is_err());
    }
}
