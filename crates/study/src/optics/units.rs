//! Constants of nature, and conversions between decibels, wavelengths and frequencies.

/// Speed of light in vacuum (exact, SI).
pub const LIGHT_M_PER_S: f64 = 299_792_458.0;

/// Planck's constant (exact, SI).
pub const PLANCK_J_S: f64 = 6.626_070_15e-34;

/// Decibels per neper of power, 10·log₁₀(e).
pub const DB_PER_NEPER: f64 = 10.0 * std::f64::consts::LOG10_E;

/// A ratio of powers from decibels.
pub fn linear(db: f64) -> f64 {
    10f64.powf(db / 10.0)
}

/// Decibels of a ratio of powers.
pub fn db(linear: f64) -> f64 {
    10.0 * linear.log10()
}

/// Watts of a power in dBm.
pub fn watts(dbm: f64) -> f64 {
    1e-3 * linear(dbm)
}

/// dBm of a power in watts.
pub fn dbm(watts: f64) -> f64 {
    db(watts * 1e3)
}

/// Vacuum wavelength of a frequency.
pub fn wavelength_nm(frequency_thz: f64) -> f64 {
    LIGHT_M_PER_S * 1e-3 / frequency_thz
}

/// Frequency of a vacuum wavelength.
pub fn frequency_thz(wavelength_nm: f64) -> f64 {
    LIGHT_M_PER_S * 1e-3 / wavelength_nm
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversions_go_there_and_back() {
        for value in [-30.0, 0.0, 3.0, 17.5] {
            assert!((db(linear(value)) - value).abs() < 1e-12);
            assert!((dbm(watts(value)) - value).abs() < 1e-12);
        }
        assert!((frequency_thz(1550.0) - 193.414_489).abs() < 1e-6);
        assert!((wavelength_nm(frequency_thz(1310.0)) - 1310.0).abs() < 1e-9);
        assert!((DB_PER_NEPER - db(std::f64::consts::E)).abs() < 1e-15);
    }
}
