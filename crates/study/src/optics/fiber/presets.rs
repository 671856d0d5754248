//! Fibers by name, with what is assumed of each and where it comes from. Each
//! preset lies at or below the maxima of its data sheet.

use super::{Attenuation, Dispersion, EffectiveArea, Fiber, RamanGain};

/// Kerr coefficient of silica that GNPy uses.
const SILICA_N2_M2_PER_W: f64 = 2.6e-20;

/// Peak Raman gain of standard fiber for unpolarised light, pumped at 1454 nm:
/// half of 1·10⁻¹³ m/W at 1 µm (Agrawal, Nonlinear Fiber Optics, section 8.1),
/// scaled to the pump; GNPy's default is 3.33·10⁻¹⁴.
const SILICA_RAMAN_PEAK_M_PER_W: f64 = 3.33e-14;

/// A fiber with a name.
#[derive(Clone, Debug)]
pub struct Preset {
    /// The name, as a design file has it.
    pub name: &'static str,
    /// What it is.
    pub title: &'static str,
    /// Where its figures come from.
    pub source: &'static str,
    /// The fiber.
    pub fiber: Fiber,
}

/// The preset of that name.
pub fn preset(name: &str) -> Option<Preset> {
    presets().into_iter().find(|preset| preset.name == name)
}

/// All presets.
pub fn presets() -> Vec<Preset> {
    vec![
        gnpy(),
        g652d(),
        ultra_low_loss(),
        multi_core(),
        hollow_core(),
    ]
}

fn gnpy() -> Preset {
    Preset {
        name: "gnpy",
        title: "GNPy's defaults: 0.2 dB/km and one β₂ at all wavelengths",
        source: "GNPy 3.0.1",
        fiber: Fiber {
            attenuation: Attenuation::Flat { db_per_km: 0.2 },
            dispersion: Dispersion::ConstantBeta2 {
                ps_per_nm_km: 16.7,
                reference_nm: 1550.0,
            },
            effective_area: EffectiveArea::standard(83.0),
            nonlinear_index_m2_per_w: SILICA_N2_M2_PER_W,
            raman_gain: RamanGain::Silica {
                peak_m_per_w: SILICA_RAMAN_PEAK_M_PER_W,
            },
            group_index: 1.468,
            crosstalk_per_km: 0.0,
        },
    }
}

fn g652d() -> Preset {
    let base = gnpy().fiber;
    Preset {
        name: "g652d",
        title: "standard single-mode fiber without a water peak",
        source: "G.652.D data sheets: at most 0.34/0.34/0.20/0.23 dB/km at 1310/1383/1550/1625 nm, 18 and 22 ps/nm/km at 1550 and 1625 nm",
        fiber: Fiber {
            attenuation: Attenuation::Silica {
                rayleigh_db_per_km_um4: 0.90,
                guide_db_per_km: 0.012,
                water_db_per_km: 0.05,
            },
            dispersion: Dispersion::Sellmeier {
                zero_nm: 1313.0,
                slope_ps_per_nm2_km: 0.088,
            },
            group_index: 1.467,
            ..base
        },
    }
}

fn ultra_low_loss() -> Preset {
    let base = g652d().fiber;
    Preset {
        name: "ultra-low-loss",
        title: "silica-core fiber of ultra-low loss",
        source: "Corning PI1470: at most 0.31/0.17/0.20 dB/km at 1310/1550/1625 nm",
        fiber: Fiber {
            attenuation: Attenuation::Silica {
                rayleigh_db_per_km_um4: 0.77,
                guide_db_per_km: 0.002,
                water_db_per_km: 0.05,
            },
            ..base
        },
    }
}

fn multi_core() -> Preset {
    let base = g652d().fiber;
    Preset {
        name: "multi-core",
        title: "one core of an uncoupled multi-core fiber",
        source: "g652d; crosstalk of -60 dB after 1 km is an assumption for four cores in a standard cladding",
        fiber: Fiber {
            crosstalk_per_km: 1e-6,
            ..base
        },
    }
}

fn hollow_core() -> Preset {
    Preset {
        name: "hollow-core",
        title: "nested anti-resonant hollow-core fiber",
        source: "Nature Photonics 2025: 0.091 dB/km at best, below 0.2 dB/km over 66 THz; dispersion, area and n₂ of air are assumptions",
        fiber: Fiber {
            attenuation: Attenuation::Flat { db_per_km: 0.11 },
            dispersion: Dispersion::ConstantBeta2 {
                ps_per_nm_km: 3.2,
                reference_nm: 1550.0,
            },
            effective_area: EffectiveArea::Flat { um2: 500.0 },
            nonlinear_index_m2_per_w: 3e-23,
            raman_gain: RamanGain::None,
            group_index: 1.0003,
            crosstalk_per_km: 0.0,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optics::units::LIGHT_M_PER_S;

    #[test]
    fn presets_lie_below_the_maxima_of_their_data_sheets() {
        let cases: [(&str, f64, f64); 7] = [
            ("g652d", 1310.0, 0.34),
            ("g652d", 1383.0, 0.34),
            ("g652d", 1550.0, 0.20),
            ("g652d", 1625.0, 0.23),
            ("ultra-low-loss", 1310.0, 0.31),
            ("ultra-low-loss", 1550.0, 0.17),
            ("ultra-low-loss", 1625.0, 0.20),
        ];
        for (name, nm, most) in cases {
            let fiber = preset(name).unwrap().fiber;
            let got = fiber.attenuation_db_per_km(LIGHT_M_PER_S / (nm * 1e-9));
            assert!(got <= most && got > 0.8 * most, "{name} {nm} nm: {got}");
        }
        let d = |nm: f64| {
            let fiber = preset("g652d").unwrap().fiber;
            fiber.dispersion.ps_per_nm_km(LIGHT_M_PER_S / (nm * 1e-9))
        };
        assert!(d(1550.0) <= 18.0 && d(1550.0) > 16.0, "{}", d(1550.0));
        assert!(d(1625.0) <= 22.0 && d(1625.0) > 19.0, "{}", d(1625.0));
        assert!(d(1310.0).abs() < 0.5, "{}", d(1310.0));
    }

    #[test]
    fn gamma_is_that_of_the_reference() {
        let fiber = preset("gnpy").unwrap().fiber;
        let gamma = fiber.gamma_per_w_m(LIGHT_M_PER_S / 1550e-9) * 1e3;
        assert!((gamma - 1.27).abs() < 0.005, "{gamma}");
    }

    #[test]
    fn names_are_found_and_only_they() {
        for one in presets() {
            assert_eq!(preset(one.name).unwrap().fiber, one.fiber);
        }
        assert!(preset("g653").is_none());
    }
}
