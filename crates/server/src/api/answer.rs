//! What the answers of all APIs have in common: their parts, usage and end, and the trait by
//! which each API formats them.

use delayline_llama::Finish;
use delayline_llama::batch::TokenLogprob;

use super::calls::{AnswerPart, CallReader};
use super::channels::ChannelReader;
use super::error::ApiError;
use super::thoughts::ThoughtReader;

/// The path that a request was sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Text,
    /// `/v1/messages`.
    Messages,
    /// `/v1/responses`.
    Responses,
}

/// Numbers of tokens of the answers to a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenUsage {
    /// Tokens of the prompts.
    pub prompt: usize,
    /// Those of them that were found in the KV cache.
    pub cached: usize,
    /// Tokens generated.
    pub generated: usize,
    /// Those of them that are thoughts.
    pub thought: usize,
}

/// Why an answer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerEnd {
    /// The engine's reason.
    pub finish: Finish,
    /// The stop text that was met.
    pub stop: Option<String>,
    /// Whether it calls tools.
    pub called: bool,
}

/// How an API formats the answers to one request: as events, or as one object at the end.
/// Answers are numbered from 0.
pub trait AnswerForm: Send {
    /// Events before the first token.
    fn begin(&mut self, usage: TokenUsage) -> String;

    /// Events of a token of an answer. `parts` is its text, `likely` its own probability and
    /// those of the likeliest tokens, if they were asked for. Also keeps what
    /// [`AnswerForm::whole`] needs.
    fn token(&mut self, at: usize, parts: Vec<AnswerPart>, likely: Vec<TokenLogprob>) -> String;

    /// Events of the end of an answer.
    fn end(&mut self, at: usize, end: AnswerEnd, usage: TokenUsage) -> String;

    /// The last events after all answers have ended.
    fn close(&mut self, usage: TokenUsage) -> String;

    /// The last events after an error.
    fn fail(&mut self, error: &ApiError) -> String;

    /// All answers as one JSON object.
    fn whole(&mut self, usage: TokenUsage) -> String;
}

/// Parses an answer's text.
#[derive(Clone, Debug)]
pub enum AnswerReader {
    /// For models that write one text, with thoughts and calls between tags.
    Text {
        /// If the model writes thoughts.
        thoughts: Option<ThoughtReader>,
        /// If tools are offered.
        calls: Option<Box<CallReader>>,
    },
    /// For models that write to channels.
    Channels(ChannelReader),
}

impl AnswerReader {
    /// Takes a piece of text; returns the parts that are certain with it, or, if the answer
    /// `ends`, all that are left.
    pub fn push(&mut self, piece: String, ends: bool) -> Vec<AnswerPart> {
        let (thoughts, calls) = match self {
            Self::Channels(channels) => return channels.push(&piece, ends),
            Self::Text { thoughts, calls } => (thoughts, calls),
        };
        let (thought, text) = match thoughts {
            Some(thoughts) => thoughts.push(&piece, ends),
            None => (String::new(), piece),
        };
        let mut parts = Vec::new();
        if !thought.is_empty() {
            parts.push(AnswerPart::Thought(thought));
        }
        match calls {
            Some(calls) => {
                parts.extend(calls.push(&text));
                if ends {
                    parts.extend(calls.finish());
                }
            }
            None if !text.is_empty() => parts.push(AnswerPart::Content(text)),
            None => {}
        }
        parts
    }

    /// Whether what comes next is thought.
    pub fn thinks(&self) -> bool {
        match self {
            Self::Channels(channels) => channels.thinks(),
            Self::Text { thoughts, .. } => thoughts.as_ref().is_some_and(ThoughtReader::thinks),
        }
    }

    /// Whether there was a call.
    pub fn called(&self) -> bool {
        match self {
            Self::Channels(channels) => channels.called(),
            Self::Text { calls, .. } => calls.as_ref().is_some_and(|calls| calls.called()),
        }
    }
}

/// Appends a server-sent event; an empty name is left out.
pub fn event(out: &mut String, name: &str, data: &str) {
    if !name.is_empty() {
        out.extend(["event: ", name, "\n"]);
    }
    out.extend(["data: ", data, "\n\n"]);
}
