//! What shapes the context of a model: how many tokens, sequences, threads, and
//! in which number formats.

/// Number format of the KV cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KvType {
    /// 4 bytes a value.
    F32,
    /// 2 bytes a value.
    #[default]
    F16,
    /// 8-bit blocks, 34 bytes for 32 values.
    Q8_0,
    /// 4-bit blocks, 18 bytes for 32 values.
    Q4_0,
}

/// Whether attention is computed in one fused kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FlashAttention {
    /// As llama.cpp decides for the model.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// What shapes a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContextShape {
    /// Tokens that the KV cache holds, of all sequences together.
    pub ctx: u32,
    /// Most sequences that share a lap.
    pub seqs: u32,
    /// Most tokens of one lap.
    pub ubatch: u32,
    /// Compute threads.
    pub threads: u32,
    /// KV cache format.
    pub kv: KvType,
    /// Attention kernel.
    pub flash: FlashAttention,
    /// Whether there is one sequence more, which no lap carries, for blocks of the KV cache
    /// that come and go.
    pub spare: bool,
}
