//! The choices of experts of a routed model, as llama.cpp would compute them from what is in
//! the file, experts left out: they add little.

use delayline_gguf::{Header, TensorType};
use delayline_synth::{Blueprint, Experts, Quant, Shape, names, shape, write};
use std::collections::HashMap;

const TOKENS: usize = 120;
const EXPERTS: usize = 128;
const USED: usize = 8;

/// What is compared with the routes of real models, averages over layers.
#[derive(Debug, Default)]
struct RouteFigures {
    /// Share of uses that the eight hottest experts of a layer take.
    hot: f64,
    /// Share of a token's experts that the one before used too, and those 8 and 32 before.
    overlap: [f64; 3],
    /// The least and the largest of the first in a layer.
    overlap_range: (f64, f64),
    /// Share of a layer's experts that its router would name before the layer's attention.
    predicted: f64,
}

fn small() -> Shape {
    let mut small = shape("tiny-qwen3moe").unwrap();
    small.n_layers = 10;
    small.n_embd = 512;
    small.n_heads = 2;
    small.n_kv_heads = 1;
    small.head_dim = 128;
    small.vocab = 4000;
    small.rope_freq_base = 1e6;
    small.experts = Some(Experts {
        count: EXPERTS as u32,
        used: USED as u32,
        n_ff: 1,
    });
    small
}

struct Weights(HashMap<String, Vec<f32>>);

impl Weights {
    fn read(file: &[u8]) -> Self {
        let header = Header::parse(file, file.len() as u64).unwrap();
        let values = |tensor: &delayline_gguf::Tensor| -> Vec<f32> {
            let bytes = &file[tensor.at as usize..tensor.end() as usize];
            match tensor.ty {
                TensorType::F32 => {
                    let words = bytes.chunks_exact(4);
                    words
                        .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
                        .collect()
                }
                TensorType::F16 => bytes.chunks_exact(2).map(half).collect(),
                other => panic!("{other} in a file of halves"),
            }
        };
        let tensors = header.tensors.iter();
        let tensors = tensors.filter(|tensor| !tensor.name.contains("_exps"));
        Self(tensors.map(|t| (t.name.to_string(), values(t))).collect())
    }

    fn get(&self, layer: u32, name: &str) -> &[f32] {
        &self.0[&format!("blk.{layer}.{name}.weight")]
    }
}

fn half(bytes: &[u8]) -> f32 {
    let bits = u16::from_le_bytes([bytes[0], bytes[1]]);
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f32::from(bits & 1023));
    let magnitude = match exponent {
        0 => fraction * 2f32.powi(-24),
        _ => (1.0 + fraction / 1024.0) * 2f32.powi(exponent - 15),
    };
    if bits & 0x8000 == 0 {
        magnitude
    } else {
        -magnitude
    }
}

fn normed(x: &[f32], gain: &[f32]) -> Vec<f32> {
    let square = x.iter().map(|x| x * x).sum::<f32>() / x.len() as f32;
    let scale = square.sqrt().recip();
    x.iter()
        .zip(gain)
        .map(|(x, gain)| x * scale * gain)
        .collect()
}

fn product(matrix: &[f32], x: &[f32]) -> Vec<f32> {
    let rows = matrix.chunks_exact(x.len());
    rows.map(|row| row.iter().zip(x).map(|(a, b)| a * b).sum())
        .collect()
}

fn rotate(x: &mut [f32], position: usize, base: f32) {
    let half = x.len() / 2;
    for at in 0..half {
        let angle = position as f32 * base.powf(-(at as f32) / half as f32);
        let (sin, cos) = angle.sin_cos();
        let (a, b) = (x[at], x[at + half]);
        (x[at], x[at + half]) = (a * cos - b * sin, a * sin + b * cos);
    }
}

fn best(scores: &[f32], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    order.truncate(count);
    order
}

/// What every head of a layer reads: the values of the tokens up to each, weighed.
fn attended(weights: &Weights, layer: u32, model: &Shape, inputs: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let head = model.head_dim as usize;
    let side = |name: &str, norm: &str| -> Vec<Vec<f32>> {
        let rows = &weights.get(layer, name)[..head * model.n_embd as usize];
        let inputs = inputs.iter().enumerate();
        let heads = inputs.map(|(at, input)| {
            let mut out = normed(&product(rows, input), weights.get(layer, norm));
            rotate(&mut out, at, model.rope_freq_base);
            out
        });
        heads.collect()
    };
    let (queries, keys) = (side("attn_q", "attn_q_norm"), side("attn_k", "attn_k_norm"));
    let contents = inputs
        .iter()
        .map(|x| product(weights.get(layer, "attn_v"), x));
    let contents: Vec<Vec<f32>> = contents.collect();
    let read = |at: usize| {
        let scores = keys[..=at].iter().map(|key| {
            let product: f32 = key.iter().zip(&queries[at]).map(|(a, b)| a * b).sum();
            (product / (head as f32).sqrt()).exp()
        });
        let scores: Vec<f32> = scores.collect();
        let sum: f32 = scores.iter().sum();
        let mut out = vec![0.0; head];
        for (score, content) in scores.iter().zip(&contents) {
            for (out, value) in out.iter_mut().zip(content) {
                *out += value * score / sum;
            }
        }
        out.repeat(model.n_heads as usize)
    };
    (0..inputs.len()).map(read).collect()
}

/// Runs over `tokens` and looks at what each layer chooses.
fn figures(model: &Shape, weights: &Weights, tokens: &[u32]) -> RouteFigures {
    let width = model.n_embd as usize;
    let table = &weights.0["token_embd.weight"];
    let embeddings = tokens.iter().map(|token| *token as usize * width);
    let mut x: Vec<Vec<f32>> = embeddings
        .map(|at| table[at..at + width].to_vec())
        .collect();
    let mut routed: Vec<Vec<f32>> = Vec::new();
    let mut out = RouteFigures {
        overlap_range: (1.0, 0.0),
        ..RouteFigures::default()
    };
    let share =
        |a: &[usize], b: &[usize]| a.iter().filter(|a| b.contains(a)).count() as f64 / USED as f64;
    let mean = |all: &[f64]| all.iter().sum::<f64>() / all.len() as f64;
    let layers = f64::from(model.n_layers);
    for layer in 0..model.n_layers {
        let norm = weights.get(layer, "attn_norm");
        let inputs: Vec<Vec<f32>> = x.iter().map(|x| normed(x, norm)).collect();
        for (x, read) in x.iter_mut().zip(attended(weights, layer, model, &inputs)) {
            let added = product(weights.get(layer, "attn_output"), &read);
            x.iter_mut().zip(added).for_each(|(x, added)| *x += added);
        }
        let router = weights.get(layer, "ffn_gate_inp");
        let choose = |input: &Vec<f32>| best(&product(router, input), USED);
        let before = std::mem::take(&mut routed);
        let norm = weights.get(layer, "ffn_norm");
        routed = x.iter().map(|x| normed(x, norm)).collect();
        let chosen: Vec<Vec<usize>> = routed.iter().map(choose).collect();
        if layer > 0 {
            let guessed = before
                .iter()
                .zip(&chosen)
                .map(|(x, chosen)| share(chosen, &choose(x)));
            out.predicted += mean(&guessed.collect::<Vec<_>>()) / (layers - 1.0);
        }
        let mut uses = [0; EXPERTS];
        chosen
            .iter()
            .flatten()
            .for_each(|expert| uses[*expert] += 1);
        uses.sort_unstable();
        let hottest: i32 = uses[EXPERTS - 8..].iter().sum();
        out.hot += f64::from(hottest) / (tokens.len() * USED) as f64 / layers;
        for (overlap, lag) in out.overlap.iter_mut().zip([1, 8, 32]) {
            let pairs = chosen.iter().zip(&chosen[lag..]);
            let of_layer = mean(&pairs.map(|(a, b)| share(a, b)).collect::<Vec<_>>());
            *overlap += of_layer / layers;
            if lag == 1 {
                let (least, most) = out.overlap_range;
                out.overlap_range = (least.min(of_layer), most.max(of_layer));
            }
        }
    }
    out
}

fn written(model: &Shape, seed: u64) -> Weights {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    let routed = Blueprint::from(model).routed().unwrap();
    write(routed, Quant::F16, seed, &path, &mut |_, _| {}).unwrap();
    Weights::read(&std::fs::read(path).unwrap())
}

/// Real routes, of Qwen3-30B: the eight hottest experts of a layer take .45 of uses, and a
/// token uses .38 of the experts of the one before, .27 of that 8 before, .24 of that 32
/// before. A small model of few layers comes near.
#[test]
fn experts_are_chosen_as_in_real_routes() {
    let seed = delayline_testing::seed();
    let model = small();
    let all = (0..4).map(|of| {
        let weights = written(&model, seed.wrapping_add(of));
        let first = 259 + (seed % 3000) as u32;
        let tokens: Vec<u32> = (0..TOKENS as u32).map(|at| first + at).collect();
        figures(&model, &weights, &tokens)
    });
    let all: Vec<RouteFigures> = all.collect();
    println!("{all:?}");
    // One small model differs much from the next.
    let mean = |of: fn(&RouteFigures) -> f64| all.iter().map(of).sum::<f64>() / all.len() as f64;
    let holds = |what: &str, value: f64, least: f64, most: f64| {
        assert!(
            (least..=most).contains(&value),
            "{what}: {value} is not in {least} to {most}"
        );
    };
    let overlap = [
        mean(|of| of.overlap[0]),
        mean(|of| of.overlap[1]),
        mean(|of| of.overlap[2]),
    ];
    let overlap_range = (mean(|of| of.overlap_range.0), mean(|of| of.overlap_range.1));
    let (hot, predicted) = (mean(|of| of.hot), mean(|of| of.predicted));
    holds("hottest", hot, 0.36, 0.60);
    holds("overlap with the token before", overlap[0], 0.25, 0.50);
    holds("with that 8 before", overlap[1], 0.18, 0.42);
    holds("with that 32 before", overlap[2], 0.15, 0.42);
    assert!(
        overlap[0] > overlap[1],
        "neighbours have more in common: {overlap:?}"
    );
    assert!(
        overlap_range.1 > 2.0 * overlap_range.0,
        "layers differ: {overlap_range:?}"
    );
    holds("predicted", predicted, 0.75, 0.95);
}

/// The head names the next token and the one after, which of them first is left to chance.
#[test]
fn what_is_said_goes_on() {
    let seed = delayline_testing::seed();
    let model = small();
    let weights = written(&model, seed);
    let (table, head) = (&weights.0["token_embd.weight"], &weights.0["output.weight"]);
    for token in [259, 700, 1500, 3997] {
        let width = model.n_embd as usize;
        let logits = product(head, &table[token * width..][..width]);
        let mut named = best(&logits, 2);
        named.sort_unstable();
        assert_eq!(named, [token + 1, token + 2]);
    }
}

#[test]
fn only_mixtures_with_a_head_are_routed() {
    for name in names().chain(["tiny-gpt-oss", "gpt-oss-20b"]) {
        let model = Blueprint::named(name).unwrap();
        let is_mixture = shape(name).is_some_and(|shape| shape.experts.is_some());
        let routed = model.routed();
        assert_eq!(routed.is_ok(), is_mixture, "{name}");
        if let Err(error) = routed {
            let message = error.to_string();
            assert!(
                message.contains(name) && message.contains("qwen3-30b-a3b"),
                "{message}"
            );
        }
    }
}
