//! A study's result, ready to be shown: tables, plots, notes and the figures that it rests on.
//! [`html`] makes a page of it.

pub mod format;
pub mod html;
mod plot;
mod scale;
mod svg;

use serde::Serialize;
use serde_json::Value;

use crate::datasheet::{Figure, Library};

pub use plot::{Axis, Bar, Plot, PlotMark, PlotShape, Series, Whisker};
pub use svg::COLOURS;

/// Everything that a command has to say.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What was asked.
    pub title: String,
    /// The answer in a sentence; may be empty.
    pub answer: String,
    /// How it came about, in a sentence or two; may be empty.
    pub intro: String,
    /// Before the plots.
    pub tables: Vec<ReportTable>,
    /// In the order in which they are shown.
    pub plots: Vec<Plot>,
    /// Reference tables, behind the plots.
    pub details: Vec<ReportTable>,
    /// What one should know about the results.
    pub notes: Vec<String>,
    /// The figures of the data sheets that decide them.
    pub inputs: Vec<Input>,
    /// The one number that the answer comes down to, if there is one.
    pub headline: Option<Headline>,
    /// The results, for programs.
    pub json: Value,
}

/// A table; the first column names, the others mostly hold numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReportTable {
    /// Above it; may be empty.
    pub title: String,
    /// Names of the columns.
    pub heads: Vec<String>,
    /// As many cells each as there are columns.
    pub rows: Vec<Vec<String>>,
    /// Row and column of the best cells.
    pub best: Vec<(usize, usize)>,
    /// Names of groups of rows, before the row that each begins with.
    pub groups: Vec<(usize, String)>,
}

/// The one number that an answer comes down to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Headline {
    /// What it is.
    pub what: String,
    /// In base units.
    pub value: f64,
    /// The base unit; `$` for dollars, `%` for shares of 1.
    pub unit: &'static str,
}

impl Headline {
    /// A value of it, for people.
    pub fn show(&self, value: f64) -> String {
        match self.unit {
            "$" => format::dollars(value),
            "%" => format::percent(value),
            "m" => format!("{} km", format::digits(value * 1e-3)),
            unit => format::si(value, unit),
        }
    }
}

/// A figure and where it is found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Input {
    /// `sheet.key`.
    pub path: String,
    /// The figure.
    #[serde(flatten)]
    pub figure: Figure,
}

impl ReportTable {
    /// An empty table of these columns.
    pub fn new(title: &str, heads: &[&str]) -> Self {
        Self {
            title: title.to_owned(),
            heads: heads.iter().map(|&head| head.to_owned()).collect(),
            rows: Vec::new(),
            ..Self::default()
        }
    }

    /// One more row.
    ///
    /// # Panics
    /// When it has not as many cells as there are columns.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells: Vec<String> = cells.into_iter().collect();
        assert_eq!(cells.len(), self.heads.len(), "a cell a column: {cells:?}");
        self.rows.push(cells);
    }

    /// Marks the least of a column, of the values that its cells show.
    pub fn mark_least(&mut self, head: &str, values: &[f64]) {
        let best = values
            .iter()
            .enumerate()
            .filter(|(_, value)| value.is_finite());
        let best = best.min_by(|a, b| a.1.total_cmp(b.1));
        let column = self.heads.iter().position(|name| name == head);
        if let (Some((row, _)), Some(column), true) = (best, column, values.len() > 1) {
            self.best.push((row, column));
        }
    }

    /// Marks the greatest of a column, of the values that its cells show.
    pub fn mark_greatest(&mut self, head: &str, values: &[f64]) {
        let negative: Vec<f64> = values.iter().map(|value| -value).collect();
        self.mark_least(head, &negative);
    }

    /// Whether a column holds words and not numbers, and so stands to the left.
    pub fn is_text(&self, column: usize) -> bool {
        let starts = |row: &Vec<String>| {
            // So many of something are words as well, and at least so much is a number.
            let cell = row[column].as_str();
            let cell = cell.strip_prefix("at least ").unwrap_or(cell);
            let name = cell.split_once(" × ").map_or(cell, |(_, name)| name);
            name.chars().next()
        };
        self.rows
            .iter()
            .filter_map(starts)
            .any(|first| first.is_alphabetic() && first != 'µ')
    }
}

impl Report {
    /// Whether both print the same figures.
    pub fn prints_as(&self, other: &Self) -> bool {
        (&self.tables, &self.details) == (&other.tables, &other.details)
    }

    /// Adds all figures of the sheets `ids`, and of those that they are made
    /// of, each once.
    pub fn cite(&mut self, library: &Library, ids: &[&str]) {
        for id in ids {
            let Ok(sheet) = library.any(id) else { continue };
            for (key, figure) in &sheet.figures {
                self.add_input(format!("{id}.{key}"), figure.clone());
            }
            let references: Vec<&str> = sheet.references.values().map(String::as_str).collect();
            self.cite(library, &references);
        }
    }

    /// Adds one figure by its path, unless it is there.
    pub fn add_input(&mut self, path: String, figure: Figure) {
        if self.inputs.iter().all(|input| input.path != path) {
            self.inputs.push(Input { path, figure });
        }
    }
}
