//! Recorded requests in the format of Mooncake's traces: a line of JSON each, of which the
//! length of the prompt counts and the ids of its parts, 512 tokens each. An id stands for
//! its part and for all before it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use delayline_kv::BLOCK_TOKENS;
use serde::Deserialize;
use thiserror::Error;

/// Tokens of an id of the trace.
const PART: usize = 512;
/// That a unit is not used again.
const NEVER: u32 = u32::MAX;
/// Maximum length of a line: 16 MiB hold ids of a billion tokens.
const LINE_MAX: u64 = 16 << 20;
/// Maximum number of ids; a replay takes 48 bytes for each of their blocks.
const IDS_MAX: usize = 12_500_000;

/// Why a file is no trace.
#[derive(Debug, Error)]
pub enum KvTraceError {
    /// It cannot be read.
    #[error("{path} cannot be read")]
    Read {
        /// Which file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A line is no request.
    #[error(
        "{path}, line {line}: {what}; expected a trace in Mooncake's format, a line of JSON a \
         request, such as {{\"input_length\": 600, \"hash_ids\": [0, 1]}}"
    )]
    Unsound {
        /// Which file.
        path: String,
        /// Which line, from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
}

/// A line.
#[derive(Deserialize)]
struct Line {
    input_length: u64,
    hash_ids: Vec<u64>,
}

/// That a request uses blocks one behind the other, which it and every other uses together:
/// the whole ones of an id, or one that is not full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UnitUse {
    /// Which unit, from 0 without gaps.
    pub unit: u32,
    /// Its first block, from 0; the others follow.
    pub first: u32,
    /// How many blocks it has.
    pub blocks: u32,
    /// Tokens of each.
    pub tokens: u32,
    /// Position of its first token.
    pub depth: u32,
    /// The block before it, if it is not the first of all.
    pub behind: Option<u32>,
    /// Which request, from 0.
    pub request: u32,
    /// The request that uses it next.
    pub next: Option<u32>,
}

/// A use as it is kept.
#[derive(Clone, Copy, Debug)]
struct Kept {
    unit: u32,
    /// The request that uses it next, or [`NEVER`].
    next: u32,
}

/// What a unit is.
#[derive(Clone, Copy, Debug)]
struct UnitShape {
    first: u32,
    blocks: u32,
    tokens: u32,
}

/// Requests in order.
#[derive(Clone, Debug, Default)]
pub struct KvTrace {
    uses: Vec<Kept>,
    /// Where each request ends in `uses`.
    ends: Vec<usize>,
    units: Vec<UnitShape>,
    blocks: u32,
    ids: usize,
    tokens: u64,
}

impl KvTrace {
    /// How many requests there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// How many different blocks there are.
    pub fn blocks(&self) -> usize {
        self.blocks as usize
    }

    /// Tokens of all prompts.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// How many different units there are.
    pub(super) fn units(&self) -> usize {
        self.units.len()
    }

    /// The units of each request.
    pub(super) fn requests(&self) -> impl Iterator<Item = impl Iterator<Item = UnitUse>> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        (0..)
            .zip(starts.zip(&self.ends))
            .map(move |(request, (start, &end))| {
                let (mut depth, mut behind) = (0, None);
                self.uses[start..end].iter().map(move |kept| {
                    let shape = self.units[kept.unit as usize];
                    let used = UnitUse {
                        unit: kept.unit,
                        first: shape.first,
                        blocks: shape.blocks,
                        tokens: shape.tokens,
                        depth,
                        behind,
                        request,
                        next: (kept.next != NEVER).then_some(kept.next),
                    };
                    depth += shape.blocks * shape.tokens;
                    behind = Some(shape.first + shape.blocks - 1);
                    used
                })
            })
    }

    /// Parses the text; errors name their line.
    fn parse(text: impl BufRead, path: &str) -> Result<Self, KvTraceError> {
        let failed = |source| KvTraceError::Read {
            path: path.to_owned(),
            source,
        };
        let (mut trace, mut text) = (Self::default(), text);
        let mut parts: HashMap<u64, Part> = HashMap::new();
        let mut line = String::new();
        for number in 1.. {
            line.clear();
            let mut limited = std::io::Read::take(&mut text, LINE_MAX);
            if limited.read_line(&mut line).map_err(failed)? == 0 {
                break;
            }
            if line.trim().is_empty() {
                continue;
            }
            trace
                .add(&line, &mut parts)
                .map_err(|what| KvTraceError::Unsound {
                    path: path.to_owned(),
                    line: number,
                    what,
                })?;
        }
        if trace.is_empty() {
            return Err(KvTraceError::Unsound {
                path: path.to_owned(),
                line: 1,
                what: "there is no request in it".to_owned(),
            });
        }
        trace.look_ahead();
        Ok(trace)
    }

    fn add(&mut self, line: &str, parts: &mut HashMap<u64, Part>) -> Result<(), String> {
        let line: Line = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let (tokens, ids) = (line.input_length, line.hash_ids.len() as u64);
        if tokens == 0 || tokens.div_ceil(PART as u64) != ids {
            return Err(format!(
                "a prompt of {tokens} tokens has {} ids of {PART} tokens and not {ids}",
                tokens.div_ceil(PART as u64)
            ));
        }
        self.ids += line.hash_ids.len();
        if self.ids > IDS_MAX {
            return Err("the trace has more than 6.4 billion tokens".to_owned());
        }
        let tokens =
            u32::try_from(tokens).map_err(|_| format!("a prompt of {tokens} tokens is none"))?;
        let mut before = None;
        for (index, &id) in line.hash_ids.iter().enumerate() {
            let start = (index * PART) as u32;
            let len = (tokens - start).min(PART as u32);
            let part = match parts.entry(id) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(new) => *new.insert(self.part(before, len)),
            };
            if (part.before, part.tokens) != (before, len) {
                return Err(format!(
                    "id {id} was of other tokens in an earlier line, or stands behind others"
                ));
            }
            let units = part.unit..part.unit + part.units;
            self.uses
                .extend(units.map(|unit| Kept { unit, next: NEVER }));
            before = Some(id);
        }
        self.tokens += u64::from(tokens);
        self.ends.push(self.uses.len());
        Ok(())
    }

    /// A part that is new: its whole blocks, and what is left.
    fn part(&mut self, before: Option<u64>, tokens: u32) -> Part {
        let block = BLOCK_TOKENS as u32;
        let part = Part {
            unit: self.units.len() as u32,
            units: u32::from(tokens >= block) + u32::from(!tokens.is_multiple_of(block)),
            before,
            tokens,
        };
        for (blocks, tokens) in [(tokens / block, block), (1, tokens % block)] {
            if blocks > 0 && tokens > 0 {
                let first = self.blocks;
                self.units.push(UnitShape {
                    first,
                    blocks,
                    tokens,
                });
                self.blocks += blocks;
            }
        }
        part
    }

    /// Tells each use when the next one is.
    fn look_ahead(&mut self) {
        let mut next = vec![NEVER; self.units.len()];
        let mut end = self.uses.len();
        for request in (0..self.ends.len()).rev() {
            let start = request.checked_sub(1).map_or(0, |before| self.ends[before]);
            for used in &mut self.uses[start..end] {
                used.next = std::mem::replace(&mut next[used.unit as usize], request as u32);
            }
            end = start;
        }
    }
}

/// What an id stands for.
#[derive(Clone, Copy)]
struct Part {
    /// Its first unit.
    unit: u32,
    units: u32,
    before: Option<u64>,
    tokens: u32,
}

/// Reads a trace from a file.
///
/// # Errors
/// [`KvTraceError`].
pub fn read_trace(path: &Path) -> Result<KvTrace, KvTraceError> {
    let name = path.display().to_string();
    let failed = |source| KvTraceError::Read {
        path: path.display().to_string(),
        source,
    };
    // Opening a pipe would block.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        let what = "it is no regular file";
        return Err(failed(std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            what,
        )));
    }
    KvTrace::parse(BufReader::new(File::open(path).map_err(failed)?), &name)
}

#[cfg(test)]
pub(super) fn parsed(text: &str) -> Result<KvTrace, KvTraceError> {
    KvTrace::parse(text.as_bytes(), "a text")
}
