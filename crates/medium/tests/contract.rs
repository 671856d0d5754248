//! What every medium owes the line, checked on each of them with one suite. It
//! knows a medium by the trait alone.

use delayline_line::{Completion, Medium, Read, Slot};
use delayline_medium::{
    Access, Backend, Dram, Drive, Faults, Faulty, FiberLoop, Flash, Link, LoopSpec, Memory,
    Options, Pace, Placed, RealClock, Rng, Simulated, Source, Stripe, VirtualClock, shares,
    stripes,
};
use delayline_plan::Extent;
use delayline_testing::cannot_run;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

const ALIGN: u64 = 4096;
/// Reads at once in these tests, and the longest of them.
const DEPTH: usize = 8;
const LONGEST: u64 = 16 * ALIGN;

/// The files of a model of two parts, neither of whole pages, and their bytes.
struct Model {
    _dir: tempfile::TempDir,
    paths: Vec<PathBuf>,
    bytes: Vec<Vec<u8>>,
}

impl Model {
    fn new() -> Self {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let mut model = Self {
            _dir: dir,
            paths: Vec::new(),
            bytes: Vec::new(),
        };
        for (part, len) in [(700 * 1024 + 1234), 3 * ALIGN as usize + 1]
            .into_iter()
            .enumerate()
        {
            let mut bytes = vec![0; len];
            Rng::new(part as u64).fill(&mut bytes);
            let path = model._dir.path().join(format!("part{part}"));
            std::fs::write(&path, &bytes).unwrap();
            std::fs::File::open(&path).unwrap().sync_all().unwrap();
            model.paths.push(path);
            model.bytes.push(bytes);
        }
        model
    }

    fn expect(&self, part: usize, offset: u64, len: u64) -> &[u8] {
        let bytes = &self.bytes[part];
        let start = bytes.len().min(offset as usize);
        &bytes[start..bytes.len().min((offset + len) as usize)]
    }
}

/// The media under test, each a way to make one over a model and a memory.
type Make = fn(&Model, &Arc<Memory>) -> Box<dyn Medium>;
const MEDIA: [(&str, Make); 16] = [
    ("flash, io_uring, direct", |model, memory| {
        flash(model, memory, Backend::Uring, Access::Direct, false)
    }),
    ("flash, io_uring, registered", |model, memory| {
        flash(model, memory, Backend::Uring, Access::Direct, true)
    }),
    ("flash, io_uring, buffered", |model, memory| {
        flash(model, memory, Backend::Uring, Access::Buffered, false)
    }),
    ("flash, threads, direct", |model, memory| {
        flash(model, memory, Backend::Threads, Access::Direct, false)
    }),
    ("flash, threads, buffered", |model, memory| {
        flash(model, memory, Backend::Threads, Access::Buffered, false)
    }),
    ("dram", |model, memory| Box::new(dram(model, memory))),
    ("faulty without faults", |model, memory| {
        Box::new(Faulty::new(dram(model, memory), Faults::default(), 1))
    }),
    ("faulty with delays", |model, memory| {
        let faults = Faults {
            delay_polls: 5,
            delay_ns: 1000,
            reorder: true,
            ..Faults::default()
        };
        let clock = VirtualClock::new();
        Box::new(Faulty::new(simulated(model, memory, &clock), faults, 2).in_time(clock))
    }),
    ("simulated", |model, memory| {
        Box::new(simulated(model, memory, &VirtualClock::new()))
    }),
    ("stripe of one", |model, memory| {
        stripe(model, memory, 1, ALIGN)
    }),
    ("stripe of three", |model, memory| {
        stripe(model, memory, 3, 2 * ALIGN)
    }),
    ("stripe of three with delays", |model, memory| {
        let faults = Faults {
            delay_polls: 5,
            reorder: true,
            ..Faults::default()
        };
        let drives = drives(model, memory, 3, ALIGN).into_iter().zip(0..);
        let shaky = drives.map(|(drive, seed)| Drive {
            medium: Faulty::new(drive.medium, faults.clone(), seed),
            name: drive.name,
        });
        Box::new(Stripe::new(shaky.collect(), ALIGN, DEPTH))
    }),
    ("fiber loop", |model, memory| {
        let clock = VirtualClock::new();
        let behind = simulated(model, memory, &clock);
        Box::new(fiber(model, memory, behind, clock, 0.0))
    }),
    ("fiber loop in real time", |model, memory| {
        Box::new(fiber(
            model,
            memory,
            dram(model, memory),
            RealClock::new(),
            0.0,
        ))
    }),
    ("fiber loop with decay", |model, memory| {
        let clock = VirtualClock::new();
        let behind = simulated(model, memory, &clock);
        Box::new(fiber(model, memory, behind, clock, 1e-5))
    }),
    ("fiber loop, cut", |model, memory| {
        let clock = VirtualClock::new();
        let behind = simulated(model, memory, &clock);
        let mut all = fiber(model, memory, behind, clock, 0.0);
        all.break_fiber();
        Box::new(all)
    }),
];

fn stripe(model: &Model, memory: &Arc<Memory>, count: u64, unit: u64) -> Box<dyn Medium> {
    Box::new(Stripe::new(drives(model, memory, count, unit), unit, DEPTH))
}

/// Drives that take fewer reads than the stripe does, with their shares of the model.
fn drives(model: &Model, memory: &Arc<Memory>, count: u64, unit: u64) -> Vec<Drive<Dram>> {
    let mut parts = vec![vec![Vec::new(); model.bytes.len()]; count as usize];
    for (part, bytes) in model.bytes.iter().enumerate() {
        let mut from = 0;
        for (drive, at, len) in stripes(unit, count, 0, bytes.len() as u64) {
            assert_eq!(
                parts[drive][part].len() as u64,
                at,
                "stripes follow each other"
            );
            parts[drive][part].extend(&bytes[from..from + len as usize]);
            from += len as usize;
        }
        for (drive, len) in shares(unit, count, bytes.len() as u64)
            .into_iter()
            .enumerate()
        {
            assert_eq!(parts[drive][part].len() as u64, len);
        }
    }
    let drive = |(number, parts)| Drive {
        medium: Dram::new(parts, memory.clone(), 3),
        name: format!("drive {number}"),
    };
    (0..).zip(parts).map(drive).collect()
}

/// A loop on which every page of the model is a piece, and every other one
/// the start of a longer piece too. It is filled from `behind`.
fn fiber<M: Medium, C: Pace>(
    model: &Model,
    memory: &Arc<Memory>,
    behind: M,
    clock: C,
    residual_ber: f64,
) -> FiberLoop<M, C> {
    // A lap of 5 ms holds the model many times over.
    let spec = LoopSpec {
        residual_ber,
        ..LoopSpec::new(1000.0, 1e10)
    };
    let mut placed = Vec::new();
    for (part, bytes) in model.bytes.iter().enumerate() {
        for offset in (0..bytes.len() as u64).step_by(ALIGN as usize) {
            for pages in [1, 3] {
                let extent = Extent {
                    part: part as u16,
                    offset,
                    len: pages * ALIGN,
                };
                if pages == 1 || offset % (2 * ALIGN) == 0 {
                    let phase_s = placed.len() as f64 * 1e-5 % spec.lap_s();
                    placed.push(Placed { extent, phase_s });
                }
            }
        }
    }
    let part_lens: Vec<u64> = model.bytes.iter().map(|bytes| bytes.len() as u64).collect();
    let measures = (LONGEST as u32, DEPTH);
    let mut all = FiberLoop::new(
        behind,
        clock,
        memory.clone(),
        spec,
        &placed,
        measures,
        &part_lens,
    )
    .unwrap();
    all.fill(0..memory.len(), |_, _| std::ops::ControlFlow::Continue(()))
        .unwrap();
    all
}

fn dram(model: &Model, memory: &Arc<Memory>) -> Dram {
    Dram::new(model.bytes.clone(), memory.clone(), DEPTH)
}

fn simulated(model: &Model, memory: &Arc<Memory>, clock: &VirtualClock) -> Simulated {
    let link = Link {
        rate_bytes_per_s: 3_000_000_000,
        latency_ns: 80_000,
        depth: DEPTH,
    };
    Simulated::new(link, Source::Dram(dram(model, memory)), clock.clone())
}

fn flash(
    model: &Model,
    memory: &Arc<Memory>,
    backend: Backend,
    access: Access,
    register: bool,
) -> Box<dyn Medium> {
    if backend == Backend::Uring && !has_uring() {
        cannot_run("io_uring is not available; threads stand in for it");
        return flash(model, memory, Backend::Threads, access, false);
    }
    // Half of the memory, so that some reads are registered and some are not.
    let register = register
        .then_some(0..memory.len() / 2 / ALIGN * ALIGN)
        .into_iter()
        .collect();
    let options = Options {
        depth: DEPTH,
        backend,
        access,
        register,
    };
    Box::new(Flash::open(&model.paths, memory.clone(), &options).unwrap())
}

fn has_uring() -> bool {
    let memory = Memory::new(ALIGN).unwrap();
    let options = Options {
        backend: Backend::Uring,
        ..Options::default()
    };
    Flash::open(&[std::env::current_exe().unwrap()], memory, &options).is_ok()
}

/// Runs `check` on every medium, with room for `DEPTH` reads of `LONGEST`.
fn on_all(check: impl Fn(&Model, &Memory, &mut dyn Medium)) {
    let model = Model::new();
    for (name, make) in MEDIA {
        eprintln!("medium: {name}");
        let memory = Memory::new(DEPTH as u64 * LONGEST).unwrap();
        let mut medium = make(&model, &memory);
        assert_eq!(medium.depth(), DEPTH);
        check(&model, &memory, &mut *medium);
    }
}

/// Checks one completion against the bytes it should have brought.
fn judge(model: &Model, memory: &Memory, asked: (u16, u64), done: &Completion) {
    let expect = model.expect(asked.0.into(), asked.1, done.slot.len().into());
    assert_eq!(
        done.result,
        Ok(expect.len() as u32),
        "part {}, offset {}",
        asked.0,
        asked.1
    );
    let mut got = vec![0; expect.len()];
    memory.copy_out(done.slot.at(), &mut got);
    assert!(
        got == expect,
        "wrong bytes of part {} at {}",
        asked.0,
        asked.1
    );
}

fn one(medium: &mut dyn Medium, part: u16, offset: u64, at: u64, len: u32) -> Completion {
    medium.submit(Read {
        id: 77,
        part,
        offset,
        slot: Slot::claim(at, len),
    });
    let mut done = Vec::new();
    medium.poll(true, &mut done);
    assert_eq!(done.len(), 1, "waiting for the only read");
    let done = done.pop().unwrap();
    assert_eq!((done.id, done.slot.at(), done.slot.len()), (77, at, len));
    done
}

#[test]
fn every_short_read_at_every_page_of_a_small_part() {
    on_all(|model, memory, medium| {
        // The part has three pages and a byte: up to its end, over it, past it.
        for page in 0..7 {
            for pages in 1..6 {
                let done = one(
                    medium,
                    1,
                    page * ALIGN,
                    page * ALIGN,
                    (pages * ALIGN) as u32,
                );
                judge(model, memory, (1, page * ALIGN), &done);
            }
        }
        let done = one(medium, 1, 1 << 40, 0, ALIGN as u32);
        assert_eq!(done.result, Ok(0));
    });
}

#[test]
fn random_reads_at_depth_each_complete_once_with_their_bytes() {
    on_all(|model, memory, medium| {
        let mut rng = Rng::new(42);
        let mut free: Vec<u64> = (0..DEPTH as u64).map(|index| index * LONGEST).collect();
        let mut asked = HashMap::new();
        let mut done = Vec::new();
        let (mut next, total) = (0, 400);
        while next < total || !asked.is_empty() {
            while next < total && !free.is_empty() && !rng.chance(0.1) {
                let at = free.swap_remove(rng.below(free.len() as u64) as usize);
                let len = (1 + rng.below(LONGEST / ALIGN)) * ALIGN;
                let part = u16::from(rng.chance(0.2));
                let offset =
                    rng.below(model.bytes[usize::from(part)].len() as u64 / ALIGN + 2) * ALIGN;
                // What stands there already must not pass for what was read.
                memory.copy_in(at, &vec![0xcc; len as usize]);
                medium.submit(Read {
                    id: next,
                    part,
                    offset,
                    slot: Slot::claim(at, len as u32),
                });
                assert!(asked.insert(next, (part, offset, at, len as u32)).is_none());
                next += 1;
            }
            let wait = rng.chance(0.5);
            medium.poll(wait, &mut done);
            assert!(
                !wait || !done.is_empty() || asked.is_empty(),
                "waited for nothing"
            );
            for done in done.drain(..) {
                let (part, offset, at, len) =
                    asked.remove(&done.id).expect("a read completes once");
                assert_eq!((done.slot.at(), done.slot.len()), (at, len), "its own slot");
                judge(model, memory, (part, offset), &done);
                free.push(at);
            }
        }
        medium.poll(false, &mut done);
        assert!(done.is_empty(), "nothing completes twice");
    });
}

#[test]
fn waiting_without_reads_under_way_returns_at_once() {
    on_all(|_, _, medium| {
        let mut done = Vec::new();
        medium.poll(true, &mut done);
        one(medium, 0, 0, 0, ALIGN as u32);
        medium.poll(true, &mut done);
        medium.poll(false, &mut done);
        assert!(done.is_empty());
    });
}

#[test]
fn an_unknown_part_is_an_error_of_that_read_alone() {
    on_all(|model, memory, medium| {
        let error = one(medium, 2, 0, 0, ALIGN as u32)
            .result
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("part 2") && error.contains("the model has 2"),
            "{error}"
        );
        for (id, part) in [(1, 0), (2, 9), (3, 1)] {
            let slot = Slot::claim(id * ALIGN, ALIGN as u32);
            medium.submit(Read {
                id,
                part,
                offset: 0,
                slot,
            });
        }
        let mut done = Vec::new();
        while done.len() < 3 {
            medium.poll(true, &mut done);
        }
        for done in &done {
            match done.id {
                2 => assert!(done.result.is_err()),
                id => judge(model, memory, ((id == 3).into(), 0), done),
            }
        }
    });
}

#[test]
fn more_reads_than_the_depth_are_the_callers_mistake() {
    on_all(|_, _, medium| {
        for id in 0..DEPTH as u64 {
            let slot = Slot::claim(id * LONGEST, ALIGN as u32);
            medium.submit(Read {
                id,
                part: 0,
                offset: 0,
                slot,
            });
        }
        let slot = Slot::claim(ALIGN, ALIGN as u32);
        let extra = Read {
            id: 99,
            part: 0,
            offset: 0,
            slot,
        };
        let caught =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| medium.submit(extra)));
        assert!(caught.is_err());
        let mut done = Vec::new();
        while done.len() < DEPTH {
            medium.poll(true, &mut done);
        }
        assert_eq!(done.len(), DEPTH, "the others complete all the same");
    });
}

#[test]
fn a_medium_dropped_with_reads_under_way_lets_go_of_the_memory() {
    let model = Model::new();
    for (name, make) in MEDIA {
        for polled in [false, true] {
            let memory = Memory::new(DEPTH as u64 * LONGEST).unwrap();
            let mut medium = make(&model, &memory);
            for id in 0..DEPTH as u64 {
                let slot = Slot::claim(id * LONGEST, LONGEST as u32);
                medium.submit(Read {
                    id,
                    part: 0,
                    offset: 0,
                    slot,
                });
            }
            if polled {
                medium.poll(false, &mut Vec::new());
            }
            drop(medium);
            // Nobody is left to write: what is put there now stays.
            assert_eq!(Arc::strong_count(&memory), 1, "{name}");
            let whole = vec![0x11; memory.len() as usize];
            memory.copy_in(0, &whole);
            let mut now = vec![0; whole.len()];
            memory.copy_out(0, &mut now);
            assert!(now == whole, "{name}");
        }
    }
}
