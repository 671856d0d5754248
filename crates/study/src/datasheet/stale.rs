//! The age of figures: prices and products that are older than six months are named. The day
//! is given by the caller.

use std::fmt;
use std::str::FromStr;

use serde_json::json;
use thiserror::Error;

use super::{Figure, Library, SheetKind, Tag};
use crate::report::format::counted;
use crate::report::{Input, Report, ReportTable};

/// Months after which a price or a product is named as old.
const MONTHS: i32 = 6;
/// How many figures one line names.
const NAMED: usize = 5;

/// The month as of which figures are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AsOf {
    /// The year.
    pub year: i32,
    /// The month, from 1 to 12.
    pub month: i32,
}

/// Not a date.
#[derive(Debug, Error)]
#[error("`{0}` is not a date: expected a year and a month, such as 2026-11 or 2026-11-25")]
pub struct AsOfError(String);

impl FromStr for AsOf {
    type Err = AsOfError;

    fn from_str(text: &str) -> Result<Self, AsOfError> {
        let fail = || AsOfError(text.to_owned());
        let parts: Result<Vec<i32>, _> = text.split('-').map(str::parse).collect();
        match parts.map_err(|_| fail())?[..] {
            [year, month] | [year, month, 1..=31]
                if (1900..=9999).contains(&year) && (1..=12).contains(&month) =>
            {
                Ok(Self { year, month })
            }
            _ => Err(fail()),
        }
    }
}

impl fmt::Display for AsOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:02}", self.year, self.month)
    }
}

impl AsOf {
    fn months(self) -> i32 {
        12 * self.year + self.month
    }

    /// Whether a figure's date lies more than six months back. A year alone stands for
    /// its last month, and what is no date is as old as can be.
    pub fn is_stale(self, figure: &Figure) -> bool {
        let date = figure.date.as_str();
        let date = match date.parse::<i32>() {
            Ok(year) => Ok(Self { year, month: 12 }),
            Err(_) => date.parse(),
        };
        date.map_or(true, |date: Self| self.months() - date.months() > MONTHS)
    }
}

/// Whether a figure is a price, or one of a product that is sold.
fn ages(library: &Library, path: &str) -> bool {
    let (id, key) = path.rsplit_once('.').unwrap_or((path, ""));
    let Ok(sheet) = library.any(id) else {
        return false;
    };
    let product = [
        SheetKind::Store,
        SheetKind::Transceiver,
        SheetKind::Amplifier,
        SheetKind::Accelerator,
    ];
    let is_price = |key: &super::Key| key.dimension.is_price();
    product.contains(&sheet.kind) || sheet.kind.key(key).is_some_and(is_price)
}

/// One line that names the prices among `inputs` that are old, and counts the figures of
/// products that are.
pub fn stale_note(library: &Library, inputs: &[Input], as_of: AsOf) -> Option<String> {
    let old = |input: &&Input| {
        let given = input.figure.tag == Tag::Given;
        !given && ages(library, &input.path) && as_of.is_stale(&input.figure)
    };
    let old: Vec<&Input> = inputs.iter().filter(old).collect();
    if old.is_empty() {
        return None;
    }
    let prices: Vec<String> = old
        .iter()
        .filter(|input| input.path.ends_with(".price"))
        .map(|input| format!("{} ({})", input.path, input.figure.date))
        .collect();
    let others = old.len() - prices.len().min(NAMED);
    let named = prices
        .into_iter()
        .take(NAMED)
        .collect::<Vec<_>>()
        .join(", ");
    let named = match (named.is_empty(), others) {
        (true, _) => format!("{} of products", counted(others, "figure")),
        (false, 0) => named,
        (false, _) => format!("{named}, and {}", counted(others, "other figure")),
    };
    Some(format!(
        "Older than six months in {as_of}: {named}. `study sheets --stale` lists them."
    ))
}

/// All prices and figures of products that are old.
pub fn stale_report(library: &Library, as_of: AsOf) -> Report {
    let mut table = ReportTable::new("", &["figure", "value", "unit", "known", "date", "source"]);
    let mut old = Vec::new();
    for sheet in library.sheets.values() {
        for (key, figure) in &sheet.figures {
            let path = format!("{}.{key}", sheet.id);
            if ages(library, &path) && as_of.is_stale(figure) {
                table.row(super::report::cells(path.clone(), figure));
                old.push(json!({"path": path, "figure": figure}));
            }
        }
    }
    Report {
        title: format!("Prices and figures of products older than six months in {as_of}"),
        tables: vec![table],
        json: json!({"as_of": as_of.to_string(), "stale": old}),
        ..Report::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn as_of(text: &str) -> AsOf {
        text.parse().expect(text)
    }

    #[test]
    fn a_figure_is_old_after_six_months() {
        let library = Library::embedded();
        let mut figure = library.figure("dram.price").expect("it is there").clone();
        for (date, day, old) in [
            ("2026-03", "2026-09-30", false),
            ("2026-03", "2026-10-01", true),
            ("2026-03-31", "2026-10", true),
            ("2025", "2026-06", false),
            ("2025", "2026-07", true),
            ("lately", "2026-07", true),
        ] {
            figure.date = date.to_owned();
            assert_eq!(as_of(day).is_stale(&figure), old, "{date} on {day}");
        }
        for text in [
            "",
            "2026",
            "2026-13",
            "2026-11-40",
            "yesterday",
            "2026-11-25-1",
        ] {
            assert!(text.parse::<AsOf>().is_err(), "{text}");
        }
    }

    #[test]
    fn old_prices_are_named_and_physics_is_not() {
        let library = Library::embedded();
        let mut report = Report::default();
        report.cite(&library, &["dram", "smf"]);
        let note = stale_note(&library, &report.inputs, as_of("2026-11")).expect("some are old");
        assert!(note.contains("dram.price (2026-03)"), "{note}");
        assert!(!note.contains("attenuation"), "{note}");
        assert_eq!(stale_note(&library, &report.inputs, as_of("2000-01")), None);
        let all = stale_report(&library, as_of("2026-11"));
        let paths: Vec<&str> = all.tables[0]
            .rows
            .iter()
            .map(|row| row[0].as_str())
            .collect();
        assert!(paths.contains(&"zr400.price") && paths.contains(&"smf.price"));
        assert!(!paths.contains(&"smf.attenuation_1550"));
        assert!(!paths.contains(&"llama-8b.layers"));
    }
}
