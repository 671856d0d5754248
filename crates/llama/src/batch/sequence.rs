//! One sequence: its tokens, how far they are in the KV cache, and the text that
//! comes of them. Knows nothing of the other sequences.

use crate::piece::Piece;
use crate::sample::{Sampling, TokenBias, Trigger};
use crate::session::Finish;
use crate::thoughts::Thinking;
use crate::vocab::Utf8;
use delayline_engine::Error;
use delayline_kv::Namespace;

use super::decoder::Language;
use super::share::Share;
use super::stop::Stops;

/// A prompt and how to continue it.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerateRequest {
    /// The prompt's tokens.
    pub prompt: Vec<i32>,
    /// Maximum number of tokens to generate.
    pub max_tokens: usize,
    /// Where they come from.
    pub choice: Choice,
    /// Texts that end the generation.
    pub stop: Vec<String>,
    /// Of how many of the likeliest tokens to tell the probability, beside that of
    /// the chosen one; `None` tells of none.
    pub logprobs: Option<usize>,
    /// What the text must obey, in llama.cpp's notation.
    pub grammar: Option<String>,
    /// From which text on it must obey, if not from the beginning.
    pub trigger: Option<Trigger>,
    /// How the model thinks before any of this holds, if it does.
    pub thinking: Option<Thinking>,
    /// Control tokens whose text is a part of the answer; that of others is not.
    pub shown: Vec<i32>,
    /// What is added to the logits of single tokens; unknown ones mean nothing.
    pub bias: Vec<TokenBias>,
    /// Whether it takes what room it gets: a part of it is promised when it joins, more
    /// while others leave room, and the answer ends where there is none.
    pub elastic: bool,
    /// Whose it is: what requests of one namespace have left in the KV cache is not shared
    /// with another's.
    pub namespace: Namespace,
    /// Where what it computes stays.
    pub retention: Retention,
    /// Whether all of its prompt is computed, though some of it may be kept.
    pub fresh: bool,
}

impl GenerateRequest {
    /// Up to `max_tokens` tokens behind `prompt`, and nothing else asked for.
    pub fn new(prompt: &[i32], max_tokens: usize, choice: Choice) -> Self {
        Self {
            prompt: prompt.to_vec(),
            max_tokens,
            choice,
            stop: Vec::new(),
            logprobs: None,
            grammar: None,
            trigger: None,
            thinking: None,
            shown: Vec::new(),
            bias: Vec::new(),
            elastic: false,
            namespace: Namespace::default(),
            retention: Retention::default(),
            fresh: false,
        }
    }
}

/// Where what was computed for a sequence stays when the sequence has left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retention {
    /// In memory until its room is needed, and wherever the decoder keeps more.
    #[default]
    Saved,
    /// In memory alone.
    Memory,
    /// Nowhere.
    Nowhere,
}

/// Where the tokens of an answer come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Choice {
    /// The model's logits.
    Sampled(Sampling),
    /// This list, whatever the logits are, up to its end: to measure laps over a
    /// text that is known.
    Given(Vec<i32>),
    /// Nowhere: the answer is what stands for the prompt ([`GeneratedToken::embedding`]).
    Embedding,
}

impl Choice {
    /// The same from another seed, so many numbers further.
    pub fn reseeded(&self, by: u32) -> Self {
        match self {
            Self::Sampled(sampling) => Self::Sampled(Sampling {
                seed: sampling.seed.wrapping_add(by),
                ..*sampling
            }),
            other => other.clone(),
        }
    }
}

/// A token with the logarithm of its probability, before any sampling.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLogprob {
    /// The token.
    pub token: i32,
    /// Its bytes; a token may be part of a character.
    pub bytes: Vec<u8>,
    /// What to call it: its text where that is one, and else what says which it is.
    pub name: String,
    /// Natural logarithm of its probability.
    pub logprob: f32,
}

/// What a lap brought a sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct GeneratedToken {
    /// The token, also if it ends the generation.
    pub token: i32,
    /// Tokens of the text so far that the sequence had not to compute.
    pub found: usize,
    /// Text that is certain now; may be empty.
    pub text: String,
    /// The token's probability first, then the likeliest ones; empty unless asked for.
    pub logprobs: Vec<TokenLogprob>,
    /// Why the generation ended with this, if it did.
    pub finish: Option<Finish>,
    /// The stop text that ended it.
    pub stop: Option<String>,
    /// What stands for the prompt, of length 1; empty unless asked for in place of a token.
    pub embedding: Vec<f32>,
}

/// Chooses the tokens of one sequence.
#[derive(Debug)]
enum Chooser<S> {
    Sampler(S),
    Given(std::vec::IntoIter<i32>),
    Embedding,
}

/// A sequence in a slot, with its sampler `S`.
#[derive(Debug)]
pub struct Sequence<S> {
    tokens: Vec<i32>,
    prompt: usize,
    computed: usize,
    /// How many of these it had not to compute.
    found: usize,
    max_tokens: usize,
    /// What `max_tokens` may grow to.
    most: usize,
    /// What it is if all tokens were generated.
    at_maximum: Finish,
    chooser: Chooser<S>,
    shown: Vec<i32>,
    utf8: Utf8,
    stops: Stops,
    logprobs: Option<usize>,
}

impl<S> Sequence<S> {
    /// A sequence of which nothing is in the KV cache yet. Its answer ends with
    /// `room` tokens at the latest.
    ///
    /// # Errors
    /// When there is no sampler as asked for.
    pub fn new<L>(language: &L, request: GenerateRequest, room: usize) -> Result<Self, Error>
    where
        L: Language<Sampler = S>,
    {
        let asked = request.tokens();
        let chooser = match request.choice.clone() {
            Choice::Sampled(sampling) => Chooser::Sampler(language.sampler(&sampling, &request)?),
            Choice::Given(tokens) => Chooser::Given(tokens.into_iter()),
            Choice::Embedding => Chooser::Embedding,
        };
        Ok(Self {
            prompt: request.prompt.len(),
            tokens: request.prompt,
            computed: 0,
            found: 0,
            max_tokens: asked.min(room),
            most: asked.min(room),
            at_maximum: match asked > room {
                true => Finish::Full,
                false => Finish::Length,
            },
            chooser,
            shown: request.shown,
            utf8: Utf8::default(),
            stops: Stops::new(request.stop),
            logprobs: request.logprobs,
        })
    }

    /// All of its tokens.
    pub fn tokens(&self) -> &[i32] {
        &self.tokens
    }

    /// Tokens that are not in the KV cache yet.
    pub fn lacking(&self) -> &[i32] {
        &self.tokens[self.computed..]
    }

    /// Whether only its latest token is not in the KV cache: it brings one a lap.
    pub fn generates(&self) -> bool {
        self.generated() > 0 && self.lacking().len() == 1
    }

    /// What it brings to a lap.
    pub fn piece(&self, share: &Share) -> Piece<'_> {
        Piece {
            seq: share.slot as u32,
            pos: self.computed as u32,
            tokens: &self.lacking()[..share.rows],
            output: share.output,
        }
    }

    /// Cells of the KV cache that it may come to take.
    pub fn cells(&self) -> usize {
        cells(self.prompt, self.max_tokens)
    }

    /// Promises it only so many tokens for now.
    pub fn limit(&mut self, tokens: usize) {
        self.max_tokens = self.most.min(tokens);
    }

    /// How many more tokens it should be promised now, at most `step`.
    pub fn wants(&self, step: usize) -> usize {
        match self.ends_next() {
            true => (self.most - self.max_tokens).min(step),
            false => 0,
        }
    }

    /// Promises it so many tokens more.
    pub fn grow(&mut self, tokens: usize) {
        self.max_tokens += tokens;
    }

    /// Whether the next token is its last.
    pub fn ends_next(&self) -> bool {
        self.generated() + 1 >= self.max_tokens
    }

    fn generated(&self) -> usize {
        self.tokens.len() - self.prompt
    }

    /// So many more of its tokens are in the KV cache.
    pub fn advance(&mut self, tokens: usize) {
        self.computed += tokens;
    }

    /// So many more of its tokens were found in the KV cache, or elsewhere.
    pub fn find(&mut self, tokens: usize) {
        self.computed += tokens;
        self.found += tokens;
    }

    /// How many of its tokens are in the KV cache.
    pub fn computed(&self) -> usize {
        self.computed
    }

    /// Only so many of its tokens are in the KV cache.
    pub fn go_on_from(&mut self, tokens: usize) {
        self.computed = tokens;
        self.found = self.found.min(tokens);
    }

    /// Whether all of its prompt but the last token is in the KV cache.
    pub fn ends_prompt(&self) -> bool {
        self.generated() == 0 && self.lacking().len() == 1
    }

    /// Chooses the next token, from the logits of the last one.
    ///
    /// # Errors
    /// When there is none to choose.
    pub fn choose<L>(&mut self, language: &mut L, logits: &[f32]) -> Result<GeneratedToken, Error>
    where
        L: Language<Sampler = S>,
    {
        let (token, is_end) = match &mut self.chooser {
            Chooser::Sampler(sampler) => {
                let token = language.choose(sampler, logits)?;
                (token, language.is_end(token))
            }
            Chooser::Given(tokens) => match tokens.next() {
                Some(token) => (token, false),
                None => return Err(Error::Defect("the given tokens have run out".into())),
            },
            Chooser::Embedding => {
                return Err(Error::Defect("a token where none was asked for".into()));
            }
        };
        let logprobs = match self.logprobs {
            Some(top) if !is_end => likeliest(language, logits, token, top)?,
            _ => Vec::new(),
        };
        self.tokens.push(token);
        let (mut text, mut finish) = (String::new(), None);
        if is_end {
            finish = Some(Finish::End);
        } else {
            match self.shown.contains(&token) {
                true => self.utf8.bytes().extend(language.name(token)?.bytes()),
                false => language.spell(token, self.utf8.bytes())?,
            }
            let (some, stopped) = self.stops.push(&self.utf8.text());
            text = some;
            if stopped {
                finish = Some(Finish::Stopped);
            } else if self.generated() >= self.max_tokens {
                finish = Some(match self.max_tokens < self.most {
                    true => Finish::Full,
                    false => self.at_maximum,
                });
            }
        }
        if finish.is_some_and(|finish| finish != Finish::Stopped) {
            text.push_str(&self.rest());
        }
        Ok(GeneratedToken {
            token,
            found: self.found,
            text,
            logprobs,
            finish,
            stop: finish.and_then(|_| self.stops.met().map(str::to_owned)),
            embedding: Vec::new(),
        })
    }

    /// Whether it is to be told what stands for its prompt, and nothing else.
    pub fn embeds(&self) -> bool {
        matches!(self.chooser, Chooser::Embedding)
    }

    /// Ends with what stands for its prompt, brought to length 1.
    ///
    /// # Errors
    /// When that has no direction.
    pub fn embedded(&self, hidden: Option<&[f32]>) -> Result<GeneratedToken, Error> {
        let hidden = hidden.ok_or_else(|| Error::Llama {
            what: "embed a text",
            message: "this model's graph has no hidden states that could be read".into(),
        })?;
        let length = hidden.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>();
        let length = length.sqrt();
        if !(length.is_finite() && length > 0.0) {
            return Err(Error::Llama {
                what: "embed a text",
                message: "its hidden state is zero or no number".into(),
            });
        }
        let unit = |&x: &f32| (f64::from(x) / length) as f32;
        Ok(GeneratedToken {
            token: -1,
            found: self.found,
            text: String::new(),
            logprobs: Vec::new(),
            finish: Some(Finish::End),
            stop: None,
            embedding: hidden.iter().map(unit).collect(),
        })
    }

    /// Text that was held back, when no more tokens come.
    fn rest(&mut self) -> String {
        let (mut text, stopped) = self.stops.push(&self.utf8.finish());
        if !stopped {
            text.push_str(&self.stops.finish());
        }
        text
    }

    /// The tokens that are in the KV cache.
    pub fn computed_tokens(&self) -> &[i32] {
        &self.tokens[..self.computed]
    }

    /// The same, for good.
    pub fn into_computed(mut self) -> Vec<i32> {
        self.tokens.truncate(self.computed);
        self.tokens
    }
}

impl GenerateRequest {
    /// Tokens that may be generated.
    pub(super) fn tokens(&self) -> usize {
        match &self.choice {
            Choice::Sampled(_) => self.max_tokens,
            Choice::Given(tokens) => self.max_tokens.min(tokens.len()),
            Choice::Embedding => 1,
        }
    }
}

/// Cells that a prompt and its answer take: the last token is never fed.
pub fn cells(prompt: usize, answer: usize) -> usize {
    prompt + answer - 1
}

/// The chosen token, then the `top` likeliest ones.
fn likeliest(
    language: &impl Language,
    logits: &[f32],
    token: i32,
    top: usize,
) -> Result<Vec<TokenLogprob>, Error> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&x| f64::from(x - largest).exp()).sum();
    let total = f64::from(largest) + sum.ln();
    let with_logprob = |token: i32| {
        let mut bytes = Vec::new();
        language.spell(token, &mut bytes)?;
        let logit = logits.get(token as usize).copied();
        Ok(TokenLogprob {
            token,
            name: match std::str::from_utf8(&bytes) {
                Ok("") => language.name(token)?,
                Ok(text) => text.to_owned(),
                Err(_) => format!("bytes:{}", bytes.escape_ascii()),
            },
            bytes,
            // Impossible tokens get a number as well: JSON has no infinity.
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
    std::iter::once(token)
        .chain(best)
        .map(with_logprob)
        .collect()
}
