//! The effective area of the mode over frequency.

use std::f64::consts::PI;

use crate::optics::units::LIGHT_M_PER_S;

/// Effective area of the guided mode.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum EffectiveArea {
    /// The same at all frequencies.
    Flat {
        /// Area.
        um2: f64,
    },
    /// A step-index core whose mode grows with the wavelength.
    StepIndex {
        /// Area at the reference frequency.
        um2: f64,
        /// Frequency at which the area is known.
        reference_hz: f64,
        /// Radius of the core.
        core_radius_um: f64,
    },
}

impl EffectiveArea {
    /// Area at a frequency. For a step index πw² with w = a/√(ln V), V the
    /// normalised frequency, scaled from the reference by V ∝ f; Whitley and
    /// Hodgkinson 1988, the scaling that GNPy uses.
    pub fn um2(&self, frequency_hz: f64) -> f64 {
        match *self {
            Self::Flat { um2 } => um2,
            Self::StepIndex {
                um2,
                reference_hz,
                core_radius_um,
            } => {
                let core_um2 = PI * core_radius_um * core_radius_um;
                let log_v_reference = core_um2 / um2;
                // Below the mode's cut-off at ln V = 0 the formula has no meaning.
                let log_v = log_v_reference + (frequency_hz / reference_hz).ln();
                core_um2 / log_v.max(0.05)
            }
        }
    }

    /// A standard core of 4.2 µm radius, known at 1550 nm, as GNPy assumes.
    pub fn standard(um2: f64) -> Self {
        Self::StepIndex {
            um2,
            reference_hz: LIGHT_M_PER_S / 1550e-9,
            core_radius_um: 4.2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_grows_with_the_wavelength() {
        let area = EffectiveArea::standard(83.0);
        let at_nm = |nm: f64| area.um2(LIGHT_M_PER_S / (nm * 1e-9));
        assert!((at_nm(1550.0) - 83.0).abs() < 1e-9);
        // GNPy 3.0.1, FiberParams.effective_area_scaling with its defaults.
        assert!((at_nm(1454.0) - 75.7466).abs() < 1e-2, "{}", at_nm(1454.0));
        assert!(at_nm(1310.0) < at_nm(1454.0) && at_nm(1625.0) > 83.0);
    }
}
