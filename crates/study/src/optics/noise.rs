//! What one span does to every channel: loss, the gain that makes up for it, and the noise of
//! amplifiers and of nonlinearity.

use serde::{Deserialize, Serialize};

use super::amplifier::{Amplifier, emission_w};
use super::comb::Comb;
use super::fiber::OpticalFiber;
use super::gn::{Isrs, LastGrid, closed_form_parts_w, eta_parts_per_w2, from_profile};
use super::raman::{Equations, Profile, PumpedEquations, RamanPump};
use super::units::{db, linear};

/// How nonlinear noise is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoiseModel {
    /// The GN model integrated over the solved power profile.
    #[default]
    Profile,
    /// The closed form without Raman scattering.
    Gn,
    /// The closed form with a triangular Raman gain.
    IsrsGn,
}

/// A span: fiber, connectors, the splitters of the bands, an amplifier a group.
#[derive(Clone, Debug)]
pub struct Span {
    /// The fiber.
    pub fiber: OpticalFiber,
    /// Its length.
    pub length_km: f64,
    /// Loss of the connector at each end.
    pub connector_loss_db: f64,
    /// Loss of putting the bands together before the fiber, and again of taking
    /// them apart after it.
    pub splitter_loss_db: f64,
    /// The amplifier of each group of the comb.
    pub amplifiers: Vec<Amplifier>,
    /// Raman pumps, beside the amplifiers.
    pub pumps: Vec<RamanPump>,
    /// How nonlinear noise is computed.
    pub model: NoiseModel,
}

/// Noise over signal of one span, for one channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Noise {
    /// Of the spontaneous emission of the amplifier, and of Raman pumps.
    pub emission: f64,
    /// Of the channel's nonlinear interference with itself.
    pub nonlinear_self: f64,
    /// Of that with all other channels.
    pub nonlinear_cross: f64,
    /// Of light from neighbouring cores.
    pub crosstalk: f64,
}

impl Noise {
    /// The mean over spans of several kinds, of each so many.
    pub fn mean(kinds: impl IntoIterator<Item = (Noise, u32)>) -> Noise {
        let (mut sum, mut spans) = (Noise::default(), 0.0);
        for (noise, count) in kinds {
            let count = f64::from(count);
            sum.emission += count * noise.emission;
            sum.nonlinear_self += count * noise.nonlinear_self;
            sum.nonlinear_cross += count * noise.nonlinear_cross;
            sum.crosstalk += count * noise.crosstalk;
            spans += count;
        }
        Noise {
            emission: sum.emission / spans,
            nonlinear_self: sum.nonlinear_self / spans,
            nonlinear_cross: sum.nonlinear_cross / spans,
            crosstalk: sum.crosstalk / spans,
        }
    }
}

/// What a span does, channel by channel.
#[derive(Clone, Debug)]
pub struct Passage {
    /// Loss from amplifier to amplifier, which is the gain as well.
    pub loss_db: Vec<f64>,
    /// Noise over signal.
    pub noise: Vec<Noise>,
    /// The powers along the fiber.
    pub profile: Profile,
    /// Whether the powers of pumped channels settled; if not, the rest means nothing.
    pub settled: bool,
}

/// A span together with a comb: what does not depend on the powers is done once.
#[derive(Debug)]
pub struct Solver<'a> {
    span: &'a Span,
    comb: &'a Comb,
    equations: Equations,
    pumped: Option<PumpedEquations>,
    grid: LastGrid,
}

impl<'a> Solver<'a> {
    /// Prepares the power equations of a comb in a span.
    pub fn new(span: &'a Span, comb: &'a Comb) -> Self {
        let equations = Equations::new(&span.fiber, comb.channels());
        Self {
            span,
            comb,
            equations,
            grid: LastGrid::default(),
            pumped: (!span.pumps.is_empty())
                .then(|| PumpedEquations::new(&span.fiber, comb.channels(), &span.pumps)),
        }
    }

    /// Lets the comb pass, at these powers behind the amplifiers. Each channel's
    /// gain is its loss: an ideal equaliser after each amplifier levels the
    /// comb again.
    pub fn pass(&self, launch_w: &[f64]) -> Passage {
        let span = self.span;
        let side = linear(-span.connector_loss_db - span.splitter_loss_db);
        let input_w: Vec<f64> = launch_w.iter().map(|power_w| power_w * side).collect();
        let (profile, spontaneous_w, settled) = match &self.pumped {
            None => {
                let profile = self.equations.solve(span.length_km * 1e3, &input_w);
                (profile, vec![0.0; input_w.len()], true)
            }
            Some(equations) => {
                let share = linear(-span.connector_loss_db);
                let pumped = equations.solve(span.length_km * 1e3, &input_w, share);
                (pumped.profile, pumped.spontaneous_w, pumped.settled)
            }
        };
        let (itself, others) = self.nonlinear_w(&profile, &input_w);
        let channels = self.comb.channels();
        let loss_db: Vec<f64> = (0..channels.len())
            .map(|i| -db(profile.end(i) * side * side))
            .collect();
        let noise = |i: usize| {
            let channel = &channels[i];
            let amplifier = &span.amplifiers[channel.group];
            let emission_w = emission_w(
                amplifier.noise_figure_db,
                loss_db[i],
                channel.frequency_hz,
                channel.symbol_rate_hz,
            );
            Noise {
                emission: emission_w / launch_w[i] + spontaneous_w[i] / input_w[i],
                nonlinear_self: itself[i] / input_w[i],
                nonlinear_cross: others[i] / input_w[i],
                crosstalk: span.fiber.crosstalk_per_km * span.length_km,
            }
        };
        Passage {
            noise: (0..channels.len()).map(noise).collect(),
            loss_db,
            profile,
            settled,
        }
    }

    fn nonlinear_w(&self, profile: &Profile, input_w: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let (fiber, channels) = (&self.span.fiber, self.comb.channels());
        // The closed forms divide by what glass alone has: loss and dispersion.
        if fiber.nonlinear_index_m2_per_w == 0.0 {
            return (vec![0.0; channels.len()], vec![0.0; channels.len()]);
        }
        let length_m = self.span.length_km * 1e3;
        match self.span.model {
            NoiseModel::Profile => from_profile(fiber, profile, channels, input_w, &self.grid),
            NoiseModel::Gn => closed_form_parts_w(fiber, length_m, channels, input_w),
            NoiseModel::IsrsGn => {
                let span = Isrs::of(fiber, length_m, channels);
                let (itself, others) = eta_parts_per_w2(&span, channels, input_w);
                let noise_w = |eta: Vec<f64>| {
                    let pairs = eta.iter().zip(input_w);
                    pairs.map(|(eta, power_w)| eta * power_w.powi(3)).collect()
                };
                (noise_w(itself), noise_w(others))
            }
        }
    }
}

/// How the noise of span after span adds up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Accumulation {
    /// By power: n spans make n times the noise of one.
    #[default]
    Incoherent,
    /// The interference of a channel with itself adds up faster, as n^(1+ε).
    Coherent,
}

/// Noise over signal after a number of spans, the transceiver's own included; with a
/// booster, that of both.
pub fn accumulated(noise: &Noise, spans: f64, exponent: f64, transceiver_snr_db: f64) -> f64 {
    let by_power = noise.emission + noise.nonlinear_cross + noise.crosstalk;
    let itself = noise.nonlinear_self * spans.powf(exponent);
    spans * (by_power + itself) + linear(-transceiver_snr_db)
}
