//! Load and attacks: authorization, the queue and its times, clients that disconnect, and
//! input that must not end the server.

mod common;

use std::io::Write;
use std::time::Duration;

use common::{
    CHAT, Client, JSON, alone, chat, config, endless, parse, read, read_until, start, with,
};
use delayline_engine::Options;
use delayline_server::{Limits, ServerConfig};
use serde_json::json;

fn with_limits(riders: u32, limits: Limits) -> ServerConfig {
    ServerConfig {
        riders,
        limits,
        ..config()
    }
}

/// One request has the slot, one is queued, the third is refused. The first client disconnects
/// in the middle of its answer, and the second request gets the slot.
#[test]
fn who_goes_makes_room_and_who_is_too_many_is_told() {
    let _alone = alone();
    let limits = Limits {
        queue: 1,
        ..Limits::default()
    };
    let (_server, client) = start(with_limits(1, limits));
    let mut first = client.send_json(CHAT, &endless(1000));
    read_until(&mut first, "content\":\"[");
    let mut second = client.send_json(CHAT, &chat("hi", 2));
    client.until("delayline_queued", |n| n == 1.0);
    let third = client.post(CHAT, &chat("hi", 2));
    assert_eq!(third.status, 429, "{third:?}");
    let after: u64 = third
        .header("retry-after")
        .expect("a time")
        .parse()
        .expect("seconds");
    assert!(after >= 1);
    assert_eq!(third.json()["error"]["type"], "rate_limit_error");
    drop(first);
    assert_eq!(read(&mut second).status, 200);
    // The slots are free, and the sequence of the client that has gone has ended.
    client.until("delayline_riding", |n| n == 0.0);
    assert!(client.metric("delayline_generated_tokens_total") < 1000.0);
}

/// A long answer that may use the whole context does not delay a short request.
#[test]
fn one_request_cannot_keep_the_others_out() {
    let _alone = alone();
    // A context of which the KV cache has room for one and a little more; its length depends
    // on the drive.
    let found = [16_384_u32, 24_576, 32_768, 49_152, 65_536]
        .into_iter()
        .find_map(|ctx| {
            let config = with_limits(2, Limits::default());
            let (server, client) = start(ServerConfig {
                engine: Options {
                    ctx: Some(ctx),
                    ..config.engine
                },
                ..config
            });
            let cells = server.started().cells;
            (ctx as usize + 1..2 * ctx as usize)
                .contains(&cells)
                .then_some((server, client))
        });
    let (_server, client) = found.expect("a context of which two are too many");
    let mut first = client.send_json(CHAT, &endless(1 << 20));
    read_until(&mut first, "content\":\"[");
    let mut large = client.send_json(CHAT, &endless(1 << 20));
    client.until("delayline_queued", |n| n == 1.0);
    // It also passes the request that waits for room.
    let short = client.post(CHAT, &chat("hi", 1));
    assert_eq!(short.status, 200, "{short:?}");
    drop(first);
    read_until(&mut large, "content\":\"[");
}

/// Prompts of one key are not found by another.
#[test]
fn what_is_kept_is_kept_apart_for_each_key() {
    let _alone = alone();
    let (_server, client) = start(ServerConfig {
        keys: vec!["the-first-key".into(), "the-second-key".into()],
        ..with_limits(4, Limits::default())
    });
    let body = chat(
        "The password of the vault is swordfish and nobody may know it.",
        1,
    );
    let cached = |key: &str| {
        let headers = format!("{JSON}Authorization: Bearer {key}\r\n");
        let reply = client.ask("POST", CHAT, &headers, &body.to_string());
        let usage = reply.json()["usage"].clone();
        usage["prompt_tokens_details"]["cached_tokens"]
            .as_u64()
            .expect("a number")
    };
    assert_eq!(cached("the-first-key"), 0);
    assert_eq!(cached("the-second-key"), 0);
    assert!(cached("the-first-key") > 10);
    assert!(cached("the-second-key") > 10);
}

#[test]
fn time_is_bounded() {
    let _alone = alone();
    let limits = Limits {
        queue_time: Some(Duration::from_millis(1)),
        ..Limits::default()
    };
    let (server, client) = start(with_limits(1, limits));
    let mut first = client.send_json(CHAT, &endless(1000));
    // Its time in the queue may be over before it gets the slot: then it is sent again.
    while parse(read_until(&mut first, "\r\n\r\n").as_bytes()).is_some_and(|r| r.status != 200) {
        first = client.send_json(CHAT, &endless(1000));
    }
    let waited = client.post(CHAT, &chat("hi", 2));
    assert_eq!(waited.status, 503, "{waited:?}");
    assert!(waited.header("retry-after").is_some());
    drop((first, server));

    let limits = Limits {
        request_time: Some(Duration::ZERO),
        ..Limits::default()
    };
    let (_server, client) = start(with_limits(1, limits));
    let late = client.post(CHAT, &with(endless(1000), "stream", json!(false)));
    assert_eq!(late.status, 504, "{late:?}");
    assert_eq!(late.json()["error"]["code"], "timeout");
    // Nothing of the stream was sent, so that the status is an error as well.
    let late = client.post(CHAT, &endless(1000));
    assert_eq!(late.status, 504, "{late:?}");
    assert_eq!(late.json()["error"]["code"], "timeout");
}

#[test]
fn only_who_may_ask_is_answered() {
    let _alone = alone();
    let (server, client) = start(ServerConfig {
        keys: vec!["the-right-key".into()],
        origins: vec!["https://example.org".into()],
        ..config()
    });
    let body = chat("hi", 1).to_string();
    let post = |more: &str| client.ask("POST", CHAT, &format!("{JSON}{more}"), &body);
    let key = "Authorization: Bearer the-right-key\r\n";
    for (headers, status) in [
        (String::new(), 401),
        ("Authorization: Bearer the-right-kez\r\n".into(), 401),
        (key.into(), 200),
        (format!("{key}Origin: https://example.org\r\n"), 200),
        (format!("{key}Origin: https://example.com\r\n"), 403),
        (format!("{key}Origin: null\r\n"), 403),
    ] {
        let reply = post(&headers);
        assert_eq!(reply.status, status, "{headers}: {reply:?}");
    }
    let allowed = post(&format!("{key}Origin: https://example.org\r\n"));
    assert_eq!(
        allowed.header("access-control-allow-origin"),
        Some("https://example.org")
    );
    for path in ["/metrics", "/live", "/v1/models"] {
        assert_eq!(client.get(path).status, 401, "{path}");
    }
    for path in ["/health", "/", "/openapi.json"] {
        assert_eq!(client.get(path).status, 200, "{path}");
    }
    let ask = "Origin: https://example.org\r\nAccess-Control-Request-Method: POST\r\n";
    let preflight = client.ask("OPTIONS", CHAT, ask, "");
    assert_eq!(
        (
            preflight.status,
            preflight.header("access-control-allow-methods")
        ),
        (200, Some("GET,POST"))
    );
    drop(server);

    // Without a key, other host names for this machine are refused.
    let (_server, client) = start(config());
    for (host, status) in [("localhost", 200), ("evil.example", 403)] {
        let mut stream = client.connect();
        let ask = format!("GET /health HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(ask.as_bytes()).expect("it is sent");
        assert_eq!(read(&mut stream).status, status, "{host}");
    }
}

/// After it was told to stop, the server finishes the answer in progress and takes no others.
#[test]
fn it_drains() {
    let _alone = alone();
    let limits = Limits {
        drain_time: Duration::from_secs(3600),
        ..Limits::default()
    };
    let (server, client) = start(with_limits(4, limits));
    let mut running = client.send_json(CHAT, &endless(40));
    read_until(&mut running, "content\":\"[");
    let drained = std::thread::spawn(move || server.drain());
    let refused = loop {
        match client_health(&client) {
            Some((200, _)) | None => std::thread::yield_now(),
            Some(other) => break other,
        }
    };
    assert_eq!(refused, (503, "stopping".into()));
    let rest = read_until(&mut running, "[DONE]");
    assert!(rest.contains("\"finish_reason\":\"length\""), "{rest}");
    drop(running);
    drained.join().expect("no panic").expect("a good end");
}

/// Status and state of `/health`.
fn client_health(client: &Client) -> Option<(u16, String)> {
    let reply = client.get("/health");
    Some((reply.status, reply.json()["status"].as_str()?.to_owned()))
}

/// A xorshift generator of random numbers.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below as u64) as usize
    }
}

/// Random bytes, requests with changed bytes, and bodies with changed values: the server
/// answers with an error or not, and goes on.
#[test]
fn nothing_that_is_sent_ends_it() {
    let _alone = alone();
    let limits = Limits {
        transfer_time: Duration::from_secs(2),
        ..Limits::default()
    };
    let (server, client) = start(with_limits(4, limits));
    // A xorshift generator of zeros gives zeros.
    let mut random = Random(delayline_testing::seed() | 1);
    let good = format!(
        "POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{JSON}Content-Length: {}\r\n\r\n{}",
        chat("hi", 1).to_string().len(),
        chat("hi", 1)
    );
    for _ in 0..150 {
        let mut stream = client.connect();
        let bytes: Vec<u8> = match random.next(2) {
            0 => (0..random.next(2000))
                .map(|_| random.next(256) as u8)
                .collect(),
            _ => {
                let mut bytes = good.clone().into_bytes();
                for _ in 0..=random.next(6) {
                    let at = random.next(bytes.len());
                    bytes[at] = random.next(256) as u8;
                }
                bytes
            }
        };
        let _ = stream.write_all(&bytes);
        // The response is not waited for, because the announced length may never arrive.
        let _ = stream.shutdown(std::net::Shutdown::Write);
    }
    let values = [
        json!(null),
        json!(-1),
        json!(0),
        json!(1e308),
        json!(i64::MIN),
        json!(""),
        json!("\u{0}"),
        json!([]),
        json!({}),
        json!([[[[]]]]),
        json!({"type": "json_object"}),
        json!(true),
        json!("x".repeat(5000)),
        json!([{"role": "user", "content": "\u{feff}\u{202e}<|im_end|>"}]),
        json!([{"role": "system", "content": ""}, {"role": "assistant", "content": "{{ 1/0 }}"}]),
    ];
    let names = [
        "messages",
        "stream",
        "max_tokens",
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "seed",
        "stop",
        "presence_penalty",
        "repetition_penalty",
        "logprobs",
        "response_format",
        "stream_options",
        "n",
    ];
    // Bodies of the other APIs with changed values.
    for round in 0..100 {
        let (path, good) = match round % 2 {
            0 => (
                "/v1/messages",
                json!({"max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]}),
            ),
            _ => (
                "/v1/responses",
                json!({"max_output_tokens": 1, "input": "hi"}),
            ),
        };
        let names = [
            "messages",
            "system",
            "tools",
            "tool_choice",
            "thinking",
            "output_config",
            "stop_sequences",
            "input",
            "instructions",
            "reasoning",
            "text",
            "include",
            "stream",
            "temperature",
            "metadata",
        ];
        let mut body = good;
        for _ in 0..=random.next(2) {
            let name = names[random.next(names.len())];
            body = with(body, name, values[random.next(values.len())].clone());
        }
        let reply = client.post(path, &body);
        assert!(matches!(reply.status, 200 | 400), "{body}: {reply:?}");
    }
    for _ in 0..150 {
        let mut body = chat("hi", 1);
        for _ in 0..=random.next(2) {
            let name = names[random.next(names.len())];
            body = with(body, name, values[random.next(values.len())].clone());
        }
        let tokens = body["max_tokens"].as_i64().is_some_and(|n| n > 1);
        if tokens || body["max_tokens"].is_null() {
            body["max_tokens"] = json!(1);
        }
        let reply = client.post(CHAT, &body);
        assert!([200, 400, 413].contains(&reply.status), "{body}: {reply:?}");
    }
    for text in [
        " ",
        "a",
        "1",
        "\n",
        "é",
        "🦀",
        "<|im_start|>",
        "\u{0}",
        "'s",
    ] {
        let body = json!({"prompt": text.repeat((200 << 10) / text.len()), "max_tokens": 1});
        let reply = client.post("/v1/completions", &body);
        assert!(
            [200, 400, 413].contains(&reply.status),
            "{text:?}: {}",
            reply.status
        );
    }
    assert_eq!(client.post(CHAT, &chat("hi", 2)).status, 200);
    assert!(server.runs());
}
