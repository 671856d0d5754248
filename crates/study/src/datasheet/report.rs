//! Reports of data sheets: the list, single sheets, and the widest ranges.

use serde_json::json;

use super::{Figure, Library, Sheet, SheetError};
use crate::report::format::{count_range, digits, percent};
use crate::report::html::tag_name;
use crate::report::{Report, ReportTable};

/// A list of all sheets, or the sheets `ids` with all their figures.
///
/// # Errors
/// [`SheetError`] when there is no such sheet.
pub fn report(library: &Library, ids: &[String]) -> Result<Report, SheetError> {
    if ids.is_empty() {
        return Ok(list(library));
    }
    let sheets: Result<Vec<&Sheet>, SheetError> = ids.iter().map(|id| library.any(id)).collect();
    let sheets = sheets?;
    let mut report = Report {
        title: "Data sheets".to_owned(),
        tables: sheets.iter().map(|sheet| table(sheet)).collect(),
        json: json!({"sheets": sheets}),
        ..Report::default()
    };
    for sheet in sheets {
        if !sheet.note.is_empty() {
            report.notes.push(format!("{}: {}.", sheet.id, sheet.note));
        }
        for (key, to) in &sheet.references {
            report
                .notes
                .push(format!("{}: its {key} is {to}.", sheet.id));
        }
    }
    Ok(report)
}

/// How many figures are told of the widest.
const WIDEST: usize = 12;

/// Adds the figures of the sheets `ids`, or of all, whose ranges are the widest over their
/// typical values: what an answer that rests on them owes most of its own range to.
pub fn add_widest(report: &mut Report, library: &Library, ids: &[String]) {
    let chosen = |sheet: &&Sheet| ids.is_empty() || ids.contains(&sheet.id);
    let figures = library.sheets.values().filter(chosen).flat_map(|sheet| {
        let figures = sheet.figures.iter();
        figures.map(move |(key, figure)| (format!("{}.{key}", sheet.id), figure))
    });
    let width = |figure: &Figure| {
        let written = figure.written;
        (written.high - written.low) / written.typical.abs()
    };
    let mut all: Vec<(String, &Figure)> = figures
        .filter(|(_, figure)| width(figure).is_finite() && width(figure) > 0.0)
        .collect();
    all.sort_by(|a, b| width(b.1).total_cmp(&width(a.1)));
    let mut table = ReportTable::new(
        "The widest ranges",
        &["figure", "its range", "wide, over typical"],
    );
    for (path, figure) in all.into_iter().take(WIDEST) {
        let unit = if figure.unit == "1" { "" } else { &figure.unit };
        let range = format!("{} {unit}", count_range(figure.written));
        table.row([path, range.trim_end().to_owned(), percent(width(figure))]);
    }
    if !table.rows.is_empty() {
        report.details.push(table);
    }
}

fn list(library: &Library) -> Report {
    let mut table = ReportTable::new("", &["id", "kind", "what", "figures"]);
    for sheet in library.sheets.values() {
        table.row([
            sheet.id.clone(),
            super::parse::kind_name(sheet.kind),
            sheet.name.clone(),
            sheet.figures.len().to_string(),
        ]);
    }
    Report {
        title: "All data sheets".to_owned(),
        tables: vec![table],
        json: json!({"sheets": library.sheets.values().collect::<Vec<_>>()}),
        ..Report::default()
    }
}

fn table(sheet: &Sheet) -> ReportTable {
    let title = format!("{}: {}", sheet.id, sheet.name);
    let mut table = ReportTable::new(
        &title,
        &["figure", "value", "unit", "known", "date", "source"],
    );
    for (key, figure) in &sheet.figures {
        table.row(cells(key.clone(), figure));
    }
    table
}

/// A figure's row: name, value, unit, how it is known, date and source.
pub(super) fn cells(name: String, figure: &Figure) -> [String; 6] {
    let value = figure.written;
    [
        name,
        match value.typical.abs() < 1e-3 && value.typical != 0.0 {
            true => format!("{:e}", value.typical),
            false if value.is_exact() => digits(value.typical),
            false => count_range(value),
        },
        figure.unit.clone(),
        tag_name(figure.tag).to_owned(),
        figure.date.clone(),
        figure.source.clone(),
    ]
}
