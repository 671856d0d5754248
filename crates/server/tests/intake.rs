//! Connections are served fairly: clients that send little, send it slowly or announce much
//! delay no others.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;

use common::{CHAT, JSON, alone, chat, config, read, start};
use delayline_server::{Limits, ServerConfig};

/// Connections that send `text` and then nothing.
fn silent(client: &common::Client, count: usize, text: &str) -> Vec<TcpStream> {
    let open = |_| {
        let mut stream = client.connect();
        stream.write_all(text.as_bytes()).expect("it is sent");
        stream
    };
    (0..count).map(open).collect()
}

/// Many more silent connections than there are places, and then clients that request something.
#[test]
fn who_says_little_holds_nobody_up() {
    let _alone = alone();
    let limits = Limits {
        connections: 8,
        ..Limits::default()
    };
    let (server, client) = start(ServerConfig { limits, ..config() });
    let announced = format!(
        "POST {CHAT} HTTP/1.1\r\nHost: localhost\r\n{JSON}Content-Length: 262144\r\n\r\n{{"
    );
    for text in [
        "GET /health HT",
        &announced,
        "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ] {
        let mut streams = silent(&client, 40, text);
        assert_eq!(client.get("/health").status, 200, "{text}");
        assert_eq!(client.post(CHAT, &chat("hi", 1)).status, 200, "{text}");
        // The first connection was closed to make room, so this ends.
        let _ = streams[0].read_to_end(&mut Vec::new());
    }
    assert!(server.runs());
}

#[test]
fn a_key_is_looked_at_before_the_body() {
    let _alone = alone();
    let (_server, client) = start(ServerConfig {
        keys: vec!["the-right-key".into()],
        ..config()
    });
    let mut stream = client.connect();
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{JSON}Content-Length: 200000\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("it is sent");
    assert_eq!(read(&mut stream).status, 401);
}

#[test]
fn a_body_is_as_long_as_the_context_allows() {
    for (ctx, bytes) in [(1, 256 << 10), (1024, 256 << 10), (65_536, 2 << 20)] {
        let limits = Limits::default();
        assert_eq!(limits.body_bytes(ctx), bytes);
        assert!(limits.bodies_bytes(ctx) >= 2 * bytes);
        assert!(limits.reserve(ctx) > limits.bodies_bytes(ctx) as u64);
    }
    let _alone = alone();
    let (_server, client) = start(config());
    let text = chat("hi", 1).to_string();
    let longest = 256 << 10;
    let reply = client.ask(
        "POST",
        CHAT,
        JSON,
        &(text.clone() + &" ".repeat(longest - text.len())),
    );
    assert_eq!(reply.status, 200, "{reply:?}");
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{JSON}Content-Length: {}\r\n\r\n",
        longest + 1
    );
    let mut stream = client.connect();
    stream.write_all(head.as_bytes()).expect("it is sent");
    assert_eq!(read(&mut stream).status, 413);
}
