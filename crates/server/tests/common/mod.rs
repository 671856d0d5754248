//! Helpers of the server's tests: servers on ports that the system chooses, and a client so
//! simple that it can misbehave.
#![allow(dead_code, reason = "each test program uses its part")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use delayline_engine::{Options, Way};
use delayline_server::{Handle, KvScope, Limits, ServerConfig};
use serde_json::{Value, json};

/// The demo model, which `make test` fetches.
pub fn demo_model() -> PathBuf {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/SmolLM2-135M-Instruct.Q4_1.gguf");
    assert!(
        path.exists(),
        "the demo model is missing: run scripts/fetch-demo-model"
    );
    path
}

/// The demo model's name in the API.
pub const MODEL: &str = "SmolLM2-135M-Instruct.Q4_1";

/// A lock for one server at a time, because budgets count the whole process.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A server of the demo model, most of whose weights are streamed. The budget has room for
/// what earlier servers have left in the process; tests of `delayline serve` check what one
/// server takes.
pub fn config() -> ServerConfig {
    ServerConfig {
        model: demo_model(),
        engine: Options {
            memory: Some(4 << 30),
            weights: Some(48 << 20),
            way: Way::Streamed,
            // The medium is slower than one thread, and on a busy machine several threads
            // would wait for each other.
            threads: Some(1),
            ctx: Some(1024),
            ubatch: Some(32),
            ..Options::default()
        },
        slots: 4,
        address: "127.0.0.1:0".parse().expect("an address"),
        keys: Vec::new(),
        insecure: false,
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

/// Starts a server.
pub fn start(config: ServerConfig) -> (Handle, Client) {
    let handle = delayline_server::start(config).unwrap_or_else(|error| panic!("{error}"));
    let client = Client(handle.started().address);
    (handle, client)
}

/// A client of one server.
#[derive(Clone, Copy, Debug)]
pub struct Client(pub SocketAddr);

/// A response.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The head, as sent.
    pub head: String,
    /// The body, without the framing of chunks.
    pub body: String,
}

impl Reply {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

impl Client {
    /// A connection.
    pub fn connect(&self) -> TcpStream {
        TcpStream::connect(self.0).expect("the server listens")
    }

    /// Sends a request without waiting for the response.
    pub fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> TcpStream {
        let mut stream = self.connect();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
            self.0,
            body.len()
        );
        // A server that refuses early may close the connection before all is sent.
        let _ = stream.write_all(head.as_bytes());
        let _ = stream.write_all(body.as_bytes());
        stream
    }

    /// Sends a request and waits for the response.
    pub fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Reply {
        read(&mut self.send(method, path, headers, body))
    }

    /// Sends a `GET` and waits.
    pub fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, "", "")
    }

    /// Sends JSON without waiting for the response.
    pub fn send_json(&self, path: &str, body: &Value) -> TcpStream {
        self.send("POST", path, JSON, &body.to_string())
    }

    /// Sends JSON and waits.
    pub fn post(&self, path: &str, body: &Value) -> Reply {
        read(&mut self.send_json(path, body))
    }

    /// A figure of `/metrics`.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").body;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("{name} is not in\n{text}"))
            .parse()
            .expect("a figure")
    }

    /// Waits until a figure of `/metrics` is `wanted`.
    pub fn until(&self, name: &str, wanted: impl Fn(f64) -> bool) {
        while !wanted(self.metric(name)) {
            std::thread::yield_now();
        }
    }
}

/// The header of JSON.
pub const JSON: &str = "Content-Type: application/json\r\n";

/// The path of chats.
pub const CHAT: &str = "/v1/chat/completions";

/// Reads a reply to its end.
pub fn read(stream: &mut TcpStream) -> Reply {
    let mut bytes = Vec::new();
    // A reset of the connection ends the reply as well.
    let _ = stream.read_to_end(&mut bytes);
    parse(&bytes).unwrap_or_else(|| panic!("no reply: {:?}", String::from_utf8_lossy(&bytes)))
}

/// Parses a reply.
pub fn parse(bytes: &[u8]) -> Option<Reply> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let body = if head
        .to_ascii_lowercase()
        .contains("transfer-encoding: chunked")
    {
        unchunk(body)
    } else {
        body.to_owned()
    };
    Some(Reply {
        status,
        head: head.to_owned(),
        body,
    })
}

fn unchunk(mut body: &str) -> String {
    let mut out = String::new();
    while let Some((len, rest)) = body.split_once("\r\n") {
        let Ok(len) = usize::from_str_radix(len.trim(), 16) else {
            break;
        };
        if len == 0 || rest.len() < len {
            break;
        }
        out.push_str(&rest[..len]);
        body = rest[len..].strip_prefix("\r\n").unwrap_or("");
    }
    out
}

/// The data of server-sent events.
pub fn events(body: &str) -> Vec<&str> {
    body.lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .collect()
}

/// A greedy chat of one turn.
pub fn chat(text: &str, tokens: usize) -> Value {
    json!({
        "model": MODEL,
        "messages": [{"role": "user", "content": text}],
        "max_tokens": tokens,
        "temperature": 0,
    })
}

/// A body with a field added or replaced.
pub fn with(mut body: Value, name: &str, value: Value) -> Value {
    body[name] = value;
    body
}

/// A streamed chat that the model does not end by itself.
pub fn endless(tokens: usize) -> Value {
    let grammar = json!({"type": "json_schema", "json_schema": {"name": "x", "schema":
        {"type": "array", "items": {"enum": [1]}, "minItems": 1000}}});
    let body = with(chat("Count.", tokens), "response_format", grammar);
    with(body, "stream", json!(true))
}

/// Reads until the text has arrived.
pub fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let (mut seen, mut byte) = (Vec::new(), [0]);
    while !String::from_utf8_lossy(&seen).contains(text) {
        match stream.read(&mut byte) {
            Ok(1) => seen.push(byte[0]),
            _ => panic!("{text:?} never came: {:?}", String::from_utf8_lossy(&seen)),
        }
    }
    String::from_utf8_lossy(&seen).into_owned()
}
