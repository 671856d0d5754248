//! Nonlinear interference noise by the Gaussian-noise model, each of its forms in a file. All
//! give the noise power of each channel as if it arose at the fiber's input.

mod closed;
mod isrs;
mod profile;
mod table;

pub use closed::{closed_form_parts_w, closed_form_w};
pub use isrs::{Isrs, coherence_exponent, eta_parts_per_w2, eta_per_w2};
pub use profile::{from_profile, from_profile_w};
pub use table::LastGrid;

/// Dispersion β₂ in s²/m and loss in 1/m below which nothing changes any more:
/// what the closed forms, which divide by both, take for none.
const NO_DISPERSION: f64 = 1e-30;
const NO_LOSS: f64 = 1e-10;

/// `value`, but at least `least` away from 0.
fn away_from_zero(value: f64, least: f64) -> f64 {
    value.abs().max(least).copysign(value)
}

/// Weight of a channel's interference with itself, 16/27; Poggiolini, arXiv
/// 1209.0394, eq. 1.
pub const SELF_WEIGHT: f64 = 16.0 / 27.0;

/// Weight of the interference of two channels, twice that of one with itself.
pub const CROSS_WEIGHT: f64 = 32.0 / 27.0;
