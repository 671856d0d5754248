//! A server for the tests of those who fetch: answers as it is told, cuts off where it is
//! told, and remembers what it was asked.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A request.
#[derive(Clone, Debug)]
pub struct HttpRequest {
    /// Its target.
    pub path: String,
    /// Names in small letters.
    pub headers: BTreeMap<String, String>,
}

impl HttpRequest {
    /// The bytes of a file that are asked for.
    pub fn range(&self) -> Option<(usize, usize)> {
        let (from, until) = self
            .headers
            .get("range")?
            .strip_prefix("bytes=")?
            .split_once('-')?;
        Some((from.parse().ok()?, until.parse::<usize>().ok()? + 1))
    }
}

/// An answer.
#[derive(Clone, Debug, Default)]
pub struct HttpReply {
    /// Such as 200.
    pub status: u16,
    /// Beside the length.
    pub headers: Vec<(String, String)>,
    /// As its length says.
    pub body: Vec<u8>,
    /// So many bytes of the body are sent, whatever its length says.
    pub cut: Option<usize>,
}

/// A server on this machine that answers so, one request a connection.
#[derive(Debug)]
pub struct FakeServer {
    /// Its address, `http://127.0.0.1:PORT`.
    pub endpoint: String,
    asked: Arc<Mutex<Vec<HttpRequest>>>,
}

impl FakeServer {
    /// Starts it, for as long as the test runs.
    ///
    /// # Panics
    /// Where no port can be had.
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

    /// What it was asked since this was last called.
    ///
    /// # Panics
    /// When answering panicked.
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
