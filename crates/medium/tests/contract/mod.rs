//! The contract of a medium with the line, checked on all media with one suite: a test
//! program includes it and lists its media in `MEDIA`. It knows a medium by the trait
//! alone.

use super::MEDIA;

use delayline_line::{Buffer, Completion, Medium, MediumError, Op, Region, Tally, Verb};
use delayline_medium::{Dram, Link, Memory, Rng, Simulated, VirtualClock};
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

pub const ALIGN: u64 = 4096;
/// Reads at once in these tests, and the longest of them.
pub const DEPTH: usize = 8;
pub const LONGEST: u64 = 16 * ALIGN;

/// The files of a model of two parts, neither of whole pages, and their bytes.
pub struct Model {
    _dir: tempfile::TempDir,
    pub paths: Vec<PathBuf>,
    pub bytes: Vec<Vec<u8>>,
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

/// A way to make a medium over a model and a memory.
pub type Make = fn(&Model, &Arc<Memory>, &mut Region) -> Box<dyn Medium>;

pub fn dram(model: &Model, memory: &Arc<Memory>) -> Dram {
    Dram::new(model.bytes.clone(), memory.clone(), DEPTH)
}

pub fn simulated(model: &Model, memory: &Arc<Memory>, clock: &VirtualClock) -> Simulated {
    let link = Link {
        rate_bytes_per_s: 3_000_000_000,
        latency_ns: 80_000,
        depth: DEPTH,
        ..Link::default()
    };
    Simulated::new(link, dram(model, memory), clock.clone())
}

/// Runs `check` on every medium, over a model of its own, with room for `DEPTH`
/// operations of `LONGEST`.
fn on_all(check: impl Fn(&mut Model, (&Memory, &mut Region), &mut dyn Medium)) {
    for (name, make) in MEDIA {
        eprintln!("medium: {name}");
        let mut model = Model::new();
        let (memory, mut region) = Memory::new(DEPTH as u64 * LONGEST).unwrap();
        let mut medium = make(&model, &memory, &mut region);
        assert_eq!(medium.caps().depth, DEPTH);
        check(&mut model, (&memory, &mut region), &mut *medium);
        assert!(region.is_whole(), "every buffer came back");
    }
}

/// Checks one completion against the bytes it should have brought.
fn judge(model: &Model, memory: &Memory, asked: (u16, u64), done: &Completion) {
    let expect = model.expect(asked.0.into(), asked.1, done.buffer.len().into());
    assert_eq!(
        done.result,
        Ok(expect.len() as u32),
        "part {}, offset {}",
        asked.0,
        asked.1
    );
    let mut got = vec![0; expect.len()];
    memory.copy_out(done.buffer.at(), &mut got);
    assert!(
        got == expect,
        "wrong bytes of part {} at {}",
        asked.0,
        asked.1
    );
}

/// A read alone, to `at`.
fn one(
    medium: &mut dyn Medium,
    region: &mut Region,
    (part, offset): (u16, u64),
    (at, len): (u64, u32),
) -> Completion {
    medium.submit(Op::read(77, part, offset, region.lend(at, len)));
    let done = only(medium, 77);
    assert_eq!((done.buffer.at(), done.buffer.len()), (at, len));
    done
}

#[test]
fn every_short_read_at_every_page_of_a_small_part() {
    on_all(|model, (memory, region), medium| {
        // The part has three pages and a byte: up to its end, over it, past it.
        for page in 0..7 {
            for pages in 1..6 {
                let to = (page * ALIGN, (pages * ALIGN) as u32);
                let done = one(medium, region, (1, page * ALIGN), to);
                judge(model, memory, (1, page * ALIGN), &done);
                region.take_back(done.buffer);
            }
        }
        let done = one(medium, region, (1, 1 << 40), (0, ALIGN as u32));
        assert_eq!(done.result, Ok(0));
        region.take_back(done.buffer);
    });
}

#[test]
fn random_reads_at_depth_each_complete_once_with_their_bytes() {
    on_all(|model, (memory, region), medium| {
        let mut rng = Rng::new(delayline_testing::seed());
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
                // Bytes of an earlier read must not pass for what is read now.
                memory.copy_in(at, &vec![0xcc; len as usize]);
                let buffer = region.lend(at, len as u32);
                medium.submit(Op::read(next, part, offset, buffer));
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
                let buffer = &done.buffer;
                assert_eq!((buffer.at(), buffer.len()), (at, len), "its own buffer");
                judge(model, memory, (part, offset), &done);
                region.take_back(done.buffer);
                free.push(at);
            }
        }
        medium.poll(false, &mut done);
        assert!(done.is_empty(), "nothing completes twice");
    });
}

#[test]
fn waiting_without_reads_under_way_returns_at_once() {
    on_all(|_, (_, region), medium| {
        let mut done = Vec::new();
        medium.poll(true, &mut done);
        let only = one(medium, region, (0, 0), (0, ALIGN as u32));
        region.take_back(only.buffer);
        medium.poll(true, &mut done);
        medium.poll(false, &mut done);
        assert!(done.is_empty());
    });
}

#[test]
fn an_unknown_part_is_an_error_of_that_read_alone() {
    on_all(|model, (memory, region), medium| {
        let done = one(medium, region, (2, 0), (0, ALIGN as u32));
        let error = done.result.unwrap_err().to_string();
        region.take_back(done.buffer);
        assert!(
            error.contains("part 2") && error.contains("the model has 2"),
            "{error}"
        );
        for (id, part) in [(1, 0), (2, 9), (3, 1)] {
            let buffer = region.lend(id * ALIGN, ALIGN as u32);
            medium.submit(Op::read(id, part, 0, buffer));
        }
        let mut done = Vec::new();
        while done.len() < 3 {
            medium.poll(true, &mut done);
        }
        for done in done {
            match done.id {
                2 => assert!(done.result.is_err()),
                id => judge(model, memory, ((id == 3).into(), 0), &done),
            }
            region.take_back(done.buffer);
        }
    });
}

#[test]
fn an_operation_of_no_bytes_completes() {
    on_all(|_, _, medium| {
        for offset in [0, 2 * ALIGN] {
            medium.submit(Op::read(1, 0, offset, Buffer::empty()));
            assert_eq!(only(medium, 1).result, Ok(0));
        }
    });
}

#[test]
fn more_reads_than_the_depth_are_the_callers_mistake() {
    on_all(|_, (_, region), medium| {
        for id in 0..DEPTH as u64 {
            let buffer = region.lend(id * LONGEST, ALIGN as u32);
            medium.submit(Op::read(id, 0, 0, buffer));
        }
        let extra = Op::read(99, 0, 0, Buffer::empty());
        let caught =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| medium.submit(extra)));
        assert!(caught.is_err());
        let mut done = Vec::new();
        while done.len() < DEPTH {
            medium.poll(true, &mut done);
        }
        assert_eq!(done.len(), DEPTH, "the others complete all the same");
        done.into_iter()
            .for_each(|done| region.take_back(done.buffer));
    });
}

#[test]
fn a_medium_dropped_with_reads_under_way_lets_go_of_the_memory() {
    for (name, make) in MEDIA {
        for polled in [false, true] {
            let model = Model::new();
            let (memory, mut region) = Memory::new(DEPTH as u64 * LONGEST).unwrap();
            let mut medium = make(&model, &memory, &mut region);
            for id in 0..DEPTH as u64 {
                let buffer = region.lend(id * LONGEST, LONGEST as u32);
                medium.submit(match id % 3 {
                    1 => Op::write(id, 0, id * LONGEST, buffer),
                    2 if polled => {
                        region.take_back(buffer);
                        Op::sync(id, 0)
                    }
                    _ => Op::read(id, 0, 0, buffer),
                });
            }
            if polled {
                medium.poll(false, &mut Vec::new());
            }
            drop(medium);
            // Nothing writes there any more: what is put there now stays.
            assert_eq!(Arc::strong_count(&memory), 1, "{name}");
            let whole = vec![0x11; memory.len() as usize];
            memory.copy_in(0, &whole);
            let mut now = vec![0; whole.len()];
            memory.copy_out(0, &mut now);
            assert!(now == whole, "{name}");
        }
    }
}

/// What a random operation asked for.
struct Asked {
    verb: Verb,
    part: u16,
    offset: u64,
    at: u64,
    /// What a write writes.
    bytes: Vec<u8>,
}

/// Random reads, writes and syncs at depth, no two of them under way on the same
/// bytes if one is a write.
fn mix(model: &mut Model, (memory, region): (&Memory, &mut Region), medium: &mut dyn Medium) {
    let seed = delayline_testing::seed();
    let mut rng = Rng::new(seed);
    let before = medium.stats();
    let mut free: Vec<u64> = (0..DEPTH as u64).map(|index| index * LONGEST).collect();
    let mut asked: HashMap<u64, Asked> = HashMap::new();
    let (mut done, mut counts) = (Vec::new(), [(0, 0); 3]);
    let (mut next, total) = (0, 400);
    while next < total || !asked.is_empty() {
        while next < total && !free.is_empty() && !rng.chance(0.1) {
            let at = free.swap_remove(rng.below(free.len() as u64) as usize);
            let part = u16::from(rng.chance(0.2));
            let pages = model.bytes[usize::from(part)].len() as u64 / ALIGN;
            let offset = rng.below(pages) * ALIGN;
            let len = (1 + rng.below(LONGEST / ALIGN)) * ALIGN;
            let len = len.min(pages * ALIGN - offset);
            let verb = match rng.below(8) {
                0 => Verb::Sync,
                1..=3 => Verb::Write,
                _ => Verb::Read,
            };
            let clash = |other: &Asked| {
                let end = other.offset + LONGEST;
                (other.verb == Verb::Write || verb == Verb::Write)
                    && other.part == part
                    && offset < end
                    && other.offset < offset + LONGEST
            };
            if verb != Verb::Sync && asked.values().any(clash) {
                free.push(at);
                break;
            }
            let mut bytes = vec![0; len as usize];
            rng.fill(&mut bytes);
            memory.copy_in(at, &bytes);
            let op = match verb {
                Verb::Sync => Op::sync(next, part),
                Verb::Write => Op::write(next, part, offset, region.lend(at, len as u32)),
                Verb::Read => Op::read(next, part, offset, region.lend(at, len as u32)),
            };
            medium.submit(op);
            let one = Asked {
                verb,
                part,
                offset,
                at,
                bytes,
            };
            assert!(asked.insert(next, one).is_none());
            next += 1;
        }
        medium.poll(rng.chance(0.5), &mut done);
        for done in done.drain(..) {
            let one = asked.remove(&done.id).expect("an operation completes once");
            free.push(one.at);
            let (ops, bytes) = &mut counts[one.verb as usize];
            *ops += 1;
            *bytes += u64::from(*done.result.as_ref().unwrap());
            match one.verb {
                Verb::Sync => assert_eq!((done.result, done.buffer.len()), (Ok(0), 0)),
                Verb::Read => {
                    assert_eq!(done.buffer.at(), one.at, "its own buffer");
                    judge(model, memory, (one.part, one.offset), &done);
                    region.take_back(done.buffer);
                }
                Verb::Write => {
                    assert_eq!(done.buffer.at(), one.at, "its own buffer");
                    assert_eq!(done.result, Ok(one.bytes.len() as u32), "seed {seed}");
                    let into = &mut model.bytes[usize::from(one.part)][one.offset as usize..];
                    into[..one.bytes.len()].copy_from_slice(&one.bytes);
                    region.take_back(done.buffer);
                }
            }
        }
    }
    let after = medium.stats();
    let since = |now: Tally, then: Tally| (now.ops - then.ops, now.bytes - then.bytes);
    let [reads, writes, syncs] = counts;
    assert_eq!(since(after.reads, before.reads), reads);
    assert_eq!(since(after.writes, before.writes), writes);
    assert_eq!(since(after.syncs, before.syncs), syncs);
}

#[test]
fn what_is_written_is_read_and_counted() {
    on_all(|model, (memory, region), medium| {
        if medium.caps().writable {
            mix(model, (memory, region), medium);
            mix(model, (memory, region), medium);
        }
        // All of it, to the last byte.
        for part in 0..2u16 {
            for offset in (0..model.bytes[usize::from(part)].len() as u64).step_by(LONGEST as usize)
            {
                let done = one(medium, region, (part, offset), (0, LONGEST as u32));
                judge(model, memory, (part, offset), &done);
                region.take_back(done.buffer);
            }
        }
    });
}

#[test]
fn writes_that_cannot_be_are_refused_in_words_and_change_nothing() {
    on_all(|model, (memory, region), medium| {
        let writable = medium.caps().writable;
        let len = model.bytes[1].len() as u64;
        let end = len / ALIGN * ALIGN;
        // Over the end of a part, behind it, of a part that is not there.
        let cases = [
            (1, end, "within it"),
            (1, end + ALIGN, "within it"),
            (7, 0, "no such part"),
        ];
        let before = medium.stats().writes;
        for (part, offset, words) in cases {
            let buffer = region.lend(0, ALIGN as u32);
            medium.submit(Op::write(5, part, offset, buffer));
            let done = only(medium, 5);
            let error = done.result.unwrap_err();
            assert!(matches!(error, MediumError::Refused { .. }), "{error}");
            assert!(!error.is_worth_retrying());
            let said = error.to_string();
            if writable {
                assert!(said.contains(words), "{said}");
            }
            assert!(
                said.contains("refused") && said.contains("write of 4096 bytes"),
                "{said}"
            );
            region.take_back(done.buffer);
        }
        let after = medium.stats().writes;
        assert_eq!(after.errors - before.errors, cases.len() as u64);
        assert_eq!(after.bytes, before.bytes);
        if !writable {
            medium.submit(Op::write(6, 0, 0, region.lend(0, ALIGN as u32)));
            let done = only(medium, 6);
            let error = done.result.unwrap_err();
            let kinds = [
                io::ErrorKind::ReadOnlyFilesystem,
                io::ErrorKind::Unsupported,
            ];
            assert!(kinds.contains(&error.kind()), "{error}: {:?}", error.kind());
            region.take_back(done.buffer);
        }
        for (part, offset) in [(0, 0), (1, end)] {
            let done = one(medium, region, (part, offset), (0, LONGEST as u32));
            judge(model, memory, (part, offset), &done);
            region.take_back(done.buffer);
        }
    });
}

#[test]
fn a_sync_needs_no_write_but_a_part() {
    on_all(|_, _, medium| {
        medium.submit(Op::sync(1, 1));
        assert_eq!(only(medium, 1).result, Ok(0));
        medium.submit(Op::sync(2, 2));
        let error = only(medium, 2).result.unwrap_err();
        assert!(error.to_string().contains("no such part"), "{error}");
    });
}

#[test]
fn a_buffer_of_another_memory_is_the_callers_mistake() {
    on_all(|_, _, medium| {
        let (_other, mut region) = Memory::new(ALIGN).unwrap();
        let op = Op::read(1, 0, 0, region.lend(0, ALIGN as u32));
        let submit = std::panic::AssertUnwindSafe(|| medium.submit(op));
        assert!(std::panic::catch_unwind(submit).is_err());
    });
}

/// The completion of the only operation.
fn only(medium: &mut dyn Medium, id: u64) -> Completion {
    let mut done = Vec::new();
    medium.poll(true, &mut done);
    assert_eq!(done.len(), 1, "waiting for the only operation");
    let done = done.pop().unwrap();
    assert_eq!(done.id, id);
    done
}
