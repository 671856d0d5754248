//! The file of requests, in OpenAI's batch format. Of each line only its place, key and
//! likeness to others are kept in memory.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::value::RawValue;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::named;

/// Longest line of requests and of answers, in bytes.
pub const MAX_LINE: u64 = 64 << 20;

/// The API's paths that requests may name.
const PATHS: [&str; 4] = [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/messages",
];

/// Lengths of the beginnings by which prompts are compared, in bytes.
const ALIKE: [usize; 4] = [64, 256, 1024, 4096];

/// A request as it stands in a line.
#[derive(Deserialize)]
pub struct BatchRequest {
    pub custom_id: String,
    #[serde(default)]
    method: Option<String>,
    pub url: String,
    pub body: Box<RawValue>,
}

/// The prompt in any kind of body, and whether a stream is asked for.
#[derive(Deserialize)]
struct Prompted<'a> {
    #[serde(borrow)]
    system: Option<&'a RawValue>,
    #[serde(borrow)]
    instructions: Option<&'a RawValue>,
    #[serde(borrow)]
    messages: Option<&'a RawValue>,
    #[serde(borrow)]
    prompt: Option<&'a RawValue>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
    stream: Option<bool>,
}

/// A line of the file, checked.
#[derive(Clone, Debug)]
pub struct AskedLine {
    /// Its number, from 1 on.
    pub number: usize,
    /// Identifies its answer.
    pub key: u128,
    /// Hashes of the prompt's beginnings, equal for prompts that begin alike.
    pub likeness: [u64; 4],
    /// Why it cannot be asked, and its `custom_id`, if it has one.
    pub wrong: Option<(String, Option<String>)>,
    at: u64,
    len: usize,
}

/// All lines of a file.
#[derive(Debug)]
pub struct Lines {
    path: PathBuf,
    file: File,
    all: Vec<AskedLine>,
}

/// Identifies a request's answer.
pub fn key_of(custom_id: &str) -> u128 {
    xxh3_128(custom_id.as_bytes())
}

/// Identifies the error of a line that has no usable `custom_id`.
pub fn key_of_line(number: usize) -> u128 {
    // A `custom_id` begins with a zero byte only if it was written as an escape.
    xxh3_128(format!("\0line {number}").as_bytes())
}

impl Lines {
    /// Reads and checks all lines of a file.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(path: &Path) -> Result<Self> {
        let file = named(path, "read", File::open(path))?;
        let kind = named(path, "read", file.metadata())?;
        if !kind.is_file() {
            bail!(
                "{} is no file: expected one of requests, a line of JSON each",
                path.display()
            );
        }
        let (mut all, mut names) = (Vec::new(), HashSet::new());
        let mut input = BufReader::new(&file);
        let (mut at, mut number, mut text) = (0, 0, Vec::new());
        loop {
            text.clear();
            let read = (&mut input).take(MAX_LINE).read_until(b'\n', &mut text);
            let len = named(path, "read", read)?;
            if len == 0 {
                break;
            }
            number += 1;
            if len as u64 == MAX_LINE {
                bail!("line {number} of {} is longer than 64 MiB", path.display());
            }
            if !text.trim_ascii().is_empty() {
                let mut line = AskedLine::of(&text, number);
                if line.wrong.is_none() && !names.insert(line.key) {
                    let why = "its custom_id is that of an earlier line".to_owned();
                    line.wrong = Some((why, None));
                    line.key = key_of_line(number);
                }
                all.push(AskedLine { at, len, ..line });
            }
            at += len as u64;
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            all,
        })
    }

    /// Its lines, in order.
    pub fn all(&self) -> &[AskedLine] {
        &self.all
    }

    /// Reads a line again.
    ///
    /// # Errors
    /// When the file cannot be read, or has changed.
    pub fn read(&self, line: &AskedLine) -> Result<BatchRequest> {
        let mut text = vec![0; line.len];
        named(
            &self.path,
            "read",
            self.file.read_exact_at(&mut text, line.at),
        )?;
        let request: BatchRequest = serde_json::from_slice(&text)
            .with_context(|| format!("{} has changed while it was read", self.path.display()))?;
        if key_of(&request.custom_id) != line.key {
            bail!("{} has changed while it was read", self.path.display());
        }
        Ok(request)
    }
}

impl AskedLine {
    fn of(text: &[u8], number: usize) -> Self {
        let line = |key, likeness, wrong| Self {
            number,
            key,
            likeness,
            wrong,
            at: 0,
            len: 0,
        };
        match serde_json::from_slice::<BatchRequest>(text) {
            Ok(request) => match fault(&request) {
                Ok(likeness) => line(key_of(&request.custom_id), likeness, None),
                Err(why) => {
                    let id = request.custom_id;
                    line(key_of_line(number), [0; 4], Some((why, Some(id))))
                }
            },
            Err(error) => {
                let why =
                    format!("it is no request with `custom_id`, `url` and `body` in JSON: {error}");
                line(key_of_line(number), [0; 4], Some((why, None)))
            }
        }
    }
}

/// The likeness of a request, or what is wrong with it.
fn fault(request: &BatchRequest) -> Result<[u64; 4], String> {
    if request
        .method
        .as_deref()
        .is_some_and(|method| method != "POST")
    {
        return Err("its `method` must be POST".into());
    }
    if !PATHS.contains(&request.url.as_str()) {
        return Err(format!("its `url` must be {}", PATHS.join(", ")));
    }
    let body = request.body.get();
    let Ok(prompted) = serde_json::from_str::<Prompted>(body) else {
        // The server will say what is wrong with it.
        return Ok([0; 4]);
    };
    if prompted.stream == Some(true) {
        return Err("its `body` asks for a stream, which a batch has none of".into());
    }
    let texts = [
        prompted.system,
        prompted.instructions,
        prompted.messages,
        prompted.prompt,
        prompted.input,
    ];
    let mut text = request.url.clone().into_bytes();
    for part in texts.into_iter().flatten() {
        let room = (ALIKE[3] + 64).saturating_sub(text.len());
        text.extend(part.get().bytes().take(room));
    }
    Ok(ALIKE.map(|len| xxh3_64(&text[..len.min(text.len())])))
}
