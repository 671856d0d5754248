//! Watts and dollars of a link by component, from data sheets. Knows counts and
//! prices, no physics.

use serde::Serialize;

use super::Error;
use super::design::Design;
use crate::datasheet::{Library, SheetKind};
use crate::interval::Interval;
use crate::optics::link::LineReport;

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

/// Counts, prices and powers of a design whose line gave this report. The rates
/// that the ends are paid for are those of the report, so that their range is
/// that of the sheets alone.
///
/// # Errors
/// When a sheet is not there.
pub fn cost(design: &Design, library: &Library, report: &LineReport) -> Result<Cost, Error> {
    let mut items = vec![transceivers(design, library, report)?];
    let each_band = u64::from(report.spans) * u64::from(report.cores);
    for band in &design.bands {
        let sheet = library.sheet(SheetKind::Amplifier, &band.amplifier)?;
        items.push(Item {
            name: format!("{}, {} band", sheet.name, band.name),
            count: each_band as f64,
            unit: "amplifiers",
            power_w: sheet.get("power") * each_band as f64,
            price_usd: sheet.get("price") * each_band as f64,
            sheet: sheet.id.clone(),
        });
    }
    items.push(fiber(design, library, report)?);
    Ok(Cost {
        power_w: items.iter().map(|item| item.power_w).sum(),
        price_usd: items.iter().map(|item| item.price_usd).sum(),
        items,
    })
}

fn transceivers(design: &Design, library: &Library, report: &LineReport) -> Result<Item, Error> {
    let sheet = library.sheet(SheetKind::Transceiver, &design.transceiver)?;
    Ok(Item {
        name: sheet.name.clone(),
        count: report.transceivers as f64,
        unit: "channels",
        power_w: sheet.get("energy") * report.net_rate_bit_per_s,
        price_usd: sheet.get("price") * report.net_rate_bit_per_s,
        sheet: sheet.id.clone(),
    })
}

/// As many fibers as hold the cores.
fn fiber(design: &Design, library: &Library, report: &LineReport) -> Result<Item, Error> {
    let sheet = library.sheet(SheetKind::Fiber, &design.fiber)?;
    let fibers = (f64::from(report.cores) / sheet.get("cores").typical).ceil();
    let length_km = report.length_km * fibers;
    Ok(Item {
        name: sheet.name.clone(),
        count: length_km,
        unit: "km",
        power_w: Interval::exact(0.0),
        price_usd: sheet.get("price") * (length_km * 1e3),
        sheet: sheet.id.clone(),
    })
}
