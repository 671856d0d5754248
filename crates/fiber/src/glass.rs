//! The bytes in flight. The real machine has them in its fiber; here they are in a
//! memory file that nothing maps, so that they are not memory of this process. A thread
//! of its own copies bytes out, as a receiver would, while the compute goes on. It does
//! not know when a piece passes.

use delayline_medium::Memory;
use rustix::fs::{MemfdFlags, memfd_create};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};
use xxhash_rust::xxh3::Xxh3;

/// Bytes that are copied at once: they fit into a core's second-level cache.
const CHUNK: usize = 128 << 10;

/// The emulated fiber, and the receiver at its tap.
pub(crate) struct Glass {
    file: Arc<File>,
    memory: Arc<Memory>,
    /// Where each piece lies in the file.
    starts: Vec<u64>,
    /// Checksum of each piece as it was sent.
    sums: Vec<u64>,
    /// `None` only while being dropped.
    jobs: Option<Sender<Job>>,
    landed: Receiver<Landed>,
    /// Checksums of pieces that were copied before anybody asked, by ticket.
    early: HashMap<u64, io::Result<u64>>,
    receiver: Option<JoinHandle<()>>,
    chunk: Vec<u8>,
}

/// One piece to take out.
struct Job {
    ticket: u64,
    from: u64,
    bytes: u32,
    at: u64,
    /// Bits to flip in what is copied. The file has one copy of the piece for all of its
    /// copies on the loop, and in the others they are still right.
    flips: Vec<u64>,
}

struct Landed {
    ticket: u64,
    sum: io::Result<u64>,
}

impl Glass {
    /// Room for pieces of these lengths in bytes, to be taken into `memory`.
    pub fn new(lens: impl Iterator<Item = u32>, memory: Arc<Memory>) -> io::Result<Self> {
        let mut end = 0;
        let starts: Vec<u64> = lens
            .map(|len| {
                end += u64::from(len);
                end - u64::from(len)
            })
            .collect();
        let file = Arc::new(nameless()?);
        file.set_len(end)?;
        let (jobs, queue) = channel();
        let (sender, landed) = channel();
        let (shared, target) = (file.clone(), memory.clone());
        let receiver = Builder::new()
            .name("receiver".into())
            .stack_size(128 << 10)
            .spawn(move || receive(&shared, &target, &queue, &sender))?;
        Ok(Self {
            file,
            memory,
            sums: vec![0; starts.len()],
            starts,
            jobs: Some(jobs),
            landed,
            early: HashMap::new(),
            receiver: Some(receiver),
            chunk: vec![0; CHUNK],
        })
    }

    /// The memory into which pieces are taken.
    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Sends a piece into the fiber, from `bytes` bytes at `at` in memory.
    pub fn send(&mut self, piece: u32, at: u64, bytes: u32) -> io::Result<()> {
        let mut hash = Xxh3::new();
        for done in (0..bytes as usize).step_by(CHUNK) {
            let chunk = &mut self.chunk[..CHUNK.min(bytes as usize - done)];
            self.memory.copy_out(at + done as u64, chunk);
            hash.update(chunk);
            let to = self.starts[piece as usize] + done as u64;
            self.file.write_all_at(chunk, to)?;
        }
        self.sums[piece as usize] = hash.digest();
        Ok(())
    }

    /// Begins to copy a piece to `at` in memory, with the bits `flips` of it flipped.
    pub fn take(&mut self, ticket: u64, piece: u32, bytes: u32, at: u64, flips: Vec<u64>) {
        let job = Job {
            ticket,
            from: self.starts[piece as usize],
            bytes,
            at,
            flips,
        };
        let jobs = self.jobs.as_ref().expect("not being dropped");
        jobs.send(job).expect("the receiver lives as long as this");
    }

    /// Whether a piece has been copied.
    pub fn is_out(&mut self, ticket: u64) -> bool {
        let landed = self.landed.try_iter();
        self.early.extend(landed.map(|one| (one.ticket, one.sum)));
        self.early.contains_key(&ticket)
    }

    /// Waits until a piece has been copied; whether it is what was sent.
    pub fn taken(&mut self, ticket: u64, piece: u32) -> bool {
        while !self.is_out(ticket) {
            let one = self.landed.recv().expect("the receiver lives");
            self.early.insert(one.ticket, one.sum);
        }
        let sum = self.early.remove(&ticket).expect("seen above");
        sum.is_ok_and(|sum| sum == self.sums[piece as usize])
    }
}

impl Drop for Glass {
    /// Waits for the receiver, so that nothing is written into memory afterwards.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(receiver) = self.receiver.take() {
            // A receiver that panicked writes no more either.
            let _ = receiver.join();
        }
    }
}

/// What the receiver does until the jobs' sender is dropped.
fn receive(file: &File, memory: &Memory, jobs: &Receiver<Job>, landed: &Sender<Landed>) {
    let mut chunk = vec![0; CHUNK];
    for job in jobs {
        let sum = take(file, memory, &job, &mut chunk);
        let ticket = job.ticket;
        if landed.send(Landed { ticket, sum }).is_err() {
            return;
        }
    }
}

/// Copies a piece into memory; returns its checksum.
fn take(file: &File, memory: &Memory, job: &Job, chunk: &mut [u8]) -> io::Result<u64> {
    let mut hash = Xxh3::new();
    for done in (0..job.bytes as usize).step_by(CHUNK) {
        let chunk = &mut chunk[..CHUNK.min(job.bytes as usize - done)];
        file.read_exact_at(chunk, job.from + done as u64)?;
        for bit in &job.flips {
            let byte = (bit / 8).wrapping_sub(done as u64) as usize;
            if let Some(byte) = chunk.get_mut(byte) {
                *byte ^= 1 << (bit % 8);
            }
        }
        hash.update(chunk);
        memory.copy_in(job.at + done as u64, chunk);
    }
    Ok(hash.digest())
}

/// A file in memory without a path.
fn nameless() -> io::Result<File> {
    Ok(memfd_create("fiber", MemfdFlags::CLOEXEC)?.into())
}
