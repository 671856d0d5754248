//! `delayline run` with a real model, as a shell sees it: its figures, how it ends, and its
//! errors for bad input. That the text is right is tested in the runtime.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;

use common::*;
use serde_json::Value;

const MIB: f64 = 1048576.0;
/// One thread: these tests run side by side.
const SMALL: &str = "run --threads 1 --ctx 256 --temp 0";
const PROMPT: &str = "What is a laser?";

fn streamed(memory: &str, more: &str) -> String {
    format!("{SMALL} --memory {memory} {more}")
}

#[test]
fn json_ends_with_all_figures() {
    let model = model();
    let output = delayline(&streamed("90MiB", "-n 8 --json"), &[&model, "-p", PROMPT]);
    assert!(output.status.success(), "{output:?}");
    let mut events = objects(&output);
    let end = events.pop().expect("there is a last line");
    assert_eq!(
        (&end["event"], &end["finish"]),
        (&"end".into(), &"length".into())
    );

    let pieces = events
        .iter()
        .map(|e| e["text"].as_str().expect("only pieces come before"));
    let text: String = pieces.collect();
    assert_eq!(end["text"], text.as_str());
    assert_eq!(end["tokens"].as_array().map(Vec::len), Some(8));
    assert!(
        end["tokens"]
            .as_array()
            .is_some_and(|ids| ids.iter().all(Value::is_u64))
    );
    assert_eq!(end["generated_tokens"], 8);
    assert!(number(&end, "/prompt_tokens") > 5.0);
    assert!(number(&end, "/time_to_first_token_s") > 0.0);
    assert!(number(&end, "/decode_tokens_per_s") > 0.0);

    let memory = |name: &str| number(&end, &format!("/memory/{name}_bytes"));
    assert_eq!(memory("budget"), 90.0 * MIB);
    assert!(memory("peak") <= 91.0 * MIB, "{end}");
    let parts = ["window", "resident_weights", "kv", "buffer"].map(memory);
    assert!(parts.iter().all(|&bytes| bytes > 0.0), "{end}");
    assert!(parts.iter().sum::<f64>() <= memory("budget"), "{end}");

    let line = |name: &str| number(&end, &format!("/line/{name}"));
    // One for the prompt, one for each token but the first.
    assert_eq!(line("laps"), 8.0);
    let whole = number(&end, "/model/weight_bytes");
    let kept = memory("resident_weights");
    assert!(
        (line("bytes_per_lap") + kept - whole).abs() < 0.02 * whole,
        "{end}"
    );
    let read = line("laps") * line("bytes_per_lap") + kept;
    assert!((line("bytes_read") - read).abs() < 0.05 * read, "{end}");
    assert!(line("stall_s") >= 0.0 && line("of_limit") > 0.0, "{end}");
    assert!(line("stream_rate_bytes_per_s") > 0.0 && line("device_rate_bytes_per_s") > 0.0);

    // The same for people, at another budget.
    let output = delayline(&streamed("100MiB", "-n 8"), &[&model, "-p", PROMPT]);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim_end(),
        text.trim_end()
    );
    let summary = stderr(&output);
    for word in [
        "stays in memory",
        "100 MiB allowed",
        "lap ",
        "drive ",
        "tokens/s",
        "8 tokens",
    ] {
        assert!(summary.contains(word), "{word} is not in {summary}");
    }
}

#[test]
fn a_striped_model_gives_the_same_answer() {
    let (model, dir) = (model(), scratch());
    let [a, b] = ["a", "b"].map(|name| dir.path().join(name).display().to_string());
    std::fs::create_dir(&a).expect("a folder");
    std::fs::create_dir(&b).expect("a folder");
    let output = delayline("stripe", &[&model, &a, &b]);
    assert!(output.status.success(), "{output:?}");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let list = printed
        .lines()
        .find(|line| line.ends_with(".stripe.toml"))
        .expect("a list");
    let answer = |model: &str| delayline(&streamed("84MiB", "-n 8"), &[model, "-p", PROMPT]);
    let (striped, whole) = (answer(list), answer(&model));
    assert!(striped.status.success(), "{striped:?}");
    assert_eq!(striped.stdout, whole.stdout);
    // Everything fits, but llama.cpp cannot load it: it is streamed all the same.
    let output = delayline(
        "run --threads 1 -n 2 --memory 1GiB --temp 0",
        &[list, "-p", PROMPT],
    );
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn the_window_is_what_was_asked_for_or_what_is_needed() {
    let window = |asked: &str| {
        let more = format!("-n 1 --json --window {asked}");
        let output = delayline(&streamed("110MiB", &more), &[&model(), "-p", PROMPT]);
        let events = objects(&output);
        number(events.last().expect("a last line"), "/memory/window_bytes")
    };
    assert_eq!(window("8MiB"), 8.0 * MIB);
    let least = window("1KiB");
    assert!((MIB..8.0 * MIB).contains(&least), "{least}");
}

#[test]
fn a_synthetic_token_uses_as_many_experts_as_asked_for() {
    let dir = scratch();
    let model = text(&dir.path().join("moe.gguf"));
    let synth = |shape: &str, used: &str| {
        delayline(
            &format!("synth {shape} --force --experts-used {used}"),
            &[&model],
        )
    };
    let written = synth("tiny-qwen3moe", "3");
    assert!(written.status.success(), "{}", stderr(&written));
    // A key, the kind of its value (an unsigned integer of 32 bits) and the value.
    let entry = [
        &b"qwen3moe.expert_used_count"[..],
        &[4, 0, 0, 0, 3, 0, 0, 0],
    ]
    .concat();
    let file = std::fs::read(&model).expect("it was written");
    assert!(file.windows(entry.len()).any(|bytes| bytes == entry));
    for (shape, used, told) in [
        ("tiny-qwen3moe", "17", "a layer has 16"),
        ("tiny-qwen3", "1", "mixtures of experts"),
    ] {
        let refused = synth(shape, used);
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        assert!(stderr(&refused).contains(told), "{refused:?}");
    }
}

#[test]
fn what_became_of_experts_is_told() {
    let dir = scratch();
    let model = text(&dir.path().join("moe.gguf"));
    let written = delayline("synth tiny-qwen3moe", &[&model]);
    assert!(written.status.success(), "{}", stderr(&written));
    let args = [&*model, "--memory", "50MiB", "--ctx", "128", "-n", "6"];
    let run = |more: &[&str]| {
        let args = [&args[..], &["--temp", "0", "-p", "Some words."], more].concat();
        let output = delayline("run", &args);
        assert!(output.status.success(), "{}", stderr(&output));
        output
    };
    let output = run(&["--json"]);
    let report = objects(&output).pop().expect("a report");
    let experts = &report["line"]["experts"];
    let figure = |name: &str| experts[name].as_u64().unwrap_or_else(|| panic!("{report}"));
    // A lap of one row uses four experts of each of three layers.
    let laps = report["line"]["laps"].as_u64().expect("laps");
    assert!(figure("used") >= laps * 12, "{report}");
    assert!((1..=figure("used")).contains(&figure("hits")), "{report}");
    assert!(figure("bytes_read") > 0, "{report}");
    let [here, known] = ["last_hits", "clairvoyant_hits"]
        .map(|name| number(&report, &format!("/line/experts/{name}")));
    assert!(0.0 < here && here <= known && known <= 1.0, "{report}");
    let told = stderr(&run(&[]));
    assert!(
        told.contains("\nexperts  ") && told.contains("with all choices known"),
        "{told}"
    );
}

#[test]
fn which_experts_are_hot_is_kept_unless_it_is_not_to_be() {
    let dir = scratch();
    let model = text(&dir.path().join("moe.gguf"));
    let hot = dir.path().join("moe.gguf.experts");
    let written = delayline("synth tiny-qwen3moe", &[&model]);
    assert!(written.status.success(), "{}", stderr(&written));
    let args = [&*model, "--memory", "50MiB", "--ctx", "128", "-n", "12"];
    let run = |more: &[&str]| {
        let args = [
            &args[..],
            &["--temp", "0", "-p", "Some words.", "--json"],
            more,
        ]
        .concat();
        let output = delayline("run", &args);
        assert!(output.status.success(), "{}", stderr(&output));
        let report = objects(&output).pop().expect("a report");
        let told = stderr(&output);
        let told = told.lines().filter(|line| line.contains(".experts"));
        (report, told.map(str::to_owned).collect::<Vec<_>>())
    };
    let none = || Vec::<String>::new();
    let (first, told) = run(&["--no-hotness"]);
    assert!(!hot.exists() && told == none(), "{told:?}");
    let budget = number(&first, "/memory/budget_bytes") + MIB;
    for turn in 0..3 {
        let (report, told) = run(&[]);
        assert_eq!((&report["tokens"], told), (&first["tokens"], none()));
        assert!(number(&report, "/memory/peak_bytes") <= budget, "{report}");
        let len = std::fs::metadata(&hot).expect("it is there").len();
        assert!(len > 100, "turn {turn}: {len} bytes");
    }
    // Whatever is wrong with the file, the answer is the same, and one line reports it.
    let good = std::fs::read(&hot).expect("it is there");
    let mut damaged = good.clone();
    damaged.iter_mut().skip(8).for_each(|byte| *byte ^= 0x55);
    for bytes in [&damaged[..], b"no list", &[0; 10_000]] {
        std::fs::write(&hot, bytes).expect("it is written");
        let (report, told) = run(&["--no-hotness"]);
        assert_eq!((&report["tokens"], told), (&first["tokens"], none()));
        assert_eq!(std::fs::read(&hot).expect("still there"), bytes);
        let (report, told) = run(&[]);
        assert_eq!((&report["tokens"], told.len()), (&first["tokens"], 1));
    }
    std::fs::remove_file(&hot).expect("removed");
    std::fs::create_dir(&hot).expect("a folder is in the way");
    let (report, told) = run(&[]);
    assert_eq!((&report["tokens"], told.len()), (&first["tokens"], 1));
}

#[test]
fn a_model_that_fits_is_not_streamed() {
    let args = "run --threads 1 --memory 1GiB -n 2 --temp 0 --json";
    let output = delayline(args, &[&model(), "-p", PROMPT]);
    let events = objects(&output);
    let end = events.last().expect("there is a last line");
    assert_eq!(end["model"]["is_streamed"], false, "{output:?}");
    for name in ["bytes_per_lap", "bytes_read", "stall_s"] {
        assert_eq!(number(end, &format!("/line/{name}")), 0.0);
    }
    assert!(end["line"]["device_rate_bytes_per_s"].is_null(), "{end}");
    assert!(number(end, "/memory/peak_bytes") <= 1025.0 * MIB, "{end}");
}

/// llama.cpp looks at no byte that it loads. So what it loaded is called trusted where there is
/// no seal.
#[test]
fn what_nobody_checks_is_called_trusted() {
    let dir = scratch();
    let model = text(&dir.path().join("tiny.gguf"));
    let made = delayline("synth tiny-llama", &[&model]);
    assert!(made.status.success(), "{}", stderr(&made));
    let loaded = |more: &[&str], name: &str, words: &str| {
        let args = "run --threads 1 --memory 1GiB -n 2 --temp 0 --raw -p x";
        let told = delayline(args, &[&[&model[..]], more].concat());
        let (out, said) = (String::from_utf8_lossy(&told.stdout), stderr(&told));
        let line = out.lines().chain(said.lines());
        let line = line.filter(|line| line.starts_with("bytes "));
        let line: Vec<&str> = line.collect();
        assert!(line.len() == 1 && line[0].contains(words), "{out}{said}");
        let json = delayline(&format!("{args} --json"), &[&[&model[..]], more].concat());
        assert_eq!(
            objects(&json).pop().expect("an end")["model"]["loaded"],
            name
        );
        let inspected = delayline("inspect --threads 1 --rate 1GB/s", &[&model]);
        String::from_utf8_lossy(&inspected.stdout).into_owned()
    };
    let sealed = loaded(&[], "sealed", "held against the seal");
    assert!(
        sealed.contains("each byte is held against the seal"),
        "{sealed}"
    );
    loaded(&["--no-verify"], "unchecked", "--no-verify");
    std::fs::remove_file(format!("{model}.seal")).expect("synth wrote one");
    let trusted = loaded(&[], "trusted", "nothing reads them twice");
    assert!(trusted.contains("What it reads is trusted"), "{trusted}");
}

#[test]
fn standard_input_is_the_prompt() {
    let mut child = command(&streamed("100MiB", "-n 2 --raw --json"), &[&model()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program can be started");
    child
        .stdin
        .take()
        .expect("is piped")
        .write_all(b"One two three four")
        .expect("is read");
    let output = child.wait_with_output().expect("it ends");
    let events = objects(&output);
    let end = events.last().expect("there is a last line");
    // The prompt as it is, without the words of a template around it.
    assert!(number(end, "/prompt_tokens") <= 5.0, "{end}");
    assert_eq!(end["generated_tokens"], 2);
}

#[test]
fn a_closed_pipe_ends_it_quietly() {
    for json in ["", "--json"] {
        let mut child = command(&streamed("100MiB", json), &[&model(), "-p", PROMPT])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program can be started");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(
            (output.status.code(), stderr(&output)),
            (Some(0), String::new()),
            "{json}"
        );
    }
}

#[test]
fn ctrl_c_ends_it_with_the_figures() {
    let args = "run --threads 1 --ctx 4096 --temp 0 --memory 180MiB --raw --json";
    let mut child = command(args, &[&model(), "-p", "1, 2, 3, 4, 5, 6, 7,"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program can be started");
    let mut out = BufReader::new(child.stdout.take().expect("is piped"));
    let mut first = String::new();
    out.read_line(&mut first).expect("is text");
    assert!(first.contains("token"), "{first}");
    signal(&child, "-INT");
    let mut rest = String::new();
    out.read_to_string(&mut rest).expect("is text");
    assert_eq!(child.wait().expect("it ends").code(), Some(130), "{rest}");
    let last = rest.lines().last().expect("there is a last line");
    let end: Value = serde_json::from_str(last).expect("is JSON");
    assert_eq!(end["finish"], "interrupted");
    assert!(number(&end, "/line/device_rate_bytes_per_s") > 0.0);
}

#[test]
fn a_trace_is_written_or_refused_at_once() {
    let dir = scratch();
    let path = dir.path().join("t.json");
    let more = ["-p", PROMPT, "--trace", &text(&path), &model()];
    let output = delayline(&streamed("100MiB", "-n 2"), &more);
    assert!(output.status.success(), "{output:?}");
    let bytes = std::fs::read(&path).expect("it was written");
    let trace: Value = serde_json::from_slice(&bytes).expect("is JSON");
    let events = trace["traceEvents"].as_array().expect("holds events");
    let marks = |phase: &str| {
        events
            .iter()
            .filter(|e| e["ph"] == phase && e["tid"] == 1)
            .count()
    };
    assert!(
        marks("B") > 10 && marks("B") == marks("E"),
        "{} {}",
        marks("B"),
        marks("E")
    );

    let nowhere = text(&dir.path().join("no/t.json"));
    let more = ["-p", PROMPT, "--trace", &nowhere, &model()];
    let output = delayline(&streamed("100MiB", "-n 2"), &more);
    assert_eq!(
        (output.status.code(), output.stdout.len()),
        (Some(1), 0),
        "{output:?}"
    );
    assert!(stderr(&output).contains(&nowhere), "{output:?}");
}

#[test]
fn a_model_that_is_none_is_said_to_be() {
    let dir = scratch();
    let model = std::fs::read(model()).expect("can be read");
    let len = model.len() as u64;
    let head = &model[..4 << 20];
    let with = |at: usize, bytes: &[u8]| {
        let mut head = head.to_vec();
        head[at..at + bytes.len()].copy_from_slice(bytes);
        head
    };
    let make = |name: &str, bytes: &[u8], len: u64| text(&file(dir.path(), name, bytes, len));
    let cases = [
        (text(&dir.path().join("none.gguf")), "No such file"),
        (text(dir.path()), "directory"),
        (
            make("text.gguf", b"once upon a time, there was no model", 36),
            "GGUF",
        ),
        (make("empty.gguf", b"", 0), "cut off"),
        (make("header.gguf", head, 100_000), ""),
        (make("short.gguf", head, len - 4096), ""),
        (
            make("version.gguf", &with(4, &99_u32.to_le_bytes()), len),
            "version",
        ),
        (
            make("tensors.gguf", &with(8, &u64::MAX.to_le_bytes()), len),
            "",
        ),
        (
            make("keys.gguf", &with(16, &u64::MAX.to_le_bytes()), len),
            "",
        ),
    ];
    for (path, word) in cases {
        let output = delayline(&streamed("100MiB", "--json -n 1"), &[&path, "-p", PROMPT]);
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{path}: {message}");
        assert!(
            message.starts_with("error: ") && message.contains(&path),
            "{path}: {message}"
        );
        assert!(message.contains(word), "{path}: {word} is not in {message}");
        let events = objects(&output);
        assert_eq!(events.len(), 1, "{path}: {events:?}");
        assert_eq!(events[0]["event"], "error", "{path}");
        assert!(message.contains(events[0]["message"].as_str().expect("is text")));
    }
}

#[test]
fn a_context_beyond_training_is_told() {
    // The demo model was trained on 8192 tokens at once.
    for (ctx, told) in [("8192", false), ("8193", true)] {
        let args = format!("run --memory 260MiB --kv-type q4_0 --ctx {ctx} -n 1 --raw");
        let output = delayline(&args, &[&model(), "-p", PROMPT]);
        let said = stderr(&output);
        assert!(output.status.success(), "{said}");
        let noted = said.contains("note: --ctx 8193") && said.contains("8192 tokens");
        assert_eq!(noted, told, "{said}");
    }
}

#[test]
fn a_prompt_that_cannot_be_is_refused() {
    let long = "word ".repeat(300);
    for (prompt, word) in [("", "empty"), (" \n", "empty"), (&*long, "256")] {
        let output = delayline(&streamed("100MiB", ""), &[&model(), "-p", prompt]);
        assert_eq!(
            (output.status.code(), output.stdout.len()),
            (Some(1), 0),
            "{output:?}"
        );
        assert!(stderr(&output).contains(word), "{word}: {output:?}");
    }
}

#[test]
fn a_budget_too_small_names_one_that_works() {
    let run = |memory: &str| delayline(&streamed(memory, "-n 1"), &[&model(), "-p", PROMPT]);
    let output = run("40MiB");
    let message = stderr(&output);
    assert_eq!(
        (output.status.code(), output.stdout.len()),
        (Some(1), 0),
        "{message}"
    );
    let (_, behind) = message.split_once("at least ").expect("it names one");
    let mib: String = behind.chars().take_while(char::is_ascii_digit).collect();
    let output = run(&format!("{mib}MiB"));
    assert!(
        output.status.success() && !output.stdout.is_empty(),
        "{mib}: {output:?}"
    );
}

#[test]
fn wrong_usage_is_2() {
    for more in [
        "--memory lots",
        "--threads 0",
        "--temp -1",
        "--ctx 0",
        "--kv-type q5",
        "--kv-type q8_0 --flash-attn off",
    ] {
        let output = delayline(&format!("run {more}"), &["m.gguf", "-p", PROMPT]);
        assert_eq!(
            (output.status.code(), output.stdout.len()),
            (Some(2), 0),
            "{more}: {output:?}"
        );
    }
}

#[test]
fn synth_says_where_it_cannot_write() {
    let dir = scratch();
    let plain = file(dir.path(), "plain", b"", 0);
    for out in [dir.path().join("no/m.gguf"), plain.join("m.gguf")] {
        let output = delayline("synth tiny-llama", &[&text(&out)]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(
            stderr(&output).contains(&text(out.parent().expect("has one"))),
            "{output:?}"
        );
    }
    assert_eq!(std::fs::read_dir(dir.path()).expect("is there").count(), 1);
}
