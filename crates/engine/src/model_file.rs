//! The model on disk: its parts, their headers, and where each weight is. Reads headers
//! without leaving them in the page cache.

mod open;
mod read;

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use delayline_gguf::{Header, block_hash};
use delayline_medium::Fingerprint;

pub(crate) use self::open::advise;
use self::open::{open_part, open_striped};
use self::read::{check_part, facts_of, weights_of};
use crate::error::Error;
use crate::sound;
use crate::striped::Manifest;

/// Index of a weight in [`ModelFile::weights`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WeightId(pub u32);

/// Finds weights by the names that llama.cpp's tensors carry.
pub type Names = HashMap<Box<[u8]>, WeightId>;

/// One part of the model: a file, or one striped over several.
#[derive(Debug)]
pub struct Part {
    /// Its path; for a striped model, that of its list.
    pub path: PathBuf,
    /// Its length in bytes.
    pub len: u64,
    /// Everything before the weights; empty once llama.cpp has parsed it.
    pub header: Vec<u8>,
    /// Its files: one, or one for each drive.
    pub files: Vec<PartFile>,
}

/// A file with bytes of a part.
#[derive(Debug)]
pub struct PartFile {
    /// Its path.
    pub path: PathBuf,
    /// The file, open for reading.
    pub file: File,
    /// Its state when it was opened.
    pub fingerprint: Fingerprint,
}

/// Where a weight's bytes are.
#[derive(Clone, Debug)]
pub struct Weight {
    /// The tensor's name.
    pub name: String,
    /// Which part.
    pub part: u16,
    /// First byte in the part.
    pub offset: u64,
    /// Length in bytes.
    pub len: u64,
    /// Elements along each dimension, fastest first.
    pub dims: Vec<u64>,
    /// Number format, by GGUF's name.
    pub kind: &'static str,
}

/// Facts from the header, for budgets and people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// llama.cpp's name of the architecture.
    pub architecture: String,
    /// The author's name of the model.
    pub name: Option<String>,
    /// Number of layers.
    pub layers: u64,
    /// Longest context that it was trained for, in tokens.
    pub context: u64,
    /// Length of the vectors between layers.
    pub embedding: u64,
    /// Length of the vectors in the feed-forward part.
    pub feed_forward: u64,
    /// Values in the KV cache for a token, all layers together; an upper bound
    /// for models with sliding windows or recurrent layers.
    pub kv_values: u64,
    /// Number of tokens of the vocabulary.
    pub vocab: u64,
    /// Experts of a layer; 0 for a dense model.
    pub experts: u64,
    /// Experts that a token uses.
    pub experts_used: u64,
}

/// A model's files, opened and checked.
#[derive(Debug)]
pub struct ModelFile {
    parts: Vec<Part>,
    weights: Vec<Weight>,
    facts: Facts,
    /// Bytes of a stripe, if the parts are on several drives.
    unit: Option<u64>,
    /// Hash of the headers of all parts.
    header_hash: u64,
}

impl ModelFile {
    /// Opens `path` and, for a split model, every other part. `path` may be the list of a
    /// striped model.
    ///
    /// # Errors
    /// If a file is missing, is not a regular file, or its header is unsound.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::open_within(path, u64::MAX)
    }

    /// Like [`ModelFile::open`], for a budget of `budget` bytes: a header too long for it is
    /// not read.
    ///
    /// # Errors
    /// Also [`Error::Budget`] if a header is too long.
    pub fn open_within(path: &Path, budget: u64) -> Result<Self, Error> {
        let list = match Manifest::is_one(path) {
            true => Some(Manifest::read(path)?),
            false => None,
        };
        let first = match &list {
            Some(list) => open_striped(path, list, 0, budget)?,
            None => open_part(path, budget)?,
        };
        let unsound = |source| Error::Header {
            path: path.to_owned(),
            source,
        };
        let header = Header::parse(&first.header, first.len).map_err(unsound)?;
        sound::check(&header).map_err(|message| Error::Open {
            path: path.to_owned(),
            message,
        })?;
        let facts = facts_of(&header)?;
        let mut weights = weights_of(&header, 0);
        let split = header.split().map_err(unsound)?;
        let mut parts = vec![];
        if let Some(list) = &list {
            check_count(path, list, split.as_ref().map_or(1, |split| split.count))?;
        }
        if let Some(split) = split.filter(|s| s.count > 1) {
            if split.no != 0 {
                return Err(Error::Split {
                    path: path.to_owned(),
                    message: format!(
                        "this is part {} of {}: give the first part",
                        split.no + 1,
                        split.count
                    ),
                });
            }
            let paths = match &list {
                Some(_) => vec![path.to_owned(); usize::from(split.count)],
                None => delayline_gguf::parts(path, split.count).map_err(unsound)?,
            };
            for (no, path) in paths.iter().enumerate().skip(1) {
                let part = match &list {
                    Some(list) => open_striped(path, list, no, budget)?,
                    None => open_part(path, budget)
                        .map_err(|error| missing_part(error, no, split.count))?,
                };
                weights.extend(check_part(&part, no, split.count)?);
                parts.push(part);
            }
            if split.tensors != weights.len() as u64 {
                return Err(Error::Split {
                    path: path.to_owned(),
                    message: format!(
                        "the parts hold {} tensors, but the header says {}",
                        weights.len(),
                        split.tensors
                    ),
                });
            }
        }
        parts.insert(0, first);
        let hashes = parts.iter().map(|part| block_hash(&part.header));
        let hashes: Vec<u8> = hashes.flat_map(u64::to_le_bytes).collect();
        Ok(Self {
            header_hash: block_hash(&hashes),
            parts,
            weights,
            facts,
            unit: list.map(|list| list.unit),
        })
    }

    /// Bytes of a stripe, if the parts are on several drives.
    pub fn stripe_unit(&self) -> Option<u64> {
        self.unit
    }

    /// A hash of the headers of all parts, which identifies the model.
    pub fn header_hash(&self) -> u64 {
        self.header_hash
    }

    /// The paths of all files.
    pub fn paths(&self) -> Vec<PathBuf> {
        let files = self.parts.iter().flat_map(|part| &part.files);
        files.map(|file| file.path.clone()).collect()
    }

    /// Lengths of the parts in bytes, without stripes.
    pub fn part_lens(&self) -> Vec<u64> {
        self.parts().iter().map(|part| part.len).collect()
    }

    /// The parts.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// All weights, in file order.
    pub fn weights(&self) -> &[Weight] {
        &self.weights
    }

    /// One weight.
    pub fn weight(&self, id: WeightId) -> &Weight {
        &self.weights[id.0 as usize]
    }

    /// What the header says.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Bytes of all weights.
    pub fn weight_bytes(&self) -> u64 {
        self.weights.iter().map(|w| w.len).sum()
    }

    /// Weights by name.
    pub fn names(&self) -> Names {
        self.weights
            .iter()
            .zip(0..)
            .map(|(w, id)| (w.name.as_bytes().into(), WeightId(id)))
            .collect()
    }

    /// Gives back the memory of the headers, once llama.cpp has parsed them.
    pub fn drop_headers(&mut self) {
        for part in &mut self.parts {
            part.header = Vec::new();
        }
    }

    /// Notices of files with a hole where weights should be, which reads as zeros. Asks the
    /// file system once per file, and reads nothing.
    pub fn holes(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (no, part) in self.parts.iter().enumerate() {
            let own = self.weights.iter().filter(|w| usize::from(w.part) == no);
            let (Some(from), Some(until)) = (
                own.clone().map(|w| w.offset).min(),
                own.map(|w| w.offset + w.len).max(),
            ) else {
                continue;
            };
            for file in &part.files {
                // On several drives, each file has a share of the weights.
                let range = match part.files.len() {
                    1 => from..until,
                    _ => 0..file.fingerprint.size,
                };
                if let Some(hole) = open::first_hole(&file.file, range) {
                    found.push(format!(
                        "{} has a hole of {} bytes from byte {}, which reads as zeros: \
                         an interrupted download may leave one, and answers are then wrong",
                        file.path.display(),
                        hole.end - hole.start,
                        hole.start
                    ));
                }
            }
        }
        found
    }

    /// Fails if a file was changed since it was opened. One that was replaced or removed is
    /// no error: the open file is still the old one.
    ///
    /// # Errors
    /// [`Error::Changed`] with the file and the change.
    pub fn check_unchanged(&self) -> Result<(), Error> {
        for part in self.parts.iter().flat_map(|part| &part.files) {
            let changed = |message: String| Error::Changed {
                path: part.path.clone(),
                message,
            };
            let now = Fingerprint::of(&part.file)
                .map_err(|e| changed(format!("its state cannot be read any more: {e}")))?;
            if now.size != part.fingerprint.size {
                return Err(changed(format!(
                    "its length changed from {} to {} bytes",
                    part.fingerprint.size, now.size
                )));
            }
            if part.fingerprint.changed(&now, &part.path) {
                return Err(changed(
                    "it was written to while the model was running, or its times were set".into(),
                ));
            }
        }
        Ok(())
    }
}

fn missing_part(error: Error, no: usize, count: u16) -> Error {
    match error {
        Error::Open { path, message } => Error::Split {
            message: format!(
                "part {} of {count} cannot be read ({message}); all parts must be in one folder",
                no + 1
            ),
            path,
        },
        other => other,
    }
}

/// Checks that a list has as many parts as the model says.
fn check_count(path: &Path, list: &Manifest, count: u16) -> Result<(), Error> {
    if list.parts.len() == usize::from(count) {
        return Ok(());
    }
    Err(Error::Manifest {
        path: path.to_owned(),
        message: format!("it has {} parts, but the model {count}", list.parts.len()),
    })
}
