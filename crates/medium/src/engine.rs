//! The engine that issues operations, and how it is chosen: io_uring, or threads where
//! that is refused. It knows tags, files by index and bytes, not the caller's operations.

use crate::error::Fallback;
use crate::pool::ThreadPool;
use crate::uring::Ring;
use crate::{Access, Memory, OpenError};
use delayline_line::{MediumEvent, Verb};
use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

/// Maximum of operations at once; a ring could hold more, but a drive gains nothing.
pub(crate) const MAX_DEPTH: usize = 4096;

/// How operations are issued.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IoBackend {
    /// io_uring where it is allowed, otherwise threads.
    #[default]
    Auto,
    /// io_uring or an error.
    Uring,
    /// As many threads as operations at once, each waiting in the system's call.
    Threads,
}

/// How files are read and written.
#[derive(Clone, Debug)]
pub struct FlashOptions {
    /// Operations at once, 1 to 4096.
    pub depth: usize,
    /// How they are issued.
    pub backend: IoBackend,
    /// How the page cache is treated.
    pub access: Access,
    /// Ranges of the memory to register with the kernel, in bytes, of whole
    /// pages: these get all their pages now and may not be discarded while the
    /// medium lives. Buffers elsewhere work as well.
    pub register: Vec<Range<u64>>,
}

impl Default for FlashOptions {
    /// 32 operations at once, the rest as good as the system allows.
    fn default() -> Self {
        Self {
            depth: 32,
            backend: IoBackend::Auto,
            access: Access::Direct,
            register: Vec::new(),
        }
    }
}

/// The engine in use.
pub(crate) enum Engine {
    Ring(Box<Ring>),
    Threads(ThreadPool),
}

/// An operation as the engines know it.
#[derive(Clone, Copy)]
pub(crate) struct Job {
    pub tag: u32,
    pub verb: Verb,
    pub part: usize,
    pub offset: u64,
    pub at: u64,
    pub len: u32,
}

/// How a job ended: bytes, or the system's error number.
pub(crate) struct Finished {
    pub tag: u32,
    pub result: Result<u32, i32>,
}

impl Engine {
    /// Chooses an engine; a fallback is added to `events`.
    pub fn new(
        files: &Arc<[File]>,
        memory: &Arc<Memory>,
        options: &FlashOptions,
        events: &mut Vec<MediumEvent>,
    ) -> Result<Self, OpenError> {
        let threads = options.depth;
        if options.backend != IoBackend::Threads {
            let (files, memory) = (files.clone(), memory.clone());
            match Ring::new(files, memory, threads as u32, &options.register) {
                Ok(ring) => return Ok(Self::Ring(Box::new(ring))),
                Err(source) if options.backend == IoBackend::Uring => {
                    return Err(OpenError::NoUring { source });
                }
                Err(error) => {
                    let message = error.to_string();
                    events.push(Fallback::NoUring { message, threads }.into());
                }
            }
        }
        ThreadPool::new(files.clone(), memory.clone(), threads)
            .map(Self::Threads)
            .map_err(|source| OpenError::Threads { threads, source })
    }

    /// Takes an operation; never blocks.
    pub fn queue(&mut self, job: Job) {
        match self {
            Self::Ring(ring) => ring.queue(job),
            Self::Threads(pool) => pool.queue(job),
        }
    }

    /// Hands operations on and appends what is finished, with `wait` at least one
    /// unless nothing is under way. If the kernel has come to refuse io_uring, threads
    /// take over, and the event that reports this is returned.
    pub fn reap(&mut self, wait: bool, out: &mut Vec<Finished>) -> Option<MediumEvent> {
        let ring = match self {
            Self::Threads(pool) => {
                pool.reap(wait, out);
                return None;
            }
            Self::Ring(ring) => ring,
        };
        ring.reap(wait, out);
        let (error, left) = ring.give_up()?;
        let (files, memory, threads) = ring.parts();
        let message = error.to_string();
        match ThreadPool::new(files, memory, threads) {
            Ok(mut pool) => {
                left.into_iter().for_each(|job| pool.queue(job));
                *self = Self::Threads(pool);
                Some(Fallback::NoUring { message, threads }.into())
            }
            // Without threads these operations fail, and later ones will too.
            Err(_) => {
                let number = error.raw_os_error().unwrap_or(libc::EIO);
                out.extend(left.into_iter().map(|job| Finished {
                    tag: job.tag,
                    result: Err(number),
                }));
                None
            }
        }
    }
}
