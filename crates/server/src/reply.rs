//! What a client gets to see of its sequence: one object at the end, or events
//! as the tokens come. Knows no engine.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use delayline_llama::Finish;
use futures_util::stream;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::api::answer::{TokenUsage, WholeMessage};
use crate::api::calls::AnswerPart;
use crate::api::error::ApiError;
use crate::app::{App, Pending, chance};
use crate::shared::{Shared, Update};

/// How long a stream may be silent before it shows that it lives.
const SILENCE: Duration = Duration::from_secs(10);

/// When to come back to a server whose medium does not answer, in seconds.
const AGAIN_S: u64 = 10;

/// An answer that rides.
struct Riding {
    shared: Arc<Shared>,
    pending: Pending,
    usage: TokenUsage,
    deadline: Instant,
    /// Characters handed out, and the probabilities not yet handed out.
    offset: usize,
}

/// Waits for a place, then answers in the form that was asked for.
///
/// # Errors
/// When there is no place in time, or, if the answer comes whole, it is never done.
pub async fn reply(app: Arc<App>, mut pending: Pending) -> Result<Response, ApiError> {
    let asked = Instant::from_std(pending.asked);
    let first = next_update(&app.shared, &mut pending.updates);
    let cached = match timeout_at(asked + app.queue_time, first).await {
        Ok(Some(Update::Joined { cached })) => cached,
        Ok(Some(Update::Failed(error))) => return Err(error),
        Ok(_) => return Err(ended()),
        // Dropping the receiver takes the request out of the queue.
        Err(_) => {
            return Err(ApiError::unavailable(
                format!(
                    "no place became free in {} s: try again later",
                    app.queue_time.as_secs()
                ),
                Some(app.shared.retry_after_s(app.seats)),
            ));
        }
    };
    let riding = Riding {
        shared: app.shared.clone(),
        usage: TokenUsage {
            prompt: pending.prompt_tokens,
            cached,
            generated: 0,
        },
        deadline: asked + app.request_time,
        offset: 0,
        pending,
    };
    if riding.pending.stream {
        Ok(events(riding))
    } else {
        riding.whole().await
    }
}

/// What comes next; while a lap hangs, the error that says so.
async fn next_update(shared: &Shared, updates: &mut mpsc::Receiver<Update>) -> Option<Update> {
    tokio::select! {
        // What has come is told first.
        biased;
        update = updates.recv() => update,
        why = shared.laps.until_hung() => Some(Update::Failed(hung(&why))),
    }
}

/// A lap hangs: nobody knows for how long.
pub fn hung(why: &str) -> ApiError {
    ApiError::unavailable(format!("{why}: try again later"), Some(AGAIN_S))
}

fn ended() -> ApiError {
    ApiError::server("the engine has ended; the server is about to stop")
}

fn overdue() -> ApiError {
    ApiError::time("the answer took longer than this server allows")
}

impl Riding {
    /// What a token brought, apart.
    fn parts(&mut self, text: String, ends: bool) -> Vec<AnswerPart> {
        let Some(calls) = &mut self.pending.calls else {
            return vec![AnswerPart::Content(text)];
        };
        let mut parts = calls.push(&text);
        if ends {
            parts.extend(calls.finish());
        }
        parts
    }

    /// The next update, or why there is none. `None` if nothing came for a while.
    async fn next(&mut self) -> Option<Result<Update, ApiError>> {
        let patience = self.deadline.min(Instant::now() + SILENCE);
        match timeout_at(
            patience,
            next_update(&self.shared, &mut self.pending.updates),
        )
        .await
        {
            Ok(Some(Update::Failed(error))) => Some(Err(error)),
            Ok(Some(update)) => Some(Ok(update)),
            Ok(None) => Some(Err(ended())),
            Err(_) if Instant::now() >= self.deadline => Some(Err(overdue())),
            Err(_) => None,
        }
    }

    async fn whole(mut self) -> Result<Response, ApiError> {
        let (mut message, mut likely, mut told) = (WholeMessage::default(), Vec::new(), false);
        loop {
            let token = match self.next().await {
                Some(Ok(Update::Token(token))) => token,
                Some(Err(error)) => return Err(error),
                Some(Ok(_)) | None => continue,
            };
            self.usage.generated += usize::from(token.finish != Some(Finish::End));
            for part in self.parts(token.text, token.finish.is_some()) {
                message.take(part, call_id());
            }
            if !token.logprobs.is_empty() {
                told = true;
                likely.push(token.logprobs);
            }
            if let Some(finish) = token.finish {
                let head = &self.pending.head;
                let logprobs = told.then(|| head.logprobs(&likely, 0));
                let body = head.whole(&message, logprobs, finish, self.usage);
                let json = [(header::CONTENT_TYPE, "application/json")];
                return Ok((StatusCode::OK, json, body).into_response());
            }
        }
    }

    /// The events of what came next; whether they are the last.
    async fn more(&mut self) -> (String, bool) {
        let mut out = String::new();
        let token = match self.next().await {
            None => return (": still here\n\n".into(), false),
            Some(Ok(Update::Token(token))) => token,
            Some(Ok(_)) => return (out, false),
            Some(Err(error)) => {
                event(&mut out, &error.json().to_string());
                event(&mut out, "[DONE]");
                return (out, true);
            }
        };
        self.usage.generated += usize::from(token.finish != Some(Finish::End));
        let parts = self.parts(token.text, token.finish.is_some());
        let head = &self.pending.head;
        let mut logprobs =
            (!token.logprobs.is_empty()).then(|| head.logprobs(&[token.logprobs], self.offset));
        for part in parts {
            match part {
                AnswerPart::Content(text) if text.is_empty() => {}
                AnswerPart::Content(text) => {
                    event(&mut out, &head.piece(&text, logprobs.take()));
                    self.offset += text.chars().count();
                }
                call => event(&mut out, &head.part(&call, &call_id())),
            }
        }
        if logprobs.is_some() {
            event(&mut out, &head.piece("", logprobs));
        }
        let Some(finish) = token.finish else {
            return (out, false);
        };
        let called = self.pending.calls.as_ref();
        let called = called.is_some_and(|calls| calls.called());
        event(&mut out, &head.end(finish, called, self.usage));
        if head.include_usage == Some(true) {
            event(&mut out, &head.usage(self.usage));
        }
        event(&mut out, "[DONE]");
        (out, true)
    }
}

/// Nine letters and digits: some templates take no other length.
fn call_id() -> String {
    format!("{:09x}", chance() & 0xf_ffff_ffff)
}

fn event(out: &mut String, data: &str) {
    out.push_str("data: ");
    out.push_str(data);
    out.push_str("\n\n");
}

/// The stream of events. It is only asked for more when the client has taken what
/// there was; dropped, it lets the sequence go.
fn events(riding: Riding) -> Response {
    let mut first = String::new();
    if let Some(begin) = riding.pending.head.begin() {
        event(&mut first, &begin);
    }
    let stream = stream::unfold(Some((riding, first)), |state| async {
        let (mut riding, first) = state?;
        if !first.is_empty() {
            return Some((Bytes::from(first), Some((riding, String::new()))));
        }
        loop {
            match riding.more().await {
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
    use futures_util::StreamExt;
    let body = Body::from_stream(stream.map(Ok::<_, Infallible>));
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // nginx would hold events back otherwise.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (StatusCode::OK, headers, body).into_response()
}
