//! `delayline serve` as a process: what it prints, how it ends, that an overload does not
//! break its budget, and that it is confined.

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::{command, delayline, model, stderr};

/// A server on a port of the system's choice, killed at the end.
struct Serve {
    child: Child,
    address: String,
    said: String,
}

impl Serve {
    fn start(more: &[&str]) -> Self {
        Self::begin(&[], more)
    }

    /// Through `before`, a program that runs the command in its arguments.
    fn begin(before: &[&str], more: &[&str]) -> Self {
        Self::with(&model(), before, more)
    }

    fn with(model: &str, before: &[&str], more: &[&str]) -> Self {
        let mut all = vec!["serve".to_owned(), model.to_owned()];
        all.extend(["--port", "0"].map(str::to_owned));
        let all: Vec<&str> = all
            .iter()
            .map(String::as_str)
            .chain(more.iter().copied())
            .collect();
        let mut command = match before {
            [] => command("", &all),
            [program, args @ ..] => {
                let mut command = Command::new(program);
                command
                    .args(args)
                    .arg(env!("CARGO_BIN_EXE_delayline"))
                    .args(all);
                command
            }
        };
        let mut child = command
            .stdin(Stdio::null())
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

    fn signal(&self, name: &str) {
        common::signal(&self.child, name);
    }

    /// The status of `/health`.
    fn health(&self) -> String {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        let ask = format!(
            "GET /health HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            self.address
        );
        stream.write_all(ask.as_bytes()).expect("it is sent");
        let mut reply = String::new();
        stream.read_to_string(&mut reply).expect("text");
        reply.chars().skip(9).take(3).collect()
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
    serve.signal("-TERM");
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

/// Under `nohup` SIGHUP stays ignored. Behind `&` in a script SIGINT is ignored as well when
/// it starts, but one that is sent has to work.
#[test]
fn an_ignored_hangup_stays_ignored_and_a_second_signal_ends_it_at_once() {
    let ignoring = ["sh", "-c", "trap '' HUP INT; exec \"$0\" \"$@\""];
    let mut serve = Serve::begin(
        &ignoring,
        &["--memory", "144MiB", "--ctx", "512", "--drain-time", "3600"],
    );
    serve.signal("-HUP");
    assert_eq!(serve.health(), "200");
    let schema = r#"{"messages": [{"role": "user", "content": "Count."}], "stream": true,
        "max_tokens": 400, "response_format": {"type": "json_schema", "json_schema": {"schema":
        {"type": "array", "items": {"enum": [1]}, "minItems": 1000}}}}"#;
    let mut running = serve.send(schema);
    running.read_exact(&mut [0; 12]).expect("an answer");
    // One thread alone takes signals, and that one never waits for a drive.
    assert_eq!(takers(serve.child.id(), 2), ["signals"]);
    serve.signal("-INT");
    while serve.health() == "200" {
        std::thread::yield_now();
    }
    serve.signal("-INT");
    let status = serve.child.wait().expect("it ends");
    assert_eq!(status.code(), Some(130));
}

/// The threads of a process that do not hold back this signal, by name.
fn takers(process: u32, signal: u32) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).expect("it runs");
    let statuses = tasks.filter_map(|task| {
        std::fs::read_to_string(task.expect("a thread").path().join("status")).ok()
    });
    let takes = |status: &String| {
        let line = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
        let blocked = u64::from_str_radix(line.expect("a mask").trim(), 16).expect("a number");
        blocked & (1 << (signal - 1)) == 0
    };
    let named = |status: String| {
        let name = status.lines().next()?.strip_prefix("Name:")?;
        Some(name.trim().to_owned())
    };
    statuses.filter(takes).filter_map(named).collect()
}

/// Before it serves there are no answers to wait for.
#[test]
fn a_start_can_be_interrupted() {
    let mut child = command("serve --port 0 --memory 144MiB", &[&model()])
        .stdout(Stdio::null())
        .spawn()
        .expect("the program can be started");
    common::interrupt(&mut child);
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
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

/// Builds `intruder.c`, which tries in every thread what a confined server may not do.
fn intruder(dir: &Path) -> Option<PathBuf> {
    let built = dir.join("intruder.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/intruder.c");
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-o"]).arg(&built).arg(source);
    match cc.status() {
        Ok(status) if status.success() => Some(built),
        other => {
            delayline_testing::cannot_run(format_args!("no C compiler: {other:?}"));
            None
        }
    }
}

/// Has every thread of a server try; returns the errors that each met, by its number, without
/// the kernel's threads.
fn intrude(serve: &Serve, out: &Path) -> BTreeMap<u32, String> {
    let tasks = format!("/proc/{}/task", serve.child.id());
    let threads = || -> Vec<u32> {
        let all = std::fs::read_dir(&tasks).expect("it runs");
        all.map(|entry| entry.expect("a thread"))
            .filter(|entry| {
                let name = std::fs::read_to_string(entry.path().join("comm"));
                name.is_ok_and(|name| !name.starts_with("iou-"))
            })
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect()
    };
    let before = threads();
    serve.signal("-USR1");
    loop {
        let text = std::fs::read_to_string(out).expect("it was written");
        let met: BTreeMap<u32, String> = text
            .split_inclusive('\n')
            .filter_map(|line| line.trim_end().split_once(' '))
            .map(|(thread, met)| (thread.parse().expect("a number"), met.to_owned()))
            .collect();
        let alive = threads();
        let left = |thread: &&u32| alive.contains(thread) && !met.contains_key(thread);
        if before.iter().filter(left).count() == 0 {
            return met;
        }
        assert_eq!(serve.health(), "200");
    }
}

#[test]
fn which_experts_are_hot_is_kept_by_a_confined_server() {
    let dir = common::scratch();
    let model = common::text(&dir.path().join("moe.gguf"));
    let hot = dir.path().join("moe.gguf.experts");
    let written = delayline("synth tiny-qwen3moe", &[&model]);
    assert!(written.status.success(), "{}", stderr(&written));
    let files = || {
        let all = std::fs::read_dir(dir.path()).expect("a folder");
        all.count()
    };
    let before = files();
    let serve = |more: &[&str], answers: usize| {
        let args = ["--memory", "60MiB", "--ctx", "128", "--threads", "1"];
        let mut serve = Serve::with(&model, &[], &[&args[..], more].concat());
        for _ in 0..answers {
            let mut reply = String::new();
            let mut stream = serve.send(&chat("Say a word.", 8));
            stream.read_to_string(&mut reply).expect("text");
            assert!(reply.contains("[DONE]"), "{reply}");
        }
        serve.signal("-TERM");
        assert!(serve.child.wait().expect("it ends").success());
    };
    // Without hot experts no file is left, nor any temporary file.
    serve(&[], 0);
    serve(&["--no-hotness"], 1);
    assert_eq!(files(), before);
    let mut last = Vec::new();
    for _ in 0..3 {
        serve(&[], 1);
        assert_eq!(files(), before + 1);
        let list = std::fs::read(&hot).expect("it is there");
        assert!(list.len() > 100 && list != last, "{} bytes", list.len());
        last = list;
    }
    serve(&["--no-hotness"], 1);
    serve(&[], 0);
    assert_eq!(std::fs::read(&hot).expect("it is there"), last);
}

/// With `--baseline mmap` pages of the model come by page faults. One that cannot come is no
/// error of a lap, but it is told, and the process ends with a status and by no signal.
#[test]
fn a_mapped_model_that_is_cut_ends_the_server_in_words() {
    let dir = common::scratch();
    let model = common::text(&dir.path().join("tiny.gguf"));
    let made = delayline("synth tiny-llama", &[&model]);
    assert!(made.status.success(), "{}", stderr(&made));
    let file = std::fs::File::options()
        .write(true)
        .open(&model)
        .expect("it is there");
    let whole = file.metadata().expect("it is there").len();
    let args = [
        "--baseline",
        "mmap",
        "--memory",
        "1GiB",
        "--ctx",
        "128",
        "--threads",
        "1",
    ];
    let told = dir.path().join("told");
    // Standard error goes to a file, by a shell that becomes the server.
    let shell = format!("exec 2>{}; exec \"$0\" \"$@\"", told.display());
    let mut serve = Serve::with(&model, &["sh", "-c", &shell], &args);
    let mut reply = String::new();
    let mut stream = serve.send(&chat("Say a word.", 2));
    stream.read_to_string(&mut reply).expect("text");
    assert!(reply.contains("[DONE]"), "{reply}");
    file.set_len(whole / 4).expect("it is cut");
    let mut stream = serve.send(&chat("Another.", 2));
    let _ = stream.read_to_string(&mut reply);
    let status = serve.child.wait().expect("it ends");
    let told = std::fs::read_to_string(told).expect("text");
    assert_eq!(status.code(), Some(1), "{status}: {told}");
    assert!(told.contains("error: a page of the model"), "{told}");
    // One that is too short from the start is refused by its header.
    let short = delayline("serve --baseline mmap --memory 1GiB --port 0", &[&model]);
    assert_eq!(short.status.code(), Some(1), "{short:?}");
    assert!(stderr(&short).contains("tiny.gguf"), "{}", stderr(&short));
}

#[test]
fn a_confined_server_opens_no_other_file_and_starts_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let Some(intruder) = intruder(dir.path()) else {
        return;
    };
    let start = |name: &str, more: &[&str]| {
        let out = dir.path().join(name);
        let preload = format!("LD_PRELOAD={}", intruder.display());
        let told = format!("INTRUDER_OUT={}", out.display());
        let more = [&["--memory", "144MiB", "--ctx", "512"], more].concat();
        (Serve::begin(&["env", &preload, &told], &more), out)
    };
    let (serve, out) = start("confined", &[]);
    let answer = |serve: &Serve| {
        let mut reply = String::new();
        let mut stream = serve.send(&chat("Say a word.", 8));
        stream.read_to_string(&mut reply).expect("text");
        assert!(reply.contains("[DONE]"), "{reply}");
    };
    answer(&serve);
    let met = intrude(&serve, &out);
    assert!(met.len() > 4, "{met:?}");
    for (thread, met) in &met {
        assert_eq!(
            met, "open=13 create=13 other=13 own=0 run=1 process=1 socket=1 code=1",
            "thread {thread}"
        );
    }
    assert!(!dir.path().join("confined.new").exists());
    answer(&serve);
    drop(serve);
    // Without the sandbox nothing is refused.
    let (serve, out) = start("free", &["--no-sandbox"]);
    for met in intrude(&serve, &out).values() {
        assert!(met.starts_with("open=0 create=0 "), "{met}");
        assert!(met.ends_with("run=2 process=0 socket=0 code=0"), "{met}");
    }
}
