//! Formats answers as OpenAI's chat and text completions, whole or as the chunks of a stream.

use delayline_llama::Finish;
use delayline_llama::batch::TokenLogprob;
use serde_json::{Value, json};

use super::answer::{AnswerEnd, AnswerForm, Endpoint, TokenUsage, event};
use super::calls::{AnswerPart, call_id};
use super::error::ApiError;

impl TokenUsage {
    fn completion(self) -> Value {
        json!({
            "prompt_tokens": self.prompt,
            "completion_tokens": self.generated,
            "total_tokens": self.prompt + self.generated,
            "prompt_tokens_details": {"cached_tokens": self.cached},
            "completion_tokens_details": {"reasoning_tokens": self.thought},
        })
    }
}

fn finish_reason(end: &AnswerEnd) -> &'static str {
    match end.finish {
        Finish::End | Finish::Stopped if end.called => "tool_calls",
        Finish::End | Finish::Stopped => "stop",
        Finish::Length | Finish::Full => "length",
    }
}

/// An answer so far.
#[derive(Clone, Debug, Default)]
struct Choice {
    text: String,
    thought: String,
    calls: Vec<Value>,
    arguments: Vec<String>,
    likely: Vec<Vec<TokenLogprob>>,
    /// Number of characters sent.
    offset: usize,
    reason: Option<&'static str>,
}

/// What the answers to one request have in common.
#[derive(Clone, Debug)]
pub struct Head {
    /// The endpoint, which decides the form.
    pub kind: Endpoint,
    /// The ID.
    pub id: String,
    /// When it was created, in seconds since 1970.
    pub created: u64,
    /// The model's name.
    pub model: String,
    /// Whether a stream ends with a chunk for usage, and the other chunks have a `usage` of
    /// null; if `None`, usage is in the chunk of the end.
    pub include_usage: Option<bool>,
}

/// Formats the answers to one request.
#[derive(Clone, Debug)]
pub struct CompletionForm {
    head: Head,
    /// Whether to make chunks instead of a whole answer.
    stream: bool,
    choices: Vec<Choice>,
}

impl CompletionForm {
    /// A form of so many answers.
    pub fn new(head: Head, stream: bool, answers: usize) -> Self {
        Self {
            head,
            stream,
            choices: vec![Choice::default(); answers],
        }
    }

    fn is_chat(&self) -> bool {
        self.head.kind != Endpoint::Text
    }

    fn object(&self, chunk: bool, choices: Value) -> Value {
        let object = match (self.is_chat(), chunk) {
            (true, true) => "chat.completion.chunk",
            (true, false) => "chat.completion",
            (false, _) => "text_completion",
        };
        json!({
            "id": self.head.id,
            "object": object,
            "created": self.head.created,
            "model": self.head.model,
            "choices": choices,
        })
    }

    /// Appends the event of a chunk with one choice.
    fn chunk(&self, out: &mut String, choice: Value, usage: Option<TokenUsage>) {
        let mut object = self.object(true, json!([choice]));
        match (self.head.include_usage, usage) {
            (Some(true), _) => object["usage"] = Value::Null,
            (None, Some(usage)) => object["usage"] = usage.completion(),
            _ => {}
        }
        event(out, "", &object.to_string());
    }

    /// Appends the event of a piece of text.
    fn piece(&self, out: &mut String, at: usize, text: &str, logprobs: Option<Value>) {
        let choice = match self.is_chat() {
            true => choice(at, "delta", json!({"content": text}), logprobs, None),
            false => choice(at, "text", text.into(), logprobs, None),
        };
        self.chunk(out, choice, None);
    }

    fn delta(&self, out: &mut String, at: usize, delta: Value) {
        self.chunk(out, choice(at, "delta", delta, None, None), None);
    }

    fn part(&self, out: &mut String, at: usize, part: &AnswerPart) {
        let call = match part {
            AnswerPart::Content(text) => return self.piece(out, at, text, None),
            AnswerPart::Thought(text) => {
                return self.delta(out, at, json!({"reasoning_content": text}));
            }
            AnswerPart::Call { index, name } => json!({"index": index, "id": call_id(),
                "type": "function", "function": {"name": name, "arguments": ""}}),
            AnswerPart::Arguments { index, text } => {
                json!({"index": index, "function": {"arguments": text}})
            }
        };
        self.delta(out, at, json!({"tool_calls": [call]}));
    }

    /// Log probabilities of tokens in the form of the endpoint. Each list has a token's own
    /// first, then the likeliest ones. `offset` is where the text of the first token begins
    /// in the answer, in characters.
    fn logprobs(&self, tokens: &[Vec<TokenLogprob>], offset: usize) -> Value {
        match self.is_chat() {
            true => {
                let content: Vec<Value> = tokens.iter().filter_map(|t| chat_logprob(t)).collect();
                json!({"content": content, "refusal": null})
            }
            false => text_logprobs(tokens, offset),
        }
    }

    /// A whole answer as a choice.
    fn whole_choice(&self, at: usize, said: &Choice) -> Value {
        let logprobs = (!said.likely.is_empty()).then(|| self.logprobs(&said.likely, 0));
        if !self.is_chat() {
            return choice(at, "text", said.text.as_str().into(), logprobs, said.reason);
        }
        let mut out = json!({"role": "assistant", "content": said.text, "refusal": null});
        if !said.thought.is_empty() {
            out["reasoning_content"] = said.thought.as_str().into();
        }
        if !said.calls.is_empty() {
            let calls = said.calls.iter().zip(&said.arguments);
            out["tool_calls"] = calls
                .map(|(call, arguments)| {
                    let mut call = call.clone();
                    call["function"]["arguments"] = arguments.as_str().into();
                    call
                })
                .collect();
            if said.text.is_empty() {
                out["content"] = Value::Null;
            }
        }
        choice(at, "message", out, logprobs, said.reason)
    }

    fn keep(&mut self, at: usize, parts: Vec<AnswerPart>, likely: Vec<TokenLogprob>) {
        let said = &mut self.choices[at];
        for part in parts {
            match part {
                AnswerPart::Content(text) => said.text.push_str(&text),
                AnswerPart::Thought(text) => said.thought.push_str(&text),
                AnswerPart::Call { name, .. } => {
                    said.arguments.push(String::new());
                    said.calls.push(json!({"id": call_id(), "type": "function",
                        "function": {"name": name}}));
                }
                AnswerPart::Arguments { text, .. } => {
                    if let Some(arguments) = said.arguments.last_mut() {
                        arguments.push_str(&text);
                    }
                }
            }
        }
        if !likely.is_empty() {
            said.likely.push(likely);
        }
    }
}

impl AnswerForm for CompletionForm {
    fn begin(&mut self, _: TokenUsage) -> String {
        let mut out = String::new();
        // Only chats have an event for the beginning.
        let chats = if self.is_chat() {
            self.choices.len()
        } else {
            0
        };
        for at in 0..chats {
            self.delta(&mut out, at, json!({"role": "assistant", "content": ""}));
        }
        out
    }

    fn token(&mut self, at: usize, parts: Vec<AnswerPart>, likely: Vec<TokenLogprob>) -> String {
        let mut out = String::new();
        if !self.stream {
            self.keep(at, parts, likely);
            return out;
        }
        let offset = self.choices[at].offset;
        let mut logprobs = (!likely.is_empty()).then(|| self.logprobs(&[likely], offset));
        for part in &parts {
            match part {
                AnswerPart::Content(text) => {
                    self.piece(&mut out, at, text, logprobs.take());
                    self.choices[at].offset += text.chars().count();
                }
                other => self.part(&mut out, at, other),
            }
        }
        if logprobs.is_some() {
            self.piece(&mut out, at, "", logprobs);
        }
        out
    }

    fn end(&mut self, at: usize, end: AnswerEnd, usage: TokenUsage) -> String {
        let reason = Some(finish_reason(&end));
        self.choices[at].reason = reason;
        let mut out = String::new();
        if self.stream {
            let choice = match self.is_chat() {
                true => choice(at, "delta", json!({}), None, reason),
                false => choice(at, "text", "".into(), None, reason),
            };
            let all_ended = self.choices.iter().all(|choice| choice.reason.is_some());
            self.chunk(&mut out, choice, all_ended.then_some(usage));
        }
        out
    }

    fn close(&mut self, usage: TokenUsage) -> String {
        let mut out = String::new();
        if self.head.include_usage == Some(true) {
            let mut object = self.object(true, json!([]));
            object["usage"] = usage.completion();
            event(&mut out, "", &object.to_string());
        }
        event(&mut out, "", "[DONE]");
        out
    }

    fn fail(&mut self, error: &ApiError) -> String {
        let mut out = String::new();
        event(&mut out, "", &error.json().to_string());
        event(&mut out, "", "[DONE]");
        out
    }

    fn whole(&mut self, usage: TokenUsage) -> String {
        let choices = self.choices.iter().enumerate();
        let choices = choices.map(|(at, said)| self.whole_choice(at, said));
        let mut object = self.object(false, choices.collect());
        object["usage"] = usage.completion();
        object.to_string()
    }
}

fn choice(
    at: usize,
    name: &str,
    value: Value,
    logprobs: Option<Value>,
    reason: Option<&str>,
) -> Value {
    let mut choice = json!({"index": at, "logprobs": logprobs, "finish_reason": reason});
    choice[name] = value;
    choice
}

fn chat_logprob(token: &[TokenLogprob]) -> Option<Value> {
    let one = |likely: &TokenLogprob| json!({"token": likely.name, "logprob": likely.logprob, "bytes": likely.bytes});
    let (chosen, top) = token.split_first()?;
    let mut out = one(chosen);
    out["top_logprobs"] = top.iter().map(one).collect();
    Some(out)
}

fn text_logprobs(tokens: &[Vec<TokenLogprob>], offset: usize) -> Value {
    let mut at = offset;
    let (mut texts, mut logprobs, mut tops, mut offsets) = (vec![], vec![], vec![], vec![]);
    for token in tokens {
        let Some((chosen, top)) = token.split_first() else {
            continue;
        };
        offsets.push(at);
        at += String::from_utf8_lossy(&chosen.bytes).chars().count();
        texts.push(chosen.name.as_str());
        logprobs.push(chosen.logprob);
        let top = top
            .iter()
            .map(|likely| (likely.name.clone(), likely.logprob.into()));
        tops.push(Value::Object(top.collect()));
    }
    json!({
        "tokens": texts,
        "token_logprobs": logprobs,
        "top_logprobs": tops,
        "text_offset": offsets,
    })
}
