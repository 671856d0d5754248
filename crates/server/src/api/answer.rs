//! Answers in OpenAI's JSON form: whole ones and the chunks of a stream.

use delayline_llama::Finish;
use delayline_llama::batch::TokenLogprob;
use serde_json::{Value, json};

use super::calls::AnswerPart;

/// Which of the two kinds of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Text,
}

/// How many tokens an answer took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenUsage {
    /// Of the prompt.
    pub prompt: usize,
    /// Of those, already computed for an earlier request.
    pub cached: usize,
    /// Generated.
    pub generated: usize,
}

impl TokenUsage {
    fn json(self) -> Value {
        json!({
            "prompt_tokens": self.prompt,
            "completion_tokens": self.generated,
            "total_tokens": self.prompt + self.generated,
            "prompt_tokens_details": {"cached_tokens": self.cached},
        })
    }
}

/// Why an answer ended, in OpenAI's words.
pub fn finish_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::End | Finish::Stopped => "stop",
        Finish::Length | Finish::Full => "length",
    }
}

fn reason_of(finish: Finish, called: bool) -> &'static str {
    match finish_reason(finish) {
        "stop" if called => "tool_calls",
        reason => reason,
    }
}

/// What an assistant said and called, whole.
#[derive(Clone, Debug, Default)]
pub struct WholeMessage {
    /// What is no call.
    pub text: String,
    /// The calls.
    pub calls: Vec<WholeCall>,
}

/// A call, whole.
#[derive(Clone, Debug)]
pub struct WholeCall {
    /// By which its answer is told.
    pub id: String,
    /// The tool.
    pub name: String,
    /// JSON, unless the answer was cut off in it.
    pub arguments: String,
}

impl WholeCall {
    fn json(&self) -> Value {
        json!({"id": self.id, "type": "function",
            "function": {"name": self.name, "arguments": self.arguments}})
    }
}

impl WholeMessage {
    /// Takes a part; `id` is that of a call that begins with it.
    pub fn take(&mut self, part: AnswerPart, id: String) {
        match part {
            AnswerPart::Content(text) => self.text.push_str(&text),
            AnswerPart::Call { name, .. } => self.calls.push(WholeCall {
                id,
                name,
                arguments: String::new(),
            }),
            AnswerPart::Arguments { text, .. } => {
                if let Some(call) = self.calls.last_mut() {
                    call.arguments.push_str(&text);
                }
            }
        }
    }
}

/// What the answers to one request have in common.
#[derive(Clone, Debug)]
pub struct Head {
    /// Which kind.
    pub kind: Endpoint,
    /// Its name.
    pub id: String,
    /// When it was asked for, in seconds since 1970.
    pub created: u64,
    /// The model.
    pub model: String,
    /// Whether usage comes last, in a chunk of its own, and the others say so; if
    /// nothing was said, it comes with the end.
    pub include_usage: Option<bool>,
}

impl Head {
    fn object(&self, chunk: bool, choices: Value) -> Value {
        let object = match (self.kind, chunk) {
            (Endpoint::Chat, true) => "chat.completion.chunk",
            (Endpoint::Chat, false) => "chat.completion",
            (Endpoint::Text, _) => "text_completion",
        };
        json!({
            "id": self.id,
            "object": object,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        })
    }

    fn chunk(&self, choices: Value, usage: Option<TokenUsage>) -> String {
        let mut object = self.object(true, choices);
        match (self.include_usage, usage) {
            (Some(true), _) => object["usage"] = Value::Null,
            (None, Some(usage)) => object["usage"] = usage.json(),
            _ => {}
        }
        object.to_string()
    }

    /// The first chunk of a chat; a text has none.
    pub fn begin(&self) -> Option<String> {
        let delta = json!({"role": "assistant", "content": ""});
        (self.kind == Endpoint::Chat)
            .then(|| self.chunk(json!([choice("delta", delta, None, None)]), None))
    }

    /// A piece of text.
    pub fn piece(&self, text: &str, logprobs: Option<Value>) -> String {
        let choice = match self.kind {
            Endpoint::Chat => choice("delta", json!({"content": text}), logprobs, None),
            Endpoint::Text => choice("text", text.into(), logprobs, None),
        };
        self.chunk(json!([choice]), None)
    }

    /// A part of a call.
    pub fn part(&self, part: &AnswerPart, id: &str) -> String {
        let call = match part {
            AnswerPart::Content(text) => return self.piece(text, None),
            AnswerPart::Call { index, name } => json!({"index": index, "id": id,
                "type": "function", "function": {"name": name, "arguments": ""}}),
            AnswerPart::Arguments { index, text } => {
                json!({"index": index, "function": {"arguments": text}})
            }
        };
        let delta = json!({"tool_calls": [call]});
        self.chunk(json!([choice("delta", delta, None, None)]), None)
    }

    /// The last chunk with a choice.
    pub fn end(&self, finish: Finish, called: bool, usage: TokenUsage) -> String {
        let reason = Some(reason_of(finish, called));
        let choice = match self.kind {
            Endpoint::Chat => choice("delta", json!({}), None, reason),
            Endpoint::Text => choice("text", "".into(), None, reason),
        };
        self.chunk(json!([choice]), Some(usage))
    }

    /// The chunk that tells of usage.
    pub fn usage(&self, usage: TokenUsage) -> String {
        let mut object = self.object(true, json!([]));
        object["usage"] = usage.json();
        object.to_string()
    }

    /// The whole answer.
    pub fn whole(
        &self,
        message: &WholeMessage,
        logprobs: Option<Value>,
        finish: Finish,
        usage: TokenUsage,
    ) -> String {
        let text = &message.text;
        let reason = Some(reason_of(finish, !message.calls.is_empty()));
        let choice = match self.kind {
            Endpoint::Chat => {
                let mut out = json!({"role": "assistant", "content": text, "refusal": null});
                if !message.calls.is_empty() {
                    out["tool_calls"] = message.calls.iter().map(WholeCall::json).collect();
                    if text.is_empty() {
                        out["content"] = Value::Null;
                    }
                }
                choice("message", out, logprobs, reason)
            }
            Endpoint::Text => choice("text", text.as_str().into(), logprobs, reason),
        };
        let mut object = self.object(false, json!([choice]));
        object["usage"] = usage.json();
        object.to_string()
    }

    /// Probabilities of tokens in the form of this kind. Each list is a token's:
    /// its own first, then the likeliest ones. `offset` is where the text of the
    /// first begins in the answer, in characters.
    pub fn logprobs(&self, tokens: &[Vec<TokenLogprob>], offset: usize) -> Value {
        match self.kind {
            Endpoint::Chat => {
                let content: Vec<Value> = tokens.iter().filter_map(|t| chat_logprob(t)).collect();
                json!({"content": content, "refusal": null})
            }
            Endpoint::Text => text_logprobs(tokens, offset),
        }
    }
}

fn choice(name: &str, value: Value, logprobs: Option<Value>, reason: Option<&str>) -> Value {
    let mut choice = json!({"index": 0, "logprobs": logprobs, "finish_reason": reason});
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
