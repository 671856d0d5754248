//! Makes responses from the updates of a request's sequences: one object at the end, or
//! server-sent events as the tokens come. Knows no engine.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use delayline_llama::Finish;
use futures_util::stream;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{StreamExt, StreamMap};

use crate::api::answer::{AnswerEnd, AnswerForm, AnswerReader, TokenUsage};
use crate::api::error::ApiError;
use crate::app::{App, Embeddings, Pending};
use crate::shared::{Shared, Update};

/// Time without events after which a stream sends a comment.
const SILENCE: Duration = Duration::from_secs(10);

/// `Retry-After` while the medium does not answer, in seconds.
const AGAIN_S: u64 = 10;

/// The answers to a request, in progress.
struct Riding {
    shared: Arc<Shared>,
    form: Box<dyn AnswerForm>,
    readers: Vec<AnswerReader>,
    updates: Updates,
    usage: TokenUsage,
    deadline: Instant,
    /// Number of answers that have not ended.
    left: usize,
}

/// The updates of the answers to a request, by their numbers.
type Updates = StreamMap<usize, ReceiverStream<Update>>;

/// Waits for a slot, then answers in the form that was asked for.
///
/// # Errors
/// When no slot becomes free in time, or an answer that is not streamed fails.
pub async fn reply(app: Arc<App>, pending: Pending) -> Result<Response, ApiError> {
    let asked = Instant::from_std(pending.asked);
    let (readers, receivers): (Vec<_>, Vec<_>) = pending.answers.into_iter().unzip();
    let mut updates = numbered(receivers);
    let first = next_update(&app.shared, &mut updates);
    let cached = match timeout_at(asked + app.queue_time, first).await {
        Ok(Some((_, Update::Joined { cached }))) => cached,
        Ok(Some((_, Update::Failed(error)))) => return Err(error),
        Ok(_) => return Err(ended()),
        // Dropping the receivers takes the requests out of the queue.
        Err(_) => return Err(crowded(&app)),
    };
    let riding = Riding {
        shared: app.shared.clone(),
        form: pending.form,
        left: readers.len(),
        readers,
        updates,
        usage: TokenUsage {
            prompt: pending.prompt_tokens,
            cached,
            ..TokenUsage::default()
        },
        deadline: asked + app.request_time,
    };
    match pending.stream {
        true => Ok(events(riding)),
        false => riding.whole().await,
    }
}

/// The updates of answers, numbered in order.
fn numbered(receivers: Vec<mpsc::Receiver<Update>>) -> Updates {
    let mut updates = Updates::new();
    for (at, receiver) in receivers.into_iter().enumerate() {
        updates.insert(at, ReceiverStream::new(receiver));
    }
    updates
}

/// The error when no slot became free in time.
fn crowded(app: &App) -> ApiError {
    let message = format!(
        "no slot became free in {} s: try again later",
        app.queue_time.as_secs()
    );
    ApiError::unavailable(message, Some(app.shared.retry_after_s(app.slots)))
}

/// Computes the embeddings of texts, as many at a time as share a lap.
///
/// # Errors
/// When no slot becomes free in time, or the engine fails.
pub async fn embeddings(app: &App, mut asked: Embeddings) -> Result<Value, ApiError> {
    let at = Instant::from_std(asked.at);
    let tokens = asked.requests.iter().map(|it| it.prompt.len()).sum();
    let mut all = vec![Vec::new(); asked.requests.len()];
    let mut waits = true;
    let mut from = 0;
    while !asked.requests.is_empty() {
        let wave = asked.requests.len().min(app.slots.max(1));
        let wave: Vec<_> = asked.requests.drain(..wave).collect();
        let mut left = wave.len();
        let mut updates = numbered(app.queue(wave, asked.at)?);
        let here = from;
        from += left;
        while left > 0 {
            let patience = match waits {
                true => app.queue_time,
                false => app.request_time,
            };
            let next = next_update(&app.shared, &mut updates);
            match timeout_at(at + patience, next).await {
                Ok(Some((number, Update::Token(token)))) => {
                    all[here + number] = token.embedding;
                    left -= 1;
                }
                Ok(Some((_, Update::Joined { .. }))) => waits = false,
                Ok(Some((_, Update::Failed(error)))) => return Err(error),
                Ok(None) => return Err(ended()),
                Err(_) if waits => return Err(crowded(app)),
                Err(_) => return Err(overdue()),
            }
        }
    }
    asked.asked.answer(&asked.model, all, tokens)
}

/// The next update; while a lap hangs, an error.
async fn next_update(shared: &Shared, updates: &mut Updates) -> Option<(usize, Update)> {
    tokio::select! {
        // Updates that have arrived come before the error.
        biased;
        update = updates.next() => update,
        why = shared.laps.until_hung() => Some((0, Update::Failed(hung(&why)))),
    }
}

/// The error while a lap hangs.
pub fn hung(why: &str) -> ApiError {
    ApiError::unavailable(format!("{why}: try again later"), Some(AGAIN_S))
}

fn ended() -> ApiError {
    ApiError::server("the engine has ended, and the server is about to stop")
}

fn overdue() -> ApiError {
    ApiError::time("the answer took longer than this server allows")
}

impl Riding {
    /// The next update or an error; `None` if nothing came for [`SILENCE`].
    async fn next(&mut self) -> Option<Result<(usize, Update), ApiError>> {
        let patience = self.deadline.min(Instant::now() + SILENCE);
        match timeout_at(patience, next_update(&self.shared, &mut self.updates)).await {
            Ok(Some((_, Update::Failed(error)))) => Some(Err(error)),
            Ok(Some(update)) => Some(Ok(update)),
            Ok(None) => Some(Err(ended())),
            Err(_) if Instant::now() >= self.deadline => Some(Err(overdue())),
            Err(_) => None,
        }
    }

    /// The events of the next update.
    ///
    /// # Errors
    /// When there will be no more updates.
    async fn more(&mut self) -> Result<String, ApiError> {
        let (at, token) = match self.next().await {
            None => return Ok(": still here\n\n".into()),
            Some(Ok((at, Update::Token(token)))) => (at, token),
            Some(Ok((_, Update::Joined { .. }))) => return Ok(String::new()),
            Some(Ok((_, Update::Failed(error))) | Err(error)) => return Err(error),
        };
        if at == 0 {
            // Several answers to a prompt share it, so it counts once: as for the first one.
            self.usage.cached = token.found.min(self.usage.prompt);
        }
        let reader = &mut self.readers[at];
        let is_token = usize::from(token.finish != Some(Finish::End));
        self.usage.generated += is_token;
        self.usage.thought += is_token * usize::from(reader.thinks());
        let parts = reader.push(token.text, token.finish.is_some());
        let mut out = self.form.token(at, parts, token.logprobs);
        if let Some(finish) = token.finish {
            let end = AnswerEnd {
                finish,
                stop: token.stop,
                called: reader.called(),
            };
            self.left -= 1;
            out += &self.form.end(at, end, self.usage);
        }
        Ok(out)
    }

    async fn whole(mut self) -> Result<Response, ApiError> {
        while self.left > 0 {
            // The events are not sent.
            self.more().await?;
        }
        let json = [(header::CONTENT_TYPE, "application/json")];
        Ok((StatusCode::OK, json, self.form.whole(self.usage)).into_response())
    }

    /// The events of the next update, and whether they are the last.
    async fn events(&mut self) -> (String, bool) {
        match self.more().await {
            Ok(out) if self.left == 0 => (out + &self.form.close(self.usage), true),
            Ok(out) => (out, false),
            Err(error) => (self.form.fail(&error), true),
        }
    }
}

/// The stream of events. It is polled only when the client has read what was sent; dropping
/// it ends the sequences.
fn events(mut riding: Riding) -> Response {
    let first = riding.form.begin(riding.usage);
    let stream = stream::unfold(Some((riding, first)), |state| async {
        let (mut riding, first) = state?;
        if !first.is_empty() {
            return Some((Bytes::from(first), Some((riding, String::new()))));
        }
        loop {
            match riding.events().await {
                (out, true) => return Some((Bytes::from(out), None)),
                (out, false) if out.is_empty() => {}
                (out, false) => {
                    return Some((Bytes::from(out), Some((riding, String::new()))));
                }
            }
        }
    });
    event_stream(stream)
}

/// A response of server-sent events.
pub fn event_stream<S>(stream: S) -> Response
where
    S: stream::Stream<Item = Bytes> + Send + 'static,
{
    let body = Body::from_stream(futures_util::StreamExt::map(stream, Ok::<_, Infallible>));
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // Otherwise nginx buffers the events.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (StatusCode::OK, headers, body).into_response()
}
