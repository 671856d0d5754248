//! The GN model in closed form with Raman scattering between the channels
//! (ISRS-GN), valid to about 15 THz. Takes the triangular Raman gain that the
//! formula assumes, fitted to a fiber's own where one is given.

use std::f64::consts::PI;

use super::{NO_DISPERSION, NO_LOSS, away_from_zero};
use crate::optics::comb::Channel;
use crate::optics::fiber::OpticalFiber;

/// What the closed form needs to know of a span; all channels see the same.
#[derive(Clone, Copy, Debug)]
pub struct Isrs {
    /// Attenuation of power.
    pub alpha_per_m: f64,
    /// Decay of the Raman interaction along the fiber, mostly the attenuation.
    pub alpha_bar_per_m: f64,
    /// Slope of the Raman gain over the shift, over the mode's area.
    pub raman_slope_per_w_m_hz: f64,
    /// Kerr nonlinearity.
    pub gamma_per_w_m: f64,
    /// Dispersion of group velocity at the reference frequency.
    pub beta2_s2_per_m: f64,
    /// Its derivative by the angular frequency.
    pub beta3_s3_per_m: f64,
    /// The frequency that the Raman tilt pivots on and β₂ is known at.
    pub reference_hz: f64,
    /// Length of a span.
    pub span_m: f64,
}

impl Isrs {
    /// The closed form's view of a fiber: one attenuation, one nonlinearity, two
    /// terms of dispersion, and the straight line through the origin that fits
    /// the Raman gain over the comb best.
    pub fn of(fiber: &OpticalFiber, span_m: f64, channels: &[Channel]) -> Self {
        let first = channels.first().map_or(0.0, |channel| channel.frequency_hz);
        let last = channels.last().map_or(0.0, |channel| channel.frequency_hz);
        let reference_hz = (first + last) / 2.0;
        let n = channels.len() as f64;
        let mean_alpha = channels
            .iter()
            .map(|channel| fiber.attenuation_per_m(channel.frequency_hz))
            .sum::<f64>()
            / n;
        let mean_alpha = mean_alpha.max(NO_LOSS);
        let step_hz = 1e11;
        let beta2 = |hz: f64| fiber.beta2_s2_per_m(hz);
        Self {
            alpha_per_m: mean_alpha,
            alpha_bar_per_m: mean_alpha,
            raman_slope_per_w_m_hz: raman_slope(fiber, reference_hz, last - first),
            gamma_per_w_m: fiber.gamma_per_w_m(reference_hz),
            beta2_s2_per_m: beta2(reference_hz),
            beta3_s3_per_m: (beta2(reference_hz + step_hz) - beta2(reference_hz - step_hz))
                / (2.0 * step_hz * 2.0 * PI),
            reference_hz,
            span_m,
        }
    }
}

impl Isrs {
    /// Dispersion of group velocity at a frequency.
    fn beta2_at(&self, frequency_hz: f64) -> f64 {
        let offset_hz = frequency_hz - self.reference_hz;
        self.beta2_s2_per_m + 2.0 * PI * self.beta3_s3_per_m * offset_hz
    }

    /// ε of a channel's interference with itself: of its own width and dispersion, as in
    /// the authors' own program.
    pub fn coherence(&self, channel: &Channel) -> f64 {
        let beta2 = self.beta2_at(channel.frequency_hz);
        coherence_exponent(self.alpha_per_m, self.span_m, beta2, channel.symbol_rate_hz)
    }
}

/// Least squares of a line through the origin over shifts up to `width_hz`.
fn raman_slope(fiber: &OpticalFiber, reference_hz: f64, width_hz: f64) -> f64 {
    const POINTS: u32 = 50;
    let (mut above, mut below) = (0.0, 0.0);
    for point in 1..=POINTS {
        let shift_hz = width_hz * f64::from(point) / f64::from(POINTS);
        let half_hz = shift_hz / 2.0;
        let gain = fiber.raman_per_w_m(reference_hz - half_hz, reference_hz + half_hz);
        above += gain * shift_hz;
        below += shift_hz * shift_hz;
    }
    if below > 0.0 { above / below } else { 0.0 }
}

/// Interference η = noise/power³ of each channel, in 1/W², after `spans` spans;
/// Semrau, Killey, Bayvel, arXiv 1808.07940, eqs. 5, 9 to 11. The noise that a
/// channel makes with itself adds up coherently over the spans if asked.
pub fn eta_per_w2(
    span: &Isrs,
    channels: &[Channel],
    powers_w: &[f64],
    spans: u32,
    coherent: bool,
) -> Vec<f64> {
    let n = f64::from(spans);
    let (itself, others) = eta_parts_per_w2(span, channels, powers_w);
    let parts = itself.into_iter().zip(others).zip(channels);
    let eta = |((itself, others), channel): ((f64, f64), &Channel)| {
        let exponent = match coherent {
            true => span.coherence(channel),
            false => 0.0,
        };
        itself * n.powf(1.0 + exponent) + n * others
    };
    parts.map(eta).collect()
}

/// η of one span in two parts: of each channel with itself, and with all others.
pub fn eta_parts_per_w2(
    span: &Isrs,
    channels: &[Channel],
    powers_w: &[f64],
) -> (Vec<f64>, Vec<f64>) {
    let total_w: f64 = powers_w.iter().sum();
    let eta = |i: usize| {
        let others: f64 = (0..channels.len())
            .filter(|k| *k != i)
            .map(|k| {
                let share = powers_w[k] / powers_w[i];
                share * share * cross_eta(span, &channels[i], &channels[k], total_w)
            })
            .sum();
        (self_eta(span, &channels[i], total_w), others)
    };
    (0..channels.len()).map(eta).unzip()
}

/// ε, by which the noise of n spans exceeds n times that of one, as n^(1+ε);
/// Poggiolini, arXiv 1209.0394, eq. 23 with the effective length 1/α.
pub fn coherence_exponent(
    alpha_per_m: f64,
    span_m: f64,
    beta2_s2_per_m: f64,
    width_hz: f64,
) -> f64 {
    let spread = PI * PI / 2.0 * beta2_s2_per_m.abs() / alpha_per_m * width_hz * width_hz;
    0.3 * (1.0 + 6.0 / (alpha_per_m * span_m * spread.asinh())).ln()
}

/// Interference of a channel with itself, eq. 10.
fn self_eta(span: &Isrs, channel: &Channel, total_w: f64) -> f64 {
    let offset_hz = channel.frequency_hz - span.reference_hz;
    let dispersion = span.beta2_at(channel.frequency_hz);
    let phase = 1.5 * PI * PI * away_from_zero(dispersion, NO_DISPERSION);
    let width_hz = channel.symbol_rate_hz;
    let shape = raman_shape(span, offset_hz, total_w, |rate_per_m| {
        (phase * width_hz * width_hz / (PI * rate_per_m)).asinh()
    });
    4.0 / 9.0 * (span.gamma_per_w_m / width_hz).powi(2) * PI / phase * shape
}

/// Interference of a channel with another, eq. 11.
fn cross_eta(span: &Isrs, channel: &Channel, other: &Channel, total_w: f64) -> f64 {
    let offset_hz = channel.frequency_hz - span.reference_hz;
    let other_hz = other.frequency_hz - span.reference_hz;
    let dispersion = span.beta2_s2_per_m + PI * span.beta3_s3_per_m * (offset_hz + other_hz);
    let phase = 2.0 * PI * PI * (other_hz - offset_hz) * away_from_zero(dispersion, NO_DISPERSION);
    let shape = raman_shape(span, other_hz, total_w, |rate_per_m| {
        (phase * channel.symbol_rate_hz / rate_per_m).atan()
    });
    32.0 / 27.0 * span.gamma_per_w_m.powi(2) / (other.symbol_rate_hz * phase) * shape
}

/// The part that both have in common: the two exponentials of a profile under
/// Raman scattering to first order, each with its own reach.
fn raman_shape(span: &Isrs, offset_hz: f64, total_w: f64, reach: impl Fn(f64) -> f64) -> f64 {
    let (alpha, bar) = (span.alpha_per_m, span.alpha_bar_per_m);
    let sum = alpha + bar;
    let tilt = (sum - total_w * span.raman_slope_per_w_m_hz * offset_hz).powi(2);
    let direct = (tilt - alpha * alpha) / alpha * reach(alpha);
    let scattered = (sum * sum - tilt) / sum * reach(sum);
    (direct + scattered) / (bar * (2.0 * alpha + bar))
}
