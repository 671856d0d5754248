//! Loops of light as media, as their optics decide or as they were said. Each bit is sent again
//! in every turn, read or not, so that all of their power is standby.

use delayline_fiber::LoopSpec;

use super::{CostPart, Delivery, MediaError, Unit};
use crate::datasheet::{Library, Sheet, SheetKind};
use crate::interval::Interval;
use crate::link;
use crate::optics::units::LIGHT_M_PER_S;
use crate::report::format::counted;

/// What goes round in a loop, and what keeps it going.
struct Turn {
    rate_bytes_per_s: Interval,
    delay_s: Interval,
    parts: Vec<CostPart>,
    marks: Vec<String>,
}

impl Turn {
    fn unit(self, sheet: &Sheet) -> Unit {
        Unit {
            id: sheet.id.clone(),
            name: sheet.name.clone(),
            access: Delivery::ComesBy,
            capacity_bytes: self.rate_bytes_per_s * self.delay_s,
            rate_bytes_per_s: self.rate_bytes_per_s,
            latency_s: self.delay_s / 2.0,
            lap_s: Some(self.delay_s),
            energy_j_per_bit: Interval::exact(0.0),
            standby_w: self.parts.iter().map(|part| part.power_w).sum(),
            price: self.parts.iter().map(|part| part.price).sum(),
            parts: self.parts,
            marks: self.marks,
            per_byte: None,
        }
    }
}

/// A loop of which `study link` says everything.
pub(super) fn designed(library: &Library, sheet: &Sheet) -> Result<Unit, MediaError> {
    let design = library.design(&sheet.id)?;
    let carried = link::carried(&design, library)?;
    if carried.net_rate_bit_per_s.typical <= 0.0 {
        // It says which SNR is missing.
        link::lit(&design, library, None)?;
    }
    let cost = link::cost(&design, library, &carried)?;
    let part = |item: &link::Item| CostPart {
        name: item.name.clone(),
        power_w: item.power_w,
        price: item.price_usd,
    };
    let turn = Turn {
        rate_bytes_per_s: carried.net_rate_bit_per_s / 8.0,
        delay_s: link::lap_s(&design, library)?,
        parts: cost.items.iter().map(part).collect(),
        marks: [carried.marks, cost.marks()].concat(),
    };
    Ok(Unit {
        name: name(library, sheet, &design),
        ..turn.unit(sheet)
    })
}

/// The design's name, and its length where that is not the design's own.
fn name(library: &Library, sheet: &Sheet, design: &link::Design) -> String {
    let length = format!("{} km", crate::report::format::digits(design.length_km()));
    match library.is_as_designed(&sheet.id) {
        true => sheet.name.clone(),
        false => format!("{}, {length}", sheet.name),
    }
}

/// A loop whose rate was said.
pub(super) fn said(library: &Library, sheet: &Sheet) -> Result<Unit, MediaError> {
    let part = |name: &str, kind| library.sheet(kind, &sheet.references[name]);
    let fiber = part("fiber", SheetKind::Fiber)?;
    let transceiver = part("transceiver", SheetKind::Transceiver)?;
    let amplifier = part("amplifier", SheetKind::Amplifier)?;
    let of_each =
        |key: &str| Ok::<_, MediaError>(library.figure(&format!("{}.{key}", amplifier.id))?.value);

    let length_m = sheet.get("length");
    let delay_s = delay_s(length_m, fiber.get("group_index"));
    let rate_bytes_per_s = sheet.get("rate") * fiber.get("cores");
    let lit_bits_per_s = rate_bytes_per_s * 8.0 * sheet.get("regenerations");
    let amplifiers = sheet.get("sites") * sheet.get("amplifiers_per_site");
    let parts = vec![
        CostPart {
            name: transceiver.name.clone(),
            power_w: lit_bits_per_s * transceiver.get("energy"),
            price: lit_bits_per_s * transceiver.get("price"),
        },
        CostPart {
            name: amplifier.name.clone(),
            power_w: amplifiers * of_each("power")?,
            price: amplifiers * of_each("price")?,
        },
        CostPart {
            name: fiber.name.clone(),
            power_w: Interval::exact(0.0),
            price: length_m * fiber.get("price"),
        },
    ];
    let turn = Turn {
        rate_bytes_per_s,
        delay_s,
        parts,
        marks: too_far(sheet, fiber, amplifier).into_iter().collect(),
    };
    Ok(turn.unit(sheet))
}
/// Said of a loop whose amplifiers, of which it has so many at any length, do not make up
/// for what is lost between two of them.
fn too_far(sheet: &Sheet, fiber: &Sheet, amplifier: &Sheet) -> Option<String> {
    let (sites, length_m) = (sheet.get("sites").typical, sheet.get("length").typical);
    let lost_db = fiber.get("attenuation_1550").typical * length_m / sites;
    let gain_db = amplifier.get("gain").high;
    (sites > 0.0 && lost_db > gain_db).then(|| {
        format!(
            "as it was said it has {} of amplifiers, however long it is: over {:.0} km \
             {lost_db:.0} dB are lost between two, of which an amplifier makes up {gain_db:.0}. A \
             design has amplifiers, power and price by its length.",
            counted(sites, "site"),
            length_m * 1e-3
        )
    })
}

/// A loop of the data sheets as the loop medium takes it, of typical figures. Its
/// rate is net, and no sheet says what becomes of single bits.
///
/// # Errors
/// When there is no loop of that name.
pub fn as_loop(library: &Library, id: &str) -> Result<LoopSpec, MediaError> {
    let sheet = library.sheet(SheetKind::Loop, id)?;
    let fiber = library.sheet(SheetKind::Fiber, &sheet.references["fiber"])?;
    let rate_bit_per_s = sheet.get("rate").typical * 8.0;
    Ok(LoopSpec {
        group_index: fiber.get("group_index").typical,
        overhead: 0.0,
        loops: fiber.get("cores").typical as u32,
        ..LoopSpec::new(sheet.get("length").typical * 1e-3, rate_bit_per_s)
    })
}

/// Time that light takes through `length_m` of a medium of this group index, in
/// seconds: `n_g · L / c`.
pub fn delay_s(length_m: Interval, group_index: Interval) -> Interval {
    length_m * group_index / LIGHT_M_PER_S
}
