//! The type of a model's shape: the numbers that determine its tensors and metadata.
//! `shapes.rs` lists the shapes.

use crate::Error;
use crate::arch::{SizedArch, TinyArch};

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
    /// The same where tokens choose experts as they do in trained models.
    Routed(Shape),
    /// A tiny model of any architecture.
    Arch(TinyArch),
    /// One of many architectures in the sizes of a real model.
    Sized(SizedArch),
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

impl From<SizedArch> for Blueprint {
    fn from(arch: SizedArch) -> Self {
        Self::Sized(arch)
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
        let shape = shape.or_else(|| SizedArch::named(name).map(Self::Sized));
        shape.or_else(|| TinyArch::named(name).map(Self::Arch))
    }

    /// The same model, a mixture, with choices of experts as trained models make them.
    ///
    /// # Errors
    /// It is none whose experts are known, or its head is its embedding.
    pub fn routed(self) -> Result<Self, Error> {
        match self {
            Self::Shape(shape) if shape.experts.is_some() && !shape.tied => Ok(Self::Routed(shape)),
            Self::Routed(_) => Ok(self),
            Self::Shape(Shape { name, .. }) => Err(Error::Routing { name }),
            Self::Arch(arch) => Err(Error::Routing { name: arch.name() }),
            Self::Sized(arch) => Err(Error::Routing { name: arch.name() }),
        }
    }

    /// The same model, a mixture, of which a token uses so many experts.
    ///
    /// # Errors
    /// It is none whose experts are known, or a layer has fewer.
    pub fn with_experts_used(mut self, used: u32) -> Result<Self, Error> {
        let experts = match &mut self {
            Self::Shape(shape) | Self::Routed(shape) => shape.experts.as_mut(),
            Self::Arch(_) | Self::Sized(_) => None,
        };
        let experts = experts.ok_or(Error::NoExperts)?;
        if !(1..=experts.count).contains(&used) {
            let count = experts.count;
            return Err(Error::ExpertsUsed { used, count });
        }
        experts.used = used;
        Ok(self)
    }

    /// The same model with its first layers alone, where there are more.
    #[must_use]
    pub fn with_layers(self, layers: u32) -> Self {
        let cut = |shape: Shape| Shape {
            n_layers: shape.n_layers.min(layers),
            ..shape
        };
        match self {
            Self::Shape(shape) => Self::Shape(cut(shape)),
            Self::Routed(shape) => Self::Routed(cut(shape)),
            Self::Sized(arch) => Self::Sized(arch.with_layers(layers)),
            Self::Arch(_) => self,
        }
    }

    /// The names of those that can be [`routed`](Self::routed).
    pub fn routable() -> impl Iterator<Item = &'static str> {
        let named = Self::names().filter_map(|name| Some((name, Self::named(name)?)));
        named.filter_map(|(name, model)| model.routed().is_ok().then_some(name))
    }

    /// The names of all, real models first.
    pub fn names() -> impl Iterator<Item = &'static str> {
        let real = crate::names().chain(crate::sized_archs().map(SizedArch::name));
        real.chain(crate::tiny_archs().map(TinyArch::name))
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
