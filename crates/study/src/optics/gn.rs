//! Nonlinear interference noise by the Gaussian-noise model in its forms, each
//! its own file. All give the noise power of each channel as if it arose at the
//! fiber's input. Knows no amplifiers.

mod closed;
mod isrs;
mod profile;
mod table;

pub use closed::closed_form_w;
pub use isrs::{Isrs, coherence_exponent, eta_per_w2};
pub use profile::{from_profile, from_profile_w};

/// Weight of a channel's interference with itself, 16/27; Poggiolini, arXiv
/// 1209.0394, eq. 1.
pub const SELF_WEIGHT: f64 = 16.0 / 27.0;

/// Weight of the interference of two channels, twice that of one with itself.
pub const CROSS_WEIGHT: f64 = 32.0 / 27.0;
