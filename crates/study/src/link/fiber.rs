//! From the few figures of a fiber's data sheet to its properties over all bands.

use crate::datasheet::Sheet;
use crate::interval::{Corner, Interval};
use crate::optics::fiber::{Attenuation, Dispersion, EffectiveArea, OpticalFiber, RamanGain};

/// The fiber of a data sheet, its figures taken for one corner of their ranges.
pub fn fiber(sheet: &Sheet, corner: Corner) -> OpticalFiber {
    let glass = sheet.find("nonlinear_index").is_some();
    let area_um2 = sheet
        .find("effective_area")
        .map(|area| corner.more_is_better(area) * 1e12);
    OpticalFiber {
        attenuation: attenuation(sheet, corner),
        dispersion: dispersion(sheet),
        effective_area: match area_um2 {
            Some(um2) if glass => EffectiveArea::standard(um2),
            // Without nonlinearity nothing depends on it.
            _ => EffectiveArea::Flat {
                um2: area_um2.unwrap_or(100.0),
            },
        },
        nonlinear_index_m2_per_w: sheet
            .find("nonlinear_index")
            .map_or(0.0, |index| corner.less_is_better(index)),
        raman_gain: if glass {
            RamanGain::silica()
        } else {
            RamanGain::None
        },
        group_index: sheet.get("group_index").typical,
        crosstalk_per_km: 0.0,
    }
}

/// Silica's law through three wavelengths if the sheet has them, straight lines
/// or one value otherwise.
fn attenuation(sheet: &Sheet, corner: Corner) -> Attenuation {
    let at = |key: &str| {
        let range: Option<Interval> = sheet.find(key);
        range.map(|range| corner.less_is_better(range) * 1e3)
    };
    let middle = at("attenuation_1550").unwrap_or(0.0);
    match (at("attenuation_1310"), at("attenuation_1625")) {
        (Some(short), Some(long)) => {
            Attenuation::silica_through([short, middle, long], at("attenuation_1383"))
        }
        (None, Some(long)) => Attenuation::Table {
            nm_db_per_km: vec![(1550.0, middle), (1625.0, long)],
        },
        (Some(short), None) => Attenuation::Table {
            nm_db_per_km: vec![(1310.0, short), (1550.0, middle)],
        },
        (None, None) => Attenuation::Flat { db_per_km: middle },
    }
}

/// The form of silica through two wavelengths, or one β₂. Typical values only:
/// more or less dispersion is neither better nor worse everywhere.
fn dispersion(sheet: &Sheet) -> Dispersion {
    let at = |key: &str| sheet.find(key).map(|range| range.typical * 1e6);
    match (at("dispersion_1550"), at("dispersion_1625")) {
        (Some(short), Some(long)) => Dispersion::through(short, long),
        (short, _) => Dispersion::ConstantBeta2 {
            ps_per_nm_km: short.unwrap_or(0.0),
            reference_nm: 1550.0,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datasheet::{Library, SheetKind};
    use crate::optics::units::LIGHT_M_PER_S;

    /// Every sheet is met at the wavelengths it has, in every corner.
    #[test]
    fn sheets_are_met_at_their_wavelengths() {
        let library = Library::embedded();
        for sheet in library.of_kind(SheetKind::Fiber) {
            for corner in Corner::ALL {
                let fiber = fiber(sheet, corner);
                for nm in [1310.0, 1383.0, 1550.0, 1625.0] {
                    let Some(range) = sheet.find(&format!("attenuation_{nm}")) else {
                        continue;
                    };
                    let expect = corner.less_is_better(range) * 1e3;
                    let got = fiber.attenuation_db_per_km(LIGHT_M_PER_S / (nm * 1e-9));
                    assert!(
                        (got - expect).abs() < 1e-3,
                        "{} {nm}: {got} {expect}",
                        sheet.id
                    );
                }
                for nm in [1550.0, 1625.0] {
                    let Some(range) = sheet.find(&format!("dispersion_{nm}")) else {
                        continue;
                    };
                    let got = fiber.dispersion.ps_per_nm_km(LIGHT_M_PER_S / (nm * 1e-9));
                    assert!(
                        (got - range.typical * 1e6).abs() < 1e-6,
                        "{} {nm}: {got}",
                        sheet.id
                    );
                }
            }
        }
    }
}
