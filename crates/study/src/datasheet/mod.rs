//! The data sheets: every figure with its range, unit, source, date and tag,
//! embedded in the program and replaceable by files. Knows what keys a sheet
//! may have; does not know what follows from them.
//!
//! ```toml
//! [hbm4]
//! kind = "store"
//! name = "HBM4 stack"
//! rate = { value = [1.6, 2, 2.8], unit = "TB/s", source = "JESD270-4", date = "2025-04", tag = "second-hand" }
//! ```
//!
//! A file given by the user adds sheets, or replaces single figures of those
//! that are there. A figure is named by sheet and key: `hbm4.rate`.

mod parse;
mod report;
mod schema;
mod stale;
mod unit;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::interval::{Corner, Interval};
use crate::link::{Design, PRESETS};

pub use report::{add_widest, report};
pub use schema::{Key, SheetKind};
pub use stale::{AsOf, AsOfError, stale_note, stale_report};
pub use unit::Dimension;

/// The files that are part of the program.
const EMBEDDED: &[(&str, &str)] = &[
    (
        "accelerators.toml",
        include_str!("../../datasheets/accelerators.toml"),
    ),
    ("claims.toml", include_str!("../../datasheets/claims.toml")),
    ("loops.toml", include_str!("../../datasheets/loops.toml")),
    ("models.toml", include_str!("../../datasheets/models.toml")),
    ("optics.toml", include_str!("../../datasheets/optics.toml")),
    (
        "software.toml",
        include_str!("../../datasheets/software.toml"),
    ),
    ("stores.toml", include_str!("../../datasheets/stores.toml")),
    (
        "training.toml",
        include_str!("../../datasheets/training.toml"),
    ),
];

/// How a figure came to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tag {
    /// Read at its source.
    Read,
    /// From someone other than the source: news, a vendor's blog.
    SecondHand,
    /// An assumption without a source.
    Assumption,
    /// Computed from others.
    Computed,
    /// Given on the command line.
    Given,
}

/// One figure of a sheet.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// In the base unit of its key's [`Dimension`].
    pub value: Interval,
    /// As it was written, in `unit`.
    pub written: Interval,
    /// The unit that it was written in.
    pub unit: String,
    /// Where it is from.
    pub source: String,
    /// When it was so: a year, a month or a day.
    pub date: String,
    /// How it is known.
    pub tag: Tag,
}

/// A data sheet: what it describes, and its figures.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sheet {
    /// What figures are named by.
    pub id: String,
    /// What sort of thing it is.
    pub kind: SheetKind,
    /// For people.
    pub name: String,
    /// What one should know of it; may be empty.
    pub note: String,
    /// Other sheets that this one is made of, by key.
    pub references: BTreeMap<String, String>,
    /// Its figures, by key.
    pub figures: BTreeMap<String, Figure>,
}

/// All sheets, and the designs that some of them are of.
#[derive(Clone, Debug, PartialEq)]
pub struct Library {
    sheets: BTreeMap<String, Sheet>,
    designs: BTreeMap<String, Arc<Design>>,
    /// Whether lines are solved at typical figures alone.
    typical_only: bool,
}

/// Why data sheets cannot be used.
#[derive(Debug, Error)]
pub enum SheetError {
    /// A file cannot be read.
    #[error("{path}: {source}; give a data sheet (.toml) or a directory of some")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A directory without data sheets.
    #[error("{0} holds no data sheets; give a .toml file or a directory of some")]
    NoFiles(PathBuf),
    /// Not TOML.
    #[error("{file}: not a data sheet: {message}")]
    Syntax {
        /// Which file.
        file: String,
        /// What the parser says, with the place.
        message: String,
    },
    /// A key that no such sheet has.
    #[error("{place}: there is no key `{key}` here; there are {expected}")]
    UnknownKey {
        /// File and sheet.
        place: String,
        /// What was written.
        key: String,
        /// What could have been.
        expected: String,
    },
    /// Something is missing.
    #[error("{place}: `{key}` is missing; {expected}")]
    Missing {
        /// File and sheet, or figure.
        place: String,
        /// What is missing.
        key: String,
        /// What it should be.
        expected: String,
    },
    /// A value that cannot be.
    #[error("{place}: `{key}` is {got}, but must be {expected}")]
    Value {
        /// File and sheet.
        place: String,
        /// Which key.
        key: String,
        /// What was written.
        got: String,
        /// What is accepted.
        expected: String,
    },
    /// No such sheet or figure.
    #[error("there is no {what} `{name}`; there are {expected}")]
    Unknown {
        /// What was looked for.
        what: String,
        /// Its name.
        name: String,
        /// The names that there are.
        expected: String,
    },
}

impl Library {
    /// The sheets that are part of the program.
    ///
    /// # Panics
    /// When one of them is wrong, which a test excludes.
    pub fn embedded() -> Self {
        let mut library = Self {
            sheets: BTreeMap::new(),
            designs: BTreeMap::new(),
            typical_only: false,
        };
        for (id, text) in PRESETS {
            match Design::parse(text) {
                Ok(design) => library.add_design(id, design, "the design's"),
                Err(error) => panic!("an embedded design is wrong: {error}"),
            }
        }
        for (file, text) in EMBEDDED {
            if let Err(error) = parse::add(&mut library.sheets, file, text) {
                panic!("an embedded data sheet is wrong: {error}");
            }
        }
        if let Err(error) = parse::complete(&library.sheets, "embedded") {
            panic!("an embedded data sheet is wrong: {error}");
        }
        library
    }

    /// Adds the sheets of a file, or of all `.toml` files of a directory in
    /// order of their names; figures that are there already are replaced.
    ///
    /// # Errors
    /// [`SheetError`], naming file, key, value and what is accepted.
    pub fn load(&mut self, path: &Path) -> Result<(), SheetError> {
        let fail = |path: &Path| {
            let path = path.to_owned();
            move |source| SheetError::File { path, source }
        };
        let mut files = vec![path.to_owned()];
        if path.is_dir() {
            files = std::fs::read_dir(path)
                .and_then(|entries| entries.map(|e| e.map(|e| e.path())).collect())
                .map_err(fail(path))?;
            files.retain(|file| file.extension().is_some_and(|e| e == "toml"));
            files.sort();
            if files.is_empty() {
                return Err(SheetError::NoFiles(path.to_owned()));
            }
        }
        let mut sheets = self.sheets.clone();
        for file in files {
            let text = std::fs::read_to_string(&file).map_err(fail(&file))?;
            parse::add(&mut sheets, &file.display().to_string(), &text)?;
        }
        parse::complete(&sheets, &path.display().to_string())?;
        self.sheets = sheets;
        Ok(())
    }

    /// Adds sheets from text; `file` names it in messages.
    ///
    /// # Errors
    /// As [`Library::load`].
    pub fn add(&mut self, file: &str, text: &str) -> Result<(), SheetError> {
        let mut sheets = self.sheets.clone();
        parse::add(&mut sheets, file, text)?;
        parse::complete(&sheets, file)?;
        self.sheets = sheets;
        Ok(())
    }

    /// Adds a design as the sheet `id`, of which length and laps can be set; `source`
    /// says who decided them.
    pub fn add_design(&mut self, id: &str, design: Design, source: &str) {
        let figure = |written: f64, unit: &str, factor: f64| Figure {
            value: Interval::exact(written * factor),
            written: Interval::exact(written),
            unit: unit.to_owned(),
            source: source.to_owned(),
            date: "2026".to_owned(),
            tag: Tag::Assumption,
        };
        let figures = [
            ("length", figure(design.length_km(), "km", 1e3)),
            ("laps", figure(design.laps, "1", 1.0)),
        ];
        let sheet = Sheet {
            id: id.to_owned(),
            kind: SheetKind::Design,
            name: design.name.clone(),
            note: String::new(),
            references: references(&design),
            figures: figures.map(|(key, figure)| (key.to_owned(), figure)).into(),
        };
        self.sheets.insert(id.to_owned(), sheet);
        self.designs.insert(id.to_owned(), Arc::new(design));
    }

    /// The design of the sheet `id`, with the length and the laps that are set.
    ///
    /// # Errors
    /// [`crate::link::Error`] when there is none, or when it cannot be that long.
    pub fn design(&self, id: &str) -> Result<Design, crate::link::Error> {
        let sheet = self.sheet(SheetKind::Design, id)?;
        let design = self.designs[id].as_ref();
        let length_km = sheet.get("length").typical * 1e-3;
        let mut design = match (length_km / design.length_km() - 1.0).abs() < 1e-12 {
            true => design.clone(),
            false => design.of_length(length_km)?,
        };
        design.laps = sheet.get("laps").typical;
        Ok(design)
    }

    /// The same sheets, with which lines are solved at typical figures alone, which is all
    /// that a question about typical answers needs.
    pub fn typically(self) -> Self {
        Self {
            typical_only: true,
            ..self
        }
    }

    /// At which figures lines are solved.
    pub(crate) fn corners(&self) -> &'static [Corner] {
        match self.typical_only {
            true => &[Corner::Typical],
            false => &Corner::ALL,
        }
    }

    /// Puts a sheet in the place of another.
    pub(crate) fn put(&mut self, id: &str, sheet: Sheet) {
        let id = id.to_owned();
        self.sheets.insert(id.clone(), Sheet { id, ..sheet });
    }

    /// Whether the sheet's design has its own length and laps.
    pub fn is_as_designed(&self, id: &str) -> bool {
        let own = self.designs.get(id).map(|design| design.as_ref());
        self.design(id).ok().as_ref() == own
    }

    /// All sheets of a kind, in order of their ids.
    pub fn of_kind(&self, kind: SheetKind) -> impl Iterator<Item = &Sheet> {
        self.sheets.values().filter(move |sheet| sheet.kind == kind)
    }

    /// The sheet of a kind by its id.
    ///
    /// # Errors
    /// [`SheetError::Unknown`] with the ids that there are.
    pub fn sheet(&self, kind: SheetKind, id: &str) -> Result<&Sheet, SheetError> {
        let found = self.sheets.get(id).filter(|sheet| sheet.kind == kind);
        found.ok_or_else(|| SheetError::Unknown {
            what: format!("data sheet of kind {}", parse::kind_name(kind)),
            name: id.to_owned(),
            expected: list(self.of_kind(kind).map(|sheet| sheet.id.as_str())),
        })
    }

    /// Any sheet by its id.
    ///
    /// # Errors
    /// [`SheetError::Unknown`] with the ids that there are.
    pub fn any(&self, id: &str) -> Result<&Sheet, SheetError> {
        self.sheets.get(id).ok_or_else(|| SheetError::Unknown {
            what: "data sheet".to_owned(),
            name: id.to_owned(),
            expected: list(self.sheets.keys().map(String::as_str)),
        })
    }

    /// A figure by `sheet.key`.
    ///
    /// # Errors
    /// [`SheetError::Unknown`] with the names that there are.
    pub fn figure(&self, path: &str) -> Result<&Figure, SheetError> {
        // An id may hold a point, as of a length; a key holds none.
        let (id, key) = path.rsplit_once('.').unwrap_or((path, ""));
        let sheet = self.any(id)?;
        sheet.figures.get(key).ok_or_else(|| SheetError::Unknown {
            what: format!("figure of {id}"),
            name: key.to_owned(),
            expected: list(sheet.figures.keys().map(String::as_str)),
        })
    }

    /// What a figure measures, by `sheet.key`.
    ///
    /// # Errors
    /// As [`Library::figure`].
    pub fn dimension(&self, path: &str) -> Result<Dimension, SheetError> {
        self.figure(path)?;
        let (id, name) = path.rsplit_once('.').expect("a figure's name has a dot");
        let key = self.any(id)?.kind.key(name);
        Ok(key.expect("figures have keys").dimension)
    }

    /// Sets a figure by `sheet.key` to a value in the unit that it is written
    /// in, for sweeps and questions of what if.
    ///
    /// # Errors
    /// [`SheetError::Unknown`], or [`SheetError::Value`] when it cannot be.
    pub fn set(&mut self, path: &str, written: Interval) -> Result<(), SheetError> {
        let mut figure = self.figure(path)?.clone();
        let (id, name) = path.rsplit_once('.').expect("a figure's name has a dot");
        let sheet = self.sheets.get_mut(id).expect("the figure is there");
        let key = sheet.kind.key(name).expect("figures have keys");
        figure.value = parse::value(key, written, &figure.unit, id)?;
        figure.written = written;
        figure.tag = Tag::Given;
        sheet.figures.insert(name.to_owned(), figure);
        Ok(())
    }
}

impl Sheet {
    /// The value of a figure that every sheet of its kind has, in base units.
    ///
    /// # Panics
    /// When the key is optional and absent, or not a key of its kind: a bug
    /// in the program, since sheets are checked when they are read.
    pub fn get(&self, key: &str) -> Interval {
        self.find(key)
            .unwrap_or_else(|| panic!("{} has no figure {key}", self.id))
    }

    /// The value of a figure that a sheet may lack, in base units.
    pub fn find(&self, key: &str) -> Option<Interval> {
        self.figures.get(key).map(|figure| figure.value)
    }
}

/// The sheets that a design is made of.
fn references(design: &Design) -> BTreeMap<String, String> {
    let ends = [
        ("fiber", &design.fiber),
        ("transceiver", &design.transceiver),
    ];
    let ends = ends.map(|(key, id)| (key.to_owned(), id.clone()));
    let bands = design.bands.iter();
    let bands = bands.map(|band| {
        let key = format!("amplifier of its {} band", band.name);
        (key, band.amplifier.clone())
    });
    let kinds = design.list.iter().enumerate();
    let kinds = kinds.filter_map(|(index, kind)| {
        let key = format!("fiber of its span {}", index + 1);
        kind.fiber.clone().map(|fiber| (key, fiber))
    });
    ends.into_iter().chain(bands).chain(kinds).collect()
}

/// `a, b and c`.
fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    match names.split_last() {
        None => "none".to_owned(),
        Some((only, [])) => (*only).to_owned(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests;
