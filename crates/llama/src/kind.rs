//! Kinds of models: which are refused, which serve one sequence at a time, and which have
//! recurrent states or a sliding attention window.

use crate::empty::Model;
use delayline_engine::Error;

/// Whether some of its layers have a recurrent state instead of cells: it advances from
/// token to token and cannot be cut back.
pub(crate) fn has_recurrent_state(model: &Model) -> bool {
    // SAFETY: the model is live.
    unsafe {
        crate::sys::llama_model_is_recurrent(model.as_ptr())
            || crate::sys::llama_model_is_hybrid(model.as_ptr())
    }
}

/// Architectures for which llama.cpp gives other results for several sequences in a
/// micro-batch than for each alone, or splits them into several micro-batches.
const RIDE_ALONE: &[&str] = &[
    "plamo2",
    "deepseek4",
    "gemma3n",
    // They select the cells to attend to among those of all sequences.
    "deepseek32",
    "glm-dsa",
    "glm5-next",
    "hy_v4",
];

/// Whether models of this architecture, which have attention, serve only one sequence at a
/// time.
pub fn rides_alone(arch: &str) -> bool {
    RIDE_ALONE.contains(&arch)
}

/// How many sequences can share a lap of this model, at most `asked`.
///
/// llama.cpp puts sequences of a model without any attention into one micro-batch only
/// if their ids are consecutive, which they are not after one of them has left.
pub(crate) fn seqs_of(model: &Model, asked: u32) -> u32 {
    // SAFETY: the model is live.
    let recurrent = unsafe { crate::sys::llama_model_is_recurrent(model.as_ptr()) };
    match recurrent || rides_alone(model.arch()) {
        true => 1,
        false => asked,
    }
}

/// Size in tokens of the sliding attention window; 0 without one.
pub(crate) fn attention_window(model: &Model) -> u32 {
    // SAFETY: the model is live.
    let window = unsafe { crate::sys::llama_model_n_swa(model.as_ptr()) };
    window.max(0) as u32
}

/// A group of refused architectures.
#[derive(Clone, Copy, Debug)]
pub struct RefusedArchs {
    /// Their names in llama.cpp.
    pub archs: &'static [&'static str],
    /// Why, as the end of a sentence that begins with "it".
    pub why: &'static str,
}

/// All architectures of llama.cpp that are refused.
pub const REFUSED: &[RefusedArchs] = &[
    RefusedArchs {
        archs: &["cogvlm"],
        why: "it gives other answers when the beginning of a text is reused from the KV cache",
    },
    RefusedArchs {
        archs: &[
            "bert",
            "modern-bert",
            "nomic-bert",
            "nomic-bert-moe",
            "neo-bert",
            "jina-bert-v2",
            "jina-bert-v3",
            "eurobert",
            "gemma-embedding",
            "llama-embed",
        ],
        why: "it makes embeddings, not text",
    },
    RefusedArchs {
        archs: &["t5", "t5encoder"],
        why: "it has an encoder, which is not supported yet",
    },
    RefusedArchs {
        archs: &["dream", "llada", "llada-moe", "rnd1"],
        why: "it is a diffusion model, which does not write token by token",
    },
    RefusedArchs {
        archs: &["eagle3", "dflash", "gemma4-assistant"],
        why: "it only drafts tokens for another model",
    },
    RefusedArchs {
        archs: &["clip", "wavtokenizer-dec", "qwen3tts", "pockettts"],
        why: "it handles images or speech for another model, and writes no text",
    },
    RefusedArchs {
        archs: &["clef"],
        why: "it scores given answers, and writes none",
    },
    RefusedArchs {
        archs: &["chameleon"],
        why: "it makes llama.cpp abort where a part of a prompt has no logits",
    },
    RefusedArchs {
        archs: &["gptj"],
        why: "it is known to llama.cpp by name, but not run by it",
    },
];

/// Refuses an architecture in [`REFUSED`], before the model is loaded.
pub(crate) fn check_arch(arch: &str) -> Result<(), Error> {
    let refused = REFUSED.iter().find(|refused| refused.archs.contains(&arch));
    match refused {
        None => Ok(()),
        Some(refused) => Err(Error::Option(format!(
            "this model's architecture, {arch}, does not run: {}",
            refused.why
        ))),
    }
}

/// Refuses a loaded model that does not generate text token by token.
pub(crate) fn check_kind(model: &Model) -> Result<(), Error> {
    // SAFETY: the model is live.
    let (encoder, decoder, diffusion) = unsafe {
        (
            crate::sys::llama_model_has_encoder(model.as_ptr()),
            crate::sys::llama_model_has_decoder(model.as_ptr()),
            crate::sys::llama_model_is_diffusion(model.as_ptr()),
        )
    };
    if encoder || !decoder || diffusion {
        return Err(Error::Option(
            "this model is not a plain text generator (it has an encoder or is a diffusion model), \
             which Delayline does not run yet"
                .into(),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_run_is_refused_in_words() {
        assert!(check_arch("llama").is_ok());
        for arch in REFUSED.iter().flat_map(|refused| refused.archs) {
            let message = check_arch(arch).expect_err("it is refused").to_string();
            assert!(
                message.contains(arch) && message.contains("does not run: it "),
                "{message}"
            );
        }
    }
}
