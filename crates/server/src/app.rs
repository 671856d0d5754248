//! From a request's body to a job for the engine: the same for all of the API.
//! Knows the model's words, but not how it computes.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use delayline_llama::batch::GenerateRequest;
use delayline_llama::{Template, Vocab};
use tokio::sync::{Semaphore, mpsc};

use crate::api::answer::{Endpoint, Head};
use crate::api::error::ApiError;
use crate::api::request::{self, Prompt, RequestDefaults};
use crate::config::Limits;
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
    /// Its name.
    pub model: String,
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
    /// Keys; none asks for none.
    pub keys: Vec<String>,
    /// Origins whose pages may use the API.
    pub origins: Vec<String>,
    /// Whether only this machine can reach the server.
    pub loopback: bool,
    /// Kibibytes of bodies that may come in, and how many may be read at once.
    pub bodies: Arc<Semaphore>,
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
fn chance() -> u64 {
    RandomState::new().hash_one(0_u8)
}

impl App {
    /// Reads a body and queues what it asks for.
    ///
    /// # Errors
    /// What is to be told to the client.
    pub fn submit(&self, kind: Endpoint, body: &[u8]) -> Result<Pending, ApiError> {
        let asked = Instant::now();
        let defaults = RequestDefaults {
            max_tokens: self.default_tokens,
            seed: chance() as u32,
        };
        let ask = match kind {
            Endpoint::Chat => request::chat(body, defaults)?,
            Endpoint::Text => request::completion(body, defaults)?,
        };
        if let Some(model) = &ask.model
            && *model != self.model
        {
            return Err(ApiError::model(model, &self.model));
        }
        let prompt = self.tokens(&ask.prompt)?;
        let prompt_tokens = prompt.len();
        if prompt_tokens >= self.ctx {
            let message = format!(
                "the prompt has {prompt_tokens} tokens, and with an answer there is room for {}: \
                 shorten it",
                self.ctx
            );
            let name = match kind {
                Endpoint::Chat => "messages",
                Endpoint::Text => "prompt",
            };
            return Err(ApiError {
                param: Some(name.into()),
                ..ApiError::too_long(message)
            });
        }
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
            model: self.model.clone(),
            include_usage: ask.include_usage,
        };
        let request = GenerateRequest {
            // A token more would fit, for the last needs no cell, but clients count.
            max_tokens: ask.generate.max_tokens.min(self.ctx - prompt_tokens),
            prompt,
            ..ask.generate
        };
        let updates = self.queue(request, asked)?;
        Ok(Pending {
            head,
            stream: ask.stream,
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

    fn tokens(&self, prompt: &Prompt) -> Result<Vec<i32>, ApiError> {
        let tokens = match prompt {
            Prompt::Chat(messages) => {
                let template = self.template.as_ref().map_err(|why| {
                    ApiError::invalid(format!(
                        "this model cannot chat, use /v1/completions: {why}"
                    ))
                })?;
                let text = template
                    .render(messages)
                    .map_err(|error| ApiError::param("messages", error.to_string()))?;
                self.vocab.tokenize(&text, !template.begins(&text), true)
            }
            Prompt::Text(text) => self.vocab.tokenize(text, true, true),
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
        let tokens = tokens.map_err(|error| ApiError::invalid(error.to_string()))?;
        if tokens.is_empty() {
            return Err(ApiError::invalid(
                "the prompt is empty: give one token at least",
            ));
        }
        Ok(tokens)
    }
}
