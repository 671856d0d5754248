//! How to run a model. Decides nothing.

use crate::hotness::HotnessFile;
use crate::routes::RouteOptions;
use crate::shape::{FlashAttention, KvType};
use delayline_medium::MediumMaker;
use delayline_plan::ExpertPolicy;
use std::sync::Arc;

/// How to run a model. `None` is the default that suits the model.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Whole-process budget in bytes.
    pub memory: Option<u64>,
    /// Window in bytes.
    pub window: Option<u64>,
    /// At most so many bytes for the window and the weights that stay, even
    /// where the budget would allow more.
    pub weights: Option<u64>,
    /// Compute threads.
    pub threads: Option<u32>,
    /// Context of a sequence in tokens: prompt and answer together.
    pub ctx: Option<u32>,
    /// Most sequences that share a lap; none is one.
    pub seqs: Option<u32>,
    /// What the caller itself will take of the budget later on, in bytes.
    pub reserve: u64,
    /// What the device brings, in bytes per second, if that was measured.
    pub rate: Option<f64>,
    /// Whether answers may have to follow a grammar, which takes memory to choose.
    pub grammars: bool,
    /// Micro-batch in tokens.
    pub ubatch: Option<u32>,
    /// Whether blocks of the KV cache come and go: there is a sequence for them.
    pub spare: bool,
    /// KV cache format.
    pub kv: KvType,
    /// Attention kernel.
    pub flash: FlashAttention,
    /// How the weights get into memory.
    pub way: Way,
    /// Which experts stay, where there is room for some.
    pub experts: ExpertPolicy,
    /// Whether no experts are read that the next layer will only probably want.
    pub no_guess: bool,
    /// Where it is kept which experts were hot, from one run to the next; nowhere without.
    pub hotness: Option<Arc<HotnessFile>>,
    /// What is to be done with the choices of experts.
    pub routes: RouteOptions,
    /// Whether to record a trace.
    pub trace: bool,
    /// How the files are read.
    pub medium: delayline_medium::FlashOptions,
    /// Whether the bytes that come are trusted, instead of checked.
    pub unchecked: bool,
    /// Makes another medium around the files, from which is then read.
    pub maker: Option<Arc<dyn MediumMaker>>,
}

/// How the weights get into memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Way {
    /// Natively when everything fits into the budget, else streamed.
    #[default]
    Auto,
    /// Streamed, also when everything would fit.
    Streamed,
    /// By llama.cpp, with its repacked kernels.
    Native,
    /// By llama.cpp's mmap, with unrepacked kernels; no budget is kept.
    Mmap,
}
