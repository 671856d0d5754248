//! How long laps take in virtual time, against a recurrence of rates and room; fetches
//! and guesses; and the trace.

mod common;

use common::{Bench, Manner, PAGE, Rng};
use delayline_line::{Clock, Config, EventKind, write_chrome};
use delayline_plan::ExtentId;

const NS_PER_PAGE: u64 = 1000;
const LATENCY_NS: u64 = 7000;

fn bench(pages: &[u64], resident: &[usize], window_pages: u64) -> Bench {
    let config = Config {
        window: window_pages * PAGE,
        read_len: 2 * PAGE as u32,
        retries: 0,
    };
    let manner = Manner {
        // Only the window limits what is under way.
        depth: window_pages as usize + 64,
        ns_per_page: NS_PER_PAGE,
        latency_ns: LATENCY_NS,
        ..Manner::default()
    };
    Bench::new(pages, resident, 0, config, manner, 1, 0)
}

/// Runs laps of one extent a run, with `compute_ns` each; returns the whole time.
fn run(bench: &mut Bench, compute_ns: &[u64], laps: usize) -> u64 {
    let ids = || (0..compute_ns.len() as u32).map(ExtentId);
    bench.line.enqueue(ids());
    for lap in 0..laps {
        if lap + 1 < laps {
            bench.line.enqueue(ids());
            bench.line.pump().unwrap();
        }
        for id in ids() {
            let lease = bench.acquire(id).unwrap();
            bench.line.mark_begin("run");
            bench.time.advance(compute_ns[id.index()]);
            bench.line.mark_end("run");
            bench.release(lease);
            bench.line.pump().unwrap();
        }
    }
    bench.time.now_ns()
}

/// The time by a recurrence: the medium serves whole extents one after the other, each
/// as soon as it is enqueued and certain to find room, and each arrives a latency later.
fn fluid(pages: &[u64], compute_ns: &[u64], window_pages: u64, laps: usize) -> u64 {
    let n = pages.len();
    let longest = pages.iter().max().unwrap();
    let (mut bus_ns, mut end_ns) = (0_u64, Vec::new());
    for i in 0..n * laps {
        // The oldest extent that fits into the window together with this one.
        let (mut oldest, mut sum) = (i, pages[i % n]);
        while oldest > 0 && sum + pages[(oldest - 1) % n] + longest <= window_pages {
            oldest -= 1;
            sum += pages[oldest % n];
        }
        let room_ns = oldest.checked_sub(1).map_or(0, |before| end_ns[before]);
        // A lap is enqueued when the one before begins.
        let enqueued = (i / n * n).checked_sub(n + 1);
        let enqueued_ns = enqueued.map_or(0, |before| end_ns[before]);
        bus_ns = bus_ns.max(room_ns).max(enqueued_ns) + pages[i % n] * NS_PER_PAGE;
        let before_ns = i.checked_sub(1).map_or(0, |before| end_ns[before]);
        end_ns.push(before_ns.max(bus_ns + LATENCY_NS) + compute_ns[i % n]);
    }
    end_ns[n * laps - 1]
}

#[test]
fn no_lap_is_slower_than_the_fluid() {
    for seed in 0..400 {
        let mut rng = Rng(seed);
        let n = 1 + rng.below(12);
        let pages: Vec<u64> = (0..n).map(|_| 1 + rng.below(6)).collect();
        let compute_ns: Vec<u64> = (0..n).map(|_| rng.below(12_000)).collect();
        let longest = pages.iter().max().unwrap();
        let window_pages = 2 * longest + rng.below(30);
        let laps = 1 + rng.below(5) as usize;
        let mut bench = bench(&pages, &[], window_pages);
        let time_ns = run(&mut bench, &compute_ns, laps);
        let bound_ns = fluid(&pages, &compute_ns, window_pages, laps);
        assert!(time_ns <= bound_ns, "seed {seed}: {time_ns} > {bound_ns}");
        let compute: u64 = compute_ns.iter().sum::<u64>() * laps as u64;
        let stream = pages.iter().sum::<u64>() * NS_PER_PAGE * laps as u64;
        assert!(time_ns >= compute.max(stream), "seed {seed}");
        let stall_ns = bench.line.counters().stall_ns;
        assert_eq!(stall_ns, time_ns - compute, "seed {seed}");
    }
}

/// With room for the extents of one latency, laps take the time of the slower of compute
/// and medium, plus the first read and the last compute.
#[test]
fn a_steady_line_runs_at_the_slower_of_compute_and_medium() {
    let (n, laps) = (20, 10);
    let pages = vec![4; n];
    let extent_ns = 4 * NS_PER_PAGE;
    for compute_ns in [0, 1000, 3900, 4000, 4100, 9000] {
        let mut bench = bench(&pages, &[], 40);
        let time_ns = run(&mut bench, &vec![compute_ns; n], laps);
        let uses = (n * laps) as u64;
        let bound_ns = uses * extent_ns.max(compute_ns);
        let ends_ns = extent_ns + LATENCY_NS + compute_ns;
        assert!(
            time_ns >= bound_ns && time_ns <= bound_ns + ends_ns,
            "{compute_ns} ns a run: {time_ns} ns instead of {bound_ns}"
        );
    }
}

/// Resident extents are read in the first lap only, also while the window is full.
#[test]
fn resident_extents_use_the_time_in_which_the_window_is_full() {
    let mut bench = bench(&[4, 4, 4, 30], &[3], 8);
    bench.line.enqueue([0, 1, 2, 3].map(ExtentId));
    bench.line.pump().unwrap();
    bench.time.advance(1_000_000);
    bench.line.pump().unwrap();
    assert_eq!(bench.line.ahead(), 3, "the resident extent is there");
    let before = bench.line.counters().stalls;
    let lease = bench.acquire(ExtentId(3)).unwrap();
    assert_eq!(bench.line.counters().stalls, before);
    bench.release(lease);
    for id in [0, 1, 2].map(ExtentId) {
        let lease = bench.acquire(id).unwrap();
        bench.release(lease);
    }
    run(&mut bench, &[1000; 4], 5);
    let counters = bench.line.counters();
    assert_eq!(counters.bytes_read, (30 + 6 * 12) * PAGE);
    assert_eq!(counters.bytes_wasted, 0);
}

#[test]
fn fetches_go_ahead_of_the_prefetch() {
    let config = Config {
        window: 64 * PAGE,
        read_len: PAGE as u32,
        retries: 0,
    };
    let manner = Manner {
        depth: 2,
        ..Manner::default()
    };
    let latency_ns = manner.latency_ns + 3 * manner.ns_per_page;
    let mut bench = Bench::new(&[60], &[], 0, config, manner, 1, 4);
    bench.line.enqueue([ExtentId(0)]);
    let at = bench.spare_at();
    let span = delayline_line::PartSpan {
        part: 0,
        offset: 8 * PAGE,
        len: 2 * PAGE,
        at,
    };
    let ticket = bench.line.fetch(&[span]);
    bench.line.fetched(ticket).unwrap();
    assert!(bench.line.medium().holds(0, 8 * PAGE, 2 * PAGE, at));
    assert!(bench.time.now_ns() <= latency_ns);
    let lease = bench.acquire(ExtentId(0)).unwrap();
    bench.release(lease);
}

/// One extent of 60 pages, and `spare` pages of memory for fetches.
fn fetching(depth: usize, spare: u64) -> Bench {
    let config = Config {
        window: 64 * PAGE,
        read_len: PAGE as u32,
        retries: 0,
    };
    let manner = Manner {
        depth,
        ..Manner::default()
    };
    Bench::new(&[60], &[], 0, config, manner, 1, spare)
}

fn page_of(bench: &Bench, page: u64) -> delayline_line::PartSpan {
    delayline_line::PartSpan {
        part: 0,
        offset: page * PAGE,
        len: PAGE,
        at: bench.spare_at() + page * PAGE,
    }
}

#[test]
fn guesses_go_behind_all_else_and_count_when_they_come_true() {
    let mut bench = fetching(2, 8);
    bench.line.enqueue([ExtentId(0)]);
    let spans = [0, 1, 2].map(|page| page_of(&bench, page));
    let [certain, true_one, wrong] = spans.map(|span| [span]);
    let wrong = bench.line.guess(&wrong);
    let guess = bench.line.guess(&true_one);
    let ticket = bench.line.fetch(&certain);
    bench.line.fetched(ticket).unwrap();
    // The extent is read before any guess.
    let lease = bench.acquire(ExtentId(0)).unwrap();
    assert_eq!(bench.line.counters().bytes_read, 61 * PAGE);
    bench.release(lease);
    bench.line.promote(&guess);
    bench.line.fetched(guess).unwrap();
    let span = spans[1];
    let medium = bench.line.medium();
    assert!(medium.holds(span.part, span.offset, span.len, span.at));
    bench.line.cancel(&wrong);
    let _ = bench.line.fetched(wrong);
    let counters = bench.line.counters();
    assert_eq!(counters.bytes_read, 62 * PAGE);
    assert!(counters.bytes_wasted <= PAGE);
}

#[test]
fn a_guess_that_was_not_begun_is_not_read_once_it_is_wrong() {
    let mut bench = fetching(1, 8);
    let spans: Vec<_> = (0..4).map(|page| page_of(&bench, page)).collect();
    let guess = bench.line.guess(&spans);
    bench.line.pump().unwrap();
    bench.line.cancel(&guess);
    assert!(!bench.line.is_settled(&guess));
    let _ = bench.line.fetched(guess);
    let counters = bench.line.counters();
    assert_eq!((counters.reads, counters.bytes_read), (1, 0));
    assert_eq!(counters.bytes_wasted, PAGE);
}

#[test]
fn the_trace_accounts_for_every_read_and_every_stall() {
    let mut bench = bench(&[2, 3, 1, 4], &[2], 9);
    bench.line.trace_on();
    run(&mut bench, &[1500; 4], 3);
    let counters = bench.line.counters();
    let events = bench.line.take_trace();
    assert!(bench.line.take_trace().is_empty());
    assert!(events.is_sorted_by_key(|event| event.t_ns));
    let count = |wanted: fn(&EventKind) -> bool| {
        events.iter().filter(|event| wanted(&event.kind)).count() as u64
    };
    let submitted = count(|kind| matches!(kind, EventKind::Submitted { .. }));
    let completed = count(|kind| matches!(kind, EventKind::Completed { .. }));
    assert_eq!((submitted, completed), (counters.reads, counters.reads));
    assert_eq!(count(|kind| matches!(kind, EventKind::Lease(_))), 12);
    assert_eq!(count(|kind| matches!(kind, EventKind::Release(_))), 12);
    assert_eq!(count(|kind| matches!(kind, EventKind::MarkBegin(_))), 12);
    let (mut stall_ns, mut begun_ns, mut fill, mut fullest) = (0, 0, 0, 0);
    for event in &events {
        match event.kind {
            EventKind::StallBegin(_) => begun_ns = event.t_ns,
            EventKind::StallEnd(_) => stall_ns += event.t_ns - begun_ns,
            EventKind::Window(bytes) => {
                fill = bytes;
                fullest = fullest.max(bytes);
            }
            _ => {}
        }
    }
    assert_eq!(stall_ns, counters.stall_ns);
    assert_eq!(fill, 0, "all was given back");
    assert!(fullest > 4 * PAGE && fullest <= 9 * PAGE);
    let mut json = Vec::new();
    write_chrome(&events, &mut json).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert!(json["traceEvents"].as_array().unwrap().len() > events.len());
}

#[test]
fn what_has_arrived_is_what_came_and_was_not_acquired() {
    let mut bench = bench(&[2, 3, 1, 4], &[2], 20);
    let ids = || (0..4).map(ExtentId);
    bench.line.enqueue(ids());
    assert_eq!(bench.line.arrived(), 0);
    bench.line.pump().unwrap();
    bench.time.advance(100 * NS_PER_PAGE);
    bench.line.pump().unwrap();
    // The third is resident, outside the window.
    let mut ahead = 9;
    assert_eq!(bench.line.arrived(), ahead * PAGE);
    for (id, pages) in ids().zip([2, 3, 0, 4]) {
        let lease = bench.acquire(id).unwrap();
        ahead -= pages;
        assert_eq!(bench.line.arrived(), ahead * PAGE);
        bench.release(lease);
        assert_eq!(bench.line.arrived(), ahead * PAGE);
    }
}
