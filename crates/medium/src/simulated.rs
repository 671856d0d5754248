//! A medium in virtual time: what a drive of a given rate, latency and depth
//! would do. It owns the queue model, and no bytes unless it is given some.

use crate::VirtualClock;
use crate::refuse::refusal;
use delayline_line::{
    Alignment, Caps, Clock, Completion, Medium, MediumError, MediumEvent, Op, Rates, Stats, Verb,
};
use std::collections::VecDeque;

/// The properties of a [`Simulated`] medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Bytes per second that leave the medium when its queue is never empty.
    pub rate_bytes_per_s: u64,
    /// The same for writes; none means as fast as reads.
    pub write_bytes_per_s: Option<u64>,
    /// Both together, when half of the bytes under way are read and half written;
    /// none means that they take as long as one after the other.
    pub mixed_bytes_per_s: Option<u64>,
    /// From the last byte leaving until the operation completes, in nanoseconds.
    pub latency_ns: u64,
    /// Operations at once. With operations of `n` bytes it reaches its full rate from
    /// `1 + latency * rate / n` on.
    pub depth: usize,
}

impl Default for Link {
    /// 1 GB/s either way, without latency, one operation at a time.
    fn default() -> Self {
        Self {
            rate_bytes_per_s: 1_000_000_000,
            write_bytes_per_s: None,
            mixed_bytes_per_s: None,
            latency_ns: 0,
            depth: 1,
        }
    }
}

impl Link {
    /// How long `bytes` take, in nanoseconds, when a share `written` (0 to 1) of
    /// the bytes under way is written. The time of a byte is a parabola over that
    /// share, through the three known rates.
    fn takes_ns(&self, bytes: u64, written: f64) -> u64 {
        let read = self.rate_bytes_per_s;
        let write = self.write_bytes_per_s.unwrap_or(read);
        let alone = |rate: u64| {
            let ns = (u128::from(bytes) * 1_000_000_000).div_ceil(u128::from(rate));
            ns as u64
        };
        if written == 0.0 {
            return alone(read);
        }
        if written == 1.0 {
            return alone(write);
        }
        let (read, write) = (1.0 / read as f64, 1.0 / write as f64);
        let mean = (read + write) / 2.0;
        let mixed = self
            .mixed_bytes_per_s
            .map_or(mean, |rate| 1.0 / rate as f64);
        let apart = (1.0 - written) * read + written * write;
        let byte_s = apart + 4.0 * written * (1.0 - written) * (mixed - mean);
        (bytes as f64 * byte_s.max(0.0) * 1e9).ceil() as u64
    }
}

/// What moves the bytes.
enum Behind {
    /// Nothing does: only the lengths of the parts in bytes are known.
    Nothing(Vec<u64>),
    Medium(Box<dyn Medium>),
}

struct Due {
    at_ns: u64,
    verb: Verb,
    bytes: u64,
    completion: Completion,
}

/// Serves operations in order, one after the other at the link's rate; each
/// completes one latency after its last byte has left.
pub struct Simulated {
    link: Link,
    caps: Caps,
    stats: Stats,
    behind: Behind,
    clock: VirtualClock,
    /// When the last byte accepted so far has left, in nanoseconds.
    free_at_ns: u64,
    /// Operations under way, in the order in which they are due: the latency is the
    /// same for all.
    queue: VecDeque<Due>,
    /// Bytes under way that are read, and that are written.
    under_way: [u64; 2],
    scratch: Vec<Completion>,
}

impl Simulated {
    /// A medium with the bytes of `behind`, which completes at its next poll what
    /// is submitted to it, as [`Dram`](crate::Dram) does. It shares `clock` with its
    /// caller.
    ///
    /// # Panics
    /// When the link's rate or depth is 0, or the depth of `behind` is smaller.
    pub fn new(link: Link, behind: impl Medium + 'static, clock: VirtualClock) -> Self {
        assert!(
            behind.caps().depth >= link.depth,
            "the medium behind takes fewer operations than the link"
        );
        let caps = behind.caps().clone();
        Self::build(link, caps, Behind::Medium(Box::new(behind)), clock)
    }

    /// As [`Simulated::new`], without bytes: of the parts only the lengths in bytes
    /// are known, and buffers stay as they are.
    ///
    /// # Panics
    /// When the link's rate or depth is 0.
    pub fn without_bytes(link: Link, lens: Vec<u64>, clock: VirtualClock) -> Self {
        let caps = Caps {
            align: Alignment::all(1),
            writable: true,
            ..Caps::default()
        };
        Self::build(link, caps, Behind::Nothing(lens), clock)
    }

    fn build(link: Link, caps: Caps, behind: Behind, clock: VirtualClock) -> Self {
        let given = [link.write_bytes_per_s, link.mixed_bytes_per_s];
        let mut given = given.into_iter().flatten();
        let moves = link.rate_bytes_per_s > 0 && given.all(|rate| rate > 0);
        assert!(moves, "a link needs a rate");
        assert!(link.depth > 0, "a link needs a depth");
        let rates = Rates {
            read_bytes_per_s: Some(link.rate_bytes_per_s),
            write_bytes_per_s: link.write_bytes_per_s.or(Some(link.rate_bytes_per_s)),
            mixed_bytes_per_s: link.mixed_bytes_per_s,
        };
        Self {
            caps: Caps {
                depth: link.depth,
                rates,
                ..caps
            },
            stats: Stats::default(),
            link,
            behind,
            clock,
            free_at_ns: 0,
            queue: VecDeque::new(),
            under_way: [0; 2],
            scratch: Vec::new(),
        }
    }

    /// When the oldest operation under way completes, in nanoseconds of the clock.
    pub fn next_ns(&self) -> Option<u64> {
        self.queue.front().map(|due| due.at_ns)
    }

    fn perform(&mut self, op: Op) -> Completion {
        match &mut self.behind {
            Behind::Nothing(lens) => {
                let result = without_bytes(lens, &op);
                op.complete(result)
            }
            // The bytes are moved at once, though the caller may not look at them
            // before the completion.
            Behind::Medium(medium) => {
                medium.submit(op);
                medium.poll(true, &mut self.scratch);
                self.scratch
                    .pop()
                    .expect("what is submitted to the medium behind completes at its next poll")
            }
        }
    }
}

/// What becomes of an operation on parts of which only the lengths are known.
fn without_bytes(lens: &[u64], op: &Op) -> Result<u32, MediumError> {
    match refusal(|| "simulated medium".into(), lens, true, op) {
        Some(error) => Err(error),
        None if op.verb == Verb::Sync => Ok(0),
        None => {
            let left = lens[usize::from(op.part)].saturating_sub(op.offset);
            Ok(left.min(op.buffer.len().into()) as u32)
        }
    }
}

impl Medium for Simulated {
    fn caps(&self) -> &Caps {
        &self.caps
    }

    fn submit(&mut self, op: Op) {
        assert!(
            self.queue.len() < self.link.depth,
            "more than {} operations under way",
            self.link.depth
        );
        let verb = op.verb;
        let completion = self.perform(op);
        // Bytes past the end of a part take no time on the link.
        let bytes = u64::from(*completion.result.as_ref().unwrap_or(&0));
        self.under_way[usize::from(verb == Verb::Write)] += bytes;
        let [read, written] = self.under_way;
        let written = written as f64 / (read + written).max(1) as f64;
        let now_ns = self.clock.now_ns();
        self.free_at_ns = self.free_at_ns.max(now_ns) + self.link.takes_ns(bytes, written);
        let at_ns = self.free_at_ns + self.link.latency_ns;
        let took_ns = at_ns - now_ns;
        self.stats.count_timed(verb, &completion.result, took_ns);
        self.queue.push_back(Due {
            at_ns,
            verb,
            bytes,
            completion,
        });
    }

    fn poll(&mut self, wait: bool, done: &mut Vec<Completion>) {
        if wait && let Some(due_ns) = self.next_ns() {
            self.clock.advance_to(due_ns);
        }
        let now_ns = self.clock.now_ns();
        while self.next_ns().is_some_and(|due_ns| due_ns <= now_ns) {
            let due = self.queue.pop_front().expect("seen above");
            self.under_way[usize::from(due.verb == Verb::Write)] -= due.bytes;
            done.push(due.completion);
        }
    }

    fn stats(&self) -> Stats {
        self.stats
    }

    fn events(&mut self, out: &mut Vec<MediumEvent>) {
        if let Behind::Medium(medium) = &mut self.behind {
            medium.events(out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use delayline_line::Region;

    fn link(rate_bytes_per_s: u64, latency_ns: u64, depth: usize) -> Simulated {
        let link = Link {
            rate_bytes_per_s,
            latency_ns,
            depth,
            ..Link::default()
        };
        Simulated::without_bytes(link, vec![1 << 40], VirtualClock::new())
    }

    /// Keeps the link full for `count` reads of 1000 bytes; returns when that ends.
    fn lap(medium: &mut Simulated, count: u64) -> u64 {
        let mut region = Region::new(count * 1000);
        let (mut sent, mut got) = (0, Vec::new());
        while (got.len() as u64) < count {
            while sent < count && sent - (got.len() as u64) < medium.caps().depth as u64 {
                let buffer = region.lend(sent * 1000, 1000);
                medium.submit(Op::read(sent, 0, sent * 1000, buffer));
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
        let mut region = Region::new(100);
        medium.submit(Op::read(1, 0, 0, region.lend(0, 50)));
        medium.poll(false, &mut done);
        medium.clock.advance_to(149);
        medium.poll(false, &mut done);
        assert!(done.is_empty());
        assert_eq!(medium.next_ns(), Some(150));
        medium.clock.advance_ns(1);
        medium.poll(false, &mut done);
        assert_eq!((done.len(), medium.next_ns()), (1, None));
        // The link was idle meanwhile: the next read starts now, not before.
        medium.submit(Op::read(2, 0, 0, region.lend(50, 50)));
        assert_eq!(medium.next_ns(), Some(300));
    }

    /// Bytes per second of operations of 1 MB at depth 32, of which every `each`-th is
    /// a write; none for 0.
    fn rate(each: u64) -> f64 {
        let link = Link {
            rate_bytes_per_s: 3_900_000_000,
            write_bytes_per_s: Some(2_060_000_000),
            mixed_bytes_per_s: Some(1_500_000_000),
            latency_ns: 0,
            depth: 32,
        };
        let mut medium = Simulated::without_bytes(link, vec![1 << 40], VirtualClock::new());
        let (mut region, mut done) = (Region::new(1 << 40), Vec::new());
        const COUNT: u64 = 3200;
        for id in 0..COUNT {
            let buffer = region.lend(id * 1_000_000, 1_000_000);
            medium.submit(match each > 0 && id % each == 0 {
                true => Op::write(id, 0, 0, buffer),
                false => Op::read(id, 0, 0, buffer),
            });
            if id >= 31 {
                medium.poll(true, &mut done);
            }
        }
        while done.len() < COUNT as usize {
            medium.poll(true, &mut done);
        }
        COUNT as f64 * 1e15 / medium.clock.now_ns() as f64
    }

    #[test]
    fn reads_writes_and_both_together_have_their_rates() {
        for (each, expect) in [(0, 3.9e9), (1, 2.06e9), (2, 1.5e9)] {
            let rate = rate(each);
            assert!((rate / expect - 1.0).abs() < 0.02, "{each}: {rate}");
        }
        let quarter = rate(4);
        assert!(quarter > 1.5e9 && quarter < 3.9e9, "{quarter}");
    }
}
