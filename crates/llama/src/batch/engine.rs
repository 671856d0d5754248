//! [`Decoder`] for an [`Engine`]: laps are run by the engine; the KV cache and the outputs
//! are those of its backend, a [`TokenBackend`].

use delayline_engine::{Backend, Class, Engine, Error, Laps, Load};
use delayline_kv::Namespace;

use super::decoder::{Decoder, Language, ModelLanguage};
use crate::backend::LlamaBackend;
use crate::piece::Piece;
use crate::vocab::Vocab;

/// A backend that decodes tokens into logits.
pub trait TokenBackend: for<'a> Backend<Work<'a> = &'a [Piece<'a>]> {
    /// How its tokens are chosen and spelled.
    type Language: Language;

    /// Its language.
    fn language(&self) -> Self::Language;

    /// Logits of a row of the last lap, counted from 0 over all its pieces.
    fn logits(&self, row: usize) -> Option<&[f32]>;

    /// As [`Decoder::hidden`].
    fn hidden(&self, row: usize) -> Option<&[f32]> {
        let _ = row;
        None
    }

    /// As [`Decoder::equal_pieces`].
    fn equal_pieces(&self) -> bool;

    /// As [`Decoder::keep`].
    fn keep(&mut self, slot: u32, tokens: u32) -> u32;

    /// As [`Decoder::shareable`].
    fn shareable(&self, slot: u32, tokens: u32) -> u32;

    /// As [`Decoder::share`].
    fn share(&mut self, from: u32, to: u32, tokens: u32) -> u32;

    /// As [`Decoder::remember`].
    fn remember(&mut self, slot: u32, at_prompt: bool);

    /// As [`Decoder::save`].
    fn save(&mut self, slot: u32, namespace: &Namespace, tokens: &[i32], all: bool) {
        let _ = (slot, namespace, tokens, all);
    }

    /// As [`Decoder::fetch`].
    fn fetch(&mut self, namespace: &Namespace, tokens: &[i32], token_s: Option<f64>) -> bool {
        let _ = (namespace, tokens, token_s);
        false
    }

    /// As [`Decoder::restore`].
    fn restore(&mut self, slot: u32, namespace: &Namespace, tokens: &[i32], have: usize) -> usize {
        let _ = (slot, namespace, tokens);
        have
    }

    /// As [`Decoder::forget_saved`].
    fn forget_saved(&mut self, namespace: &Namespace) -> usize {
        let _ = namespace;
        0
    }
}

impl TokenBackend for LlamaBackend {
    type Language = ModelLanguage;

    fn language(&self) -> ModelLanguage {
        ModelLanguage::new(Vocab::new(self.model()))
    }

    fn logits(&self, row: usize) -> Option<&[f32]> {
        self.context().logits_of(row as i32)
    }

    fn hidden(&self, row: usize) -> Option<&[f32]> {
        self.hidden(row)
    }

    fn equal_pieces(&self) -> bool {
        self.context().equal_pieces()
    }

    fn keep(&mut self, slot: u32, tokens: u32) -> u32 {
        self.context_mut().keep(slot, tokens)
    }

    fn shareable(&self, slot: u32, tokens: u32) -> u32 {
        self.context().shareable(slot, tokens)
    }

    fn share(&mut self, from: u32, to: u32, tokens: u32) -> u32 {
        self.context_mut().share(from, to, tokens)
    }

    fn remember(&mut self, slot: u32, at_prompt: bool) {
        self.context_mut().remember(slot, at_prompt);
    }

    fn save(&mut self, slot: u32, namespace: &Namespace, tokens: &[i32], all: bool) {
        if let (context, Some(tier)) = self.context_and_tier() {
            tier.save(context, slot, namespace, tokens, all);
        }
    }

    fn fetch(&mut self, namespace: &Namespace, tokens: &[i32], token_s: Option<f64>) -> bool {
        let (_, tier) = self.context_and_tier();
        tier.is_some_and(|tier| tier.fetch(namespace, tokens, token_s))
    }

    fn restore(&mut self, slot: u32, namespace: &Namespace, tokens: &[i32], have: usize) -> usize {
        match self.context_and_tier() {
            (context, Some(tier)) => tier.restore(context, slot, namespace, tokens, have),
            (_, None) => have,
        }
    }

    fn forget_saved(&mut self, namespace: &Namespace) -> usize {
        let (_, tier) = self.context_and_tier();
        tier.map_or(0, |tier| tier.forget(namespace))
    }
}

impl<B: TokenBackend> Decoder for Engine<B> {
    type Language = B::Language;

    fn language(&self) -> B::Language {
        self.backend().language()
    }

    fn slots(&self) -> usize {
        self.seqs() as usize
    }

    fn cells(&self) -> usize {
        self.ctx() as usize
    }

    fn rows(&self) -> usize {
        self.ubatch() as usize
    }

    fn decode(&mut self, pieces: &[Piece<'_>], next: Option<Class>) -> Result<(), Error> {
        self.lap(pieces, next)
    }

    fn logits(&self, row: usize) -> Option<&[f32]> {
        match self.has_output() {
            true => self.backend().logits(row),
            false => None,
        }
    }

    fn hidden(&self, row: usize) -> Option<&[f32]> {
        self.backend().hidden(row)
    }

    fn equal_pieces(&self) -> bool {
        self.backend().equal_pieces()
    }

    fn keep(&mut self, slot: u32, tokens: u32) -> u32 {
        self.backend_mut().keep(slot, tokens)
    }

    fn shareable(&self, slot: u32, tokens: u32) -> u32 {
        self.backend().shareable(slot, tokens)
    }

    fn share(&mut self, from: u32, to: u32, tokens: u32) -> u32 {
        self.backend_mut().share(from, to, tokens)
    }

    fn remember(&mut self, slot: u32, at_prompt: bool) {
        self.backend_mut().remember(slot, at_prompt);
    }

    fn save(&mut self, slot: u32, namespace: &Namespace, tokens: &[i32], all: bool) {
        self.backend_mut().save(slot, namespace, tokens, all);
    }

    fn fetch(&mut self, namespace: &Namespace, tokens: &[i32], token_s: Option<f64>) -> bool {
        self.backend_mut().fetch(namespace, tokens, token_s)
    }

    fn restore(&mut self, slot: u32, namespace: &Namespace, tokens: &[i32], have: usize) -> usize {
        self.backend_mut().restore(slot, namespace, tokens, have)
    }

    fn forget_saved(&mut self, namespace: &Namespace) -> usize {
        self.backend_mut().forget_saved(namespace)
    }

    fn clear(&mut self) {
        self.backend_mut().clear();
    }

    fn taken(&self) -> Laps {
        self.laps()
    }

    fn sees_stalls(&self) -> bool {
        self.way() != Load::Mmap
    }
}
