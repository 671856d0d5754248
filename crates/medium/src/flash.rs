//! Files on a drive, read as fast as it can: many large reads at once, past the
//! page cache. What the system refuses is replaced by the next best, and said
//! once. It does not know what the bytes mean or who waits for them.

use crate::direct::drop_cached;
use crate::dram::no_part;
use crate::engine::{Engine, Finished, Job, MAX_DEPTH, Options};
use crate::parts::{self, Access, Part};
use crate::{Fingerprint, Memory, Notice, OpenError};
use delayline_line::{Completion, Medium, Read, ReadError, Slot};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// How often a read that the system asks to repeat is repeated.
const AGAIN: u8 = 8;

/// What a medium has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Reads completed, failed ones included.
    pub reads: u64,
    /// Bytes that arrived.
    pub bytes: u64,
    /// Time with at least one read under way, until its completion was reaped,
    /// in nanoseconds.
    pub busy_ns: u64,
}

impl Traffic {
    /// Bytes per second of busy time; 0 before the first.
    pub fn rate_bytes_per_s(&self) -> f64 {
        if self.busy_ns == 0 {
            0.0
        } else {
            self.bytes as f64 * 1e9 / self.busy_ns as f64
        }
    }
}

/// The files of a model on a drive.
pub struct Flash {
    // Before the parts: it waits for its reads when dropped.
    engine: Engine,
    files: Arc<[File]>,
    parts: Vec<Part>,
    flights: Vec<Option<Flight>>,
    free: Vec<u32>,
    /// Reads that need no drive to fail.
    stillborn: Vec<Completion>,
    finished: Vec<Finished>,
    notices: Vec<Notice>,
    traffic: Traffic,
    busy_since: Option<Instant>,
}

/// A read under way, at the index that is its tag.
struct Flight {
    id: u64,
    slot: Slot,
    job: Job,
    again: u8,
}

impl Flash {
    /// Opens the files, part 0 first, for reads into `memory`.
    ///
    /// # Errors
    /// [`OpenError`]: a file cannot be read, or the options cannot be met.
    pub fn open<P: AsRef<Path>>(
        paths: &[P],
        memory: Arc<Memory>,
        options: &Options,
    ) -> Result<Self, OpenError> {
        let open = |path: &P| Ok((path.as_ref().to_owned(), parts::open(path.as_ref())?));
        Self::build(
            paths.iter().map(open).collect::<Result<_, _>>()?,
            memory,
            options,
        )
    }

    /// As [`Flash::open`], for files that are open already, with the names for
    /// messages. Each is opened once more through its descriptor, so that
    /// direct I/O stays off for other users of it; only where that is refused
    /// (no `/proc`) is it switched on for them too.
    ///
    /// # Errors
    /// As [`Flash::open`].
    pub fn from_files(
        files: Vec<(PathBuf, File)>,
        memory: Arc<Memory>,
        options: &Options,
    ) -> Result<Self, OpenError> {
        let own = |(path, file): (PathBuf, File)| {
            let again = File::open(format!("/proc/self/fd/{}", file.as_raw_fd()));
            (path, again.unwrap_or(file))
        };
        Self::build(files.into_iter().map(own).collect(), memory, options)
    }

    fn build(
        files: Vec<(PathBuf, File)>,
        memory: Arc<Memory>,
        options: &Options,
    ) -> Result<Self, OpenError> {
        let depth = options.depth;
        if files.is_empty() {
            return Err(OpenError::NoParts);
        }
        if !(1..=MAX_DEPTH).contains(&depth) {
            return Err(OpenError::Depth {
                depth,
                max: MAX_DEPTH,
            });
        }
        let mut notices = Vec::new();
        let (mut parts, mut open) = (Vec::new(), Vec::new());
        for (path, mut file) in files {
            parts.push(parts::ready(path, &mut file, options.access, &mut notices)?);
            open.push(file);
        }
        let files: Arc<[File]> = open.into();
        let engine = Engine::new(&files, &memory, options, &mut notices)?;
        Ok(Self {
            engine,
            files,
            parts,
            flights: (0..depth).map(|_| None).collect(),
            free: (0..depth as u32).rev().collect(),
            stillborn: Vec::new(),
            finished: Vec::new(),
            notices,
            traffic: Traffic::default(),
            busy_since: None,
        })
    }

    /// What a person should know: each fallback, once.
    pub fn notices(&self) -> &[Notice] {
        &self.notices
    }

    /// What it has done so far.
    pub fn traffic(&self) -> Traffic {
        let busy = self
            .busy_since
            .map_or(0, |since| since.elapsed().as_nanos() as u64);
        Traffic {
            busy_ns: self.traffic.busy_ns + busy,
            ..self.traffic
        }
    }

    /// Length of each part in bytes.
    pub fn lengths(&self) -> Vec<u64> {
        self.parts.iter().map(|part| part.len).collect()
    }

    /// How each part is read.
    pub fn access(&self) -> Vec<Access> {
        self.parts.iter().map(|part| part.access).collect()
    }

    /// Whether io_uring issues the reads, rather than threads.
    pub fn has_uring(&self) -> bool {
        matches!(self.engine, Engine::Ring(_))
    }

    /// The first part whose bytes may have changed since it was opened (see
    /// [`Fingerprint::changed`]), or which can no longer be asked.
    pub fn changed(&self) -> Option<&Path> {
        let mut pairs = self.parts.iter().zip(self.files.iter());
        let changed = |(part, file): &(&Part, &File)| {
            Fingerprint::of(file).map_or(true, |now| part.fingerprint.changed(&now))
        };
        pairs.find(changed).map(|(part, _)| part.path.as_path())
    }

    /// Asks the page cache to drop the files, so that measuring meets the drive.
    pub(crate) fn drop_caches(&self) {
        self.files.iter().for_each(|file| drop_cached(file, 0, 0));
    }

    fn under_way(&self) -> usize {
        self.flights.len() - self.free.len() + self.stillborn.len()
    }

    /// Turns an engine's result into a completion, or sends the read off again.
    fn land(&mut self, finished: &Finished, done: &mut Vec<Completion>) {
        let place = &mut self.flights[finished.tag as usize];
        let flight = place.as_mut().expect("each tag finishes once");
        if let Err(libc::EAGAIN | libc::EINTR) = finished.result
            && flight.again < AGAIN
        {
            flight.again += 1;
            return self.engine.queue(flight.job);
        }
        let Flight { id, slot, job, .. } = place.take().expect("seen above");
        self.free.push(finished.tag);
        let part = &self.parts[job.part];
        let result = match finished.result {
            Ok(bytes) => {
                if part.access == Access::Buffered && bytes > 0 {
                    drop_cached(&self.files[job.part], job.offset, u64::from(bytes));
                }
                self.traffic.bytes += u64::from(bytes);
                Ok(bytes)
            }
            Err(number) => Err(describe(part, &job, number)),
        };
        done.push(Completion { id, slot, result });
    }
}

impl Medium for Flash {
    fn depth(&self) -> usize {
        self.flights.len()
    }

    fn submit(&mut self, read: Read) {
        assert!(
            self.under_way() < self.depth(),
            "more than {} reads under way",
            self.depth()
        );
        if usize::from(read.part) >= self.parts.len() {
            let result = Err(no_part(&read, self.parts.len()));
            return self.stillborn.push(Completion {
                id: read.id,
                slot: read.slot,
                result,
            });
        }
        let Read {
            id,
            part,
            offset,
            slot,
        } = read;
        let part = usize::from(part);
        let tag = self.free.pop().expect("fewer than `depth` are under way");
        let job = Job {
            tag,
            part,
            offset,
            at: slot.at(),
            len: slot.len(),
        };
        self.busy_since.get_or_insert_with(Instant::now);
        self.engine.queue(job);
        self.flights[tag as usize] = Some(Flight {
            id,
            slot,
            job,
            again: 0,
        });
    }

    fn poll(&mut self, wait: bool, done: &mut Vec<Completion>) {
        let before = done.len();
        done.append(&mut self.stillborn);
        loop {
            let wait = wait && done.len() == before;
            let mut finished = std::mem::take(&mut self.finished);
            self.engine.reap(wait, &mut finished);
            finished.drain(..).for_each(|one| self.land(&one, done));
            self.finished = finished;
            if !wait || done.len() > before || self.under_way() == 0 {
                break;
            }
        }
        self.traffic.reads += (done.len() - before) as u64;
        if self.under_way() == 0
            && let Some(since) = self.busy_since.take()
        {
            self.traffic.busy_ns += since.elapsed().as_nanos() as u64;
        }
    }
}

/// The error of a read for a person; some errors mean the whole device.
fn describe(part: &Part, job: &Job, number: i32) -> ReadError {
    let (source_name, message) = (
        part.name(),
        io::Error::from_raw_os_error(number).to_string(),
    );
    match number {
        libc::ENODEV | libc::ENXIO | libc::ENOMEDIUM => ReadError::Gone {
            source_name,
            message,
        },
        _ => ReadError::Os {
            source_name,
            offset: job.offset,
            len: job.len,
            message,
        },
    }
}

impl fmt::Debug for Flash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flash")
            .field("parts", &self.parts)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Flash {
    /// How it reads, in a few words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.engine {
            Engine::Ring(ring) if ring.is_registered() => write!(f, "io_uring, registered memory"),
            Engine::Ring(_) => write!(f, "io_uring"),
            Engine::Threads(_) => write!(f, "{} threads", self.depth()),
        }?;
        let buffered = self
            .parts
            .iter()
            .filter(|part| part.access == Access::Buffered)
            .count();
        match buffered {
            0 => write!(f, ", direct I/O"),
            n if n == self.parts.len() => write!(f, ", through the page cache"),
            n => write!(
                f,
                ", {n} of {} files through the page cache",
                self.parts.len()
            ),
        }?;
        write!(f, ", {} reads at once", self.depth())
    }
}
