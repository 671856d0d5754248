//! `delayline batch`: every request gets exactly one line, however runs end.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use common::{command, delayline, model, objects, scratch, stderr, text};
use serde_json::{Value, json};

const RUN: &str = "batch --memory 110MiB --ctx 256 --batch 4";

fn request(id: &str, prompt: &str, tokens: u32) -> String {
    let body = json!({"prompt": prompt, "max_tokens": tokens, "temperature": 0});
    json!({"custom_id": id, "method": "POST", "url": "/v1/completions", "body": body}).to_string()
}

/// The lines of a file of answers, by name; asserts that each is there once.
fn answers(path: &Path) -> BTreeMap<String, Value> {
    let text = fs::read_to_string(path).expect("answers");
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    let mut all = BTreeMap::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let name = match (&line["custom_id"], &line["error"]["line"]) {
            (Value::String(name), Value::Null) => name.clone(),
            (_, number) => number.to_string(),
        };
        assert!(all.insert(name, line).is_none(), "twice: {text}");
    }
    all
}

#[test]
fn requests_are_answered_and_errors_are_lines() {
    let folder = scratch();
    let (input, output) = (
        folder.path().join("in.jsonl"),
        folder.path().join("out.jsonl"),
    );
    let chat = json!({"custom_id": "chat", "url": "/v1/chat/completions", "body":
        {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}});
    let stream = json!({"custom_id": "s", "url": "/v1/completions", "body": {"prompt": "x", "stream": true}});
    let lines = [
        request("one", "One, two,", 4),
        chat.to_string(),
        "no JSON".into(),
        String::new(),
        request("one", "again", 4),
        request("bad", "x", 0),
        json!({"custom_id": "url", "url": "/metrics", "body": {}}).to_string(),
        stream.to_string(),
        request("last", "One, two,", 4),
    ];
    fs::write(&input, lines.join("\n")).expect("written");
    let files = [model(), text(&input), text(&output)];
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let done = delayline(&format!("{RUN} --json"), &files);
    assert!(done.status.success(), "{}", stderr(&done));
    let end = objects(&done).pop().expect("an object");
    assert_eq!(
        (&end["answers"], &end["errors"]),
        (&json!(3), &json!(5)),
        "{end}"
    );
    let all = answers(&output);
    let names: Vec<&str> = all.keys().map(String::as_str).collect();
    assert_eq!(names, ["3", "5", "7", "8", "bad", "chat", "last", "one"]);
    let said = |name: &str| all[name]["response"]["body"]["choices"][0]["text"].clone();
    assert!(
        said("one").is_string() && said("one") == said("last"),
        "{all:?}"
    );
    assert_eq!(all["chat"]["response"]["body"]["object"], "chat.completion");
    assert_eq!(all["bad"]["response"]["status_code"], 400);
    assert_eq!(all["7"]["custom_id"], "url");
    let told = all["7"]["error"]["message"].as_str().expect("a message");
    assert!(told.starts_with("line 7: its `url` must be"), "{told}");
    // All answers are there: nothing is asked again, and no model is opened.
    let before = fs::read(&output).expect("answers");
    let again = delayline(&format!("{RUN} --json"), &["no model", files[1], files[2]]);
    let end = objects(&again).pop().expect("an object");
    assert_eq!(
        (&end["kept"], &end["answers"]),
        (&json!(8), &json!(0)),
        "{}",
        stderr(&again)
    );
    assert_eq!(fs::read(&output).expect("answers"), before);
}

#[test]
fn a_killed_run_goes_on_without_a_lost_or_doubled_line() {
    let folder = scratch();
    let (input, output) = (
        folder.path().join("in.jsonl"),
        folder.path().join("out.jsonl"),
    );
    let lines: Vec<String> = (0..24)
        .map(|at| request(&format!("r{at}"), &format!("Number {}:", at % 5), 12))
        .collect();
    fs::write(&input, lines.join("\n")).expect("written");
    let files = [model(), text(&input), text(&output)];
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    for kill in 0..3 {
        let mut child = command(RUN, &files).spawn().expect("it starts");
        let lines = || {
            fs::read_to_string(&output)
                .unwrap_or_default()
                .lines()
                .count()
        };
        while lines() < 3 * (kill + 1) && child.try_wait().expect("a child").is_none() {
            std::thread::yield_now();
        }
        child.kill().expect("it is killed");
        child.wait().expect("it has ended");
        // A kill within a write leaves the beginning of a line.
        let mut left = fs::read(&output).expect("answers");
        left.extend_from_slice(&b"{\"id\":\"batch_req_0123\",\"cus"[..7 + kill * 10]);
        fs::write(&output, left).expect("written");
    }
    let done = delayline(RUN, &files);
    assert!(done.status.success(), "{}", stderr(&done));
    let all = answers(&output);
    assert_eq!(all.len(), 24);
    for (name, line) in &all {
        assert_eq!(line["response"]["status_code"], 200, "{name}");
        let said = line["response"]["body"]["choices"][0]["text"].as_str();
        assert!(said.is_some_and(|text| !text.is_empty()), "{line}");
    }
}

#[test]
fn what_is_no_file_of_answers_is_left_alone() {
    let folder = scratch();
    let (input, output) = (
        folder.path().join("in.jsonl"),
        folder.path().join("out.jsonl"),
    );
    fs::write(&input, request("a", "x", 1)).expect("written");
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&output, &link).expect("a link");
    for (path, there) in [
        (&output, "precious"),
        (&output, "precious\nand more\n"),
        (&output, "{\"id\":\"batch_req_\nx\n"),
        (&input, &request("a", "x", 1)),
        (&link, ""),
    ] {
        fs::write(path, there).expect("written");
        let refused = delayline(RUN, &[&model(), &text(&input), &text(path)]);
        let said = stderr(&refused);
        assert_eq!(refused.status.code(), Some(1), "{said}");
        assert!(said.contains("holds no answers"), "{said}");
        assert_eq!(fs::read_to_string(path).expect("it is there"), there);
    }
}
