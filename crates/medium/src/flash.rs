//! Files on a drive, read and written as fast as it can: many large operations at
//! once, past the page cache. What the system refuses is replaced by the next best way,
//! and reported once. It does not know what the bytes mean or who waits for them.

use crate::direct::drop_cached;
use crate::engine::{Engine, Finished, FlashOptions, Job, MAX_DEPTH};
use crate::parts::{self, Access, Part};
use crate::refuse::refusal;
use crate::{Fingerprint, Memory, OpenError};
use delayline_line::{
    Alignment, Caps, Completion, Durability, Medium, MediumError, MediumEvent, Op, Stats, Verb,
};
use delayline_plan::ALIGN;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Maximum of retries of an operation that ends with EAGAIN or EINTR.
const AGAIN: u8 = 8;

/// Longest operation in bytes: Linux moves at most 2 GiB less a page at once.
const LARGEST: u32 = 1 << 30;

/// Files on a drive.
pub struct Flash {
    // Before the parts: it waits for what is under way when dropped.
    engine: Engine,
    files: Arc<[File]>,
    parts: Vec<Part>,
    lens: Vec<u64>,
    memory: Arc<Memory>,
    caps: Caps,
    flights: Vec<Option<Flight>>,
    free: Vec<u32>,
    /// Completions of operations that do not reach the drive.
    refused: Vec<Completion>,
    finished: Vec<Finished>,
    events: Vec<MediumEvent>,
    stats: Stats,
    busy_since: Option<Instant>,
}

/// An operation under way, at the index that is its tag.
struct Flight {
    op: Op,
    job: Job,
    again: u8,
    since: Instant,
}

impl Flash {
    /// Opens the files, part 0 first, for reads into `memory`.
    ///
    /// # Errors
    /// [`OpenError`]: a file cannot be read, or the options cannot be met.
    pub fn open<P: AsRef<Path>>(
        paths: &[P],
        memory: Arc<Memory>,
        options: &FlashOptions,
    ) -> Result<Self, OpenError> {
        Self::build(opened(paths, false)?, memory, options, false)
    }

    /// As [`Flash::open`], for writes too. Where the length of a file is no multiple of
    /// [`ALIGN`], the bytes of its last page cannot be written.
    ///
    /// # Errors
    /// As [`Flash::open`], and when a file cannot be written.
    pub fn open_for_writing<P: AsRef<Path>>(
        paths: &[P],
        memory: Arc<Memory>,
        options: &FlashOptions,
    ) -> Result<Self, OpenError> {
        Self::build(opened(paths, true)?, memory, options, true)
    }

    /// Creates the files, part 0 first, each with its length in bytes (a multiple
    /// of [`ALIGN`]), for reads and writes. They hold zeros, and where the file
    /// system supports it all of their bytes are allocated on the drive. When one
    /// cannot be created, those created before it stay.
    ///
    /// # Errors
    /// [`OpenError`]: there is no room for a file, or one of that name is there
    /// already, or the options cannot be met.
    pub fn create<P: AsRef<Path>>(
        files: &[(P, u64)],
        memory: Arc<Memory>,
        options: &FlashOptions,
    ) -> Result<Self, OpenError> {
        let create = |(path, len): &(P, u64)| {
            let path = path.as_ref();
            Ok((path.to_owned(), parts::create(path, *len)?))
        };
        let files = files.iter().map(create).collect::<Result<_, _>>()?;
        Self::build(files, memory, options, true)
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
        options: &FlashOptions,
    ) -> Result<Self, OpenError> {
        let own = |(path, file): (PathBuf, File)| {
            let again = File::open(format!("/proc/self/fd/{}", file.as_raw_fd()));
            (path, again.unwrap_or(file))
        };
        let files = files.into_iter().map(own).collect();
        Self::build(files, memory, options, false)
    }

    fn build(
        files: Vec<(PathBuf, File)>,
        memory: Arc<Memory>,
        options: &FlashOptions,
        writable: bool,
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
        let mut events = Vec::new();
        let (mut parts, mut open) = (Vec::new(), Vec::new());
        for (path, mut file) in files {
            parts.push(parts::ready(path, &mut file, options.access, &mut events)?);
            open.push(file);
        }
        let files: Arc<[File]> = open.into();
        let engine = Engine::new(&files, &memory, options, &mut events)?;
        Ok(Self {
            engine,
            files,
            lens: parts.iter().map(|part| part.len).collect(),
            parts,
            memory,
            caps: Caps {
                depth,
                align: Alignment::all(ALIGN as u32),
                largest_len: LARGEST,
                writable,
                durability: Durability::Synced,
                ..Caps::default()
            },
            flights: (0..depth).map(|_| None).collect(),
            free: (0..depth as u32).rev().collect(),
            refused: Vec::new(),
            finished: Vec::new(),
            events,
            stats: Stats::default(),
            busy_since: None,
        })
    }

    /// Length of each part in bytes.
    pub fn lengths(&self) -> &[u64] {
        &self.lens
    }

    /// How each part is read and written.
    pub fn access(&self) -> Vec<Access> {
        self.parts.iter().map(|part| part.access).collect()
    }

    /// Whether io_uring issues the operations, rather than threads.
    pub fn has_uring(&self) -> bool {
        matches!(self.engine, Engine::Ring(_))
    }

    /// The first part whose bytes may have changed since it was opened (see
    /// [`Fingerprint::changed`]), or that cannot be examined. Of files that this
    /// medium writes only the length is compared.
    pub fn changed(&self) -> Option<&Path> {
        let mut pairs = self.parts.iter().zip(self.files.iter());
        let changed = |(part, file): &(&Part, &File)| {
            Fingerprint::of(file).map_or(true, |now| match self.caps.writable {
                true => part.fingerprint.size != now.size,
                false => part.fingerprint.changed(&now, &part.path),
            })
        };
        pairs.find(changed).map(|(part, _)| part.path.as_path())
    }

    /// Asks the page cache to drop the files, so that a measurement reads from the drive.
    pub(crate) fn drop_caches(&self) {
        self.files.iter().for_each(|file| drop_cached(file, 0, 0));
    }

    fn under_way(&self) -> usize {
        self.flights.len() - self.free.len() + self.refused.len()
    }

    /// The result of an operation that does not reach the drive: one that is refused,
    /// or a sync of files that are open for reading only.
    fn at_once(&self, op: &Op) -> Option<Result<u32, MediumError>> {
        let name = || self.parts[usize::from(op.part)].name();
        let writable = self.caps.writable;
        match refusal(name, &self.lens, writable, op) {
            Some(error) => Some(Err(error)),
            None if op.verb == Verb::Sync && !writable => Some(Ok(0)),
            None => None,
        }
    }

    /// Turns an engine's result into a completion, or queues the operation again.
    fn land(&mut self, finished: &Finished, done: &mut Vec<Completion>) {
        let place = &mut self.flights[finished.tag as usize];
        let flight = place.as_mut().expect("each tag finishes once");
        if let Err(libc::EAGAIN | libc::EINTR) = finished.result
            && flight.again < AGAIN
        {
            flight.again += 1;
            return self.engine.queue(flight.job);
        }
        let Flight { op, job, since, .. } = place.take().expect("seen above");
        self.free.push(finished.tag);
        let part = &self.parts[job.part];
        let result = match finished.result {
            Ok(bytes) => {
                if part.access == Access::Buffered {
                    self.drop_from_cache(&job, bytes);
                }
                Ok(bytes)
            }
            Err(number) => Err(describe(part, &op, number)),
        };
        let took_ns = since.elapsed().as_nanos() as u64;
        self.stats.count_timed(op.verb, &result, took_ns);
        done.push(op.complete(result));
    }

    /// Drops from the page cache what went through it. Written bytes can leave it
    /// only after a sync.
    fn drop_from_cache(&self, job: &Job, bytes: u32) {
        let file = &self.files[job.part];
        match job.verb {
            Verb::Read if bytes > 0 => drop_cached(file, job.offset, u64::from(bytes)),
            Verb::Read | Verb::Write => {}
            Verb::Sync => drop_cached(file, 0, 0),
        }
    }
}

impl Medium for Flash {
    fn caps(&self) -> &Caps {
        &self.caps
    }

    fn submit(&mut self, op: Op) {
        assert!(
            self.under_way() < self.caps.depth,
            "more than {} operations under way",
            self.caps.depth
        );
        self.memory.check_owns(&op.buffer);
        if let Some(result) = self.at_once(&op) {
            self.stats.count(op.verb, &result);
            return self.refused.push(op.complete(result));
        }
        let tag = self.free.pop().expect("fewer than `depth` are under way");
        let job = Job {
            tag,
            verb: op.verb,
            part: usize::from(op.part),
            offset: op.offset,
            at: op.buffer.at(),
            len: op.buffer.len(),
        };
        let since = Instant::now();
        self.busy_since.get_or_insert(since);
        self.engine.queue(job);
        self.flights[tag as usize] = Some(Flight {
            op,
            job,
            again: 0,
            since,
        });
    }

    fn poll(&mut self, wait: bool, done: &mut Vec<Completion>) {
        let before = done.len();
        done.append(&mut self.refused);
        loop {
            let wait = wait && done.len() == before;
            let mut finished = std::mem::take(&mut self.finished);
            self.events.extend(self.engine.reap(wait, &mut finished));
            finished.drain(..).for_each(|one| self.land(&one, done));
            self.finished = finished;
            if !wait || done.len() > before || self.under_way() == 0 {
                break;
            }
        }
        if self.under_way() == 0
            && let Some(since) = self.busy_since.take()
        {
            self.stats.busy_ns += since.elapsed().as_nanos() as u64;
        }
    }

    fn stats(&self) -> Stats {
        let busy = self
            .busy_since
            .map_or(0, |since| since.elapsed().as_nanos() as u64);
        Stats {
            busy_ns: self.stats.busy_ns + busy,
            ..self.stats
        }
    }

    fn events(&mut self, out: &mut Vec<MediumEvent>) {
        out.append(&mut self.events);
    }
}

/// The files at these paths, open.
fn opened<P: AsRef<Path>>(paths: &[P], write: bool) -> Result<Vec<(PathBuf, File)>, OpenError> {
    let open = |path: &P| {
        let path = path.as_ref();
        Ok((path.to_owned(), parts::open(path, write)?))
    };
    paths.iter().map(open).collect()
}

/// The error of an operation for a person; some mean that the whole device is gone.
fn describe(part: &Part, op: &Op, number: i32) -> MediumError {
    let source = io::Error::from_raw_os_error(number);
    match number {
        libc::ENODEV | libc::ENXIO | libc::ENOMEDIUM => MediumError::gone(part.name(), source),
        _ => MediumError::failed(part.name(), op.asked(), source),
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
            Engine::Threads(_) => write!(f, "{} threads", self.caps.depth),
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
        write!(f, ", {} operations at once", self.caps.depth)
    }
}
