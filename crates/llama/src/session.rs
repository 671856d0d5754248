//! A text and its continuation: prompts in micro-batches, then one token a lap.
//! Keeps the KV cache between turns. Knows nothing of terminals.

use std::ops::ControlFlow;
use std::time::Instant;

use crate::engine::Engine;
use crate::sample::{Candidates, Sampler, Sampling};
use crate::stream::Class;
use crate::vocab::{Utf8, Vocab};
use delayline_engine::Error;
use delayline_engine::Laps;

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model said so.
    End,
    /// As many tokens as were asked for.
    Length,
    /// The context is full.
    Full,
    /// The caller said so.
    Stopped,
}

/// What a generation produced.
#[derive(Clone, Debug)]
pub struct Generated {
    /// The text.
    pub text: String,
    /// Its tokens, the ending one included.
    pub tokens: Vec<i32>,
    /// Tokens of the prompt, those still in the KV cache included.
    pub prompt_tokens: usize,
    /// Why it ended.
    pub finish: Finish,
    /// From the call to the first token, in seconds.
    pub first_token_s: f64,
    /// From the first token to the last, in seconds.
    pub decode_s: f64,
    /// What the laps in that time took: one for each token but the first.
    pub decode: Laps,
}

impl Generated {
    /// Tokens a second after the first; `None` with fewer than two.
    pub fn decode_tokens_per_s(&self) -> Option<f64> {
        (self.decode.count > 0).then(|| self.decode.count as f64 / self.decode_s)
    }
}

/// A model and the tokens in its KV cache.
pub struct Session {
    engine: Engine,
    vocab: Vocab,
    cached: Vec<i32>,
    candidates: Candidates,
}

impl Session {
    /// An empty text.
    pub fn new(engine: Engine) -> Self {
        let vocab = Vocab::new(engine.model());
        Self {
            engine,
            vocab,
            cached: Vec::new(),
            candidates: Candidates::default(),
        }
    }

    /// The machine.
    pub fn engine(&mut self) -> &mut Engine {
        &mut self.engine
    }

    /// The vocabulary.
    pub fn vocab(&self) -> &Vocab {
        &self.vocab
    }

    /// Continues `prompt` by at most `most` tokens. What of it is in the KV
    /// cache from before is not computed again. `piece` sees each piece of text
    /// as soon as it is whole, and may stop.
    ///
    /// # Errors
    /// When the prompt does not fit or a lap fails; all text given to `piece`
    /// before is right.
    pub fn generate(
        &mut self,
        prompt: &[i32],
        most: usize,
        sampling: &Sampling,
        mut piece: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Generated, Error> {
        let start = Instant::now();
        let ctx = self.engine.ctx() as usize;
        if prompt.is_empty() {
            return Err(Error::Option(
                "the prompt is empty: give at least one token of text".into(),
            ));
        }
        if prompt.len() >= ctx {
            return Err(Error::PromptTooLong {
                prompt: prompt.len(),
                ctx,
            });
        }
        let mut sampler = Sampler::new(&self.vocab, sampling, None)?;
        sampler.prompt(prompt)?;
        let mut out = Generated {
            text: String::new(),
            tokens: Vec::new(),
            prompt_tokens: prompt.len(),
            finish: Finish::Length,
            first_token_s: 0.0,
            decode_s: 0.0,
            decode: Laps::default(),
        };
        if most == 0 {
            return Ok(out);
        }
        if self.prefill(prompt, most, &mut piece)?.is_break() {
            out.finish = Finish::Stopped;
            return Ok(out);
        }
        let before = self.engine.laps();
        let mut utf8 = Utf8::default();
        loop {
            let logits = self.engine.logits().ok_or_else(no_logits)?;
            let token = sampler.sample(logits, &mut self.candidates)?;
            out.tokens.push(token);
            if out.tokens.len() == 1 {
                out.first_token_s = start.elapsed().as_secs_f64();
            } else {
                out.decode_s = start.elapsed().as_secs_f64() - out.first_token_s;
            }
            if self.vocab.is_end(token) {
                out.finish = Finish::End;
                break;
            }
            self.vocab.piece(token, utf8.bytes())?;
            let text = utf8.text();
            out.text.push_str(&text);
            if piece(&text).is_break() {
                out.finish = Finish::Stopped;
                break;
            }
            if out.tokens.len() == most {
                break;
            }
            if self.cached.len() == ctx {
                out.finish = Finish::Full;
                break;
            }
            let next = (out.tokens.len() + 1 < most).then_some(Class::Single);
            self.lap(&[token], true, next)?;
        }
        out.decode = self.engine.laps() - before;
        let rest = utf8.finish();
        if !rest.is_empty() {
            out.text.push_str(&rest);
            let _ = piece(&rest);
        }
        Ok(out)
    }

    /// Brings the prompt into the KV cache, with logits for its last token.
    fn prefill(
        &mut self,
        prompt: &[i32],
        most: usize,
        piece: &mut impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Error> {
        let common = self
            .cached
            .iter()
            .zip(prompt)
            .take_while(|(a, b)| a == b)
            .count();
        // The last token is computed again: its logits are needed.
        let keep = common.min(prompt.len() - 1);
        if keep < self.cached.len() {
            if self.engine.context().truncate(keep as u32) {
                self.cached.truncate(keep);
            } else {
                // Recurrent states cannot go back.
                self.engine.context().clear();
                self.cached.clear();
            }
        }
        let rest = &prompt[self.cached.len()..];
        let ubatch = self.engine.ubatch() as usize;
        let mut done = 0;
        while done < rest.len() {
            let until = (done + ubatch).min(rest.len());
            let last = until == rest.len();
            let next = if last {
                (most > 1).then_some(Class::Single)
            } else {
                let after = (until + ubatch).min(rest.len());
                Some(Class::of(after - until, after == rest.len()))
            };
            self.lap(&rest[done..until], last, next)?;
            done = until;
            // An empty piece: nothing to show yet, but the caller may want to stop.
            if !last && piece("").is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn lap(&mut self, tokens: &[i32], output: bool, next: Option<Class>) -> Result<(), Error> {
        let pos = self.cached.len() as u32;
        self.engine.lap(tokens, pos, output, next)?;
        self.cached.extend_from_slice(tokens);
        Ok(())
    }
}

fn no_logits() -> Error {
    Error::Defect("a lap had no logits".into())
}
