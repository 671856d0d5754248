//! The file of answers, one a line. However a process ended, the next one finds and keeps
//! whole lines alone.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use delayline_server::DeskAnswer;
use serde::Deserialize;
use serde_json::{Value, json};

use super::lines::{AskedLine, MAX_LINE, key_of, key_of_line};
use super::named;

/// How every line begins.
const HEAD: &str = "{\"id\":\"batch_req_";

/// The fields of a line that tell whose answer it is.
#[derive(Deserialize)]
struct Written {
    custom_id: Option<String>,
    error: Option<WrittenError>,
}

#[derive(Deserialize)]
struct WrittenError {
    line: Option<usize>,
}

/// What was written in this run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Answers with status 200.
    pub answers: usize,
    /// All others.
    pub errors: usize,
}

/// A file of answers, locked by this process.
#[derive(Debug)]
pub struct Results {
    path: PathBuf,
    file: File,
    /// Bytes of whole lines.
    whole: u64,
    /// Keys of the requests that have a line.
    there: HashSet<u128>,
    counts: Counts,
}

impl Results {
    /// Opens a file, or creates it; a line that an earlier run left unfinished is cut off.
    ///
    /// # Errors
    /// When the file is something else, or another process has locked it.
    pub fn open(path: &Path) -> Result<Self> {
        let other = || {
            format!(
                "{} is there and holds no answers of `delayline batch`: give another name",
                path.display()
            )
        };
        if fs::symlink_metadata(path).is_ok_and(|found| !found.is_file()) {
            bail!(other());
        }
        let options = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path);
        let file = named(path, "written", options)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!("{} is being written by another process", path.display());
            }
            Err(TryLockError::Error(error)) => return named(path, "locked", Err(error)),
        }
        let mut there = HashSet::new();
        let (mut whole, mut text) = (0, Vec::new());
        let mut input = BufReader::new(&file);
        loop {
            text.clear();
            let read = (&mut input).take(MAX_LINE).read_until(b'\n', &mut text);
            let len = named(path, "read", read)?;
            if len == 0 {
                break;
            }
            let begins = &text[..len.min(HEAD.len())];
            let is_longer = len as u64 == MAX_LINE && text.last() != Some(&b'\n');
            if is_longer || begins != &HEAD.as_bytes()[..begins.len()] {
                bail!(other());
            }
            if text.last() != Some(&b'\n') {
                named(path, "written", file.set_len(whole))?;
                break;
            }
            let Ok(line) = serde_json::from_slice::<Written>(&text) else {
                bail!(other());
            };
            let number = line.error.and_then(|error| error.line);
            there.extend(match (number, line.custom_id) {
                (Some(number), _) => Some(key_of_line(number)),
                (None, Some(id)) => Some(key_of(&id)),
                (None, None) => None,
            });
            whole += len as u64;
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            whole,
            there,
            counts: Counts::default(),
        })
    }

    /// Whether a request has its line.
    pub fn has(&self, key: u128) -> bool {
        self.there.contains(&key)
    }

    /// What was written in this run.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Writes the line of an answer.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(&mut self, custom_id: &str, key: u128, answer: &DeskAnswer) -> Result<()> {
        if !answer.is_json {
            self.counts.errors += 1;
            let message =
                "a stream was asked for, which has no place in a line: leave out `stream`";
            let error = json!({"code": "not_json", "message": message});
            return self.write(key, &json!(custom_id), &Value::Null, &error);
        }
        let Ok(body) = serde_json::from_slice::<Value>(&answer.body) else {
            self.counts.errors += 1;
            let message = format!(
                "the answer has status {} and {} bytes that are no JSON",
                answer.status,
                answer.body.len()
            );
            let error = json!({"code": "not_json", "message": message});
            return self.write(key, &json!(custom_id), &Value::Null, &error);
        };
        let response = json!({"status_code": answer.status, "request_id": request_id(),
            "body": body});
        match answer.status {
            200 => self.counts.answers += 1,
            _ => self.counts.errors += 1,
        }
        self.write(key, &json!(custom_id), &response, &Value::Null)
    }

    /// Writes the line of a request that cannot be asked.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn refuse(&mut self, line: &AskedLine) -> Result<()> {
        let Some((why, id)) = &line.wrong else {
            return Ok(());
        };
        self.counts.errors += 1;
        let message = format!("line {}: {why}", line.number);
        let error = json!({"code": "invalid_line", "message": message, "line": line.number});
        self.write(line.key, &json!(id), &Value::Null, &error)
    }

    fn write(&mut self, key: u128, id: &Value, response: &Value, error: &Value) -> Result<()> {
        let line = format!(
            "{HEAD}{:016x}\",\"custom_id\":{id},\"response\":{response},\"error\":{error}}}\n",
            chance()
        );
        // In one write: a killed process leaves at most the beginning of a line.
        if let Err(error) = self.file.write_all(line.as_bytes()) {
            // A full drive may have taken a part of it.
            let _ = self.file.set_len(self.whole);
            return named(&self.path, "written", Err(error));
        }
        self.whole += line.len() as u64;
        self.there.insert(key);
        Ok(())
    }

    /// Brings all answers to the drive.
    ///
    /// # Errors
    /// When the system cannot.
    pub fn end(&self) -> Result<()> {
        named(&self.path, "written", self.file.sync_all())
    }
}

fn chance() -> u64 {
    RandomState::new().hash_one(0_u8)
}

fn request_id() -> String {
    format!("req_{:016x}", chance())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &[u8]) -> DeskAnswer {
        DeskAnswer {
            status,
            is_json: true,
            body: body.to_vec().into(),
        }
    }

    #[test]
    fn what_is_no_json_counts_as_an_error() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("out.jsonl");
        let mut results = Results::open(&path).expect("it is new");
        results.add("good", 1, &answer(200, b"{}")).expect("room");
        results
            .add("cut", 2, &answer(200, b"{\"choices\": ["))
            .expect("room");
        results.add("none", 3, &answer(200, b"")).expect("room");
        results.add("bad", 4, &answer(400, b"{}")).expect("room");
        let Counts { answers, errors } = results.counts();
        assert_eq!((answers, errors), (1, 3));
        drop(results);
        let text = fs::read_to_string(&path).expect("text");
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        for (at, id) in [(1, "cut"), (2, "none")] {
            assert_eq!(lines[at]["custom_id"], id);
            assert_eq!(lines[at]["error"]["code"], "not_json");
            assert!(lines[at]["response"].is_null());
        }
    }

    #[test]
    fn a_line_without_end_is_not_read_to_its_end() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("out.jsonl");
        fs::write(&path, HEAD).expect("written");
        let file = File::options()
            .write(true)
            .open(&path)
            .expect("it is there");
        // Zeros without an end of line, more than any memory has room for.
        file.set_len(1 << 42).expect("a hole takes no room");
        let error = Results::open(&path)
            .expect_err("it is too long")
            .to_string();
        assert!(error.contains("holds no answers"), "{error}");
        assert_eq!(file.metadata().expect("it is there").len(), 1 << 42);
    }
}
