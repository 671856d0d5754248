//! The power of every channel along a fiber: attenuation and Raman scattering between all
//! channels, solved numerically.

mod pumped;

pub use pumped::{Direction, Pumped, PumpedEquations, RamanPump};

use rayon::prelude::*;

use super::comb::Channel;
use super::fiber::{OpticalFiber, RamanGain};

/// Least number of steps along a fiber.
const LEAST_STEPS: usize = 16;

/// Attenuation a step, in nepers. The fourth-order step leaves an error far
/// below the third digit behind the point of a decibel.
const STEP_NEPER: f64 = 0.12;

/// Natural logarithms of the powers along a fiber, over those at its input.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// Places, from 0 to the fiber's length.
    pub z_m: Vec<f64>,
    /// For each channel, the logarithm at each place.
    pub ln_gain: Vec<Vec<f64>>,
}

impl Profile {
    /// What is left of a channel's power at the fiber's end.
    pub fn end(&self, channel: usize) -> f64 {
        self.ln_gain[channel].last().map_or(1.0, |ln| ln.exp())
    }
}

/// The coefficients of the power equations for one comb in one fiber; the
/// powers themselves may change.
#[derive(Clone, Debug)]
pub struct Equations {
    alpha_per_m: Vec<f64>,
    /// Row by row: what each other channel's watt adds to a channel's logarithm.
    raman_per_w_m: Option<Vec<f64>>,
}

impl Equations {
    /// The coefficients of these channels in this fiber.
    pub fn new(fiber: &OpticalFiber, channels: &[Channel]) -> Self {
        let alpha_per_m = channels
            .iter()
            .map(|channel| fiber.attenuation_per_m(channel.frequency_hz))
            .collect();
        let matrix = || {
            channels
                .par_iter()
                .flat_map_iter(|channel| {
                    channels
                        .iter()
                        .map(|other| fiber.raman_per_w_m(channel.frequency_hz, other.frequency_hz))
                })
                .collect()
        };
        let raman_per_w_m = (fiber.raman_gain != RamanGain::None).then(matrix);
        Self {
            alpha_per_m,
            raman_per_w_m,
        }
    }

    /// Solves d ln Pₖ/dz = −αₖ + Σⱼ Cₖⱼ·Pⱼ over a fiber; GNPy documentation,
    /// "Raman solver", in the logarithm, by the classical Runge-Kutta step of
    /// fourth order.
    pub fn solve(&self, length_m: f64, powers_w: &[f64]) -> Profile {
        let n = powers_w.len();
        let steps = self.steps(length_m, powers_w);
        let step_m = length_m / steps as f64;
        let mut ln_gain = vec![Vec::with_capacity(steps + 1); n];
        let mut at = vec![0.0; n];
        let slope = |ln: &[f64], out: &mut Vec<f64>| self.slope(powers_w, ln, out);
        let (mut k1, mut k2, mut k3, mut k4) = (vec![], vec![], vec![], vec![]);
        for step in 0..=steps {
            for (channel, ln) in ln_gain.iter_mut().zip(&at) {
                channel.push(*ln);
            }
            if step == steps {
                break;
            }
            slope(&at, &mut k1);
            slope(&advanced(&at, &k1, step_m / 2.0), &mut k2);
            slope(&advanced(&at, &k2, step_m / 2.0), &mut k3);
            slope(&advanced(&at, &k3, step_m), &mut k4);
            for i in 0..n {
                at[i] += step_m / 6.0 * (k1[i] + 2.0 * k2[i] + 2.0 * k3[i] + k4[i]);
            }
        }
        let z_m = (0..=steps).map(|step| step as f64 * step_m).collect();
        Profile { z_m, ln_gain }
    }

    /// Enough steps for the attenuation and for the strongest Raman exchange.
    fn steps(&self, length_m: f64, powers_w: &[f64]) -> usize {
        let mut slopes = Vec::new();
        self.slope(powers_w, &vec![0.0; powers_w.len()], &mut slopes);
        let steepest = slopes
            .iter()
            .chain(&self.alpha_per_m)
            .fold(0.0f64, |most, slope| most.max(slope.abs()));
        ((steepest * length_m / STEP_NEPER).ceil() as usize).max(LEAST_STEPS)
    }

    fn slope(&self, powers_w: &[f64], ln: &[f64], out: &mut Vec<f64>) {
        out.clear();
        let Some(matrix) = &self.raman_per_w_m else {
            out.extend(self.alpha_per_m.iter().map(|alpha| -alpha));
            return;
        };
        let now_w: Vec<f64> = powers_w
            .iter()
            .zip(ln)
            .map(|(power_w, ln)| power_w * ln.exp())
            .collect();
        let rows = matrix.chunks_exact(now_w.len()).zip(&self.alpha_per_m);
        out.extend(rows.map(|(row, alpha)| dot(row, &now_w) - alpha));
    }
}

fn advanced(at: &[f64], slope: &[f64], step_m: f64) -> Vec<f64> {
    at.iter()
        .zip(slope)
        .map(|(at, k)| at + step_m * k)
        .collect()
}

/// A dot product in eight lanes, which the compiler makes vectors of.
fn dot(left: &[f64], right: &[f64]) -> f64 {
    let mut lanes = [0.0; 8];
    let (left_lanes, left_rest) = left.as_chunks::<8>();
    let (right_lanes, right_rest) = right.as_chunks::<8>();
    for (a, b) in left_lanes.iter().zip(right_lanes) {
        for lane in 0..8 {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    let rest: f64 = left_rest.iter().zip(right_rest).map(|(a, b)| a * b).sum();
    lanes.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optics::comb::{ChannelGroup, Comb};
    use crate::optics::fiber::Attenuation;

    fn comb(channels: usize) -> Comb {
        Comb::new(&[ChannelGroup {
            key: "band".into(),
            first_thz: 185.0,
            spacing_ghz: 500.0,
            symbol_rate_gbd: 400.0,
            channels,
        }])
        .unwrap()
    }

    fn fiber(db_per_km: f64) -> OpticalFiber {
        OpticalFiber {
            attenuation: Attenuation::Flat { db_per_km },
            ..OpticalFiber::gnpy()
        }
    }

    #[test]
    fn without_loss_photons_are_conserved() {
        let comb = comb(37);
        let powers_w = vec![10e-3; 37];
        let profile = Equations::new(&fiber(0.0), comb.channels()).solve(50e3, &powers_w);
        let photons = |place: usize| {
            let of = |(i, channel): (usize, &Channel)| {
                powers_w[i] * profile.ln_gain[i][place].exp() / channel.frequency_hz
            };
            comb.channels().iter().enumerate().map(of).sum::<f64>()
        };
        let last = profile.z_m.len() - 1;
        assert!((photons(last) / photons(0) - 1.0).abs() < 1e-6);
        assert!(
            profile.end(0) > 1.2 && profile.end(36) < 0.8,
            "no exchange to speak of"
        );
    }

    /// Two channels without loss have a solution in closed form: the photons of
    /// the lower one grow logistically.
    #[test]
    fn two_channels_follow_the_logistic_curve() {
        let comb = Comb::new(&[ChannelGroup {
            spacing_ghz: 900.0,
            symbol_rate_gbd: 10.0,
            key: "band".into(),
            first_thz: 185.0,
            channels: 12,
        }])
        .unwrap();
        let pair = [comb.channels()[0], comb.channels()[11]];
        let (low_hz, high_hz) = (pair[0].frequency_hz, pair[1].frequency_hz);
        let fiber = fiber(0.0);
        let profile = Equations::new(&fiber, &pair).solve(100e3, &[0.1, 0.1]);
        let gain = fiber.raman_per_w_m(low_hz, high_hz) * high_hz;
        let (low, high) = (0.1 / low_hz, 0.1 / high_hz);
        let total = low + high;
        let grown = (gain * total * 100e3).exp();
        let expect = total * grown / (high + low * grown);
        let got = profile.end(0);
        assert!((got / expect - 1.0).abs() < 1e-4, "{got} {expect}");
    }

    #[test]
    fn a_thousand_steps_say_the_same() {
        let comb = comb(37);
        let powers_w = vec![10e-3; 37];
        let equations = Equations::new(&fiber(0.2), comb.channels());
        let coarse = equations.solve(80e3, &powers_w);
        // Piece by piece, each with its own sixteen steps or more.
        let mut now_w = powers_w.clone();
        for _ in 0..64 {
            let piece = equations.solve(80e3 / 64.0, &now_w);
            now_w
                .iter_mut()
                .enumerate()
                .for_each(|(i, w)| *w *= piece.end(i));
        }
        for i in 0..37 {
            let apart = (coarse.end(i) * powers_w[i] / now_w[i] - 1.0).abs();
            assert!(apart < 1e-4, "channel {i}: {apart}");
        }
    }
}
