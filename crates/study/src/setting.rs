//! `--set`: a figure of a data sheet or a parameter of a case, the values that it takes, and
//! their unit.

use std::str::FromStr;

use thiserror::Error;

use crate::datasheet::{Dimension, Library, SheetError};
use crate::decode::CaseOptions;
use crate::interval::Interval;
use crate::report::format::plain;

/// Parameters of a case that are counted.
const COUNTED: [&str; 4] = ["batch", "context", "units", "accelerators"];
/// Parameters of a case that have a unit, and what they measure.
const MEASURED: [(&str, Dimension); 3] = [
    ("feed", Dimension::DataRate),
    ("window", Dimension::Data),
    ("resident", Dimension::Data),
];
/// Largest value of a parameter in bytes or bytes per second.
const BYTES_MAX: f64 = 1e18;
/// Maximum number of values of one setting.
pub(crate) const VALUES_MAX: usize = 1_000_000;

/// A figure or parameter and the values that it takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// `sheet.key` of a figure, or a parameter of the case.
    pub name: String,
    /// In `unit`.
    pub values: Vec<f64>,
    /// As it was typed; empty for none.
    pub unit: String,
}

/// Why something cannot be set.
#[derive(Debug, Error)]
pub enum SettingError {
    /// It cannot be read.
    #[error(
        "`{0}` sets nothing: expected NAME=VALUE, NAME=A,B,C, NAME=FROM..TO:COUNT or \
         NAME=FROM..TO:COUNT:log, with the unit behind the value or the last of them, such as \
         feed=8TB/s or c-l.length=10..1000km:21:log"
    )]
    Syntax(String),
    /// Values of one setting in different units.
    #[error(
        "`{0}` has values in different units: expected one unit, behind the last value or behind \
         each"
    )]
    Units(String),
    /// A whole number was asked for.
    #[error("{name} is {value}, but must be a whole number from {least} to 4294967295")]
    Whole {
        /// Which parameter.
        name: String,
        /// What it was.
        value: f64,
        /// The least that it may be.
        least: u32,
    },
    /// Bytes, or bytes per second, out of range.
    #[error("{name} is {}, but must be from 0 to {}", plain(*value), plain(BYTES_MAX))]
    Bytes {
        /// Which parameter.
        name: String,
        /// What it was, in base units.
        value: f64,
    },
    /// No unit, or one of something else.
    #[error("{name} is {}{unit}, but needs one of the units {expected}, such as {name}={}{first}", plain(*value), plain(*value))]
    Unit {
        /// Which figure or parameter.
        name: String,
        /// What it was.
        value: f64,
        /// The unit that was typed.
        unit: String,
        /// The units that there are.
        expected: String,
        /// The one that its data sheet has.
        first: String,
    },
    /// An unknown parameter.
    #[error("{0}; or one of {own}", own = own())]
    Unknown(SheetError),
    /// A value that a figure cannot have.
    #[error(transparent)]
    Sheet(#[from] SheetError),
}

fn own() -> String {
    let measured = MEASURED.map(|(name, _)| name);
    [&COUNTED[..], &measured[..]].concat().join(", ")
}

impl FromStr for Setting {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        let fail = || SettingError::Syntax(text.to_owned());
        // A loop's name holds values of its own: fiber:c-l,length=400km.laps=2.
        let at = match text.strip_prefix("fiber:") {
            Some(_) => text.rfind('='),
            None => text.find('='),
        };
        let (name, values) = text.split_at(at.ok_or_else(fail)?);
        let name = name.trim();
        if name.is_empty() {
            return Err(fail());
        }
        let values = values[1..].trim();
        let (values, unit) = parse_values(values).ok_or_else(|| match units(values) {
            ..2 => fail(),
            _ => SettingError::Units(text.to_owned()),
        })?;
        Ok(Self {
            name: name.to_owned(),
            values,
            unit,
        })
    }
}

/// A quantity as it is typed, with one of the units of its dimension, in base units.
pub fn quantity(text: &str, dimension: Dimension) -> Option<f64> {
    let (value, unit) = number(text)?;
    Some(value * dimension.factor(unit)?)
}

/// A number and the unit behind it.
fn number(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let digits = |text: &str| text.ends_with(|c: char| c.is_ascii_digit() || c == '.');
    let ends = (1..=text.len())
        .rev()
        .filter(|&end| text.is_char_boundary(end));
    // An exponent belongs to the number, and a unit may begin with any letter.
    let end = ends
        .filter(|&end| digits(&text[..end]))
        .find(|&end| text[..end].parse::<f64>().is_ok())?;
    let value: f64 = text[..end].parse().ok()?;
    value.is_finite().then(|| (value, text[end..].trim()))
}

fn parse_values(text: &str) -> Option<(Vec<f64>, String)> {
    let Some((from, rest)) = text.split_once("..") else {
        let all: Option<Vec<(f64, &str)>> = text.split(',').map(number).collect();
        let all = all?;
        let unit = all.last()?.1;
        return Some((alike(&all)?, unit.to_owned()));
    };
    let mut parts = rest.split(':');
    let ends = [number(from)?, number(parts.next()?)?];
    let unit = ends[1].1.to_owned();
    let ends = alike(&ends)?;
    let (from, to) = (ends[0], ends[1]);
    let count: usize = parts.next()?.trim().parse().ok()?;
    if !(2..=VALUES_MAX).contains(&count) {
        return None;
    }
    let log = match parts.next() {
        None => false,
        Some("log") => true,
        Some(_) => return None,
    };
    if parts.next().is_some() || (log && (from <= 0.0 || to <= 0.0)) {
        return None;
    }
    let at = |n: usize| n as f64 / (count - 1) as f64;
    let value = |n| {
        let value = match log {
            true => from * (to / from).powf(at(n)),
            false => from + (to - from) * at(n),
        };
        // Whole numbers are missed by rounding alone.
        match (value - value.round()).abs() <= 1e-9 * value.abs() {
            true => value.round(),
            false => value,
        }
    };
    Some(((0..count).map(value).collect(), unit))
}

/// How many different units a list of values has; 0 if it is none.
fn units(text: &str) -> usize {
    let all: Option<Vec<(f64, &str)>> = text.split(',').map(number).collect();
    let units = all.unwrap_or_default().into_iter().map(|(_, unit)| unit);
    let mut units: Vec<&str> = units.filter(|unit| !unit.is_empty()).collect();
    units.sort_unstable();
    units.dedup();
    units.len()
}

/// The values, if each has the unit of the last or none.
fn alike(all: &[(f64, &str)]) -> Option<Vec<f64>> {
    let unit = all.last()?.1;
    let same = |&(value, own): &(f64, &str)| (own.is_empty() || own == unit).then_some(value);
    all.iter().map(same).collect()
}

impl Setting {
    /// Sets the value `index`, and gives the batch, if that is what is set.
    ///
    /// # Errors
    /// [`SettingError`] when there is no such figure or parameter, or it cannot be that.
    pub fn apply(
        &self,
        index: usize,
        library: &mut Library,
        ask: &mut CaseOptions,
    ) -> Result<Option<u32>, SettingError> {
        let value = self.values[index];
        let name = self.name.as_str();
        if COUNTED.contains(&name) {
            return self.count(value, ask);
        }
        if let Some(&(_, dimension)) = MEASURED.iter().find(|(own, _)| *own == name) {
            let value = value * self.factor(value, dimension, "GB")?;
            if !(0.0..=BYTES_MAX).contains(&value) {
                let name = name.to_owned();
                return Err(SettingError::Bytes { name, value });
            }
            match name {
                "feed" => ask.feed_bytes_per_s = value,
                "window" => ask.window_bytes = Some(value as u64),
                _ => ask.resident_bytes = value as u64,
            }
            return Ok(None);
        }
        let figure = library.figure(name).map_err(SettingError::Unknown)?;
        let (dimension, unit) = (library.dimension(name)?, figure.unit.clone());
        let written = match unit == self.unit {
            true => value,
            false => {
                let factor = self.factor(value, dimension, &unit)?;
                value * factor / dimension.factor(&unit).unwrap_or(1.0)
            }
        };
        library.set(name, Interval::exact(written))?;
        Ok(None)
    }

    fn count(&self, value: f64, ask: &mut CaseOptions) -> Result<Option<u32>, SettingError> {
        let least = u32::from(self.name == "batch");
        let counts = f64::from(least)..=f64::from(u32::MAX);
        if value.fract() != 0.0 || !counts.contains(&value) || !self.unit.is_empty() {
            return Err(SettingError::Whole {
                name: self.name.clone(),
                value,
                least,
            });
        }
        let count = value as u32;
        match self.name.as_str() {
            "batch" => return Ok(Some(count)),
            "context" => ask.context = count,
            "units" => ask.units = count,
            _ => ask.accelerators = count,
        }
        Ok(None)
    }

    /// How many base units one of the typed unit is.
    fn factor(&self, value: f64, dimension: Dimension, first: &str) -> Result<f64, SettingError> {
        let unit = match (self.unit.as_str(), dimension) {
            ("", Dimension::One) => "1",
            (unit, _) => unit,
        };
        let per_second = dimension == Dimension::DataRate && first == "GB";
        dimension.factor(unit).ok_or_else(|| SettingError::Unit {
            name: self.name.clone(),
            value,
            unit: self.unit.clone(),
            expected: dimension.units().collect::<Vec<_>>().join(", "),
            first: match per_second {
                true => "GB/s".to_owned(),
                false => first.to_owned(),
            },
        })
    }

    /// As it was typed, of one value.
    pub fn shown(&self, index: usize) -> String {
        format!("{}={}{}", self.name, plain(self.values[index]), self.unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_parsed() {
        let cases: [(&str, &str, &[f64], &str); 8] = [
            ("batch=8", "batch", &[8.0], ""),
            (" a.b = 1, 2.5 ,-3 km", "a.b", &[1.0, 2.5, -3.0], "km"),
            ("a.b=1km,2km", "a.b", &[1.0, 2.0], "km"),
            ("x=0..10:3", "x", &[0.0, 5.0, 10.0], ""),
            ("x=10..-10TB/s:2", "x", &[10.0, -10.0], "TB/s"),
            ("x=1..100:3:log", "x", &[1.0, 10.0, 100.0], ""),
            ("x=2.6e-20m²/W", "x", &[2.6e-20], "m²/W"),
            (
                "fiber:c-l,length=9km.laps=2",
                "fiber:c-l,length=9km.laps",
                &[2.0],
                "",
            ),
        ];
        for (text, name, values, unit) in cases {
            let got: Setting = text.parse().expect(text);
            assert_eq!(
                (got.name.as_str(), got.unit.as_str()),
                (name, unit),
                "{text}"
            );
            assert_eq!(got.values.len(), values.len(), "{text}");
            for (a, b) in got.values.iter().zip(values) {
                assert!((a - b).abs() < 1e-9, "{text}: {a}");
            }
        }
        for text in [
            "",
            "x",
            "=1",
            "x=",
            "x=a",
            "x=1..2",
            "x=1..2:1",
            "x=1..2:3:lin",
            "x=0..2:3:log",
            "x=1..2:3:log:x",
            "x=inf",
            "x=1,,2",
            "x=1..2:9999999",
        ] {
            let error = text.parse::<Setting>().expect_err(text).to_string();
            assert!(error.contains("FROM..TO:COUNT"), "{error}");
        }
        for text in ["x=1km,2m", "feed=0B/s,1TB/s"] {
            let error = text.parse::<Setting>().expect_err(text).to_string();
            assert!(error.contains("different units"), "{error}");
        }
    }

    #[test]
    fn a_value_is_taken_in_any_unit_of_its_figure_and_in_no_other() {
        let mut library = Library::embedded();
        let mut ask = CaseOptions::default();
        let mut set = |text: &str| {
            let setting: Setting = text.parse().expect(text);
            let set = setting.apply(0, &mut library, &mut ask);
            set.map(|_| (library.clone(), ask.clone()))
                .map_err(|error| error.to_string())
        };
        let km = |library: &Library| library.figure("c-l.length").expect("it is there").written;
        let (changed, _) = set("c-l.length=400000m").expect("metres are a length");
        assert!((km(&changed).typical - 400.0).abs() < 1e-9);
        let (_, changed) = set("feed=8TB/s").expect("a rate");
        assert_eq!(changed.feed_bytes_per_s, 8e12);
        let (_, changed) = set("window=50MB").expect("a size");
        assert_eq!(changed.window_bytes, Some(50_000_000));
        set("hollow.group_index=1.1").expect("a plain number has no unit");
        let quarters: Setting = "units=1..64:4:log".parse().expect("a range");
        for (index, units) in [1, 4, 16, 64].into_iter().enumerate() {
            let mut ask = CaseOptions::default();
            let set = quarters.apply(index, &mut Library::embedded(), &mut ask);
            set.expect("whole numbers, but for rounding");
            assert_eq!(ask.units, units);
        }
        for (text, parts) in [
            (
                "c-l.length=400",
                [
                    "c-l.length is 400, but needs one of the units mm, m, km",
                    "=400km",
                ],
            ),
            ("c-l.length=4GB", ["c-l.length is 4GB", "mm, m, km"]),
            (
                "feed=8",
                ["feed is 8, but needs one of the units", "feed=8GB/s"],
            ),
            ("feed=8GB", ["feed is 8GB", "TB/s"]),
            ("batch=8GB", ["batch is 8", "whole number"]),
            ("batch=0", ["batch is 0", "from 1"]),
            ("hollow.group_index=1km", ["is 1km", "units 1, %"]),
            (
                "speed=5",
                ["no data sheet `speed`", "or one of batch, context"],
            ),
            (
                "resident=-5GB",
                ["resident is -5000000000", "from 0 to 1e18"],
            ),
        ] {
            let error = set(text).expect_err(text);
            assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        }
    }
}
