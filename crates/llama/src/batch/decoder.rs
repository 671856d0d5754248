//! What a batcher runs on: something that decodes laps of tokens and keeps what
//! it computed, and the language in which its tokens are chosen and read. The
//! engine is one; [`super::SimulatedDecoder`] computes nothing.

use super::sequence::GenerateRequest;
use crate::piece::Piece;
use crate::sample::{Candidates, Sampler, Sampling};
use crate::vocab::Vocab;
use delayline_engine::{Class, Error, Laps};
use delayline_kv::Namespace;

/// Rows of tokens in, logits out, over a memory in which each token of a sequence
/// takes a cell. Slots are numbered from 0.
pub trait Decoder {
    /// How tokens are chosen and read.
    type Language: Language;

    /// Its language. A batcher asks for it once.
    fn language(&self) -> Self::Language;

    /// Maximum number of sequences in a lap.
    fn slots(&self) -> usize;

    /// Tokens that the memory holds, of all slots together.
    fn cells(&self) -> usize;

    /// Maximum number of tokens in a lap, at least as many as there are slots.
    fn rows(&self) -> usize;

    /// One lap: pieces of at most [`Decoder::rows`] tokens together, one a slot, each
    /// behind what its slot holds. `next` is the kind of lap that is expected after
    /// this one, so that it can be prefetched.
    ///
    /// # Errors
    /// When the lap failed: no slot holds more than before, and [`Decoder::keep`] tells
    /// how much.
    fn decode(&mut self, pieces: &[Piece<'_>], next: Option<Class>) -> Result<(), Error>;

    /// Logits of a row of the last lap, counted from 0 over all its pieces. `None` if
    /// it failed, or where none were asked for.
    fn logits(&self, row: usize) -> Option<&[f32]>;

    /// What stands for the text up to a row of the last lap, where it has logits and the
    /// model is made for that.
    fn hidden(&self, row: usize) -> Option<&[f32]> {
        let _ = row;
        None
    }

    /// Whether all pieces of a lap have to be of the same length, and logits are had of
    /// single tokens alone.
    fn equal_pieces(&self) -> bool;

    /// Keeps the first `tokens` tokens of a slot, or as many of them as can be had;
    /// returns how many.
    fn keep(&mut self, slot: u32, tokens: u32) -> u32;

    /// How many of the first `tokens` tokens of a slot another slot can have.
    fn shareable(&self, slot: u32, tokens: u32) -> u32;

    /// Has slot `to` hold the first `tokens` tokens of `from`, and nothing else, without
    /// taking cells for them. That many are shareable.
    fn share(&mut self, from: u32, to: u32, tokens: u32);

    /// Where a slot is now it may be taken back to later on; certainly at the end of a
    /// prompt.
    fn remember(&mut self, slot: u32, at_prompt: bool);

    /// Keeps beyond this decoder's life what a slot has computed for `tokens`: a little of
    /// it, or with `all` whatever is not kept yet. `namespace` is whose tokens they are.
    fn save(&mut self, slot: u32, namespace: &Namespace, tokens: &[i32], all: bool) {
        let _ = (slot, namespace, tokens, all);
    }

    /// Whether more of these tokens is on its way to where [`Decoder::restore`] looks, and
    /// worth waiting for where computing one takes `token_s` seconds: then ask again.
    fn fetch(&mut self, namespace: &Namespace, tokens: &[i32], token_s: Option<f64>) -> bool {
        let _ = (namespace, tokens, token_s);
        false
    }

    /// Brings back into a slot, which holds the first `have` of these tokens, what else of
    /// them was kept; returns how many it holds then.
    fn restore(&mut self, slot: u32, namespace: &Namespace, tokens: &[i32], have: usize) -> usize {
        let _ = (slot, namespace, tokens);
        have
    }

    /// Removes what was kept beyond this decoder's life of an owner, whatever the salts;
    /// returns how many blocks.
    fn forget_saved(&mut self, namespace: &Namespace) -> usize {
        let _ = namespace;
        0
    }

    /// Forgets the tokens of all slots.
    fn clear(&mut self);

    /// What all laps so far took, failed ones included.
    fn taken(&self) -> Laps;

    /// Whether the time in which laps waited for the medium is known.
    fn sees_stalls(&self) -> bool;
}

/// How tokens are chosen, and what they say.
pub trait Language {
    /// Chooses the tokens of one sequence.
    type Sampler;

    /// A sampler behind the prompt of a request, with its grammar and biases.
    ///
    /// # Errors
    /// When there is no sampler as asked for.
    fn sampler(
        &self,
        sampling: &Sampling,
        request: &GenerateRequest,
    ) -> Result<Self::Sampler, Error>;

    /// The token that follows, from the logits of the one before it.
    ///
    /// # Errors
    /// When there is none to choose.
    fn choose(&mut self, sampler: &mut Self::Sampler, logits: &[f32]) -> Result<i32, Error>;

    /// Appends the bytes of a token; one may be a part of a character.
    ///
    /// # Errors
    /// When there is no such token.
    fn spell(&self, token: i32, out: &mut Vec<u8>) -> Result<(), Error>;

    /// A name for a token without bytes.
    ///
    /// # Errors
    /// When there is no such token.
    fn name(&self, token: i32) -> Result<String, Error> {
        Ok(format!("<token {token}>"))
    }

    /// Whether a token ends a generation.
    fn is_end(&self, token: i32) -> bool;
}

/// A model's vocabulary with llama.cpp's samplers.
#[derive(Debug)]
pub struct ModelLanguage {
    vocab: Vocab,
    /// One list for all sequences: it is as long as the vocabulary.
    candidates: Candidates,
}

impl ModelLanguage {
    /// Of that model.
    pub(crate) fn new(vocab: Vocab) -> Self {
        Self {
            vocab,
            candidates: Candidates::default(),
        }
    }

    /// The vocabulary.
    pub fn vocab(&self) -> &Vocab {
        &self.vocab
    }
}

impl Language for ModelLanguage {
    type Sampler = Sampler;

    fn sampler(&self, sampling: &Sampling, request: &GenerateRequest) -> Result<Sampler, Error> {
        let grammar = request.grammar.as_deref();
        let mut sampler = Sampler::new(&self.vocab, sampling, grammar)?;
        if let Some(trigger) = &request.trigger {
            sampler.wait_for(trigger.clone());
        }
        if let Some(thinking) = &request.thinking {
            sampler.think(thinking.clone())?;
        }
        sampler.add(&request.bias);
        sampler.prompt(&request.prompt)?;
        Ok(sampler)
    }

    fn choose(&mut self, sampler: &mut Sampler, logits: &[f32]) -> Result<i32, Error> {
        sampler.sample(logits, &mut self.candidates)
    }

    fn spell(&self, token: i32, out: &mut Vec<u8>) -> Result<(), Error> {
        self.vocab.piece(token, out)
    }

    fn name(&self, token: i32) -> Result<String, Error> {
        self.vocab.name(token)
    }

    fn is_end(&self, token: i32) -> bool {
        self.vocab.is_end(token)
    }
}
