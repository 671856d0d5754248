//! The loss of a fiber over wavelength.

use crate::optics::units::{LIGHT_M_PER_S, wavelength_nm};

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
        /// Share of pure silica's infrared absorption.
        infrared_share: f64,
        /// Height of the water peak at 1383 nm.
        water_db_per_km: f64,
    },
}

impl Attenuation {
    /// Silica's law through the losses at 1310, 1550 and 1625 nm and, if known,
    /// at the water peak of 1383 nm.
    pub fn silica_through(db_per_km: [f64; 3], at_water_db_per_km: Option<f64>) -> Self {
        let [short, middle, long] = db_per_km;
        // The water peak reaches a little way; what it adds elsewhere is taken
        // off in a second round.
        let mut water_db_per_km = 0.0;
        let mut law = Self::Flat { db_per_km: middle };
        for _ in 0..8 {
            let less_water = |nm: f64, loss: f64| loss - water_db_per_km * water_shape(nm);
            law = dry_silica_through([
                (1310.0, less_water(1310.0, short)),
                (1550.0, less_water(1550.0, middle)),
                (1625.0, less_water(1625.0, long)),
            ]);
            let dry = law.db_per_km(LIGHT_M_PER_S / 1383e-9);
            let excess = at_water_db_per_km.map_or(0.0, |wet| wet - dry);
            water_db_per_km = excess.max(0.0);
        }
        if let Self::Silica {
            water_db_per_km: water,
            ..
        } = &mut law
        {
            *water = water_db_per_km;
        }
        law
    }

    /// Loss at a frequency.
    pub fn db_per_km(&self, frequency_hz: f64) -> f64 {
        let nm = wavelength_nm(frequency_hz * 1e-12);
        match self {
            Self::Flat { db_per_km } => *db_per_km,
            Self::Table { nm_db_per_km } => interpolate(nm_db_per_km, nm),
            Self::Silica {
                rayleigh_db_per_km_um4,
                guide_db_per_km,
                infrared_share,
                water_db_per_km,
            } => {
                rayleigh_db_per_km(*rayleigh_db_per_km_um4, nm)
                    + infrared_share * infrared_db_per_km(nm)
                    + water_db_per_km * water_shape(nm)
                    + guide_db_per_km
            }
        }
    }
}

/// Solves three losses for scattering, guide and infrared absorption.
fn dry_silica_through(points: [(f64, f64); 3]) -> Attenuation {
    let [a, b, c] = points.map(|(nm, loss)| {
        let scattering = rayleigh_db_per_km(1.0, nm);
        (scattering, infrared_db_per_km(nm), loss)
    });
    // The guide's part is the same at all three: differences are without it.
    let less = |x: (f64, f64, f64)| (x.0 - b.0, x.1 - b.1, x.2 - b.2);
    let ((r1, i1, l1), (r2, i2, l2)) = (less(a), less(c));
    let determinant = r1 * i2 - r2 * i1;
    let rayleigh = (l1 * i2 - l2 * i1) / determinant;
    let infrared_share = (r1 * l2 - r2 * l1) / determinant;
    Attenuation::Silica {
        rayleigh_db_per_km_um4: rayleigh,
        guide_db_per_km: b.2 - rayleigh * b.0 - infrared_share * b.1,
        infrared_share,
        water_db_per_km: 0.0,
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
