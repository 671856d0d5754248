//! A fiber over all bands: loss, dispersion, mode area, nonlinearity and Raman gain.

mod area;
mod attenuation;
mod dispersion;
mod raman_gain;

pub use area::EffectiveArea;
pub use attenuation::Attenuation;
pub use dispersion::Dispersion;
pub use raman_gain::RamanGain;

use std::f64::consts::PI;

use super::units::LIGHT_M_PER_S;

/// A fiber, or one core of one.
#[derive(Clone, Debug, PartialEq)]
pub struct OpticalFiber {
    /// Loss over wavelength.
    pub attenuation: Attenuation,
    /// Chromatic dispersion over wavelength.
    pub dispersion: Dispersion,
    /// Area of the mode over frequency.
    pub effective_area: EffectiveArea,
    /// Kerr coefficient n₂ of what the light is in.
    pub nonlinear_index_m2_per_w: f64,
    /// Power that passes from higher to lower frequencies.
    pub raman_gain: RamanGain,
    /// Speed of light in vacuum over the speed of a pulse.
    pub group_index: f64,
    /// Power that one kilometre couples in from the neighbouring cores, as a
    /// share of a core's own.
    pub crosstalk_per_km: f64,
}

impl OpticalFiber {
    /// The fiber that GNPy assumes: 0.2 dB/km, 83 µm², one β₂ at all
    /// wavelengths; with the Raman gain of silica.
    pub fn gnpy() -> Self {
        Self {
            attenuation: Attenuation::Flat { db_per_km: 0.2 },
            dispersion: Dispersion::ConstantBeta2 {
                ps_per_nm_km: 16.7,
                reference_nm: 1550.0,
            },
            effective_area: EffectiveArea::standard(83.0),
            nonlinear_index_m2_per_w: 2.6e-20,
            raman_gain: RamanGain::silica(),
            group_index: 1.468,
            crosstalk_per_km: 0.0,
        }
    }

    /// Attenuation in dB/km at a frequency.
    pub fn attenuation_db_per_km(&self, frequency_hz: f64) -> f64 {
        self.attenuation.db_per_km(frequency_hz)
    }

    /// Attenuation of power α in nepers per metre: P(z) = P(0)·e^(−αz).
    pub fn attenuation_per_m(&self, frequency_hz: f64) -> f64 {
        self.attenuation_db_per_km(frequency_hz) * 1e-3 / super::units::DB_PER_NEPER
    }

    /// Dispersion of group velocity β₂ in s²/m.
    pub fn beta2_s2_per_m(&self, frequency_hz: f64) -> f64 {
        self.dispersion.beta2_s2_per_m(frequency_hz)
    }

    /// Kerr nonlinearity γ = 2πf·n₂/(c·A) in 1/(W·m); Agrawal, Nonlinear Fiber
    /// Optics, eq. 2.3.29.
    pub fn gamma_per_w_m(&self, frequency_hz: f64) -> f64 {
        let area_m2 = self.effective_area.um2(frequency_hz) * 1e-12;
        2.0 * PI * frequency_hz * self.nonlinear_index_m2_per_w / (LIGHT_M_PER_S * area_m2)
    }

    /// What a watt at `other_hz` adds to (or, below zero, takes from) the
    /// logarithm of the power at `frequency_hz`, in 1/(W·m). Each photon that
    /// the higher frequency loses, the lower one gains; GNPy documentation,
    /// "Raman solver", with the photon's share f/f′ of the loss.
    pub fn raman_per_w_m(&self, frequency_hz: f64, other_hz: f64) -> f64 {
        let pump_hz = frequency_hz.max(other_hz);
        let shift_hz = (frequency_hz - other_hz).abs();
        let area_m2 =
            0.5e-12 * (self.effective_area.um2(frequency_hz) + self.effective_area.um2(other_hz));
        let gain = self.raman_gain.m_per_w(shift_hz, pump_hz) / area_m2;
        if other_hz >= frequency_hz {
            gain
        } else {
            -gain * frequency_hz / other_hz
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gamma_is_that_of_the_reference() {
        let gamma = OpticalFiber::gnpy().gamma_per_w_m(LIGHT_M_PER_S / 1550e-9) * 1e3;
        assert!((gamma - 1.27).abs() < 0.005, "{gamma}");
    }

    /// What the lower frequency gains in photons, the higher loses.
    #[test]
    fn photons_are_conserved() {
        let fiber = OpticalFiber::gnpy();
        let (low_hz, high_hz) = (187e12, 196e12);
        let gained = fiber.raman_per_w_m(low_hz, high_hz) / low_hz;
        let lost = fiber.raman_per_w_m(high_hz, low_hz) / high_hz;
        assert!(gained > 0.0 && (gained + lost).abs() < 1e-12 * gained);
        assert_eq!(fiber.raman_per_w_m(low_hz, low_hz), 0.0);
    }
}
