//! The KV cache on disk: kept by `run`, shared by servers over a folder, and read only.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};

use common::{command, delayline, model, objects, scratch, stderr, text};
use serde_json::{Value, json};

const SAID: &str = "A delay line was a tube of mercury in which pulses of sound went round. ";

/// The figures at the end of `run`.
fn run(folder: &Path, prompt: &str, more: &[&str]) -> Value {
    let mut args = vec![
        model(),
        "-p".into(),
        prompt.into(),
        "--kv-cache".into(),
        text(folder),
    ];
    args.extend(more.iter().map(|arg| (*arg).to_owned()));
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let out = delayline(
        "run --memory 180MiB --ctx 1024 -n 8 --temp 0 --raw --json",
        &args,
    );
    assert!(out.status.success(), "{}", stderr(&out));
    objects(&out).pop().expect("figures")
}

#[test]
fn what_was_said_is_found_again_by_another_run() {
    let dir = scratch();
    let folder = dir.path().join("kv");
    let prompt = SAID.repeat(12);
    let first = run(&folder, &prompt, &[]);
    assert_eq!(first["cached_tokens"], 0);
    let tokens = first["prompt_tokens"].as_u64().expect("counted");
    assert!(tokens > 150, "{first}");
    let again = run(&folder, &prompt, &[]);
    assert_eq!(again["cached_tokens"].as_u64(), Some(tokens - 1));
    assert_eq!(again["text"], first["text"]);
    assert!(again["line"]["laps"].as_u64() < first["line"]["laps"].as_u64());
    // A longer prompt finds all of the earlier one, the answer included.
    let longer = format!("{prompt}{}", first["text"].as_str().expect("text"));
    let on = run(&folder, &longer, &[]);
    assert!(on["cached_tokens"].as_u64() >= Some(tokens), "{on}");
    // A cache of another number format finds nothing of it.
    let other = run(&folder, &prompt, &["--kv-type", "q8_0"]);
    assert_eq!(other["cached_tokens"], 0);
    let out = delayline("kv stat --json", &[&text(&folder)]);
    let stat = objects(&out).pop().expect("figures");
    assert!(
        stat["written_today"].as_u64() >= stat["bytes"].as_u64(),
        "{stat}"
    );
}

#[test]
fn a_day_that_is_used_up_and_a_folder_that_is_read_keep_nothing_new() {
    let dir = scratch();
    let folder = dir.path().join("kv");
    let known = SAID.repeat(12);
    run(&folder, &known, &[]);
    let new = format!("Listen. {known}");
    for option in [&["--kv-write-per-day", "64KiB"][..], &["--kv-read-only"]] {
        let found = run(&folder, &known, option)["cached_tokens"].as_u64();
        assert!(found > Some(100), "{option:?} {found:?}");
        for _ in 0..2 {
            assert_eq!(run(&folder, &new, option)["cached_tokens"], 0, "{option:?}");
        }
    }
    let refused = delayline(
        "run -p x --kv-read-only --memory 180MiB",
        &[&model(), "--kv-cache", &text(&dir.path().join("gone"))],
    );
    assert!(!refused.status.success() && stderr(&refused).contains("gone"));
}

/// A server that shares a folder with others.
struct Server {
    child: Child,
    address: String,
    /// Kept open, so that it can still print.
    _said: BufReader<ChildStdout>,
}

impl Server {
    fn start(dir: &Path, name: &str, more: &[&str]) -> Self {
        let own = text(&dir.join(name));
        let mut args = vec![model(), "--kv-cache".to_owned(), own];
        args.extend(more.iter().map(|arg| (*arg).to_owned()));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut child = command("serve --memory 220MiB --ctx 1024 --port 0", &args)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the program can be started");
        let mut said = BufReader::new(child.stdout.take().expect("piped"));
        let address = loop {
            let mut line = String::new();
            assert!(
                said.read_line(&mut line).expect("text") > 0,
                "it ended without an address"
            );
            if let Some((_, address)) = line.trim().split_once("http://") {
                break address.to_owned();
            }
        };
        Self {
            child,
            address,
            _said: said,
        }
    }

    /// Asks for an answer; returns how many tokens of the prompt were found.
    fn ask(&self, prompt: &str) -> u64 {
        let body = json!({"prompt": prompt, "max_tokens": 2, "temperature": 0}).to_string();
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        let ask = format!(
            "POST /v1/completions HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        stream.write_all(ask.as_bytes()).expect("it is sent");
        let mut reply = String::new();
        stream.read_to_string(&mut reply).expect("text");
        let (head, body) = reply.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("HTTP/1.1 200"), "{reply}");
        let answer: Value = serde_json::from_str(body).expect("JSON");
        let cached = &answer["usage"]["prompt_tokens_details"]["cached_tokens"];
        cached.as_u64().unwrap_or(0)
    }

    fn end(mut self) {
        common::signal(&self.child, "-TERM");
        assert_eq!(self.child.wait().expect("it ends").code(), Some(0));
    }

    /// The program that reaches the shared store for it.
    fn helper(&self) -> Option<String> {
        let path = format!("/proc/{0}/task/{0}/children", self.child.id());
        let children = fs::read_to_string(path).expect("it runs");
        children.split_whitespace().next().map(str::to_owned)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn confined_servers_share_a_folder_through_a_program_that_is_not() {
    let dir = scratch();
    let (secret, place) = (
        text(&dir.path().join("secret")),
        text(&dir.path().join("shared")),
    );
    fs::write(&secret, "all servers of this test know this\n").expect("written");
    let share = ["--kv-shared", &place, "--kv-secret", &secret];
    let prompt = SAID.repeat(12);
    let one = Server::start(dir.path(), "one", &share);
    assert_eq!(one.ask(&prompt), 0);
    one.end();
    let two = Server::start(dir.path(), "two", &share);
    assert!(two.ask(&prompt) >= 128);
    // Without the helper it still answers, and finds the blocks of its own folder.
    let helper = two.helper().expect("it was started");
    let killed = std::process::Command::new("kill")
        .args(["-KILL", &helper])
        .status();
    assert!(killed.expect("there is a kill").success());
    assert!(two.ask(&format!("{prompt} And?")) >= 128);
    assert_eq!(two.ask(&format!("Listen. {prompt}")), 0);
    two.end();
    let other = text(&dir.path().join("other"));
    fs::write(&other, "a secret of somebody else").expect("written");
    let folder = text(&dir.path().join("three"));
    for (more, words) in [
        (
            &["--kv-shared", &place, "--kv-secret", &other][..],
            "another secret than that",
        ),
        (&["--kv-shared", &place][..], "--kv-secret"),
        (
            &["--kv-shared", "ftp://host", "--kv-secret", &secret][..],
            "s3://BUCKET/PREFIX",
        ),
    ] {
        let mut args = vec![model(), "--kv-cache".to_owned(), folder.clone()];
        args.extend(more.iter().map(|arg| (*arg).to_owned()));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let out = delayline("serve --memory 220MiB --port 0", &args);
        assert!(
            !out.status.success() && stderr(&out).contains(words),
            "{}",
            stderr(&out)
        );
    }
}
