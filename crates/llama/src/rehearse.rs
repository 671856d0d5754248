//! A rehearsal: loads a model and computes one lap, only to see whether llama.cpp crashes.
//! Meant for a process of its own.

use std::path::Path;
use std::sync::Arc;

use delayline_engine::{
    Backend, ContextShape, Error, Load, Loader, ModelFile, Options, Usage, Way, budget, process,
};

use crate::backend::LlamaLoader;
use crate::empty::Model;
use crate::vocab::Vocab;

/// A text with several kinds of characters and with texts of special tokens.
const TEXT: &str = "A word, W\u{f6}rter \u{4f60}\u{597d} \u{1f642} 1234\n\t <s></s><|im_end|> x";

/// The result of a successful rehearsal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rehearsed {
    /// Whether it also had llama.cpp load the weights itself.
    pub native: bool,
    /// The budget in bytes from which on the whole model fits, so that llama.cpp loads it.
    pub native_from_bytes: u64,
}

/// Loads the model at `path` as [`crate::open`] would, and computes a lap of one token
/// with zeros in place of the weights: every kernel runs, and no byte of the weights is
/// read. If the budget holds the whole model, that is also loaded and run.
///
/// # Errors
/// As [`crate::open`], except for a budget that is too small; and when the vocabulary
/// cannot tokenize a text or spell its tokens.
pub fn rehearse(path: &Path, options: &Options) -> Result<Rehearsed, Error> {
    let total = budget::allowed(options.memory)?;
    let file = ModelFile::open_within(path, total)?;
    let shape = ContextShape {
        ctx: 0,
        seqs: 1,
        ubatch: 1,
        threads: budget::threads(options.threads),
        kv: options.kv,
        flash: options.flash,
        spare: options.spare,
    };
    let ctx = budget::context(&file, options, total, &shape);
    let shape = ContextShape { ctx, ..shape };
    let loader = LlamaLoader;
    let model = loader.load(&file, Load::Empty)?;
    try_vocabulary(&model).map_err(|error| Error::Llama {
        what: "use the vocabulary of this model",
        message: error.to_string(),
    })?;
    let largest = file.weights().iter().map(|w| w.len).max().unwrap_or(0);
    let mut backend = loader.start(&model, shape, Some(largest))?;
    backend.run_on_zeros(&file.names())?;
    drop((backend, model));
    process::trim_heap();
    let ledger = budget::ledger(total, &file, options, loader.spelled());
    let needed = budget::native(&ledger, &file, Usage::now().resident, &shape).spent();
    let native = match options.way {
        Way::Native => true,
        Way::Auto => file.stripe_unit().is_none() && needed <= total,
        Way::Streamed | Way::Mmap => false,
    };
    if native {
        let model = loader.load(&file, Load::Native)?;
        let mut backend = loader.start(&model, shape, None)?;
        backend.run(crate::LlamaBackend::blank(), None)?;
    }
    Ok(Rehearsed {
        native,
        native_from_bytes: needed,
    })
}

/// Tokenizes a text and spells every token.
fn try_vocabulary(model: &Arc<Model>) -> Result<(), Error> {
    let vocab = Vocab::new(model);
    vocab.tokenize(TEXT, true, true)?;
    let mut bytes = Vec::new();
    for token in 0..vocab.tokens() {
        bytes.clear();
        vocab.piece(token as i32, &mut bytes)?;
    }
    Ok(())
}
