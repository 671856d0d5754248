//! The type of a model's shape: the numbers that determine its tensors and metadata.
//! `shapes.rs` lists the shapes.

use crate::arch::TinyArch;

/// Families of models that differ in their tensors.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    /// Llama, Mistral, Mixtral, SmolLM.
    Llama,
    /// Biases on query, key and value.
    Qwen2,
    /// Norms on query and key.
    Qwen3,
    Qwen3Moe,
    /// Norms also after attention and feed-forward, soft-capped logits.
    Gemma2,
    /// As Gemma 2, with norms on query and key instead of the soft caps.
    Gemma3,
    /// Query, key and value in one tensor, gate and up in another.
    Phi3,
}

impl Arch {
    /// `general.architecture`.
    pub fn name(self) -> &'static str {
        match self {
            Arch::Llama => "llama",
            Arch::Qwen2 => "qwen2",
            Arch::Qwen3 => "qwen3",
            Arch::Qwen3Moe => "qwen3moe",
            Arch::Gemma2 => "gemma2",
            Arch::Gemma3 => "gemma3",
            Arch::Phi3 => "phi3",
        }
    }
}

/// The feed-forward part of a mixture of experts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Experts {
    /// Experts in a layer.
    pub count: u32,
    /// Experts that compute for a token.
    pub used: u32,
    /// Length of an expert's hidden vector.
    pub n_ff: u32,
}

/// A model's shape. Lengths are in values.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    /// Its name.
    pub name: &'static str,
    /// Family.
    pub arch: Arch,
    /// Transformer layers.
    pub n_layers: u32,
    /// Length of the vectors between layers.
    pub n_embd: u32,
    /// Length of the feed-forward's hidden vector.
    pub n_ff: u32,
    /// Query heads.
    pub n_heads: u32,
    /// Key and value heads.
    pub n_kv_heads: u32,
    /// Length of a head.
    pub head_dim: u32,
    /// Tokens in the vocabulary.
    pub vocab: u32,
    /// Longest context in tokens.
    pub context: u32,
    /// Whether the output head is the token embedding, not a tensor of its own.
    pub tied: bool,
    /// Base of the rotary frequencies.
    pub rope_freq_base: f32,
    /// Whether there is a tensor of rotary factors.
    pub rope_factors: bool,
    /// Epsilon of the norms.
    pub rms_eps: f32,
    /// Sliding window of the layers that have one, in tokens.
    pub window: Option<u32>,
    /// The experts, if it is a mixture.
    pub experts: Option<Experts>,
}

/// A model to write.
#[derive(Clone, Debug, PartialEq)]
pub enum Blueprint {
    /// The shape of a real model, or a small one of its family.
    Shape(Shape),
    /// A tiny model of any architecture.
    Arch(TinyArch),
}

impl From<&Shape> for Blueprint {
    fn from(shape: &Shape) -> Self {
        Self::Shape(shape.clone())
    }
}

impl From<TinyArch> for Blueprint {
    fn from(arch: TinyArch) -> Self {
        Self::Arch(arch)
    }
}

impl From<&Blueprint> for Blueprint {
    fn from(model: &Blueprint) -> Self {
        model.clone()
    }
}

impl Blueprint {
    /// The shape or tiny model of this name.
    pub fn named(name: &str) -> Option<Self> {
        let shape = crate::shape(name).map(Self::Shape);
        shape.or_else(|| TinyArch::named(name).map(Self::Arch))
    }

    /// The names of all, real models first.
    pub fn names() -> impl Iterator<Item = &'static str> {
        crate::names().chain(crate::tiny_archs().map(TinyArch::name))
    }
}

impl Shape {
    /// Total length of the query heads.
    pub(crate) fn q_len(&self) -> u64 {
        u64::from(self.n_heads) * u64::from(self.head_dim)
    }

    /// Total length of the key heads, which is also that of the value heads.
    pub(crate) fn kv_len(&self) -> u64 {
        u64::from(self.n_kv_heads) * u64::from(self.head_dim)
    }

    /// Whether llama-quantize treats it as a Mixtral.
    pub(crate) fn has_eight_experts(&self) -> bool {
        self.experts.is_some_and(|experts| experts.count == 8)
    }
}
