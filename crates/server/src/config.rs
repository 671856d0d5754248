//! What a server is told at its start, and what it refuses at once.

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
    /// How to run it; `seqs` is set by [`ServerConfig::riders`], `reserve` by the server.
    pub engine: delayline_engine::Options,
    /// Most sequences that share a lap.
    pub riders: u32,
    /// Where to listen; port 0 lets the system choose.
    pub address: SocketAddr,
    /// The keys of which a client must have one; none asks for none.
    pub keys: Vec<String>,
    /// Listen beyond this machine even without a key.
    pub insecure: bool,
    /// Origins whose pages may use the API, such as `https://example.org`.
    pub origins: Vec<String>,
    /// Other names by which clients may ask for the model.
    pub aliases: Vec<String>,
    /// Whether requests for other names are refused, and not answered by the one model.
    pub strict_model: bool,
    /// Maximum number of tokens of thought where a request does not say; none is no limit.
    pub thinking_budget: Option<usize>,
    /// A chat template, in Jinja, in place of the model's own.
    pub chat_template: Option<String>,
    /// Where what was computed is kept, to be found again.
    pub kv: Option<delayline_llama::KvCache>,
    /// Who finds what was computed for others, in memory and there.
    pub kv_scope: KvScope,
    /// What clients may take.
    pub limits: Limits,
}

/// Who finds what was computed for others, and is told so by `cached_tokens`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KvScope {
    /// Whoever has the same key.
    #[default]
    Key,
    /// Everybody.
    Server,
}

/// What clients may take together or each.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Requests that wait for a place.
    pub queue: usize,
    /// How long one may wait; without it, so many laps.
    pub queue_time: Option<Duration>,
    /// How long one may take in all; without it, so many laps.
    pub request_time: Option<Duration>,
    /// Bytes of a body; without it, what suits the context.
    pub body: Option<usize>,
    /// Bytes of all bodies that are being received or read, together; without it, what
    /// suits the longest.
    pub bodies: Option<usize>,
    /// Bytes of a request's head.
    pub head: usize,
    /// How long a client may take to send its first head, and how long nothing of a
    /// body may come.
    pub head_time: Duration,
    /// How long a client may take to send its body or its next head, or to take what
    /// it is sent.
    pub transfer_time: Duration,
    /// Connections at the same time; one that says nothing makes room for others.
    pub connections: usize,
    /// Listeners of `/live` at the same time.
    pub listeners: usize,
    /// Pieces of an answer that wait for a slow reader; then its sequence waits.
    pub pieces: usize,
    /// How long a lap may take before it counts as hung; without it a multiple of what
    /// it usually takes.
    pub lap_time: Option<Duration>,
    /// How long running answers may go on after the server was told to stop.
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
    /// How long a request may wait where a lap takes `lap_s` seconds: as long as an
    /// answer of some length takes, and two minutes at least.
    pub fn queue_time(&self, lap_s: f64) -> Duration {
        self.queue_time
            .unwrap_or_else(|| laps(QUEUE_LAPS, lap_s, QUEUE_LEAST_S))
    }

    /// How long a request may take in all, where it may have `ctx` tokens: as long as the
    /// longest answer takes beside others, and half an hour at least.
    pub fn request_time(&self, lap_s: f64, ctx: usize) -> Duration {
        let most = (2 * ctx) as f64;
        self.request_time
            .unwrap_or_else(|| laps(most, lap_s, REQUEST_LEAST_S))
    }

    /// Bytes of a body, where a sequence may have so many tokens: in some scripts a
    /// token is five characters, and clients write each in six bytes.
    pub fn body_bytes(&self, ctx: usize) -> usize {
        self.body.unwrap_or_else(|| (32 * ctx).max(256 << 10))
    }

    /// Bytes of all bodies together: of four short ones or two long ones.
    pub fn bodies_bytes(&self, ctx: usize) -> usize {
        let bodies = self.bodies;
        bodies.unwrap_or_else(|| (2 * self.body_bytes(ctx)).max(1 << 20))
    }

    /// What all of this may take of the budget, in bytes, where a sequence may have
    /// so many tokens: heads, buffers and short bodies of the connections, long
    /// bodies, what reading makes of those that are read at a time, prompts that wait.
    pub fn reserve(&self, ctx: usize) -> u64 {
        let connections = self.connections * (self.head + intake::OWN);
        let read = TASKS * self.body_bytes(ctx) * PARSED;
        let queued = self.queue * ctx * size_of::<i32>();
        (connections + self.bodies_bytes(ctx) + read + queued + THREADS) as u64
    }
}

/// Laps that a request waits for a place.
const QUEUE_LAPS: f64 = 256.0;

/// The least times, in seconds, in a queue and for a request.
const QUEUE_LEAST_S: f64 = 120.0;
const REQUEST_LEAST_S: f64 = 1800.0;

/// So many laps, and no less than that.
fn laps(count: f64, lap_s: f64, least_s: f64) -> Duration {
    Duration::from_secs_f64((count * lap_s).clamp(least_s, 1e8))
}

/// Threads that take requests apart.
pub const TASKS: usize = 2;

/// What a byte of a body becomes while it is parsed, rendered and tokenized.
const PARSED: usize = 8;

/// The runtime's threads, and what its allocator keeps for them.
const THREADS: usize = 4 << 20;

/// Why no server starts, or why one ended.
#[derive(Debug, Error)]
pub enum Error {
    /// Others could use the machine without a key.
    #[error(
        "{0} can be reached from other machines: set a key with --api-key, \
         or say --insecure if whoever reaches it may use it"
    )]
    Open(IpAddr),
    /// A key that cannot be sent in a header, or can be guessed.
    #[error("a key must have 8 to 256 visible ASCII characters")]
    Key,
    /// An origin that no browser would send.
    #[error(
        "the origin `{0}` must look like https://example.org or app://name, with nothing after \
         it; `null` cannot be allowed, because pages of anybody can send it"
    )]
    Origin(String),
    /// The address is taken, or not this machine's.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// The system's words.
        source: std::io::Error,
    },
    /// The model cannot be run.
    #[error(transparent)]
    Runtime(#[from] delayline_engine::Error),
    /// Threads or timers were refused.
    #[error("the system refused what a server needs: {0}")]
    System(#[from] std::io::Error),
    /// The thread that computes has died.
    #[error("the engine has ended by a defect; see above")]
    Engine,
}

impl ServerConfig {
    /// Refuses what would be unsafe or could never work.
    ///
    /// # Errors
    /// What is wrong.
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

/// Whether a browser or an app could send this as its origin: a scheme and a host,
/// with nothing after it. Not `null`, which pages of anybody can send.
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
            riders: 1,
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
