//! `delayline serve` as a process: what it says, how it ends, and that an overload
//! does not break its budget.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use common::{command, delayline, model, stderr};

/// A server on a port of the system's choice, killed at the end.
struct Serve {
    child: Child,
    address: String,
    said: String,
}

impl Serve {
    fn start(more: &[&str]) -> Self {
        let mut all = vec!["serve".to_owned(), model()];
        all.extend(["--port", "0"].map(str::to_owned));
        let all: Vec<&str> = all
            .iter()
            .map(String::as_str)
            .chain(more.iter().copied())
            .collect();
        let mut child = command("", &all)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the program can be started");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut said = String::new();
        let address = loop {
            let line = lines.next().expect("an address").expect("text");
            said.push_str(&line);
            said.push('\n');
            if let Some((_, address)) = line.split_once("http://") {
                break address.to_owned();
            }
        };
        Self {
            child,
            address,
            said,
        }
    }

    fn send(&self, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        let ask = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        let _ = stream.write_all(ask.as_bytes());
        stream
    }

    fn status(&self, name: &str) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let text = std::fs::read_to_string(path).expect("it runs");
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .expect("the figure");
        line.split_whitespace()
            .next()
            .and_then(|n| n.parse().ok())
            .expect("a number")
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn chat(text: &str, tokens: u32) -> String {
    format!(
        r#"{{"messages": [{{"role": "user", "content": "{text}"}}], "max_tokens": {tokens}, "stream": true}}"#
    )
}

#[test]
fn others_are_not_let_in_by_accident() {
    let out = delayline("serve --host 0.0.0.0 --port 0 --memory 128MiB", &[&model()]);
    assert_eq!(out.status.code(), Some(1));
    let said = stderr(&out);
    assert!(
        said.contains("--api-key") && said.contains("--insecure"),
        "{said}"
    );
}

#[test]
fn it_says_what_it_can_carry_and_ends_when_told() {
    let serve = Serve::start(&[
        "--memory",
        "144MiB",
        "--ctx",
        "512",
        "--batch",
        "4",
        "--drain-time",
        "3600",
    ]);
    for says in ["SmolLM2", "up to 4 sequences", "limit", "stream past in"] {
        assert!(serve.said.contains(says), "{says}: {}", serve.said);
    }
    let mut running = serve.send(&chat("Tell me a long story.", 30));
    let mut first = [0; 12];
    running.read_exact(&mut first).expect("an answer");
    let kill = std::process::Command::new("kill")
        .arg(serve.child.id().to_string())
        .status();
    assert!(kill.expect("kill is there").success());
    let mut rest = String::new();
    running.read_to_string(&mut rest).expect("text");
    assert!(
        rest.contains("[DONE]") && !rest.contains("\"error\""),
        "{rest}"
    );
    let mut serve = serve;
    let status = serve.child.wait().expect("it ends");
    assert_eq!(status.code(), Some(0));
}

/// Many clients at once with long prompts, grammars, broken bodies and readers that
/// do not read: what the process ever had in memory is within the budget.
#[test]
fn an_overload_keeps_the_budget() {
    let budget_kib = 160 << 10;
    let serve = Serve::start(&["--memory", "160MiB", "--ctx", "1024", "--queue", "16"]);
    let schema = r#"{"messages": [{"role": "user", "content": "A person."}], "max_tokens": 6,
        "response_format": {"type": "json_object"}}"#;
    let word = |n: usize| chat(&"word ".repeat(n), 4);
    let deep = format!("{{\"messages\": {}", "[".repeat(100_000));
    let wide = format!("{{{}\"a\":1}}", "\"a\":{},".repeat(30_000));
    let bodies = [
        word(50),
        word(300),
        word(20_000),
        schema.to_owned(),
        deep,
        wide,
    ];
    let mut statuses = std::collections::BTreeMap::new();
    for _ in 0..2 {
        let mut open: Vec<TcpStream> = Vec::new();
        let deaf: Vec<TcpStream> = (0..8).map(|_| serve.send(&chat("hi", 200))).collect();
        for at in 0..36 {
            open.push(serve.send(&bodies[at % bodies.len()]));
        }
        for mut stream in open {
            let mut reply = Vec::new();
            let _ = stream.read_to_end(&mut reply);
            let status = String::from_utf8_lossy(&reply)
                .chars()
                .skip(9)
                .take(3)
                .collect::<String>();
            *statuses.entry(status).or_insert(0) += 1;
        }
        drop(deaf);
    }
    let peak_kib = serve.status("VmHWM:");
    println!("peak {peak_kib} KiB of {budget_kib}, answers {statuses:?}");
    assert!(
        peak_kib <= budget_kib + 1024,
        "{peak_kib} KiB of {budget_kib}"
    );
    assert!(
        statuses.contains_key("200") && statuses.contains_key("429"),
        "{statuses:?}"
    );
}
