//! The routes and their handlers. Handlers parse requests and pass them on; none computes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::stream;
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;
use tower_http::cors::{AllowHeaders, CorsLayer};

use crate::api::answer::Endpoint;
use crate::api::error::ApiError;
use crate::app::App;
use crate::feed::{self, LiveEvent};
use crate::guard::Owner;
use crate::places::{Place, Stage};
use crate::shared::Health;
use crate::{guard, page, reply};

/// The OpenAPI description.
pub const OPENAPI: &str = include_str!("openapi.json");

/// All routes of the server.
pub fn router(app: Arc<App>) -> Router {
    let origins = app
        .origins
        .iter()
        .filter_map(|origin| HeaderValue::from_str(origin).ok());
    let cors = CorsLayer::new()
        .allow_origin(origins.collect::<Vec<_>>())
        .allow_methods([Method::GET, Method::POST])
        .allow_headers(AllowHeaders::mirror_request())
        // Browsers require it for pages from the internet.
        .allow_private_network(true);
    let mut router = Router::new()
        .route("/v1/chat/completions", post(chat))
        .route("/v1/completions", post(completions))
        .route("/v1/messages", post(messages))
        .route("/v1/messages/count_tokens", post(count_tokens))
        .route("/v1/responses", post(responses))
        .route("/v1/embeddings", post(embeddings))
        .route("/apply-template", post(apply_template))
        .route("/kv/flush", post(flush))
        .route("/v1/models", get(models))
        .route("/v1/models/{model}", get(model))
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .route("/openapi.json", get(openapi))
        .route("/live", get(live));
    for file in page::FILES {
        router = router.route(file.path, get(move || async move { page_file(file) }));
    }
    router
        .fallback(|| async { ApiError::not_found("nothing is here; see /openapi.json") })
        .method_not_allowed_fallback(|| async { ApiError::method() })
        .layer(cors)
        .layer(middleware::from_fn_with_state(app.clone(), guard::guard))
        .with_state(app)
}

async fn chat(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    complete(app, Endpoint::Chat, request).await
}

async fn completions(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    complete(app, Endpoint::Text, request).await
}

async fn messages(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    complete(app, Endpoint::Messages, request).await
}

async fn responses(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    complete(app, Endpoint::Responses, request).await
}

async fn count_tokens(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    let tokens = read(&app, request, |app, body, _, left| app.counted(body, left)).await?;
    Ok(json_response(
        StatusCode::OK,
        &json!({"input_tokens": tokens}),
    ))
}

/// Fails if the server is stopping or a lap hangs.
fn check_open(app: &App) -> Result<(), ApiError> {
    if app.shared.draining() {
        let message = "the server is stopping and takes no more requests";
        return Err(ApiError::unavailable(message, None));
    }
    match app.shared.laps.hung() {
        Some(why) => Err(reply::hung(&why)),
        None => Ok(()),
    }
}

async fn embeddings(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    check_open(&app)?;
    let asked = read(&app, request, App::embeddings).await?;
    let answer = reply::embeddings(&app, asked).await?;
    Ok(json_response(StatusCode::OK, &answer))
}

async fn complete(app: Arc<App>, kind: Endpoint, request: Request) -> Result<Response, ApiError> {
    check_open(&app)?;
    let pending = read(&app, request, move |app, body, owner, left| {
        app.submit(kind, body, owner, left)
    });
    reply::reply(app.clone(), pending.await?).await
}

/// Shows the prompt that the template makes of a chat.
async fn apply_template(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, ApiError> {
    let prompt = read(&app, request, |app, body, _, _| app.applied(body)).await?;
    Ok(json_response(StatusCode::OK, &json!({"prompt": prompt})))
}

/// Forgets the cached prompts of the client's key. A body is refused, because nothing in it
/// would have an effect.
async fn flush(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    let len = request.headers().get(header::CONTENT_LENGTH);
    let is_empty = len.is_none_or(|len| len == "0");
    if !is_empty || request.headers().contains_key(header::TRANSFER_ENCODING) {
        return Err(ApiError::invalid(
            "/kv/flush takes no body: it forgets all that is kept for the API key, with any \
             `cache_salt`",
        ));
    }
    if let Some(why) = app.shared.laps.hung() {
        return Err(reply::hung(&why));
    }
    let owner = request.extensions().get::<Owner>().copied();
    let forgotten = app.flush(owner.unwrap_or_default()).await?;
    let told = json!({"tokens_in_memory": forgotten.tokens, "blocks_on_disk": forgotten.blocks});
    Ok(json_response(StatusCode::OK, &told))
}

/// Receives a JSON body and runs `reads` on it in a blocking thread, with a flag that is set
/// when the client leaves.
async fn read<T: Send + 'static>(
    app: &Arc<App>,
    request: Request,
    reads: impl FnOnce(&App, &[u8], Owner, &AtomicBool) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    if !is_json(request.headers()) {
        return Err(ApiError::media_type());
    }
    let coding = request.headers().get(header::CONTENT_ENCODING);
    if coding.is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(ApiError::coding());
    }
    let told = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    let owner = request.extensions().get::<Owner>().copied();
    let owner = owner.unwrap_or_default();
    let place = request.extensions().get::<Arc<Place>>().cloned();
    let body = app.intake.take(told, request.into_body()).await?;
    if let Some(place) = place {
        place.enter_stage(Stage::Answer);
    }
    let reading = app.reading.clone().acquire_owned().await;
    // Dropped with this future when the client leaves.
    let leaves = Leaves::default();
    let task = tokio::task::spawn_blocking({
        let (app, left) = (app.clone(), leaves.0.clone());
        move || {
            let read = reads(&app, &body.bytes, owner, &left);
            drop((body, reading));
            read
        }
    });
    task.await
        .map_err(|_| ApiError::server("reading the request failed by a defect of the server"))?
}

/// Sets its flag when it is dropped.
#[derive(Default)]
struct Leaves(Arc<AtomicBool>);

impl Drop for Leaves {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let media = value
        .and_then(|value| value.split(';').next())
        .unwrap_or("");
    media.trim().eq_ignore_ascii_case("application/json")
}

fn json_response(status: StatusCode, json: &serde_json::Value) -> Response {
    let header = [(header::CONTENT_TYPE, "application/json")];
    (status, header, json.to_string()).into_response()
}

fn described(app: &App, name: &str) -> serde_json::Value {
    json!({
        "id": name,
        "object": "model",
        "created": app.created,
        "owned_by": "delayline",
        "context_length": app.ctx,
    })
}

async fn models(State(app): State<Arc<App>>) -> Response {
    let data: Vec<_> = app.names.iter().map(|name| described(&app, name)).collect();
    let list = json!({"object": "list", "data": data});
    json_response(StatusCode::OK, &list)
}

async fn model(
    State(app): State<Arc<App>>,
    asked: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let Ok(Path(asked)) = asked else {
        return Err(ApiError::invalid("the model's name is not UTF-8"));
    };
    let name = app.known(asked)?;
    Ok(json_response(StatusCode::OK, &described(&app, &name)))
}

async fn health(State(app): State<Arc<App>>) -> Response {
    let (status, state, why) = match app.shared.health() {
        _ if app.shared.draining() => (503, "stopping", None),
        Health::Good => (200, "ok", None),
        Health::Ill(why) => (503, "unhealthy", Some(why)),
        Health::Ended => (503, "ended", None),
    };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    json_response(status, &json!({"status": state, "error": why}))
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], app.shared.metrics.text()).into_response()
}

async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

fn page_file(file: &'static page::File) -> Response {
    let mut response = ([(header::CONTENT_TYPE, file.media_type)], file.text).into_response();
    for (name, value) in page::HEADERS {
        response.headers_mut().insert(
            header::HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    response
}

/// Time without events after which `/live` sends a comment.
const SILENCE: Duration = Duration::from_secs(8);

async fn live(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let Ok(permit) = app.listeners.clone().try_acquire_owned() else {
        return Err(ApiError::busy(
            "too many clients listen to /live: try again later",
            10,
        ));
    };
    let (first, events) = app.shared.feed.listen();
    let state = (first.into_iter(), events, permit, app.shared.clone());
    let stream = stream::unfold(
        state,
        |(mut first, mut events, permit, shared)| async move {
            let said = Instant::now();
            let next = match first.next() {
                Some(event) => text(&event),
                None => loop {
                    let pause = if shared.feed.moves() {
                        feed::OFTEN
                    } else {
                        SILENCE
                    };
                    match timeout(pause, events.recv()).await {
                        Ok(Ok(event)) => break text(&event),
                        Ok(Err(RecvError::Lagged(_))) => {}
                        Ok(Err(RecvError::Closed)) => return None,
                        Err(_) if shared.stopping() => return None,
                        Err(_) => {
                            if let Some(event) = shared.feed.under_way() {
                                break text(&event);
                            }
                            if said.elapsed() >= SILENCE {
                                break Bytes::from_static(b": still here\n\n");
                            }
                        }
                    }
                },
            };
            Some((next, (first, events, permit, shared)))
        },
    );
    Ok(reply::event_stream(stream))
}

fn text((name, data): &LiveEvent) -> Bytes {
    format!("event: {name}\ndata: {data}\n\n").into()
}
