//! What the models are not valid for, said in the result instead of passed over.
//! Knows the models' assumptions, not how they compute.

use std::collections::BTreeMap;

use serde::Serialize;

use super::OpticalLine;
use crate::optics::comb::Channel;
use crate::optics::modulation::Format;
use crate::optics::noise::{Noise, NoiseModel, Passage};

/// Dispersion below which the GN model's assumption of signals that look like
/// noise fails; Poggiolini, arXiv 1209.0394.
const LEAST_DISPERSION_PS_PER_NM_KM: f64 = 4.0;

/// Width to which the closed forms were shown to hold.
const WIDEST_GN_THZ: f64 = 5.0;
const WIDEST_ISRS_THZ: f64 = 15.0;

/// Raman tilt over the comb from which leaving it out is wrong by more than
/// the models are.
const MOST_TILT_DB: f64 = 0.5;

/// Loss of a span below which the closed forms are wrong by more than a decibel: they
/// take the span's end for dark.
const LEAST_LOSS_DB: f64 = 7.0;

/// Share of the line's noise from which nonlinear noise decides anything.
const MATTERS: f64 = 0.02;

/// A warning that goes with a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ValidityMark {
    /// What it is about, such as a band.
    pub about: String,
    /// What is beyond the model, and what that means.
    pub text: String,
}

/// All marks of a line.
pub fn marks(line: &OpticalLine, passage: &Passage) -> Vec<ValidityMark> {
    let mut marks = low_dispersion(line, passage);
    marks.extend(too_wide(line));
    marks.extend(tilt_left_out(line, passage));
    marks.extend(too_short(line));
    marks.extend(on_off(line));
    marks
}

/// Near zero dispersion three channels mix efficiently, which no model here
/// counts, and the GN model itself fails.
fn low_dispersion(line: &OpticalLine, passage: &Passage) -> Vec<ValidityMark> {
    let mut weak: BTreeMap<String, usize> = BTreeMap::new();
    for (channel, noise) in line.comb.channels().iter().zip(&passage.noise) {
        let dispersion = line
            .span
            .fiber
            .dispersion
            .ps_per_nm_km(channel.frequency_hz);
        if dispersion.abs() < LEAST_DISPERSION_PS_PER_NM_KM && nonlinear_matters(noise) {
            *weak.entry(band_name(channel)).or_default() += 1;
        }
    }
    let mark = |(band, channels): (String, usize)| ValidityMark {
        text: format!(
            "{channels} channels have less than {LEAST_DISPERSION_PS_PER_NM_KM} ps/nm/km: the GN model does not hold there, and mixing of three channels is left out; their nonlinear noise is too low an estimate"
        ),
        about: format!("{band} band"),
    };
    weak.into_iter().map(mark).collect()
}

fn too_wide(line: &OpticalLine) -> Option<ValidityMark> {
    let width_thz = line.comb.width_hz() * 1e-12;
    let (model, most_thz) = match line.span.model {
        NoiseModel::Gn => ("gn", WIDEST_GN_THZ),
        NoiseModel::IsrsGn => ("isrs-gn", WIDEST_ISRS_THZ),
        NoiseModel::Profile => return None,
    };
    (width_thz > most_thz).then(|| ValidityMark {
        about: format!("model {model}"),
        text: format!(
            "the comb is {width_thz:.1} THz wide, the closed form holds to about {most_thz} THz: use model = \"profile\""
        ),
    })
}

fn tilt_left_out(line: &OpticalLine, passage: &Passage) -> Option<ValidityMark> {
    if line.span.model != NoiseModel::Gn {
        return None;
    }
    let channels = line.comb.channels();
    let gain_db = |i: usize| {
        let alpha = line
            .span
            .fiber
            .attenuation_db_per_km(channels[i].frequency_hz);
        alpha * line.span.length_km - passage.loss_db[i]
    };
    let tilt_db = (gain_db(0) - gain_db(channels.len() - 1)).abs();
    (tilt_db > MOST_TILT_DB).then(|| ValidityMark {
        about: "model gn".into(),
        text: format!(
            "Raman scattering tilts the comb by {tilt_db:.1} dB a span, which this closed form leaves out of nonlinear noise: use model = \"profile\""
        ),
    })
}

/// At the end of a short span the light is still strong, and what arises there interferes
/// with what arises in the next.
fn too_short(line: &OpticalLine) -> Option<ValidityMark> {
    let model = match line.span.model {
        NoiseModel::Gn => "gn",
        NoiseModel::IsrsGn => "isrs-gn",
        NoiseModel::Profile => return None,
    };
    let channels = line.comb.channels().iter();
    let fiber = &line.span.fiber;
    let loss_db = channels
        .map(|channel| fiber.attenuation_db_per_km(channel.frequency_hz) * line.span.length_km)
        .fold(f64::MAX, f64::min);
    let has_noise = fiber.nonlinear_index_m2_per_w > 0.0;
    (loss_db < LEAST_LOSS_DB && has_noise).then(|| ValidityMark {
        about: format!("model {model}"),
        text: format!(
            "a span takes {loss_db:.1} dB, the closed form holds from about {LEAST_LOSS_DB} dB on \
             and is several decibels off below: use model = \"profile\""
        ),
    })
}

/// The GN model is one of coherent light, whose dispersion the receiver takes back.
fn on_off(line: &OpticalLine) -> Option<ValidityMark> {
    let fiber = &line.span.fiber;
    let has_noise = fiber.nonlinear_index_m2_per_w > 0.0;
    let asked = line.transceiver.formats.contains(&Format::Ook);
    (asked && has_noise).then(|| ValidityMark {
        about: "format OOK".into(),
        text: "a receiver of power takes no dispersion back, so the line must have none left in \
               the end; the GN model is of dispersed light in two polarisations, and its \
               nonlinear noise is too low an estimate here"
            .into(),
    })
}

fn nonlinear_matters(noise: &Noise) -> bool {
    let nonlinear = noise.nonlinear_self + noise.nonlinear_cross;
    nonlinear > MATTERS * (noise.emission + noise.crosstalk + nonlinear)
}

fn band_name(channel: &Channel) -> String {
    let band = channel.band();
    band.map_or_else(|| "no".to_owned(), |band| format!("{band:?}"))
}
