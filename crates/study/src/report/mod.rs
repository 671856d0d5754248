//! What a study found, ready to be shown: tables, plots, notes and the figures
//! that it rests on. Knows no terminal; [`html`] makes a page of it.

mod file;
pub mod format;
pub mod html;
mod plot;
mod scale;
mod svg;

use serde::Serialize;
use serde_json::Value;

use crate::datasheet::{Figure, Library};

pub use file::write_whole;
pub use plot::{Axis, Bar, Plot, PlotMark, PlotShape, Series, Whisker};
pub use svg::COLOURS;

/// Everything that a command has to say.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What was asked.
    pub title: String,
    /// A sentence or two under it; may be empty.
    pub intro: String,
    /// In order of reading.
    pub tables: Vec<ReportTable>,
    /// In order of looking.
    pub plots: Vec<Plot>,
    /// Tables to look something up in: behind the plots.
    pub details: Vec<ReportTable>,
    /// What one should know about the results.
    pub notes: Vec<String>,
    /// The figures of the data sheets that decide them.
    pub inputs: Vec<Input>,
    /// The results, for programs.
    pub json: Value,
}

/// A table; the first column names, the others mostly hold numbers.
#[derive(Clone, Debug, Default)]
pub struct ReportTable {
    /// Above it; may be empty.
    pub title: String,
    /// Names of the columns.
    pub heads: Vec<String>,
    /// As many cells each as there are columns.
    pub rows: Vec<Vec<String>>,
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

    /// Whether a column holds words and not numbers, and so stands to the left.
    pub fn is_text(&self, column: usize) -> bool {
        let starts = |row: &Vec<String>| row[column].chars().next();
        self.rows
            .iter()
            .filter_map(starts)
            .any(|first| first.is_alphabetic() && first != 'µ')
    }
}

impl Report {
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
