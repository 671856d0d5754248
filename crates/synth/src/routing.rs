//! Weights that make a mixture choose its experts as trained ones do: some more often than
//! others, much the same ones from token to token, and mostly those that the layer before
//! would have named. Everything else of the model stays random.
//!
//! An embedding has three segments: one that all tokens share, one that the tokens of a
//! *topic* share (runs of ids), one of the token alone. Routers are random, so that what
//! two tokens have in common is what they choose in common, and the shared segment is what
//! makes some experts popular. Attention sees the shared segment alone, by queries equal to
//! keys: what is left is rotation, by which a token attends to itself and the few before
//! it, so that neighbours have more in common. Layers add little, so that the next router
//! finds nearly what this one did. The head names the token with the next id, or the one
//! after: what the model says walks through topics and does not settle.

use delayline_gguf::{Tensor, TensorType};

use crate::shape::{Arch, Shape};
use crate::weights::{Random, put_steps};

/// Tokens of a topic: consecutive ids.
const TOPIC_TOKENS: u32 = 200;

/// Ids below are of bytes and of what is special.
const FIRST_WORD: u32 = 259;

/// What the segments of an embedding have of it, in eighths: the shared one, the topic's; the
/// token's own has the rest.
const SHARED_EIGHTHS: u64 = 1;
const TOPIC_EIGHTHS: u64 = 2;

/// Values of the segments, whose signs are random, in steps.
const SHARED_STEPS: f32 = 7.0;
const TOPIC_STEPS: f32 = 2.0;
const OWN_STEPS: f32 = 3.0;
/// Of single bytes, which come ever again in any text.
const BYTE_STEPS: f32 = 1.0;

/// How strongly the head names the next token and the one after, in steps.
const NEXT_STEPS: f32 = 16.0;
const SECOND_STEPS: f32 = 15.0;
/// Logit of the next token if only its embedding arrived; much is added to it on the way.
const NEXT_LOGIT: f32 = 60.0;

/// What attention adds in a layer, of the embedding's size.
const ATTENTION_GAIN: f32 = 0.4;
/// The product of query and key of a token and itself, over the root of their length.
const ATTENTION_SHARPNESS: f32 = 3.0;
/// Of the norm before the experts: what they add grows with its square.
const EXPERTS_GAIN: f32 = 0.5;

/// How much more than the rest routers see of the shared segment: in the first layer, and
/// the least and the most in the others, between which layers differ.
const SKEW_FIRST: f32 = 0.2;
const SKEW: (f32, f32) = (0.4, 2.4);

/// A choice of weights for one model.
pub(crate) struct Routing {
    n_embd: u64,
    head_dim: u64,
    has_head_norms: bool,
    seed: u64,
}

/// How a tensor is filled.
pub(crate) enum Fill {
    /// All values alike.
    Constant(f32),
    /// Row by row.
    Rows(RowFill),
}

/// The rows of one tensor.
pub(crate) struct RowFill {
    kind: Kind,
    /// The value of a step.
    step: f32,
    shared: usize,
    topic: usize,
    seed: u64,
}

enum Kind {
    Embedding,
    Head,
    /// Queries or keys, alike in every head of so many rows.
    Position(u64),
    /// Values: all but the shared segment.
    Content,
    /// What attention adds: nothing to the shared segment, on which its own sight rests.
    Addition,
    /// The shared segment has this factor.
    Router(f32),
}

impl Routing {
    pub(crate) fn new(shape: &Shape, seed: u64) -> Self {
        Self {
            n_embd: shape.n_embd.into(),
            head_dim: shape.head_dim.into(),
            has_head_norms: shape.arch == Arch::Qwen3Moe,
            seed,
        }
    }

    /// How `tensor` is filled, if not like that of any model.
    pub(crate) fn fill(&self, tensor: &Tensor) -> Option<Fill> {
        let name = &*tensor.name;
        let (layer, stem) = match name.strip_prefix("blk.").and_then(|n| n.split_once('.')) {
            Some((layer, stem)) => (layer.parse().unwrap_or(0), stem),
            None => (0_u64, name),
        };
        let width = (self.n_embd as f32).sqrt().recip();
        let shared = self.shared() as f32;
        let (kind, step) = match stem.strip_suffix(".weight")? {
            "attn_norm" => return Some(Fill::Constant(ATTENTION_GAIN)),
            "ffn_norm" => return Some(Fill::Constant(EXPERTS_GAIN)),
            "attn_q_norm" | "attn_k_norm" => {
                return Some(Fill::Constant(ATTENTION_SHARPNESS.sqrt()));
            }
            "token_embd" => (Kind::Embedding, self.embedding_step()),
            "output" => {
                let seen = OWN_STEPS * self.embedding_step() * self.own() as f32;
                (Kind::Head, NEXT_LOGIT / (NEXT_STEPS * seen))
            }
            "attn_q" | "attn_k" => {
                // Where no norm follows, that which makes the product as large.
                let size = match self.has_head_norms {
                    true => 1.0,
                    false => ATTENTION_SHARPNESS.sqrt(),
                };
                let seen = SHARED_STEPS * self.embedding_step() * ATTENTION_GAIN;
                let steps = SIGNED_RMS * shared.sqrt() * seen;
                (Kind::Position(self.head_dim), size / steps)
            }
            "attn_v" => (Kind::Content, width / SIGNED_RMS),
            "attn_output" => {
                let width = (tensor.dims[0] as f32).sqrt().recip();
                (Kind::Addition, width / SIGNED_RMS)
            }
            "ffn_gate_inp" => {
                let mut random = Random::new(self.seed ^ mix(layer));
                let (least, most) = SKEW;
                let skew = match layer {
                    0 => SKEW_FIRST,
                    _ => least + (most - least) * random.unit(),
                };
                (Kind::Router(skew), width / SIGNED_RMS / EXPERTS_GAIN)
            }
            _ => return None,
        };
        // Queries and keys of a layer are the same.
        let what = match kind {
            Kind::Embedding | Kind::Head => 1,
            Kind::Position(_) => 2,
            Kind::Content => 3,
            Kind::Router(_) => 4,
            Kind::Addition => 5,
        };
        Some(Fill::Rows(RowFill {
            kind,
            step,
            shared: self.shared() as usize,
            topic: self.topic() as usize,
            seed: self.seed ^ mix(layer << 8 | what),
        }))
    }

    fn shared(&self) -> u64 {
        self.n_embd * SHARED_EIGHTHS / 8
    }

    fn topic(&self) -> u64 {
        self.n_embd * TOPIC_EIGHTHS / 8
    }

    fn own(&self) -> u64 {
        self.n_embd - self.shared() - self.topic()
    }

    /// The step with which an embedding's values are 1 wide.
    fn embedding_step(&self) -> f32 {
        let part = |values: u64, steps: f32| values as f32 * steps * steps;
        let sum = part(self.shared(), SHARED_STEPS)
            + part(self.topic(), TOPIC_STEPS)
            + part(self.own(), OWN_STEPS);
        (self.n_embd as f32 / sum).sqrt()
    }
}

/// Random weights are whole steps, from -7 to 7, which every type can hold.
const SIGNED_STEPS: u64 = 15;
/// Their root mean square.
const SIGNED_RMS: f32 = 4.320_494;

impl RowFill {
    /// The bytes of row `row`, of as many values as `values` has room for, appended.
    pub(crate) fn put(&self, ty: TensorType, row: u64, values: &mut [f32], out: &mut Vec<u8>) {
        values.fill(0.0);
        self.fill(row, values);
        put_steps(ty, self.step, values, out);
    }

    /// The values of a row, in steps.
    fn fill(&self, row: u64, values: &mut [f32]) {
        let (shared, rest) = values.split_at_mut(self.shared);
        match self.kind {
            Kind::Embedding => {
                let (topic, own) = rest.split_at_mut(self.topic);
                self.add_signs(0, SHARED_STEPS, shared);
                let id = row as u32;
                match id.checked_sub(FIRST_WORD) {
                    Some(word) => {
                        let run = u64::from(word / TOPIC_TOKENS);
                        self.add_signs(1 << 32 | run, TOPIC_STEPS, topic);
                        self.add_signs(2 << 32 | row, OWN_STEPS, own);
                    }
                    None => {
                        self.add_signs(3 << 32 | row, TOPIC_STEPS, topic);
                        self.add_signs(2 << 32 | row, BYTE_STEPS, own);
                    }
                }
            }
            Kind::Head => {
                let own = &mut rest[self.topic..];
                // Bytes and what ends an answer follow nothing.
                if row > FIRST_WORD.into() {
                    self.add_signs(2 << 32 | (row - 1), NEXT_STEPS, own);
                    self.add_signs(2 << 32 | (row - 2), SECOND_STEPS, own);
                }
            }
            Kind::Position(head) => self.add_random(row % head, 1.0, shared),
            Kind::Content => self.add_random(row, 1.0, rest),
            Kind::Addition if row < self.shared as u64 => {}
            Kind::Addition => {
                self.add_random(row << 1, 1.0, shared);
                self.add_random(row << 1 | 1, 1.0, rest);
            }
            Kind::Router(skew) => {
                self.add_random(row << 1, skew, shared);
                self.add_random(row << 1 | 1, 1.0, rest);
            }
        }
    }

    /// Adds `steps` with the signs that belong to `key`.
    fn add_signs(&self, key: u64, steps: f32, values: &mut [f32]) {
        let mut random = Random::new(self.seed ^ mix(key));
        for part in values.chunks_mut(64) {
            let bits = random.next();
            for (at, value) in part.iter_mut().enumerate() {
                *value += if bits >> at & 1 == 0 { steps } else { -steps };
            }
        }
    }

    /// Adds random steps times `factor`.
    fn add_random(&self, key: u64, factor: f32, values: &mut [f32]) {
        let mut random = Random::new(self.seed ^ mix(key));
        for value in values {
            let steps = ((random.next() >> 32) * SIGNED_STEPS) >> 32;
            *value += (steps as f32 - 7.0) * factor;
        }
    }
}

/// Spreads a number over all bits.
fn mix(key: u64) -> u64 {
    Random::new(key).next()
}
