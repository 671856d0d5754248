//! Turns a request's body into jobs for the engine, for all APIs: parsing, chat template,
//! tokenizing, namespace, queueing. Knows the model's vocabulary, but not how it computes.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use delayline_engine::Error;
use delayline_llama::batch::{Forgotten, GenerateRequest};
use delayline_llama::{
    Conversation, Namespace, Rendered, Sampling, Template, TokenizeRequest, Vocab,
};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::api::answer::{AnswerForm, AnswerReader, Endpoint};
use crate::api::anthropic::{self, MessageForm};
use crate::api::calls::CallReader;
use crate::api::channels::{self, ChannelReader};
use crate::api::completion::{CompletionForm, Head};
use crate::api::embeddings::{self, EmbeddingRequest};
use crate::api::error::ApiError;
use crate::api::request::{self, ChatPrompt, Prompt, RequestDefaults};
use crate::api::responses::{self, ResponseForm};
use crate::api::thoughts::{ThoughtReader, ThoughtTags};
use crate::api::tools::CallFormat;
use crate::config::{KvScope, Limits};
use crate::guard::Owner;
use crate::intake::Intake;
use crate::queue::Refused;
use crate::shared::{Flush, QueuedRequest, Shared, Update};

/// The state that all handlers share.
pub struct App {
    /// What is shared with the engine's thread.
    pub shared: Arc<Shared>,
    /// The model's vocabulary.
    pub vocab: Vocab,
    /// The chat template, or why there is none.
    pub template: Result<Template, String>,
    /// Whether the template renders the tools offered.
    pub tells_tools: bool,
    /// Whether the model makes embeddings.
    pub embeds: bool,
    /// The tags around the model's thoughts, if it writes any.
    pub thinks: Option<ThoughtTags>,
    /// Control tokens whose text separates thoughts, answers and calls.
    pub shown: Vec<i32>,
    /// Default maximum number of tokens of thought; none is no limit.
    pub thinking_budget: Option<usize>,
    /// How the model writes tool calls.
    pub call_format: CallFormat,
    /// Whether requests for other names are refused.
    pub strict_model: bool,
    /// The model's names, the main one first.
    pub names: Vec<String>,
    /// When the server started, in seconds since 1970.
    pub created: u64,
    /// Maximum number of tokens of a prompt and its answer.
    pub ctx: usize,
    /// Default maximum number of tokens of an answer.
    pub default_tokens: usize,
    /// Default sampling parameters, from the model's file.
    pub sampling: Sampling,
    /// Maximum number of sequences that share a lap.
    pub slots: usize,
    /// The limits of what clients may use.
    pub limits: Limits,
    /// Maximum time of a request in the queue.
    pub queue_time: Duration,
    /// Maximum time of a request in all.
    pub request_time: Duration,
    /// API keys; if empty, none is needed.
    pub keys: Vec<String>,
    /// Who shares cached prompts.
    pub kv_scope: KvScope,
    /// To the engine, which closes the channel when it ends.
    pub flushes: mpsc::Sender<Flush>,
    /// Origins whose pages may use the API.
    pub origins: Vec<String>,
    /// Whether only this machine can reach the server.
    pub loopback: bool,
    /// The limits of bodies.
    pub intake: Intake,
    /// Limits the bodies that are parsed at a time.
    pub reading: Arc<Semaphore>,
    /// Limits the listeners of `/live`.
    pub listeners: Arc<Semaphore>,
}

/// The answers to a request, in progress.
pub struct Pending {
    /// The API's form of them.
    pub form: Box<dyn AnswerForm>,
    /// Whether they are sent as events.
    pub stream: bool,
    /// The parser and the source of each answer.
    pub answers: Vec<(AnswerReader, mpsc::Receiver<Update>)>,
    /// Number of tokens of all prompts.
    pub prompt_tokens: usize,
    /// When the request arrived.
    pub asked: Instant,
}

/// A request for embeddings, in progress.
pub struct Embeddings {
    /// The request.
    pub asked: EmbeddingRequest,
    /// The model's name.
    pub model: String,
    /// The jobs for the engine, one for each text.
    pub requests: Vec<GenerateRequest>,
    /// When the request arrived.
    pub at: Instant,
}

/// The current time, in seconds since 1970.
pub fn unix_s() -> u64 {
    let time = SystemTime::now().duration_since(UNIX_EPOCH);
    time.map_or(0, |time| time.as_secs())
}

/// A random number.
pub fn chance() -> u64 {
    RandomState::new().hash_one(0_u8)
}

impl App {
    /// Returns the name if it is one of the model's.
    ///
    /// # Errors
    /// When it is not.
    pub fn known(&self, model: String) -> Result<String, ApiError> {
        match self.names.contains(&model) {
            true => Ok(model),
            false => Err(ApiError::model(&model, &self.names.join("`, `"))),
        }
    }

    /// The model's name in the answer: the name asked for if it is known, else the main one.
    fn named(&self, asked: Option<String>) -> Result<String, ApiError> {
        match asked {
            Some(asked) if self.strict_model || self.names.contains(&asked) => self.known(asked),
            _ => Ok(self.names[0].clone()),
        }
    }

    /// The prompt that the template makes of the body of a chat.
    ///
    /// # Errors
    /// For the client.
    pub fn applied(&self, body: &[u8]) -> Result<String, ApiError> {
        let ask = request::chat(body, self.defaults(), self.call_format)?;
        self.named(ask.model)?;
        match &ask.prompts[..] {
            [Prompt::Chat(chat)] => Ok(self.rendered(chat)?.1.text),
            _ => Err(ApiError::server("a chat is one prompt")),
        }
    }

    /// Number of tokens in the prompt of a body of `/v1/messages`.
    ///
    /// # Errors
    /// For the client.
    pub fn counted(&self, body: &[u8], left: &AtomicBool) -> Result<usize, ApiError> {
        let chat = anthropic::chat_body(body)?;
        let ask = request::chat(&chat, self.defaults(), self.call_format)?;
        self.named(ask.model)?;
        let given_up = || left.load(Ordering::Relaxed);
        // Without a limit, so that also the length of too long a prompt is told.
        let tokens = ask.prompts.iter();
        let tokens = tokens.map(|prompt| self.tokens(prompt, usize::MAX, &given_up));
        tokens.map(|found| Ok(found?.0.len())).sum()
    }

    fn defaults(&self) -> RequestDefaults {
        RequestDefaults {
            max_tokens: self.default_tokens,
            sampling: Sampling {
                seed: chance() as u32,
                ..self.sampling
            },
            thinking_budget: self.thinking_budget,
        }
    }

    /// Renders a conversation by the chat template.
    fn rendered(&self, chat: &ChatPrompt) -> Result<(&Template, Rendered), ApiError> {
        let template = self.template.as_ref().map_err(|why| {
            ApiError::invalid(format!(
                "this model cannot chat, use /v1/completions: {why}"
            ))
        })?;
        let json = match &chat.tools {
            Some(tools) if !self.tells_tools => &tools.told,
            _ => &chat.json,
        };
        let conversation: Conversation =
            serde_json::from_str(json).map_err(|error| ApiError::invalid(error.to_string()))?;
        let rendered = template
            .render(&conversation)
            .map_err(|error| ApiError::param("messages", error.to_string()))?;
        Ok((template, rendered))
    }

    /// Parses a body and queues its jobs, unless the client has `left` by then.
    ///
    /// # Errors
    /// For the client.
    pub fn submit(
        &self,
        kind: Endpoint,
        body: &[u8],
        owner: Owner,
        left: &AtomicBool,
    ) -> Result<Pending, ApiError> {
        let asked = Instant::now();
        let (defaults, format) = (self.defaults(), self.call_format);
        let mut echo = serde_json::Map::new();
        let ask = match kind {
            Endpoint::Chat => request::chat(body, defaults, format)?,
            Endpoint::Text => request::completion(body, defaults)?,
            Endpoint::Messages => request::chat(&anthropic::chat_body(body)?, defaults, format)?,
            Endpoint::Responses => {
                let made = responses::chat_body(body)?;
                echo = made.echo;
                request::chat(&made.body, defaults, format)?
            }
        };
        let model = self.named(ask.model)?;
        let count = ask.prompts.len() * ask.answers;
        if count > self.limits.queue.max(1) {
            let message = format!(
                "this server gives at most {} answers to a request",
                self.limits.queue.max(1)
            );
            return Err(ApiError::param("n", message));
        }
        let late = || asked.elapsed() > self.request_time;
        let given_up = || left.load(Ordering::Relaxed) || late();
        let (mut readers, mut requests) = (Vec::new(), Vec::new());
        let mut prompt_tokens = 0;
        for prompt in &ask.prompts {
            let found = self.tokens(prompt, self.ctx - 1, &given_up);
            let (tokens, begun) = found.map_err(|error| match kind {
                _ if error.param.is_some() => error,
                Endpoint::Chat | Endpoint::Messages => error.of("messages"),
                Endpoint::Text => error.of("prompt"),
                Endpoint::Responses => error.of("input"),
            })?;
            prompt_tokens += tokens.len();
            let is_chat = matches!(prompt, Prompt::Chat(_));
            let names = ask.tools.as_ref().map(|tools| tools.names.clone());
            let (reader, thinking) = match is_chat && format.has_channels() {
                true => (
                    AnswerReader::Channels(ChannelReader::new(names.unwrap_or_default())),
                    channels::thinking(&ask.generate, ask.tools.as_ref(), ask.thinking_budget),
                ),
                false => {
                    let tags = begun.or(self.thinks.filter(|_| is_chat));
                    let begun = begun.is_some();
                    let reader = AnswerReader::Text {
                        thoughts: tags.map(|tags| ThoughtReader::new(tags, begun)),
                        calls: names.map(|names| Box::new(CallReader::new(format, names))),
                    };
                    let thinking = tags.map(|tags| tags.thinking(begun, ask.thinking_budget));
                    (reader, thinking)
                }
            };
            let shown = match is_chat {
                true => self.shown.clone(),
                false => Vec::new(),
            };
            for number in 0..ask.answers {
                readers.push(reader.clone());
                requests.push(GenerateRequest {
                    // The last token needs no cell, so one more would fit; but clients expect
                    // that prompt and answer together have at most `ctx` tokens.
                    max_tokens: ask.generate.max_tokens.min(self.ctx - tokens.len()),
                    prompt: tokens.clone(),
                    thinking: thinking.clone(),
                    shown: shown.clone(),
                    namespace: self.namespace(owner, &ask.salt),
                    choice: ask.generate.choice.reseeded(number as u32),
                    ..ask.generate.clone()
                });
            }
        }
        let updates = self.queue(requests, asked)?;
        Ok(Pending {
            form: self.form(kind, model, ask.stream, ask.include_usage, count, echo),
            stream: ask.stream,
            answers: readers.into_iter().zip(updates).collect(),
            prompt_tokens,
            asked,
        })
    }

    /// Parses a body of `/v1/embeddings`.
    ///
    /// # Errors
    /// For the client.
    pub fn embeddings(
        &self,
        body: &[u8],
        owner: Owner,
        left: &AtomicBool,
    ) -> Result<Embeddings, ApiError> {
        if !self.embeds {
            return Err(ApiError::invalid(
                "this model makes no embeddings: that needs a model whose file asks for pooling \
                 by the last token (`pooling_type` 3, such as Qwen3-Embedding), and weights that \
                 are streamed",
            ));
        }
        let at = Instant::now();
        let asked = embeddings::embeddings(body)?;
        let model = self.named(asked.model.clone())?;
        let given_up = || left.load(Ordering::Relaxed) || at.elapsed() > self.request_time;
        let requests = asked.inputs.iter().map(|input| {
            let found = self.tokens(input, self.ctx - 1, &given_up);
            let (tokens, _) = found.map_err(|error| error.of("input"))?;
            Ok(GenerateRequest {
                namespace: self.namespace(owner, ""),
                ..EmbeddingRequest::generate(tokens)
            })
        });
        Ok(Embeddings {
            requests: requests.collect::<Result<_, ApiError>>()?,
            asked,
            model,
            at,
        })
    }

    /// The namespace of a request's cached prompts. It depends on the key itself, not on its
    /// number, so that blocks on disk are found again after other keys were added.
    fn namespace(&self, owner: Owner, salt: &str) -> Namespace {
        let key = match self.kv_scope {
            KvScope::Key => owner.0.checked_sub(1),
            KvScope::Server => None,
        };
        let key = key.and_then(|number| self.keys.get(usize::try_from(number).ok()?));
        let key = key.map_or("", String::as_str);
        Namespace::new(key.as_bytes(), salt.as_bytes())
    }

    /// Has the engine forget all cached prompts of an owner, between two laps.
    ///
    /// # Errors
    /// When the engine has ended.
    pub async fn flush(&self, owner: Owner) -> Result<Forgotten, ApiError> {
        let ended = |_| ApiError::unavailable("the server is stopping", None);
        let (reply, forgotten) = oneshot::channel();
        let namespace = self.namespace(owner, "");
        let sent = self.flushes.send(Flush { namespace, reply }).await;
        sent.map_err(|_| ended(()))?;
        self.shared.queue.poke();
        forgotten.await.map_err(|_| ended(()))
    }

    /// The form of `count` answers in an API.
    fn form(
        &self,
        kind: Endpoint,
        model: String,
        stream: bool,
        include_usage: Option<bool>,
        count: usize,
        echo: serde_json::Map<String, serde_json::Value>,
    ) -> Box<dyn AnswerForm> {
        let named = |prefix: &str| format!("{prefix}{:016x}", chance());
        let created = unix_s();
        let head = |id| Head {
            kind,
            id,
            created,
            model: model.clone(),
            include_usage,
        };
        match kind {
            Endpoint::Chat => {
                Box::new(CompletionForm::new(head(named("chatcmpl-")), stream, count))
            }
            Endpoint::Text => Box::new(CompletionForm::new(head(named("cmpl-")), stream, count)),
            Endpoint::Messages => Box::new(MessageForm::new(named("msg_"), model)),
            Endpoint::Responses => {
                Box::new(ResponseForm::new(named("resp_"), model, created, echo))
            }
        }
    }

    /// Queues jobs for the engine; returns the updates of each.
    ///
    /// # Errors
    /// When the queue is full, or the server is stopping.
    pub fn queue(
        &self,
        requests: Vec<GenerateRequest>,
        asked: Instant,
    ) -> Result<Vec<mpsc::Receiver<Update>>, ApiError> {
        let mut updates = Vec::with_capacity(requests.len());
        let queued: Vec<QueuedRequest> = requests
            .into_iter()
            .map(|request| {
                let (reply, receiver) = mpsc::channel(self.limits.pieces.max(1));
                updates.push(receiver);
                QueuedRequest {
                    request,
                    reply,
                    asked,
                }
            })
            .collect();
        self.shared
            .queue
            .push(queued)
            .map_err(|refused| match refused {
                Refused::Full => ApiError::busy(
                    format!(
                        "{} requests wait already: try again later",
                        self.shared.queue.len()
                    ),
                    self.shared.retry_after_s(self.slots),
                ),
                Refused::Closed => {
                    ApiError::unavailable("the server is stopping and takes no more requests", None)
                }
            })?;
        Ok(updates)
    }

    /// The tokens of a prompt, at most `room`, and the tags of the thoughts within which it
    /// ends, if so.
    fn tokens(
        &self,
        prompt: &Prompt,
        room: usize,
        given_up: &dyn Fn() -> bool,
    ) -> Result<(Vec<i32>, Option<ThoughtTags>), ApiError> {
        let mut begun = None;
        let request = |text| TokenizeRequest {
            room,
            given_up,
            ..TokenizeRequest::new(text)
        };
        let tokens = match prompt {
            Prompt::Chat(chat) => {
                let (template, rendered) = self.rendered(chat)?;
                begun = ThoughtTags::begun_in(&rendered.text);
                self.vocab.tokens_of(&TokenizeRequest {
                    room,
                    given_up,
                    ..template.request(&rendered)
                })
            }
            Prompt::Text(text) => self.vocab.tokens_of(&request(text)),
            Prompt::Tokens(tokens) => {
                let n = self.vocab.tokens();
                let known = |&token: &i32| usize::try_from(token).is_ok_and(|token| token < n);
                if !tokens.iter().all(known) {
                    return Err(ApiError::param(
                        "prompt",
                        format!("`prompt` has tokens that are not from 0 to {}", n - 1),
                    ));
                }
                Ok(tokens.clone())
            }
        };
        let too_long = |has: String| {
            let ctx = self.ctx;
            ApiError::too_long(format!(
                "the prompt has {has} tokens, and with its answer it may have {ctx}: shorten it"
            ))
        };
        let tokens = tokens.map_err(|error| match error {
            Error::PromptOverflow { least, .. } => too_long(format!("at least {least}")),
            Error::GivenUp => ApiError::time("tokenizing the prompt took too long: shorten it"),
            error => ApiError::invalid(error.to_string()),
        })?;
        if tokens.len() > room {
            return Err(too_long(tokens.len().to_string()));
        }
        if tokens.is_empty() {
            return Err(ApiError::invalid(
                "the prompt is empty: send at least one token",
            ));
        }
        Ok((tokens, begun))
    }
}
