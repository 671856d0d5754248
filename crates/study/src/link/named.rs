//! A loop by its name, as every command takes it: a design of the program, a file, or
//! `fiber:NAME` with parameters.

use std::path::PathBuf;

use delayline_fiber::Quantity;
use thiserror::Error as ThisError;

use super::design::{Design, PRESETS, preset};
use crate::datasheet::{Library, SheetError};
use crate::interval::Interval;
use crate::optics;

/// Why a name leads to no loop.
#[derive(Debug, ThisError)]
pub enum NameError {
    /// A parameter that a loop of the study does not have.
    #[error(
        "`{word}` in `{name}`: expected a design ({}) or design=FILE.toml, then length=200km or \
         laps=10; rate, power and price follow from the optics",
        designs()
    )]
    Parameter {
        /// The whole name.
        name: String,
        /// The part of it that is wrong.
        word: String,
    },
    /// A length or a number of laps that a loop cannot have.
    #[error("`{name}` is not possible")]
    Value {
        /// The whole name.
        name: String,
        /// What is accepted.
        source: SheetError,
    },
    /// A file that cannot be read.
    #[error(
        "{path}: {source}; expected a design file (.toml), or one of {}",
        designs()
    )]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file that is no design.
    #[error("{name} is not a valid design")]
    Design {
        /// Which.
        name: String,
        /// Why not.
        source: optics::Error,
    },
}

fn designs() -> String {
    PRESETS.map(|(name, _)| name).join(", ")
}

/// Adds the loop to `library` if its name says what it is made of, as
/// `fiber:hollow-core,length=74800km`, `fiber:design=FILE.toml` and `FILE.toml` do, and
/// gives the id of its sheet. Any other name is the id itself.
///
/// # Errors
/// [`NameError`].
pub fn named(library: &mut Library, name: &str) -> Result<String, NameError> {
    let wrong = |word: &str| NameError::Parameter {
        name: name.to_owned(),
        word: word.to_owned(),
    };
    let Some(parameters) = name.strip_prefix("fiber:") else {
        if name.ends_with(".toml") {
            let design = from_file(name)?;
            library.add_design(name, design, name);
        }
        return Ok(name.to_owned());
    };
    let mut words = parameters.split(',').map(str::trim);
    let first = words.next().unwrap_or_default();
    // A design of the program may have been given another length by --set.
    let (design, base) = match (first.strip_prefix("design="), preset(first)) {
        (Some(file), _) => (from_file(file)?, None),
        (None, Some(_)) => match library.design(first) {
            Ok(design) => (design, Some(first)),
            Err(_) => return Err(wrong(first)),
        },
        (None, None) => return Err(wrong(first)),
    };
    if let (Some(base), None) = (base, words.clone().next()) {
        return Ok(base.to_owned());
    }
    library.add_design(name, design, "the design's");
    let mut given: Vec<&str> = Vec::new();
    for word in words {
        let (key, value) = word.split_once('=').ok_or_else(|| wrong(word))?;
        let written = match key {
            "length" => Quantity::Length.parse(value),
            "laps" => value.parse().ok(),
            _ => None,
        };
        let written = written.ok_or_else(|| wrong(word))?;
        if given.contains(&key) {
            return Err(wrong(word));
        }
        given.push(key);
        let path = format!("{name}.{key}");
        let set = library.set(&path, Interval::exact(written));
        set.map_err(|source| NameError::Value {
            name: name.to_owned(),
            source,
        })?;
    }
    Ok(name.to_owned())
}

fn from_file(path: &str) -> Result<Design, NameError> {
    let text = std::fs::read_to_string(path).map_err(|source| NameError::File {
        path: path.into(),
        source,
    })?;
    Design::parse(&text).map_err(|source| NameError::Design {
        name: path.to_owned(),
        source,
    })
}
