//! What a sync promises, on a medium that may lose everything else: all that can be
//! found after a power cut, for every small history and every moment of it.

use delayline_line::{Buffer, Completion, Medium, MediumError, Op, Region, Verb};
use delayline_medium::{Crash, Memory, Rng};
use std::collections::BTreeSet;
use std::sync::Arc;

const SECTOR: u64 = 4;
/// Sectors of the only part, each filled with the number of the write.
const SECTORS: u64 = 2;
const LEN: u64 = SECTOR * SECTORS;

struct Bench {
    medium: Crash,
    memory: Arc<Memory>,
    region: Region,
    done: Vec<Completion>,
    next: u64,
}

impl Bench {
    fn new() -> Self {
        let (memory, region) = Memory::new(1 << 16).unwrap();
        let parts = vec![vec![0; LEN as usize]];
        Self {
            medium: Crash::new(parts, memory.clone(), 16, SECTOR as u32),
            memory,
            region,
            done: Vec::new(),
            next: 1,
        }
    }

    fn buffer(&mut self, len: u64) -> Buffer {
        self.region.lend(self.next * LEN, len as u32)
    }

    /// Fills these sectors with the number of the operation.
    fn write(&mut self, sectors: std::ops::Range<u64>) {
        let len = (sectors.end - sectors.start) * SECTOR;
        let buffer = self.buffer(len);
        self.memory
            .copy_in(buffer.at(), &vec![self.next as u8; len as usize]);
        let write = Op::write(self.next, 0, sectors.start * SECTOR, buffer);
        self.medium.submit(write);
        self.next += 1;
    }

    fn sync(&mut self) {
        self.medium.submit(Op::sync(self.next, 0));
        self.next += 1;
    }

    fn poll(&mut self) {
        self.medium.poll(true, &mut self.done);
    }

    /// All that can be found: for each sector the write that it is of, 0 for none.
    fn survivors(&self) -> BTreeSet<Vec<u8>> {
        let states = self.medium.states();
        let all: usize = states.iter().product();
        let each = (0..all).map(|number| {
            let mut rest = number;
            let found = self.medium.survivor(|states| {
                let state = rest % states;
                rest /= states;
                state
            });
            let sectors = found[0].chunks(SECTOR as usize);
            let of = |sector: &[u8]| {
                assert!(
                    sector.iter().all(|&byte| byte == sector[0]),
                    "a torn sector"
                );
                sector[0]
            };
            sectors.map(of).collect()
        });
        each.collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    Write(u64, u64),
    Sync,
    Poll,
}

const STEPS: [Step; 5] = [
    Step::Write(0, 1),
    Step::Write(1, 2),
    Step::Write(0, 2),
    Step::Sync,
    Step::Poll,
];

/// What may be found in a sector, in the simplest form.
#[derive(Clone, Default)]
struct Plain {
    /// Writes in order of submission, and whether each has completed.
    writes: Vec<(u8, bool)>,
    settled: u8,
}

/// Every history of six steps, and after each step every state of every sector.
#[test]
fn what_is_found_is_what_was_settled_or_written_since() {
    let len = 6;
    for history in 0..STEPS.len().pow(len) {
        let mut bench = Bench::new();
        let mut plain = vec![Plain::default(); SECTORS as usize];
        // Syncs under way: how far each sector's writes had completed.
        let mut syncs: Vec<Vec<Vec<u8>>> = Vec::new();
        let mut rest = history;
        for _ in 0..len {
            let step = STEPS[rest % STEPS.len()];
            rest /= STEPS.len();
            match step {
                Step::Write(from, to) => {
                    for sector in &mut plain[from as usize..to as usize] {
                        sector.writes.push((bench.next as u8, false));
                    }
                    bench.write(from..to);
                }
                Step::Sync => {
                    let completed = |sector: &Plain| {
                        let done = sector.writes.iter().filter(|write| write.1);
                        done.map(|write| write.0).collect()
                    };
                    syncs.push(plain.iter().map(completed).collect());
                    bench.sync();
                }
                Step::Poll => {
                    bench.poll();
                    for settled in syncs.drain(..) {
                        for (sector, writes) in plain.iter_mut().zip(settled) {
                            let newest = writes.iter().copied().max();
                            sector.settled = sector.settled.max(newest.unwrap_or(0));
                            sector.writes.retain(|(write, _)| !writes.contains(write));
                        }
                    }
                    let writes = plain.iter_mut().flat_map(|sector| &mut sector.writes);
                    writes.for_each(|write| write.1 = true);
                }
            }
            let choices = plain.iter().map(|sector| {
                let written = sector.writes.iter().map(|write| write.0);
                std::iter::once(sector.settled)
                    .chain(written)
                    .collect::<Vec<u8>>()
            });
            let mut expect = vec![Vec::new()];
            for choices in choices {
                let longer = |found: &Vec<u8>| {
                    let found = found.clone();
                    let with = move |&choice: &u8| [found.clone(), vec![choice]].concat();
                    choices.iter().map(with).collect::<Vec<_>>()
                };
                expect = expect.iter().flat_map(longer).collect();
            }
            let expect: BTreeSet<Vec<u8>> = expect.into_iter().collect();
            assert_eq!(bench.survivors(), expect, "history {history}, at {step:?}");
        }
    }
}

#[test]
fn a_cut_ends_everything_and_the_survivor_is_opened_anew() {
    let mut bench = Bench::new();
    bench.write(0..2);
    bench.poll();
    bench.sync();
    bench.poll();
    bench.write(0..1);
    bench.medium.cut();
    bench.sync();
    bench.poll();
    let gone = |done: &Completion| matches!(done.result, Err(MediumError::Gone { .. }));
    let ends: Vec<bool> = bench.done.iter().map(gone).collect();
    assert_eq!(ends, [false, false, true, true]);
    assert_eq!(
        bench.survivors(),
        BTreeSet::from([vec![1, 1], vec![3, 1]]),
        "the write was under way: it may have arrived"
    );
    let before = bench.survivors();
    bench.write(1..2);
    bench.poll();
    assert_eq!(bench.survivors(), before, "without power nothing changes");
    let found = bench.medium.survivor_by_chance(&mut Rng::new(3));
    let (memory, mut region) = Memory::new(LEN).unwrap();
    let mut again = Crash::new(found.clone(), memory.clone(), 1, SECTOR as u32);
    assert_eq!(again.states(), [] as [usize; 0], "what is found is settled");
    let mut done = Vec::new();
    again.submit(Op::read(1, 0, 0, region.lend(0, LEN as u32)));
    again.poll(true, &mut done);
    let mut got = vec![0; LEN as usize];
    memory.copy_out(0, &mut got);
    assert_eq!(got, found[0]);
}

#[test]
fn writes_of_different_bytes_of_a_sector_are_all_settled() {
    let mut bench = Bench::new();
    for (at, byte) in [(0, 7), (2, 8)] {
        let buffer = bench.buffer(2);
        bench.memory.copy_in(buffer.at(), &[byte; 2]);
        bench.medium.submit(Op::write(bench.next, 0, at, buffer));
        bench.next += 1;
    }
    bench.poll();
    bench.sync();
    bench.poll();
    assert_eq!(bench.medium.states(), [] as [usize; 0]);
    let found = bench.medium.survivor(|_| 0);
    assert_eq!(found[0][..SECTOR as usize], [7, 7, 8, 8]);
}

#[test]
fn a_write_that_covers_part_of_a_sector_leaves_the_rest_of_it() {
    let mut bench = Bench::new();
    bench.write(0..2);
    bench.poll();
    // The last byte of the first sector and the first of the second.
    let buffer = bench.buffer(2);
    bench.memory.copy_in(buffer.at(), &[9, 9]);
    bench.medium.submit(Op::write(7, 0, SECTOR - 1, buffer));
    bench.next += 1;
    bench.poll();
    let newest = bench.medium.survivor(|states| states - 1);
    assert_eq!(newest[0], [1, 1, 1, 9, 9, 1, 1, 1]);
    assert_eq!(bench.medium.states(), [3, 3]);
    bench.sync();
    bench.poll();
    assert_eq!(bench.medium.states(), [] as [usize; 0]);
    assert_eq!(bench.medium.survivor(|_| 0)[0], newest[0]);
    let stats = bench.medium.stats();
    assert_eq!((stats.writes.ops, stats.syncs.ops), (2, 1));
    assert!(bench.done.iter().all(|done| done.result.is_ok()));
    assert_eq!(Verb::Sync.to_string(), "sync");
}
