//! Experts in frames give the same bits as llama.cpp's own loader, under several policies
//! and budgets, whether experts are guessed or not.

mod common;

use common::{alone, assert_same, logits, options, scratch, streamed, synth};
use delayline_engine::{ExpertPolicy, Options, Way};
use delayline_llama::Vocab;
use delayline_synth::Quant;

const TEXT: &str =
    "Weights pass in an order that is known before the start; so they need no random access.";

/// Policies: one that never evicts, two that do; and whether experts are guessed.
const POLICIES: [(ExpertPolicy, bool); 4] = [
    (ExpertPolicy::FirstCome, true),
    (ExpertPolicy::Lru, true),
    (ExpertPolicy::NextUse, true),
    (ExpertPolicy::NextUse, false),
];

/// Number of tokens that are generated after the prompt.
const STEPS: usize = 16;

/// Compares the logits under all policies with more and more memory, until nothing is read
/// twice. Returns in how many cases experts were read again.
fn check(shape: &str, quant: Quant) -> u32 {
    let (_alone, dir) = (alone(), scratch());
    let path = synth(dir.path(), shape, quant);
    let base = options(Way::Auto);
    let mmap = Options {
        way: Way::Mmap,
        ..base.clone()
    };
    let mut oracle = delayline_llama::open(&path, &mmap).expect("the oracle");
    let prompt = Vocab::new(oracle.backend().model()).tokenize(TEXT, true, false);
    let prompt = prompt.expect("tokens");
    let expected = logits(&mut oracle, &prompt, STEPS);
    let weights = oracle.file().weight_bytes();
    drop(oracle);
    let (mut framed, mut missed, mut whole, mut guessed) = (0, 0, 0, 0);
    for tenth in [0, 5, 6, 7, 8, 9] {
        for (policy, guess) in POLICIES {
            let options = Options {
                experts: policy,
                no_guess: !guess,
                ..base.clone()
            };
            let mut engine = streamed(&path, weights * tenth / 10, &options);
            let label = format!("{shape}, {tenth}/10 more, {}", policy.name());
            assert_same(&label, &logits(&mut engine, &prompt, STEPS), &expected);
            let stream = engine.stream().expect("it is streamed");
            let Some(counts) = stream.expert_counts() else {
                continue;
            };
            let guesses = stream.guess_counts().expect("where there are frames");
            println!("{label}: {counts:?}, {guesses:?}");
            assert!(guess || guesses.named == 0);
            guessed += guesses.named;
            framed += 1;
            assert!(counts.hits <= counts.used && counts.used > 0);
            let held = stream.resident_bytes();
            assert!(held <= 2 * weights, "{label}: {held} bytes are held");
            // Experts that all fit are never read a second time.
            missed += u32::from(counts.bytes_read > weights);
            whole += u32::from(counts.bytes_read < weights);
        }
    }
    assert!(framed >= 6, "{shape}: frames were used {framed} times");
    // With a single layer of experts there is no next layer to guess for.
    assert!(
        guessed > 0 || shape == "tiny-deepseek2",
        "{shape}: no expert was guessed"
    );
    assert!(whole > 0, "{shape}: everything stayed in {whole} cases");
    missed
}

#[test]
fn mixtral_in_frames() {
    // Random weights of this shape choose too few experts to evict any.
    check("tiny-mixtral", Quant::Q4_0);
}

#[test]
fn qwen3_in_frames() {
    let missed = check("tiny-qwen3moe", Quant::Q8_0);
    assert!(missed > 0, "no expert was displaced and read again");
}

#[test]
fn gpt_oss_in_frames() {
    let missed = check("tiny-gpt-oss", Quant::Q8_0);
    assert!(missed > 0, "no expert was displaced and read again");
}

#[test]
fn deepseek_in_frames() {
    check("tiny-deepseek2", Quant::Q8_0);
}
