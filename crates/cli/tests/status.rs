//! The program as a shell sees it: exit status, and what goes to standard output and error.

use std::process::{Command, Output};

fn delayline(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_delayline"));
    command
        .args(args)
        .output()
        .expect("the program can be started")
}

#[test]
fn usage_is_2_and_failure_is_1() {
    let cases: [(&[&str], i32); 6] = [
        (&["--version"], 0),
        (&["--help"], 0),
        (&[], 2),
        (&["fly"], 2),
        (&["synth", "no-such-shape", "o.gguf"], 2),
        (&["doctor", "no/such/file"], 1),
    ];
    for (args, status) in cases {
        let output = delayline(args);
        assert_eq!(output.status.code(), Some(status), "{args:?}: {output:?}");
        assert_eq!(
            output.stdout.is_empty(),
            status != 0,
            "{args:?}: {output:?}"
        );
        assert_eq!(
            output.stderr.is_empty(),
            status == 0,
            "{args:?}: {output:?}"
        );
    }
}

#[test]
fn json_is_one_object_a_line_and_nothing_else() {
    let dir = tempfile::tempdir().expect("can make a folder");
    let out = dir.path().join("m.gguf");
    let output = delayline(&[
        "synth",
        "tiny-llama",
        out.to_str().expect("is text"),
        "--json",
    ]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("is text");
    assert_eq!(text.lines().count(), 1, "{text}");
    let value: serde_json::Value = serde_json::from_str(&text).expect("is JSON");
    let len = std::fs::metadata(&out).expect("was written").len();
    assert_eq!(value["bytes"], len);
}

#[test]
fn completions_are_scripts() {
    for shell in ["bash", "zsh", "fish"] {
        let output = delayline(&["completions", shell]);
        assert!(
            String::from_utf8_lossy(&output.stdout).contains("synth"),
            "{shell}"
        );
    }
}

#[test]
fn a_full_disk_is_a_failure_not_a_crash() {
    let full = std::fs::File::options().write(true).open("/dev/full");
    let mut command = Command::new(env!("CARGO_BIN_EXE_delayline"));
    command
        .args(["completions", "bash"])
        .stdout(full.expect("every Linux has it"));
    let output = command.output().expect("the program can be started");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.starts_with("error: No space left"), "{message}");
}

#[test]
fn bench_has_no_trace_to_write() {
    let output = delayline(&["bench", "m.gguf", "--trace", "t.json"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("--trace"));
}
