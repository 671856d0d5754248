//! Who may ask: keys, origins and host names, looked at before anything else.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::{Choice, ConstantTimeEq};

use crate::api::error::ApiError;
use crate::app::App;
use crate::metrics::Status;
use crate::page;

/// Longest key, in bytes.
const KEY: usize = 256;

/// Counts answers, and refuses those who may not ask.
pub async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let response = match check(&app, request.method(), request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    };
    let status = response.status().as_u16();
    let answers = &app.shared.metrics.answers;
    answers.get_or_create(&Status { status }).inc();
    response
}

fn check(app: &App, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
    origin(app, headers)?;
    let path = uri.path();
    let free = path == "/health" || path == "/openapi.json" || page::file(path).is_some();
    if free || *method == Method::OPTIONS || app.keys.is_empty() || has_key(&app.keys, headers) {
        return Ok(());
    }
    Err(ApiError::key())
}

/// Pages of other origins may ask only if they were allowed; a browser always
/// says whose page it is. Without a key, a name other than this machine's would
/// let a page that was loaded under that name pass for one of ours.
fn origin(app: &App, headers: &HeaderMap) -> Result<(), ApiError> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let host = text(header::HOST);
    if app.loopback
        && app.keys.is_empty()
        && let Some(host) = host
        && !is_this_machine(host)
    {
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
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next(),
        None => host.split(':').next(),
    };
    matches!(name, Some("localhost" | "127.0.0.1" | "::1"))
        || name.is_some_and(|name| {
            name.parse()
                .is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
        })
}

/// Whether the client has one of the keys. How long the comparison takes tells
/// nothing about them: all are compared, each in whole.
fn has_key(keys: &[String], headers: &HeaderMap) -> bool {
    let given = headers
        .get(header::AUTHORIZATION)
        .map_or(&b""[..], |value| value.as_bytes());
    let (scheme, key) = given.split_at_checked(7).unwrap_or((b"", b""));
    let bearer = scheme.eq_ignore_ascii_case(b"bearer ") && key.len() <= KEY;
    let key = padded(key);
    let any = |any: Choice, other: &String| any | key.ct_eq(&padded(other.as_bytes()));
    bearer & bool::from(keys.iter().fold(Choice::from(0), any))
}

/// A key with its length, in as many bytes as every other.
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
        for (header, fine) in [
            ("Bearer first-key", true),
            ("bearer second-key", true),
            ("Bearer first-ke", false),
            ("Bearer first-key2", false),
            ("Bearer ", false),
            ("Basic first-key", false),
            ("first-key", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, header.parse().expect("a header"));
            assert_eq!(has_key(&keys, &headers), fine, "{header}");
        }
        assert!(!has_key(&keys, &HeaderMap::new()));
    }

    #[test]
    fn this_machine_has_few_names() {
        for (host, fine) in [
            ("localhost", true),
            ("localhost:8080", true),
            ("127.0.0.1:1", true),
            ("127.9.9.9", true),
            ("[::1]:80", true),
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
