//! Chromatic dispersion over wavelength.

use std::f64::consts::PI;

use crate::optics::units::{LIGHT_M_PER_S, wavelength_nm};

/// Dispersion over wavelength.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Dispersion {
    /// β₂ that does not depend on frequency: what GNPy assumes without a slope.
    ConstantBeta2 {
        /// Dispersion at the reference.
        ps_per_nm_km: f64,
        /// Wavelength of the reference.
        reference_nm: f64,
    },
    /// D that changes linearly with the wavelength.
    Linear {
        /// Dispersion at the reference.
        ps_per_nm_km: f64,
        /// Its slope.
        slope_ps_per_nm2_km: f64,
        /// Wavelength of the reference.
        reference_nm: f64,
    },
    /// The three-term Sellmeier form of ITU-T G.652: D = S₀/4·(λ − λ₀⁴/λ³).
    Sellmeier {
        /// Wavelength λ₀ without dispersion.
        zero_nm: f64,
        /// Slope S₀ there.
        slope_ps_per_nm2_km: f64,
    },
}

impl Dispersion {
    /// The Sellmeier form through the dispersions at 1550 and 1625 nm; a straight
    /// line where none goes through both, as through two zeros.
    pub fn through(at_1550_ps_per_nm_km: f64, at_1625_ps_per_nm_km: f64) -> Self {
        // D = a·λ − b/λ³ with a = S₀/4 and b = a·λ₀⁴: two linear equations.
        let (short, long) = (1550.0f64, 1625.0f64);
        let b = (at_1625_ps_per_nm_km - at_1550_ps_per_nm_km * long / short)
            / (long / short.powi(4) - long.powi(-3));
        let a = (at_1550_ps_per_nm_km + b / short.powi(3)) / short;
        if b / a > 0.0 {
            return Self::Sellmeier {
                zero_nm: (b / a).powf(0.25),
                slope_ps_per_nm2_km: 4.0 * a,
            };
        }
        Self::Linear {
            ps_per_nm_km: at_1550_ps_per_nm_km,
            slope_ps_per_nm2_km: (at_1625_ps_per_nm_km - at_1550_ps_per_nm_km) / (long - short),
            reference_nm: short,
        }
    }

    /// Dispersion D at a frequency.
    pub fn ps_per_nm_km(&self, frequency_hz: f64) -> f64 {
        let nm = wavelength_nm(frequency_hz * 1e-12);
        match *self {
            Self::ConstantBeta2 {
                ps_per_nm_km,
                reference_nm,
            } => ps_per_nm_km * (reference_nm / nm).powi(2),
            Self::Linear {
                ps_per_nm_km,
                slope_ps_per_nm2_km,
                reference_nm,
            } => ps_per_nm_km + slope_ps_per_nm2_km * (nm - reference_nm),
            Self::Sellmeier {
                zero_nm,
                slope_ps_per_nm2_km,
            } => slope_ps_per_nm2_km / 4.0 * (nm - zero_nm.powi(4) / nm.powi(3)),
        }
    }

    /// β₂ = −D·λ²/(2πc); Agrawal, Fiber-Optic Communication Systems, eq. 2.3.5.
    pub fn beta2_s2_per_m(&self, frequency_hz: f64) -> f64 {
        let wavelength_m = LIGHT_M_PER_S / frequency_hz;
        let d_s_per_m2 = self.ps_per_nm_km(frequency_hz) * 1e-6;
        -d_s_per_m2 * wavelength_m * wavelength_m / (2.0 * PI * LIGHT_M_PER_S)
    }

    /// Group delay ∫D dλ per length, up to a constant: only differences between
    /// frequencies have a meaning.
    pub fn group_delay_s_per_m(&self, frequency_hz: f64) -> f64 {
        let nm = wavelength_nm(frequency_hz * 1e-12);
        let ps_per_km = match *self {
            Self::ConstantBeta2 {
                ps_per_nm_km,
                reference_nm,
            } => ps_per_nm_km * reference_nm * (1.0 - reference_nm / nm),
            Self::Linear {
                ps_per_nm_km,
                slope_ps_per_nm2_km,
                reference_nm,
            } => {
                let offset_nm = nm - reference_nm;
                offset_nm * (ps_per_nm_km + slope_ps_per_nm2_km / 2.0 * offset_nm)
            }
            Self::Sellmeier {
                zero_nm,
                slope_ps_per_nm2_km,
            } => slope_ps_per_nm2_km / 8.0 * (nm - zero_nm * zero_nm / nm).powi(2),
        };
        ps_per_km * 1e-15
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMS: [Dispersion; 3] = [
        Dispersion::ConstantBeta2 {
            ps_per_nm_km: 16.7,
            reference_nm: 1550.0,
        },
        Dispersion::Linear {
            ps_per_nm_km: 17.0,
            slope_ps_per_nm2_km: 0.067,
            reference_nm: 1550.0,
        },
        Dispersion::Sellmeier {
            zero_nm: 1313.0,
            slope_ps_per_nm2_km: 0.086,
        },
    ];

    /// β₂ is the derivative of the group delay by the angular frequency.
    #[test]
    fn delay_and_beta2_belong_together() {
        for form in FORMS {
            for thz in [185.0, 193.4, 205.0, 228.0] {
                let (hz, step_hz) = (thz * 1e12, 1e9);
                let slope = (form.group_delay_s_per_m(hz + step_hz)
                    - form.group_delay_s_per_m(hz - step_hz))
                    / (2.0 * step_hz * 2.0 * PI);
                let beta2 = form.beta2_s2_per_m(hz);
                assert!((slope - beta2).abs() < 1e-4 * 2e-26, "{form:?} {thz}");
            }
        }
    }

    #[test]
    fn both_points_are_met_whatever_they_are() {
        let pairs = [
            (16.7, 21.0),
            (0.0, 0.0),
            (18.0, 16.0),
            (-5.0, 21.0),
            (3.0, 3.0),
        ];
        for (short, long) in pairs {
            let form = Dispersion::through(short, long);
            for (nm, expect) in [(1550.0, short), (1625.0, long)] {
                let hz = LIGHT_M_PER_S / (nm * 1e-9);
                let got = form.ps_per_nm_km(hz);
                assert!((got - expect).abs() < 1e-9, "{form:?} {nm}: {got}");
                assert!(form.group_delay_s_per_m(hz).is_finite(), "{form:?}");
            }
        }
    }

    #[test]
    fn gnpy_s_default_beta2_is_the_same_everywhere() {
        let beta2 = |thz: f64| FORMS[0].beta2_s2_per_m(thz * 1e12);
        assert!((beta2(190.0) / beta2(200.0) - 1.0).abs() < 1e-12);
        assert!((beta2(193.4) + 2.13e-26).abs() < 1e-28, "{}", beta2(193.4));
    }
}
