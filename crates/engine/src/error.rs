//! What can go wrong in running a model, in words for a person.

use std::path::PathBuf;

use thiserror::Error;

/// Errors of the runtime.
#[derive(Debug, Error)]
pub enum Error {
    /// The model file cannot be opened or read.
    #[error("cannot read the model {path}: {message}")]
    Open {
        /// Which file.
        path: PathBuf,
        /// The system's words, or what was expected.
        message: String,
    },
    /// The model's header is not a sound GGUF.
    #[error("{path}: {source}")]
    Header {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: delayline_gguf::Error,
    },
    /// A part of a split model is missing or does not belong.
    #[error("{path}: {message}")]
    Split {
        /// Which part.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// The list of a striped model's files is wrong.
    #[error("{path}: {message}; write the model anew with `delayline stripe`")]
    Manifest {
        /// The list.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// The seal of the model is damaged, or of another file.
    #[error(
        "the seal {path} cannot be used: {message}; make it anew with \
         `delayline seal`, or remove it"
    )]
    Seal {
        /// The seal.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// What stays in memory is not what is on the drive.
    #[error(
        "{0}; nothing is computed until it reads as it is in memory: look at the drive, or \
         start again"
    )]
    Resident(String),
    /// llama.cpp refused the model or the context.
    #[error("llama.cpp cannot {what}: {message}")]
    Llama {
        /// What was tried.
        what: &'static str,
        /// llama.cpp's own words.
        message: String,
    },
    /// llama.cpp did not do what the design relies on.
    #[error(
        "this build of llama.cpp behaves otherwise than Delayline relies on ({0}); \
         nothing was computed. Please report it with the model's name"
    )]
    Assumption(String),
    /// The budget does not hold what the model needs at least.
    #[error(
        "budget {} is too small for this model: it needs at least {} ({detail})",
        mib(*budget), mib(*needed)
    )]
    Budget {
        /// What was allowed, in bytes.
        budget: u64,
        /// The smallest budget that works, in bytes.
        needed: u64,
        /// The part of `needed` that window and weights take, in bytes.
        weights: u64,
        /// What it goes to.
        detail: String,
    },
    /// An option that cannot be.
    #[error("{0}")]
    Option(String),
    /// The prompt does not fit into the context.
    #[error(
        "the prompt has {prompt} tokens, but the context holds {ctx}: shorten it or raise --ctx"
    )]
    PromptTooLong {
        /// Tokens of the prompt (with the conversation so far).
        prompt: usize,
        /// Tokens of the context.
        ctx: usize,
    },
    /// The prompt was counted only as far as it fits.
    #[error(
        "the prompt has {least} tokens at least, and there is room for {room}: shorten it, or \
         raise --ctx"
    )]
    PromptOverflow {
        /// Its tokens at least.
        least: usize,
        /// How many there may be.
        room: usize,
    },
    /// A text that cannot be made into tokens, or not safely.
    #[error("{0}")]
    Text(String),
    /// Whoever asked wants it no more.
    #[error("it was given up before it was done")]
    GivenUp,
    /// The model file was changed while it was being read.
    #[error("{path}: {message}; generation ended, what was printed before is right")]
    Changed {
        /// Which file.
        path: PathBuf,
        /// How it changed.
        message: String,
    },
    /// The line could not deliver.
    #[error(transparent)]
    Line(#[from] delayline_line::LineError),
    /// The medium cannot be opened.
    #[error(transparent)]
    Medium(#[from] delayline_medium::OpenError),
    /// The medium from above cannot be had.
    #[error(transparent)]
    Make(#[from] delayline_medium::MakeError),
    /// Memory for weights was refused.
    #[error(transparent)]
    Arena(#[from] delayline_medium::MemoryError),
    /// Memory was refused by the system.
    #[error("the system refused memory: {0}")]
    Memory(std::io::Error),
    /// The chat template cannot be rendered.
    #[error("the model's chat template cannot be used: {0}")]
    Template(String),
    /// Something that cannot be: a defect of this program.
    #[error("a defect in Delayline: {0}")]
    Defect(String),
}

/// Bytes as MiB, rounded up, for messages in which bytes would only distract.
pub fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}
