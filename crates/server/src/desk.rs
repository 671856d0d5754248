//! A server without sockets: for whoever has requests and no network. They go the way of
//! all others, from the router on.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;
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
use crate::start::{Core, Started, core};

/// How long the engine may take to its next lap boundary when all is to end.
const LAST_LAP: Duration = Duration::from_secs(1);

/// See the module. Dropped, it ends all that goes on.
pub struct Desk {
    started: Started,
    shared: std::sync::Arc<Shared>,
    engine: Mutex<Receiver<Infallible>>,
    runtime: Option<Runtime>,
    router: Router,
}

/// What a request was answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeskAnswer {
    /// The HTTP status.
    pub status: u16,
    /// Whether it is JSON; events of a stream are not.
    pub is_json: bool,
    /// The body.
    pub body: Bytes,
}

impl Desk {
    /// Opens a model; where to listen and who may ask are of no account.
    ///
    /// # Errors
    /// When it cannot be run as asked.
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

    /// What there is to tell of the model.
    pub fn started(&self) -> &Started {
        &self.started
    }

    /// Tokens that were generated so far.
    pub fn generated(&self) -> u64 {
        self.shared.metrics.generated_tokens.get()
    }

    /// Posts JSON to a path and waits for all of the answer, also from several threads at
    /// a time.
    ///
    /// # Errors
    /// When the engine has ended by a defect.
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

    /// Why nothing can be answered now, if so.
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

    /// Ends all answers that are under way, at the next lap boundary.
    pub fn stop(&self) {
        self.shared.stop();
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.stop();
        if let Ok(engine) = self.engine.lock() {
            // Should it be in a lap that does not end, nothing waits for it.
            let _: Result<Infallible, RecvTimeoutError> = engine.recv_timeout(LAST_LAP);
        }
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
