//! The incoherent GN model in closed form, as GNPy's `gn_model_analytic` has
//! it: exponential loss, no Raman scattering. For a few THz.

use std::f64::consts::PI;

use super::{CROSS_WEIGHT, NO_DISPERSION, NO_LOSS, SELF_WEIGHT};
use crate::optics::comb::Channel;
use crate::optics::fiber::OpticalFiber;

/// Nonlinear noise of each channel, at the input of a span of `length_m`, for
/// powers there; Poggiolini, arXiv 1209.0394, eqs. 120 to 123.
pub fn closed_form_w(
    fiber: &OpticalFiber,
    length_m: f64,
    channels: &[Channel],
    powers_w: &[f64],
) -> Vec<f64> {
    let (itself, others) = closed_form_parts_w(fiber, length_m, channels, powers_w);
    itself.iter().zip(others).map(|(a, b)| a + b).collect()
}

/// The same in two parts: of each channel with itself, and with all others.
pub fn closed_form_parts_w(
    fiber: &OpticalFiber,
    length_m: f64,
    channels: &[Channel],
    powers_w: &[f64],
) -> (Vec<f64>, Vec<f64>) {
    let beta2: Vec<f64> = channels
        .iter()
        .map(|channel| fiber.beta2_s2_per_m(channel.frequency_hz))
        .collect();
    let alpha_per_m: Vec<f64> = channels
        .iter()
        .map(|channel| fiber.attenuation_per_m(channel.frequency_hz).max(NO_LOSS))
        .collect();
    let noise = |i: usize| {
        let channel = &channels[i];
        let density_squared = |k: usize| {
            let (other, power_w) = (&channels[k], powers_w[k]);
            let beta2 = ((beta2[i] + beta2[k]).abs() / 2.0).max(NO_DISPERSION);
            let efficiency = efficiency(alpha_per_m[k], length_m, beta2, channel, other);
            efficiency * (power_w / other.symbol_rate_hz).powi(2)
        };
        let others: f64 = (0..channels.len())
            .filter(|k| *k != i)
            .map(density_squared)
            .sum();
        let gamma = fiber.gamma_per_w_m(channel.frequency_hz);
        let scale = gamma * gamma * powers_w[i];
        (
            scale * SELF_WEIGHT * density_squared(i),
            scale * CROSS_WEIGHT * others,
        )
    };
    (0..channels.len()).map(noise).unzip()
}

/// ψ of eq. 123, in m²·Hz²: how well two channels mix over a lossy span.
fn efficiency(
    alpha_per_m: f64,
    length_m: f64,
    beta2_s2_per_m: f64,
    channel: &Channel,
    other: &Channel,
) -> f64 {
    let effective_m = effective_length_m(alpha_per_m, length_m);
    let asymptotic_m = 1.0 / alpha_per_m;
    let offset_hz = other.frequency_hz - channel.frequency_hz;
    let edge = |side: f64| {
        let edge_hz = offset_hz + side * other.symbol_rate_hz / 2.0;
        PI * PI * asymptotic_m * beta2_s2_per_m * channel.symbol_rate_hz * edge_hz
    };
    effective_m.powi(2) * asinh_difference(edge(1.0), edge(-1.0))
        / (4.0 * PI * beta2_s2_per_m * asymptotic_m)
}

/// asinh a − asinh b with one logarithm: it is most of the time that this takes.
fn asinh_difference(a: f64, b: f64) -> f64 {
    let sum = |x: f64| x.abs() + (1.0 + x * x).sqrt();
    if a.is_sign_negative() == b.is_sign_negative() {
        (sum(a) / sum(b)).ln() * a.signum()
    } else {
        (sum(a) * sum(b)).ln() * a.signum()
    }
}

/// (1 − e^(−αL))/α: the length over which the full power would do the same.
fn effective_length_m(alpha_per_m: f64, length_m: f64) -> f64 {
    -(-alpha_per_m * length_m).exp_m1() / alpha_per_m
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_difference_is_that_of_the_two() {
        let values: [f64; 8] = [-1e5, -300.0, -1.5, -1e-3, 0.0, 0.2, 4.0, 1e4];
        for a in values {
            for b in values {
                let expect = a.asinh() - b.asinh();
                let got = asinh_difference(a, b);
                assert!(
                    (got - expect).abs() < 1e-12 * (1.0 + expect.abs()),
                    "{a} {b}: {got}"
                );
            }
        }
    }
}
