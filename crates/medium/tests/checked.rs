//! That no wrong byte is passed on from a medium that lies, checked against a seal or
//! against the first read. `SEED=n` sets the seed, `LIES=n` the number of lies.

use std::cell::Cell;
use std::hash::Hasher;
use std::rc::Rc;
use std::sync::Arc;

use delayline_line::{Medium, Op, Region};
use delayline_medium::{Checked, Checks, Dram, Faults, Faulty, Memory, Rng, Team};

const PAGE: u64 = 4096;
const PAGES: u64 = 256;
/// The last page of the part is not whole.
const LEN: u64 = PAGES * PAGE - 1000;
const RETRIES: u32 = 3;

/// Stands for the hash of a seal; any that tells blocks apart does.
fn hash(block: &[u8]) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write(block);
    hasher.finish()
}

/// Threads that are made for each work.
struct Threads {
    count: usize,
    works: Cell<u64>,
}

impl Team for Threads {
    fn all(&self, work: &(dyn Fn(usize, usize) + Sync)) {
        self.works.set(self.works.get() + 1);
        let count = self.count;
        std::thread::scope(|scope| {
            for thread in 1..count {
                scope.spawn(move || work(thread, count));
            }
            work(0, count);
        });
    }
}

struct Bench {
    team: Rc<Threads>,
    medium: Checked<Faulty<Dram>>,
    memory: Arc<Memory>,
    region: Region,
    truth: Vec<u8>,
    next: u64,
}

impl Bench {
    /// The first half is read in wholes of four pages, the rest in any pieces.
    fn new(rng: &mut Rng, sealed: bool) -> Self {
        let truth: Vec<u8> = (0..LEN).map(|_| rng.next_u64() as u8).collect();
        let (memory, region) = Memory::new(PAGES * PAGE).unwrap();
        let dram = Dram::new(vec![truth.clone()], memory.clone(), 4);
        let mut checks = Checks::new(vec![LEN], hash);
        for page in (0..PAGES / 2).step_by(4) {
            checks.add_whole(0, page * PAGE, 4 * PAGE as u32);
        }
        // In two ranges, so that a read can cross from one into the other.
        let (middle, end) = (PAGES * 3 / 4 * PAGE, PAGES * PAGE);
        checks.add_scattered([(0, middle..end)]);
        checks.add_scattered([
            (0, PAGES / 2 * PAGE..middle - PAGE),
            (0, middle - PAGE..middle),
        ]);
        if sealed {
            let blocks: Vec<u64> = truth.chunks(PAGE as usize).map(hash).collect();
            let know = checks.know(0, |range, out| {
                out.extend(&blocks[range.start as usize..range.end as usize]);
                Ok::<(), ()>(())
            });
            know.unwrap();
        }
        let faulty = Faulty::new(dram, Faults::default(), rng.next_u64()).spoiling(memory.clone());
        let team = Rc::new(Threads {
            count: 2 + rng.below(3) as usize,
            works: Cell::default(),
        });
        let medium = Checked::new(faulty, memory.clone(), Some(checks));
        Self {
            medium: medium.with_team(Some(team.clone())),
            team,
            memory,
            region,
            truth,
            next: 0,
        }
    }

    /// Reads as the line does: what failed or was short is tried again, a limited number of
    /// times. Returns whether all has come.
    fn read(&mut self, page: u64, pages: u64) -> bool {
        let (mut from, end, mut attempts) = (page * PAGE, (page + pages) * PAGE, 0);
        loop {
            let len = (end - from) as u32;
            let buffer = self.region.lend(from - page * PAGE, len);
            self.next += 1;
            self.medium.submit(Op::read(self.next, 0, from, buffer));
            let mut done = Vec::new();
            self.medium.poll(true, &mut done);
            let done = done.pop().expect("a read that completes");
            self.region.take_back(done.buffer);
            let expected = (LEN - from).min(u64::from(len)) as u32;
            match done.result {
                Ok(got) if got >= expected => break,
                Ok(got) => from += u64::from(got) / PAGE * PAGE,
                Err(_) => {}
            }
            attempts += 1;
            if attempts > RETRIES {
                return false;
            }
        }
        let truth = &self.truth[(page * PAGE) as usize..end.min(LEN) as usize];
        let mut got = vec![0; truth.len()];
        self.memory.copy_out(0, &mut got);
        assert!(
            got == truth,
            "wrong bytes of page {page} and {pages} from it"
        );
        true
    }

    fn read_any(&mut self, rng: &mut Rng) -> bool {
        match rng.below(2) {
            0 => self.read(rng.below(PAGES / 8) * 4, 4),
            _ => {
                let page = PAGES / 2 + rng.below(PAGES / 2);
                // Now and then one that the team shares.
                let most = if rng.below(64) == 0 { PAGES } else { 6 };
                self.read(page, 1 + rng.below(PAGES - page).min(most))
            }
        }
    }
}

#[test]
fn no_lie_is_believed() {
    let lies = std::env::var("LIES").map_or(100_000, |n| n.parse().expect("a whole number"));
    let mut rng = Rng::new(delayline_testing::seed());
    for sealed in [true, false] {
        let mut bench = Bench::new(&mut rng, sealed);
        if !sealed {
            // The first reading is trusted.
            (0..PAGES / 8).for_each(|whole| assert!(bench.read(4 * whole, 4)));
            (PAGES / 2..PAGES).for_each(|page| assert!(bench.read(page, 1)));
        }
        bench.medium.inner_mut().set_faults(Faults {
            short: 0.2,
            transient: 0.1,
            flipped: 0.1,
            zeroed: 0.1,
            misplaced: 0.1,
            ..Faults::default()
        });
        let (mut good, mut told) = (0u64, 0);
        while told < lies {
            good += u64::from(bench.read_any(&mut rng));
            let counts = bench.medium.inner_mut().counts();
            told = counts.flipped + counts.zeroed + counts.misplaced;
        }
        let counts = bench.medium.counts();
        println!(
            "sealed {sealed}: {told} lies, {} found at once, {good} reads whole",
            counts.wrong
        );
        assert!(good > told / 2 && counts.wrong > told / 4);
        let shared = bench.team.works.get();
        assert!(shared > told / 1000, "{shared} reads were shared");
        bench.medium.inner_mut().set_faults(Faults::default());
        (0..1000).for_each(|_| assert!(bench.read_any(&mut rng), "the drive is well again"));
    }
}

#[test]
fn a_seal_of_other_bytes_is_told() {
    let mut rng = Rng::new(delayline_testing::seed());
    let mut bench = Bench::new(&mut rng, true);
    let page = rng.below(PAGES);
    // The last page is shorter.
    bench
        .memory
        .copy_in(0, &[bench.truth[(page * PAGE) as usize] ^ 1]);
    let write = Op::write(u64::MAX, 0, page * PAGE, bench.region.lend(0, 1));
    bench.medium.submit(write);
    let mut done = Vec::new();
    bench.medium.poll(true, &mut done);
    bench.region.take_back(done.pop().unwrap().buffer);
    let whole = if page < PAGES / 2 { page / 4 * 4 } else { page };
    assert!(!bench.read(whole, if page < PAGES / 2 { 4 } else { 1 }));
    let mut events = Vec::new();
    bench.medium.events(&mut events);
    assert!(events[0].message.contains("read again"), "{events:?}");
}
