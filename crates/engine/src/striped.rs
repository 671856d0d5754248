//! A model striped over several drives: the list of its files, and reading its bytes in
//! order. `delayline_medium::stripes` says where a byte is.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use delayline_medium::{shares, stripes};
use delayline_plan::ALIGN;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// End of a list's name.
const SUFFIX: &str = ".stripe.toml";

/// The list of a striped model's files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Bytes of a stripe, a multiple of [`ALIGN`].
    pub unit: u64,
    /// The model's files in order.
    pub parts: Vec<StripedPart>,
}

/// One file of the model, on all drives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StripedPart {
    /// Name of the original file.
    pub name: String,
    /// Length in bytes.
    pub len: u64,
    /// Its stripes, one file per drive; relative paths are relative to the list's folder.
    pub files: Vec<PathBuf>,
}

impl Manifest {
    /// The name of a model's list.
    pub fn name(model: &str) -> String {
        format!("{}{SUFFIX}", model.strip_suffix(".gguf").unwrap_or(model))
    }

    /// Whether a path is that of a list.
    pub fn is_one(path: &Path) -> bool {
        path.to_string_lossy().ends_with(SUFFIX)
    }

    /// Reads and checks the list at `path`.
    ///
    /// # Errors
    /// If it cannot be read or is not a valid list.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::Open {
            path: path.to_owned(),
            message: e.to_string(),
        })?;
        let wrong = |message: String| Error::Manifest {
            path: path.to_owned(),
            message,
        };
        let mut list: Self = toml::from_str(&text).map_err(|e| wrong(e.message().to_owned()))?;
        let drives = list.parts.first().map_or(0, |part| part.files.len());
        if drives == 0 || list.parts.iter().any(|part| part.files.len() != drives) {
            return Err(wrong("every part needs a file on every drive".into()));
        }
        if list.unit == 0 || !list.unit.is_multiple_of(ALIGN) || list.unit > 1 << 40 {
            return Err(wrong(format!(
                "unit is {}: expected a positive multiple of {ALIGN}",
                list.unit
            )));
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        for part in &mut list.parts {
            part.files = part.files.iter().map(|file| folder.join(file)).collect();
        }
        Ok(list)
    }

    /// The list as text.
    pub fn text(&self) -> String {
        let list = toml::to_string(self).expect("numbers, names and lists of paths");
        format!("# A model striped over several drives: run it by naming this file.\n{list}")
    }

    /// Number of drives.
    pub fn drives(&self) -> usize {
        self.parts.first().map_or(0, |part| part.files.len())
    }

    /// Expected lengths of the files of a part.
    pub fn lens(&self, part: usize) -> Vec<u64> {
        shares(self.unit, self.drives() as u64, self.parts[part].len)
    }
}

/// Reads the bytes of a striped part in order.
pub(crate) struct InOrder<'a> {
    pub files: Vec<&'a File>,
    pub unit: u64,
    pub len: u64,
    pub at: u64,
}

impl Read for InOrder<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = (self.len - self.at).min(out.len() as u64);
        let drives = self.files.len() as u64;
        let Some((drive, there, len)) = stripes(self.unit, drives, self.at, left).next() else {
            return Ok(0);
        };
        let got = self.files[drive].read_at(&mut out[..len as usize], there)?;
        self.at += got as u64;
        Ok(got)
    }
}
