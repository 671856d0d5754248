//! The traits that a batcher runs on: a [`Decoder`] decodes laps of tokens and keeps the
//! KV cache, its [`Language`] chooses tokens and spells them. The engine is a decoder;
//! [`super::SimulatedDecoder`] is one that computes nothing.

use super::sequence::GenerateRequest;
use crate::piece::Piece;
use crate::sample::{Candidates, Sampler, Sampling};
use crate::vocab::Vocab;
use delayline_engine::{Class, Error, Laps};
use delayline_kv::Namespace;

/// Decodes rows of tokens into logits, with a memory in which each token of a sequence
/// takes a cell. Slots are numbered from 0.
pub trait Decoder {
    /// How tokens are chosen and spelled.
    type Language: Language;

    /// Its language. A batcher asks for it once.
    fn language(&self) -> Self::Language;

    /// Maximum number of sequences in a lap.
    fn slots(&self) -> usize;

    /// Number of tokens that fit into the memory, over all slots.
    fn cells(&self) -> usize;

    /// Maximum number of tokens in a lap, at least as many as there are slots.
    fn rows(&self) -> usize;

    /// Decodes one lap: at most one piece per slot, [`Decoder::rows`] tokens in all, each
    /// appended to what its slot holds. `next` is the class of the lap that is expected
    /// next, for prefetching.
    ///
    /// # Errors
    /// When the lap failed. No slot then holds more than before; [`Decoder::keep`] returns
    /// how much it still holds.
    fn decode(&mut self, pieces: &[Piece<'_>], next: Option<Class>) -> Result<(), Error>;

    /// Logits of a row of the last lap, counted from 0 over all its pieces. `None` if
    /// the lap failed or the row has no output.
    fn logits(&self, row: usize) -> Option<&[f32]>;

    /// The hidden state of a row of the last lap, from which an embedding is made. `None` if
    /// the row has no output or the model gives no embeddings.
    fn hidden(&self, row: usize) -> Option<&[f32]> {
        let _ = row;
        None
    }

    /// Whether all pieces of a lap have to be of equal length, with outputs only if that
    /// is 1.
    fn equal_pieces(&self) -> bool;

    /// Cuts a slot back to its first `tokens` tokens, or to fewer if it cannot be cut
    /// there; returns how many it holds then.
    fn keep(&mut self, slot: u32, tokens: u32) -> u32;

    /// How many of the first `tokens` tokens of a slot can be shared with another slot.
    fn shareable(&self, slot: u32, tokens: u32) -> u32;

    /// Makes slot `to` hold the first `tokens` tokens of `from`, and nothing else, in the
    /// same cells. `tokens` is what [`Decoder::shareable`] returned. Returns how many it holds
    /// then: fewer if they could not be shared after all.
    fn share(&mut self, from: u32, to: u32, tokens: u32) -> u32;

    /// Notes that the slot may be cut back to its present length later. A decoder that
    /// needs snapshots for that takes one if it is due, as it is at the end of a prompt.
    fn remember(&mut self, slot: u32, at_prompt: bool);

    /// Saves what a slot has computed for `tokens` in a store that outlives this decoder: a
    /// little of it, or with `all` everything not yet saved. `namespace` is their owner.
    fn save(&mut self, slot: u32, namespace: &Namespace, tokens: &[i32], all: bool) {
        let _ = (slot, namespace, tokens, all);
    }

    /// Whether more of these tokens is being fetched to where [`Decoder::restore`] looks, and
    /// waiting is faster than computing at `token_s` seconds per token. Then ask again.
    fn fetch(&mut self, namespace: &Namespace, tokens: &[i32], token_s: Option<f64>) -> bool {
        let _ = (namespace, tokens, token_s);
        false
    }

    /// Restores what was saved for these tokens into a slot that holds the first `have` of
    /// them; returns how many it holds then.
    fn restore(&mut self, slot: u32, namespace: &Namespace, tokens: &[i32], have: usize) -> usize {
        let _ = (slot, namespace, tokens);
        have
    }

    /// Removes an owner's saved blocks, for all salts; returns how many.
    fn forget_saved(&mut self, namespace: &Namespace) -> usize {
        let _ = namespace;
        0
    }

    /// Forgets the tokens of all slots.
    fn clear(&mut self);

    /// Totals over all laps so far, failed ones included.
    fn taken(&self) -> Laps;

    /// Whether the time that laps waited for the medium is measured.
    fn sees_stalls(&self) -> bool;
}

/// How tokens are chosen and spelled.
pub trait Language {
    /// Chooses the tokens of one sequence.
    type Sampler;

    /// A sampler for a request, with its grammar and biases, that has seen its prompt.
    ///
    /// # Errors
    /// When the sampler cannot be made, for instance for an invalid grammar.
    fn sampler(
        &self,
        sampling: &Sampling,
        request: &GenerateRequest,
    ) -> Result<Self::Sampler, Error>;

    /// Chooses the next token by the logits of the last one.
    ///
    /// # Errors
    /// When no token can be chosen.
    fn choose(&mut self, sampler: &mut Self::Sampler, logits: &[f32]) -> Result<i32, Error>;

    /// Appends the bytes of a token, which may be part of a character.
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
    /// For this vocabulary.
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
