//! The errors of running a model, as messages for a person.

use std::path::PathBuf;

use thiserror::Error;

/// Errors of the runtime.
#[derive(Debug, Error)]
pub enum Error {
    /// The model file cannot be opened or read.
    #[error("cannot read the model {path}: {message}")]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's message, or what was expected.
        message: String,
    },
    /// The model's header is not valid GGUF.
    #[error("{path}: {source}")]
    Header {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: delayline_gguf::Error,
    },
    /// A part of a split model is missing or does not belong to it.
    #[error("{path}: {message}")]
    Split {
        /// The part.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// The list of a striped model's files is wrong.
    #[error("{path}: {message}; write the model again with `delayline stripe`")]
    Manifest {
        /// The list.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// The seal of the model is damaged, or of another file.
    #[error(
        "the seal {path} cannot be used: {message}; make it again with \
         `delayline seal`, or remove it"
    )]
    Seal {
        /// The seal.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// Resident bytes differ from those on the drive.
    #[error(
        "{0}; nothing is computed until the drive returns the same bytes as are in memory: \
         check the drive, or start again"
    )]
    Resident(String),
    /// llama.cpp refused the model or the context.
    #[error("llama.cpp cannot {what}: {message}")]
    Llama {
        /// The operation.
        what: &'static str,
        /// llama.cpp's message.
        message: String,
    },
    /// llama.cpp does not behave as Delayline relies on.
    #[error(
        "this build of llama.cpp does not behave as Delayline relies on ({0}); \
         nothing was computed. Please report it with the model's name"
    )]
    Assumption(String),
    /// The budget does not hold what the model needs at least.
    #[error(
        "budget {} is too small for this model: it needs at least {} ({detail})",
        mib(*budget), mib(*needed)
    )]
    Budget {
        /// The budget, in bytes.
        budget: u64,
        /// The smallest budget that works, in bytes.
        needed: u64,
        /// The part of `needed` for window and weights, in bytes.
        weights: u64,
        /// What needs it.
        detail: String,
    },
    /// An option is impossible.
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
    /// The prompt does not fit; it was not counted beyond that.
    #[error(
        "the prompt has at least {least} tokens, but there is room for {room}: shorten it, or \
         raise --ctx"
    )]
    PromptOverflow {
        /// Least number of its tokens.
        least: usize,
        /// Maximum number of tokens.
        room: usize,
    },
    /// A text that cannot be made into tokens, or not safely.
    #[error("{0}")]
    Text(String),
    /// The caller cancelled the work.
    #[error("it was cancelled before it was done")]
    GivenUp,
    /// The model file was changed while it was being read.
    #[error("{path}: {message}; generation ended, what was printed before is right")]
    Changed {
        /// The file.
        path: PathBuf,
        /// How it changed.
        message: String,
    },
    /// The line failed.
    #[error(transparent)]
    Line(#[from] delayline_line::LineError),
    /// The medium cannot be opened.
    #[error(transparent)]
    Medium(#[from] delayline_medium::OpenError),
    /// The medium of [`crate::Options::maker`] cannot be made.
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
    /// A defect of this program.
    #[error("a defect in Delayline: {0}")]
    Defect(String),
}

/// Bytes as MiB, rounded up, for messages.
pub fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}
