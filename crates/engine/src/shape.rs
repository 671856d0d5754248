//! The shape of a model's context: numbers of tokens, sequences and threads, and number
//! formats.

/// Number format of the KV cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KvType {
    /// 4 bytes per value.
    F32,
    /// 2 bytes per value.
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
    /// llama.cpp decides.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// The shape of a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContextShape {
    /// Tokens that the KV cache holds, of all sequences together.
    pub ctx: u32,
    /// Maximum number of sequences that share a lap.
    pub seqs: u32,
    /// Maximum number of tokens of one lap.
    pub ubatch: u32,
    /// Compute threads.
    pub threads: u32,
    /// KV cache format.
    pub kv: KvType,
    /// Attention kernel.
    pub flash: FlashAttention,
    /// Whether there is one sequence more, in no lap, through which blocks of the KV cache
    /// are saved and restored.
    pub spare: bool,
}
