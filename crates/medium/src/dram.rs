//! Bytes that are in memory already: the ideal medium, as fast as a copy. It
//! knows no files.

use crate::Memory;
use delayline_line::{Completion, Medium, Read, ReadError};
use std::collections::VecDeque;
use std::sync::Arc;

/// Copies from one vector a part; what is submitted completes at the next poll.
pub struct Dram {
    parts: Vec<Vec<u8>>,
    memory: Arc<Memory>,
    depth: usize,
    queue: VecDeque<Read>,
}

impl Dram {
    /// A medium with the bytes of each part, for `depth` reads into `memory`
    /// at once.
    pub fn new(parts: Vec<Vec<u8>>, memory: Arc<Memory>, depth: usize) -> Self {
        Self {
            parts,
            memory,
            depth,
            queue: VecDeque::new(),
        }
    }

    /// Length of each part in bytes.
    pub fn lengths(&self) -> Vec<u64> {
        self.parts.iter().map(|part| part.len() as u64).collect()
    }

    fn copy(&self, read: &Read) -> Result<u32, ReadError> {
        let len = read.slot.len();
        let part = self.parts.get(usize::from(read.part));
        let part = part.ok_or_else(|| no_part(read, self.parts.len()))?;
        let start = part
            .len()
            .min(usize::try_from(read.offset).unwrap_or(usize::MAX));
        let bytes = &part[start..part.len().min(start.saturating_add(len as usize))];
        self.memory.copy_in(read.slot.at(), bytes);
        Ok(bytes.len() as u32)
    }
}

/// The error of a read from a part that is not there.
pub(crate) fn no_part(read: &Read, parts: usize) -> ReadError {
    ReadError::Os {
        source_name: format!("part {}", read.part),
        offset: read.offset,
        len: read.slot.len(),
        message: format!("there is no such part: the model has {parts}"),
    }
}

impl Medium for Dram {
    fn depth(&self) -> usize {
        self.depth
    }

    fn submit(&mut self, read: Read) {
        assert!(
            self.queue.len() < self.depth,
            "more than {} reads under way",
            self.depth
        );
        self.queue.push_back(read);
    }

    fn poll(&mut self, _wait: bool, done: &mut Vec<Completion>) {
        while let Some(read) = self.queue.pop_front() {
            let result = self.copy(&read);
            done.push(Completion {
                id: read.id,
                slot: read.slot,
                result,
            });
        }
    }
}
