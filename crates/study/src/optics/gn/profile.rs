//! The GN model integrated over a numerically solved power profile: any band, any Raman
//! scattering. A channel with itself is exact; two channels take the product of their spectra;
//! mixing of three is left out, as in GNPy.

use std::f64::consts::{FRAC_PI_2, PI};

use rayon::prelude::*;

use super::table::{LastGrid, MixingTable};
use super::{CROSS_WEIGHT, SELF_WEIGHT};
use crate::optics::comb::Channel;
use crate::optics::fiber::OpticalFiber;
use crate::optics::raman::{Equations, Profile};

/// Channels that are closer than this, in their symbol rates, are integrated
/// with many nodes and with the edges of their spectra.
const NEAR: f64 = 4.0;

/// Nodes and weights of Gauss and Legendre on −1 to 1: half of them, since they
/// are symmetric.
const GAUSS_8: [(f64, f64); 4] = [
    (0.183_434_642_495_649_8, 0.362_683_783_378_362),
    (0.525_532_409_916_329, 0.313_706_645_877_887_3),
    (0.796_666_477_413_626_7, 0.222_381_034_453_374_5),
    (0.960_289_856_497_536_2, 0.101_228_536_290_376_3),
];
const GAUSS_2: f64 = 0.577_350_269_189_625_7;

/// Nonlinear noise of each channel at the input of a span, for powers there.
pub fn from_profile_w(
    fiber: &OpticalFiber,
    length_m: f64,
    channels: &[Channel],
    powers_w: &[f64],
) -> Vec<f64> {
    let profile = Equations::new(fiber, channels).solve(length_m, powers_w);
    let grid = LastGrid::default();
    let (itself, others) = from_profile(fiber, &profile, channels, powers_w, &grid);
    itself.iter().zip(others).map(|(a, b)| a + b).collect()
}

/// The same over a profile that is already known: the noise of each channel
/// with itself, and that with all others. Poggiolini, arXiv 1209.0394, eq. 1,
/// with the profile's μ of Cantono et al., arXiv 1710.02225, eq. 21.
pub fn from_profile(
    fiber: &OpticalFiber,
    profile: &Profile,
    channels: &[Channel],
    powers_w: &[f64],
    grid: &LastGrid,
) -> (Vec<f64>, Vec<f64>) {
    // Where pumps make up for the attenuation, light does not fade over the fiber.
    let length_m = profile.z_m.last().copied().unwrap_or(0.0);
    let faded = |ln_gain: &Vec<f64>| -ln_gain.last().copied().unwrap_or(0.0) / length_m;
    let least_alpha = channels
        .iter()
        .zip(&profile.ln_gain)
        .map(|(channel, ln_gain)| {
            let alpha = fiber.attenuation_per_m(channel.frequency_hz);
            match faded(ln_gain) < alpha / 2.0 {
                true => faded(ln_gain).max(0.0),
                false => alpha,
            }
        })
        .fold(f64::MAX, f64::min);
    let grid = grid.get(&profile.z_m, least_alpha);
    let tables: Vec<MixingTable> = profile
        .ln_gain
        .par_iter()
        .map(|ln_gain| MixingTable::new(&grid, ln_gain))
        .collect();
    let delays: Vec<Delays> = channels
        .iter()
        .map(|channel| Delays::new(fiber, channel))
        .collect();
    let noise = |i: usize| {
        let channel = &channels[i];
        let gamma = fiber.gamma_per_w_m(channel.frequency_hz);
        let density = |k: usize| (powers_w[k] / channels[k].symbol_rate_hz).powi(2);
        let beta2 = fiber.beta2_s2_per_m(channel.frequency_hz).abs();
        let itself = SELF_WEIGHT * density(i) * self_mixing(&tables[i], channel, beta2);
        let others: f64 = (0..channels.len())
            .filter(|k| *k != i)
            .map(|k| {
                let walk = |node: usize| delays[k].walk_off(node, &delays[i]);
                density(k) * cross_mixing(&tables[k], channel, &channels[k], walk)
            })
            .sum();
        let scale = gamma * gamma * powers_w[i];
        (scale * itself, scale * CROSS_WEIGHT * others)
    };
    (0..channels.len()).into_par_iter().map(noise).unzip()
}

/// Group delays at a channel's centre and at the nodes of its spectrum.
struct Delays {
    centre_s_per_m: f64,
    /// Eight nodes from the lower to the upper edge, then two.
    nodes_s_per_m: [f64; 10],
}

impl Delays {
    fn new(fiber: &OpticalFiber, channel: &Channel) -> Self {
        let delay = |side: f64| {
            let hz = channel.frequency_hz + side * channel.symbol_rate_hz / 2.0;
            fiber.dispersion.group_delay_s_per_m(hz)
        };
        Self {
            centre_s_per_m: delay(0.0),
            nodes_s_per_m: std::array::from_fn(|node| delay(node_side(node))),
        }
    }

    /// Mismatch per metre and hertz between light at a node of this channel and
    /// the centre of another: Δβ = 2π·(τ − τ′)·f.
    fn walk_off(&self, node: usize, other: &Delays) -> f64 {
        2.0 * PI * (self.nodes_s_per_m[node] - other.centre_s_per_m).abs()
    }
}

/// Where a node lies between the edges, from −1 to 1.
fn node_side(node: usize) -> f64 {
    match node {
        0..4 => -GAUSS_8[3 - node].0,
        4..8 => GAUSS_8[node - 4].0,
        8 => -GAUSS_2,
        _ => GAUSS_2,
    }
}

/// ∫∫|μ|² of a channel with itself, in m²·Hz², over all f₁, f₂ with f₁ + f₂ in
/// the spectrum too. With u = f₁·f₂ and M the table's integral, two squares and
/// two triangles are left, each a smooth integral of M.
fn self_mixing(table: &MixingTable, channel: &Channel, beta2_s2_per_m: f64) -> f64 {
    let half_hz = channel.symbol_rate_hz / 2.0;
    let curve = 4.0 * PI * PI * beta2_s2_per_m;
    let most = curve * half_hz * half_hz;
    if most < 1e-6 * table_width(table) {
        return 3.0 * half_hz * half_hz * table.peak_m2();
    }
    let squares = gauss(|s| 2.0 * table.integral_m(most * s * s) / s);
    let triangles = gauss(|s| {
        let sin = (FRAC_PI_2 * s).sin();
        FRAC_PI_2 * 2.0 * table.integral_m(most / 4.0 * sin * sin) / sin
    });
    2.0 * (squares + triangles) / curve
}

/// The mismatch over which a profile mixes, about 1 over its effective length.
fn table_width(table: &MixingTable) -> f64 {
    1.0 / table.peak_m2().sqrt()
}

/// ∫₀¹ of a smooth function: eight nodes on each of four parts.
fn gauss(f: impl Fn(f64) -> f64) -> f64 {
    const PARTS: usize = 4;
    let half = 0.5 / PARTS as f64;
    let part = |part: usize| {
        let middle = (2 * part + 1) as f64 * half;
        let pair = |&(node, weight): &(f64, f64)| {
            weight * (f(middle - half * node) + f(middle + half * node))
        };
        half * GAUSS_8.iter().map(pair).sum::<f64>()
    };
    (0..PARTS).map(part).sum()
}

/// ∫∫|μ|² of two channels, in m²·Hz²: f₁ and f₁ + f₂ in the other's spectrum, f₂
/// in the channel's own, around its centre.
fn cross_mixing(
    table: &MixingTable,
    channel: &Channel,
    other: &Channel,
    walk_off: impl Fn(usize) -> f64,
) -> f64 {
    let half_hz = other.symbol_rate_hz / 2.0;
    let reach_hz = channel.symbol_rate_hz / 2.0;
    let distance_hz = (other.frequency_hz - channel.frequency_hz).abs();
    let inner = |node: usize, upto_hz: f64| {
        let per_m_hz = walk_off(node);
        let mismatch_per_m = per_m_hz * upto_hz;
        // Channels that run together all the way mix as at zero mismatch.
        if mismatch_per_m < 1e-9 * table_width(table) {
            return table.peak_m2() * upto_hz;
        }
        table.integral_m(mismatch_per_m) / per_m_hz
    };
    if distance_hz > NEAR * (half_hz + reach_hz) {
        return 2.0 * half_hz * (inner(8, reach_hz) + inner(9, reach_hz));
    }
    let node = |node: usize| {
        let (side, weight) = (
            node_side(node),
            GAUSS_8[if node < 4 { 3 - node } else { node - 4 }].1,
        );
        let up_hz = reach_hz.min(half_hz * (1.0 - side));
        let down_hz = reach_hz.min(half_hz * (1.0 + side));
        half_hz * weight * (inner(node, up_hz) + inner(node, down_hz))
    };
    (0..8).map(node).sum()
}
