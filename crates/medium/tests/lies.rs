//! That a faulty medium lies as it is told to, and counts what it really did.

use delayline_line::{Completion, Medium, Op, Region};
use delayline_medium::{Dram, FaultCounts, Faults, Faulty, Memory, Rng};
use std::sync::Arc;

const PAGE: u64 = 4096;
const PAGES: u64 = 32;
const DEPTH: u64 = 8;

/// A medium whose page `n` is all of bytes `n + 1`.
struct Bench {
    medium: Faulty<Dram>,
    memory: Arc<Memory>,
    region: Region,
    next: u64,
}

impl Bench {
    fn new(faults: Faults, seed: u64) -> Self {
        let (memory, region) = Memory::new(PAGES * PAGE).unwrap();
        let bytes = (0..PAGES).flat_map(|page| vec![page as u8 + 1; PAGE as usize]);
        let dram = Dram::new(vec![bytes.collect()], memory.clone(), DEPTH as usize);
        Self {
            medium: Faulty::new(dram, faults, seed).spoiling(memory.clone()),
            memory,
            region,
            next: 0,
        }
    }

    fn run(&mut self, op: impl FnOnce(u64, &mut Region) -> Op) -> Option<Completion> {
        let op = op(self.next, &mut self.region);
        self.next += 1;
        self.medium.submit(op);
        let mut done = Vec::new();
        self.medium.poll(true, &mut done);
        assert!(done.len() <= 1);
        done.pop()
    }

    /// Reads pages, which completes without an error; returns their bytes.
    fn read(&mut self, page: u64, pages: u64) -> Vec<u8> {
        let len = (pages * PAGE) as u32;
        let done = self.run(|id, region| Op::read(id, 0, page * PAGE, region.lend(0, len)));
        let done = done.expect("a read that completes");
        assert_eq!(done.result, Ok(len), "it lies, and does not fail");
        self.region.take_back(done.buffer);
        let mut got = vec![0; len as usize];
        self.memory.copy_out(0, &mut got);
        got
    }

    /// Fills pages with a byte, which completes without an error.
    fn write(&mut self, page: u64, pages: u64, byte: u8) {
        let len = (pages * PAGE) as u32;
        self.memory.copy_in(0, &vec![byte; len as usize]);
        let done = self.run(|id, region| Op::write(id, 0, page * PAGE, region.lend(0, len)));
        let done = done.expect("a write that completes");
        assert_eq!((done.result, done.buffer.len()), (Ok(len), len));
        self.region.take_back(done.buffer);
    }

    fn truth(&self, page: u64, pages: u64) -> &[u8] {
        let bytes = &self.medium.inner().parts()[0];
        &bytes[(page * PAGE) as usize..((page + pages) * PAGE) as usize]
    }
}

/// Reads three pages at random places; one read in five meets the fault. There must be as
/// many wrong reads as are counted, each of the kind that `is_it` tells.
fn reads(faults: Faults, told: fn(FaultCounts) -> u64, is_it: fn(&[u8], &[u8]) -> bool) {
    for seed in 0..20 {
        let mut bench = Bench::new(faults.clone(), seed);
        let (mut rng, mut lies) = (Rng::new(seed), 0);
        for _ in 0..200 {
            let page = rng.below(PAGES - 2);
            let got = bench.read(page, 3);
            let truth = bench.truth(page, 3);
            if got != truth {
                assert!(is_it(&got, truth), "seed {seed}");
                lies += 1;
            }
        }
        assert_eq!(told(bench.medium.counts()), lies, "seed {seed}");
        assert!((15..70).contains(&lies), "seed {seed}: {lies}");
    }
}

#[test]
fn a_flipped_bit_is_one_bit() {
    let faults = Faults {
        flipped: 0.2,
        ..Faults::default()
    };
    let is_it = |got: &[u8], truth: &[u8]| {
        let pairs = got.iter().zip(truth);
        pairs.map(|(a, b)| (a ^ b).count_ones()).sum::<u32>() == 1
    };
    reads(faults, |counts| counts.flipped, is_it);
}

#[test]
fn zeros_are_a_sector() {
    let faults = Faults {
        zeroed: 0.2,
        ..Faults::default()
    };
    let is_it = |got: &[u8], truth: &[u8]| {
        let sectors = got.chunks(512).zip(truth.chunks(512));
        let wrong: Vec<_> = sectors.filter(|(a, b)| a != b).collect();
        wrong.len() == 1 && wrong[0].0.iter().all(|&byte| byte == 0)
    };
    reads(faults, |counts| counts.zeroed, is_it);
}

#[test]
fn another_places_bytes_are_of_an_earlier_place() {
    let faults = Faults {
        misplaced: 0.2,
        ..Faults::default()
    };
    let is_it = |got: &[u8], truth: &[u8]| got[0] < truth[0] && got[PAGE as usize] == got[0] + 1;
    reads(faults, |counts| counts.misplaced, is_it);
}

#[test]
fn zeros_where_there_are_zeros_are_not_counted() {
    let faults = Faults {
        zeroed: 1.0,
        ..Faults::default()
    };
    let mut bench = Bench::new(faults, 1);
    bench.write(3, 1, 0);
    bench.read(3, 1);
    assert_eq!(bench.medium.counts(), FaultCounts::default());
}

/// Random writes and reads. Every byte is of the last write or, where that was lost, from
/// before it; and the counts say how many writes and reads that concerned.
fn writes(faults: Faults) -> FaultCounts {
    let mut all = FaultCounts::default();
    for seed in 0..20 {
        let mut bench = Bench::new(faults.clone(), seed);
        let mut rng = Rng::new(seed);
        let mut meant = bench.truth(0, PAGES).to_vec();
        let (mut lied, mut stale) = (0, 0);
        for step in 0..200u64 {
            let page = rng.below(PAGES - 2);
            if rng.chance(0.5) {
                let range = (page * PAGE) as usize..((page + 3) * PAGE) as usize;
                let byte = 50 + (step % 200) as u8;
                let before = bench.truth(page, 3).to_vec();
                bench.write(page, 3, byte);
                let after = bench.truth(page, 3);
                let made = after.iter().filter(|&&now| now == byte).count();
                let kept = after
                    .iter()
                    .zip(&before)
                    .all(|(now, old)| now == old || *now == byte);
                assert!(kept && made.is_multiple_of(512), "seed {seed}");
                lied += u64::from(made < after.len());
                meant[range].fill(byte);
            } else {
                let got = bench.read(page, 3);
                assert_eq!(got, bench.truth(page, 3), "reads are honest");
                stale += u64::from(got != meant[(page * PAGE) as usize..][..got.len()]);
            }
        }
        let counts = bench.medium.counts();
        assert_eq!(counts.lost + counts.torn, lied, "seed {seed}");
        assert_eq!(counts.stale, stale, "seed {seed}");
        all.lost += counts.lost;
        all.torn += counts.torn;
        all.stale += counts.stale;
    }
    all
}

#[test]
fn a_lost_write_leaves_the_bytes_from_before_it() {
    let all = writes(Faults {
        lost: 0.3,
        ..Faults::default()
    });
    assert!(
        all.lost > 400 && all.torn == 0 && all.stale > 100,
        "{all:?}"
    );
}

#[test]
fn a_torn_write_is_made_in_part() {
    let all = writes(Faults {
        torn: 0.3,
        ..Faults::default()
    });
    assert!(
        all.torn > 400 && all.lost == 0 && all.stale > 100,
        "{all:?}"
    );
}

#[test]
fn what_hangs_never_completes_and_the_rest_does() {
    let faults = Faults {
        hung: 1.0,
        ..Faults::default()
    };
    let mut made = 0;
    for seed in 0..20 {
        let mut bench = Bench::new(faults.clone(), seed);
        for id in 0..3u64 {
            let write = |id, region: &mut Region| {
                Op::write(id, 0, id * PAGE, region.lend(id * PAGE, PAGE as u32))
            };
            bench.memory.copy_in(id * PAGE, &[99; PAGE as usize]);
            assert_eq!(bench.run(write), None, "waiting for it ends, without it");
        }
        assert_eq!(bench.medium.counts().hung, 3);
        made += (0..3).filter(|&page| bench.truth(page, 1)[0] == 99).count();
        // Its buffers stay lent, and others go on.
        assert!(!bench.region.is_whole());
        bench.medium.set_faults(Faults::default());
        let done = bench.run(|id, region| Op::read(id, 0, 9 * PAGE, region.lend(9 * PAGE, 7)));
        assert_eq!(done.expect("an honest read").result, Ok(7));
    }
    assert!(
        (10..50).contains(&made),
        "some writes among them are made: {made}"
    );
}

#[test]
fn failures_are_counted_as_they_are_met() {
    let faults = Faults {
        short: 0.2,
        transient: 0.2,
        in_a_row: 1000,
        delay_polls: 3,
        reorder: true,
        broken: vec![(0, 0..1)],
        gone_after: Some(150),
        ..Faults::default()
    };
    let mut bench = Bench::new(faults, 5);
    let (mut done, mut sent) = (Vec::new(), 0);
    let mut kinds = [0u64; 3];
    let mut came = 0;
    while came < 200 {
        while sent < 200 && sent - came < DEPTH {
            let at = sent % (2 * DEPTH) * PAGE;
            let buffer = bench.region.lend(at, PAGE as u32);
            bench
                .medium
                .submit(Op::read(sent, 0, sent % PAGES * PAGE, buffer));
            sent += 1;
        }
        bench.medium.poll(true, &mut done);
        for one in done.drain(..) {
            came += 1;
            match &one.result {
                Ok(bytes) => kinds[0] += u64::from(u64::from(*bytes) < PAGE),
                Err(error) if error.is_worth_retrying() => kinds[1] += 1,
                Err(_) => kinds[2] += 1,
            }
            bench.region.take_back(one.buffer);
        }
    }
    let counts = bench.medium.counts();
    assert_eq!(
        [counts.short, counts.transient + counts.broken, counts.gone],
        kinds
    );
    assert_eq!((counts.gone, counts.broken), (50, 5));
    assert!(counts.delayed > 100 && counts.reordered > 20, "{counts:?}");
    let stats = bench.medium.stats();
    assert_eq!(
        (stats.reads.ops, stats.reads.errors),
        (200, kinds[1] + kinds[2])
    );
}
