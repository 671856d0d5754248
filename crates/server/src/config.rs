//! What a server is told at its start, and what it refuses at once.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

/// How to serve a model.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The model's file.
    pub model: PathBuf,
    /// How to run it; `seqs` is set by [`ServerConfig::riders`], `reserve` by the server.
    pub engine: delayline_llama::Options,
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
    /// What clients may take.
    pub limits: Limits,
}

/// What clients may take together or each.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Requests that wait for a place.
    pub queue: usize,
    /// How long one may wait.
    pub queue_time: Duration,
    /// How long one may take in all.
    pub request_time: Duration,
    /// Bytes of a body.
    pub body: usize,
    /// Bytes of all bodies that are being received or read, together.
    pub bodies: usize,
    /// Bytes of a request's head.
    pub head: usize,
    /// How long a client may take to send its head or its body, or to take what
    /// it is sent.
    pub transfer_time: Duration,
    /// Connections at the same time.
    pub connections: usize,
    /// Listeners of `/live` at the same time.
    pub listeners: usize,
    /// Pieces of an answer that wait for a slow reader; then its sequence waits.
    pub pieces: usize,
    /// How long running answers may go on after the server was told to stop.
    pub drain_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queue: 64,
            queue_time: Duration::from_secs(120),
            request_time: Duration::from_secs(1800),
            body: 256 << 10,
            bodies: 1 << 20,
            head: 16 << 10,
            transfer_time: Duration::from_secs(30),
            connections: 128,
            listeners: 16,
            pieces: 64,
            drain_time: Duration::from_secs(30),
        }
    }
}

impl Limits {
    /// What all of this may take of the budget, in bytes: heads and buffers of the
    /// connections, bodies with what reading makes of them, answers that wait.
    pub fn reserve(&self) -> u64 {
        let buffers = self.connections * self.head;
        let bodies = self.bodies * PARSED;
        (buffers + bodies + THREADS) as u64
    }
}

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
    #[error("the origin `{0}` must look like https://example.org, with nothing after it")]
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
    Runtime(#[from] delayline_llama::Error),
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
        for origin in &self.origins {
            let host = origin
                .strip_prefix("https://")
                .or_else(|| origin.strip_prefix("http://"));
            let fine = host.is_some_and(|host| {
                !host.is_empty() && host.bytes().all(|b| b.is_ascii_graphic() && b != b'/')
            });
            if !fine {
                return Err(Error::Origin(origin.clone()));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(address: &str, key: Option<&str>, insecure: bool) -> ServerConfig {
        ServerConfig {
            model: PathBuf::new(),
            engine: delayline_llama::Options::default(),
            riders: 1,
            address: address.parse().expect("an address"),
            keys: key.map(str::to_owned).into_iter().collect(),
            insecure,
            origins: Vec::new(),
            limits: Limits::default(),
        }
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
            ("*", false),
        ] {
            let config = ServerConfig {
                origins: vec![origin.into()],
                ..config("127.0.0.1:80", None, false)
            };
            assert_eq!(config.check().is_ok(), fine, "{origin}");
        }
    }
}
