//! Amplifiers: how much noise they add and how much light they can give.

use super::units::{PLANCK_J_S, linear};

/// An amplifier of one band.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Amplifier {
    /// Noise figure.
    pub noise_figure_db: f64,
    /// Maximum output power over all channels, in dBm.
    pub max_output_dbm: f64,
    /// Maximum gain in dB.
    pub max_gain_db: f64,
}

/// Amplified spontaneous emission in both polarisations, (F·G − 1)·h·f·B; from
/// the definition of the noise figure, Agrawal, Fiber-Optic Communication
/// Systems, section 7.2.3. GNPy leaves the −1 out.
pub fn emission_w(noise_figure_db: f64, gain_db: f64, frequency_hz: f64, width_hz: f64) -> f64 {
    let photons = linear(noise_figure_db) * linear(gain_db) - 1.0;
    photons.max(0.0) * PLANCK_J_S * frequency_hz * width_hz
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optics::units::dbm;

    /// The rule of thumb of the field: an ideal amplifier of high gain emits
    /// −58 dBm in 0.1 nm over its input.
    #[test]
    fn an_ideal_amplifier_emits_minus_58_dbm() {
        let emitted = emission_w(0.0, 30.0, 193.4e12, 12.5e9);
        assert!(
            (dbm(emitted) - 30.0 + 57.95).abs() < 0.02,
            "{}",
            dbm(emitted)
        );
    }

    #[test]
    fn no_gain_from_a_quiet_amplifier_is_no_noise() {
        assert_eq!(emission_w(0.0, 0.0, 193.4e12, 12.5e9), 0.0);
        assert_eq!(emission_w(3.0, -10.0, 193.4e12, 12.5e9), 0.0);
    }
}
