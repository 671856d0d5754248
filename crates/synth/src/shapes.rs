//! The list of shapes: real models, from their published configurations, and
//! tiny ones of each family for tests.

use crate::shape::{Arch, Experts, Shape};

/// The values that most shapes share.
const BASE: Shape = Shape {
    name: "",
    arch: Arch::Llama,
    n_layers: 32,
    n_embd: 4096,
    n_ff: 14336,
    n_heads: 32,
    n_kv_heads: 8,
    head_dim: 128,
    vocab: 128_256,
    context: 32_768,
    tied: false,
    rope_freq_base: 1e6,
    rope_factors: false,
    rms_eps: 1e-5,
    window: None,
    experts: None,
};

const TINY: Shape = Shape {
    n_layers: 2,
    n_embd: 128,
    n_ff: 256,
    n_heads: 4,
    n_kv_heads: 2,
    head_dim: 32,
    vocab: 320,
    context: 2048,
    rope_freq_base: 1e4,
    ..BASE
};

const REAL: &[Shape] = &[
    Shape {
        name: "llama-8b",
        context: 131_072,
        rope_freq_base: 5e5,
        rope_factors: true,
        ..BASE
    },
    Shape {
        name: "llama-70b",
        n_layers: 80,
        n_embd: 8192,
        n_ff: 28672,
        n_heads: 64,
        context: 131_072,
        rope_freq_base: 5e5,
        rope_factors: true,
        ..BASE
    },
    Shape {
        name: "qwen3-8b",
        arch: Arch::Qwen3,
        n_layers: 36,
        n_ff: 12288,
        vocab: 151_936,
        context: 40_960,
        rms_eps: 1e-6,
        ..BASE
    },
    Shape {
        name: "qwen3-30b-a3b",
        arch: Arch::Qwen3Moe,
        n_layers: 48,
        n_embd: 2048,
        n_ff: 6144,
        n_kv_heads: 4,
        vocab: 151_936,
        context: 40_960,
        rms_eps: 1e-6,
        experts: Some(Experts {
            count: 128,
            used: 8,
            n_ff: 768,
        }),
        ..BASE
    },
    Shape {
        name: "mistral-7b",
        vocab: 32_768,
        ..BASE
    },
    Shape {
        name: "mixtral-8x7b",
        vocab: 32_000,
        experts: Some(Experts {
            count: 8,
            used: 2,
            n_ff: 14336,
        }),
        ..BASE
    },
    Shape {
        name: "gemma2-9b",
        arch: Arch::Gemma2,
        n_layers: 42,
        n_embd: 3584,
        n_heads: 16,
        head_dim: 256,
        vocab: 256_000,
        context: 8192,
        tied: true,
        rope_freq_base: 1e4,
        rms_eps: 1e-6,
        window: Some(4096),
        ..BASE
    },
    Shape {
        name: "gemma3-4b",
        arch: Arch::Gemma3,
        n_layers: 34,
        n_embd: 2560,
        n_ff: 10240,
        n_heads: 8,
        n_kv_heads: 4,
        head_dim: 256,
        vocab: 262_144,
        context: 131_072,
        tied: true,
        rms_eps: 1e-6,
        window: Some(1024),
        ..BASE
    },
    Shape {
        name: "phi3-mini",
        arch: Arch::Phi3,
        n_embd: 3072,
        n_ff: 8192,
        n_kv_heads: 32,
        head_dim: 96,
        vocab: 32_064,
        context: 4096,
        rope_freq_base: 1e4,
        ..BASE
    },
    Shape {
        name: "smollm2-135m",
        n_layers: 30,
        n_embd: 576,
        n_ff: 1536,
        n_heads: 9,
        n_kv_heads: 3,
        head_dim: 64,
        vocab: 49_152,
        context: 8192,
        tied: true,
        rope_freq_base: 1e5,
        ..BASE
    },
];

/// Together they cover rows with and without whole super-blocks, tied and untied output
/// heads, attention heads that together are longer than the embedding, and windows shorter
/// than the context.
const TINIES: &[Shape] = &[
    Shape {
        name: "tiny-llama",
        n_layers: 3,
        n_embd: 256,
        n_ff: 512,
        n_heads: 8,
        rope_factors: true,
        ..TINY
    },
    Shape {
        name: "tiny-mistral",
        n_ff: 384,
        head_dim: 64,
        vocab: 384,
        ..TINY
    },
    Shape {
        name: "tiny-qwen2",
        arch: Arch::Qwen2,
        tied: true,
        rms_eps: 1e-6,
        ..TINY
    },
    Shape {
        name: "tiny-qwen3",
        arch: Arch::Qwen3,
        n_layers: 3,
        head_dim: 64,
        rms_eps: 1e-6,
        ..TINY
    },
    Shape {
        name: "tiny-gemma2",
        arch: Arch::Gemma2,
        n_embd: 256,
        head_dim: 64,
        vocab: 512,
        tied: true,
        rms_eps: 1e-6,
        // Longer than a block of the KV cache.
        window: Some(96),
        ..TINY
    },
    Shape {
        name: "tiny-gemma3",
        arch: Arch::Gemma3,
        // The first layer without a window is the sixth.
        n_layers: 6,
        n_embd: 64,
        n_ff: 128,
        n_kv_heads: 1,
        tied: true,
        rms_eps: 1e-6,
        window: Some(32),
        ..TINY
    },
    Shape {
        name: "tiny-phi3",
        arch: Arch::Phi3,
        n_kv_heads: 4,
        ..TINY
    },
    Shape {
        name: "tiny-mixtral",
        experts: Some(Experts {
            count: 8,
            used: 2,
            n_ff: 256,
        }),
        ..TINY
    },
    Shape {
        name: "tiny-qwen3moe",
        arch: Arch::Qwen3Moe,
        n_layers: 3,
        head_dim: 64,
        rms_eps: 1e-6,
        experts: Some(Experts {
            count: 16,
            used: 4,
            n_ff: 64,
        }),
        ..TINY
    },
];

/// The names of all shapes, real ones first.
pub fn names() -> impl Iterator<Item = &'static str> {
    REAL.iter().chain(TINIES).map(|shape| shape.name)
}

/// The shape of this name.
pub fn shape(name: &str) -> Option<Shape> {
    let mut all = REAL.iter().chain(TINIES);
    all.find(|shape| shape.name == name).cloned()
}
