//! A medium in virtual time: what a drive of a given rate, latency and depth
//! would do. It owns the queue model, and no bytes unless it is given some.

use crate::dram::no_part;
use crate::{Dram, VirtualClock};
use delayline_line::{Clock, Completion, Medium, Read, ReadError};
use std::collections::VecDeque;

/// The properties of a [`Simulated`] medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Bytes per second that leave the medium when its queue is never empty.
    pub rate_bytes_per_s: u64,
    /// From the last byte leaving until the read completes, in nanoseconds.
    pub latency_ns: u64,
    /// Reads at once. With reads of `n` bytes it reaches its full rate from
    /// `1 + latency * rate / n` on.
    pub depth: usize,
}

/// What a [`Simulated`] medium fills slots with.
pub enum Source {
    /// Nothing: only the lengths of the parts in bytes are known.
    Lengths(Vec<u64>),
    /// The bytes of a [`Dram`] of at least the link's depth.
    Dram(Dram),
}

/// Serves reads in order, one after the other at the link's rate; each
/// completes one latency after its last byte has left.
pub struct Simulated {
    link: Link,
    source: Source,
    clock: VirtualClock,
    /// When the last read accepted so far has left, in nanoseconds.
    free_at_ns: u64,
    /// Completions and when they are due, in order: the latency is the same for all.
    queue: VecDeque<(u64, Completion)>,
    scratch: Vec<Completion>,
}

impl Simulated {
    /// A medium that shares `clock` with whoever waits for it.
    ///
    /// # Panics
    /// When the link's rate or depth is 0, or the source's depth is smaller.
    pub fn new(link: Link, source: Source, clock: VirtualClock) -> Self {
        assert!(link.rate_bytes_per_s > 0, "a link needs a rate");
        assert!(link.depth > 0, "a link needs a depth");
        if let Source::Dram(dram) = &source {
            assert!(
                dram.depth() >= link.depth,
                "the source takes fewer reads than the link"
            );
        }
        Self {
            link,
            source,
            clock,
            free_at_ns: 0,
            queue: VecDeque::new(),
            scratch: Vec::new(),
        }
    }

    /// When the oldest read under way completes, in nanoseconds of the clock.
    pub fn next_ns(&self) -> Option<u64> {
        self.queue.front().map(|&(due_ns, _)| due_ns)
    }

    fn fill(&mut self, read: Read) -> Completion {
        match &mut self.source {
            Source::Lengths(lengths) => {
                let result = match lengths.get(usize::from(read.part)) {
                    None => Err(no_part(&read, lengths.len())),
                    Some(len) => Ok(len.saturating_sub(read.offset).min(read.slot.len().into())),
                };
                let result: Result<u32, ReadError> = result.map(|bytes| bytes as u32);
                Completion {
                    id: read.id,
                    slot: read.slot,
                    result,
                }
            }
            // The bytes are put there at once, though nobody may look before
            // the completion says so.
            Source::Dram(dram) => {
                dram.submit(read);
                dram.poll(true, &mut self.scratch);
                self.scratch
                    .pop()
                    .expect("what is submitted to DRAM completes at the next poll")
            }
        }
    }
}

impl Medium for Simulated {
    fn depth(&self) -> usize {
        self.link.depth
    }

    fn submit(&mut self, read: Read) {
        assert!(
            self.queue.len() < self.link.depth,
            "more than {} reads under way",
            self.link.depth
        );
        let completion = self.fill(read);
        // What is not there takes no time on the link.
        let bytes = u128::from(*completion.result.as_ref().unwrap_or(&0));
        let takes_ns = (bytes * 1_000_000_000).div_ceil(u128::from(self.link.rate_bytes_per_s));
        self.free_at_ns = self.free_at_ns.max(self.clock.now_ns()) + takes_ns as u64;
        self.queue
            .push_back((self.free_at_ns + self.link.latency_ns, completion));
    }

    fn poll(&mut self, wait: bool, done: &mut Vec<Completion>) {
        if wait && let Some(due_ns) = self.next_ns() {
            self.clock.advance_to(due_ns);
        }
        let now_ns = self.clock.now_ns();
        while self.next_ns().is_some_and(|due_ns| due_ns <= now_ns) {
            done.extend(self.queue.pop_front().map(|(_, completion)| completion));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use delayline_line::Slot;

    fn link(rate_bytes_per_s: u64, latency_ns: u64, depth: usize) -> Simulated {
        let link = Link {
            rate_bytes_per_s,
            latency_ns,
            depth,
        };
        Simulated::new(link, Source::Lengths(vec![1 << 40]), VirtualClock::new())
    }

    /// Keeps the link full for `count` reads of 1000 bytes; when it ends.
    fn lap(medium: &mut Simulated, count: u64) -> u64 {
        let (mut sent, mut got) = (0, Vec::new());
        while (got.len() as u64) < count {
            while sent < count && sent - (got.len() as u64) < medium.depth() as u64 {
                let slot = Slot::claim(sent * 1000, 1000);
                medium.submit(Read {
                    id: sent,
                    part: 0,
                    offset: sent * 1000,
                    slot,
                });
                sent += 1;
            }
            medium.poll(true, &mut got);
        }
        assert!(got.iter().map(|completion| completion.id).eq(0..count));
        medium.clock.now_ns()
    }

    #[test]
    fn time_is_rate_and_latency_and_depth() {
        // 1 byte a nanosecond: 1000 ns a read; (latency, depth, reads, time).
        let cases = [
            (0, 1, 10, 10_000),
            (500, 1, 10, 15_000),
            (500, 2, 10, 10_500),
            (3000, 4, 8, 11_000),
            (3000, 2, 8, 17_000),
            (7, 1, 1, 1007),
        ];
        for (latency_ns, depth, reads, ends) in cases {
            let mut medium = link(1_000_000_000, latency_ns, depth);
            assert_eq!(
                lap(&mut medium, reads),
                ends,
                "latency {latency_ns}, depth {depth}"
            );
        }
    }

    #[test]
    fn nothing_completes_before_its_time() {
        let mut medium = link(1_000_000_000, 100, 4);
        let mut done = Vec::new();
        medium.submit(Read {
            id: 1,
            part: 0,
            offset: 0,
            slot: Slot::claim(0, 50),
        });
        medium.poll(false, &mut done);
        medium.clock.advance_to(149);
        medium.poll(false, &mut done);
        assert!(done.is_empty());
        assert_eq!(medium.next_ns(), Some(150));
        medium.clock.advance_ns(1);
        medium.poll(false, &mut done);
        assert_eq!((done.len(), medium.next_ns()), (1, None));
        // The link was idle meanwhile: the next read starts now, not before.
        medium.submit(Read {
            id: 2,
            part: 0,
            offset: 0,
            slot: Slot::claim(0, 50),
        });
        assert_eq!(medium.next_ns(), Some(300));
    }
}
