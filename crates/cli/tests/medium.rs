//! `--medium` with the real program: the answer from a loop is that from flash, whatever
//! happens to its light, in every command.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use common::*;
use serde_json::Value;

const MIB: f64 = 1048576.0;
const PROMPT: &str = "What is a laser?";
/// Room for the demo model once, not twice.
const FIBER: &str = "fiber:length=1000km,rate=300Gbit/s";

fn streamed(memory: &str, more: &str) -> String {
    format!("run --threads 1 --ctx 256 --temp 0 --memory {memory} {more}")
}

fn answer(more: &str) -> std::process::Output {
    let output = delayline(&streamed("84MiB", more), &[&model(), "-p", PROMPT]);
    assert!(output.status.success(), "{more}: {output:?}");
    output
}

#[test]
fn the_answer_from_a_fiber_loop_is_that_from_flash() {
    let flash = answer("-n 8");
    let base = |more: &str| format!("{FIBER}{more}");
    for (medium, words) in [
        (
            base(""),
            &[
                "1000 km of glass",
                "in flight",
                "a lap of light takes 4.90 ms",
            ][..],
        ),
        (base(",ber=1e-8"), &["wrong bits found", "sent anew"]),
        (
            base(",cut=0s+1ms"),
            &[
                "note: the fiber is cut",
                "note: the fiber is mended",
                "failed once",
            ],
        ),
        (
            base(",cut=0s+1000s"),
            &["note: the fiber is cut", "came from flash meanwhile"],
        ),
        // Twice the length holds two copies.
        (
            "fiber:length=2000km,rate=300Gbit/s,copies=2".into(),
            &[
                "a lap of light takes 9.79 ms",
                "in 2 copies, one every 4.90 ms",
            ],
        ),
        // Light that goes more laps than its error correction can correct.
        (
            "fiber:hollow-core,laps=20".into(),
            &["200 km of glass", "wrong bits found", "sent anew"],
        ),
    ] {
        let fiber = answer(&format!("-n 8 --medium {medium}"));
        assert_eq!(fiber.stdout, flash.stdout, "{medium}");
        let summary = stderr(&fiber);
        for word in words {
            assert_eq!(
                summary.matches(word).count(),
                1,
                "{word}, {medium}: {summary}"
            );
        }
    }
}

#[test]
fn a_run_from_a_loop_ends_with_its_figures() {
    let events = objects(&answer(&format!("-n 8 --json --medium {FIBER}")));
    let end = events.last().expect("there is a last line");
    let fiber = |name: &str| number(end, &format!("/fiber/{name}"));
    assert_eq!((fiber("length_km"), fiber("rate_bit_per_s")), (1e3, 3e11));
    assert!((fiber("lap_s") - 4.8967e-3).abs() < 1e-6, "{end}");
    // Rows of the embedding come from the drive, beside the loop.
    let each = number(end, "/line/bytes_per_lap");
    assert!((fiber("placed_bytes") / each - 1.0).abs() < 0.01, "{end}");
    // A lap of a prompt that has no output skips the head.
    let (laps, taken) = (number(end, "/line/laps"), fiber("pieces_taken"));
    let whole = fiber("pieces");
    assert!((8.0 * whole..=laps * whole).contains(&taken), "{end}");
    assert!(fiber("capacity_bytes") > fiber("placed_bytes"), "{end}");
    // The bytes in flight are no memory of this process.
    assert!(number(end, "/memory/peak_bytes") <= 83.0 * MIB, "{end}");
    assert!(
        events.iter().all(|e| e["event"] != "notice"),
        "nothing happened: {events:?}"
    );
}

#[test]
fn a_sealed_model_answers_the_same_from_a_drive_that_lies() {
    let dir = tempfile::tempdir().expect("a folder");
    let copy = dir.path().join("model.gguf");
    // Not a link, which would change the times of the model that other tests run.
    std::fs::copy(model(), &copy).expect("a copy");
    let copy = copy.display().to_string();
    delayline("seal", &[&copy]);
    let answer = |more: &str| {
        let args = streamed("84MiB", &format!("-n 24 --json {more}"));
        let output = delayline(&args, &[&copy, "-p", PROMPT]);
        assert!(output.status.success(), "{output:?}");
        let events = objects(&output);
        events.last().expect("an end").clone()
    };
    let seed = delayline_testing::seed() % 1000;
    // Some twenty lies in all; one read in thirty million that goes wrong four times in a row.
    let faults = format!("flipped=0.008,zeroed=0.003,failed=0.003,seed={seed}");
    let (lies, flash) = (answer(&format!("--medium faulty:{faults}")), answer(""));
    assert_eq!(lies["tokens"], flash["tokens"], "{faults}");
    assert!(number(&lies, "/faulty/flipped") > 0.0, "{lies}");
    assert_eq!(
        number(&lies, "/line/check/wrong_reads"),
        number(&lies, "/faulty/flipped") + number(&lies, "/faulty/zeroed"),
        "{lies}"
    );
    assert!(flash["faulty"].is_null() && lies["fiber"].is_null());
}

#[test]
fn a_medium_that_cannot_be_is_refused() {
    let model = model();
    for (medium, status, words) in [
        (
            "fiber:length=-1km,rate=1Tbit/s",
            2,
            &["length=-1km", "from 1m"][..],
        ),
        ("fiber:lenght=1km", 2, &["`lenght`", "length"]),
        ("fiber:length=1km", 2, &["rate is missing"]),
        (
            "fiber:length=5000km,rate=20Gbit/s",
            1,
            &["too much", "length=", "loops=2", "split=yes"],
        ),
        ("fiber:ocean,copies=2", 1, &["copies=2", "from 1 to 1"]),
        ("fiber:c-l,laps=0.5", 2, &["laps=0.5", "from 1 to"]),
        (
            "fiber:c-l,length=100000km",
            2,
            &["length = 100000", "no channel"],
        ),
        ("fiber:design=none.toml", 2, &["none.toml", "No such file"]),
        ("fiber:atlantic", 2, &["preset=atlantic", "hollow-core"]),
        ("faulty:flipped=2", 2, &["flipped=2", "from 0 to 1"]),
    ] {
        let args = streamed("84MiB", &format!("-n 1 --medium {medium}"));
        let output = delayline(&args, &[&model, "-p", PROMPT]);
        assert_eq!(output.status.code(), Some(status), "{medium}: {output:?}");
        let message = stderr(&output);
        for word in words {
            assert!(
                message.contains(word),
                "{medium}: {word} is not in {message}"
            );
        }
    }
}

#[test]
fn bench_measures_laps_from_a_loop() {
    let args = format!(
        "bench --threads 1 --ctx 256 --budgets 84MiB --repeat 1 -n 4 --prompt-tokens 8 --json \
         --medium {FIBER}"
    );
    let output = delayline(&args, &[&model()]);
    if stderr(&output).contains("memory cgroup") {
        delayline_testing::cannot_run(stderr(&output));
        return;
    }
    assert!(output.status.success(), "{output:?}");
    let events = objects(&output);
    let budget = events.iter().find(|event| event["event"] == "budget");
    let budget = budget.expect("a budget");
    let figure = |path: &str| number(budget, path);
    assert_eq!(figure("/fiber/rate_bit_per_s"), 3e11);
    assert!(
        (figure("/fiber/turn_s") - 4.8967e-3).abs() < 1e-6,
        "{budget}"
    );
    // The loop, the compute and rows from the drive: whichever is longest.
    let drive = (figure("/line/bytes_per_lap") - figure("/fiber/placed_bytes"))
        / figure("/line/device_rate_bytes_per_s");
    let limit = figure("/compute_s").max(figure("/fiber/turn_s")).max(drive);
    assert!((figure("/limit_s") / limit - 1.0).abs() < 1e-9, "{budget}");
    assert!(
        figure("/fiber/pieces_taken") >= 4.0 * figure("/fiber/pieces"),
        "{budget}"
    );
    // The bytes in flight are not in the peak of the process.
    assert!(
        figure("/memory/glass_bytes") >= figure("/fiber/placed_bytes"),
        "{budget}"
    );
    assert!(figure("/memory/peak_bytes") <= 83.0 * MIB, "{budget}");
    assert_eq!(budget["medium"], FIBER);
    let resident = events.iter().find(|event| event["event"] == "resident");
    assert!(resident.is_some_and(|event| event["figures"]["fiber"].is_null()));
}

/// Killed at the end.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_server_answers_from_a_loop() {
    let args = format!("serve --port 0 --memory 128MiB --ctx 512 --batch 2 --medium {FIBER}");
    let mut child = command(&args, &[&model()])
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("the program can be started");
    let mut lines = BufReader::new(child.stdout.take().expect("is piped")).lines();
    let _running = Running(child);
    let address = lines.find_map(|line| {
        let line = line.expect("is text");
        line.split_once("http://")
            .map(|(_, address)| address.to_owned())
    });
    let address = address.expect("it says where it is");
    let body = r#"{"prompt": "One, two, three,", "max_tokens": 8, "temperature": 0}"#;
    let mut stream = TcpStream::connect(&address).expect("it listens");
    let ask = format!(
        "POST /v1/completions HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(ask.as_bytes()).expect("it reads");
    let mut got = String::new();
    stream.read_to_string(&mut got).expect("it answers");
    let (_, json) = got.split_once("\r\n\r\n").expect("a body");
    let json: Value = serde_json::from_str(json).expect("is JSON");
    assert_eq!(number(&json, "/usage/completion_tokens"), 8.0, "{json}");
}

#[test]
fn what_runs_nothing_has_no_medium() {
    let output = delayline("inspect --medium fiber:ocean", &[&model()]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(stderr(&output).contains("--medium"), "{output:?}");
}

/// Ctrl-C before the loop is full: nothing is printed.
#[test]
fn filling_ends_at_ctrl_c() {
    let args = streamed("84MiB", &format!("--medium {FIBER}"));
    let mut child = command(&args, &[&model(), "-p", PROMPT])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program can be started");
    // The model is opened after that.
    common::interrupt(&mut child);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    assert_eq!((output.stdout.len(), stderr(&output)), (0, String::new()));
}
