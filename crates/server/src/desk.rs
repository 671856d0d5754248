//! A server without sockets, for callers in the same process. Their requests enter at the
//! router and are handled like all others.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::{convert::Infallible, net::Ipv4Addr};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, header};
use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::runtime::Runtime;
use tower::ServiceExt;

use crate::config::{Error, ServerConfig};
use crate::http;
use crate::shared::{Health, Shared};
use crate::start::{Core, LAST_LAP, Started, core};

/// A server without sockets, which ends all answers when it is dropped.
pub struct Desk {
    started: Started,
    shared: std::sync::Arc<Shared>,
    engine: Mutex<Receiver<Infallible>>,
    runtime: Option<Runtime>,
    router: Router,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeskAnswer {
    /// The HTTP status.
    pub status: u16,
    /// Whether the body is JSON; a stream of events is not.
    pub is_json: bool,
    /// The body.
    pub body: Bytes,
}

impl Desk {
    /// Opens a model. The address and the keys of `config` are ignored.
    ///
    /// # Errors
    /// When the model cannot be run as asked.
    pub fn open(config: ServerConfig) -> Result<Self, Error> {
        let nobody = (Ipv4Addr::LOCALHOST, 0).into();
        let config = ServerConfig {
            address: nobody,
            keys: Vec::new(),
            ..config
        };
        let Core {
            started,
            shared,
            engine,
            runtime,
            app,
        } = core(config, nobody)?;
        Ok(Self {
            started,
            shared,
            engine: Mutex::new(engine),
            runtime: Some(runtime),
            router: http::router(app),
        })
    }

    /// What is known of the model.
    pub fn started(&self) -> &Started {
        &self.started
    }

    /// Number of tokens generated so far.
    pub fn generated(&self) -> u64 {
        self.shared.metrics.generated_tokens.get()
    }

    /// Posts JSON to a path and waits for the whole answer. Several threads may do so at a
    /// time.
    ///
    /// # Errors
    /// When the engine has ended by a defect, or the path is invalid.
    pub fn ask(&self, path: &str, body: &[u8]) -> Result<DeskAnswer, Error> {
        let request = Request::post(path)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONTENT_LENGTH, body.len())
            .body(Body::from(body.to_vec()))
            .map_err(|_| Error::Engine)?;
        let runtime = self.runtime.as_ref().ok_or(Error::Engine)?;
        runtime.block_on(async {
            let response = match self.router.clone().oneshot(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            };
            let kind = response.headers().get(header::CONTENT_TYPE);
            let is_json = kind.is_some_and(|kind| kind == "application/json");
            let status = response.status().as_u16();
            let body = response.into_body().collect().await;
            let body = body.map_err(|_| Error::Engine)?.to_bytes();
            Ok(DeskAnswer {
                status,
                is_json,
                body,
            })
        })
    }

    /// A message if requests cannot be answered at present.
    pub fn trouble(&self) -> Option<String> {
        if let Some(why) = self.shared.laps.hung() {
            return Some(why.to_string());
        }
        match self.shared.health() {
            Health::Good => None,
            Health::Ill(why) => Some(why),
            Health::Ended => Some("the engine has ended by a defect".into()),
        }
    }

    /// Ends all answers in progress, at the next lap boundary.
    pub fn stop(&self) {
        self.shared.stop();
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.stop();
        if let Ok(engine) = self.engine.lock() {
            // An engine that hangs in a lap is abandoned.
            let _: Result<Infallible, RecvTimeoutError> = engine.recv_timeout(LAST_LAP);
        }
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
