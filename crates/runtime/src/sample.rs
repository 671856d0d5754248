//! From logits to a token: llama.cpp's sampler chain.

use std::ptr::NonNull;

use llama_cpp_sys_2 as sys;

use crate::context::Context;
use crate::error::Error;
use crate::vocab::Vocab;

/// How tokens are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// 0 takes the likeliest token; higher is wilder.
    pub temperature: f32,
    /// Only the `k` likeliest; 0 is all.
    pub top_k: i32,
    /// Only the likeliest that together reach this probability; 1 is all.
    pub top_p: f32,
    /// Only those at least this likely relative to the likeliest; 0 is all.
    pub min_p: f32,
    /// Divides the logits of recent tokens; 1 is off.
    pub repeat_penalty: f32,
    /// Seed of the choice.
    pub seed: u32,
}

impl Default for Sampling {
    /// llama.cpp's own defaults.
    fn default() -> Self {
        Self {
            temperature: 0.8,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            repeat_penalty: 1.0,
            seed: 0,
        }
    }
}

/// How many recent tokens the repeat penalty looks at.
const PENALTY_TOKENS: i32 = 64;

/// A sampler chain; freed on drop.
#[derive(Debug)]
pub struct Sampler {
    chain: NonNull<sys::llama_sampler>,
}

impl Sampler {
    /// As `sampling` says.
    ///
    /// # Errors
    /// When llama.cpp refuses memory.
    pub fn new(vocab: &Vocab, sampling: &Sampling) -> Result<Self, Error> {
        // SAFETY: parameters by value; the chain takes over what is added.
        unsafe {
            let chain = sys::llama_sampler_chain_init(sys::llama_sampler_chain_default_params());
            let chain = NonNull::new(chain).ok_or(Error::Llama {
                what: "make a sampler",
                message: "it gave no reason".into(),
            })?;
            let add = |sampler| sys::llama_sampler_chain_add(chain.as_ptr(), sampler);
            if sampling.repeat_penalty != 1.0 {
                let n_vocab = sys::llama_vocab_n_tokens(vocab.as_ptr());
                add(sys::llama_sampler_init_penalties(
                    n_vocab,
                    PENALTY_TOKENS,
                    sampling.repeat_penalty,
                    0.0,
                    0.0,
                ));
            }
            if sampling.temperature <= 0.0 {
                add(sys::llama_sampler_init_greedy());
            } else {
                add(sys::llama_sampler_init_top_k(sampling.top_k));
                add(sys::llama_sampler_init_top_p(sampling.top_p, 1));
                add(sys::llama_sampler_init_min_p(sampling.min_p, 1));
                add(sys::llama_sampler_init_temp(sampling.temperature));
                add(sys::llama_sampler_init_dist(sampling.seed));
            }
            Ok(Self { chain })
        }
    }

    /// The next token after the last output of `context`, accepted into the chain.
    pub fn sample(&mut self, context: &mut Context) -> i32 {
        // SAFETY: both are live; the last decode had an output.
        unsafe { sys::llama_sampler_sample(self.chain.as_ptr(), context.as_ptr(), -1) }
    }

    /// Tells the penalties of a token that was not sampled here.
    pub fn accept(&mut self, token: i32) {
        // SAFETY: the chain is live.
        unsafe { sys::llama_sampler_accept(self.chain.as_ptr(), token) }
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        // SAFETY: live and freed once.
        unsafe { sys::llama_sampler_free(self.chain.as_ptr()) }
    }
}
