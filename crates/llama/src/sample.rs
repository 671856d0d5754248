//! Chooses a token from logits: llama.cpp's sampler chain with biases, a grammar that may
//! wait for a trigger, and thoughts, during which the grammar does not apply.

use std::collections::VecDeque;
use std::ffi::CString;
use std::ptr::NonNull;

use crate::sys;
use crate::thoughts::{Thinking, Thoughts, Told, keep_end};
use crate::tokenize::TokenizeRequest;
use crate::vocab::Vocab;
use delayline_engine::Error;

/// How tokens are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 takes the likeliest token.
    pub temperature: f32,
    /// Keeps only the `k` likeliest tokens; 0 keeps all.
    pub top_k: i32,
    /// Keeps the likeliest tokens that together reach this probability; 1 keeps all.
    pub top_p: f32,
    /// Keeps tokens at least this likely relative to the likeliest; 0 keeps all.
    pub min_p: f32,
    /// Divides the logits of recent tokens, including the prompt's; 1 is off.
    pub repeat_penalty: f32,
    /// Subtracted from a generated token's logit for each occurrence; 0 is off.
    pub frequency_penalty: f32,
    /// Subtracted once from the logit of each generated token; 0 is off.
    pub presence_penalty: f32,
    /// Seed of the random choice.
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
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            seed: 0,
        }
    }
}

impl Sampling {
    /// What the model's file recommends (`general.sampling.*`); llama.cpp's defaults for values
    /// that are missing or out of range.
    ///
    /// # Errors
    /// When llama.cpp runs out of memory while reading the metadata.
    pub fn of(vocab: &Vocab) -> Result<Self, Error> {
        let number = |key, default: f32, from: f32, to: f32| {
            let given = vocab.metadata(key)?.parse::<f32>().ok();
            Ok::<_, Error>(given.filter(|x| (from..=to).contains(x)).unwrap_or(default))
        };
        let default = Self::default();
        let k = number(c"general.sampling.top_k", default.top_k as f32, 0.0, 1e9)?;
        Ok(Self {
            temperature: number(c"general.sampling.temp", default.temperature, 0.0, 100.0)?,
            top_k: k as i32,
            top_p: number(c"general.sampling.top_p", default.top_p, 0.0, 1.0)?,
            min_p: number(c"general.sampling.min_p", default.min_p, 0.0, 1.0)?,
            repeat_penalty: number(
                c"general.sampling.penalty_repeat",
                default.repeat_penalty,
                0.01,
                100.0,
            )?,
            ..default
        })
    }
}

/// A number that is added to the logit of a token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenBias {
    /// The token.
    pub token: i32,
    /// The number.
    pub bias: f32,
}

/// The text from which on a grammar applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// The text.
    pub text: String,
    /// Whether it counts only at the start of the answer, after white space.
    pub at_start: bool,
    /// The part of it with which the text that the grammar describes begins.
    pub begins: String,
}

/// A grammar that does not apply yet.
#[derive(Debug)]
struct Waiting {
    trigger: Trigger,
    grammar: String,
    /// The end of the text so far, in which the trigger may have begun.
    said: String,
}

impl Waiting {
    /// The text after the trigger, if this piece completes it.
    fn meets(&self, piece: &str) -> Option<String> {
        let said = format!("{}{piece}", self.said);
        let behind = match self.trigger.at_start {
            true => said.trim_start().strip_prefix(&self.trigger.text),
            false => said
                .split_once(&self.trigger.text)
                .map(|(_, behind)| behind),
        };
        behind.map(str::to_owned)
    }

    /// Adds a piece that does not complete the trigger; whether the trigger may still come.
    fn pass(&mut self, piece: &str) -> bool {
        self.said.push_str(piece);
        if self.trigger.at_start {
            return self.trigger.text.starts_with(self.said.trim_start());
        }
        keep_end(&mut self.said, self.trigger.text.len());
        true
    }
}

/// Number of recent tokens that the repeat penalty considers.
const PENALTY_TOKENS: i32 = 64;

/// Number of recent generated tokens that the other penalties consider.
const GENERATED_TOKENS: i32 = 4096;

/// One of llama.cpp's samplers; freed on drop.
#[derive(Debug)]
struct Part(NonNull<sys::llama_sampler>);

impl Part {
    fn new(
        raw: Result<*mut sys::llama_sampler, sys::Exception>,
        what: &'static str,
    ) -> Result<Self, Error> {
        let raw = raw.map_err(|thrown| thrown.during(what))?;
        let message = || "it gave no reason".into();
        let raw = NonNull::new(raw).ok_or_else(|| Error::Llama {
            what,
            message: message(),
        })?;
        Ok(Self(raw))
    }

    /// Appends a sampler to this chain.
    fn add(&mut self, next: Result<*mut sys::llama_sampler, sys::Exception>) -> Result<(), Error> {
        let what = "make a sampler";
        let next = Self::new(next, what)?;
        // SAFETY: both are live.
        unsafe { sys::llama_sampler_chain_add(self.0.as_ptr(), next.0.as_ptr()) }
            .map_err(|thrown| thrown.during(what))?;
        // The chain has taken it over.
        std::mem::forget(next);
        Ok(())
    }

    fn accept(&mut self, token: i32) -> Result<(), Error> {
        // SAFETY: live.
        unsafe { sys::llama_sampler_accept(self.0.as_ptr(), token) }
            .map_err(|thrown| thrown.during("accept a token"))
    }

    fn apply(&mut self, candidates: &mut sys::llama_token_data_array) -> Result<(), Error> {
        // SAFETY: live; the array's pointer and length belong together.
        unsafe { sys::llama_sampler_apply(self.0.as_ptr(), candidates) }
            .map_err(|thrown| thrown.during("choose a token"))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // SAFETY: live and freed once.
        unsafe { sys::llama_sampler_free(self.0.as_ptr()) }
    }
}

/// A sampler chain, with a grammar where one is asked for.
#[derive(Debug)]
pub struct Sampler {
    chain: Part,
    grammar: Option<Part>,
    /// The text of the grammar, for [`Sampler::wait_for`].
    text: Option<String>,
    waiting: Option<Waiting>,
    /// Present until thoughts have ended.
    thoughts: Option<Thoughts>,
    /// Tokens that are inserted before the model chooses again.
    given: VecDeque<i32>,
    /// The tokens that end its thoughts, until they were inserted.
    end: Vec<i32>,
    bias: Vec<TokenBias>,
    /// Whether the chain begins with a repeat penalty.
    repeats: bool,
    // The grammar points into the vocabulary.
    vocab: Vocab,
}

/// Maximum number of tokens that are rejected in one choice because the grammar forbids
/// what they would begin.
const PASSED_OVER: usize = 256;

/// The tokens to choose from, in the form that llama.cpp's samplers expect. Reused between
/// choices, because it is as long as the vocabulary.
#[derive(Debug, Default)]
pub struct Candidates(Vec<sys::llama_token_data>);

/// Number of tokens that a grammar checks at once: it decodes them all, in memory that the
/// budget reserves ([`delayline_engine::budget`]).
pub(crate) const SPELLED: usize = 1024;

impl Candidates {
    fn fill(&mut self, logits: &[f32], bias: &[TokenBias], passed: &[i32]) {
        self.0.clear();
        let all = logits.iter().zip(0..);
        self.0
            .extend(all.map(|(&logit, id)| sys::llama_token_data { id, logit, p: 0.0 }));
        for &TokenBias { token, bias } in bias {
            if let Some(data) = usize::try_from(token)
                .ok()
                .and_then(|at| self.0.get_mut(at))
            {
                data.logit += bias;
            }
        }
        for &token in passed {
            self.0[token as usize].logit = f32::NEG_INFINITY;
        }
    }
}

impl Sampler {
    /// A sampler for `sampling`; `grammar`, in llama.cpp's notation (GBNF) with the rule
    /// `root`, restricts the choice.
    ///
    /// # Errors
    /// When llama.cpp runs out of memory or refuses the grammar.
    pub fn new(vocab: &Vocab, sampling: &Sampling, grammar: Option<&str>) -> Result<Self, Error> {
        let text = grammar.map(str::to_owned);
        let grammar = grammar.map(|text| self::grammar(vocab, text)).transpose()?;
        let repeats = sampling.repeat_penalty != 1.0;
        // SAFETY: parameters by value; the chain takes over what is added.
        unsafe {
            let chain = sys::llama_sampler_chain_init(sys::llama_sampler_chain_default_params());
            let mut chain = Part::new(chain, "make a sampler")?;
            let n_vocab = sys::llama_vocab_n_tokens(vocab.as_ptr());
            if repeats {
                let by = sampling.repeat_penalty;
                chain.add(sys::llama_sampler_init_penalties(
                    n_vocab,
                    PENALTY_TOKENS,
                    by,
                    0.0,
                    0.0,
                ))?;
            }
            if sampling.frequency_penalty != 0.0 || sampling.presence_penalty != 0.0 {
                chain.add(sys::llama_sampler_init_penalties(
                    n_vocab,
                    GENERATED_TOKENS,
                    1.0,
                    sampling.frequency_penalty,
                    sampling.presence_penalty,
                ))?;
            }
            if sampling.temperature <= 0.0 {
                chain.add(sys::llama_sampler_init_greedy())?;
            } else {
                chain.add(sys::llama_sampler_init_top_k(sampling.top_k))?;
                chain.add(sys::llama_sampler_init_top_p(sampling.top_p, 1))?;
                chain.add(sys::llama_sampler_init_min_p(sampling.min_p, 1))?;
                chain.add(sys::llama_sampler_init_temp(sampling.temperature))?;
                chain.add(sys::llama_sampler_init_dist(sampling.seed))?;
            }
            Ok(Self {
                chain,
                grammar,
                text,
                waiting: None,
                thoughts: None,
                given: VecDeque::new(),
                end: Vec::new(),
                bias: Vec::new(),
                repeats,
                vocab: vocab.clone(),
            })
        }
    }

    /// Makes the grammar, if there is one, apply only from the trigger on.
    pub fn wait_for(&mut self, trigger: Trigger) {
        self.grammar = None;
        self.waiting = self.text.take().map(|grammar| Waiting {
            trigger,
            grammar,
            said: String::new(),
        });
    }

    /// Makes the model think first: grammar and trigger do not apply to its thoughts.
    ///
    /// # Errors
    /// When llama.cpp cannot tokenize the texts before or after thoughts.
    pub fn think(&mut self, thinking: Thinking) -> Result<(), Error> {
        let tokens = |text| {
            self.vocab.tokens_of(&TokenizeRequest {
                begin: false,
                goes_on: true,
                ..TokenizeRequest::new(text)
            })
        };
        self.given = tokens(&thinking.lead)?.into();
        self.end = tokens(&thinking.end)?;
        let lead = self.given.len();
        self.thoughts = Some(Thoughts::new(Thinking {
            budget: thinking.budget.map(|budget| budget + lead),
            ..thinking
        }));
        Ok(())
    }

    /// Adds biases to those of each choice.
    pub fn add(&mut self, bias: &[TokenBias]) {
        self.bias.extend_from_slice(bias);
    }

    /// Gives the prompt's tokens to the repeat penalty.
    ///
    /// # Errors
    /// When llama.cpp runs out of memory.
    pub fn prompt(&mut self, tokens: &[i32]) -> Result<(), Error> {
        if !self.repeats {
            return Ok(());
        }
        let recent = tokens.len().saturating_sub(PENALTY_TOKENS as usize);
        // SAFETY: the chain is live, and the repeat penalty is the first in it.
        unsafe {
            let penalty = sys::llama_sampler_chain_get(self.chain.0.as_ptr(), 0);
            for &token in &tokens[recent..] {
                sys::llama_sampler_accept(penalty, token)
                    .map_err(|thrown| thrown.during("accept a token"))?;
            }
        }
        Ok(())
    }

    /// Chooses and accepts the next token.
    ///
    /// # Errors
    /// When the logits or the grammar leave no token to choose.
    pub fn sample(&mut self, logits: &[f32], all: &mut Candidates) -> Result<i32, Error> {
        if let Some(token) = self.given() {
            let piece = self.vocab.name(token)?;
            self.is_thought(&piece);
            self.chain.accept(token)?;
            return Ok(token);
        }
        let mut passed = Vec::new();
        loop {
            all.fill(logits, &self.bias, &passed);
            let (mut token, mut logit) = choose(&mut self.chain, &mut all.0)?;
            if self.thoughts.is_some() {
                let piece = self.vocab.name(token)?;
                if self.runs_over(&piece) {
                    pass_over(token, &mut passed)?;
                    continue;
                }
                if self.is_thought(&piece) {
                    self.chain.accept(token)?;
                    return Ok(token);
                }
            }
            if let Some(grammar) = &mut self.grammar {
                // The grammar nearly always allows the chain's choice, and checking one
                // token is much cheaper than checking all.
                if !allows(grammar, token)? {
                    all.fill(logits, &self.bias, &passed);
                    for some in all.0.chunks_mut(SPELLED) {
                        apply_to(grammar, some)?;
                    }
                    (token, logit) = choose(&mut self.chain, &mut all.0)?;
                }
                if logit == f32::NEG_INFINITY {
                    return Err(nothing(
                        "the grammar allows none of the model's tokens here",
                    ));
                }
                grammar.accept(token)?;
            } else if !self.may_come(token)? {
                pass_over(token, &mut passed)?;
                continue;
            }
            self.chain.accept(token)?;
            return Ok(token);
        }
    }

    /// The next token to insert: before thoughts, or at their end when their budget is used
    /// up.
    fn given(&mut self) -> Option<i32> {
        let is_spent = |thoughts: &Thoughts| thoughts.is_spent();
        if self.given.is_empty() && self.thoughts.as_ref().is_some_and(is_spent) {
            self.given = std::mem::take(&mut self.end).into();
            if self.given.is_empty() {
                // The inserted tokens did not spell the closing text: thoughts end anyway.
                self.thoughts = None;
            }
        }
        self.given.pop_front()
    }

    /// Whether a token of this text would both close thoughts and begin an answer to which a
    /// grammar or trigger applies.
    fn runs_over(&self, piece: &str) -> bool {
        let is_held = self.grammar.is_some() || self.waiting.is_some();
        let thoughts = self.thoughts.as_ref().filter(|_| is_held);
        thoughts.is_some_and(|thoughts| thoughts.runs_over(piece))
    }

    /// Adds the text of the chosen token to the thoughts; whether it belongs to them.
    fn is_thought(&mut self, piece: &str) -> bool {
        let Some(thoughts) = &mut self.thoughts else {
            return false;
        };
        let told = thoughts.push(piece, self.grammar.is_some());
        if told == Told::Thought {
            return true;
        }
        let before = self.thoughts.take().map(Thoughts::into_said);
        if let (Told::Answer, Some(waiting), Some(said)) = (told, &mut self.waiting, before) {
            // What looked like the beginning of thoughts may begin the trigger.
            let said = said.strip_suffix(piece).unwrap_or_default();
            if !said.is_empty() && !waiting.pass(said) {
                self.waiting = None;
            }
        }
        told == Told::Closed
    }

    /// Whether a waiting grammar, if any, allows this token. If it completes the trigger, the
    /// grammar applies from now on.
    fn may_come(&mut self, token: i32) -> Result<bool, Error> {
        let Some(waiting) = &mut self.waiting else {
            return Ok(true);
        };
        let piece = self.vocab.name(token)?;
        let Some(behind) = waiting.meets(&piece) else {
            if !waiting.pass(&piece) {
                self.waiting = None;
            }
            return Ok(true);
        };
        let mut grammar = grammar(&self.vocab, &waiting.grammar)?;
        let begun = format!("{}{behind}", waiting.trigger.begins);
        let begun = TokenizeRequest {
            begin: false,
            special: false,
            goes_on: true,
            ..TokenizeRequest::new(&begun)
        };
        for token in self.vocab.tokens_of(&begun)? {
            if !allows(&mut grammar, token)? {
                return Ok(false);
            }
            grammar.accept(token)?;
        }
        self.grammar = Some(grammar);
        self.waiting = None;
        Ok(true)
    }
}

/// Excludes a token from this choice.
fn pass_over(token: i32, passed: &mut Vec<i32>) -> Result<(), Error> {
    passed.push(token);
    match passed.len() > PASSED_OVER {
        true => Err(nothing("the grammar allows none of the likeliest tokens")),
        false => Ok(()),
    }
}

fn grammar(vocab: &Vocab, text: &str) -> Result<Part, Error> {
    let text =
        CString::new(text).map_err(|_| Error::Option("the grammar contains a zero byte".into()))?;
    // SAFETY: the vocabulary is live and outlives the sampler that owns this
    // part; both strings end with a zero byte.
    let raw =
        unsafe { sys::llama_sampler_init_grammar(vocab.as_ptr(), text.as_ptr(), c"root".as_ptr()) };
    Part::new(raw, "read this grammar")
}

/// Whether a grammar allows a token.
fn allows(grammar: &mut Part, token: i32) -> Result<bool, Error> {
    let mut one = [sys::llama_token_data {
        id: token,
        logit: 1.0,
        p: 0.0,
    }];
    apply_to(grammar, &mut one)?;
    Ok(one[0].logit != f32::NEG_INFINITY)
}

fn apply_to(
    part: &mut Part,
    all: &mut [sys::llama_token_data],
) -> Result<sys::llama_token_data_array, Error> {
    let mut array = sys::llama_token_data_array {
        data: all.as_mut_ptr(),
        size: all.len(),
        selected: -1,
        sorted: false,
    };
    part.apply(&mut array)?;
    Ok(array)
}

/// The token that a chain selects, with its logit.
fn choose(chain: &mut Part, all: &mut [sys::llama_token_data]) -> Result<(i32, f32), Error> {
    let array = apply_to(chain, all)?;
    let selected = usize::try_from(array.selected).ok();
    let selected = selected.filter(|&at| at < array.size);
    // SAFETY: after the chain, `data` points to `size` tokens, in `all` or in a buffer of
    // the chain that is valid until it is applied again.
    let chosen = selected.map(|at| unsafe { *array.data.add(at) });
    chosen
        .map(|data| (data.id, data.logit))
        .ok_or_else(|| nothing("no token was selected"))
}

fn nothing(message: &str) -> Error {
    Error::Llama {
        what: "choose a token",
        message: message.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trigger_is_met_however_it_is_cut() {
        for (at_start, pieces, expect) in [
            (false, &["a <to", "ol>", "x"][..], Some((1, ""))),
            (false, &["a<tool>{\"", "x"], Some((0, "{\""))),
            (false, &["é<too", "<tool", ">"], Some((2, ""))),
            (false, &["<tool", "x>"], None),
            (true, &[" ", "<tool>x"], Some((1, "x"))),
            (true, &["a", "<tool>"], None),
        ] {
            let mut waiting = Waiting {
                trigger: Trigger {
                    text: "<tool>".into(),
                    at_start,
                    begins: String::new(),
                },
                grammar: String::new(),
                said: String::new(),
            };
            let mut met = None;
            for (at, piece) in pieces.iter().enumerate() {
                met = waiting.meets(piece).map(|behind| (at, behind));
                if met.is_some() || !waiting.pass(piece) {
                    break;
                }
            }
            let met = met.as_ref().map(|(at, behind)| (*at, behind.as_str()));
            assert_eq!(met, expect, "{pieces:?}");
        }
    }
}
