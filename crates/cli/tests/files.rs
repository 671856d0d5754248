//! Files that are damaged, malicious, in the way or out of proportion end the program with an
//! error and an exit status, never by a signal.

mod common;

use std::fs;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{delayline, model, scratch, stderr, text};

const RUN: &str = "run --threads 1 --ctx 64 -n 1 --temp 0 --raw -p a";

/// A small model of that shape, as bytes.
fn tiny(dir: &Path, shape: &str) -> Vec<u8> {
    let path = dir.join("tiny.gguf");
    let spec = delayline_synth::shape(shape).expect("a shape");
    delayline_synth::write(
        &spec,
        delayline_synth::Quant::Q4_0,
        1,
        &path,
        &mut |_, _| {},
    )
    .expect("a model");
    fs::read(&path).expect("it is there")
}

/// A key and its value, as they stand in a header.
fn entry(key: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    let len = key.len() as u64;
    let parts = [
        &len.to_le_bytes()[..],
        key.as_bytes(),
        &kind.to_le_bytes(),
        value,
    ];
    parts.concat()
}

fn text_entry(key: &str, text: &[u8]) -> Vec<u8> {
    entry(key, 8, &[&(text.len() as u64).to_le_bytes(), text].concat())
}

/// The file with one more entry in its header, and a second one as padding, so that the data
/// stay aligned.
fn with_entry(bytes: &[u8], more: &[u8]) -> Vec<u8> {
    let count = u64::from_le_bytes(bytes[16..24].try_into().expect("eight bytes"));
    let empty = text_entry("x.filler", b"").len();
    let filler = vec![b'x'; (more.len() + empty).next_multiple_of(32) - more.len() - empty];
    [
        &bytes[..16],
        &(count + 2).to_le_bytes(),
        more,
        &text_entry("x.filler", &filler),
        &bytes[24..],
    ]
    .concat()
}

fn put(dir: &Path, bytes: &[u8]) -> PathBuf {
    let path = dir.join("model.gguf");
    fs::write(&path, bytes).expect("can write");
    path
}

/// Asserts that it failed with an error, not by a signal; returns standard error.
fn failed(output: &Output) -> String {
    let said = stderr(output);
    assert_eq!(output.status.code(), Some(1), "{:?} {said}", output.status);
    assert!(said.contains("error: "), "{said}");
    said
}

#[test]
fn what_llama_cpp_does_not_survive_is_told_in_words() {
    let dir = scratch();
    let pattern = entry(
        "gemma3.attention.sliding_window_pattern",
        4,
        &1u32.to_le_bytes(),
    );
    let path = put(
        dir.path(),
        &with_entry(&tiny(dir.path(), "tiny-gemma3"), &pattern),
    );
    for memory in ["64MiB", "1GiB"] {
        let said = failed(&delayline(RUN, &["--memory", memory, &text(&path)]));
        assert!(
            said.contains("llama.cpp ended with") && said.contains("in a process of its own"),
            "{said}"
        );
        assert!(
            said.contains("model.gguf") && said.contains("GGML_ASSERT"),
            "{said}"
        );
    }
}

#[test]
fn a_file_is_tried_once_and_again_when_it_has_changed() {
    let dir = scratch();
    let bytes = tiny(dir.path(), "tiny-llama");
    let path = put(dir.path(), &bytes);
    let tried = |more: &[&str]| {
        let file = text(&path);
        let arguments = [&["-v", "--memory", "1GiB", &file], more].concat();
        let mut command = common::command(RUN, &arguments);
        let output = command
            .env("XDG_CACHE_HOME", dir.path().join("cache"))
            .output();
        let output = output.expect("the program can be started");
        assert!(output.status.success(), "{output:?}");
        stderr(&output).contains("new to this machine")
    };
    assert!(!tried(&["--no-trial"]));
    assert!(tried(&[]));
    assert!(!tried(&[]));
    // Another number format of the KV cache is another graph.
    assert!(tried(&["--kv-type", "f32"]));
    put(dir.path(), &bytes);
    assert!(tried(&[]), "it was written anew");
    assert!(!tried(&[]));
}

#[test]
fn a_header_that_is_too_long_for_the_budget_is_refused() {
    let dir = scratch();
    let long = text_entry("general.author", &vec![b'x'; 40 << 20]);
    let path = put(
        dir.path(),
        &with_entry(&tiny(dir.path(), "tiny-llama"), &long),
    );
    for command in [RUN, "inspect"] {
        let said = failed(&delayline(command, &["--memory", "100MiB", &text(&path)]));
        assert!(
            said.contains("header") && said.contains("100 MiB"),
            "{said}"
        );
    }
    let output = delayline(RUN, &["--memory", "1GiB", &text(&path)]);
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_hole_is_told() {
    let dir = scratch();
    let bytes = tiny(dir.path(), "tiny-llama");
    let whole = put(dir.path(), &bytes);
    let holed = dir.path().join("holed.gguf");
    let file = fs::File::create(&holed).expect("can write");
    let (from, until) = (256 << 10, 512 << 10);
    file.write_all_at(&bytes[..from], 0).expect("can write");
    file.write_all_at(&bytes[until..], until as u64)
        .expect("can write");
    file.sync_all().expect("can write");
    for (path, is_told) in [(&whole, false), (&holed, true)] {
        for memory in ["64MiB", "1GiB"] {
            let output = delayline(RUN, &["--memory", memory, &text(path)]);
            assert!(output.status.success(), "{output:?}");
            let said = stderr(&output);
            let told = said.contains("has a hole of 262144 bytes from byte 262144");
            assert_eq!(told, is_told, "{said}");
        }
    }
}

#[test]
fn a_model_is_never_written_over() {
    let dir = scratch();
    let bytes = tiny(dir.path(), "tiny-llama");
    let path = text(&put(dir.path(), &bytes));
    let page = [
        "study media dram --html",
        "study sweep --set dram.price=1,2 --out",
    ];
    let written = [
        delayline(RUN, &[&path, "--memory", "64MiB", "--trace", &path]),
        delayline("inspect --memory 64MiB", &[&path, "--plan", &path]),
        delayline(page[0], &[&path]),
        delayline(page[1], &[&path]),
    ];
    for output in &written {
        let said = stderr(output);
        assert!(!output.status.success(), "{said}");
        assert!(
            said.contains("is not replaced") || said.contains("set"),
            "{said}"
        );
    }
    assert!(stderr(&written[0]).contains("is not replaced"));
    assert_eq!(fs::read(&path).expect("it is there"), bytes);
}

#[test]
fn a_name_with_control_characters_is_shown_escaped() {
    let dir = scratch();
    let mut bytes = tiny(dir.path(), "tiny-llama");
    let name = b"Synthetic";
    let at = bytes.windows(name.len()).position(|window| window == name);
    let at = at.expect("synth names its models");
    bytes[at..at + name.len()].copy_from_slice(b"\x1b]0;pwn\x07\x7f");
    let path = put(dir.path(), &bytes);
    for arguments in ["inspect", "inspect --json"] {
        let output = delayline(arguments, &["--memory", "64MiB", &text(&path)]);
        assert!(output.status.success(), "{output:?}");
        let told = String::from_utf8(output.stdout).expect("is text");
        let obeyed = |c: char| c.is_control() && c != '\n';
        assert!(told.contains("pwn") && !told.contains(obeyed), "{told:?}");
    }
    let said = stderr(&delayline(RUN, &["--memory", "64MiB", "\u{1b}[2J.gguf"]));
    assert!(
        said.contains("\\u{1b}[2J.gguf") && !said.contains('\u{1b}'),
        "{said:?}"
    );
}

#[test]
fn limits_of_the_system_are_told_or_met() {
    let limited = |limit: &str, path: &str| {
        let shell = format!("ulimit {limit}; exec \"$0\" \"$@\"");
        let program = env!("CARGO_BIN_EXE_delayline");
        let mut command = Command::new("bash");
        command.args(["-c", &shell, program]).args(RUN.split(' '));
        let output = command.args(["--memory", "100MiB", path]).output();
        output.expect("a shell can be started")
    };
    let path = model();
    let said = failed(&limited("-f 1000", &path));
    assert!(said.contains("ulimit -f"), "{said}");
    let few = [6, 8, 10, 12, 16, 24, 64].map(|n| format!("-n {n}"));
    let little = [100_000, 200_000, 400_000, 800_000].map(|kib| format!("-v {kib}"));
    for limit in few.iter().chain(&little) {
        let output = limited(limit, &path);
        assert_eq!(output.status.signal(), None, "{limit}: {output:?}");
        if !output.status.success() {
            failed(&output);
        }
    }
}
