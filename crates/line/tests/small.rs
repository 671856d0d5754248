//! Every short sequence of calls on small lines, against a simple model of the
//! future and of the room that an acquire is guaranteed.

mod common;

use common::{Bench, Manner, PAGE};
use delayline_line::{Config, Lease, LineError};
use delayline_plan::ExtentId;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Op {
    Enqueue,
    Acquire(u32),
    ReleaseOldest,
    ReleaseNewest,
    Pump,
    Compute,
    Forget,
}

const OPS: [Op; 9] = [
    Op::Enqueue,
    Op::Acquire(0),
    Op::Acquire(1),
    Op::Acquire(2),
    Op::ReleaseOldest,
    Op::ReleaseNewest,
    Op::Pump,
    Op::Compute,
    Op::Forget,
];

/// The future as the line was told, and the leases since the oldest outstanding one.
struct Model {
    pages: Vec<u64>,
    resident: Vec<usize>,
    future: Vec<u32>,
    /// Pages leased in order, with the lease's number if it is outstanding.
    used: Vec<(u64, Option<usize>)>,
    leases: usize,
}

impl Model {
    fn streamed(&self, id: u32) -> bool {
        !self.resident.contains(&(id as usize))
    }

    fn enqueue(&mut self) {
        let all = 0..self.pages.len() as u32;
        let streamed: Vec<u32> = all.filter(|&id| self.streamed(id)).collect();
        self.future.extend(streamed);
    }

    /// Records an acquire; returns with how many pages of window it must succeed.
    fn acquire(&mut self, id: u32) -> u64 {
        if !self.streamed(id) {
            return 0;
        }
        let skipped = self.future.iter().position(|&other| other == id);
        self.future.drain(..skipped.unwrap_or(0));
        let oldest = self.used.iter().position(|(_, lease)| lease.is_some());
        self.used.drain(..oldest.unwrap_or(self.used.len()));
        let pages = self.pages[id as usize];
        let longest = self.used.iter().map(|used| used.0).max().unwrap_or(0);
        self.used.iter().map(|used| used.0).sum::<u64>() + pages + longest.max(pages)
    }

    fn acquired(&mut self, id: u32) {
        if self.streamed(id) {
            if self.future.first() == Some(&id) {
                self.future.remove(0);
            }
            self.used.push((self.pages[id as usize], Some(self.leases)));
        }
    }

    fn release(&mut self, number: usize) {
        let used = self.used.iter_mut();
        for (_, lease) in used.filter(|(_, lease)| *lease == Some(number)) {
            *lease = None;
        }
    }
}

struct Case {
    pages: Vec<u64>,
    resident: Vec<usize>,
    window_pages: u64,
    read_pages: u32,
    manner: Manner,
}

/// Plays a sequence, up to an operation that is not possible.
fn play(case: &Case, ops: &[Op]) {
    let config = Config {
        window: case.window_pages * PAGE,
        read_len: case.read_pages * PAGE as u32,
        retries: 0,
    };
    let manner = case.manner.clone();
    let mut bench = Bench::new(&case.pages, &case.resident, 100, config, manner, 1, 0);
    let mut model = Model {
        pages: case.pages.clone(),
        resident: case.resident.clone(),
        future: Vec::new(),
        used: Vec::new(),
        leases: 0,
    };
    let mut leases: Vec<(usize, Lease)> = Vec::new();
    let all = || (0..case.pages.len() as u32).map(ExtentId);
    for &op in ops {
        match op {
            Op::Enqueue => {
                bench.line.enqueue(all());
                model.enqueue();
            }
            Op::Acquire(id) => {
                let needed = model.acquire(id);
                match bench.acquire(ExtentId(id)) {
                    Ok(lease) => {
                        model.acquired(id);
                        leases.push((model.leases, lease));
                        model.leases += 1;
                    }
                    Err(LineError::WindowTooSmall { leased, .. }) => {
                        assert!(leased > 0 && needed > case.window_pages, "{needed} pages");
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            Op::ReleaseOldest | Op::ReleaseNewest if leases.is_empty() => return,
            Op::ReleaseOldest | Op::ReleaseNewest => {
                let (number, lease) = if op == Op::ReleaseOldest {
                    leases.remove(0)
                } else {
                    leases.pop().unwrap()
                };
                bench.release(lease);
                model.release(number);
            }
            Op::Pump => bench.line.pump().unwrap(),
            Op::Compute => bench.time.advance(7000),
            Op::Forget => {
                bench.line.forget().unwrap();
                assert_eq!(bench.line.medium().in_flight(), 0);
                model.future.clear();
            }
        }
        for (_, lease) in &leases {
            bench.verify(lease);
        }
        let ahead = bench.line.ahead() - model.future.len();
        assert!(ahead <= case.resident.len(), "{ahead} resident ones due");
    }
    // Whatever happened, another lap succeeds, in any window.
    for (_, lease) in leases {
        bench.release(lease);
    }
    bench.line.forget().unwrap();
    assert_eq!(bench.line.medium().in_flight(), 0);
    bench.line.enqueue(all());
    for id in all() {
        let lease = bench.acquire(id).unwrap();
        bench.release(lease);
    }
    assert_eq!(bench.line.ahead(), 0);
    assert_eq!(bench.line.medium().in_flight(), 0);
}

/// Plays all sequences of `len` operations.
fn check(case: &Case, len: u32) {
    let mut ops = Vec::new();
    for number in 0..OPS.len().pow(len) {
        ops.clear();
        let mut rest = number;
        for _ in 0..len {
            ops.push(OPS[rest % OPS.len()]);
            rest /= OPS.len();
        }
        let played = std::panic::catch_unwind(|| play(case, &ops));
        if played.is_err() {
            panic!(
                "window {} pages, reads of {}, extents {:?}, resident {:?}, {:?}: {ops:?}",
                case.window_pages, case.read_pages, case.pages, case.resident, case.manner
            );
        }
    }
}

fn check_all(pages: &[u64], resident: &[usize], windows: &[u64], len: u32) {
    for &window_pages in windows {
        for (read_pages, depth, jitter_ns) in [(1, 3, 9000), (2, 1, 0)] {
            let case = Case {
                pages: pages.to_vec(),
                resident: resident.to_vec(),
                window_pages,
                read_pages,
                manner: Manner {
                    depth,
                    jitter_ns,
                    ..Manner::default()
                },
            };
            check(&case, len);
        }
    }
}

#[test]
fn every_short_sequence_of_calls() {
    check_all(&[1, 2, 1], &[], &[2, 4, 5], 4);
    check_all(&[2, 1, 3], &[1], &[3, 5], 4);
}

#[test]
fn every_longer_sequence_on_few_lines() {
    let case = Case {
        pages: vec![1, 2, 2],
        resident: vec![],
        window_pages: 4,
        read_pages: 1,
        manner: Manner::default(),
    };
    check(&case, 5);
}
