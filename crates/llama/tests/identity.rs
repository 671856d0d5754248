//! Logits are bit for bit those of llama.cpp's own loader, at several budgets, for every
//! family of models.

mod common;

use std::path::Path;

use common::{alone, assert_same, demo_model, logits, options, scratch, streamed, synth};
use delayline_engine::{KvType, Options, Way};
use delayline_llama::Vocab;
use delayline_synth::Quant;

const TEXT: &str =
    "Weights pass in an order that is known before the start; so they need no random access.";

/// Streams `path` at several budgets and compares with llama.cpp's mmap.
fn check(path: &Path, base: &Options) {
    let label = path.file_name().unwrap().to_string_lossy().into_owned();
    let mut oracle = delayline_llama::open(
        path,
        &Options {
            way: Way::Mmap,
            ..base.clone()
        },
    )
    .unwrap();
    let prompt = Vocab::new(oracle.backend().model())
        .tokenize(TEXT, true, false)
        .unwrap();
    assert!(prompt.len() > 16, "{label}: the prompt spans several laps");
    let expected = logits(&mut oracle, &prompt, 6);
    let weights = oracle.file().weight_bytes();
    let experts = oracle.file().facts().experts > 0;
    drop(oracle);
    for extra in [0, weights / 3, 2 * weights / 3, 2 * weights] {
        let mut engine = streamed(path, extra, base);
        let got = logits(&mut engine, &prompt, 6);
        let stream = engine.stream().unwrap();
        let label = format!(
            "{label} with {extra} bytes more, {} a lap",
            stream.bytes_per_lap()
        );
        assert_same(&label, &got, &expected);
        if extra == 0 {
            let moved = stream.line().counters().bytes_read;
            let (asked, found) = stream.item_hits();
            // All weights were read through the line, or most experts were read again.
            let passed = if experts {
                asked > 2 * found
            } else {
                moved > weights
            };
            assert!(
                passed,
                "{label}: {moved} bytes of {weights} moved, {found} of {asked} items found"
            );
        }
    }
}

macro_rules! families {
    ($($test:ident: $shape:literal, $quant:ident;)*) => {$(
        #[test]
        fn $test() {
            let (_alone, dir) = (alone(), scratch());
            check(&synth(dir.path(), $shape, Quant::$quant), &options(Way::Auto));
        }
    )*};
}

families! {
    llama: "tiny-llama", Q4_0;
    llama_mixed_types: "tiny-llama", Q4KM;
    mistral: "tiny-mistral", Q8_0;
    qwen2: "tiny-qwen2", Q8_0;
    qwen3: "tiny-qwen3", F16;
    gemma: "tiny-gemma2", Q8_0;
    gemma3: "tiny-gemma3", F16;
    phi: "tiny-phi3", F16;
    mixtral: "tiny-mixtral", Q4_0;
    qwen3_experts: "tiny-qwen3moe", Q8_0;
}

#[test]
fn smollm2_with_real_text() {
    let _alone = alone();
    let mut engine = streamed(&demo_model(), 0, &options(Way::Auto));
    let stream = engine.stream().unwrap();
    let (lap, weights) = (stream.bytes_per_lap(), stream.resident_bytes());
    assert!(
        lap > weights,
        "with the least memory most is streamed: {lap} a lap, {weights} stay"
    );
    drop(engine);
    check(&demo_model(), &options(Way::Auto));
}

#[test]
fn smollm2_with_another_cache_and_one_row_a_lap() {
    let _alone = alone();
    let base = Options {
        kv: KvType::Q8_0,
        ubatch: Some(1),
        threads: Some(1),
        ..options(Way::Auto)
    };
    let path = demo_model();
    let mut oracle = delayline_llama::open(
        &path,
        &Options {
            way: Way::Mmap,
            ..base.clone()
        },
    )
    .unwrap();
    let prompt = Vocab::new(oracle.backend().model())
        .tokenize("The mercury delay line", true, false)
        .unwrap();
    let expected = logits(&mut oracle, &prompt, 2);
    drop(oracle);
    let mut engine = streamed(&path, 0, &base);
    assert_same("one row", &logits(&mut engine, &prompt, 2), &expected);
}

#[test]
fn a_split_model_is_the_same_model() {
    let (_alone, dir) = (alone(), scratch());
    let shape = delayline_synth::shape("tiny-llama").unwrap();
    let out = dir.path().join("split.gguf");
    let parts =
        delayline_synth::write_split(&shape, Quant::Q8_0, 1, 3, &out, &mut |_, _| {}).unwrap();
    assert_eq!(parts.paths.len(), 3);
    check(&parts.paths[0], &options(Way::Auto));
}
