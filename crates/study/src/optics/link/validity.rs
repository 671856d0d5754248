//! Warnings for what lies beyond the validity of the models.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{OpticalLine, SpanKind};
use crate::optics::comb::Channel;
use crate::optics::modulation::Format;
use crate::optics::noise::{Noise, NoiseModel, Passage, Span};

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

/// Raman gain from which double scattering matters; Bromage, J. Lightwave Technol. 22
/// (2004) 79.
const MOST_RAMAN_GAIN_DB: f64 = 15.0;

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
pub fn marks(line: &OpticalLine, passages: &[Passage]) -> Vec<ValidityMark> {
    let mut marks = Vec::new();
    for (kind, passage) in line.spans.iter().zip(passages) {
        let at = At {
            line,
            span: &kind.span,
            passage,
        };
        let of_kind = [tilt_left_out(&at), too_short(&at), pumped(&at)];
        let all = low_dispersion(&at).into_iter();
        for mark in all.chain(of_kind.into_iter().flatten()) {
            if !marks.contains(&mark) {
                marks.push(mark);
            }
        }
    }
    marks.extend(too_wide(line));
    marks.extend(on_off(line));
    marks
}

/// A kind of spans in its line.
struct At<'a> {
    line: &'a OpticalLine,
    span: &'a Span,
    passage: &'a Passage,
}

/// Near zero dispersion three channels mix efficiently, which no model here
/// counts, and the GN model itself fails.
fn low_dispersion(at: &At<'_>) -> Vec<ValidityMark> {
    let mut weak: BTreeMap<String, usize> = BTreeMap::new();
    for (channel, noise) in at.line.comb.channels().iter().zip(&at.passage.noise) {
        let dispersion = at.span.fiber.dispersion.ps_per_nm_km(channel.frequency_hz);
        if dispersion.abs() < LEAST_DISPERSION_PS_PER_NM_KM && nonlinear_matters(noise) {
            *weak.entry(band_name(channel)).or_default() += 1;
        }
    }
    let mark = |(band, channels): (String, usize)| ValidityMark {
        text: format!(
            "{} less than {LEAST_DISPERSION_PS_PER_NM_KM} ps/nm/km: the GN model does not hold there, and mixing of three channels is left out; {} nonlinear noise is too low an estimate",
            match channels {
                1 => "1 channel has".to_owned(),
                channels => format!("{channels} channels have"),
            },
            if channels == 1 { "its" } else { "their" }
        ),
        about: format!("{band} band"),
    };
    weak.into_iter().map(mark).collect()
}

fn too_wide(line: &OpticalLine) -> Option<ValidityMark> {
    let width_thz = line.comb.width_hz() * 1e-12;
    let (model, most_thz) = match line.first().model {
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

fn tilt_left_out(at: &At<'_>) -> Option<ValidityMark> {
    if at.span.model != NoiseModel::Gn {
        return None;
    }
    let channels = at.line.comb.channels();
    let gain_db = |i: usize| {
        let alpha = at
            .span
            .fiber
            .attenuation_db_per_km(channels[i].frequency_hz);
        alpha * at.span.length_km - at.passage.loss_db[i]
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
fn too_short(at: &At<'_>) -> Option<ValidityMark> {
    let model = match at.span.model {
        NoiseModel::Gn => "gn",
        NoiseModel::IsrsGn => "isrs-gn",
        NoiseModel::Profile => return None,
    };
    let channels = at.line.comb.channels().iter();
    let fiber = &at.span.fiber;
    let loss_db = channels
        .map(|channel| fiber.attenuation_db_per_km(channel.frequency_hz) * at.span.length_km)
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

/// The closed forms know light that only fades; and of strong Raman gain the light that
/// scatters back twice is left out.
fn pumped(at: &At<'_>) -> Option<ValidityMark> {
    let model = match at.span.model {
        NoiseModel::Gn => Some("gn"),
        NoiseModel::IsrsGn => Some("isrs-gn"),
        NoiseModel::Profile => None,
    };
    if at.span.pumps.is_empty() {
        return None;
    }
    if let Some(model) = model {
        return Some(ValidityMark {
            about: format!("model {model}"),
            text: "Raman pumps are left out of nonlinear noise: use model = \"profile\"".into(),
        });
    }
    let ends_db = 2.0 * (at.span.connector_loss_db + at.span.splitter_loss_db);
    let channels = at.line.comb.channels().iter().zip(&at.passage.loss_db);
    let gains_db = channels.map(|(channel, loss_db)| {
        let alpha = at.span.fiber.attenuation_db_per_km(channel.frequency_hz);
        alpha * at.span.length_km + ends_db - loss_db
    });
    let gain_db = gains_db.fold(0.0, f64::max);
    (gain_db > MOST_RAMAN_GAIN_DB).then(|| ValidityMark {
        about: "Raman pumps".into(),
        text: format!(
            "a gain of {gain_db:.1} dB is more than {MOST_RAMAN_GAIN_DB} dB, from which light that scatters back twice adds noise, which is left out"
        ),
    })
}

/// The GN model is one of coherent light, whose dispersion the receiver takes back.
fn on_off(line: &OpticalLine) -> Option<ValidityMark> {
    let glass = |kind: &SpanKind| kind.span.fiber.nonlinear_index_m2_per_w > 0.0;
    let has_noise = line.spans.iter().any(glass);
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
