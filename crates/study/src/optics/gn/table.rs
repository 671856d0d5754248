//! How strongly a channel's power profile mixes at a phase mismatch, and the integral of that:
//! tabulated once a channel, so that each pair of channels is a look-up.

use std::f64::consts::PI;
use std::sync::{Arc, Mutex, PoisonError};

use rayon::prelude::*;

/// Steps of the grid over one ripple, 2π/L, and over the width of the mixing,
/// α: the coarser of the two, since one of them is faint where the other is not.
const STEPS_A_RIPPLE: f64 = 8.0;
const STEPS_A_WIDTH: f64 = 6.0;

/// Where the grid ends, in those widths; beyond it the tail is known.
const REACH: f64 = 24.0;

/// A grid of phase mismatches and the phases of all places at each of them: the
/// same for all channels of a fiber.
#[derive(Debug)]
pub struct MismatchGrid {
    alpha_per_m: f64,
    step_per_m: f64,
    len: usize,
    /// Cosine and sine of Δβ·z, one row of mismatches for each place.
    phases: Vec<(Vec<f64>, Vec<f64>)>,
    z_m: Vec<f64>,
}

impl MismatchGrid {
    /// A grid for fibers with these places and at least this attenuation.
    pub fn new(z_m: &[f64], alpha_per_m: f64) -> Self {
        let length_m = z_m.last().copied().unwrap_or(0.0);
        let ripple_per_m = 2.0 * PI / length_m;
        let width_per_m = alpha_per_m.max(ripple_per_m);
        let step_per_m = (ripple_per_m / STEPS_A_RIPPLE).max(alpha_per_m / STEPS_A_WIDTH);
        let len = (REACH * width_per_m / step_per_m).ceil() as usize + 1;
        let at = |z: &f64| {
            let angle = |m: usize| m as f64 * step_per_m * z;
            (0..len).map(|m| (angle(m).cos(), angle(m).sin())).unzip()
        };
        Self {
            alpha_per_m,
            step_per_m,
            len,
            phases: z_m.par_iter().map(at).collect(),
            z_m: z_m.to_vec(),
        }
    }

    /// |∫ρ(z)·e^(jΔβz)dz|² at each mismatch, where ln ρ is straight between the
    /// places; the integral over each piece is exact. Piece after piece, so that the
    /// compiler makes vectors of the mismatches.
    fn mixing_m2(&self, ln_gain: &[f64]) -> Vec<f64> {
        let (mut re, mut im) = (vec![0.0; self.len], vec![0.0; self.len]);
        for (j, pair) in self.phases.windows(2).enumerate() {
            let step_m = self.z_m[j + 1] - self.z_m[j];
            let slope = (ln_gain[j + 1] - ln_gain[j]) / step_m;
            let (left, right) = (ln_gain[j].exp(), ln_gain[j + 1].exp());
            let ((cos0, sin0), (cos1, sin1)) = (&pair[0], &pair[1]);
            let phases = cos0.iter().zip(sin0).zip(cos1.iter().zip(sin1));
            let sums = re.iter_mut().zip(im.iter_mut());
            for (m, ((re, im), ((c0, s0), (c1, s1)))) in sums.zip(phases).enumerate() {
                let mismatch = m as f64 * self.step_per_m;
                // (ρ₁e^(jΔβz₁) − ρ₀e^(jΔβz₀)) / (slope + jΔβ), unless both vanish.
                let norm = slope * slope + mismatch * mismatch;
                let (x, y) = (right * c1 - left * c0, right * s1 - left * s0);
                let vanishes = norm < 1e-18;
                let scale = 1.0 / norm;
                *re += match vanishes {
                    true => left * step_m,
                    false => (x * slope + y * mismatch) * scale,
                };
                *im += match vanishes {
                    true => 0.0,
                    false => (y * slope - x * mismatch) * scale,
                };
            }
        }
        re.iter()
            .zip(&im)
            .map(|(re, im)| re * re + im * im)
            .collect()
    }
}

/// The last grid: a search for powers passes the same fiber hundreds of times.
#[derive(Debug, Default)]
pub struct LastGrid(Mutex<Option<Arc<MismatchGrid>>>);

impl LastGrid {
    /// As `MismatchGrid::new`.
    pub fn get(&self, z_m: &[f64], alpha_per_m: f64) -> Arc<MismatchGrid> {
        let last = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |grid: &Arc<MismatchGrid>| grid.alpha_per_m == alpha_per_m && grid.z_m == z_m;
        let known = last().clone().filter(is_it);
        known.unwrap_or_else(|| {
            let grid = Arc::new(MismatchGrid::new(z_m, alpha_per_m));
            last().insert(grid).clone()
        })
    }
}

/// The mixing of one channel's profile and its integral from zero.
#[derive(Debug)]
pub struct MixingTable {
    step_per_m: f64,
    mixing_m2: Vec<f64>,
    integral_m: Vec<f64>,
    /// Added to the tail's law to meet the table's last value.
    beyond_m: f64,
    tail: f64,
}

impl MixingTable {
    /// The table of a channel whose logarithm of power over its input is given
    /// at the grid's places.
    pub fn new(grid: &MismatchGrid, ln_gain: &[f64]) -> Self {
        let mixing_m2 = grid.mixing_m2(ln_gain);
        let integral_m = integrated(&mixing_m2, grid.step_per_m);
        // Far out only the jumps at both ends of the fiber are left of the
        // integral: |μ|² → (1 + ρ(L)²)/Δβ² on average.
        let end = ln_gain.last().map_or(0.0, |ln| ln.exp());
        let tail = 1.0 + end * end;
        let last_per_m = (mixing_m2.len() - 1) as f64 * grid.step_per_m;
        let beyond_m = integral_m.last().copied().unwrap_or(0.0) + tail / last_per_m;
        Self {
            step_per_m: grid.step_per_m,
            mixing_m2,
            integral_m,
            beyond_m,
            tail,
        }
    }

    /// ∫₀^Φ |μ(Δβ)|² dΔβ, in metres.
    pub fn integral_m(&self, mismatch_per_m: f64) -> f64 {
        let at = mismatch_per_m / self.step_per_m;
        let index = at as usize;
        if index + 1 >= self.integral_m.len() {
            return self.beyond_m - self.tail / mismatch_per_m;
        }
        // Hermite's cubic: the derivative of the integral is the mixing.
        let t = at - index as f64;
        let (y0, y1) = (self.integral_m[index], self.integral_m[index + 1]);
        let d0 = self.mixing_m2[index] * self.step_per_m;
        let d1 = self.mixing_m2[index + 1] * self.step_per_m;
        let rise = y1 - y0;
        y0 + t * (d0 + t * (3.0 * rise - 2.0 * d0 - d1 + t * (d0 + d1 - 2.0 * rise)))
    }

    /// |μ(0)|², the square of the effective length.
    pub fn peak_m2(&self) -> f64 {
        self.mixing_m2[0]
    }
}

/// Running integral of an even function, by the cubic through four points.
fn integrated(values: &[f64], step: f64) -> Vec<f64> {
    let last = values.len() - 1;
    let mut sum = 0.0;
    let mut out = Vec::with_capacity(values.len());
    out.push(0.0);
    for i in 0..last {
        let before = values[if i == 0 { 1 } else { i - 1 }];
        let after = values[(i + 2).min(last)];
        sum += step / 24.0 * (13.0 * (values[i] + values[i + 1]) - before - after);
        out.push(sum);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exponential(alpha_per_m: f64, length_m: f64) -> (MixingTable, f64) {
        let z_m: Vec<f64> = (0..=40).map(|i| length_m * f64::from(i) / 40.0).collect();
        let grid = MismatchGrid::new(&z_m, alpha_per_m);
        let ln: Vec<f64> = z_m.iter().map(|z| -alpha_per_m * z).collect();
        (
            MixingTable::new(&grid, &ln),
            grid.step_per_m * (grid.len - 1) as f64,
        )
    }

    /// For a long exponential |μ|² = 1/(α² + Δβ²), whose integral is an arc
    /// tangent; the exact one of any length comes by fine trapezia.
    #[test]
    fn the_integral_of_an_exponential_is_met() {
        for (alpha, length_m) in [
            (4.6e-5, 400e3),
            (4.6e-5, 80e3),
            (4.6e-5, 10e3),
            (1e-7, 50e3),
        ] {
            let (table, reach) = exponential(alpha, length_m);
            let exact = |at: f64| {
                let end = (-alpha * length_m).exp();
                let numerator = 1.0 + end * end - 2.0 * end * (at * length_m).cos();
                numerator / (alpha * alpha + at * at)
            };
            let steps = 400_000;
            let mut sum = 0.0;
            let step = 3.0 * reach / f64::from(steps);
            for i in 0..steps {
                let (left, right) = (f64::from(i) * step, f64::from(i + 1) * step);
                sum +=
                    (exact(left) + exact(right) + 4.0 * exact((left + right) / 2.0)) * step / 6.0;
                if i % 40_000 == 17 {
                    let got = table.integral_m(right);
                    assert!(
                        (got / sum - 1.0).abs() < 1e-3,
                        "{alpha} {length_m} {i}: {got} {sum}"
                    );
                }
            }
            // Parseval: all of it is π times the integral of the squared profile.
            let all = PI * -(-2.0 * alpha * length_m).exp_m1() / (2.0 * alpha);
            let got = table.integral_m(1e6 * reach);
            assert!(
                (got / all - 1.0).abs() < 1e-3,
                "{alpha} {length_m}: {got} {all}"
            );
        }
    }
}
