//! Reading and writing with io_uring: operations go to the kernel in batches and complete
//! in any order, without a thread. It knows files by their index and nothing else.

use crate::Memory;
use crate::engine::{Finished, Job};
use delayline_line::Verb;
use io_uring::register::Restriction;
use io_uring::{IoUring, Probe, opcode, squeue, types};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

/// Longest buffer that can be registered in one piece, in bytes.
const LONGEST: u64 = 1 << 30;

/// One ring, which any thread may use: the flags that tie a ring to one thread
/// (`SINGLE_ISSUER`, `DEFER_TASKRUN`) were measured to gain nothing with reads
/// of a megabyte and more, at some hundred completions a second.
pub(crate) struct Ring {
    ring: IoUring,
    files: Arc<[File]>,
    memory: Arc<Memory>,
    depth: u32,
    /// Parts of the memory registered with the kernel, by buffer index.
    registered: Vec<Range<u64>>,
    under_way: usize,
    /// Operations that the kernel has not taken yet, in order.
    queued: VecDeque<Job>,
    /// The error number with which the kernel refused the ring for good.
    refused: Option<i32>,
    /// How often in a row the kernel answered EAGAIN or EBUSY.
    put_off: u32,
}

/// So often in a row the kernel may answer EAGAIN or EBUSY; the first retries follow at
/// once, the others after `WHILE`. It may be short of memory for a moment, not for
/// seconds.
const PUT_OFF: u32 = 1000;
const PUT_OFF_AT_ONCE: u32 = 100;
const WHILE: Duration = Duration::from_millis(1);

/// A ring that for as long as it lives takes only the operations that are used here,
/// because a filter of system calls does not see what goes through a ring. Kernels
/// before 5.10 cannot restrict one: there it takes all.
fn restricted(depth: u32) -> io::Result<IoUring> {
    let ring = match IoUring::builder().setup_r_disabled().build(depth) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return IoUring::new(depth),
        made => made?,
    };
    let operations = [
        opcode::Nop::CODE,
        opcode::Read::CODE,
        opcode::ReadFixed::CODE,
        opcode::Write::CODE,
        opcode::WriteFixed::CODE,
        opcode::Fsync::CODE,
    ];
    let mut allowed: Vec<Restriction> = operations.map(Restriction::sqe_op).into();
    allowed.extend(REGISTRATIONS.map(Restriction::register_op));
    ring.submitter().register_restrictions(&mut allowed)?;
    ring.submitter().register_enable_rings()?;
    Ok(ring)
}

/// `IORING_REGISTER_BUFFERS`, `IORING_UNREGISTER_BUFFERS`, `IORING_REGISTER_PROBE`.
const REGISTRATIONS: [u8; 3] = [0, 1, 8];

/// The tag of the operation with which a new ring is tried out.
const TRIAL: u64 = u64::MAX;

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
        let ring = restricted(depth)?;
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        if !probe.is_supported(opcode::Read::CODE) {
            return Err(io::Error::from_raw_os_error(libc::ENOSYS));
        }
        let mut this = Self {
            ring,
            files,
            memory,
            depth,
            registered: Vec::new(),
            under_way: 0,
            queued: VecDeque::new(),
            refused: None,
            put_off: 0,
        };
        this.try_out()?;
        this.register(areas);
        Ok(this)
    }

    /// Has the ring do one operation that does nothing: a filter of system calls may
    /// allow a ring to be made and refuse its use.
    fn try_out(&mut self) -> io::Result<()> {
        let entry = opcode::Nop::new().build().user_data(TRIAL);
        // SAFETY: it reads and writes no memory.
        unsafe { self.ring.submission().push(&entry) }.expect("a new ring is empty");
        loop {
            self.enter(1)?;
            if self.ring.completion().next().is_some() {
                return Ok(());
            }
        }
    }

    /// Registers memory, so that the kernel need not look up the pages of each read,
    /// which is half of its little CPU time. Where that is refused nothing else changes.
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

    /// Its files, its memory and its depth.
    pub fn parts(&self) -> (Arc<[File]>, Arc<Memory>, usize) {
        (self.files.clone(), self.memory.clone(), self.depth as usize)
    }

    /// Whether memory is registered.
    pub fn is_registered(&self) -> bool {
        !self.registered.is_empty()
    }

    /// Queues an operation; the next [`Ring::reap`] hands it on.
    pub fn queue(&mut self, job: Job) {
        self.queued.push_back(job);
        self.under_way += 1;
        if self.refused.is_some() {
            return;
        }
        let entry = self.entry(&job).user_data(u64::from(job.tag));
        // SAFETY: the file and the memory live until this operation is over:
        // `self` holds both, and its drop waits for all that is under way.
        unsafe { self.ring.submission().push(&entry) }
            .expect("the ring has room for as many operations as the medium takes");
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

    /// Hands queued operations on and appends what is finished, with `wait` at
    /// least one unless nothing is under way, or the kernel refuses to go on.
    pub fn reap(&mut self, wait: bool, out: &mut Vec<Finished>) {
        let before = out.len();
        loop {
            if !self.queued.is_empty() && self.refused.is_none() {
                self.hand_on(0);
            }
            for entry in self.ring.completion() {
                let result = u32::try_from(entry.result()).map_err(|_| -entry.result());
                out.push(Finished {
                    tag: entry.user_data() as u32,
                    result,
                });
                self.under_way -= 1;
            }
            let taken = self.under_way - self.queued.len();
            if !wait || out.len() > before || self.under_way == 0 {
                return;
            }
            match (self.refused, self.queued.is_empty()) {
                (Some(_), _) if taken == 0 => return,
                // What the kernel has taken completes all the same.
                (Some(_), _) => std::thread::sleep(WHILE),
                (None, true) => self.hand_on(1),
                // The kernel was short of memory and left some in the queue: the
                // next round hands them on.
                (None, false) => std::thread::yield_now(),
            }
        }
    }

    /// Once the kernel has refused the ring and what it took has completed: the error,
    /// and the operations that it did not take.
    pub fn give_up(&mut self) -> Option<(io::Error, VecDeque<Job>)> {
        let number = self
            .refused
            .filter(|_| self.under_way == self.queued.len())?;
        self.under_way = 0;
        let left = std::mem::take(&mut self.queued);
        Some((io::Error::from_raw_os_error(number), left))
    }

    /// Enters the kernel; a refusal is kept.
    fn hand_on(&mut self, want: usize) {
        if let Err(error) = self.enter(want) {
            self.refused = Some(error.raw_os_error().unwrap_or(libc::EIO));
        }
        let left = self.ring.submission().len();
        let taken = self.queued.len().saturating_sub(left);
        // A refused ring may still list them, and is never entered again.
        if self.refused.is_none() {
            self.queued.drain(..taken);
        }
    }

    fn enter(&mut self, want: usize) -> io::Result<()> {
        match self.ring.submitter().submit_and_wait(want) {
            Ok(_) => {
                self.put_off = 0;
                Ok(())
            }
            // A signal, too little memory just now, completions to reap first:
            // the caller reaps what there is and tries again.
            Err(error) => match error.raw_os_error() {
                Some(libc::EINTR) => Ok(()),
                Some(libc::EAGAIN | libc::EBUSY) if self.put_off < PUT_OFF => {
                    self.put_off += 1;
                    if self.put_off > PUT_OFF_AT_ONCE {
                        std::thread::sleep(WHILE);
                    }
                    Ok(())
                }
                _ => Err(error),
            },
        }
    }
}

impl Drop for Ring {
    /// Waits until the kernel no longer uses the memory.
    fn drop(&mut self) {
        let mut finished = Vec::new();
        while self.under_way > 0 && self.give_up().is_none() {
            self.reap(true, &mut finished);
        }
        if self.is_registered() {
            let _ = self.ring.submitter().unregister_buffers();
            self.registered
                .iter()
                .for_each(|piece| self.memory.unpin(piece));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a filter of system calls would not see: opening a file, a socket.
    #[test]
    fn a_ring_takes_no_operations_but_its_own() {
        let mut ring = match restricted(4) {
            Ok(ring) => ring,
            Err(error) => return delayline_testing::cannot_run(format_args!("io_uring: {error}")),
        };
        let mut tried = |entry: squeue::Entry| {
            // SAFETY: the path is static, and no entry refers to other memory.
            unsafe { ring.submission().push(&entry) }.expect("an empty ring");
            ring.submit_and_wait(1).expect("it is entered");
            ring.completion().next().expect("one completion").result()
        };
        let open = opcode::OpenAt::new(types::Fd(libc::AT_FDCWD), c"/dev/null".as_ptr()).build();
        assert_eq!(tried(open), -libc::EACCES);
        let socket = opcode::Socket::new(libc::AF_INET, libc::SOCK_STREAM, 0).build();
        assert_eq!(tried(socket), -libc::EACCES);
        assert_eq!(tried(opcode::Nop::new().build()), 0);
    }
}
