//! What was computed is found again after a restart, by whoever has the same key.

mod common;

use common::{config, start};
use delayline_llama::KvCache;
use delayline_server::ServerConfig;
use serde_json::json;

fn with_cache(folder: &std::path::Path, keys: &[&str]) -> ServerConfig {
    ServerConfig {
        kv: Some(KvCache {
            folder: folder.to_owned(),
            size: 1 << 30,
            content: [7; 32],
            read_only: false,
        }),
        keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        ..config()
    }
}

#[test]
fn a_prompt_is_found_again_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let text =
        "The delay line was a tube of mercury, and its bits were pulses of sound. ".repeat(8);
    let body = json!({"prompt": text, "max_tokens": 3, "temperature": 0, "logprobs": 3});
    let ask = |keys: &[&str], key: &str| {
        let (server, client) = start(with_cache(folder.path(), keys));
        let headers = format!("Content-Type: application/json\r\nAuthorization: Bearer {key}\r\n");
        let reply = client.ask("POST", "/v1/completions", &headers, &body.to_string());
        assert_eq!(reply.status, 200, "{reply:?}");
        let answer = reply.json();
        let cached = answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64();
        let figures = client.ask("GET", "/metrics", &headers, "").body;
        let line = figures
            .lines()
            .find_map(|line| line.strip_prefix("delayline_kv_found_blocks_total "));
        let found: f64 = line.and_then(|found| found.parse().ok()).expect("a figure");
        drop(server);
        let prompt = answer["usage"]["prompt_tokens"].as_u64().expect("counted");
        (
            cached.unwrap_or(0),
            prompt,
            found,
            answer["choices"][0]["text"].clone(),
        )
    };
    let (cached, prompt, found, text) = ask(&["key-one-one", "key-two-two"], "key-one-one");
    assert_eq!((cached, found), (0, 0.0));
    let again = ask(&["key-one-one", "key-two-two"], "key-one-one");
    assert_eq!((again.0, &again.3), (prompt - 1, &text));
    assert!(again.2 >= 1.0);
    assert_eq!(
        ask(&["key-one-one", "key-two-two"], "key-two-two").0,
        0,
        "another key"
    );
    // A key is known by itself, not by its place in the list.
    assert_eq!(
        ask(&["key-zero-zero", "key-one-one"], "key-one-one").0,
        prompt - 1
    );
    assert_eq!(
        ask(&["key-two-two", "key-three-three"], "key-three-three").0,
        0
    );
}

#[test]
fn a_request_may_ask_that_nothing_kept_is_used() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = "Mercury remembers for a millisecond, and is then asked again. ".repeat(8);
    let ask = |client: &common::Client, cache_prompt: serde_json::Value| {
        let body = json!({
            "prompt": text, "max_tokens": 2, "temperature": 0, "cache_prompt": cache_prompt,
        });
        let reply = client.post("/v1/completions", &body);
        assert_eq!(reply.status, 200, "{reply:?}");
        let usage = reply.json()["usage"].clone();
        let cached = usage["prompt_tokens_details"]["cached_tokens"].as_u64();
        (cached.unwrap_or(0), usage["prompt_tokens"].as_u64())
    };
    {
        let (_server, client) = start(with_cache(folder.path(), &[]));
        let (first, prompt) = ask(&client, json!(null));
        let rest = prompt.expect("counted") - 1;
        let others = [false, true, false].map(|used| ask(&client, json!(used)).0);
        assert_eq!((first, others), (0, [0, rest, 0]));
        let odd = client.post(
            "/v1/completions",
            &json!({"prompt": "a", "cache_prompt": "no"}),
        );
        assert_eq!(odd.status, 400, "{odd:?}");
    }
    let (_server, client) = start(with_cache(folder.path(), &[]));
    let (cached, prompt) = ask(&client, json!(false));
    assert_eq!(cached, 0, "from the disk");
    let rest = prompt.expect("counted") - 1;
    assert_eq!(ask(&client, json!(true)).0, rest);
}
