//! Checks keys, origins and host names of requests before anything else.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::{ConditionallySelectable, ConstantTimeEq};

use crate::api::anthropic;
use crate::api::error::ApiError;
use crate::app::App;
use crate::metrics::Status;
use crate::page;

/// Maximum length of a key, in bytes.
const KEY: usize = 256;

/// The owner of a request: the number of its key, from 1 on, or 0 without a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner(pub u64);

/// Middleware that refuses requests that are not allowed, and counts responses by status.
pub async fn guard(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let is_anthropics = request.uri().path().starts_with("/v1/messages");
    let mut response = match check(&app, request.method(), request.uri(), request.headers()) {
        Ok(owner) => {
            request.extensions_mut().insert(owner);
            next.run(request).await
        }
        Err(error) => error.into_response(),
    };
    if is_anthropics && let Some(error) = response.extensions_mut().remove::<ApiError>() {
        let body = anthropic::error_json(&error).to_string();
        response.headers_mut().remove(header::CONTENT_LENGTH);
        *response.body_mut() = body.into();
    }
    let status = response.status().as_u16();
    let answers = &app.shared.metrics.answers;
    answers.get_or_create(&Status { status }).inc();
    response
}

fn check(app: &App, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<Owner, ApiError> {
    origin(app, headers)?;
    let path = uri.path();
    let free = path == "/health" || path == "/openapi.json" || page::file(path).is_some();
    let owner = owner(&app.keys, headers);
    if free || *method == Method::OPTIONS || app.keys.is_empty() || owner != Owner(0) {
        return Ok(owner);
    }
    Err(ApiError::key())
}

/// Refuses pages of origins that were not allowed; browsers always send the origin. On a
/// loopback address without a key, also refuses other host names than this machine's:
/// otherwise a foreign page whose name resolves to this machine (DNS rebinding) would count
/// as one of ours.
fn origin(app: &App, headers: &HeaderMap) -> Result<(), ApiError> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let host = text(header::HOST);
    let mut hosts = headers.get_all(header::HOST).iter();
    let foreign = |host: &HeaderValue| !host.to_str().is_ok_and(is_this_machine);
    if app.loopback && app.keys.is_empty() && hosts.any(foreign) {
        return Err(ApiError::origin(
            "this server answers to localhost and 127.0.0.1 only; set a key to use other names",
        ));
    }
    let Some(origin) = text(header::ORIGIN) else {
        return Ok(());
    };
    let own = host.is_some_and(|host| {
        origin.strip_prefix("http://") == Some(host)
            || origin.strip_prefix("https://") == Some(host)
    });
    if own || app.origins.iter().any(|allowed| allowed == origin) {
        return Ok(());
    }
    Err(ApiError::origin(
        "pages of this origin may not use this server; allow it with --allow-origin",
    ))
}

fn is_this_machine(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(Some((name, port))) => (name, port),
        Some(None) => return false,
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let port = port.strip_prefix(':').unwrap_or(port);
    let name = name.strip_suffix('.').unwrap_or(name);
    let loopback = |ip: std::net::IpAddr| ip.to_canonical().is_loopback();
    port.bytes().all(|digit| digit.is_ascii_digit())
        && (name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(loopback))
}

/// The number of the client's key, 0 for none. The time that this takes reveals nothing of
/// the keys: all are compared, each in full.
fn owner(keys: &[String], headers: &HeaderMap) -> Owner {
    let text = |name| {
        headers
            .get(name)
            .map_or(&b""[..], |value: &HeaderValue| value.as_bytes())
    };
    let given = text(header::AUTHORIZATION);
    let (scheme, key) = given.split_at_checked(7).unwrap_or((b"", b""));
    // OpenAI's clients send `Authorization`, Anthropic's `x-api-key`.
    let (key, named) = match scheme.eq_ignore_ascii_case(b"bearer ") {
        true => (key, true),
        false => {
            let key = text(header::HeaderName::from_static("x-api-key"));
            (key, !key.is_empty())
        }
    };
    let is_key = named && key.len() <= KEY;
    let key = padded(key);
    let mut owner = 0;
    for (number, other) in (1..).zip(keys) {
        owner.conditional_assign(&number, key.ct_eq(&padded(other.as_bytes())));
    }
    Owner(if is_key { owner } else { 0 })
}

/// A key and its length, padded to the same size as every other.
fn padded(key: &[u8]) -> [u8; KEY + 2] {
    let mut out = [0; KEY + 2];
    let n = key.len().min(KEY);
    out[..n].copy_from_slice(&key[..n]);
    out[KEY..].copy_from_slice(&(n as u16).to_le_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_keys_are_keys() {
        let keys = ["first-key".to_owned(), "second-key".to_owned()];
        for (header, number) in [
            ("Bearer first-key", 1),
            ("bearer second-key", 2),
            ("Bearer first-ke", 0),
            ("Bearer first-key2", 0),
            ("Bearer ", 0),
            ("Basic first-key", 0),
            ("first-key", 0),
            ("", 0),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, header.parse().expect("a header"));
            assert_eq!(owner(&keys, &headers), Owner(number), "{header}");
        }
        for (key, number) in [("second-key", 2), ("second-ke", 0), ("Bearer first-key", 0)] {
            let mut headers = HeaderMap::new();
            headers.insert("x-api-key", key.parse().expect("a header"));
            assert_eq!(owner(&keys, &headers), Owner(number), "{key}");
        }
        assert_eq!(owner(&keys, &HeaderMap::new()), Owner(0));
    }

    #[test]
    fn this_machine_has_few_names() {
        for (host, fine) in [
            ("localhost", true),
            ("localhost:8080", true),
            ("127.0.0.1:1", true),
            ("127.9.9.9", true),
            ("[::1]:80", true),
            ("LOCALHOST", true),
            ("LocalHost.:80", true),
            ("[::ffff:127.0.0.1]", true),
            ("[::1].example.org", false),
            ("[::1", false),
            ("localhost:80@example.org", false),
            ("localhost..", false),
            ("example.org", false),
            ("localhost.example.org:80", false),
            ("127.0.0.1.example.org", false),
            ("0.0.0.0", false),
            ("", false),
        ] {
            assert_eq!(is_this_machine(host), fine, "{host}");
        }
    }
}
