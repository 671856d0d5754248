//! Hot experts are known at the next start: they are read before they are needed, and the
//! logits stay the same, bit for bit.

mod common;

use std::path::Path;
use std::sync::Arc;

use common::{alone, assert_same, logits, options, scratch, streamed, synth};
use delayline_engine::{
    ExpertCounts, ExpertPolicy, HotnessFile, Options, Stream, Way, hotness_path,
};
use delayline_llama::{LlamaEngine, Vocab};
use delayline_synth::Quant;

const TEXT: &str = "Weights pass in an order that is known before the start.";

/// Number of tokens that are generated after the prompt.
const STEPS: usize = 24;

/// Number of tokens of the second run, which is the beginning of the first.
const FIRST: usize = 8;

fn with_file(model: &Path, policy: ExpertPolicy) -> Options {
    Options {
        experts: policy,
        hotness: Some(Arc::new(HotnessFile::open(model))),
        ..options(Way::Streamed)
    }
}

fn stream(engine: &mut LlamaEngine) -> &mut Stream {
    engine.stream().expect("it is streamed")
}

fn counts(engine: &mut LlamaEngine) -> ExpertCounts {
    let counts = stream(engine).expert_counts();
    counts.expect("experts have frames")
}

/// Reads all hot experts; returns the bytes of weights in memory before and after.
fn warmed(engine: &mut LlamaEngine) -> (u64, u64) {
    let stream = stream(engine);
    let before = stream.resident_bytes();
    while stream.warm().expect("it is read") {
        std::thread::yield_now();
    }
    (before, stream.resident_bytes())
}

fn check(shape: &str, quant: Quant) {
    let (_alone, dir) = (alone(), scratch());
    let path = synth(dir.path(), shape, quant);
    let hot = hotness_path(&path);
    let extra = std::fs::metadata(&path).expect("a file").len() * 6 / 10;
    let mut cold = streamed(&path, extra, &options(Way::Streamed));
    let prompt = Vocab::new(cold.backend().model()).tokenize(TEXT, true, false);
    let prompt = prompt.expect("tokens");
    let expected = logits(&mut cold, &prompt, STEPS);
    drop(cold);
    for policy in ExpertPolicy::ALL {
        let label = format!("{shape}, {}", policy.name());
        let _ = std::fs::remove_file(&hot);
        // A run without a list: what it reads for the first tokens.
        let first = || Options {
            hotness: None,
            ..with_file(&path, policy)
        };
        let mut engine = streamed(&path, extra, &first());
        logits(&mut engine, &prompt, FIRST);
        stream(&mut engine).write_hotness().expect("nothing to do");
        let cold = counts(&mut engine);
        drop(engine);
        assert!(!hot.exists(), "{label}: nobody asked for {}", hot.display());

        let mut engine = streamed(&path, extra, &with_file(&path, policy));
        assert_eq!(warmed(&mut engine).0, warmed(&mut engine).1, "{label}");
        assert_same(&label, &logits(&mut engine, &prompt, STEPS), &expected);
        stream(&mut engine).write_hotness().expect("it is written");
        drop(engine);

        let mut engine = streamed(&path, extra, &with_file(&path, policy));
        let (before, after) = warmed(&mut engine);
        assert!(after > before, "{label}: nothing was read");
        let got = logits(&mut engine, &prompt, FIRST);
        assert_same(&label, &got, &expected[..=FIRST]);
        let warm = counts(&mut engine);
        println!(
            "{label}: cold {cold:?}, warm {warm:?}, {} bytes",
            after - before
        );
        assert_eq!(warm.used, cold.used, "{label}");
        assert!(warm.bytes_read < cold.bytes_read, "{label}");
        drop(engine);

        // Without waiting for the hot experts, which are then read between the laps.
        let mut engine = streamed(&path, extra, &with_file(&path, policy));
        assert_same(&label, &logits(&mut engine, &prompt, STEPS), &expected);
    }
}

#[test]
fn qwen3_starts_warm() {
    check("tiny-qwen3moe", Quant::Q8_0);
}

#[test]
fn gpt_oss_starts_warm() {
    check("tiny-gpt-oss", Quant::Q8_0);
}

#[test]
fn a_list_of_another_model_or_none_is_told_and_not_used() {
    let (_alone, dir) = (alone(), scratch());
    let path = synth(dir.path(), "tiny-qwen3moe", Quant::Q8_0);
    let other = synth(dir.path(), "tiny-gpt-oss", Quant::Q8_0);
    let extra = |path: &Path| std::fs::metadata(path).expect("a file").len() * 6 / 10;
    let open = |path: &Path| {
        let options = with_file(path, ExpertPolicy::default());
        streamed(path, extra(path), &options)
    };
    let told = |engine: &LlamaEngine| {
        let notices = engine.notices().into_iter();
        notices
            .filter(|n| n.contains(".experts"))
            .collect::<Vec<_>>()
    };
    let mut engine = open(&other);
    logits(&mut engine, &[1, 2, 3], 4);
    stream(&mut engine).write_hotness().expect("it is written");
    assert_eq!(told(&engine), Vec::<String>::new());
    drop(engine);
    let hot = hotness_path(&path);
    std::fs::copy(hotness_path(&other), &hot).expect("copied");
    let mut engine = open(&path);
    assert!(told(&engine)[0].contains("another model"));
    let (before, after) = warmed(&mut engine);
    assert_eq!(before, after);
    // The list is replaced by one of this model.
    logits(&mut engine, &[1, 2, 3], 4);
    stream(&mut engine).write_hotness().expect("it is written");
    drop(engine);
    let mut engine = open(&path);
    assert_eq!(told(&engine), Vec::<String>::new());
    let (before, after) = warmed(&mut engine);
    assert!(after > before);
}
