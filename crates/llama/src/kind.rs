//! What kind of model llama.cpp has loaded, as far as it decides how it is run.

use crate::empty::Model;
use delayline_engine::Error;

/// Recurrent states cannot be cut into pieces that share a lap, nor go back after
/// one that failed: such models carry one sequence.
pub(crate) fn seqs_of(model: &Model, asked: u32) -> u32 {
    // SAFETY: the model is live.
    let recurrent = unsafe {
        crate::sys::llama_model_is_recurrent(model.as_ptr())
            || crate::sys::llama_model_is_hybrid(model.as_ptr())
    };
    if recurrent { 1 } else { asked }
}

/// Text in, text out: anything else is out of scope, and said so.
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
