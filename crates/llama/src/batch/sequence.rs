//! One sequence: the request that it comes from, its tokens, how many of them are in the
//! KV cache, and the text that they generate. Knows nothing of the other sequences.

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
    /// Where the generated tokens come from.
    pub choice: Choice,
    /// Texts that end the generation.
    pub stop: Vec<String>,
    /// How many of the likeliest tokens to report with their log probabilities, besides the
    /// chosen one; `None` reports nothing.
    pub logprobs: Option<usize>,
    /// Grammar that the text must match, in llama.cpp's notation (GBNF).
    pub grammar: Option<String>,
    /// The text from which on the grammar applies, if not from the beginning.
    pub trigger: Option<Trigger>,
    /// How the model thinks before grammar and trigger apply, if it does.
    pub thinking: Option<Thinking>,
    /// Control tokens whose text is part of the answer; other control tokens are left out.
    pub shown: Vec<i32>,
    /// Added to the logits of single tokens; unknown tokens are ignored.
    pub bias: Vec<TokenBias>,
    /// Whether only a part of its room is promised when it joins; it gets more while there
    /// is room, and the answer ends when there is none.
    pub elastic: bool,
    /// Its owner: cells are shared only between requests of the same namespace.
    pub namespace: Namespace,
    /// Where what it computes is kept after it has left.
    pub retention: Retention,
    /// Whether its whole prompt is computed, even if parts of it are cached.
    pub fresh: bool,
}

impl GenerateRequest {
    /// Up to `max_tokens` tokens after `prompt`, with defaults for all else.
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

/// Where what was computed for a sequence is kept after it has left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retention {
    /// In memory until its room is needed, and in the decoder's store, if it has one.
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
    /// This list, whatever the logits: to measure laps over a known text.
    Given(Vec<i32>),
    /// Nowhere: the answer is the prompt's embedding ([`GeneratedToken::embedding`]).
    Embedding,
}

impl Choice {
    /// The same with `by` added to the seed of sampling, if there is one.
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

/// A token with its log probability under the unmodified logits.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLogprob {
    /// The token.
    pub token: i32,
    /// Its bytes; a token may be part of a character.
    pub bytes: Vec<u8>,
    /// Its text, or, if its bytes are no text, a printable name.
    pub name: String,
    /// Natural logarithm of its probability.
    pub logprob: f32,
}

/// A token that a lap generated for a sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct GeneratedToken {
    /// The token, also if it ends the generation.
    pub token: i32,
    /// Tokens of the text so far that were found and not computed.
    pub found: usize,
    /// Text that can be given out; may be empty. Bytes of an incomplete character and a
    /// possible beginning of a stop text are held back.
    pub text: String,
    /// Log probability of the token, then of the likeliest ones; empty unless asked for.
    pub logprobs: Vec<TokenLogprob>,
    /// Why the generation ended with this token, if it did.
    pub finish: Option<Finish>,
    /// The stop text that ended it.
    pub stop: Option<String>,
    /// The prompt's embedding, of Euclidean length 1; empty unless asked for.
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
    /// How many of the computed tokens were found and not computed by it.
    found: usize,
    max_tokens: usize,
    /// Up to which `max_tokens` may grow.
    most: usize,
    /// The reason to finish when `most` tokens are generated.
    at_maximum: Finish,
    chooser: Chooser<S>,
    shown: Vec<i32>,
    utf8: Utf8,
    stops: Stops,
    logprobs: Option<usize>,
}

impl<S> Sequence<S> {
    /// A sequence of which nothing is in the KV cache yet, and whose answer is at most
    /// `room` tokens long.
    ///
    /// # Errors
    /// As [`Language::sampler`].
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

    /// Whether it generates: all but its latest token is in the KV cache.
    pub fn generates(&self) -> bool {
        self.generated() > 0 && self.lacking().len() == 1
    }

    /// Its piece of a lap.
    pub fn piece(&self, share: &Share) -> Piece<'_> {
        Piece {
            seq: share.slot as u32,
            pos: self.computed as u32,
            tokens: &self.lacking()[..share.rows],
            output: share.output,
        }
    }

    /// Maximum number of KV cells that it may take, as promised so far.
    pub fn cells(&self) -> usize {
        cells(self.prompt, self.max_tokens)
    }

    /// Limits the promise to so many generated tokens for now.
    pub fn limit(&mut self, tokens: usize) {
        self.max_tokens = self.most.min(tokens);
    }

    /// How many more tokens it needs promised before the next lap, at most `step`.
    pub fn wants(&self, step: usize) -> usize {
        match self.ends_next() {
            true => (self.most - self.max_tokens).min(step),
            false => 0,
        }
    }

    /// Promises so many more tokens.
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

    /// Notes that so many more of its tokens were computed into the KV cache.
    pub fn advance(&mut self, tokens: usize) {
        self.computed += tokens;
    }

    /// Notes that so many more of its tokens were found in the KV cache or restored.
    pub fn find(&mut self, tokens: usize) {
        self.computed += tokens;
        self.found += tokens;
    }

    /// How many of its tokens are in the KV cache.
    pub fn computed(&self) -> usize {
        self.computed
    }

    /// Notes that only its first `tokens` tokens are in the KV cache.
    pub fn go_on_from(&mut self, tokens: usize) {
        self.computed = tokens;
        self.found = self.found.min(tokens);
    }

    /// Whether exactly the last token of its prompt is not in the KV cache.
    pub fn ends_prompt(&self) -> bool {
        self.generated() == 0 && self.lacking().len() == 1
    }

    /// Chooses the next token by the logits of the last one.
    ///
    /// # Errors
    /// When no token can be chosen or spelled.
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

    /// Whether it asks for an embedding of its prompt in place of tokens.
    pub fn embeds(&self) -> bool {
        matches!(self.chooser, Chooser::Embedding)
    }

    /// The final answer with the prompt's embedding: the hidden state, scaled to length 1.
    ///
    /// # Errors
    /// When there is no hidden state, or it is zero or not finite.
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
                message: "its hidden state is zero or not finite".into(),
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

    /// The text that was held back, at the end of the generation.
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

    /// The tokens that are in the KV cache, consuming the sequence.
    pub fn into_computed(mut self) -> Vec<i32> {
        self.tokens.truncate(self.computed);
        self.tokens
    }
}

impl GenerateRequest {
    /// Maximum number of tokens to generate.
    pub(super) fn tokens(&self) -> usize {
        match &self.choice {
            Choice::Sampled(_) => self.max_tokens,
            Choice::Given(tokens) => self.max_tokens.min(tokens.len()),
            Choice::Embedding => 1,
        }
    }
}

/// Cells that a prompt and its answer take; the answer's last token is never decoded.
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
            // JSON has no infinity, so impossible tokens get this value.
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
