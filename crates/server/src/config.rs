//! The configuration of a server, its limits, and its errors.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use crate::intake;

/// How to serve a model.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The model's file.
    pub model: PathBuf,
    /// How to run it; `seqs` is set by [`ServerConfig::slots`], `reserve` by the server.
    pub engine: delayline_engine::Options,
    /// Maximum number of sequences that share a lap.
    pub slots: u32,
    /// Where to listen; with port 0 the system chooses one.
    pub address: SocketAddr,
    /// The API keys, of which a client must send one; if empty, none is needed.
    pub keys: Vec<String>,
    /// Whether to listen beyond this machine even without a key.
    pub insecure: bool,
    /// Origins whose pages may use the API, such as `https://example.org`.
    pub origins: Vec<String>,
    /// Other names by which clients may ask for the model.
    pub aliases: Vec<String>,
    /// Whether requests for other model names are refused instead of being answered.
    pub strict_model: bool,
    /// Default maximum number of tokens of thought; none is no limit.
    pub thinking_budget: Option<usize>,
    /// A Jinja chat template in place of the model's own.
    pub chat_template: Option<String>,
    /// The KV cache on disk.
    pub kv: Option<delayline_llama::KvCache>,
    /// Who shares cached prompts, in memory and on disk.
    pub kv_scope: KvScope,
    /// The limits of what clients may use.
    pub limits: Limits,
}

/// Who shares cached prompts, and so can learn of them by `cached_tokens`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KvScope {
    /// Clients with the same key.
    #[default]
    Key,
    /// All clients.
    Server,
}

/// Limits of what clients may use, each or together.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Maximum number of requests in the queue.
    pub queue: usize,
    /// Maximum time of a request in the queue; by default a number of laps.
    pub queue_time: Option<Duration>,
    /// Maximum time of a request in all; by default a number of laps.
    pub request_time: Option<Duration>,
    /// Maximum length of a body, in bytes; by default it depends on the context.
    pub body: Option<usize>,
    /// Maximum length of all bodies that are being received or parsed, in bytes; by default
    /// it depends on the maximum length of one.
    pub bodies: Option<usize>,
    /// Maximum length of a request's head, in bytes.
    pub head: usize,
    /// Maximum time to send the first head of a connection, and maximum pause within a body.
    pub head_time: Duration,
    /// Maximum time to send a body or the next head, or to receive what is sent.
    pub transfer_time: Duration,
    /// Maximum number of connections; beyond it, idle ones are closed for new ones.
    pub connections: usize,
    /// Maximum number of listeners of `/live`.
    pub listeners: usize,
    /// Number of tokens buffered for a slow client before its sequence is held.
    pub pieces: usize,
    /// Time after which a lap counts as hung; by default a multiple of its usual time.
    pub lap_time: Option<Duration>,
    /// Maximum time for answers in progress after the server was told to stop.
    pub drain_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queue: 64,
            queue_time: None,
            request_time: None,
            body: None,
            bodies: None,
            head: 16 << 10,
            head_time: Duration::from_secs(5),
            transfer_time: Duration::from_secs(30),
            connections: 128,
            listeners: 16,
            pieces: 64,
            lap_time: None,
            drain_time: Duration::from_secs(30),
        }
    }
}

impl Limits {
    /// Maximum time of a request in the queue if a lap takes `lap_s` seconds: by default that
    /// of an answer of some length, but at least two minutes.
    pub fn queue_time(&self, lap_s: f64) -> Duration {
        self.queue_time
            .unwrap_or_else(|| laps(QUEUE_LAPS, lap_s, QUEUE_LEAST_S))
    }

    /// Maximum time of a request in all, for contexts of `ctx` tokens: by default two laps a
    /// token, for the longest answer beside others, but at least half an hour.
    pub fn request_time(&self, lap_s: f64, ctx: usize) -> Duration {
        let most = (2 * ctx) as f64;
        self.request_time
            .unwrap_or_else(|| laps(most, lap_s, REQUEST_LEAST_S))
    }

    /// Maximum length of a body for contexts of `ctx` tokens, in bytes: in some scripts a
    /// token is five characters, and some clients write each as an escape of six bytes.
    pub fn body_bytes(&self, ctx: usize) -> usize {
        self.body.unwrap_or_else(|| (32 * ctx).max(256 << 10))
    }

    /// Maximum length of all bodies, in bytes: two of the maximum length, but at least 1 MiB.
    pub fn bodies_bytes(&self, ctx: usize) -> usize {
        let bodies = self.bodies;
        bodies.unwrap_or_else(|| (2 * self.body_bytes(ctx)).max(1 << 20))
    }

    /// Memory that clients may use in all, in bytes, for contexts of `ctx` tokens: heads and
    /// short bodies of the connections, long bodies, what parsing makes of the bodies that
    /// are parsed at a time, prompts in the queue, and threads.
    pub fn reserve(&self, ctx: usize) -> u64 {
        let connections = self.connections * (self.head + intake::OWN);
        let read = TASKS * self.body_bytes(ctx) * PARSED;
        let queued = self.queue * ctx * size_of::<i32>();
        (connections + self.bodies_bytes(ctx) + read + queued + THREADS) as u64
    }
}

/// Default maximum time of a request in the queue, in laps.
const QUEUE_LAPS: f64 = 256.0;

/// Lower limits of the default times in the queue and in all, in seconds.
const QUEUE_LEAST_S: f64 = 120.0;
const REQUEST_LEAST_S: f64 = 1800.0;

/// The time of `count` laps, but at least `least_s`.
fn laps(count: f64, lap_s: f64, least_s: f64) -> Duration {
    Duration::from_secs_f64((count * lap_s).clamp(least_s, 1e8))
}

/// Number of worker threads, and of threads that parse requests.
pub const TASKS: usize = 2;

/// Bytes of memory for each byte of a body while it is parsed, rendered and tokenized.
const PARSED: usize = 8;

/// Bytes of the runtime's threads, and what the allocator keeps for them.
const THREADS: usize = 4 << 20;

/// Why a server does not start, or has ended.
#[derive(Debug, Error)]
pub enum Error {
    /// Other machines could use this one without a key.
    #[error(
        "{0} can be reached from other machines: set a key with --api-key, \
         or say --insecure if whoever reaches it may use it"
    )]
    Open(IpAddr),
    /// A key that is too short, too long or cannot be sent in a header.
    #[error("a key must have 8 to 256 visible ASCII characters")]
    Key,
    /// An origin that no browser sends, or that any page can send.
    #[error(
        "the origin `{0}` must look like https://example.org or app://name, with nothing after \
         it; `null` cannot be allowed, because any page can send it"
    )]
    Origin(String),
    /// The address is in use, or is not one of this machine's.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's error.
        source: std::io::Error,
    },
    /// The model cannot be run.
    #[error(transparent)]
    Runtime(#[from] delayline_engine::Error),
    /// The system gave no threads or sockets.
    #[error("cannot start the server's threads or sockets: {0}")]
    System(#[from] std::io::Error),
    /// The engine's thread has panicked.
    #[error("the engine has ended by a defect; see above")]
    Engine,
}

impl ServerConfig {
    /// Checks the address, the keys and the origins.
    ///
    /// # Errors
    /// When the configuration is unsafe or could never work.
    pub fn check(&self) -> Result<(), Error> {
        let ip = self.address.ip();
        if !ip.is_loopback() && self.keys.is_empty() && !self.insecure {
            return Err(Error::Open(ip));
        }
        let sound = |key: &String| {
            (8..=256).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic())
        };
        if !self.keys.iter().all(sound) {
            return Err(Error::Key);
        }
        match self.origins.iter().find(|origin| !is_origin(origin)) {
            Some(origin) => Err(Error::Origin(origin.clone())),
            None => Ok(()),
        }
    }
}

/// Whether a browser or an app could send this as its origin: a scheme and a host, with
/// nothing after it. Not `null`, which any page can send.
fn is_origin(origin: &str) -> bool {
    let Some((scheme, host)) = origin.split_once("://") else {
        return false;
    };
    let named = |b: u8| b.is_ascii_alphanumeric() || b"+-.".contains(&b);
    scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(named)
        && !host.is_empty()
        && host.bytes().all(|b| b.is_ascii_graphic() && b != b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(address: &str, key: Option<&str>, insecure: bool) -> ServerConfig {
        ServerConfig {
            model: PathBuf::new(),
            engine: delayline_engine::Options::default(),
            slots: 1,
            address: address.parse().expect("an address"),
            keys: key.map(str::to_owned).into_iter().collect(),
            insecure,
            origins: Vec::new(),
            aliases: Vec::new(),
            strict_model: false,
            thinking_budget: None,
            chat_template: None,
            kv: None,
            kv_scope: KvScope::Key,
            limits: Limits::default(),
        }
    }

    #[test]
    fn times_are_counted_in_laps_unless_given() {
        let limits = Limits::default();
        let s = Duration::from_secs;
        assert_eq!(
            (limits.queue_time(0.1), limits.request_time(0.1, 4096)),
            (s(120), s(1800))
        );
        assert_eq!(
            (limits.queue_time(8.0), limits.request_time(8.0, 4096)),
            (s(2048), s(65_536))
        );
        let given = Limits {
            queue_time: Some(s(1)),
            request_time: Some(s(2)),
            ..limits
        };
        assert_eq!(
            (given.queue_time(8.0), given.request_time(8.0, 4096)),
            (s(1), s(2))
        );
    }

    #[test]
    fn nobody_is_let_in_by_accident() {
        for (address, key, insecure, fine) in [
            ("127.0.0.1:80", None, false, true),
            ("[::1]:80", None, false, true),
            ("0.0.0.0:80", None, false, false),
            ("[::]:80", None, false, false),
            ("192.168.1.2:80", None, false, false),
            ("0.0.0.0:80", Some("secret-key"), false, true),
            ("0.0.0.0:80", None, true, true),
            ("127.0.0.1:80", Some("short"), false, false),
            ("127.0.0.1:80", Some("with a space"), false, false),
        ] {
            let checked = config(address, key, insecure).check();
            assert_eq!(checked.is_ok(), fine, "{address} {key:?} {insecure}");
        }
        for (origin, fine) in [
            ("https://example.org", true),
            ("http://localhost:5173", true),
            ("example.org", false),
            ("https://example.org/", false),
            ("app://obsidian.md", true),
            ("tauri://localhost", true),
            ("chrome-extension://abcdefgh", true),
            ("*", false),
            ("null", false),
            ("://host", false),
            ("a b://host", false),
        ] {
            let config = ServerConfig {
                origins: vec![origin.into()],
                ..config("127.0.0.1:80", None, false)
            };
            assert_eq!(config.check().is_ok(), fine, "{origin}");
        }
    }
}
