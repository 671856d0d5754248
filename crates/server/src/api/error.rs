//! The errors of the API, in OpenAI's JSON form and with their HTTP status.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// An error for a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// The HTTP status.
    pub status: StatusCode,
    /// OpenAI's `type` of the error.
    pub kind: &'static str,
    /// OpenAI's `code`, for programs.
    pub code: Option<&'static str>,
    /// The parameter that is wrong.
    pub param: Option<String>,
    /// For people: what is wrong, what was expected, what to do.
    pub message: String,
    /// When to try again, in seconds.
    pub retry_after_s: Option<u64>,
}

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            code: None,
            param: None,
            message: message.into(),
            retry_after_s: None,
        }
    }

    /// The request cannot be understood or fulfilled.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
    }

    /// A parameter is wrong.
    pub fn param(name: &str, message: impl Into<String>) -> Self {
        Self {
            param: Some(name.to_owned()),
            ..Self::invalid(message)
        }
    }

    /// The same error, about that parameter.
    pub fn of(self, name: &str) -> Self {
        Self {
            param: Some(name.to_owned()),
            ..self
        }
    }

    /// The server does not have this parameter.
    pub fn unsupported(name: &str) -> Self {
        let message = format!("`{name}` is not supported by this server: leave it out");
        Self {
            code: Some("unsupported_parameter"),
            ..Self::param(name, message)
        }
    }

    /// The server accepts this parameter with these values alone.
    pub fn only(name: &str, values: &[&str]) -> Self {
        let message = format!(
            "`{name}` is not supported by this server: leave it out, or let it be {}",
            values.join(" or ")
        );
        Self {
            message,
            ..Self::unsupported(name)
        }
    }

    /// The prompt is longer than the context.
    pub fn too_long(message: impl Into<String>) -> Self {
        Self {
            code: Some("context_length_exceeded"),
            ..Self::invalid(message)
        }
    }

    /// The key is missing or wrong.
    pub fn key() -> Self {
        Self {
            code: Some("invalid_api_key"),
            ..Self::new(
                StatusCode::UNAUTHORIZED,
                "authentication_error",
                "the API key is missing or wrong: send the header `Authorization: Bearer KEY` or `x-api-key: KEY`",
            )
        }
    }

    /// The page's origin or the host name is not allowed.
    pub fn origin(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "permission_error", message)
    }

    /// There is nothing at that path.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "invalid_request_error", message)
    }

    /// The server does not have that model.
    pub fn model(asked: &str, here: &str) -> Self {
        Self {
            code: Some("model_not_found"),
            param: Some("model".into()),
            ..Self::not_found(format!(
                "the model `{asked}` is not here; this server has `{here}`"
            ))
        }
    }

    /// The path does not have that method.
    pub fn method() -> Self {
        let message = "this path does not have that method; see /openapi.json";
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "invalid_request_error",
            message,
        )
    }

    /// The body is too long.
    pub fn body_too_long(most: usize) -> Self {
        let message = format!("the body is longer than {most} bytes");
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "invalid_request_error",
            message,
        )
    }

    /// The body did not arrive in time.
    pub fn body_too_slow() -> Self {
        let message = "the body did not arrive in time";
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "invalid_request_error",
            message,
        )
    }

    /// The body is not JSON.
    pub fn media_type() -> Self {
        let message = "send JSON, with the header `Content-Type: application/json`";
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "invalid_request_error",
            message,
        )
    }

    /// The body is compressed.
    pub fn coding() -> Self {
        let message = "send the body as it is, without the header `Content-Encoding`";
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "invalid_request_error",
            message,
        )
    }

    /// There are too many requests.
    pub fn busy(message: impl Into<String>, retry_after_s: u64) -> Self {
        Self {
            code: Some("queue_full"),
            retry_after_s: Some(retry_after_s),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", message)
        }
    }

    /// The server cannot answer at present.
    pub fn unavailable(message: impl Into<String>, retry_after_s: Option<u64>) -> Self {
        Self {
            retry_after_s,
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", message)
        }
    }

    /// The request took too long.
    pub fn time(message: impl Into<String>) -> Self {
        Self {
            code: Some("timeout"),
            ..Self::new(StatusCode::GATEWAY_TIMEOUT, "server_error", message)
        }
    }

    /// The server failed.
    pub fn server(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message)
    }

    /// The body of the response.
    pub fn json(&self) -> Value {
        json!({"error": {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        }})
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (
            self.status,
            [(header::CONTENT_TYPE, "application/json")],
            self.json().to_string(),
        )
            .into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let bearer = HeaderValue::from_static("Bearer");
            headers.insert(header::WWW_AUTHENTICATE, bearer);
        }
        // For the middleware that gives it another API's form.
        response.extensions_mut().insert(self);
        response
    }
}
