//! A simulated drive in virtual time that keeps what is written. It delays, shortens and
//! fails operations, and checks that memory under way is not touched.

use std::cell::RefCell;
use std::io;
use std::ops::Range;
use std::rc::Rc;

use delayline_line::{
    Caps, Clock, Completion, Durability, Medium, MediumError, MediumEvent, Op, Stats, Verb,
};

use super::{PAGE, Rng, Time, overlap};

/// A drive and the memory beside it. One operation moves at a time.
pub struct Drive {
    pub caps: Caps,
    pub stats: Stats,
    pub time: Rc<Time>,
    pub rng: Rng,
    pub memory: Rc<RefCell<Vec<u8>>>,
    pub disk: Rc<RefCell<Vec<u8>>>,
    /// Ranges written and not synced.
    pub unsynced: Rc<RefCell<Vec<Range<u64>>>>,
    under_way: Vec<Pending>,
    pub ns_per_page: u64,
    pub jitter_ns: u64,
    pub fault_percent: u64,
    pub free_ns: u64,
}

struct Pending {
    due_ns: u64,
    op: Op,
    /// The bytes to write, as they were in memory at submission.
    bytes: Vec<u8>,
    /// How many entries of `unsynced` a sync covers.
    settles: usize,
}

fn on_disk(op: &Op) -> Range<u64> {
    op.offset..op.offset + u64::from(op.buffer.len())
}

fn in_memory(op: &Op) -> Range<usize> {
    op.buffer.at() as usize..(op.buffer.at() + u64::from(op.buffer.len())) as usize
}

impl Drive {
    /// A drive of `disk` bytes and a memory of `memory` bytes; its behaviour is drawn
    /// from `rng`.
    pub fn new(memory: u64, disk: u64, fault_percent: u64, rng: &mut Rng) -> Self {
        Self {
            caps: Caps {
                depth: 1 + rng.below(8) as usize,
                writable: true,
                durability: Durability::Synced,
                ..Caps::default()
            },
            stats: Stats::default(),
            time: Rc::default(),
            rng: Rng(rng.below(u64::MAX)),
            memory: Rc::new(RefCell::new(vec![0; memory as usize])),
            disk: Rc::new(RefCell::new(vec![0; disk as usize])),
            unsynced: Rc::default(),
            under_way: Vec::new(),
            ns_per_page: 1000,
            jitter_ns: rng.below(20_000),
            fault_percent,
            free_ns: 0,
        }
    }

    fn complete(&mut self, pending: Pending) -> Completion {
        let Pending {
            op, bytes, settles, ..
        } = pending;
        let mut moved = op.buffer.len();
        let mut result = Ok(moved);
        if self.rng.percent(self.fault_percent) {
            if self.rng.percent(50) && op.verb != Verb::Sync {
                moved = self.rng.below(u64::from(moved)) as u32;
                result = Ok(moved);
            } else {
                // Some bytes may have been moved nevertheless.
                moved = self.rng.below(u64::from(moved) + 1) as u32;
                let broken = io::Error::other("broken");
                result = Err(MediumError::failed("drive", op.asked(), broken));
            }
        }
        let (disk, memory) = (&mut *self.disk.borrow_mut(), &mut *self.memory.borrow_mut());
        let at = op.offset as usize..op.offset as usize + moved as usize;
        let room = in_memory(&op);
        match op.verb {
            Verb::Read => memory[room.start..room.start + at.len()].copy_from_slice(&disk[at]),
            Verb::Write => {
                assert!(
                    memory[room] == bytes,
                    "bytes changed while they were written"
                );
                disk[at.clone()].copy_from_slice(&bytes[..at.len()]);
                self.unsynced
                    .borrow_mut()
                    .push(at.start as u64..at.end as u64);
            }
            Verb::Sync if result.is_ok() => {
                self.unsynced.borrow_mut().drain(..settles);
            }
            Verb::Sync => {}
        }
        self.stats.count(op.verb, &result);
        op.complete(result)
    }
}

impl Medium for Drive {
    fn caps(&self) -> &Caps {
        &self.caps
    }

    fn submit(&mut self, op: Op) {
        assert!(self.under_way.len() < self.caps.depth, "queue overrun");
        let mut bytes = Vec::new();
        for other in self.under_way.iter().map(|pending| &pending.op) {
            // A read that was dropped may overlap a write.
            let twice = (op.verb, other.verb) == (Verb::Write, Verb::Write)
                && overlap(&on_disk(&op), &on_disk(other));
            assert!(!twice, "{op:?} overlaps {other:?} on the drive");
        }
        match op.verb {
            Verb::Read => self.memory.borrow_mut()[in_memory(&op)].fill(0xEE),
            Verb::Write => bytes = self.memory.borrow()[in_memory(&op)].to_vec(),
            Verb::Sync => {
                let writes = |pending: &Pending| pending.op.verb == Verb::Write;
                assert!(
                    !self.under_way.iter().any(writes),
                    "a sync before its writes"
                );
            }
        }
        let pages = u64::from(op.buffer.len()) / PAGE;
        self.free_ns = self.free_ns.max(self.time.now_ns()) + pages * self.ns_per_page;
        let due_ns = self.free_ns + self.rng.below(self.jitter_ns + 1);
        let settles = self.unsynced.borrow().len();
        self.under_way.push(Pending {
            due_ns,
            op,
            bytes,
            settles,
        });
    }

    fn poll(&mut self, wait: bool, done: &mut Vec<Completion>) {
        let first_ns = self.under_way.iter().map(|pending| pending.due_ns).min();
        if let (true, Some(first_ns)) = (wait, first_ns) {
            self.time
                .advance(first_ns.saturating_sub(self.time.now_ns()));
        }
        let now_ns = self.time.now_ns();
        while let Some(at) = self.under_way.iter().position(|p| p.due_ns <= now_ns) {
            let pending = self.under_way.swap_remove(at);
            let completion = self.complete(pending);
            done.push(completion);
        }
    }

    fn stats(&self) -> Stats {
        self.stats
    }

    fn events(&mut self, _: &mut Vec<MediumEvent>) {}
}
