//! The model on disk: its parts, their headers, where each weight lies. Reads
//! headers without leaving them in the page cache. Knows nothing of llama.cpp.

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
    /// Where it was found; of a striped model, its list.
    pub path: PathBuf,
    /// Its length in bytes.
    pub len: u64,
    /// Everything before the weights; empty once llama.cpp has parsed it.
    pub header: Vec<u8>,
    /// Where its bytes are: one, or one for each drive.
    pub files: Vec<PartFile>,
}

/// A file with bytes of a part.
#[derive(Debug)]
pub struct PartFile {
    /// Where it was found.
    pub path: PathBuf,
    /// Open for reading.
    pub file: File,
    /// The file as it was when it was opened.
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
    /// Number format, in GGUF's words.
    pub kind: &'static str,
}

/// What the header says of the model, as far as budgets and people want it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// llama.cpp's name of the architecture.
    pub architecture: String,
    /// What the author calls the model.
    pub name: Option<String>,
    /// Layers.
    pub layers: u64,
    /// Tokens it was trained to see at once.
    pub context: u64,
    /// Width of a token.
    pub embedding: u64,
    /// Width of the feed-forward part.
    pub feed_forward: u64,
    /// Values in the KV cache for a token, all layers together; an upper bound
    /// for models with sliding windows or recurrent layers.
    pub kv_values: u64,
    /// Tokens of the vocabulary.
    pub vocab: u64,
    /// Experts of a layer; 0 in a dense model.
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
    /// Bytes of a stripe, where the parts lie on several drives.
    unit: Option<u64>,
    /// Of the headers of all parts.
    header_hash: u64,
}

impl ModelFile {
    /// Opens `path` and, of a split model, every other part. A path of a striped
    /// model's list opens that.
    ///
    /// # Errors
    /// When a file is missing, is not a regular file, or its header is unsound.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::open_within(path, u64::MAX)
    }

    /// As [`ModelFile::open`], for a budget of so many bytes: a header out of proportion
    /// to it is not read.
    ///
    /// # Errors
    /// [`Error::Budget`] where the header is too long.
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
                        "the parts hold {} tensors, {} were announced",
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

    /// Bytes of a stripe, where the parts lie on several drives.
    pub fn stripe_unit(&self) -> Option<u64> {
        self.unit
    }

    /// A hash of the headers of all parts, by which a model is known again.
    pub fn header_hash(&self) -> u64 {
        self.header_hash
    }

    /// The paths of all files.
    pub fn paths(&self) -> Vec<PathBuf> {
        let files = self.parts.iter().flat_map(|part| &part.files);
        files.map(|file| file.path.clone()).collect()
    }

    /// Lengths of the model's files in bytes, as without stripes.
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

    /// Where a file has a hole in which there should be weights, in words: it reads as
    /// zeros. The file system is asked once a file, and nothing is read.
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
                // Of several drives each has a share, of which no offset is known here.
                let range = match part.files.len() {
                    1 => from..until,
                    _ => 0..file.fingerprint.size,
                };
                if let Some(hole) = open::first_hole(&file.file, range) {
                    found.push(format!(
                        "{} has a hole of {} bytes from byte {}, which reads as zeros: \
                         a download that was interrupted leaves such, and answers are then wrong",
                        file.path.display(),
                        hole.end - hole.start,
                        hole.start
                    ));
                }
            }
        }
        found
    }

    /// Fails if a file was changed since it was opened. One that was renamed
    /// over or removed goes on: the open file is still the old one.
    ///
    /// # Errors
    /// Names the file and the change.
    pub fn check_unchanged(&self) -> Result<(), Error> {
        for part in self.parts.iter().flat_map(|part| &part.files) {
            let changed = |message: String| Error::Changed {
                path: part.path.clone(),
                message,
            };
            let now = Fingerprint::of(&part.file)
                .map_err(|e| changed(format!("it can no longer be asked: {e}")))?;
            if now.size != part.fingerprint.size {
                return Err(changed(format!(
                    "its length went from {} to {} bytes",
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
                "part {} of {count} cannot be read ({message}); all parts must lie in one folder",
                no + 1
            ),
            path,
        },
        other => other,
    }
}

/// A list has as many parts as the model says.
fn check_count(path: &Path, list: &Manifest, count: u16) -> Result<(), Error> {
    if list.parts.len() == usize::from(count) {
        return Ok(());
    }
    Err(Error::Manifest {
        path: path.to_owned(),
        message: format!("it has {} parts, the model {count}", list.parts.len()),
    })
}
