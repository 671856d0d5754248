//! Power and price of a link by component, from counts and data sheets.

use serde::Serialize;

use super::Error;
use super::carried::Carried;
use super::design::Design;
use crate::datasheet::{Library, Sheet, SheetKind};
use crate::interval::Interval;

/// Data sheet of the pumps of a span.
const RAMAN: &str = "raman";

/// One component.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Item {
    /// What it is.
    pub name: String,
    /// How many, or how many kilometres.
    pub count: f64,
    /// What the count counts.
    pub unit: &'static str,
    /// Power that it takes.
    pub power_w: Interval,
    /// What it costs to buy.
    pub price_usd: Interval,
    /// The data sheet's id.
    pub sheet: String,
    /// What its data sheet does not say, power or price; it counts as nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<&'static str>,
}

/// All components.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cost {
    /// One by one.
    pub items: Vec<Item>,
    /// All power.
    pub power_w: Interval,
    /// All money.
    pub price_usd: Interval,
}

impl Cost {
    /// Whether the power or the price of a component is not known.
    pub fn lacks(&self, what: &str) -> bool {
        self.items.iter().any(|item| item.unknown.contains(&what))
    }

    /// What is left out of power and price.
    pub fn marks(&self) -> Vec<String> {
        let mark = |item: &Item| {
            let what = item.unknown.join(" and no ");
            format!(
                "{}: no {what} is published. It is left out of the whole, which is a lower bound; \
                 a sheet of one's own (--datasheets) can give it.",
                item.name
            )
        };
        let lacking = self.items.iter().filter(|item| !item.unknown.is_empty());
        lacking.map(mark).collect()
    }
}

/// Counts, prices and powers of a design of which the optics say this. Each lit core has
/// ends for all that passes in a lap.
///
/// # Errors
/// When a sheet is not there.
pub fn cost(design: &Design, library: &Library, carried: &Carried) -> Result<Cost, Error> {
    let fiber = library.sheet(SheetKind::Fiber, &design.fiber)?;
    let a_fiber = fiber.get("cores").typical;
    let cores = design.cores.map_or(a_fiber, f64::from);
    let mut items = vec![transceivers(design, library, carried)?];
    let each_band = f64::from(design.span_count()) * cores;
    for band in &design.bands {
        let sheet = library.sheet(SheetKind::Amplifier, &band.amplifier)?;
        items.push(amplifiers(sheet, &format!("{} band", band.name), each_band));
        if design.booster.is_some() {
            items.push(amplifiers(sheet, &format!("{} booster", band.name), cores));
        }
    }
    if design.pumped_spans() > 0 {
        let sheet = library.sheet(SheetKind::Amplifier, RAMAN)?;
        let count = f64::from(design.pumped_spans()) * cores;
        items.push(amplifiers(sheet, "of each span", count));
    }
    // As many fibers as hold the cores.
    for kind in design.kinds() {
        let fiber = library.sheet(SheetKind::Fiber, design.fiber_of(&kind))?;
        let fibers = (cores / fiber.get("cores").typical).ceil();
        let length_km = kind.km * f64::from(kind.count) * fibers;
        items.push(Item {
            name: fiber.name.clone(),
            count: length_km,
            unit: "km",
            power_w: Interval::exact(0.0),
            price_usd: fiber.get("price") * (length_km * 1e3),
            sheet: fiber.id.clone(),
            unknown: Vec::new(),
        });
    }
    Ok(Cost {
        power_w: items.iter().map(|item| item.power_w).sum(),
        price_usd: items.iter().map(|item| item.price_usd).sum(),
        items,
    })
}

fn amplifiers(sheet: &Sheet, of: &str, count: f64) -> Item {
    let known = |key| sheet.find(key).unwrap_or(Interval::exact(0.0));
    Item {
        name: format!("{}, {of}", sheet.name),
        count,
        unit: "amplifiers",
        power_w: known("power") * count,
        price_usd: known("price") * count,
        sheet: sheet.id.clone(),
        unknown: ["power", "price"]
            .into_iter()
            .filter(|key| sheet.find(key).is_none())
            .collect(),
    }
}

fn transceivers(design: &Design, library: &Library, carried: &Carried) -> Result<Item, Error> {
    let sheet = library.sheet(SheetKind::Transceiver, &design.transceiver)?;
    Ok(Item {
        name: sheet.name.clone(),
        count: carried.transceivers as f64,
        unit: "channels",
        power_w: sheet.get("energy") * carried.net_rate_bit_per_s,
        price_usd: sheet.get("price") * carried.net_rate_bit_per_s,
        sheet: sheet.id.clone(),
        unknown: Vec::new(),
    })
}
