//! A session: a batcher with one sequence, which continues prompts and keeps the KV cache
//! between them. Knows nothing of terminals.

use std::ops::ControlFlow;
use std::time::Instant;

use crate::backend::LlamaEngine;
use crate::batch::{
    Batcher, Choice, CompletedLap, Decoder, GenerateRequest, GeneratedToken, JoinError,
    SequenceEvent, SequenceId,
};
use crate::sample::Sampling;
use crate::vocab::Vocab;
use delayline_engine::Error;
use delayline_engine::Laps;

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model chose an end token.
    End,
    /// The requested number of tokens was generated.
    Length,
    /// The context or the KV cache is full.
    Full,
    /// The caller stopped it, or a stop text was found.
    Stopped,
}

/// What a generation produced.
#[derive(Clone, Debug)]
pub struct Generated {
    /// The text.
    pub text: String,
    /// Its tokens, the ending one included.
    pub tokens: Vec<i32>,
    /// Tokens of the prompt, including those found in the KV cache.
    pub prompt_tokens: usize,
    /// Those of them that were not computed but found, in memory or on disk.
    pub cached_tokens: usize,
    /// Why it ended.
    pub finish: Finish,
    /// From the call to the first token, in seconds.
    pub first_token_s: f64,
    /// From the first token to the last, in seconds.
    pub decode_s: f64,
    /// The laps in that time: one for each token but the first.
    pub decode: Laps,
}

impl Generated {
    fn nothing(prompt_tokens: usize) -> Self {
        Self {
            text: String::new(),
            tokens: Vec::new(),
            prompt_tokens,
            cached_tokens: 0,
            finish: Finish::Length,
            first_token_s: 0.0,
            decode_s: 0.0,
            decode: Laps::default(),
        }
    }

    /// Adds a token that was generated `now_s` seconds after the start.
    fn add(&mut self, token: &GeneratedToken, lap: &CompletedLap, now_s: f64) {
        if self.tokens.is_empty() {
            self.first_token_s = now_s;
        } else {
            self.decode_s = now_s - self.first_token_s;
            self.decode = self.decode + lap.took;
        }
        self.tokens.push(token.token);
        self.text.push_str(&token.text);
    }

    /// Tokens per second after the first token; `None` with fewer than two tokens.
    pub fn decode_tokens_per_s(&self) -> Option<f64> {
        (self.decode.count > 0).then(|| self.decode.count as f64 / self.decode_s)
    }
}

/// A model and the tokens in its KV cache.
pub struct Session<D: Decoder = LlamaEngine> {
    batcher: Batcher<D>,
    shown: Vec<i32>,
}

impl Session {
    /// The vocabulary.
    pub fn vocab(&self) -> &Vocab {
        self.batcher.vocab()
    }
}

impl<D: Decoder> Session<D> {
    /// An empty session, whose text may take all of the KV cache.
    pub fn new(decoder: D) -> Self {
        Self {
            batcher: Batcher::new(decoder, Some(u32::MAX)),
            shown: Vec::new(),
        }
    }

    /// Includes the text of these control tokens in answers.
    pub fn show(&mut self, tokens: Vec<i32>) {
        self.shown = tokens;
    }

    /// The decoder that it runs on.
    pub fn decoder(&mut self) -> &mut D {
        self.batcher.decoder()
    }

    /// Continues `prompt` by at most `max_tokens` tokens. The prefix that is still in the KV
    /// cache is not computed again. `piece` is called with each piece of text as soon as it
    /// is complete, and with an empty one after each lap of the prompt; it may stop the
    /// generation.
    ///
    /// # Errors
    /// When the prompt does not fit or a lap fails; text that was given to `piece` before
    /// stays valid.
    pub fn generate(
        &mut self,
        prompt: &[i32],
        max_tokens: usize,
        sampling: &Sampling,
        mut piece: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Generated, Error> {
        let start = Instant::now();
        let mut out = Generated::nothing(prompt.len());
        if max_tokens == 0 {
            self.batcher.check_prompt(prompt)?;
            return Ok(out);
        }
        let choice = Choice::Sampled(*sampling);
        let request = GenerateRequest {
            shown: self.shown.clone(),
            ..GenerateRequest::new(prompt, max_tokens, choice)
        };
        let admitted = self
            .batcher
            .join(request)
            .map_err(|refused| match refused {
                JoinError::Invalid(error) => error,
                JoinError::Full(_) => Error::Defect("a session found no room for its text".into()),
            })?;
        out.cached_tokens = admitted.cached;
        let mut events = Vec::new();
        loop {
            let lap = self.lap(admitted.id, &mut events)?;
            let token = match events.pop() {
                Some(event) => event.token?,
                // No text yet, but the caller may want to stop.
                None if piece("").is_break() => return Ok(self.stop(admitted.id, out)),
                None => continue,
            };
            out.add(&token, &lap, start.elapsed().as_secs_f64());
            let shown = token.finish != Some(Finish::End) || !token.text.is_empty();
            let stops = shown && piece(&token.text).is_break();
            match token.finish {
                Some(Finish::End) => out.finish = Finish::End,
                _ if stops => return Ok(self.stop(admitted.id, out)),
                Some(finish) => out.finish = finish,
                None => continue,
            }
            return Ok(out);
        }
    }

    fn lap(
        &mut self,
        id: SequenceId,
        events: &mut Vec<SequenceEvent>,
    ) -> Result<CompletedLap, Error> {
        self.batcher.lap(events).map_err(|failed| {
            self.batcher.leave(id);
            failed.error
        })
    }

    fn stop(&mut self, id: SequenceId, mut out: Generated) -> Generated {
        self.batcher.leave(id);
        out.finish = Finish::Stopped;
        out
    }
}
