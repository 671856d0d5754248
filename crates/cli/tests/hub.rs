//! Names of the hub's models that are not in the cache; and which models run.

mod common;

use std::fmt::Write as _;
use std::fs;
use std::process::Output;

use common::{command, delayline, model, objects, stderr, text};
use delayline_testing::http::{FakeHubFile, FakeServer, HttpReply};
use sha2::{Digest, Sha256};

/// A hub that has the demo model.
fn hub(bytes: Vec<u8>, sum: &str) -> FakeServer {
    let file = FakeHubFile {
        name: "demo-Q4_1.gguf",
        len: bytes.len(),
        sha256: sum,
    };
    let listing = HttpReply::hub_repository("c0ffee", &[file]);
    FakeServer::start(move |request| match request.range() {
        Some(_) => HttpReply::file(request, &bytes),
        None => listing.clone(),
    })
}

#[test]
fn a_model_of_the_hub_is_fetched_and_then_there() {
    let bytes = fs::read(model()).expect("there");
    let mut sum = String::new();
    for byte in Sha256::digest(&bytes) {
        let _ = write!(sum, "{byte:02x}");
    }
    let sound = hub(bytes.clone(), &sum);
    let mut other = bytes;
    other[70_000_000] ^= 4;
    let unsound = hub(other, &sum);
    let dir = tempfile::tempdir().expect("a folder");
    let request = dir.path().join("r.json");
    let asked = r#"{"messages": [{"role": "user", "content": "hi"}]}"#;
    fs::write(&request, asked).expect("written");
    let ask = |endpoint: &str, offline: &str| -> Output {
        command("template hf:org/demo", &[&text(&request)])
            .env("HF_HUB_CACHE", dir.path().join("hub"))
            .env("HF_ENDPOINT", endpoint)
            .env("HF_HUB_OFFLINE", offline)
            .output()
            .expect("it runs")
    };
    for (endpoint, offline, says) in [
        (&sound.endpoint, "1", "HF_HUB_OFFLINE forbids"),
        (&unsound.endpoint, "", "do not have the checksum"),
        (&"http://127.0.0.1:1".to_owned(), "", "cannot be reached"),
    ] {
        let none = ask(endpoint, offline);
        assert_eq!(none.status.code(), Some(1));
        assert!(stderr(&none).contains(says), "{}", stderr(&none));
        assert!(none.stdout.is_empty());
    }
    // Fetched once, it is there without a network.
    for offline in ["", "1"] {
        let shown = ask(&sound.endpoint, offline);
        let prompt = String::from_utf8_lossy(&shown.stdout);
        let begins = prompt.contains("<|im_start|>user\nhi");
        assert!(begins, "{}", stderr(&shown));
    }
}

#[test]
fn what_runs_is_listed_once_and_what_does_not_with_its_reason() {
    let listed = objects(&delayline("models --json", &[]));
    let of = |arch: &str| -> Vec<_> {
        let of = listed.iter().filter(|line| line["architecture"] == arch);
        of.collect()
    };
    for arch in delayline_synth::tiny_archs() {
        assert_eq!(of(arch.arch()).len(), 1, "{}", arch.arch());
    }
    for (arch, attention, state, experts, shares) in [
        ("llama", true, false, true, true),
        ("qwen3", true, false, false, true),
        ("mamba", false, true, false, false),
        ("qwen3next", true, true, true, true),
        ("deepseek4", true, false, true, false),
    ] {
        let [line] = of(arch)[..] else {
            panic!("{arch}: not once")
        };
        let said = ["attention", "state", "experts", "shares_laps", "runs"].map(|key| &line[key]);
        assert_eq!(said, [attention, state, experts, shares, true], "{arch}");
    }
    let [bert] = of("bert")[..] else {
        panic!("not once")
    };
    assert_eq!(bert["runs"], false);
    assert_eq!(bert["why"], "it makes embeddings, not text");
}
