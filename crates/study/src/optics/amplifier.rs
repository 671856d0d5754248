//! Amplifiers: how much noise they add and how much light they can give. Knows
//! no fiber; what they cost is a matter of data sheets.

use super::units::{PLANCK_J_S, linear};

/// An amplifier of one band.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Amplifier {
    /// Noise figure.
    pub noise_figure_db: f64,
    /// Most light that it gives, over all channels.
    pub max_output_dbm: f64,
    /// Most gain that it gives.
    pub max_gain_db: f64,
}

/// An amplifier with a name.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    /// The name, as a design file has it.
    pub name: &'static str,
    /// What it is.
    pub title: &'static str,
    /// Where its figures come from.
    pub source: &'static str,
    /// The amplifier.
    pub amplifier: Amplifier,
}

/// Amplifiers by name.
pub const PRESETS: [Preset; 4] = [
    Preset {
        name: "edfa-c",
        title: "erbium-doped fiber, C band",
        source: "vendors: noise figure 4.5 to 6 dB; high-power types to 23 dBm and more",
        amplifier: amplifier(5.0, 23.0, 35.0),
    },
    Preset {
        name: "edfa-l",
        title: "erbium-doped fiber, L band",
        source: "vendors: noise figure 4.5 to 6 dB, the L band at its upper end",
        amplifier: amplifier(5.5, 23.0, 35.0),
    },
    Preset {
        name: "tdfa-s",
        title: "thulium-doped fiber, S band",
        source: "assumption: noise figure 5 to 7 dB",
        amplifier: amplifier(6.0, 23.0, 35.0),
    },
    Preset {
        name: "bdfa-e",
        title: "bismuth-doped fiber, E band",
        source: "Donodin 2021/2024: noise figure 4.6 to 4.75 dB, gain 31 to 40 dB",
        amplifier: amplifier(4.7, 23.0, 35.0),
    },
];

const fn amplifier(noise_figure_db: f64, max_output_dbm: f64, max_gain_db: f64) -> Amplifier {
    Amplifier {
        noise_figure_db,
        max_output_dbm,
        max_gain_db,
    }
}

/// The preset of that name.
pub fn preset(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
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
