//! Every architecture that llama.cpp generates text with: streamed in the least memory
//! that works, a tiny model of each gives the logits of llama.cpp's own loader, bit for
//! bit, and two sequences that share laps get about the probabilities that each gets alone.
//!
//! `ARCH=name` tests only that one.

mod common;

use std::path::Path;

use common::{alone, options, scratch, streamed};
use delayline_engine::{KvType, Options, Way};
use delayline_llama::batch::{Batcher, Choice, Decoder, GenerateRequest};
use delayline_llama::{LlamaEngine, Piece, open, rides_alone};
use delayline_synth::{Quant, TinyArch, tiny_archs};

/// Largest difference of two log probabilities that may be caused by rounding.
const ROUNDING: f32 = 0.05;

/// The same where rounding may lead to another choice of experts.
const CHOICE: f32 = 0.5;

fn options_of(way: Way) -> Options {
    Options {
        threads: Some(1),
        kv: KvType::F32,
        seqs: Some(2),
        ..options(way)
    }
}

/// Logits after a prompt and after each of `tokens`. All of the prompt but its last token is
/// computed in pieces without logits.
fn logits(engine: &mut LlamaEngine, prompt: &[i32], tokens: &[i32]) -> Vec<Vec<f32>> {
    let (last, before) = prompt.split_last().expect("a prompt");
    let pieces = before.chunks(engine.ubatch() as usize);
    let singles = std::iter::once(last)
        .chain(tokens)
        .map(std::slice::from_ref);
    let laps = pieces.map(|piece| (piece, false));
    let mut pos = 0;
    let mut out = Vec::new();
    for (tokens, output) in laps.chain(singles.map(|single| (single, true))) {
        let piece = Piece {
            seq: 0,
            pos,
            tokens,
            output,
        };
        engine.decode(&[piece], None).expect("a lap");
        pos += tokens.len() as u32;
        if output {
            out.push(engine.logits(0).expect("logits").to_vec());
        }
    }
    out
}

/// Log probabilities of the tokens of given answers, with all requests at once or one after
/// the other.
fn logprobs(batcher: &mut Batcher, asked: &[(Vec<i32>, Vec<i32>)], at_once: bool) -> Vec<Vec<f32>> {
    let mut out = vec![Vec::new(); asked.len()];
    let mut ids = Vec::new();
    for (at, (prompt, answer)) in asked.iter().enumerate() {
        if !at_once {
            batcher.forget_left();
        }
        let request = GenerateRequest {
            logprobs: Some(0),
            ..GenerateRequest::new(prompt, answer.len(), Choice::Given(answer.clone()))
        };
        ids.push(batcher.join(request).expect("a slot").id);
        if at_once && at + 1 < asked.len() {
            continue;
        }
        let mut events = Vec::new();
        while batcher.ready() {
            batcher.lap(&mut events).expect("a lap");
        }
        for event in events {
            let at = ids.iter().position(|id| *id == event.sequence);
            let token = event.token.expect("a token");
            out[at.expect("who joined")].push(token.logprobs[0].logprob);
        }
    }
    out
}

fn check(arch: TinyArch, path: &Path) -> Result<(), String> {
    let prompt: Vec<i32> = (0..40).map(|i| 3 + i * 37 % 300).collect();
    let tokens = [5, 17, 250, 8];
    let mut oracle = open(path, &options_of(Way::Mmap)).map_err(|error| error.to_string())?;
    let expected = logits(&mut oracle, &prompt, &tokens);
    drop(oracle);
    if expected.iter().flatten().any(|logit| !logit.is_finite()) {
        return Err("the oracle's logits are not finite".into());
    }
    if expected[0] == expected[1] || expected[0].iter().all(|logit| *logit == expected[0][0]) {
        return Err("the oracle's logits are all alike".into());
    }
    let mut engine = streamed(path, 0, &options_of(Way::Auto));
    let got = logits(&mut engine, &prompt, &tokens);
    for (lap, (got, expected)) in got.iter().zip(&expected).enumerate() {
        let bits = |logits: &[f32]| logits.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        if bits(got) != bits(expected) {
            return Err(format!("logits differ in lap {lap}"));
        }
    }
    drop(engine);
    // Opened again, with enough memory for all weights.
    let again = Options {
        memory: Some(8 << 30),
        ..options_of(Way::Streamed)
    };
    let mut engine = open(path, &again).map_err(|error| error.to_string())?;
    if logits(&mut engine, &prompt, &tokens) != expected {
        return Err("logits differ when it is opened again".into());
    }
    // As `delayline models` prints it.
    let shares = arch.has_attention() && !rides_alone(arch.arch());
    if (engine.seqs() >= 2) != shares {
        return Err(format!("whether it shares laps: {shares} was said"));
    }
    if !shares {
        return Ok(());
    }
    if (engine.file().facts().experts > 0) != arch.has_experts() {
        return Err("whether it has experts".into());
    }
    let experts = engine.file().facts().experts > 0;
    engine.clear();
    let mut batcher = Batcher::new(engine, Some(128));
    let asked = [
        (prompt.clone(), tokens.to_vec()),
        (prompt[7..24].to_vec(), vec![9, 30, 31, 90, 7, 6]),
    ];
    let alone = logprobs(&mut batcher, &asked, false);
    batcher.forget_left();
    let together = logprobs(&mut batcher, &asked, true);
    let both = alone.iter().flatten().zip(together.iter().flatten());
    let far = both.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let rounding = if experts { CHOICE } else { ROUNDING };
    if far > rounding {
        return Err(format!("{far} apart when two share laps"));
    }
    Ok(())
}

#[test]
fn every_architecture_runs_as_in_llama_cpp() {
    let (_alone, dir) = (alone(), scratch());
    let only = std::env::var("ARCH").ok();
    let mut failed = Vec::new();
    let all = tiny_archs().filter(|arch| only.as_ref().is_none_or(|only| only == arch.arch()));
    for arch in all {
        let path = dir.path().join(format!("{}.gguf", arch.name()));
        write(arch, &path);
        let checked = std::panic::catch_unwind(|| check(arch, &path));
        let checked = checked.unwrap_or_else(|_| Err("it panicked".into()));
        eprintln!("RESULT {}: {checked:?}", arch.arch());
        if let Err(message) = checked {
            failed.push(format!("{}: {message}", arch.arch()));
        }
        std::fs::remove_file(&path).expect("it was there");
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

fn write(arch: TinyArch, path: &Path) {
    delayline_synth::write(arch, Quant::F16, 1, path, &mut |_, _| {}).expect("a model");
}
