//! Weights in a fiber loop give the logits of weights on flash, bit for bit, also with
//! decay and cuts.

mod common;

use std::any::Any;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use common::{Steps, alone, assert_same, logits, options, scratch, streamed, synth};
use delayline_engine::{Error, Options, Way};
use delayline_fiber::{LightCut, LoopMaker, LoopNotice, LoopSpec, Order, PlacedLoop};
use delayline_llama::LlamaEngine;
use delayline_medium::MakeError;
use delayline_synth::Quant;

const PROMPT: [i32; 20] = [
    3, 40, 77, 114, 151, 188, 225, 262, 299, 36, 73, 110, 147, 184, 221, 258, 295, 32, 69, 106,
];
const STEPS: usize = 6;

/// A loop of 100 km, which light passes in half a millisecond; it holds about 50 MB.
fn spec() -> LoopSpec {
    LoopSpec::new(100.0, 1e12)
}

fn with(fiber: LoopMaker) -> Options {
    Options {
        maker: Some(Arc::new(fiber)),
        ..options(Way::Auto)
    }
}

/// The loop that the engine reads from.
fn ring(engine: &mut LlamaEngine) -> &mut PlacedLoop {
    let made: &mut dyn Any = engine.stream().expect("it streams").medium();
    made.downcast_mut().expect("it is a loop")
}

#[test]
fn whatever_happens_to_the_light_no_logit_differs() {
    let (_alone, dir) = (alone(), scratch());
    for quant in [Quant::Q4_0, Quant::Q8_0] {
        let path = synth(dir.path(), "tiny-llama", quant);
        let expected = logits(&mut streamed(&path, 0, &options(Way::Auto)), &PROMPT, STEPS);
        let decay = |residual_ber| LoopSpec {
            residual_ber,
            ..spec()
        };
        let cut = |at_s, for_s| LoopSpec {
            cut: Some(LightCut { at_s, for_s }),
            ..spec()
        };
        for (name, fiber, scrubs, cuts) in [
            ("clean", LoopMaker::new(spec()), false, 0),
            (
                "plain order",
                LoopMaker {
                    order: Order::Plain,
                    ..LoopMaker::new(spec())
                },
                false,
                0,
            ),
            (
                "one copy",
                LoopMaker {
                    copies: Some(1),
                    ..LoopMaker::new(decay(1e-6))
                },
                true,
                0,
            ),
            ("decay", LoopMaker::new(decay(1e-6)), true, 0),
            ("all wrong", LoopMaker::new(decay(0.5)), true, 0),
            (
                "cut at once, for ever",
                LoopMaker::new(cut(0.0, 1e6)),
                false,
                1,
            ),
            ("cut for a moment", LoopMaker::new(cut(0.0, 1e-6)), false, 1),
        ] {
            let label = format!("{}, {name}", quant.name());
            let mut engine = streamed(&path, 0, &with(fiber));
            let got = logits(&mut engine, &PROMPT, STEPS);
            assert_same(&label, &got, &expected);
            let figures = ring(&mut engine).figures();
            assert!(figures.placed_bytes > 0, "{label}");
            assert_eq!(figures.copies > 1, name != "one copy", "{label}");
            assert_eq!(figures.pieces_scrubbed > 0, scrubs, "{label}: {figures:?}");
            assert_eq!(figures.cuts, cuts, "{label}");
            // On a busy machine even slow decay may have spoiled all pieces by the time
            // they are read.
            if !scrubs {
                let ever = name != "cut at once, for ever";
                assert_eq!(figures.pieces_taken > 0, ever, "{label}");
            } else if name == "all wrong" {
                assert_eq!(figures.pieces_taken, 0, "{label}");
            }
        }
    }
}

#[test]
fn a_cut_between_laps_is_told_and_the_loop_fills_again() {
    let (_alone, dir) = (alone(), scratch());
    let path = synth(dir.path(), "tiny-llama", Quant::Q4_0);
    let mut flash = streamed(&path, 0, &options(Way::Auto));
    let mut fiber = streamed(&path, 0, &with(LoopMaker::new(spec())));
    let gauge = ring(&mut fiber).gauge();
    for (pos, token) in PROMPT.iter().enumerate() {
        let (pos, lap) = (pos as u32, [*token]);
        flash.step(&lap, pos, true, None).unwrap();
        fiber.step(&lap, pos, true, None).unwrap();
        assert_eq!(flash.logits(), fiber.logits(), "lap {pos}");
        let taken = gauge.figures().pieces_taken;
        match pos {
            3 => {
                ring(&mut fiber).break_fiber();
                let told = gauge.take_notices();
                assert!(matches!(told[..], [LoopNotice::Cut { .. }]), "{told:?}");
            }
            6 => {
                ring(&mut fiber).mend();
                assert_eq!(gauge.take_notices(), [LoopNotice::Mended]);
            }
            7 => assert_eq!(gauge.take_notices(), [LoopNotice::Refilled]),
            19 => assert!(taken > 15 * gauge.figures().pieces),
            _ => assert_eq!(gauge.take_notices(), [], "lap {pos}"),
        }
    }
    // Three laps without light, and one that refilled the loop.
    let figures = gauge.figures();
    assert_eq!(figures.pieces_taken, 16 * figures.pieces, "{figures:?}");
}

#[test]
fn a_loop_too_small_is_refused_with_what_would_do_or_split() {
    let (_alone, dir) = (alone(), scratch());
    let path = synth(dir.path(), "tiny-llama", Quant::Q4_0);
    let mut engine = streamed(&path, 0, &with(LoopMaker::new(spec())));
    let expected = logits(&mut engine, &PROMPT, STEPS);
    let needed = ring(&mut engine).figures().placed_bytes;
    drop(engine);
    // Two thirds of what is needed.
    let share = needed as f64 * 0.67 / spec().capacity_bytes() as f64;
    let small = LoopSpec {
        length_km: spec().length_km * share,
        ..spec()
    };
    let open = |weights| {
        let (memory, weights) = (Some(8 << 30), Some(weights));
        let fiber = LoopMaker::new(small.clone());
        let options = Options {
            memory,
            weights,
            ..with(fiber)
        };
        delayline_llama::open(&path, &options)
    };
    let Err(Error::Budget { weights, .. }) = open(0) else {
        panic!("nothing is not enough")
    };
    let Err(Error::Make(MakeError::Refused(message))) = open(weights) else {
        panic!("it does not fit")
    };
    let message = message.to_string();
    for word in [
        "too much",
        "length=",
        "rate=",
        "loops=",
        "--memory",
        "split=yes",
    ] {
        assert!(message.contains(word), "{word} is not in: {message}");
    }
    let split = LoopMaker {
        split: true,
        ..LoopMaker::new(small)
    };
    let mut engine = streamed(&path, 0, &with(split));
    assert_same("split", &logits(&mut engine, &PROMPT, STEPS), &expected);
    let figures = ring(&mut engine).figures();
    assert!(figures.pieces_taken > 0 && figures.is_split());
    assert_eq!(figures.placed_bytes + figures.left_out_bytes, needed);
}

/// Minimum number of bytes for weights with which the model runs, so that most is streamed.
fn least(path: &Path) -> u64 {
    let options = Options {
        memory: Some(8 << 30),
        weights: Some(0),
        ..options(Way::Streamed)
    };
    match delayline_llama::open(path, &options) {
        Err(Error::Budget { weights, .. }) => weights,
        outcome => panic!("nothing is not enough: {:?}", outcome.map(drop)),
    }
}

#[test]
fn a_loop_holds_as_many_copies_as_are_asked_for_and_fit() {
    let (_alone, dir) = (alone(), scratch());
    let path = synth(dir.path(), "tiny-llama", Quant::Q4_0);
    let weights = Some(least(&path));
    let open = |copies| {
        let fiber = LoopMaker {
            copies: Some(copies),
            compute_s: Some(1e-3),
            ..LoopMaker::new(spec())
        };
        let options = Options {
            weights,
            ..with(fiber)
        };
        delayline_llama::open(&path, &options)
    };
    for copies in [1, 2, 5] {
        let mut engine = open(copies).unwrap();
        let ring = ring(&mut engine);
        let figures = ring.figures();
        assert!(figures.placed_bytes > 0, "{copies}");
        assert_eq!(figures.copies, copies);
        let turn_s = spec().lap_s() / f64::from(copies);
        assert!((figures.turn_s / turn_s - 1.0).abs() < 1e-9);
        assert!(ring.coding().bound_s >= turn_s, "{copies}");
    }
    let Err(Error::Make(MakeError::Refused(message))) = open(1_000_000).map(drop) else {
        panic!("so many do not fit")
    };
    let message = message.to_string();
    assert!(
        message.contains("copies=1000000: expected from 1 to "),
        "{message}"
    );
}

#[test]
fn compute_is_measured_where_it_decides_about_the_lap() {
    let (_alone, dir) = (alone(), scratch());
    let path = synth(dir.path(), "tiny-llama", Quant::Q4_0);
    let weights = Some(least(&path));
    let placed_for = |length_km, compute_s| {
        let spec = LoopSpec {
            length_km,
            ..spec()
        };
        let fiber = LoopMaker {
            copies: Some(1),
            compute_s,
            ..LoopMaker::new(spec)
        };
        let options = Options {
            weights,
            ..with(fiber)
        };
        let mut engine = delayline_llama::open(&path, &options).unwrap();
        let assumed_s = engine.file().weight_bytes() as f64 / 8e9 / f64::from(engine.threads());
        let figures = ring(&mut engine).figures();
        assert!(figures.placed_bytes > 0);
        (figures.placed_for_compute_s, assumed_s)
    };
    // Light takes half a second for a lap of this loop, so compute does not matter.
    let (compute_s, assumed_s) = placed_for(100_000.0, None);
    assert_eq!(compute_s, assumed_s);
    // Light takes 50 microseconds for a lap of this one.
    let (compute_s, assumed_s) = placed_for(10.0, None);
    assert_ne!(compute_s, assumed_s);
    assert!(
        (assumed_s / 4.0..=assumed_s * 4.0).contains(&compute_s),
        "{compute_s} {assumed_s}"
    );
    assert_eq!(placed_for(10.0, Some(0.25)).0, 0.25);
}

#[test]
fn a_filling_that_is_stopped_ends_the_opening() {
    let (_alone, dir) = (alone(), scratch());
    let path = synth(dir.path(), "tiny-llama", Quant::Q4_0);
    let fiber = LoopMaker {
        progress: Some(|_, _| ControlFlow::Break(())),
        ..LoopMaker::new(spec())
    };
    let options = Options {
        weights: Some(least(&path)),
        ..with(fiber)
    };
    let outcome = delayline_llama::open(&path, &options).map(drop);
    assert!(
        matches!(outcome, Err(Error::Make(MakeError::Stopped))),
        "{outcome:?}"
    );
}
