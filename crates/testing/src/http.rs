//! An HTTP server for tests: sends the replies that a test gives it, can cut them off, and
//! records requests.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A request.
#[derive(Clone, Debug)]
pub struct HttpRequest {
    /// The request target.
    pub path: String,
    /// Header values by their names in lower case.
    pub headers: BTreeMap<String, String>,
}

impl HttpRequest {
    /// The range of bytes requested: the first byte, and the end (exclusive).
    pub fn range(&self) -> Option<(usize, usize)> {
        let (from, until) = self
            .headers
            .get("range")?
            .strip_prefix("bytes=")?
            .split_once('-')?;
        Some((from.parse().ok()?, until.parse::<usize>().ok()? + 1))
    }
}

/// A reply.
#[derive(Clone, Debug, Default)]
pub struct HttpReply {
    /// The status code, such as 200.
    pub status: u16,
    /// Headers other than `content-length` and `connection`.
    pub headers: Vec<(String, String)>,
    /// The body; `content-length` is its length.
    pub body: Vec<u8>,
    /// If set, only this many bytes of the body are sent.
    pub cut: Option<usize>,
}

/// A file in the description of a repository on the Hugging Face hub.
#[derive(Clone, Copy, Debug)]
pub struct FakeHubFile<'a> {
    /// Path within the repository.
    pub name: &'a str,
    /// Length in bytes.
    pub len: usize,
    /// SHA-256 in hexadecimal digits.
    pub sha256: &'a str,
}

impl HttpReply {
    /// A reply without a body.
    pub fn status(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    /// The bytes of a file that are requested: a range of them, or all.
    pub fn file(request: &HttpRequest, bytes: &[u8]) -> Self {
        let Some((from, until)) = request.range() else {
            return Self {
                body: bytes.to_vec(),
                ..Self::status(200)
            };
        };
        if from >= bytes.len() {
            return Self::status(416);
        }
        let until = until.min(bytes.len());
        let range = format!("bytes {from}-{}/{}", until - 1, bytes.len());
        Self {
            headers: vec![("content-range".into(), range)],
            body: bytes[from..until].to_vec(),
            ..Self::status(206)
        }
    }

    /// The hub's description of a repository with these files.
    pub fn hub_repository(commit: &str, files: &[FakeHubFile<'_>]) -> Self {
        let file = |FakeHubFile { name, len, sha256 }: &FakeHubFile<'_>| {
            format!(
                r#"{{"rfilename": "{name}", "size": {len}, "blobId": "1",
                    "lfs": {{"sha256": "{sha256}", "size": {len}, "pointerSize": 134}}}}"#
            )
        };
        let files: Vec<String> = files.iter().map(file).collect();
        let files = files.join(",");
        let body = format!(r#"{{"id": "x", "sha": "{commit}", "siblings": [{files}]}}"#);
        Self {
            body: body.into_bytes(),
            ..Self::status(200)
        }
    }
}

/// A server on this machine; one request per connection.
#[derive(Debug)]
pub struct FakeServer {
    /// Its address, `http://127.0.0.1:PORT`.
    pub endpoint: String,
    asked: Arc<Mutex<Vec<HttpRequest>>>,
}

impl FakeServer {
    /// Starts a server that replies with `answer`. It runs until the test's process ends.
    ///
    /// # Panics
    /// If no port can be bound.
    pub fn start(answer: impl Fn(&HttpRequest) -> HttpReply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if let Some(request) = read(&stream) {
                    log.lock().expect("a list").push(request.clone());
                    send(stream, answer(&request));
                }
            }
        });
        Self { endpoint, asked }
    }

    /// The requests since this was last called.
    ///
    /// # Panics
    /// If the server's thread panicked.
    pub fn asked(&self) -> Vec<HttpRequest> {
        std::mem::take(&mut *self.asked.lock().expect("a list"))
    }
}

fn read(stream: &TcpStream) -> Option<HttpRequest> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let first = lines.next()?;
    let headers = lines.take_while(|line| !line.is_empty());
    let headers = headers.filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    });
    Some(HttpRequest {
        path: first.split(' ').nth(1)?.to_owned(),
        headers: headers.collect(),
    })
}

fn send(mut stream: TcpStream, reply: HttpReply) {
    let mut head = format!("HTTP/1.1 {} x\r\nconnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    let _ = write!(head, "content-length: {}\r\n\r\n", reply.body.len());
    let body = &reply.body[..reply.cut.unwrap_or(reply.body.len())];
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(body);
}
