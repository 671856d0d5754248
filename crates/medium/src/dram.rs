//! Bytes that are in memory already: the ideal medium, as fast as a copy. It
//! knows no files.

use crate::Memory;
use crate::refuse::refusal;
use delayline_line::{
    Alignment, Caps, Completion, Medium, MediumError, MediumEvent, Op, Stats, Verb,
};
use std::collections::VecDeque;
use std::sync::Arc;

/// Copies from and to one vector a part; what is submitted completes at the next
/// poll, in order.
pub struct Dram {
    parts: Vec<Vec<u8>>,
    lens: Vec<u64>,
    memory: Arc<Memory>,
    caps: Caps,
    queue: VecDeque<Op>,
    stats: Stats,
}

impl Dram {
    /// A medium with the bytes of each part, for `depth` operations on `memory`
    /// at once.
    pub fn new(parts: Vec<Vec<u8>>, memory: Arc<Memory>, depth: usize) -> Self {
        Self {
            lens: parts.iter().map(|part| part.len() as u64).collect(),
            parts,
            memory,
            caps: Caps {
                depth,
                align: Alignment::all(1),
                writable: true,
                ..Caps::default()
            },
            queue: VecDeque::new(),
            stats: Stats::default(),
        }
    }

    /// Length of each part in bytes.
    pub fn lengths(&self) -> &[u64] {
        &self.lens
    }

    /// The bytes of each part as they are now.
    pub fn parts(&self) -> &[Vec<u8>] {
        &self.parts
    }

    fn copy(&mut self, op: &Op) -> Result<u32, MediumError> {
        if let Some(error) = refusal(|| "memory".into(), &self.lens, true, op) {
            return Err(error);
        }
        let part = &mut self.parts[usize::from(op.part)];
        let len = op.buffer.len() as usize;
        let start = part
            .len()
            .min(usize::try_from(op.offset).unwrap_or(usize::MAX));
        let end = part.len().min(start.saturating_add(len));
        let bytes = &mut part[start..end];
        match op.verb {
            Verb::Read => self.memory.copy_in(op.buffer.at(), bytes),
            Verb::Write => self.memory.copy_out(op.buffer.at(), bytes),
            Verb::Sync => {}
        }
        Ok(bytes.len() as u32)
    }
}

impl Medium for Dram {
    fn caps(&self) -> &Caps {
        &self.caps
    }

    fn submit(&mut self, op: Op) {
        assert!(
            self.queue.len() < self.caps.depth,
            "more than {} operations under way",
            self.caps.depth
        );
        self.memory.check_owns(&op.buffer);
        self.queue.push_back(op);
    }

    fn poll(&mut self, _wait: bool, done: &mut Vec<Completion>) {
        while let Some(op) = self.queue.pop_front() {
            let result = self.copy(&op);
            self.stats.count(op.verb, &result);
            done.push(op.complete(result));
        }
    }

    fn stats(&self) -> Stats {
        self.stats
    }

    fn events(&mut self, _: &mut Vec<MediumEvent>) {}
}
