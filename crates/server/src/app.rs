//! From a request's body to a job for the engine: the same for all of the API.
//! Knows the model's words, but not how it computes.

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
    /// Whether it can tell what stands for a text.
    pub embeds: bool,
    /// Between which texts it thinks aloud, if it does.
    pub thinks: Option<ThoughtTags>,
    /// Control tokens whose text tells what is thought, said and called.
    pub shown: Vec<i32>,
    /// Maximum number of tokens of thought where a request does not say; none is no limit.
    pub thinking_budget: Option<usize>,
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
    /// How tokens are chosen where a request does not say: as the model's file asks for.
    pub sampling: Sampling,
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
    /// Who finds what was computed for others.
    pub kv_scope: KvScope,
    /// To the engine, which closes it when it ends.
    pub flushes: mpsc::Sender<Flush>,
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

/// The answers to a request, on their way.
pub struct Pending {
    /// How they are put.
    pub form: Box<dyn AnswerForm>,
    /// Whether they are sent as they come.
    pub stream: bool,
    /// What takes each of them apart, and where it comes from.
    pub answers: Vec<(AnswerReader, mpsc::Receiver<Update>)>,
    /// Tokens of the prompts.
    pub prompt_tokens: usize,
    /// When it was asked for.
    pub asked: Instant,
}

/// Texts for which something is to stand, on their way.
pub struct Embeddings {
    /// As it was asked for.
    pub asked: EmbeddingRequest,
    /// The model's name.
    pub model: String,
    /// What the engine is asked for, text by text.
    pub requests: Vec<GenerateRequest>,
    /// When it was asked for.
    pub at: Instant,
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
        let ask = request::chat(body, self.defaults(), self.call_format)?;
        self.named(ask.model)?;
        match &ask.prompts[..] {
            [Prompt::Chat(chat)] => Ok(self.rendered(chat)?.1.text),
            _ => Err(ApiError::server("a chat is one prompt")),
        }
    }

    /// How many tokens the prompt of a body of `/v1/messages` has.
    ///
    /// # Errors
    /// What is to be told to the client.
    pub fn counted(&self, body: &[u8], left: &AtomicBool) -> Result<usize, ApiError> {
        let chat = anthropic::chat_body(body)?;
        let ask = request::chat(&chat, self.defaults(), self.call_format)?;
        self.named(ask.model)?;
        let given_up = || left.load(Ordering::Relaxed);
        // Whoever counts wants to know by how much it is too long.
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
            let message = format!("a request has {} answers here at most", self.limits.queue);
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
                    // A token more would fit, for the last needs no cell, but clients count.
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

    /// Reads a body of `/v1/embeddings`.
    ///
    /// # Errors
    /// What is to be told to the client.
    pub fn embeddings(
        &self,
        body: &[u8],
        owner: Owner,
        left: &AtomicBool,
    ) -> Result<Embeddings, ApiError> {
        if !self.embeds {
            return Err(ApiError::invalid(
                "this model makes no embeddings: that needs one whose file says that the last \
                 token stands for a text (`pooling_type` 3, such as Qwen3-Embedding), and \
                 weights that are streamed",
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

    /// Whose a request is as far as what is kept is concerned. A key is known by itself,
    /// not by its number: what is on disk is found again when others are added.
    fn namespace(&self, owner: Owner, salt: &str) -> Namespace {
        let key = match self.kv_scope {
            KvScope::Key => owner.0.checked_sub(1),
            KvScope::Server => None,
        };
        let key = key.and_then(|number| self.keys.get(usize::try_from(number).ok()?));
        let key = key.map_or("", String::as_str);
        Namespace::new(key.as_bytes(), salt.as_bytes())
    }

    /// Forgets all that is kept for whoever asks, between two laps.
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

    /// How an API puts so many answers.
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

    /// Has requests wait for the engine; what comes of each.
    ///
    /// # Errors
    /// When too many wait already, or the server is stopping.
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
                    self.shared.retry_after_s(self.seats),
                ),
                Refused::Closed => {
                    ApiError::unavailable("the server is stopping and takes no more requests", None)
                }
            })?;
        Ok(updates)
    }

    /// The tokens of a prompt, at most so many, and, if it ends within thoughts, within
    /// which.
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
        Ok((tokens, begun))
    }
}
