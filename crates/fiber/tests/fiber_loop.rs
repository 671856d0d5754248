//! The fiber loop in virtual time, to the nanosecond: when pieces pass, which passes are
//! missed, and that no wrong byte comes of bits that flip or light that fails.

mod ring;

use delayline_fiber::{FillError, LightCut, LoopNotice};
use delayline_line::{Clock, Medium, MediumError, Op};
use delayline_medium::Faults;
use delayline_plan::ALIGN;
use ring::{Bench, COUNT, PIECE, bench, placed, with_copies};
use std::ops::ControlFlow;

/// Goes on filling.
fn on(_: u64, _: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

#[test]
fn a_piece_comes_when_it_has_passed_and_once_a_lap() {
    let mut bench = Bench::filled(|_| {});
    let lap_ns = COUNT * PIECE;
    // The start of some lap in which everything circulates.
    let start_ns = (bench.clock.now_ns() / lap_ns + 3) * lap_ns;
    bench.clock.advance_to(start_ns);
    // In time, to the nanosecond: the first bit is about to pass.
    bench.submit(0);
    bench.submit(2);
    assert_eq!(bench.wait(), [(0, start_ns + PIECE)]);
    assert_eq!(bench.wait(), [(2, start_ns + 3 * PIECE)]);
    // A nanosecond late is a lap late.
    bench.clock.advance_to(start_ns + 4 * PIECE + 1);
    bench.submit(4);
    bench.submit(5);
    assert_eq!(bench.wait(), [(5, start_ns + 6 * PIECE)]);
    assert_eq!(bench.wait(), [(4, start_ns + lap_ns + 5 * PIECE)]);
    assert_eq!(
        bench.figures().passes_missed,
        0,
        "nobody had taken it before"
    );
    // It passes twice without being taken.
    bench.clock.advance_to(start_ns + 3 * lap_ns + 6 * PIECE);
    bench.submit(4);
    assert_eq!(bench.wait(), [(4, start_ns + 4 * lap_ns + 5 * PIECE)]);
    let figures = bench.figures();
    assert_eq!((figures.passes_missed, figures.pieces_taken), (2, 5));
    assert_eq!(
        (figures.wrong_bits, figures.reads_beside, figures.dark_bytes),
        (0, 0, 0)
    );
}

#[test]
fn what_is_no_whole_piece_comes_from_behind_at_once() {
    let mut bench = Bench::filled(|_| {});
    let start_ns = bench.clock.now_ns();
    let buffer = bench.region.lend(0, ALIGN as u32);
    bench.fiber.submit(Op::read(0, 0, 0, buffer));
    let mut done = Vec::new();
    bench.fiber.poll(true, &mut done);
    assert_eq!(done[0].result, Ok(ALIGN as u32));
    assert_eq!(bench.clock.now_ns() - start_ns, 2 * ALIGN + 1000);
    assert_eq!(
        (bench.figures().reads_beside, bench.figures().beside_bytes),
        (1, ALIGN)
    );
}

#[test]
fn wrong_bits_are_found_and_sent_anew() {
    let run = || {
        let mut bench = Bench::filled(|spec| spec.residual_ber = 1e-6);
        (0..50).for_each(|_| bench.lap());
        bench.figures()
    };
    let figures = run();
    // 50 laps, and those in which pieces circulated unread: some bits in 5e5 each.
    let laps = 50 + figures.passes_missed / COUNT;
    let mean = 8.0 * (COUNT * PIECE * laps) as f64 * 1e-6;
    assert!(
        (figures.wrong_bits as f64 / mean - 1.0).abs() < 0.3,
        "{figures:?} {mean}"
    );
    assert!(
        figures.pieces_scrubbed > 5 && figures.pieces_scrubbed <= figures.wrong_bits,
        "{figures:?}"
    );
    assert_eq!(figures.pieces_taken + figures.pieces_scrubbed, 50 * COUNT);
    assert_eq!(figures, run(), "the seed decides everything");
    let clean = {
        let mut bench = Bench::filled(|_| {});
        (0..50).for_each(|_| bench.lap());
        bench.figures()
    };
    assert_eq!(
        (clean.wrong_bits, clean.pieces_scrubbed, clean.pieces_taken),
        (0, 0, 50 * COUNT)
    );
}

#[test]
fn a_light_that_is_all_wrong_is_a_slow_drive_and_no_more() {
    let mut bench = Bench::filled(|spec| spec.residual_ber = 0.5);
    (0..3).for_each(|_| bench.lap());
    assert_eq!(
        (
            bench.figures().pieces_taken,
            bench.figures().pieces_scrubbed
        ),
        (0, 3 * COUNT)
    );
}

#[test]
fn a_cut_is_told_once_and_the_loop_fills_again_after_it() {
    let mut bench = Bench::filled(|_| {});
    let notices = |bench: &Bench| bench.fiber.gauge().take_notices();
    bench.lap();
    assert_eq!(notices(&bench), []);
    // A cut in the middle of a lap: reads that wait are served from behind.
    (0..COUNT).for_each(|piece| bench.submit(piece));
    let first = bench.wait();
    bench.fiber.break_fiber();
    let mut came = first.len() as u64;
    while came < COUNT {
        came += bench.wait().len() as u64;
    }
    let bytes = COUNT * PIECE;
    assert_eq!(notices(&bench), [LoopNotice::Cut { bytes }]);
    let taken = bench.figures().pieces_taken;
    bench.lap();
    assert_eq!(
        (bench.figures().pieces_taken, notices(&bench)),
        (taken, vec![])
    );
    bench.fiber.mend();
    assert_eq!(notices(&bench), [LoopNotice::Mended]);
    bench.lap();
    assert_eq!(
        (bench.figures().pieces_taken, notices(&bench)),
        (taken, vec![LoopNotice::Refilled])
    );
    bench.lap();
    assert_eq!(bench.figures().pieces_taken, taken + COUNT);
    assert_eq!((bench.figures().cuts, notices(&bench)), (1, vec![]));
}

#[test]
fn a_cut_at_any_moment_loses_nothing() {
    let lap_ns = COUNT * PIECE;
    // At every quarter of a piece, over two laps, for a moment or for long.
    for copies in [1, 3] {
        for at_ns in (0..2 * lap_ns).step_by(PIECE as usize / 4) {
            for lasts_ns in [0, PIECE, 3 * lap_ns] {
                let mut bench = Bench::filled(|spec| {
                    with_copies(spec, copies);
                    spec.cut = Some(LightCut {
                        at_s: at_ns as f64 * 1e-9,
                        for_s: lasts_ns as f64 * 1e-9,
                    });
                });
                (0..8).for_each(|_| bench.lap());
                let figures = bench.figures();
                assert_eq!(figures.cuts, 1, "{copies}: at {at_ns} for {lasts_ns}");
                let dark = figures.dark_bytes.div_ceil(PIECE);
                assert_eq!(
                    figures.pieces_taken + dark,
                    8 * COUNT,
                    "{copies}: at {at_ns} for {lasts_ns}: {figures:?}"
                );
                assert!(dark > 0, "{copies}: at {at_ns} for {lasts_ns}");
                let told = bench.fiber.gauge().take_notices();
                let expect = [
                    LoopNotice::Cut { bytes: lap_ns },
                    LoopNotice::Mended,
                    LoopNotice::Refilled,
                ];
                assert_eq!(told, expect, "{copies}: at {at_ns} for {lasts_ns}");
            }
        }
    }
}

#[test]
fn several_copies_come_by_as_often_and_decay_each_for_itself() {
    let turn_ns = COUNT * PIECE;
    let mut bench = Bench::filled(|spec| with_copies(spec, 3));
    let start_ns = (bench.clock.now_ns() / turn_ns + 6) * turn_ns;
    bench.clock.advance_to(start_ns + 4 * PIECE + 1);
    bench.submit(4);
    let came = bench.wait();
    assert_eq!(
        came,
        [(4, start_ns + turn_ns + 5 * PIECE)],
        "a turn, no lap"
    );
    let figures = bench.figures();
    assert_eq!((figures.copies, figures.placed_bytes), (3, turn_ns));
    assert_eq!(
        (
            figures.in_flight_bytes,
            (figures.lap_s * 1e9).round() as u64
        ),
        (3 * turn_ns, 3 * turn_ns)
    );

    // As many wrong bits in each lap of a copy as in a loop with one.
    let mut bench = Bench::filled(|spec| {
        with_copies(spec, 3);
        spec.residual_ber = 1e-6;
    });
    let from_ns = bench.clock.now_ns();
    (0..60).for_each(|_| bench.lap());
    let figures = bench.figures();
    let laps = (bench.clock.now_ns() - from_ns) as f64 / (3 * turn_ns) as f64;
    let mean = 8.0 * (3 * turn_ns) as f64 * laps * 1e-6;
    assert!(
        (figures.wrong_bits as f64 / mean - 1.0).abs() < 0.3,
        "{figures:?} {mean}"
    );
    assert!(figures.pieces_scrubbed > 5, "{figures:?}");
    assert_eq!(
        figures.pieces_taken + figures.pieces_scrubbed,
        60 * COUNT,
        "{figures:?}"
    );
}

#[test]
fn what_is_placed_anew_circulates_anew() {
    let mut bench = Bench::filled(|spec| with_copies(spec, 2));
    bench.lap();
    // In the opposite order, as one copy.
    let placed = placed(|i| COUNT - 1 - i);
    bench.fiber.place(&placed, 1).unwrap();
    bench.lap();
    let figures = bench.figures();
    assert_eq!(
        (figures.pieces_taken, figures.dark_bytes > 0),
        (0, true),
        "it was dark"
    );
    bench.clock.advance_ns(4 * COUNT * PIECE);
    bench.submit(3);
    bench.submit(4);
    let came: Vec<u64> = (0..2).map(|_| bench.wait()[0].0).collect();
    assert_eq!(came, [4, 3]);
    assert_eq!(
        (bench.figures().pieces_taken, bench.figures().copies),
        (2, 1)
    );
}

#[test]
fn filling_can_be_stopped_at_any_piece() {
    for stop in 1..=COUNT {
        let mut bench = bench(|_| {});
        let all = 0..bench.memory.len();
        let outcome = bench.fiber.fill(&mut bench.region, all.clone(), |done, _| {
            match done < stop * PIECE {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        });
        assert_eq!(outcome, Err(FillError::Stopped), "after {stop}");
        // Nothing is under way: what is there is right, and the rest can follow.
        bench.fiber.fill(&mut bench.region, all, on).unwrap();
        bench.lap();
        assert_eq!(bench.figures().pieces_taken, COUNT, "after {stop}");
    }
}

#[test]
fn an_empty_loop_fills_with_what_is_read() {
    let mut bench = bench(|_| {});
    bench.lap();
    assert_eq!(bench.figures().pieces_taken, 0);
    bench.lap();
    assert_eq!(bench.figures().pieces_taken, COUNT);
    assert_eq!(
        bench.fiber.gauge().take_notices(),
        [],
        "nothing has happened"
    );
}

#[test]
fn a_loop_that_cannot_be_filled_says_why() {
    let mut broken = bench(|_| {});
    broken.fiber.behind_mut().set_faults(Faults {
        broken: vec![(0, 5 * PIECE..5 * PIECE + 1)],
        ..Faults::default()
    });
    let error = {
        let all = 0..broken.memory.len();
        broken.fiber.fill(&mut broken.region, all, on).unwrap_err()
    };
    let FillError::Read(MediumError::Failed { asked, .. }) = &error else {
        panic!("{error}")
    };
    assert_eq!(asked.offset, 5 * PIECE, "{error}");
    // What fails now and then is tried again.
    let mut shaky = bench(|_| {});
    shaky.fiber.behind_mut().set_faults(Faults {
        transient: 0.3,
        short: 0.3,
        in_a_row: 2,
        ..Faults::default()
    });
    let all = 0..shaky.memory.len();
    shaky.fiber.fill(&mut shaky.region, all, on).unwrap();
    shaky.fiber.behind_mut().set_faults(Faults::default());
    shaky.lap();
    assert_eq!(shaky.figures().pieces_taken, COUNT);
}

#[test]
fn a_medium_that_hangs_while_the_loop_is_filled_is_given_up_in_words() {
    // All reads, or some: the filling ends, and the loop can be dropped.
    for hung in [1.0, 0.7, 0.4] {
        let mut bench = bench(|_| {});
        bench.fiber.behind_mut().set_faults(Faults {
            hung,
            ..Faults::default()
        });
        let all = 0..bench.memory.len();
        let before_ns = bench.clock.now_ns();
        let error = bench.fiber.fill(&mut bench.region, all, on).unwrap_err();
        assert!(bench.fiber.behind_mut().counts().hung > 0);
        let FillError::Read(MediumError::Gone { source, .. }) = &error else {
            panic!("{error}")
        };
        assert_eq!(source.kind(), std::io::ErrorKind::TimedOut, "{error}");
        let told = error.to_string();
        assert!(
            told.contains("for 30 s") && told.contains("dmesg"),
            "{told}"
        );
        let waited_s = (bench.clock.now_ns() - before_ns) / 1_000_000_000;
        assert_eq!(waited_s, 30);
    }
}
