//! The line over a medium that fails: which call returns the error, and that the line
//! stays usable.

mod common;

use common::{Bench, Manner, PAGE};
use delayline_line::{
    Caps, Completion, Config, Line, LineError, LineSetup, Medium, MediumError, MediumEvent, Op,
    PartSpan, Region, Stats,
};
use delayline_plan::{Extent, ExtentId};

fn bench(resident: &[usize], retries: u32) -> Bench {
    let config = Config {
        window: 8 * PAGE,
        read_len: PAGE as u32,
        retries,
    };
    Bench::new(&[2, 2, 2], resident, 0, config, Manner::default(), 1, 2)
}

fn ids() -> [ExtentId; 3] {
    [ExtentId(0), ExtentId(1), ExtentId(2)]
}

/// Extent 1's second page is broken: only its acquire fails, and only until the
/// page is repaired.
fn check_broken(resident: &[usize], retries: u32) {
    let mut bench = bench(resident, retries);
    bench.line.medium_mut().manner.broken = 3 * PAGE..4 * PAGE;
    bench.line.enqueue(ids());
    for _ in 0..20 {
        bench.line.pump().unwrap();
        bench.time.advance(20_000);
    }
    let lease = bench.acquire(ExtentId(0)).unwrap();
    bench.release(lease);
    for _ in 0..3 {
        let error = bench.acquire(ExtentId(1)).unwrap_err();
        let LineError::Read {
            extent,
            part,
            offset,
            attempts,
            ref source,
        } = error
        else {
            panic!("{error}");
        };
        assert_eq!((extent, part, offset), (ExtentId(1), 0, 3 * PAGE));
        assert_eq!(attempts, retries + 1);
        assert!(matches!(source, MediumError::Failed { .. }));
    }
    bench.line.medium_mut().manner.broken = 0..0;
    // The read ahead may have failed once more before the repair.
    let lease = bench
        .acquire(ExtentId(1))
        .or_else(|_| bench.acquire(ExtentId(1)));
    bench.release(lease.unwrap());
    let lease = bench.acquire(ExtentId(2)).unwrap();
    bench.release(lease);
    assert_eq!(bench.line.ahead(), 0);
    assert!(bench.line.counters().retried >= u64::from(retries) * 3);
}

#[test]
fn a_broken_extent_fails_its_own_acquire_until_it_is_mended() {
    for retries in 0..3 {
        check_broken(&[], retries);
        check_broken(&[1], retries);
        check_broken(&[0, 1, 2], retries);
    }
}

#[test]
fn a_broken_extent_that_is_skipped_or_forgotten_disturbs_nobody() {
    let mut bench = bench(&[], 1);
    bench.line.medium_mut().manner.broken = 2 * PAGE..4 * PAGE;
    for _ in 0..5 {
        bench.line.enqueue(ids());
        for id in [ExtentId(0), ExtentId(2)] {
            let lease = bench.acquire(id).unwrap();
            bench.release(lease);
        }
        bench.line.enqueue(ids());
        bench.line.pump().unwrap();
        bench.line.forget().unwrap();
        assert_eq!(bench.line.medium().in_flight(), 0);
    }
}

#[test]
fn a_medium_that_is_gone_is_not_asked_again() {
    for resident in [&[][..], &[0]] {
        let mut bench = bench(resident, 5);
        bench.line.medium_mut().manner.gone = true;
        let error = bench.acquire(ExtentId(0)).unwrap_err();
        let LineError::Read {
            attempts, source, ..
        } = error
        else {
            panic!("{error}");
        };
        assert_eq!(attempts, 1);
        assert!(matches!(source, MediumError::Gone { .. }));
        let at = bench.spare_at();
        let span = PartSpan {
            part: 0,
            offset: 0,
            len: 2 * PAGE,
            at,
        };
        let ticket = bench.line.fetch(&[span]);
        let error = bench.line.fetched(ticket).unwrap_err();
        assert!(matches!(error, LineError::Fetch { attempts: 1, .. }));
        assert_eq!(bench.line.counters().retried, 0);
        bench.line.medium_mut().manner.gone = false;
        let lease = bench.acquire(ExtentId(0)).unwrap();
        bench.release(lease);
    }
}

#[test]
fn a_file_that_ends_too_early_is_a_failure_that_says_so() {
    let mut bench = bench(&[], 2);
    bench.line.medium_mut().manner.short_percent = 100;
    let error = bench.acquire(ExtentId(0)).unwrap_err();
    let LineError::Read { source, .. } = error else {
        panic!("{error}");
    };
    assert!(source.to_string().contains("bytes came"), "{source}");
    let counters = bench.line.counters();
    assert!(counters.short_reads > counters.retried && counters.retried > 0);
}

#[test]
fn leases_that_fill_the_window_are_an_error_until_one_is_released() {
    let mut bench = bench(&[], 0);
    bench.line.enqueue(ids());
    bench.line.enqueue(ids());
    let mut leases: Vec<_> = [0, 1, 2, 0]
        .map(|id| bench.acquire(ExtentId(id)).unwrap())
        .into();
    // The future does not change.
    for _ in 0..2 {
        let error = bench.acquire(ExtentId(1)).unwrap_err();
        let expect = LineError::WindowTooSmall {
            extent: ExtentId(1),
            len: 2 * PAGE,
            window: 8 * PAGE,
            leased: 8 * PAGE,
        };
        assert_eq!(error, expect);
        assert_eq!(bench.line.ahead(), 2);
    }
    let error = bench.acquire(ExtentId(0)).unwrap_err();
    assert!(matches!(error, LineError::WindowTooSmall { .. }));
    assert_eq!(bench.line.ahead(), 2);
    bench.release(leases.remove(0));
    leases.push(bench.acquire(ExtentId(1)).unwrap());
    for lease in leases {
        bench.release(lease);
    }
    assert_eq!(bench.line.ahead(), 1);
}

/// A medium that loses every read.
struct Hole(Caps);

fn hole() -> Hole {
    Hole(Caps {
        depth: 2,
        ..Caps::default()
    })
}

impl Medium for Hole {
    fn caps(&self) -> &Caps {
        &self.0
    }
    fn submit(&mut self, _: Op) {}
    fn poll(&mut self, _: bool, _: &mut Vec<Completion>) {}
    fn stats(&self) -> Stats {
        Stats::default()
    }
    fn events(&mut self, _: &mut Vec<MediumEvent>) {}
}

/// A line over a [`Hole`], with a memory of 13 pages.
fn line(
    extents: &[Extent],
    part_lens: &[u64],
    homes: &[Option<u64>],
    config: Config,
) -> Result<Line<Hole, Stopped>, LineError> {
    let setup = LineSetup {
        extents: extents.to_vec(),
        part_lens: part_lens.to_vec(),
        homes: homes.to_vec(),
        config,
    };
    Line::new(hole(), Stopped, Region::new(13 * PAGE), setup)
}

struct Stopped;

impl delayline_line::Clock for Stopped {
    fn now_ns(&self) -> u64 {
        0
    }
}

fn extent(part: u16, offset: u64, len: u64) -> Extent {
    Extent { part, offset, len }
}

const CONFIG: Config = Config {
    window: 4 * PAGE,
    read_len: PAGE as u32,
    retries: 0,
};

#[test]
fn a_medium_that_loses_reads_is_an_error_not_a_hang() {
    let mut line = line(&[extent(0, 0, PAGE)], &[PAGE], &[None], CONFIG).unwrap();
    let error = line.acquire(ExtentId(0)).unwrap_err();
    assert_eq!(error, LineError::Lost { operations: 1 });
    assert_eq!(line.forget(), Err(LineError::Lost { operations: 1 }));
}

#[test]
fn what_a_line_cannot_work_with_is_refused_by_name() {
    let check = |extents: &[Extent], homes: &[Option<u64>], config: Config, expect: &str| match line(
        extents,
        &[9 * PAGE - 5],
        homes,
        config,
    ) {
        Ok(_) => assert_eq!(expect, "ok"),
        Err(error) => assert!(error.to_string().contains(expect), "{error}"),
    };
    let good = extent(0, PAGE, 4 * PAGE);
    check(&[good], &[None], CONFIG, "ok");
    check(&[extent(0, 5 * PAGE, 4 * PAGE)], &[None], CONFIG, "ok");
    check(&[extent(0, 0, 9 * PAGE)], &[Some(4 * PAGE)], CONFIG, "ok");
    check(&[good], &[], CONFIG, "a number of homes of 0");
    let config = |window, read_len| Config {
        window,
        read_len,
        retries: 0,
    };
    check(
        &[good],
        &[None],
        config(4 * PAGE + 1, 4096),
        "a window of 16385",
    );
    check(&[good], &[None], config(4 * PAGE, 0), "a read length of 0");
    check(
        &[good],
        &[None],
        config(4 * PAGE, 100),
        "a read length of 100",
    );
    check(
        &[good],
        &[None],
        config(3 * PAGE, 4096),
        "at most the window's",
    );
    check(&[extent(1, 0, PAGE)], &[None], CONFIG, "part 1");
    check(&[extent(0, 8, PAGE)], &[None], CONFIG, "offset 8");
    check(&[extent(0, 0, 0)], &[None], CONFIG, "length 0");
    check(&[extent(0, 0, 17)], &[None], CONFIG, "length 17");
    check(
        &[extent(0, 6 * PAGE, 4 * PAGE)],
        &[None],
        CONFIG,
        "end 40960",
    );
    check(&[good], &[Some(3 * PAGE)], CONFIG, "home 12288");
    check(&[good], &[Some(5 * PAGE + 1)], CONFIG, "home 20481");
    check(&[good], &[Some(10 * PAGE)], CONFIG, "home 40960");
    check(
        &[good],
        &[None],
        config(14 * PAGE, 4096),
        "the memory's 53248",
    );
    let long = (1 << 30) + 4096;
    check(
        &[good],
        &[None],
        config(4 * PAGE, long),
        "the medium's 1073741824",
    );
    check(
        &[good, good],
        &[Some(4 * PAGE), Some(7 * PAGE)],
        CONFIG,
        "32768 or more",
    );
}

#[test]
#[should_panic(expected = "cannot be fetched")]
fn a_fetch_into_the_window_is_refused() {
    let mut line = line(&[], &[9 * PAGE], &[], CONFIG).unwrap();
    let span = PartSpan {
        part: 0,
        offset: 0,
        len: PAGE,
        at: 3 * PAGE,
    };
    let _ticket = line.fetch(&[span]);
}
