//! Reading and writing with io_uring: requests go to the kernel in batches and come back in
//! any order, without a thread. It knows files by their index and nothing else.

use crate::Memory;
use crate::engine::{Finished, Job};
use delayline_line::Verb;
use io_uring::{IoUring, Probe, opcode, squeue, types};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::Arc;

/// Longest buffer that can be registered in one piece, in bytes.
const LONGEST: u64 = 1 << 30;

/// One ring, of any thread: the flags that tie a ring to one thread
/// (`SINGLE_ISSUER`, `DEFER_TASKRUN`) were measured to gain nothing with reads
/// of a megabyte and more, some hundred completions a second.
pub(crate) struct Ring {
    ring: IoUring,
    files: Arc<[File]>,
    memory: Arc<Memory>,
    /// Parts of the memory registered with the kernel, by buffer index.
    registered: Vec<Range<u64>>,
    under_way: usize,
}

impl Ring {
    /// Sets up a ring for `depth` operations at once, and registers the `areas` of
    /// the memory where the limit on locked memory allows.
    ///
    /// # Errors
    /// The system's when it has no io_uring, refuses it, or cannot read with it.
    pub fn new(
        files: Arc<[File]>,
        memory: Arc<Memory>,
        depth: u32,
        areas: &[Range<u64>],
    ) -> io::Result<Self> {
        let ring = IoUring::new(depth)?;
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        if !probe.is_supported(opcode::Read::CODE) {
            return Err(io::Error::from_raw_os_error(libc::ENOSYS));
        }
        let mut this = Self {
            ring,
            files,
            memory,
            registered: Vec::new(),
            under_way: 0,
        };
        this.register(areas);
        Ok(this)
    }

    /// Registering spares the kernel looking up a read's pages each time: half
    /// of its little CPU time. Nothing else changes where it is refused.
    fn register(&mut self, areas: &[Range<u64>]) {
        let pieces: Vec<Range<u64>> = areas
            .iter()
            .flat_map(|area| {
                let end = area.end;
                area.clone()
                    .step_by(LONGEST as usize)
                    .map(move |at| at..end.min(at + LONGEST))
            })
            .collect();
        let buffers: Vec<libc::iovec> = pieces
            .iter()
            .map(|piece| {
                let len = (piece.end - piece.start) as u32;
                let to = self.memory.bytes_ptr(piece.start, len);
                libc::iovec {
                    iov_base: to.cast(),
                    iov_len: len as usize,
                }
            })
            .collect();
        if buffers.is_empty() {
            return;
        }
        // SAFETY: the buffers are within the memory, which `self` keeps; `pin`
        // keeps their pages from being exchanged until they are unregistered.
        if unsafe { self.ring.submitter().register_buffers(&buffers) }.is_ok() {
            pieces
                .iter()
                .for_each(|piece| self.memory.pin(piece.clone()));
            self.registered = pieces;
        }
    }

    /// Whether memory is registered.
    pub fn is_registered(&self) -> bool {
        !self.registered.is_empty()
    }

    /// Queues an operation; the next [`Ring::reap`] hands it on.
    pub fn queue(&mut self, job: Job) {
        let entry = self.entry(&job).user_data(u64::from(job.tag));
        // SAFETY: the file and the memory live until this operation is over:
        // `self` holds both, and its drop waits for all that is under way.
        unsafe { self.ring.submission().push(&entry) }
            .expect("the ring has room for as many operations as the medium takes");
        self.under_way += 1;
    }

    fn entry(&self, job: &Job) -> squeue::Entry {
        let &Job {
            part,
            offset,
            at,
            len,
            ..
        } = job;
        let fd = types::Fd(self.files[part].as_raw_fd());
        let bytes = self.memory.bytes_ptr(at, len);
        let end = at + u64::from(len);
        let mut pieces = self.registered.iter();
        let fixed = pieces.position(|piece| piece.start <= at && end <= piece.end);
        let fixed = fixed.map(|index| index as u16);
        match (job.verb, fixed) {
            (Verb::Read, Some(index)) => opcode::ReadFixed::new(fd, bytes, len, index)
                .offset(offset)
                .build(),
            (Verb::Read, None) => opcode::Read::new(fd, bytes, len).offset(offset).build(),
            (Verb::Write, Some(index)) => opcode::WriteFixed::new(fd, bytes, len, index)
                .offset(offset)
                .build(),
            (Verb::Write, None) => opcode::Write::new(fd, bytes, len).offset(offset).build(),
            (Verb::Sync, _) => opcode::Fsync::new(fd)
                .flags(types::FsyncFlags::DATASYNC)
                .build(),
        }
    }

    /// Hands queued reads on and appends what is finished, with `wait` at
    /// least one unless nothing is under way.
    ///
    /// # Panics
    /// When the kernel refuses to go on with a ring that it has made.
    pub fn reap(&mut self, wait: bool, out: &mut Vec<Finished>) {
        self.try_reap(wait, out)
            .expect("io_uring_enter on a ring of our own");
    }

    fn try_reap(&mut self, wait: bool, out: &mut Vec<Finished>) -> io::Result<()> {
        let before = out.len();
        loop {
            if !self.ring.submission().is_empty() {
                self.enter(0)?;
            }
            for entry in self.ring.completion() {
                let result = u32::try_from(entry.result()).map_err(|_| -entry.result());
                out.push(Finished {
                    tag: entry.user_data() as u32,
                    result,
                });
                self.under_way -= 1;
            }
            // Operations may be left in the queue when the kernel was out of memory:
            // then going round again is what hands them on.
            let all_handed_on = self.ring.submission().is_empty();
            let enough = !wait || out.len() > before || self.under_way == 0;
            match (enough, all_handed_on) {
                (true, _) => return Ok(()),
                (false, true) => self.enter(1)?,
                (false, false) => std::thread::yield_now(),
            }
        }
    }

    fn enter(&self, want: usize) -> io::Result<()> {
        match self.ring.submitter().submit_and_wait(want) {
            Ok(_) => Ok(()),
            // A signal, too little memory just now, completions to reap first:
            // the caller looks at what there is and comes back.
            Err(error) => match error.raw_os_error() {
                Some(libc::EINTR | libc::EAGAIN | libc::EBUSY) => Ok(()),
                _ => Err(error),
            },
        }
    }
}

impl Drop for Ring {
    /// Waits until the kernel uses the memory no more.
    fn drop(&mut self) {
        let mut finished = Vec::new();
        while self.under_way > 0 {
            if self.try_reap(true, &mut finished).is_err() {
                // It may still use it: the memory must then never go away.
                std::mem::forget(self.memory.clone());
                return;
            }
        }
        if self.is_registered() {
            let _ = self.ring.submitter().unregister_buffers();
            self.registered
                .iter()
                .for_each(|piece| self.memory.unpin(piece));
        }
    }
}
