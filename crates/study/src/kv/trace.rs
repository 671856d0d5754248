//! Recorded requests in the format of Mooncake's traces: a line of JSON each, of which the
//! length of the prompt counts and the ids of its parts, 512 tokens each. An id stands for
//! its part and for all before it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use delayline_kv::BLOCK_TOKENS;
use serde::Deserialize;
use thiserror::Error;

/// Tokens of an id of the trace.
const PART: usize = 512;
/// Blocks of an id.
const BLOCKS: u32 = (PART / BLOCK_TOKENS) as u32;
/// What the first block of a request stands behind.
const NOTHING: u32 = u32::MAX;
/// Maximum length of a line: 16 MiB hold ids of a billion tokens.
const LINE_MAX: u64 = 16 << 20;
/// Maximum number of uses of blocks, 40 bytes each.
const USES_MAX: usize = 100_000_000;

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

/// That a request uses a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Use {
    /// Which, from 0 without gaps.
    pub block: u32,
    /// The block before it, or [`NOTHING`].
    pub behind: u32,
    pub tokens: u32,
    /// Position of its first token.
    pub depth: u32,
    /// Which request, from 0.
    pub request: u64,
    /// The request that uses it next.
    pub next: Option<u64>,
}

/// Requests in order.
#[derive(Clone, Debug, Default)]
pub struct KvTrace {
    uses: Vec<Use>,
    /// Where each request ends in `uses`.
    ends: Vec<usize>,
    blocks: usize,
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
        self.blocks
    }

    /// Tokens of all prompts.
    pub fn tokens(&self) -> u64 {
        self.uses.iter().map(|used| u64::from(used.tokens)).sum()
    }

    pub(super) fn requests(&self) -> impl Iterator<Item = &[Use]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts
            .zip(&self.ends)
            .map(|(start, &end)| &self.uses[start..end])
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
        if self.uses.len() + line.hash_ids.len() * BLOCKS as usize > USES_MAX {
            return Err("the trace has more than 6.4 billion tokens".to_owned());
        }
        let tokens =
            u32::try_from(tokens).map_err(|_| format!("a prompt of {tokens} tokens is none"))?;
        let (request, mut before) = (self.ends.len() as u64, None);
        for (index, &id) in line.hash_ids.iter().enumerate() {
            let start = (index * PART) as u32;
            let new = Part {
                first: self.blocks as u32,
                before,
                tokens: (tokens - start).min(PART as u32),
            };
            let part = *parts.entry(id).or_insert(new);
            if (part.before, part.tokens) != (before, new.tokens) {
                return Err(format!(
                    "id {id} was of other tokens in an earlier line, or stands behind others"
                ));
            }
            if part.first == new.first {
                self.blocks += BLOCKS as usize;
            }
            self.add_part(part, start, request);
            before = Some(id);
        }
        self.ends.push(self.uses.len());
        Ok(())
    }

    fn add_part(&mut self, part: Part, start: u32, request: u64) {
        let blocks = part.tokens.div_ceil(BLOCK_TOKENS as u32);
        let mut behind = match start {
            0 => NOTHING,
            _ => self.uses.last().map_or(NOTHING, |used| used.block),
        };
        self.uses.extend((0..blocks).map(|number| {
            let at = number * BLOCK_TOKENS as u32;
            let block = part.first + number;
            Use {
                block,
                behind: std::mem::replace(&mut behind, block),
                tokens: (part.tokens - at).min(BLOCK_TOKENS as u32),
                depth: start + at,
                request,
                next: None,
            }
        }));
    }

    /// Tells each use when the next one is.
    fn look_ahead(&mut self) {
        let mut next = vec![None; self.blocks];
        for used in self.uses.iter_mut().rev() {
            let later = next[used.block as usize].replace(used.request);
            used.next = later;
        }
    }
}

/// What an id stands for.
#[derive(Clone, Copy)]
struct Part {
    first: u32,
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
