//! The options for running a model.

use crate::hotness::HotnessFile;
use crate::routes::RouteOptions;
use crate::shape::{FlashAttention, KvType};
use delayline_medium::MediumMaker;
use delayline_plan::ExpertPolicy;
use std::sync::Arc;

/// How to run a model. `None` means a default that depends on the model.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Whole-process budget in bytes.
    pub memory: Option<u64>,
    /// Window in bytes.
    pub window: Option<u64>,
    /// Maximum bytes for the window and the resident weights, even if the budget
    /// allows more.
    pub weights: Option<u64>,
    /// Compute threads.
    pub threads: Option<u32>,
    /// Context of a sequence in tokens: prompt and answer together.
    pub ctx: Option<u32>,
    /// Maximum number of sequences that share a lap; `None` is one.
    pub seqs: Option<u32>,
    /// Bytes of the budget that the caller itself will use later.
    pub reserve: u64,
    /// Device rate in bytes per second, if it was measured.
    pub rate: Option<f64>,
    /// Whether answers may have to follow a grammar, which needs memory.
    pub grammars: bool,
    /// Micro-batch in tokens.
    pub ubatch: Option<u32>,
    /// Whether there is one sequence more, through which blocks of the KV cache are saved
    /// and restored.
    pub spare: bool,
    /// KV cache format.
    pub kv: KvType,
    /// Attention kernel.
    pub flash: FlashAttention,
    /// How the weights get into memory.
    pub way: Way,
    /// Which experts stay, if there is room for some.
    pub experts: ExpertPolicy,
    /// Whether not to read experts ahead that the next layer will probably choose.
    pub no_guess: bool,
    /// The file that records which experts were hot from one run to the next, if any.
    pub hotness: Option<Arc<HotnessFile>>,
    /// Whether to record the choices of experts, or replace them by recorded ones.
    pub routes: RouteOptions,
    /// Whether to record a trace.
    pub trace: bool,
    /// How the files are read.
    pub medium: delayline_medium::FlashOptions,
    /// Whether not to check the bytes read.
    pub unchecked: bool,
    /// Makes a medium around the files, which is then read from.
    pub maker: Option<Arc<dyn MediumMaker>>,
}

/// How the weights get into memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Way {
    /// Natively if everything fits into the budget, else streamed.
    #[default]
    Auto,
    /// Streamed, even if everything fits.
    Streamed,
    /// By llama.cpp, with its repacked kernels.
    Native,
    /// By llama.cpp's mmap, with unrepacked kernels; no budget is kept.
    Mmap,
}
