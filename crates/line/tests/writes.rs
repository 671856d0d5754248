//! Extents that change: random calls on random lines over a drive that keeps what is
//! written, delays, shortens and fails. Checks that extents are whole and not older than
//! what was written, and that no memory is used twice at a time.

mod common;

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use common::drive::Drive;
use common::{PAGE, Rng, Time};
use delayline_line::{Clock, Config, Lease, Line, LineError, LineSetup, Region};
use delayline_plan::{Extent, ExtentId, Mode, Use};
use proptest::prelude::*;

/// Parameters of a case; all else is drawn from the seed.
#[derive(Clone, Debug)]
struct Life {
    seed: u64,
    extents: usize,
    runs: usize,
    laps: usize,
    resident_percent: u64,
    /// Share of uses that change their extent.
    change_percent: u64,
    fault_percent: u64,
    /// Probability of each departure from the plan.
    stray_percent: u64,
    /// Pages of window beyond what the runs need.
    spare_pages: u64,
}

/// A line, and the expected version of each extent.
struct Player {
    line: Line<Drive, Rc<Time>>,
    time: Rc<Time>,
    memory: Rc<RefCell<Vec<u8>>>,
    disk: Rc<RefCell<Vec<u8>>>,
    unsynced: Rc<RefCell<Vec<Range<u64>>>>,
    extents: Vec<Extent>,
    version: Vec<u64>,
    rng: Rng,
    life: Life,
    failures: u64,
}

/// The bytes of a page of an extent in one of its versions.
fn stamp(extent: usize, version: u64, page: u64) -> [u8; 8] {
    let mixed = (extent as u64 + 1) << 40 ^ version << 8 ^ page;
    mixed.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes()
}

fn fill(bytes: &mut [u8], extent: usize, version: u64) {
    for (page, bytes) in bytes.chunks_exact_mut(PAGE as usize).enumerate() {
        let word = stamp(extent, version, page as u64);
        bytes
            .chunks_exact_mut(8)
            .for_each(|b| b.copy_from_slice(&word));
    }
}

fn is_filled(bytes: &[u8], extent: usize, version: u64) -> bool {
    bytes
        .chunks_exact(PAGE as usize)
        .enumerate()
        .all(|(page, bytes)| {
            let word = stamp(extent, version, page as u64);
            bytes.chunks_exact(8).all(|b| b == word)
        })
}

impl Player {
    fn new(life: Life) -> Self {
        let mut rng = Rng(life.seed);
        let pages: Vec<u64> = (0..life.extents).map(|_| 1 + rng.below(5)).collect();
        let longest = *pages.iter().max().unwrap();
        // Three extents of a run, one on demand, and the longest once more.
        let window = (5 * longest + life.spare_pages) * PAGE;
        let (mut extents, mut homes) = (Vec::new(), Vec::new());
        let (mut offset, mut end) = (0, window);
        for &pages in &pages {
            let len = pages * PAGE;
            extents.push(Extent {
                part: 0,
                offset,
                len,
            });
            let stays = rng.percent(life.resident_percent);
            homes.push(stays.then_some(end));
            end += if stays { len } else { 0 };
            offset += len;
        }
        let drive = Drive::new(end, offset, life.fault_percent, &mut rng);
        for (index, extent) in extents.iter().enumerate() {
            let at = extent.offset as usize..(extent.offset + extent.len) as usize;
            fill(&mut drive.disk.borrow_mut()[at], index, 0);
        }
        let (time, memory) = (drive.time.clone(), drive.memory.clone());
        let (disk, unsynced) = (drive.disk.clone(), drive.unsynced.clone());
        let setup = LineSetup {
            extents: extents.clone(),
            part_lens: vec![offset],
            homes,
            config: Config {
                window,
                read_len: (1 + rng.below(3)) as u32 * PAGE as u32,
                retries: rng.below(3) as u32,
            },
        };
        let line = Line::new(drive, time.clone(), Region::new(end), setup).unwrap();
        Self {
            version: vec![0; extents.len()],
            line,
            time,
            memory,
            disk,
            unsynced,
            extents,
            rng,
            life,
            failures: 0,
        }
    }

    /// Calls again after each error of the drive; no other error may occur.
    fn insist<T>(&mut self, mut call: impl FnMut(&mut Self) -> Result<T, LineError>) -> T {
        for _ in 0..10_000 {
            match call(self) {
                Ok(value) => return value,
                Err(LineError::Read { .. } | LineError::Write { .. } | LineError::Sync { .. }) => {
                    assert!(self.life.fault_percent > 0);
                    self.failures += 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
        panic!("it fails every time");
    }

    fn bytes(&self, lease: &Lease) -> Range<usize> {
        let len = self.extents[lease.extent().index()].len;
        lease.at() as usize..(lease.at() + len) as usize
    }

    /// Leases an extent, and checks its bytes if the use reads them.
    fn acquire(&mut self, wanted: Use) -> (Lease, Use) {
        let lease = self.insist(|player| player.line.acquire(wanted));
        let index = wanted.extent.index();
        let room = self.bytes(&lease);
        let memory = &mut self.memory.borrow_mut()[room];
        if wanted.mode.reads() {
            let version = self.version[index];
            assert!(
                is_filled(memory, index, version),
                "extent {index}: other bytes"
            );
        }
        (lease, wanted)
    }

    /// Changes a lease's bytes if the use does, and gives it back.
    fn give_back(&mut self, (lease, wanted): (Lease, Use)) {
        let index = wanted.extent.index();
        // An extent leased to be changed need not be.
        let changes = match wanted.mode {
            Mode::Read => false,
            Mode::Write => true,
            Mode::Modify => !self.stray(),
        };
        if !changes {
            return self.line.release(lease);
        }
        self.version[index] += 1;
        let room = self.bytes(&lease);
        fill(
            &mut self.memory.borrow_mut()[room],
            index,
            self.version[index],
        );
        self.line.write_back(lease);
    }

    fn stray(&mut self) -> bool {
        self.rng.percent(self.life.stray_percent)
    }

    fn plan(&mut self) -> Vec<Vec<Use>> {
        let mut runs = Vec::new();
        for _ in 0..self.life.runs {
            let mut run: Vec<Use> = Vec::new();
            for _ in 0..=self.rng.below(2) {
                let extent = ExtentId(self.rng.below(self.extents.len() as u64) as u32);
                if run.iter().all(|u| u.extent != extent) {
                    let mode = self.mode();
                    run.push(Use { extent, mode });
                }
            }
            runs.push(run);
        }
        runs
    }

    fn mode(&mut self) -> Mode {
        match self.rng.percent(self.life.change_percent) {
            false => Mode::Read,
            true if self.rng.percent(30) => Mode::Write,
            true => Mode::Modify,
        }
    }

    fn lap(&mut self, runs: &[Vec<Use>]) {
        self.line.enqueue(runs.iter().flatten().copied());
        for run in runs {
            if self.stray() {
                continue;
            }
            let leases: Vec<_> = run.iter().map(|&wanted| self.acquire(wanted)).collect();
            self.time.advance(self.rng.below(5000));
            self.insist(|player| player.line.pump());
            for lease in leases {
                self.give_back(lease);
            }
            if self.stray() {
                self.on_demand();
            }
            if self.stray() {
                self.insist(|player| player.line.settle());
                assert_eq!(self.line.dirty(), 0);
            }
            self.insist(|player| player.line.pump());
        }
    }

    /// Acquires an extent that is not enqueued, in any mode.
    fn on_demand(&mut self) {
        self.insist(|player| player.line.forget());
        let extent = ExtentId(self.rng.below(self.extents.len() as u64) as u32);
        let mode = self.mode();
        let lease = self.acquire(Use { extent, mode });
        self.give_back(lease);
    }

    /// Checks that everything that was changed is on the drive and synced.
    fn check_disk(&mut self) {
        self.insist(|player| player.line.sync());
        assert_eq!(self.line.dirty(), 0);
        assert_eq!(*self.unsynced.borrow(), []);
        for (index, extent) in self.extents.iter().enumerate() {
            let at = extent.offset as usize..(extent.offset + extent.len) as usize;
            let version = self.version[index];
            assert!(
                is_filled(&self.disk.borrow()[at], index, version),
                "extent {index}"
            );
        }
    }
}

fn live(life: Life) -> u64 {
    let mut player = Player::new(life);
    let mut runs = player.plan();
    for _ in 0..player.life.laps {
        // In reverse order in every other lap: what was changed last is needed first.
        player.lap(&runs);
        runs.reverse();
        if player.stray() {
            player.check_disk();
        }
    }
    player.check_disk();
    player.failures
}

fn lives() -> impl Strategy<Value = Life> {
    let percent = |max: u64| prop_oneof![1 => Just(0), 3 => 0..=max];
    (
        (any::<u64>(), 1..12usize, 1..16usize, 1..6usize),
        (
            percent(60),
            percent(100),
            percent(25),
            percent(20),
            0..12u64,
        ),
    )
        .prop_map(
            |((seed, extents, runs, laps), (a, b, c, d, spare_pages))| Life {
                seed,
                extents,
                runs,
                laps,
                resident_percent: a,
                change_percent: b,
                fault_percent: c,
                stray_percent: d,
                spare_pages,
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 3000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_is_changed_is_never_read_old_nor_lost(life in lives()) {
        live(life);
    }
}

/// A case without faults or departures in which every use changes its extent.
fn steady(resident_percent: u64) -> Player {
    Player::new(Life {
        seed: 7,
        extents: 12,
        runs: 12,
        laps: 1,
        resident_percent,
        change_percent: 100,
        fault_percent: 0,
        stray_percent: 0,
        spare_pages: 10,
    })
}

#[test]
fn a_lap_that_changes_everything_takes_what_its_bytes_take() {
    let mut player = steady(0);
    player.line.medium_mut().jitter_ns = 0;
    let modify = |id: usize| vec![Use::modify(ExtentId(id as u32))];
    let runs: Vec<_> = (0..12).map(modify).collect();
    let pages: u64 = player.extents.iter().map(|e| e.len / PAGE).sum();
    player.lap(&runs);
    let start_ns = player.time.now_ns();
    for _ in 0..10 {
        player.lap(&runs);
    }
    player.insist(|player| player.line.settle());
    let took_ns = player.time.now_ns() - start_ns;
    // Each page goes both ways, at 1 µs; the compute of each run takes up to 5 µs
    // and reads go on meanwhile.
    let bound_ns = 10 * 2 * pages * 1000;
    assert!(took_ns >= bound_ns, "{took_ns} < {bound_ns}");
    assert!(took_ns < bound_ns * 3 / 2, "{took_ns} against {bound_ns}");
}

#[test]
fn an_extent_that_is_leased_to_be_changed_is_not_given_out_again() {
    let mut player = steady(0);
    let lease = player.acquire(Use::modify(ExtentId(3)));
    let again = player.line.acquire(Use::read(ExtentId(3)));
    let extent = ExtentId(3);
    assert_eq!(again.unwrap_err(), LineError::BeingChanged { extent });
    player.give_back(lease);
    let lease = player.acquire(Use::read(extent));
    player.give_back(lease);
    player.check_disk();
}

#[test]
fn a_resident_extent_changed_under_two_leases_is_written_as_it_is_last() {
    let mut player = steady(100);
    let first = player.acquire(Use::modify(ExtentId(1)));
    let second = player.acquire(Use::modify(ExtentId(1)));
    player.give_back(first);
    player.give_back(second);
    player.check_disk();
}
