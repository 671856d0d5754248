//! Long random sequences of calls on random lines: with faults, skips, extents on demand
//! and fetches, in a window that is just large enough.

mod common;

use common::{Bench, Manner, PAGE, Rng};
use delayline_line::{Config, Lease, LineError, PartSpan};
use delayline_plan::ExtentId;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// Parameters of a case; all else is drawn from the seed.
#[derive(Clone, Debug)]
struct Life {
    seed: u64,
    extents: usize,
    runs: usize,
    laps: usize,
    longest_pages: u64,
    resident_percent: u64,
    fault_percent: u64,
    /// Probability of each departure from the plan.
    stray_percent: u64,
    spare_window_pages: u64,
}

const FETCH_PAGES: u64 = 8;

struct Player {
    rng: Rng,
    life: Life,
    bench: Bench,
    runs: Vec<Vec<ExtentId>>,
    leases: Vec<Lease>,
}

impl Player {
    fn new(life: Life) -> Self {
        let mut rng = Rng(life.seed);
        let pages: Vec<u64> = (0..life.extents)
            .map(|_| 1 + rng.below(life.longest_pages))
            .collect();
        let resident: Vec<usize> = (0..life.extents)
            .filter(|_| rng.percent(life.resident_percent))
            .collect();
        // Each run needs some extents, each once; the last extents are only acquired
        // on demand.
        let planned = life.extents as u64 * 3 / 4 + 1;
        let runs: Vec<Vec<ExtentId>> = (0..life.runs)
            .map(|_| {
                let mut needs: Vec<ExtentId> = Vec::new();
                for _ in 0..=rng.below(3) {
                    let id = ExtentId(rng.below(planned.min(life.extents as u64)) as u32);
                    if !needs.contains(&id) {
                        needs.push(id);
                    }
                }
                needs
            })
            .collect();
        // The guarantee of `Config::window`: all leases of a run and one on demand, and
        // the longest of them once more.
        let streamed = |id: &ExtentId| match resident.contains(&id.index()) {
            true => 0,
            false => pages[id.index()],
        };
        let run_pages = |run: &Vec<ExtentId>| run.iter().map(streamed).sum::<u64>();
        let largest_run = runs.iter().map(run_pages).max().unwrap();
        let window = largest_run + 2 * pages.iter().max().unwrap() + life.spare_window_pages;
        let config = Config {
            window: window * PAGE,
            read_len: (1 + rng.below(3)) as u32 * PAGE as u32,
            retries: rng.below(4) as u32,
        };
        let manner = Manner {
            depth: 1 + rng.below(8) as usize,
            latency_ns: rng.below(20_000),
            jitter_ns: rng.below(50_000),
            short_percent: life.fault_percent,
            error_percent: life.fault_percent,
            ..Manner::default()
        };
        let cut = rng.below(PAGE);
        let seed = rng.below(u64::MAX);
        Self {
            bench: Bench::new(&pages, &resident, cut, config, manner, seed, FETCH_PAGES),
            rng,
            life,
            runs,
            leases: Vec::new(),
        }
    }

    fn stray(&mut self) -> bool {
        self.rng.percent(self.life.stray_percent)
    }

    /// Acquires an extent, again after each fault.
    fn acquire(&mut self, id: ExtentId) {
        for _ in 0..1000 {
            match self.bench.acquire(id) {
                Ok(lease) => return self.leases.push(lease),
                Err(LineError::Read { extent, .. }) => {
                    assert_eq!(extent, id);
                    assert!(self.bench.line.medium().faults > 0);
                }
                Err(error) => panic!("{error}"),
            }
        }
        panic!("extent {} fails every time", id.0);
    }

    /// Fetches a few single pages, and checks them.
    fn fetch(&mut self) {
        let base = self.bench.spare_at();
        let spans: Vec<PartSpan> = (0..self.rng.below(FETCH_PAGES + 1))
            .map(|n| {
                let id = self.rng.below(self.bench.extents.len() as u64) as usize;
                let extent = self.bench.extents[id];
                PartSpan {
                    part: extent.part,
                    offset: extent.offset,
                    len: PAGE,
                    at: base + n * PAGE,
                }
            })
            .collect();
        for _ in 0..1000 {
            let guessed = self.stray();
            let ticket = match guessed {
                true => self.bench.line.guess(&spans),
                false => self.bench.line.fetch(&spans),
            };
            if self.stray() {
                self.bench.line.pump().unwrap();
            }
            if guessed && self.stray() {
                self.bench.line.cancel(&ticket);
                // Until its reads are over, its memory cannot be used.
                let _ = self.bench.line.fetched(ticket);
                continue;
            }
            if guessed {
                self.bench.line.promote(&ticket);
            }
            match self.bench.line.fetched(ticket) {
                Ok(()) => {
                    for span in spans {
                        let medium = self.bench.line.medium();
                        assert!(medium.holds(span.part, span.offset, span.len, span.at));
                    }
                    return;
                }
                Err(LineError::Fetch { .. }) => assert!(self.bench.line.medium().faults > 0),
                Err(error) => panic!("{error}"),
            }
        }
        panic!("a fetch fails every time");
    }

    fn run(&mut self, needs: &[ExtentId]) {
        let on_demand = self.rng.below(needs.len() as u64 + 1) as usize;
        let strays = self.stray();
        for (n, &id) in needs.iter().enumerate() {
            if strays && n == on_demand {
                let unplanned = ExtentId(self.bench.extents.len() as u32 - 1);
                if !self.runs.iter().flatten().any(|&id| id == unplanned) {
                    self.acquire(unplanned);
                }
            }
            self.acquire(id);
            if self.stray() {
                self.fetch();
            }
        }
        let compute_ns = self.rng.below(30_000);
        self.bench.time.advance(compute_ns);
        if self.stray() {
            self.bench.line.pump().unwrap();
        }
        for lease in &self.leases {
            self.bench.verify(lease);
        }
        while !self.leases.is_empty() {
            let n = self.rng.below(self.leases.len() as u64) as usize;
            let lease = self.leases.swap_remove(n);
            self.bench.release(lease);
        }
        self.bench.line.pump().unwrap();
    }

    fn enqueue(&mut self) {
        let lap = self.runs.iter().flatten().copied();
        self.bench.line.enqueue(lap);
    }

    fn live(&mut self) {
        self.enqueue();
        for lap in 0..self.life.laps {
            // The next lap is enqueued while this one runs; the last has none.
            let enqueue_at = self.rng.below(self.runs.len() as u64) as usize;
            for n in 0..self.runs.len() {
                if n == enqueue_at && lap + 1 < self.life.laps {
                    self.enqueue();
                }
                let needs = self.runs[n].clone();
                if !self.stray() {
                    self.run(&needs);
                }
            }
            if self.stray() {
                self.bench.line.forget().unwrap();
                assert_eq!(self.bench.line.medium().in_flight(), 0);
                assert_eq!(self.bench.line.ahead(), 0);
                self.enqueue();
            }
        }
        self.bench.line.forget().unwrap();
        assert_eq!(self.bench.line.medium().in_flight(), 0);
    }

    /// Bytes of the file that one lap streams.
    fn lap_bytes(&self) -> u64 {
        let uses = self.runs.iter().flatten();
        uses.filter(|id| self.bench.homes[id.index()].is_none())
            .map(|&id| self.bench.bytes(id))
            .sum()
    }

    /// Bytes of the file in the resident extents that are used.
    fn resident_bytes(&self) -> u64 {
        let mut used: Vec<ExtentId> = self.runs.iter().flatten().copied().collect();
        used.sort_unstable();
        used.dedup();
        used.retain(|id| self.bench.homes[id.index()].is_some());
        used.into_iter().map(|id| self.bench.bytes(id)).sum()
    }
}

fn lives(stray_percent: u64, fault_percent: u64) -> impl Strategy<Value = Life> {
    (
        any::<u64>(),
        1..16_usize,
        1..8_usize,
        1..6_usize,
        1..6_u64,
        prop_oneof![Just(0_u64), Just(40), Just(90)],
        0..20_u64,
    )
        .prop_map(
            move |(seed, extents, runs, laps, longest_pages, resident_percent, spare)| Life {
                seed,
                extents,
                runs,
                laps,
                longest_pages,
                resident_percent,
                fault_percent,
                stray_percent,
                spare_window_pages: spare,
            },
        )
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(delayline_testing::seed()),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn by_the_plan_every_byte_is_read_once_a_lap(life in lives(0, 0)) {
        let laps = life.laps as u64;
        let mut player = Player::new(life);
        player.live();
        let counters = player.bench.line.counters();
        let expect = player.lap_bytes() * laps + player.resident_bytes();
        prop_assert_eq!(counters.bytes_read, expect);
        prop_assert_eq!(counters.bytes_wasted, 0);
        prop_assert_eq!((counters.short_reads, counters.retried), (0, 0));
    }

    #[test]
    fn off_the_plan_nothing_is_early_or_overwritten(life in lives(20, 0)) {
        let mut player = Player::new(life);
        player.live();
        prop_assert_eq!(player.bench.line.counters().retried, 0);
    }

    #[test]
    fn with_faults_nothing_is_early_or_overwritten(life in lives(15, 15)) {
        let mut player = Player::new(life);
        player.live();
        let faults = player.bench.line.medium().faults;
        let counters = player.bench.line.counters();
        prop_assert!(counters.retried <= faults);
        prop_assert!(counters.short_reads <= faults);
    }
}
