//! Weights that circulate in a fiber loop give the logits of weights on flash,
//! bit for bit, whatever happens to the light.

mod common;

use std::ops::ControlFlow;
use std::path::Path;

use common::{alone, assert_same, logits, options, scratch, streamed, synth};
use delayline_fiber::{Cut, LoopNotice, LoopSpec};
use delayline_llama::{Engine, Error, Fiber, Options, Order, Way};
use delayline_synth::Quant;

const PROMPT: [i32; 20] = [
    3, 40, 77, 114, 151, 188, 225, 262, 299, 36, 73, 110, 147, 184, 221, 258, 295, 32, 69, 106,
];
const STEPS: usize = 6;

/// 100 km: a lap of half a millisecond, and room for 50 MB.
fn spec() -> LoopSpec {
    LoopSpec::new(100.0, 1e12)
}

fn with(fiber: Fiber) -> Options {
    Options {
        fiber: Some(fiber),
        ..options(Way::Auto)
    }
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
            cut: Some(Cut { at_s, for_s }),
            ..spec()
        };
        for (name, fiber, scrubs, cuts) in [
            ("clean", Fiber::new(spec()), false, 0),
            (
                "plain order",
                Fiber {
                    order: Order::Plain,
                    ..Fiber::new(spec())
                },
                false,
                0,
            ),
            (
                "one copy",
                Fiber {
                    copies: Some(1),
                    ..Fiber::new(decay(1e-6))
                },
                true,
                0,
            ),
            ("decay", Fiber::new(decay(1e-6)), true, 0),
            ("all wrong", Fiber::new(decay(0.5)), true, 0),
            ("cut at once, for ever", Fiber::new(cut(0.0, 1e6)), false, 1),
            ("cut for a moment", Fiber::new(cut(0.0, 1e-6)), false, 1),
        ] {
            let label = format!("{}, {name}", quant.name());
            let mut engine = streamed(&path, 0, &with(fiber));
            let got = logits(&mut engine, &PROMPT, STEPS);
            assert_same(&label, &got, &expected);
            let circuit = engine.stream().unwrap().circuit().unwrap().clone();
            let figures = circuit.gauge().figures();
            assert!(figures.placed_bytes > 0, "{label}");
            assert_eq!(figures.copies, circuit.copies(), "{label}");
            assert_eq!(circuit.copies() > 1, name != "one copy", "{label}");
            assert_eq!(figures.scrubbed > 0, scrubs, "{label}: {figures:?}");
            assert_eq!(figures.cuts, cuts, "{label}");
            // On a busy machine light that decays is all wrong, too, by the time
            // somebody looks.
            if !scrubs {
                let ever = name != "cut at once, for ever";
                assert_eq!(figures.taken > 0, ever, "{label}");
            } else if name == "all wrong" {
                assert_eq!(figures.taken, 0, "{label}");
            }
        }
    }
}

#[test]
fn a_cut_between_laps_is_told_and_the_loop_fills_again() {
    let (_alone, dir) = (alone(), scratch());
    let path = synth(dir.path(), "tiny-llama", Quant::Q4_0);
    let mut flash = streamed(&path, 0, &options(Way::Auto));
    let mut fiber = streamed(&path, 0, &with(Fiber::new(spec())));
    let circuit = fiber.stream().unwrap().circuit().unwrap().clone();
    for (pos, token) in PROMPT.iter().enumerate() {
        let (pos, lap) = (pos as u32, [*token]);
        flash.lap(&lap, pos, true, None).unwrap();
        fiber.lap(&lap, pos, true, None).unwrap();
        assert_eq!(flash.logits(), fiber.logits(), "lap {pos}");
        let taken = circuit.gauge().figures().taken;
        match pos {
            3 => {
                circuit.break_fiber();
                let told = circuit.take_notices();
                assert!(matches!(told[..], [LoopNotice::Cut { .. }]), "{told:?}");
            }
            6 => {
                circuit.mend();
                assert_eq!(circuit.take_notices(), [LoopNotice::Mended]);
            }
            7 => assert_eq!(circuit.take_notices(), [LoopNotice::Refilled]),
            19 => assert!(taken > 15 * circuit.gauge().figures().pieces),
            _ => assert_eq!(circuit.take_notices(), [], "lap {pos}"),
        }
    }
    // Three laps in the dark, one that filled it again.
    let figures = circuit.gauge().figures();
    assert_eq!(figures.taken, 16 * figures.pieces, "{figures:?}");
}

#[test]
fn a_loop_too_small_is_refused_with_what_would_do_or_split() {
    let (_alone, dir) = (alone(), scratch());
    let path = synth(dir.path(), "tiny-llama", Quant::Q4_0);
    let mut engine = streamed(&path, 0, &with(Fiber::new(spec())));
    let expected = logits(&mut engine, &PROMPT, STEPS);
    let needed = engine
        .stream()
        .unwrap()
        .circuit()
        .unwrap()
        .gauge()
        .figures()
        .placed_bytes;
    drop(engine);
    // Two thirds of what is needed.
    let share = needed as f64 * 0.67 / spec().capacity_bytes() as f64;
    let small = LoopSpec {
        length_km: spec().length_km * share,
        ..spec()
    };
    let open = |weights| {
        let (memory, weights) = (Some(8 << 30), Some(weights));
        let fiber = Fiber::new(small.clone());
        let options = Options {
            memory,
            weights,
            ..with(fiber)
        };
        Engine::open(&path, &options)
    };
    let Err(Error::Budget { weights, .. }) = open(0) else {
        panic!("nothing is not enough")
    };
    let Err(Error::Option(message)) = open(weights) else {
        panic!("it does not fit")
    };
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
    let split = Fiber {
        split: true,
        ..Fiber::new(small)
    };
    let mut engine = streamed(&path, 0, &with(split));
    assert_same("split", &logits(&mut engine, &PROMPT, STEPS), &expected);
    let circuit = engine.stream().unwrap().circuit().unwrap().clone();
    let figures = circuit.gauge().figures();
    assert!(figures.taken > 0 && circuit.left_out_bytes() > 0);
    assert_eq!(figures.placed_bytes + circuit.left_out_bytes(), needed);
}

/// The least bytes for weights with which the model runs, so that most of it streams.
fn least(path: &Path) -> u64 {
    let options = Options {
        memory: Some(8 << 30),
        weights: Some(0),
        ..options(Way::Streamed)
    };
    match Engine::open(path, &options) {
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
        let fiber = Fiber {
            copies: Some(copies),
            compute_s: Some(1e-3),
            ..Fiber::new(spec())
        };
        let options = Options {
            weights,
            ..with(fiber)
        };
        Engine::open(&path, &options)
    };
    for copies in [1, 2, 5] {
        let mut engine = open(copies).unwrap();
        let circuit = engine.stream().unwrap().circuit().unwrap().clone();
        let figures = circuit.gauge().figures();
        assert!(figures.placed_bytes > 0, "{copies}");
        assert_eq!((circuit.copies(), figures.copies), (copies, copies));
        let turn_s = spec().lap_s() / f64::from(copies);
        assert!((circuit.turn_s() / turn_s - 1.0).abs() < 1e-9);
        assert!(circuit.coding().bound_s >= turn_s, "{copies}");
    }
    let Err(Error::Option(message)) = open(1_000_000).map(drop) else {
        panic!("so many do not fit")
    };
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
        let fiber = Fiber {
            copies: Some(1),
            compute_s,
            ..Fiber::new(spec)
        };
        let options = Options {
            weights,
            ..with(fiber)
        };
        let mut engine = Engine::open(&path, &options).unwrap();
        let assumed_s = engine.file().weight_bytes() as f64 / 8e9 / f64::from(engine.threads());
        let circuit = engine.stream().unwrap().circuit().unwrap().clone();
        assert!(circuit.gauge().figures().placed_bytes > 0);
        (circuit.compute_s(), assumed_s)
    };
    // A lap of light of half a second, whatever the compute.
    let (compute_s, assumed_s) = placed_for(100_000.0, None);
    assert_eq!(compute_s, assumed_s);
    // One of some microseconds.
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
    let fiber = Fiber {
        progress: Some(|_, _| ControlFlow::Break(())),
        ..Fiber::new(spec())
    };
    let options = Options {
        weights: Some(least(&path)),
        ..with(fiber)
    };
    let outcome = Engine::open(&path, &options).map(drop);
    assert!(matches!(outcome, Err(Error::Stopped)), "{outcome:?}");
}
