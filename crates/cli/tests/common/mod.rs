//! What the tests of the program share: how to start it, and the demo model.
#![allow(dead_code, reason = "each test program uses its part")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

/// The demo model, which `make test` fetches.
pub fn model() -> String {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/SmolLM2-135M-Instruct.Q4_1.gguf");
    assert!(
        path.exists(),
        "the demo model is missing: run scripts/fetch-demo-model"
    );
    text(&path)
}

/// A folder on a real disk, removed at the end.
pub fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder for test files")
}

pub fn text(path: &Path) -> String {
    path.to_str().expect("the path is text").to_owned()
}

/// The program with the words of `args` as arguments, and then `more`.
pub fn command(args: &str, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_delayline"));
    // Trials are remembered here, not in the cache of whoever runs the tests.
    command.env(
        "XDG_CACHE_HOME",
        concat!(env!("CARGO_TARGET_TMPDIR"), "/cache"),
    );
    command
        .args(args.split_whitespace())
        .args(more)
        .stdin(Stdio::null());
    command
}

pub fn delayline(args: &str, more: &[&str]) -> Output {
    command(args, more)
        .output()
        .expect("the program can be started")
}

/// Standard output as one object a line.
pub fn objects(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).expect("the output is text");
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
    text.lines().map(parse).collect()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A number of an object, by its path.
pub fn number(value: &Value, path: &str) -> f64 {
    let found = value.pointer(path).and_then(Value::as_f64);
    found.unwrap_or_else(|| panic!("{path} is no number in {value}"))
}

/// A file of `bytes` in `dir`, filled up to `len` with zeros.
pub fn file(dir: &Path, name: &str, bytes: &[u8], len: u64) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, bytes).expect("can write");
    let file = std::fs::File::options()
        .write(true)
        .open(&path)
        .expect("is there");
    file.set_len(len).expect("can change its length");
    path
}

/// Sends a signal, such as `-INT`.
pub fn signal(child: &Child, name: &str) {
    let kill = Command::new("kill")
        .args([name, &child.id().to_string()])
        .status();
    assert!(kill.expect("kill can be started").success());
}

/// Sends SIGINT as soon as the program handles it.
pub fn interrupt(child: &mut Child) {
    while !catches_interrupts(child.id()) {
        assert!(child.try_wait().expect("is mine").is_none(), "it has ended");
        std::thread::yield_now();
    }
    signal(child, "-INT");
}

/// Whether a handler for SIGINT, the second signal, is installed (`proc(5)`).
fn catches_interrupts(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let mask = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 2 != 0)
}
