//! A sweep as a page: tokens per second over what was varied, and the rows.

use super::{Base, best_row};
use crate::report::format::{counted, digits, si};
use crate::report::{Axis, COLOURS, Plot, PlotShape, Report, ReportTable, Series};
use crate::setting::Setting;

/// Rows that a page shows; the CSV has all.
const ROWS: usize = 200;
/// Columns of results that it shows, with their units.
const SHOWN: [(&str, &str); 5] = [
    ("lap_s", "s"),
    ("tokens_per_s", ""),
    ("total_tokens_per_s", ""),
    ("medium_w", "W"),
    ("medium_dollars", "$"),
];
/// What is plotted.
const PLOTTED: &str = "tokens_per_s";

/// The page of a sweep that came out as `csv`.
pub fn report(base: &Base, settings: &[Setting], csv: &str) -> Report {
    let mut lines = csv.lines();
    let heads: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    // What comes behind the last number is an error, and may hold commas.
    let rows: Vec<Vec<&str>> = lines.map(|line| line.split(',').collect()).collect();
    let value = |row: &[&str], name: &str| -> Option<f64> {
        let column = heads.iter().position(|head| *head == name)?;
        row.get(column)?.parse().ok()
    };
    let best = best_row(csv).and_then(|at| Some((&rows[at], value(&rows[at], PLOTTED)?)));
    let set = |row: &[&str]| {
        let pairs = settings.iter().zip(row);
        let pairs = pairs.map(|(setting, value)| {
            let value = value.parse().map_or((*value).to_owned(), digits);
            format!("{} = {value} {}", setting.name, setting.unit)
                .trim_end()
                .to_owned()
        });
        pairs.collect::<Vec<_>>().join(", ")
    };
    let mut table = ReportTable::new(
        "Rows",
        &[&["set"][..], &SHOWN.map(|(name, _)| name)].concat(),
    );
    let shown = || rows.iter().take(ROWS);
    for row in shown() {
        let cells = SHOWN.iter().map(|&(name, unit)| {
            value(row, name).map_or("–".to_owned(), |value| match unit {
                "$" => crate::report::format::dollars(value),
                unit => si(value, unit),
            })
        });
        table.row([set(row)].into_iter().chain(cells));
    }
    let all: Vec<f64> = shown()
        .map(|row| value(row, PLOTTED).unwrap_or(f64::NAN))
        .collect();
    table.mark_greatest(PLOTTED, &all);
    Report {
        title: format!(
            "{} on {} from {}",
            base.model, base.accelerator, base.medium
        ),
        answer: best.map_or("No row has an answer.".to_owned(), |(row, tokens)| {
            format!(
                "Most for each sequence is {} per second, with {}.",
                counted(si(tokens, ""), "token"),
                set(row)
            )
        }),
        intro: match rows.len() {
            1 => String::new(),
            count if count <= ROWS => format!("{count} combinations of what was set."),
            count => {
                format!("{count} combinations of what was set; the first {ROWS} are in the table.")
            }
        },
        plots: plot(settings, &rows, &value).into_iter().collect(),
        details: vec![table],
        ..Report::default()
    }
}

/// Tokens per second over the first setting that has several values, a line for each
/// combination of the others.
fn plot(
    settings: &[Setting],
    rows: &[Vec<&str>],
    value: &impl Fn(&[&str], &str) -> Option<f64>,
) -> Option<Plot> {
    let over = settings
        .iter()
        .position(|setting| setting.values.len() > 1)?;
    let name_of = |row: &[&str]| {
        let others = settings
            .iter()
            .enumerate()
            .filter(|(index, s)| *index != over && s.values.len() > 1);
        let others = others.map(|(index, s)| format!("{} {}{}", s.name, row[index], s.unit));
        others.collect::<Vec<_>>().join(", ")
    };
    let mut series: Vec<Series> = Vec::new();
    for row in rows {
        let (Some(x), Some(y)) = (row[over].parse().ok(), value(row, PLOTTED)) else {
            continue;
        };
        let name = name_of(row);
        match series.iter().position(|one| one.name == name) {
            Some(index) => series[index].points.push((x, y)),
            None if series.len() < COLOURS => series.push(Series {
                name,
                points: vec![(x, y)],
                ..Series::default()
            }),
            None => {}
        }
    }
    let setting = &settings[over];
    let (first, last) = (setting.values.first()?, setting.values.last()?);
    let label = match setting.unit.as_str() {
        "" => setting.name.clone(),
        unit => format!("{} [{unit}]", setting.name),
    };
    let axis = match *first > 0.0 && last / first > 20.0 {
        true => Axis::log(&label, ""),
        false => Axis::linear(&label, ""),
    };
    (!series.is_empty()).then(|| Plot {
        title: format!("Tokens per second over {}", setting.name),
        caption: "Of each sequence, typical figures.".to_owned(),
        shape: PlotShape::Lines {
            x: axis,
            y: Axis::linear("tokens per second, each", ""),
            series,
            marks: Vec::new(),
        },
    })
}
