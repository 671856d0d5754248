//! The line over faulty media, in virtual time, from fresh printed seeds: over
//! media that fail and lose power no byte is wrong; a lie that the line cannot see is
//! counted, and harms no more than one extent; an operation that never completes is an
//! error and not an endless wait.

use delayline_line::{Clock, Config, Lease, Line, LineError, LineSetup};
use delayline_medium::{Crash, Faults, Faulty, Memory, Rng, VirtualClock};
use delayline_plan::{ALIGN, Extent, ExtentId, Mode, Use};
use std::ops::Range;
use std::sync::Arc;

const SECTOR: u64 = 512;
const EXTENTS: u64 = 7;
const LAPS: u64 = 4;
/// Maximum time for which an operation is held back.
const DELAY_NS: u64 = 50_000;

type Adversary = Faulty<Crash>;

/// A line, the version that each extent should hold, and the one that a sync has settled.
struct Life {
    line: Line<Adversary, VirtualClock>,
    clock: VirtualClock,
    memory: Arc<Memory>,
    extents: Vec<Extent>,
    version: Vec<u64>,
    settled: Vec<u64>,
    window: u64,
    rng: Rng,
    /// Extents that came with other bytes than were written.
    wrong: u64,
}

/// What a sector of a part holds after its extent was changed `version` times.
fn sector(number: u64, version: u64) -> Vec<u8> {
    let word = ((number + 1) << 20 | version).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    word.to_le_bytes().repeat(SECTOR as usize / 8)
}

fn bytes(extent: &Extent, version: u64) -> Vec<u8> {
    let sectors = extent.offset / SECTOR..(extent.offset + extent.len) / SECTOR;
    sectors.flat_map(|number| sector(number, version)).collect()
}

impl Life {
    fn new(faults: Faults, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mut extents: Vec<Extent> = Vec::new();
        for _ in 0..EXTENTS {
            let offset = extents.last().map_or(0, |last| last.offset + last.len);
            let len = (1 + rng.below(4)) * ALIGN;
            let part = 0;
            extents.push(Extent { part, offset, len });
        }
        let part: Vec<u8> = extents.iter().flat_map(|extent| bytes(extent, 0)).collect();
        let len = part.len() as u64;
        // A run has two extents at most, and the ring may lose one at its end.
        let window = (3 * 4 + rng.below(8)) * ALIGN;
        let (memory, region) = Memory::new(window).unwrap();
        let clock = VirtualClock::new();
        let depth = 1 + rng.below(8) as usize;
        let crash = Crash::new(vec![part], memory.clone(), depth, SECTOR as u32);
        let faulty = Faulty::new(crash, faults, seed)
            .in_time(clock.clone())
            .spoiling(memory.clone());
        let setup = LineSetup {
            homes: vec![None; extents.len()],
            extents: extents.clone(),
            part_lens: vec![len],
            config: Config {
                window,
                read_len: (1 + rng.below(3) as u32) * ALIGN as u32,
                retries: rng.below(3) as u32,
            },
        };
        Self {
            line: Line::new(faulty, clock.clone(), region, setup).unwrap(),
            clock,
            memory,
            version: vec![0; extents.len()],
            settled: vec![0; extents.len()],
            extents,
            window,
            rng,
            wrong: 0,
        }
    }

    /// Tries again what failed; an operation that never completes is an error.
    fn insist<T>(
        &mut self,
        mut call: impl FnMut(&mut Self) -> Result<T, LineError>,
    ) -> Result<T, LineError> {
        for _ in 0..10_000 {
            match call(self) {
                Err(LineError::Read { .. } | LineError::Write { .. } | LineError::Sync { .. }) => {}
                Err(error @ LineError::Lost { .. }) => {
                    assert!(self.line.medium().counts().hung > 0, "{error}");
                    return Err(error);
                }
                outcome => return Ok(outcome.unwrap()),
            }
        }
        panic!("it fails for ever")
    }

    fn held(&self, lease: &Lease) -> Vec<u8> {
        let extent = self.extents[lease.extent().index()];
        assert!(lease.at() + extent.len <= self.window);
        let mut held = vec![0; extent.len as usize];
        self.memory.copy_out(lease.at(), &mut held);
        held
    }

    fn acquire(&mut self, wanted: Use) -> Result<(Lease, Use, Vec<u8>), LineError> {
        let lease = self.insist(|life| life.line.acquire(wanted))?;
        let index = wanted.extent.index();
        let held = self.held(&lease);
        let right = bytes(&self.extents[index], self.version[index]);
        self.wrong += u64::from(wanted.mode.reads() && held != right);
        assert!(self.line.dirty() <= self.window);
        Ok((lease, wanted, held))
    }

    fn give_back(&mut self, (lease, wanted, held): (Lease, Use, Vec<u8>)) {
        assert_eq!(self.held(&lease), held, "a lease that was overwritten");
        if wanted.mode == Mode::Read {
            return self.line.release(lease);
        }
        let index = wanted.extent.index();
        self.version[index] += 1;
        let changed = bytes(&self.extents[index], self.version[index]);
        self.memory.copy_in(lease.at(), &changed);
        self.line.write_back(lease);
    }

    fn runs(&mut self) -> Vec<Vec<Use>> {
        let mut run = || {
            let first = self.rng.below(EXTENTS);
            let both = 1 + self.rng.below(2);
            let mut of = |n| {
                let extent = ExtentId(((first + n) % EXTENTS) as u32);
                let mode = [Mode::Read, Mode::Read, Mode::Modify, Mode::Write];
                let mode = mode[self.rng.below(4) as usize];
                Use { extent, mode }
            };
            (0..both).map(&mut of).collect()
        };
        (0..8).map(|_| run()).collect()
    }

    fn lap(&mut self, runs: &[Vec<Use>]) -> Result<(), LineError> {
        self.line.enqueue(runs.iter().flatten().copied());
        for run in runs {
            let mut leases = Vec::new();
            for &wanted in run {
                leases.push(self.acquire(wanted)?);
            }
            self.clock.advance_ns(self.rng.below(DELAY_NS));
            self.line.pump()?;
            for lease in leases {
                self.give_back(lease);
            }
            self.line.pump()?;
        }
        Ok(())
    }

    /// Syncs, and notes what is settled then.
    fn sync(&mut self) -> Result<(), LineError> {
        self.insist(|life| life.line.sync())?;
        assert_eq!(self.line.dirty(), 0);
        self.settled.copy_from_slice(&self.version);
        Ok(())
    }

    /// Whatever a power cut at this moment leaves, each sector is as it was settled or
    /// as it was made since.
    fn check_survivor(&mut self) {
        let found = self.line.medium().inner().survivor_by_chance(&mut self.rng);
        for (index, extent) in self.extents.iter().enumerate() {
            let versions = self.settled[index]..=self.version[index];
            for number in extent.offset / SECTOR..(extent.offset + extent.len) / SECTOR {
                let at = (number * SECTOR) as usize;
                let is = &found[0][at..at + SECTOR as usize];
                assert!(
                    versions
                        .clone()
                        .any(|version| sector(number, version) == is),
                    "sector {number} is of no version in {versions:?}"
                );
            }
        }
    }

    /// Some laps; after each the power could fail, and sometimes a sync settles all.
    fn live(&mut self, sound: bool) -> Result<(), LineError> {
        for _ in 0..LAPS {
            let runs = self.runs();
            self.lap(&runs)?;
            if sound {
                self.check_survivor();
            }
            if self.rng.chance(0.5) {
                self.sync()?;
            }
        }
        self.sync()?;
        if sound {
            self.check_survivor();
            assert_eq!(self.settled, self.version);
        }
        // While it waits an operation is under way, and each is held back by DELAY_NS at most.
        let counters = self.line.counters();
        let operations = counters.reads + counters.writes + counters.syncs;
        assert!(counters.stall_ns <= operations * DELAY_NS);
        assert!(self.clock.now_ns() >= counters.stall_ns);
        Ok(())
    }
}

/// Consecutive seeds from a fresh one on.
fn seeds(count: u64) -> Range<u64> {
    let first = delayline_testing::seed();
    first..first + count
}

/// Everything that a sound medium may do.
fn sound_faults() -> Faults {
    Faults {
        delay_polls: 3,
        delay_ns: DELAY_NS,
        reorder: true,
        short: 0.1,
        transient: 0.1,
        in_a_row: 4,
        ..Faults::default()
    }
}

#[test]
fn over_media_that_fail_no_byte_is_wrong_and_what_is_settled_survives() {
    let mut met = 0;
    for seed in seeds(200) {
        let mut life = Life::new(sound_faults(), seed);
        life.live(true).unwrap();
        assert_eq!(life.wrong, 0, "seed {seed}");
        let counts = life.line.medium().counts();
        met += counts.short.min(counts.transient);
    }
    assert!(met > 500, "only {met} faults were met");
}

#[test]
fn a_lie_that_cannot_be_seen_is_counted_and_harms_one_extent_at_most() {
    type Lie = fn(&mut Faults);
    let lies: [Lie; 5] = [
        |faults| faults.flipped = 0.2,
        |faults| faults.zeroed = 0.2,
        |faults| faults.misplaced = 0.2,
        |faults| faults.lost = 0.2,
        |faults| faults.torn = 0.2,
    ];
    for lie in lies {
        let (mut wrong, mut told) = (0, 0);
        for seed in seeds(30) {
            let mut faults = sound_faults();
            lie(&mut faults);
            let mut life = Life::new(faults, seed);
            life.live(false).unwrap();
            let counts = life.line.medium().counts();
            let lies = counts.flipped + counts.zeroed + counts.misplaced + counts.stale;
            assert!(
                life.wrong <= lies,
                "seed {seed}: {} wrong of {lies} lies",
                life.wrong
            );
            wrong += life.wrong;
            told += lies;
        }
        assert!(wrong > 0 && told > 0, "{wrong} wrong of {told}");
    }
}

#[test]
fn what_never_completes_is_an_error_and_not_a_wait_without_end() {
    let mut lost = 0;
    for seed in seeds(200) {
        let hung = 0.01;
        let mut life = Life::new(
            Faults {
                hung,
                ..sound_faults()
            },
            seed,
        );
        match life.live(false) {
            Ok(()) => {}
            Err(LineError::Lost { operations }) => {
                assert!(operations as u64 <= life.line.medium().counts().hung);
                lost += 1;
            }
            Err(error) => panic!("seed {seed}: {error}"),
        }
        assert_eq!(life.wrong, 0, "seed {seed}");
    }
    assert!(lost > 0);
}
