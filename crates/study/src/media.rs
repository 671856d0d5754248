//! Media side by side: what one unit of each holds, delivers, draws and costs, and how many
//! units hold so much and feed it so fast.

mod light;
mod report;
mod solve;

use serde::Serialize;
use thiserror::Error;

use crate::datasheet::{Library, Sheet, SheetError, SheetKind};
use crate::interval::Interval;
use crate::link;

pub use light::{as_loop, delay_s};
pub use report::{of_today, report};
pub use solve::{SolveError, SolvedLength, length_for, solve_report};

/// What is asked of a medium.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Need {
    /// How much it holds, in bytes.
    pub bytes: f64,
    /// How fast it delivers, in bytes per second; 0 if any rate will do.
    pub rate_bytes_per_s: f64,
}

/// How a medium gives what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Delivery {
    /// What is asked for comes after a latency.
    OnDemand,
    /// Everything comes by, again and again.
    ComesBy,
}

/// A part of the power and the price.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CostPart {
    /// Which part.
    pub name: String,
    /// What it draws, in watts.
    pub power_w: Interval,
    /// What it costs, in dollars.
    pub price: Interval,
}

/// One unit of a medium: a module, a stack, a drive, a loop.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Unit {
    /// The data sheet that it is from.
    pub id: String,
    /// For people.
    pub name: String,
    /// How it is read.
    pub access: Delivery,
    /// What it holds, in bytes.
    pub capacity_bytes: Interval,
    /// What it delivers, in bytes per second.
    pub rate_bytes_per_s: Interval,
    /// Mean time until something asked for at random begins to come, in seconds.
    pub latency_s: Interval,
    /// Time of a whole turn in seconds, where everything comes by.
    pub lap_s: Option<Interval>,
    /// Energy to read one more bit, in joules. Zero where reading changes
    /// nothing, because everything is sent anyway.
    pub energy_j_per_bit: Interval,
    /// What it draws without being read, in watts.
    pub standby_w: Interval,
    /// What it costs, in dollars.
    pub price: Interval,
    /// What power and price consist of.
    pub parts: Vec<CostPart>,
    /// Of a design: what is beyond the models of its optics.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<String>,
    /// What a byte of capacity draws in watts and costs in dollars, where that
    /// is what is known: modules come in several sizes, which is a choice and
    /// no uncertainty of the price.
    #[serde(skip)]
    per_byte: Option<(Interval, Interval)>,
}

/// A medium sized for a need.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sized {
    /// One of its units.
    pub unit: Unit,
    /// How many it takes.
    pub units: Interval,
    /// How many it takes to hold the bytes.
    pub units_to_hold: Interval,
    /// How many it takes to reach the rate.
    pub units_to_feed: Interval,
    /// What they hold together, in bytes.
    pub capacity_bytes: Interval,
    /// What they deliver together, in bytes per second.
    pub rate_bytes_per_s: Interval,
    /// What they draw without being read, in watts.
    pub standby_w: Interval,
    /// What they draw while feeding at the rate of the need, in watts.
    pub power_w: Interval,
    /// Joules for each bit delivered at that rate, standby included; `None` if
    /// the need has no rate.
    pub delivered_j_per_bit: Option<Interval>,
    /// What they cost, in dollars.
    pub price: Interval,
}

/// Why there is no such medium.
#[derive(Debug, Error)]
pub enum MediaError {
    /// A data sheet is missing or wrong.
    #[error(transparent)]
    Sheet(#[from] SheetError),
    /// The need cannot be one.
    #[error("{what} is {got}, but must be {expected}")]
    Need {
        /// Which figure.
        what: &'static str,
        /// What it was.
        got: f64,
        /// What is accepted.
        expected: &'static str,
    },
    /// The optics of a design.
    #[error(transparent)]
    Link(#[from] link::Error),
    /// A sheet that describes no medium.
    #[error("`{id}` is no medium; there are {expected}")]
    NoMedium {
        /// The sheet that was named.
        id: String,
        /// Those that are.
        expected: String,
    },
}

/// The ids of all media: loops, stores, and what is only of the past.
pub fn ids(library: &Library) -> Vec<String> {
    let kinds = [
        SheetKind::Design,
        SheetKind::Loop,
        SheetKind::Store,
        SheetKind::Acoustic,
    ];
    let all = kinds.into_iter().flat_map(|kind| library.of_kind(kind));
    all.map(|sheet| sheet.id.clone()).collect()
}

/// One unit of the medium that a sheet describes.
///
/// # Errors
/// [`MediaError::NoMedium`] and [`MediaError::Sheet`].
pub fn unit(library: &Library, id: &str) -> Result<Unit, MediaError> {
    let no_medium = || MediaError::NoMedium {
        id: id.to_owned(),
        expected: ids(library).join(", "),
    };
    let sheet = library.any(id).map_err(|_| no_medium())?;
    match sheet.kind {
        SheetKind::Store => Ok(store(sheet)),
        SheetKind::Acoustic => Ok(acoustic(sheet)),
        SheetKind::Design => light::designed(library, sheet),
        SheetKind::Loop => light::said(library, sheet),
        _ => Err(no_medium()),
    }
}

/// The medium `id`, as many units as the need takes.
///
/// # Errors
/// As [`unit()`], and [`MediaError::Need`].
pub fn size(library: &Library, id: &str, need: Need) -> Result<Sized, MediaError> {
    if !(need.bytes > 0.0 && need.bytes.is_finite()) {
        return Err(MediaError::Need {
            what: "the size to hold",
            got: need.bytes,
            expected: "above 0 bytes",
        });
    }
    if !(need.rate_bytes_per_s >= 0.0 && need.rate_bytes_per_s.is_finite()) {
        return Err(MediaError::Need {
            what: "the rate to feed",
            got: need.rate_bytes_per_s,
            expected: "0 bytes per second or more",
        });
    }
    Ok(Sized::new(unit(library, id)?, need))
}

impl Unit {
    /// A medium of which only this is known: it draws and costs nothing, or
    /// that is counted elsewhere.
    pub fn plain(
        id: &str,
        name: &str,
        capacity: Interval,
        rate: Interval,
        latency: Interval,
    ) -> Self {
        let nothing = Interval::exact(0.0);
        Self {
            id: id.to_owned(),
            name: name.to_owned(),
            access: Delivery::OnDemand,
            capacity_bytes: capacity,
            rate_bytes_per_s: rate,
            latency_s: latency,
            lap_s: None,
            energy_j_per_bit: nothing,
            standby_w: nothing,
            price: nothing,
            parts: Vec::new(),
            marks: Vec::new(),
            per_byte: None,
        }
    }
}

impl Sized {
    /// As many of `unit` as `need` takes.
    pub fn new(unit: Unit, need: Need) -> Self {
        Self::at_least(unit, need, 0)
    }

    /// As many of `unit` as `need` takes, and no fewer than `least`.
    pub fn at_least(unit: Unit, need: Need, least: u32) -> Self {
        let units_to_hold = (Interval::exact(need.bytes) / unit.capacity_bytes).ceil();
        let units_to_feed = (Interval::exact(need.rate_bytes_per_s) / unit.rate_bytes_per_s).ceil();
        let least = Interval::exact(f64::from(least));
        let units = units_to_hold.max(units_to_feed).max(least);
        let capacity_bytes = together(&unit, need, least.typical);
        let (standby_w, price) = match unit.per_byte {
            Some((power, price)) => (capacity_bytes * power, capacity_bytes * price),
            None => (units * unit.standby_w, units * unit.price),
        };
        let reading_w = unit.energy_j_per_bit * (need.rate_bytes_per_s * 8.0);
        let power_w = standby_w + reading_w;
        let bits_per_s = need.rate_bytes_per_s * 8.0;
        Self {
            units,
            units_to_hold,
            units_to_feed,
            capacity_bytes,
            rate_bytes_per_s: units * unit.rate_bytes_per_s,
            standby_w,
            power_w,
            delivered_j_per_bit: (bits_per_s > 0.0).then(|| power_w / bits_per_s),
            price,
            unit,
        }
    }
}

/// What the units hold together, in bytes. The capacity of one decides how many
/// there are, so the product of both ranges would count it twice: instead the
/// extremes over the ends of capacity and rate are taken.
fn together(unit: &Unit, need: Need, least: f64) -> Interval {
    let held = |capacity: f64, rate: f64| {
        let units = |total: f64, each: f64| (total / each * (1.0 - 1e-9)).ceil();
        let units = units(need.bytes, capacity).max(units(need.rate_bytes_per_s, rate));
        units.max(least) * capacity
    };
    let (capacity, rate) = (unit.capacity_bytes, unit.rate_bytes_per_s);
    let typical = held(capacity.typical, rate.typical);
    let ends = [capacity.low, capacity.typical, capacity.high]
        .map(|capacity| [rate.low, rate.typical, rate.high].map(|rate| held(capacity, rate)));
    let ends = || ends.iter().flatten().copied();
    Interval::new(
        ends().fold(typical, f64::min),
        typical,
        ends().fold(typical, f64::max),
    )
}

fn store(sheet: &Sheet) -> Unit {
    let capacity_bytes = sheet.get("capacity");
    let standby_w = capacity_bytes * sheet.get("standby");
    let price = capacity_bytes * sheet.get("price");
    Unit {
        id: sheet.id.clone(),
        name: sheet.name.clone(),
        access: Delivery::OnDemand,
        capacity_bytes,
        rate_bytes_per_s: sheet.get("rate"),
        latency_s: sheet.get("latency"),
        lap_s: None,
        energy_j_per_bit: sheet.get("energy"),
        standby_w,
        price,
        parts: vec![CostPart {
            name: sheet.name.clone(),
            power_w: standby_w,
            price,
        }],
        marks: Vec::new(),
        per_byte: Some((sheet.get("standby"), sheet.get("price"))),
    }
}

fn acoustic(sheet: &Sheet) -> Unit {
    let (lines, delay_s) = (sheet.get("lines"), sheet.get("delay"));
    let capacity_bytes = lines * sheet.get("line_capacity");
    Unit {
        id: sheet.id.clone(),
        name: sheet.name.clone(),
        access: Delivery::ComesBy,
        capacity_bytes,
        rate_bytes_per_s: capacity_bytes / delay_s,
        latency_s: delay_s / 2.0,
        lap_s: Some(delay_s),
        energy_j_per_bit: Interval::exact(0.0),
        standby_w: sheet.get("power"),
        price: sheet.get("price"),
        parts: vec![CostPart {
            name: "tubes and tanks".to_owned(),
            power_w: sheet.get("power"),
            price: sheet.get("price"),
        }],
        marks: Vec::new(),
        per_byte: None,
    }
}

#[cfg(test)]
mod tests;
