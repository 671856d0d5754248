//! Answers as all of the APIs have them: their parts while they come, what they took, why
//! they ended; and the seam to how each API puts them.

use delayline_llama::Finish;
use delayline_llama::batch::TokenLogprob;

use super::calls::{AnswerPart, CallReader};
use super::channels::ChannelReader;
use super::error::ApiError;
use super::thoughts::ThoughtReader;

/// Which kind of answer.
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

/// How many tokens the answers to a request took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenUsage {
    /// Of the prompts.
    pub prompt: usize,
    /// Of those, already computed for an earlier request.
    pub cached: usize,
    /// Generated.
    pub generated: usize,
    /// Of those, thought.
    pub thought: usize,
}

/// Why an answer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerEnd {
    /// In the engine's words.
    pub finish: Finish,
    /// The stop text that was met.
    pub stop: Option<String>,
    /// Whether it calls tools.
    pub called: bool,
}

/// How an API puts the answers to one request into words: events while they come, and an
/// object at the end. Answers are numbered from 0.
pub trait AnswerForm: Send {
    /// Events before the first token.
    fn begin(&mut self, usage: TokenUsage) -> String;

    /// Events of a token of an answer: its parts, and its own probability and the likeliest
    /// ones, if they were asked for. Keeps what the whole answer needs.
    fn token(&mut self, at: usize, parts: Vec<AnswerPart>, likely: Vec<TokenLogprob>) -> String;

    /// Events of the end of an answer.
    fn end(&mut self, at: usize, end: AnswerEnd, usage: TokenUsage) -> String;

    /// The last events, when all answers have ended.
    fn close(&mut self, usage: TokenUsage) -> String;

    /// The last events, when there will be no more of an answer.
    fn fail(&mut self, error: &ApiError) -> String;

    /// All of it as one object.
    fn whole(&mut self, usage: TokenUsage) -> String;
}

/// Takes an answer's text apart.
#[derive(Clone, Debug)]
pub enum AnswerReader {
    /// Of a model that writes one text, thoughts and calls between tags.
    Text {
        /// Where the model thinks aloud.
        thoughts: Option<ThoughtReader>,
        /// Where tools are offered.
        calls: Option<Box<CallReader>>,
    },
    /// Of one that writes to channels.
    Channels(ChannelReader),
}

impl AnswerReader {
    /// Takes a piece; what is certain with it, or, if it is the last one, all that is left.
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

/// Appends an event, with its name where the API names events.
pub fn event(out: &mut String, name: &str, data: &str) {
    if !name.is_empty() {
        out.extend(["event: ", name, "\n"]);
    }
    out.extend(["data: ", data, "\n\n"]);
}
