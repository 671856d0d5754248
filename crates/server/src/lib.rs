//! The OpenAI-compatible server: all sequences share each lap. One thread owns the engine
//! and runs the laps; async tasks parse requests and send tokens. Knows nothing of the
//! command line.
//!
//! The path of a request: socket (`listen`) → authorization (`guard`) → parsing (`api`) →
//! tokens (`app`) → a bounded queue → laps (`engine`) → events (`reply`). Everything that a
//! client can make grow has a limit in [`Limits`].
#![forbid(unsafe_code)]

pub mod api;
mod app;
mod config;
mod desk;
mod engine;
mod feed;
mod guard;
mod http;
mod intake;
mod kv_metrics;
mod listen;
pub mod live;
mod metrics;
mod overdue;
pub mod page;
mod places;
mod queue;
mod reply;
mod shared;
mod start;

pub use config::{Error, KvScope, Limits, ServerConfig};
pub use desk::{Desk, DeskAnswer};
pub use http::OPENAPI;
pub use start::{Door, Drained, Handle, Started, start};
