//! From a request's body to a job for the engine: the same for all of the API.
//! Knows the model's words, but not how it computes.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use delayline_engine::Error;
use delayline_llama::batch::GenerateRequest;
use delayline_llama::{Conversation, Rendered, Template, TokenizeRequest, Vocab};
use tokio::sync::{Semaphore, mpsc};

use crate::api::answer::{Endpoint, Head};
use crate::api::calls::CallReader;
use crate::api::error::ApiError;
use crate::api::request::{self, ChatPrompt, Prompt, RequestDefaults};
use crate::api::tools::CallFormat;
use crate::config::Limits;
use crate::guard::Owner;
use crate::intake::Intake;
use crate::queue::Refused;
use crate::shared::{QueuedRequest, Shared, Update};

/// What every handler has.
pub struct App {
    /// The engine's side.
    pub shared: Arc<Shared>,
    /// The model's words.
    pub vocab: Vocab,
    /// Its chat template, or why it has none.
    pub template: Result<Template, String>,
    /// Whether its template tells it of tools.
    pub tells_tools: bool,
    /// How it writes calls of tools.
    pub call_format: CallFormat,
    /// Whether requests for other names are refused.
    pub strict_model: bool,
    /// Its names, its own first.
    pub names: Vec<String>,
    /// When the server started, in seconds since 1970.
    pub created: u64,
    /// Most tokens of a prompt and its answer.
    pub ctx: usize,
    /// Most tokens of an answer whose request does not say.
    pub default_tokens: usize,
    /// Most sequences that ride.
    pub seats: usize,
    /// What clients may take.
    pub limits: Limits,
    /// How long a request may wait, and how long it may take in all.
    pub queue_time: Duration,
    /// As [`App::queue_time`].
    pub request_time: Duration,
    /// Keys; none asks for none.
    pub keys: Vec<String>,
    /// Origins whose pages may use the API.
    pub origins: Vec<String>,
    /// Whether only this machine can reach the server.
    pub loopback: bool,
    /// How bodies come in.
    pub intake: Intake,
    /// Bodies that are being read.
    pub reading: Arc<Semaphore>,
    /// Listeners of the live picture.
    pub listeners: Arc<Semaphore>,
}

/// An answer on its way.
pub struct Pending {
    /// What its chunks begin with.
    pub head: Head,
    /// Whether it is sent as it comes.
    pub stream: bool,
    /// What tells calls from text, where tools are offered.
    pub calls: Option<CallReader>,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Where it comes from.
    pub updates: mpsc::Receiver<Update>,
    /// When it was asked for.
    pub asked: Instant,
}

/// Seconds since 1970.
pub fn unix_s() -> u64 {
    let time = SystemTime::now().duration_since(UNIX_EPOCH);
    time.map_or(0, |time| time.as_secs())
}

/// A number by chance.
pub fn chance() -> u64 {
    RandomState::new().hash_one(0_u8)
}

impl App {
    /// The name, if it is one of the model's.
    ///
    /// # Errors
    /// When it is not.
    pub fn known(&self, model: String) -> Result<String, ApiError> {
        match self.names.contains(&model) {
            true => Ok(model),
            false => Err(ApiError::model(&model, &self.names.join("`, `"))),
        }
    }

    /// The name under which a request is answered: that which it asked for, or else that
    /// of the one model there is.
    fn named(&self, asked: Option<String>) -> Result<String, ApiError> {
        match asked {
            Some(asked) if self.strict_model || self.names.contains(&asked) => self.known(asked),
            _ => Ok(self.names[0].clone()),
        }
    }

    /// The prompt that the body of a chat becomes.
    ///
    /// # Errors
    /// What is to be told to the client.
    pub fn applied(&self, body: &[u8]) -> Result<String, ApiError> {
        let defaults = RequestDefaults {
            max_tokens: self.default_tokens,
            seed: 0,
        };
        let ask = request::chat(body, defaults, self.call_format)?;
        self.named(ask.model)?;
        match ask.prompt {
            Prompt::Chat(chat) => Ok(self.rendered(&chat)?.1.text),
            Prompt::Text(_) | Prompt::Tokens(_) => Err(ApiError::server("a chat is no text")),
        }
    }

    /// A conversation by the model's template.
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

    /// Reads a body and queues what it asks for, unless the client has `left` by then.
    ///
    /// # Errors
    /// What is to be told to the client.
    pub fn submit(
        &self,
        kind: Endpoint,
        body: &[u8],
        owner: Owner,
        left: &AtomicBool,
    ) -> Result<Pending, ApiError> {
        let asked = Instant::now();
        let defaults = RequestDefaults {
            max_tokens: self.default_tokens,
            seed: chance() as u32,
        };
        let ask = match kind {
            Endpoint::Chat => request::chat(body, defaults, self.call_format)?,
            Endpoint::Text => request::completion(body, defaults)?,
        };
        let model = self.named(ask.model)?;
        let late = || asked.elapsed() > self.request_time;
        let given_up = || left.load(Ordering::Relaxed) || late();
        let prompt = self
            .tokens(&ask.prompt, &given_up)
            .map_err(|error| match kind {
                Endpoint::Chat if error.param.is_none() => error.of("messages"),
                Endpoint::Text if error.param.is_none() => error.of("prompt"),
                _ => error,
            })?;
        let prompt_tokens = prompt.len();
        let head = Head {
            kind,
            id: format!(
                "{}-{:016x}",
                if kind == Endpoint::Chat {
                    "chatcmpl"
                } else {
                    "cmpl"
                },
                chance()
            ),
            created: unix_s(),
            model,
            include_usage: ask.include_usage,
        };
        let request = GenerateRequest {
            // A token more would fit, for the last needs no cell, but clients count.
            max_tokens: ask.generate.max_tokens.min(self.ctx - prompt_tokens),
            prompt,
            owner: owner.0,
            ..ask.generate
        };
        let updates = self.queue(request, asked)?;
        Ok(Pending {
            head,
            stream: ask.stream,
            calls: ask
                .tools
                .map(|tools| CallReader::new(self.call_format, tools.names)),
            prompt_tokens,
            updates,
            asked,
        })
    }

    fn queue(
        &self,
        request: GenerateRequest,
        asked: Instant,
    ) -> Result<mpsc::Receiver<Update>, ApiError> {
        let (reply, updates) = mpsc::channel(self.limits.pieces.max(1));
        let queued = QueuedRequest {
            request,
            reply,
            asked,
        };
        self.shared
            .queue
            .push(queued)
            .map_err(|refused| match refused {
                Refused::Full => ApiError::busy(
                    format!(
                        "{} requests wait already: try again later",
                        self.limits.queue
                    ),
                    self.shared.retry_after_s(self.seats),
                ),
                Refused::Closed => {
                    ApiError::unavailable("the server is stopping and takes no more requests", None)
                }
            })?;
        Ok(updates)
    }

    /// The tokens of a prompt that leaves room for one of an answer.
    fn tokens(&self, prompt: &Prompt, given_up: &dyn Fn() -> bool) -> Result<Vec<i32>, ApiError> {
        let room = self.ctx - 1;
        let request = |text| TokenizeRequest {
            room,
            given_up,
            ..TokenizeRequest::new(text)
        };
        let tokens = match prompt {
            Prompt::Chat(chat) => {
                let (template, rendered) = self.rendered(chat)?;
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
                        format!("`prompt` holds tokens that are not from 0 to {}", n - 1),
                    ));
                }
                Ok(tokens.clone())
            }
        };
        let too_long = |has: String| {
            let ctx = self.ctx;
            ApiError::too_long(format!(
                "the prompt has {has} tokens, and with an answer there is room for {ctx}: shorten it"
            ))
        };
        let tokens = tokens.map_err(|error| match error {
            Error::PromptOverflow { least, .. } => too_long(format!("at least {least}")),
            Error::GivenUp => ApiError::time("it took too long to read the prompt"),
            error => ApiError::invalid(error.to_string()),
        })?;
        if tokens.len() > room {
            return Err(too_long(tokens.len().to_string()));
        }
        if tokens.is_empty() {
            return Err(ApiError::invalid(
                "the prompt is empty: give one token at least",
            ));
        }
        Ok(tokens)
    }
}
