//! One sequence: its tokens, how far they are in the KV cache, and the text that
//! comes of them. Knows nothing of the other sequences.

use crate::sample::{Candidates, Sampler, Sampling};
use crate::session::Finish;
use crate::vocab::{Utf8, Vocab};
use delayline_engine::Error;

use super::stop::Stops;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// The prompt's tokens.
    pub prompt: Vec<i32>,
    /// Most tokens to generate.
    pub most: usize,
    /// How they are chosen.
    pub sampling: Sampling,
    /// Texts that end the generation.
    pub stop: Vec<String>,
    /// Of how many of the likeliest tokens to tell the probability, beside that of
    /// the chosen one; `None` tells of none.
    pub logprobs: Option<usize>,
    /// What the text must obey, in llama.cpp's notation.
    pub grammar: Option<String>,
}

/// A token with the logarithm of its probability, before any sampling.
#[derive(Clone, Debug, PartialEq)]
pub struct Likely {
    /// The token.
    pub token: i32,
    /// Its bytes; a token may be part of a character.
    pub bytes: Vec<u8>,
    /// Natural logarithm of its probability.
    pub logprob: f32,
}

/// What a lap brought a sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Text that is certain now; may be empty.
    pub text: String,
    /// The token's probability first, then the likeliest ones; empty unless asked for.
    pub logprobs: Vec<Likely>,
    /// Why the generation ended with this, if it did.
    pub finish: Option<Finish>,
}

/// A sequence that rides.
#[derive(Debug)]
pub struct Rider {
    tokens: Vec<i32>,
    prompt: usize,
    fed: usize,
    most: usize,
    sampler: Sampler,
    utf8: Utf8,
    stops: Stops,
    logprobs: Option<usize>,
}

impl Rider {
    /// A sequence of which nothing is in the KV cache yet.
    ///
    /// # Errors
    /// When there is no sampler as asked for.
    pub fn new(vocab: &Vocab, request: Request) -> Result<Self, Error> {
        let mut sampler = Sampler::new(vocab, &request.sampling, request.grammar.as_deref())?;
        sampler.prompt(&request.prompt)?;
        Ok(Self {
            prompt: request.prompt.len(),
            tokens: request.prompt,
            fed: 0,
            most: request.most,
            sampler,
            utf8: Utf8::default(),
            stops: Stops::new(request.stop),
            logprobs: request.logprobs,
        })
    }

    /// Tokens that are not in the KV cache yet.
    pub fn lacking(&self) -> &[i32] {
        &self.tokens[self.fed..]
    }

    /// Whether the whole prompt was computed: then it lacks one token a lap.
    pub fn generates(&self) -> bool {
        self.fed >= self.prompt
    }

    /// Tokens in the KV cache.
    pub fn fed(&self) -> usize {
        self.fed
    }

    /// Tokens that it may come to.
    pub fn reserved(&self) -> usize {
        self.prompt + self.most
    }

    /// Whether the next token is its last.
    pub fn ends_next(&self) -> bool {
        self.tokens.len() + 1 >= self.reserved()
    }

    /// So many more of its tokens are in the KV cache.
    pub fn advance(&mut self, tokens: usize) {
        self.fed += tokens;
    }

    /// Chooses the next token.
    ///
    /// # Errors
    /// When there is none to choose.
    pub fn step(
        &mut self,
        vocab: &Vocab,
        logits: &[f32],
        candidates: &mut Candidates,
    ) -> Result<Step, Error> {
        let token = self.sampler.sample(logits, candidates)?;
        let logprobs = match self.logprobs {
            Some(top) => likeliest(vocab, logits, token, top)?,
            None => Vec::new(),
        };
        self.tokens.push(token);
        let mut step = Step {
            text: String::new(),
            logprobs,
            finish: None,
        };
        if vocab.is_end(token) {
            step.finish = Some(Finish::End);
            step.logprobs.clear();
        } else {
            vocab.piece(token, self.utf8.bytes())?;
            let (text, stopped) = self.stops.push(&self.utf8.text());
            step.text = text;
            step.finish = match stopped {
                true => Some(Finish::Stopped),
                false => (self.tokens.len() >= self.reserved()).then_some(Finish::Length),
            };
        }
        if let Some(Finish::End | Finish::Length) = step.finish {
            let (text, stopped) = self.stops.push(&self.utf8.finish());
            step.text.push_str(&text);
            if !stopped {
                step.text.push_str(&self.stops.finish());
            }
        }
        Ok(step)
    }

    /// The tokens that are in the KV cache.
    pub fn into_fed(mut self) -> Vec<i32> {
        self.tokens.truncate(self.fed);
        self.tokens
    }
}

/// The chosen token, then the `top` likeliest ones.
fn likeliest(vocab: &Vocab, logits: &[f32], token: i32, top: usize) -> Result<Vec<Likely>, Error> {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&x| f64::from(x - most).exp()).sum();
    let total = f64::from(most) + sum.ln();
    let likely = |token: i32| {
        let mut bytes = Vec::new();
        vocab.piece(token, &mut bytes)?;
        let logit = logits.get(token as usize).copied();
        Ok(Likely {
            token,
            bytes,
            // What cannot be is told as a number too: JSON has no infinity.
            logprob: ((f64::from(logit.unwrap_or(f32::NEG_INFINITY)) - total) as f32).max(-9999.0),
        })
    };
    let mut best: Vec<i32> = Vec::with_capacity(top + 1);
    for at in 0..logits.len() as i32 {
        let logit = logits[at as usize];
        let after = best.partition_point(|&other| logits[other as usize] >= logit);
        if after < top {
            best.insert(after, at);
            best.truncate(top);
        }
    }
    std::iter::once(token).chain(best).map(likely).collect()
}
