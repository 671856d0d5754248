//! Embeddings: the hidden state of a text's last token, also of texts that share laps, if
//! the model's file declares last-token pooling.

mod common;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use common::{alone, options, scratch, streamed, synth};
use delayline_engine::{Options, Way};
use delayline_gguf::Header;
use delayline_llama::Piece;
use delayline_llama::batch::{Batcher, Choice, GenerateRequest};
use delayline_synth::Quant;
use delayline_testing::with_numbers;

/// A model whose file declares last-token pooling if `says`.
fn model(dir: &Path, shape: &str, arch: &str, says: bool) -> PathBuf {
    let path = synth(dir, shape, Quant::F16);
    if says {
        let plain = std::fs::read(&path).expect("a model");
        let key = format!("{arch}.pooling_type");
        std::fs::write(&path, with_numbers(&plain, &[(&key[..], 3_u32)])).expect("written");
    }
    path
}

fn many(seqs: u32) -> Options {
    Options {
        seqs: Some(seqs),
        ..options(Way::Auto)
    }
}

/// A tensor of 16-bit numbers, as rows.
fn rows(path: &Path, names: &[&str]) -> Vec<Vec<f32>> {
    let file = std::fs::read(path).expect("a model");
    let header = Header::parse(&file, file.len() as u64).expect("a header");
    let tensor = names.iter().find_map(|name| header.tensor(name));
    let tensor = tensor.expect("one of them");
    let bytes = &file[tensor.at as usize..tensor.end() as usize];
    let numbers: Vec<f32> = bytes
        .chunks_exact(2)
        .map(|two| {
            let bits = u16::from_le_bytes([two[0], two[1]]);
            let (sign, exponent) = (f32::from(bits >> 15), i32::from(bits >> 10 & 31));
            let fraction = f32::from(bits & 1023) / 1024.0;
            let size = match exponent {
                0 => fraction * 2_f32.powi(-14),
                _ => (1.0 + fraction) * 2_f32.powi(exponent - 15),
            };
            (1.0 - 2.0 * sign) * size
        })
        .collect();
    numbers
        .chunks_exact(tensor.dims[0] as usize)
        .map(<[f32]>::to_vec)
        .collect()
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum()
}

#[test]
fn logits_are_the_heads_product_with_the_hidden_state() {
    let _alone = alone();
    for (shape, arch) in [("tiny-qwen3", "qwen3"), ("tiny-llama", "llama")] {
        let dir = scratch();
        let path = model(dir.path(), shape, arch, true);
        let head = rows(&path, &["output.weight", "token_embd.weight"]);
        let mut engine = streamed(&path, 200 << 10, &many(3));
        assert!(engine.backend().embeds(), "{shape}");
        let piece = |seq, tokens, output| Piece {
            seq,
            pos: 0,
            tokens,
            output,
        };
        let pieces = [
            piece(0, &[5, 6, 7][..], true),
            piece(1, &[9, 8], false),
            piece(2, &[11], true),
        ];
        engine.lap(&pieces, None).expect("a lap");
        let backend = engine.backend();
        for row in [2, 5] {
            let hidden = backend.hidden(row).expect("a hidden state");
            let logits = backend.context().logits_of(row as i32).expect("logits");
            assert_eq!(logits.len(), head.len());
            let most = logits.iter().fold(0_f32, |most, x| most.max(x.abs()));
            for (logit, weights) in logits.iter().zip(&head) {
                let off = dot(hidden, weights) - f64::from(*logit);
                assert!(
                    off.abs() < 0.01 * f64::from(most),
                    "{shape}, row {row}: {off} of {most}"
                );
            }
        }
        assert!(backend.hidden(0).is_none() && backend.hidden(4).is_none());
    }
}

/// The embeddings of texts that share laps.
fn embed(batcher: &mut Batcher, texts: &[Vec<i32>]) -> Vec<Vec<f32>> {
    let joined = texts.iter().map(|text| {
        let request = GenerateRequest::new(text, 1, Choice::Embedding);
        batcher.join(request).expect("a slot").id
    });
    let ids: Vec<_> = joined.collect();
    let (mut events, mut found) = (Vec::new(), HashMap::new());
    while batcher.ready() {
        let lap = batcher.lap(&mut events).expect("a lap");
        assert_eq!(lap.generated, 0);
        for event in events.drain(..) {
            let token = event.token.expect("an embedding");
            assert!(token.finish.is_some() && token.text.is_empty());
            found.insert(event.sequence, token.embedding);
        }
    }
    ids.iter()
        .map(|id| found.remove(id).expect("one for each"))
        .collect()
}

#[test]
fn texts_that_share_laps_are_stood_for_as_alone() {
    let _alone = alone();
    let dir = scratch();
    let path = model(dir.path(), "tiny-qwen3", "qwen3", true);
    let text = |seed: i32, n: i32| (0..n).map(|i| 3 + (seed + i * 37) % 300).collect();
    // One is longer than a micro-batch of 16; the last is equal to the first.
    let texts: Vec<Vec<i32>> = vec![text(1, 5), text(2, 40), text(3, 1), text(1, 5)];
    let batcher = |seqs| Batcher::new(streamed(&path, 200 << 10, &many(seqs)), Some(128));
    let mut one = batcher(1);
    let alone: Vec<Vec<f32>> = texts
        .iter()
        .flat_map(|text| embed(&mut one, std::slice::from_ref(text)))
        .collect();
    drop(one);
    let together = embed(&mut batcher(4), &texts);
    for (a, b) in alone.iter().zip(&together) {
        assert!((dot(a, a) - 1.0).abs() < 1e-5);
        assert!(dot(a, b) > 0.9999, "{}", dot(a, b));
    }
    assert!(dot(&alone[0], &alone[1]) < 0.99, "two texts are one");
}

#[test]
fn a_model_that_does_not_say_so_embeds_nothing() {
    let _alone = alone();
    let dir = scratch();
    let path = model(dir.path(), "tiny-qwen3", "qwen3", false);
    let mut batcher = Batcher::new(streamed(&path, 200 << 10, &many(1)), Some(128));
    assert!(!batcher.decoder().backend().embeds());
    let request = GenerateRequest::new(&[3, 4], 1, Choice::Embedding);
    batcher.join(request).expect("a slot");
    let mut events = Vec::new();
    batcher.lap(&mut events).expect("a lap");
    let error = events[0].token.as_ref().expect_err("no embedding");
    assert!(error.to_string().contains("hidden states"), "{error}");
    assert!(!batcher.ready());
}
