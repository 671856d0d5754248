//! Raman amplification: pumps that run with or against the channels, and the spontaneous
//! Raman scattering that they cause.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{Profile, STEP_NEPER, advanced, dot};
use crate::optics::comb::Channel;
use crate::optics::fiber::OpticalFiber;
use crate::optics::units::PLANCK_J_S;

/// Least number of steps along a pumped fiber.
const LEAST_STEPS: usize = 64;
/// Maximum number of steps; light that changes faster is not resolved.
const MOST_STEPS: usize = 2000;
/// Sweeps to and fro after which the powers count as unsettled.
const SWEEPS: usize = 100;
/// Change of a pump's logarithm from sweep to sweep below which it counts as settled.
const SETTLED: f64 = 1e-6;
/// Boltzmann's constant times a buried fiber's 283 K, as GNPy has it, in joules.
const THERMAL_J: f64 = 1.380_649e-23 * 283.0;

/// Which way a pump's light goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// With the channels, from the span's start.
    Forward,
    /// Against them, from the span's end.
    #[default]
    Backward,
}

/// A pump, of unpolarised light.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RamanPump {
    /// Frequency.
    pub frequency_hz: f64,
    /// Power before the connector.
    pub power_w: f64,
    /// Which way it goes.
    pub direction: Direction,
}

/// What a pumped fiber does to the channels.
#[derive(Clone, Debug, PartialEq)]
pub struct Pumped {
    /// Their powers along the fiber.
    pub profile: Profile,
    /// Light in each channel's symbol rate that scattered from pumps by itself, in watts, as
    /// if it had come in at the fiber's start.
    pub spontaneous_w: Vec<f64>,
    /// Whether the powers settled; if not, the rest means nothing.
    pub settled: bool,
}

/// The coefficients of the power equations for channels and pumps in one fiber.
#[derive(Clone, Debug)]
pub struct PumpedEquations {
    channels: Vec<Channel>,
    /// Those that go forward are first.
    pumps: Vec<RamanPump>,
    /// Waves that go forward: all channels, then some pumps.
    forward: usize,
    alpha_per_m: Vec<f64>,
    /// For each wave, what a watt of each other adds to its logarithm.
    raman_per_w_m: Vec<Vec<f64>>,
}

impl PumpedEquations {
    /// The coefficients of these channels and pumps in this fiber.
    pub fn new(fiber: &OpticalFiber, channels: &[Channel], pumps: &[RamanPump]) -> Self {
        let mut pumps = pumps.to_vec();
        pumps.sort_by_key(|pump| pump.direction == Direction::Backward);
        let with = pumps
            .iter()
            .filter(|pump| pump.direction == Direction::Forward)
            .count();
        let waves_hz: Vec<f64> = channels
            .iter()
            .map(|channel| channel.frequency_hz)
            .chain(pumps.iter().map(|pump| pump.frequency_hz))
            .collect();
        let row = |&hz: &f64| {
            let others = waves_hz.iter();
            others
                .map(|&other_hz| fiber.raman_per_w_m(hz, other_hz))
                .collect()
        };
        Self {
            forward: channels.len() + with,
            alpha_per_m: waves_hz
                .iter()
                .map(|&hz| fiber.attenuation_per_m(hz))
                .collect(),
            raman_per_w_m: waves_hz.iter().map(row).collect(),
            channels: channels.to_vec(),
            pumps,
        }
    }

    /// Solves ±d ln Pₖ/dz = −αₖ + Σⱼ Cₖⱼ·Pⱼ by sweeps to and fro, each of which keeps the
    /// light that goes the other way; GNPy documentation, "Raman solver". `pump_share` is
    /// the share of a pump's power that gets into the fiber.
    pub fn solve(&self, length_m: f64, powers_w: &[f64], pump_share: f64) -> Pumped {
        let pumped = self.pumps.iter().map(|pump| pump.power_w * pump_share);
        let start: Vec<f64> = powers_w
            .iter()
            .copied()
            .chain(pumped)
            .map(f64::ln)
            .collect();
        let waves = start.len();
        let steps = self.steps(length_m, &start);
        let step_m = length_m / steps as f64;
        let (forward, backward) = (0..self.forward, self.forward..waves);
        let decayed = |place: usize| -> Vec<f64> {
            let gone_m = (steps - place) as f64 * step_m;
            backward
                .clone()
                .map(|k| start[k] - self.alpha_per_m[k] * gone_m)
                .collect()
        };
        let mut against: Vec<Vec<f64>> = (0..=steps).map(decayed).collect();
        let mut with = Vec::new();
        let mut settled = false;
        for _ in 0..SWEEPS {
            with = self.sweep(forward.clone(), &start[forward.clone()], &against, step_m);
            with.reverse();
            let mut now = self.sweep(backward.clone(), &start[backward.clone()], &with, step_m);
            with.reverse();
            now.reverse();
            let mut pairs = now.iter().flatten().zip(against.iter().flatten());
            // NaN is never near, and so never settles.
            let near = pairs.all(|(a, b)| (a - b).abs() < SETTLED);
            let mut all = with.iter().chain(&now).flatten();
            settled = near && all.all(|ln| ln.is_finite());
            // Half steps: with whole ones strong pumps oscillate.
            let half = |(a, b): (&Vec<f64>, &Vec<f64>)| -> Vec<f64> {
                a.iter().zip(b).map(|(a, b)| (a + b) / 2.0).collect()
            };
            against = now.iter().zip(&against).map(half).collect();
            if settled {
                break;
            }
        }
        let z_m: Vec<f64> = (0..=steps).map(|step| step as f64 * step_m).collect();
        let of_channel = |k: usize| with.iter().map(|place| place[k] - start[k]).collect();
        let profile = Profile {
            ln_gain: (0..self.channels.len()).map(of_channel).collect(),
            z_m,
        };
        Pumped {
            spontaneous_w: self.spontaneous_w(&profile, &with, &against, step_m),
            profile,
            settled,
        }
    }

    /// Enough steps for the attenuation and for the strongest exchange there can be.
    fn steps(&self, length_m: f64, start: &[f64]) -> usize {
        let powers_w: Vec<f64> = start.iter().map(|ln| ln.exp()).collect();
        let steepest = (0..start.len()).fold(0.0f64, |most, k| {
            let exchange = dot(&self.raman_per_w_m[k], &powers_w);
            most.max((exchange - self.alpha_per_m[k]).abs())
        });
        let steps = (steepest * length_m / STEP_NEPER).ceil() as usize;
        steps.clamp(LEAST_STEPS, MOST_STEPS)
    }

    /// Logarithms of the moving waves at each place, in the order in which they get there;
    /// those of the others are known there.
    fn sweep(
        &self,
        moving: Range<usize>,
        start: &[f64],
        still: &[Vec<f64>],
        step_m: f64,
    ) -> Vec<Vec<f64>> {
        let slope = |moved: &[f64], still: &[f64]| -> Vec<f64> {
            let ordered = match moving.start {
                0 => [moved, still],
                _ => [still, moved],
            };
            let powers_w: Vec<f64> = ordered.concat().iter().map(|ln| ln.exp()).collect();
            let one = |k: usize| dot(&self.raman_per_w_m[k], &powers_w) - self.alpha_per_m[k];
            moving.clone().map(one).collect()
        };
        let mut at = start.to_vec();
        let mut places = vec![at.clone()];
        for pair in still.windows(2) {
            let ends = pair[0].iter().zip(&pair[1]);
            let middle: Vec<f64> = ends.map(|(a, b)| (a + b) / 2.0).collect();
            let k1 = slope(&at, &pair[0]);
            let k2 = slope(&advanced(&at, &k1, step_m / 2.0), &middle);
            let k3 = slope(&advanced(&at, &k2, step_m / 2.0), &middle);
            let k4 = slope(&advanced(&at, &k3, step_m), &pair[1]);
            for (i, at) in at.iter_mut().enumerate() {
                *at += step_m / 6.0 * (k1[i] + 2.0 * k2[i] + 2.0 * k3[i] + k4[i]);
            }
            places.push(at.clone());
        }
        places
    }

    /// ∫ Σ 2·h·f·B·(1 + η)·C·P/ρ dz over the pumps of higher frequency, with the phonons η
    /// of a warm fiber; Bromage, J. Lightwave Technol. 22 (2004) 79. By trapezia.
    fn spontaneous_w(
        &self,
        profile: &Profile,
        with: &[Vec<f64>],
        against: &[Vec<f64>],
        step_m: f64,
    ) -> Vec<f64> {
        let count = self.channels.len();
        let last = with.len() - 1;
        let of_channel = |(k, channel): (usize, &Channel)| {
            let phonons = |pump: &RamanPump| {
                let quantum_j = PLANCK_J_S * (pump.frequency_hz - channel.frequency_hz);
                (quantum_j > 0.0).then(|| 1.0 + 1.0 / (quantum_j / THERMAL_J).exp_m1())
            };
            let strength = |place: usize| -> f64 {
                let waves = with[place][count..].iter().chain(&against[place]);
                let each = waves.zip(&self.pumps).enumerate();
                let each = each.map(|(p, (ln, pump))| {
                    let gain = self.raman_per_w_m[k][count + p];
                    phonons(pump).map_or(0.0, |phonons| gain * phonons * ln.exp())
                });
                each.sum::<f64>() / profile.ln_gain[k][place].exp()
            };
            let inner: f64 = (1..last).map(strength).sum();
            let integral = step_m * (inner + (strength(0) + strength(last)) / 2.0);
            2.0 * PLANCK_J_S * channel.frequency_hz * channel.symbol_rate_hz * integral
        };
        self.channels.iter().enumerate().map(of_channel).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optics::comb::{ChannelGroup, Comb};
    use crate::optics::fiber::Attenuation;
    use crate::optics::raman::Equations;

    fn comb(channels: usize) -> Comb {
        Comb::new(&[ChannelGroup {
            key: "band".into(),
            first_thz: 192.0,
            spacing_ghz: 500.0,
            symbol_rate_gbd: 100.0,
            channels,
        }])
        .expect("a comb")
    }

    fn fiber(db_per_km: f64) -> OpticalFiber {
        OpticalFiber {
            attenuation: Attenuation::Flat { db_per_km },
            ..OpticalFiber::gnpy()
        }
    }

    fn pump(thz: f64, power_w: f64, direction: Direction) -> RamanPump {
        RamanPump {
            frequency_hz: thz * 1e12,
            power_w,
            direction,
        }
    }

    /// A weak channel gains C·P·Leff from a pump that it does not weaken, whichever way the
    /// pump goes, and nothing else happens to it.
    #[test]
    fn a_weak_channel_gains_what_the_textbook_says() {
        let (fiber, comb, length_m) = (fiber(0.2), comb(1), 80e3);
        let alpha = fiber.attenuation_per_m(192e12);
        let effective_m = -(-alpha * length_m).exp_m1() / alpha;
        for direction in [Direction::Forward, Direction::Backward] {
            let pumps = [pump(205.0, 0.3, direction)];
            let pumped =
                PumpedEquations::new(&fiber, comb.channels(), &pumps).solve(length_m, &[1e-9], 1.0);
            assert!(pumped.settled);
            let gain = fiber.raman_per_w_m(192e12, 205e12) * 0.3 * effective_m;
            let got = pumped.profile.end(0).ln() + alpha * length_m;
            assert!(
                (got / gain - 1.0).abs() < 1e-4,
                "{direction:?}: {got} {gain}"
            );
            assert!(pumped.spontaneous_w[0] > 0.0);
        }
    }

    /// A pump that goes along is a channel like others.
    #[test]
    fn a_pump_that_goes_along_is_one_more_channel() {
        let (fiber, comb) = (fiber(0.2), comb(8));
        let all = comb.channels();
        let (channels, last) = (&all[..7], all[7]);
        let pumps = [pump(last.frequency_hz * 1e-12, 0.2, Direction::Forward)];
        let powers_w = [1e-3, 1e-3, 1e-3, 1e-3, 1e-3, 1e-3, 1e-3, 0.2];
        let together = Equations::new(&fiber, all).solve(80e3, &powers_w);
        let pumped =
            PumpedEquations::new(&fiber, channels, &pumps).solve(80e3, &powers_w[..7], 1.0);
        for channel in 0..7 {
            let ratio = pumped.profile.end(channel) / together.end(channel);
            assert!((ratio - 1.0).abs() < 1e-4, "channel {channel}: {ratio}");
        }
    }

    /// Without loss each photon that a pump loses is one that a channel gains, also against
    /// the channels' way, and also where the pump is nearly used up.
    #[test]
    fn photons_are_conserved_against_the_way() {
        let (fiber, comb) = (fiber(0.0), comb(4));
        let channels = comb.channels();
        for launch_w in [1e-3, 50e-3] {
            let powers_w = [launch_w; 4];
            let pumps = [pump(205.0, 0.4, Direction::Backward)];
            let equations = PumpedEquations::new(&fiber, channels, &pumps);
            let strong = equations.solve(50e3, &powers_w, 1.0);
            assert!(strong.settled);
            // What the pump gave is what the channels got together.
            let got = |place: usize| -> f64 {
                let each = channels.iter().enumerate();
                each.map(|(k, channel)| {
                    powers_w[k] * strong.profile.ln_gain[k][place].exp() / channel.frequency_hz
                })
                .sum()
            };
            let last = strong.profile.z_m.len() - 1;
            let gained = got(last) - got(0);
            let most = 0.4 / 205e12;
            assert!(
                gained > 0.0 && gained < most,
                "{launch_w}: {gained} of {most}"
            );
        }
    }

    /// The strongest pumps that a design may have settle, or are told not to; either way
    /// the sweeps end.
    #[test]
    fn what_settles_is_made_of_numbers() {
        let (fiber, comb) = (fiber(0.2), comb(4));
        for count in [1, 4, 16] {
            for direction in [Direction::Forward, Direction::Backward] {
                let pumps: Vec<RamanPump> = (0..count)
                    .map(|index| pump(203.0 + 0.3 * f64::from(index), 5.0, direction))
                    .collect();
                let equations = PumpedEquations::new(&fiber, comb.channels(), &pumps);
                let pumped = equations.solve(200e3, &[1e-3; 4], 1.0);
                let gains = pumped.profile.ln_gain.iter().flatten();
                let mut all = gains.chain(&pumped.spontaneous_w);
                assert!(!pumped.settled || all.all(|value| value.is_finite()));
            }
        }
        let nothing = [pump(205.0, f64::NAN, Direction::Backward)];
        let equations = PumpedEquations::new(&fiber, comb.channels(), &nothing);
        assert!(!equations.solve(80e3, &[1e-3; 4], 1.0).settled);
    }
}
