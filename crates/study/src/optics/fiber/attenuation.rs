//! The loss of a fiber over wavelength. Knows no connectors.

use crate::optics::units::wavelength_nm;

/// Loss over wavelength.
#[derive(Clone, Debug, PartialEq)]
pub enum Attenuation {
    /// The same everywhere.
    Flat {
        /// Loss.
        db_per_km: f64,
    },
    /// Straight lines between known points, and flat outside them.
    Table {
        /// Wavelengths, rising, with their losses.
        nm_db_per_km: Vec<(f64, f64)>,
    },
    /// What silica itself takes, with the bump of what water is left in it.
    Silica {
        /// Rayleigh scattering at 1 µm.
        rayleigh_db_per_km_um4: f64,
        /// Imperfections of the guide, equal at all wavelengths.
        guide_db_per_km: f64,
        /// Height of the water peak at 1383 nm.
        water_db_per_km: f64,
    },
}

impl Attenuation {
    /// Loss at a frequency.
    pub fn db_per_km(&self, frequency_hz: f64) -> f64 {
        let nm = wavelength_nm(frequency_hz * 1e-12);
        match self {
            Self::Flat { db_per_km } => *db_per_km,
            Self::Table { nm_db_per_km } => interpolate(nm_db_per_km, nm),
            Self::Silica {
                rayleigh_db_per_km_um4,
                guide_db_per_km,
                water_db_per_km,
            } => {
                rayleigh_db_per_km(*rayleigh_db_per_km_um4, nm)
                    + infrared_db_per_km(nm)
                    + water_db_per_km * water_shape(nm)
                    + guide_db_per_km
            }
        }
    }
}

/// Scattering at the density fluctuations of the glass, ∝ λ⁻⁴; Agrawal,
/// Fiber-Optic Communication Systems, eq. 2.5.3.
fn rayleigh_db_per_km(at_1_um_db_per_km: f64, nm: f64) -> f64 {
    at_1_um_db_per_km / (nm * 1e-3).powi(4)
}

/// The tail of silica's infrared absorption, 7.81·10¹¹·e^(−48.48 µm/λ) dB/km;
/// Miya et al., Electron. Lett. 15 (1979) 106.
fn infrared_db_per_km(nm: f64) -> f64 {
    7.81e11 * (-48.48 / (nm * 1e-3)).exp()
}

/// The second overtone of OH at 1383 nm, as a Lorentz line of 16 nm half width.
/// Assumption: measured peaks are less regular; only the E band sees it.
fn water_shape(nm: f64) -> f64 {
    1.0 / (1.0 + ((nm - 1383.0) / 16.0).powi(2))
}

/// Straight lines between points that rise in the first member, flat outside.
pub(super) fn interpolate(points: &[(f64, f64)], at: f64) -> f64 {
    let after = points.partition_point(|(nm, _)| *nm <= at);
    match (after.checked_sub(1).map(|i| points[i]), points.get(after)) {
        (Some((x0, y0)), Some((x1, y1))) => y0 + (y1 - y0) * (at - x0) / (x1 - x0),
        (Some((_, y)), None) => y,
        (None, Some((_, y))) => *y,
        (None, None) => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optics::units::LIGHT_M_PER_S;

    #[test]
    fn a_table_is_met_at_its_points_and_straight_between() {
        let table = Attenuation::Table {
            nm_db_per_km: vec![(1310.0, 0.34), (1550.0, 0.20), (1625.0, 0.23)],
        };
        let cases = [
            (1260.0, 0.34),
            (1310.0, 0.34),
            (1430.0, 0.27),
            (1550.0, 0.20),
            (1625.0, 0.23),
            (1675.0, 0.23),
        ];
        for (nm, expect) in cases {
            let got = table.db_per_km(LIGHT_M_PER_S / (nm * 1e-9));
            assert!((got - expect).abs() < 1e-9, "{nm}: {got}");
        }
    }
}
