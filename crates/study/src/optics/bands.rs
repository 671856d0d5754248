//! The bands of a silica fiber, by their names in ITU-T G-series supplement 39.

use serde::{Deserialize, Serialize};

use super::units::wavelength_nm;

/// A named part of the spectrum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Band {
    O,
    E,
    S,
    C,
    L,
    U,
}

/// The bands and where each ends, from short to long wavelengths.
const ENDS_NM: [(Band, f64); 6] = [
    (Band::O, 1360.0),
    (Band::E, 1460.0),
    (Band::S, 1530.0),
    (Band::C, 1565.0),
    (Band::L, 1625.0),
    (Band::U, 1675.0),
];

/// Shortest and longest wavelength of any band.
pub const BANDS_NM: (f64, f64) = (1260.0, 1675.0);

impl Band {
    /// The band of a frequency, or none outside 1260 to 1675 nm.
    pub fn of(frequency_hz: f64) -> Option<Self> {
        let nm = wavelength_nm(frequency_hz * 1e-12);
        if nm < BANDS_NM.0 {
            return None;
        }
        let (band, _) = ENDS_NM.iter().find(|(_, end)| nm <= *end)?;
        Some(*band)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wavelengths_have_their_bands() {
        let check = |nm: f64, expect: Option<Band>| {
            let hz = crate::optics::units::frequency_thz(nm) * 1e12;
            assert_eq!(Band::of(hz), expect, "{nm} nm");
        };
        check(1250.0, None);
        check(1310.0, Some(Band::O));
        check(1383.0, Some(Band::E));
        check(1500.0, Some(Band::S));
        check(1550.0, Some(Band::C));
        check(1600.0, Some(Band::L));
        check(1650.0, Some(Band::U));
        check(1700.0, None);
    }
}
