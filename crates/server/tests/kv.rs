//! Cached prompts are found again after a restart, by clients with the same key, and by other
//! servers of a shared store.

mod common;

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;

use common::{JSON, config, start};
use delayline_kv::{ShareLink, ShareMessage, ShareSecret, ShareVerb};
use delayline_llama::{KvCache, KvShare};
use delayline_server::{KvScope, ServerConfig};
use serde_json::json;

fn with_cache(folder: &std::path::Path, keys: &[&str]) -> ServerConfig {
    ServerConfig {
        kv: Some(KvCache {
            folder: folder.to_owned(),
            size: 1 << 30,
            content: [7; 32],
            read_only: false,
            write_per_day: None,
            share: None,
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
    // The namespace depends on the key itself, not on its place in the list.
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

/// Number of cached tokens in the answer to a client with that key.
fn cached(client: &common::Client, key: &str, path: &str, body: &serde_json::Value) -> u64 {
    let headers = format!("{JSON}Authorization: Bearer {key}\r\n");
    let reply = client.ask("POST", path, &headers, &body.to_string());
    assert_eq!(reply.status, 200, "{reply:?}");
    let usage = reply.json()["usage"].clone();
    [
        "/prompt_tokens_details/cached_tokens",
        "/input_tokens_details/cached_tokens",
        "/cache_read_input_tokens",
    ]
    .iter()
    .find_map(|path| usage.pointer(path))
    .and_then(serde_json::Value::as_u64)
    .expect("counted")
}

/// The same request in each API.
fn requests() -> [(&'static str, serde_json::Value); 4] {
    let asked = "How long is a pulse of sound in a tube of mercury, and how many fit? ".repeat(8);
    let turns = json!([{"role": "user", "content": asked}]);
    [
        (
            "/v1/chat/completions",
            json!({"messages": turns, "max_tokens": 1}),
        ),
        ("/v1/messages", json!({"messages": turns, "max_tokens": 1})),
        (
            "/v1/responses",
            json!({"input": asked, "max_output_tokens": 1}),
        ),
        ("/v1/completions", json!({"prompt": asked, "max_tokens": 1})),
    ]
}

fn with(body: &serde_json::Value, name: &str, value: &str) -> serde_json::Value {
    let mut body = body.clone();
    body[name] = value.into();
    body
}

#[test]
fn a_salt_parts_prompts_in_memory_and_on_disk() {
    let folder = tempfile::tempdir().expect("a folder");
    let requests = requests();
    for restarted in [false, true] {
        let (_server, client) = start(with_cache(folder.path(), &[]));
        for (path, body) in &requests {
            let other = format!("theirs, {restarted} {path}");
            assert_eq!(
                cached(&client, "", path, &with(body, "cache_salt", &other)),
                0,
                "{path}"
            );
            // The other APIs are translated to the same chat; a text completion is another
            // prompt.
            let mine = with(body, "cache_salt", "mine");
            let known = cached(&client, "", path, &mine);
            let expected = restarted || !["/v1/chat/completions", "/v1/completions"].contains(path);
            assert_eq!(known > 100, expected, "{path}");
            let odd = client.post(path, &with(body, "cache_salt", ""));
            assert_eq!(odd.status, 400, "{odd:?}");
            assert!(!client.post(path, &mine).body.contains("mine"));
        }
    }
}

#[test]
fn what_stays_in_memory_alone_is_not_found_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let [(path, body), ..] = requests();
    let ask = |client: &common::Client, retention: &str| {
        let body = with(&body, "prompt_cache_retention", retention);
        cached(client, "", path, &with(&body, "prompt_cache_key", "any"))
    };
    for (retention, found) in [("in_memory", false), ("24h", false), ("in_memory", true)] {
        let (_server, client) = start(with_cache(folder.path(), &[]));
        assert_eq!(ask(&client, retention) > 100, found, "{retention}");
        assert!(ask(&client, retention) > 100, "{retention}");
    }
}

#[test]
fn a_server_of_one_scope_shares_what_is_kept_among_keys() {
    let folder = tempfile::tempdir().expect("a folder");
    let [(path, body), ..] = requests();
    let keys = ["key-one-one", "key-two-two"];
    for (scope, shared) in [
        (KvScope::Key, false),
        (KvScope::Server, true),
        (KvScope::Server, true),
    ] {
        let folder = folder.path().join(format!("{scope:?}"));
        let restarted = folder.exists();
        let (_server, client) = start(ServerConfig {
            kv_scope: scope,
            ..with_cache(&folder, &keys)
        });
        assert_eq!(cached(&client, keys[0], path, &body) > 100, restarted);
        assert_eq!(cached(&client, keys[1], path, &body) > 100, shared);
        let salted = with(&body, "cache_salt", &format!("a salt, {restarted}"));
        assert_eq!(cached(&client, keys[1], path, &salted), 0);
    }
}

#[test]
fn what_is_kept_for_a_key_is_forgotten_when_its_holder_asks() {
    let folder = tempfile::tempdir().expect("a folder");
    let [(path, body), ..] = requests();
    let salted = with(&body, "cache_salt", "mine");
    let keys = ["key-one-one", "key-two-two"];
    let flush = |client: &common::Client, key: &str, body: &str| {
        let headers = format!("Authorization: Bearer {key}\r\n");
        client.ask("POST", "/kv/flush", &headers, body)
    };
    let all = [(keys[0], &body), (keys[0], &salted), (keys[1], &body)];
    let found =
        |client: &common::Client| all.map(|(key, body)| cached(client, key, path, body) > 100);
    {
        let (_server, client) = start(with_cache(folder.path(), &keys));
        assert_eq!(found(&client), [false; 3]);
        assert_eq!(found(&client), [true; 3]);
        assert_eq!(flush(&client, "another-key", "").status, 401);
        assert_eq!(flush(&client, keys[0], "{}").status, 400);
        assert_eq!(found(&client), [true; 3]);
        let told = flush(&client, keys[0], "");
        assert_eq!(told.status, 200, "{told:?}");
        let told = told.json();
        assert!(told["tokens_in_memory"].as_u64() > Some(200), "{told}");
        assert!(told["blocks_on_disk"].as_u64() > Some(4), "{told}");
        let again = flush(&client, keys[0], "").json();
        assert_eq!(again, json!({"tokens_in_memory": 0, "blocks_on_disk": 0}));
    }
    let (_server, client) = start(with_cache(folder.path(), &keys));
    assert_eq!(found(&client), [false, false, true]);
    drop(_server);
    let (_server, client) = start(ServerConfig {
        kv_scope: KvScope::Server,
        ..with_cache(&folder.path().join("shared"), &keys)
    });
    assert!(cached(&client, keys[0], path, &body) < 100);
    assert!(flush(&client, keys[1], "").json()["blocks_on_disk"].as_u64() > Some(1));
    assert!(cached(&client, keys[0], path, &body) < 100);
}

/// A shared store that a thread serves, in place of the program that does so.
fn shared(place: &Path) -> KvShare {
    let place = place.to_str().expect("a name").to_owned();
    KvShare::new(move || {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let opened = delayline_share::SharedPlace::open(&place, 1 << 30).expect("a folder");
        let input = theirs.try_clone().expect("another handle");
        std::thread::spawn(move || delayline_share::serve(opened, input, theirs));
        link(ours)
    })
}

fn link(ours: UnixStream) -> Result<ShareLink, delayline_kv::StoreError> {
    let secret = ShareSecret::new(b"all servers of these tests know this")?;
    let input = Box::new(ours.try_clone().expect("another handle"));
    ShareLink::new(input, Box::new(ours), "the shared store", secret)
}

fn sharing(folder: &Path, share: KvShare) -> ServerConfig {
    let mut config = with_cache(folder, &[]);
    config.kv = config.kv.map(|cache| KvCache {
        share: Some(share),
        ..cache
    });
    config
}

fn ask(client: &common::Client, text: &str) -> (u64, String) {
    let body = json!({"prompt": text, "max_tokens": 3, "temperature": 0});
    let reply = client.post("/v1/completions", &body);
    assert_eq!(reply.status, 200, "{reply:?}");
    let answer = reply.json();
    let cached = answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64();
    let text = answer["choices"][0]["text"].as_str().expect("a text");
    (cached.unwrap_or(0), text.to_owned())
}

#[test]
fn what_one_server_has_computed_another_finds_in_a_shared_folder() {
    let [one, two, place] = [(); 3].map(|()| tempfile::tempdir().expect("a folder"));
    let text = "A tube of mercury is a memory, and so is a loop of glass. ".repeat(16);
    let first = {
        let (_server, client) = start(sharing(one.path(), shared(place.path())));
        let first = ask(&client, &text);
        assert_eq!(first.0, 0);
        first.1
    };
    let (_server, client) = start(sharing(two.path(), shared(place.path())));
    // Eight clients at once need the same blocks, which are fetched once.
    let found: Vec<(u64, String)> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| ask(&client, &text)))
            .collect();
        all.into_iter()
            .map(|one| one.join().expect("an answer"))
            .collect()
    });
    let blocks = found
        .iter()
        .map(|(cached, _)| *cached)
        .min()
        .expect("eight");
    assert!(blocks >= 192 && blocks % 64 == 0, "{found:?}");
    assert_eq!(found[0].1, first);
    let figure = |name: &str| {
        let figures = client.ask("GET", "/metrics", "", "").body;
        let line = figures
            .lines()
            .find_map(|line| line.strip_prefix(&format!("delayline_{name} ")));
        line.and_then(|figure| figure.parse::<f64>().ok())
            .unwrap_or_else(|| panic!("{name}"))
    };
    assert_eq!(figure("kv_shared_found_blocks_total"), blocks as f64 / 64.0);
    let tiers = ["memory", "flash", "shared"]
        .map(|tier| figure(&format!("kv_hit_tokens_total{{tier=\"{tier}\"}}")));
    assert_eq!(tiers[2], blocks as f64);
    assert_eq!(tiers.iter().sum::<f64>(), figure("cached_tokens_total"));
    assert!(figure("kv_restore_seconds_total") > 0.0 && figure("kv_saved_seconds_total") > 0.0);
    assert_eq!(figure("kv_rejected_blocks_total{reason=\"unsealed\"}"), 0.0);
}

#[test]
fn a_shared_store_that_says_nothing_is_waited_for_no_longer_than_it_is_worth() {
    let folder = tempfile::tempdir().expect("a folder");
    // Opens and then says nothing.
    let silent = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let keeps = silent.clone();
    let share = KvShare::new(move || {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        let opened = ShareMessage::new(ShareVerb::Opened, 0, "");
        opened
            .write_to(&mut theirs)
            .and_then(|()| theirs.flush())
            .expect("a pair");
        keeps.lock().expect("nobody panics").push(theirs);
        link(ours)
    });
    let (server, client) = start(sharing(folder.path(), share));
    let text = "Nobody answers, and the answer comes all the same. ".repeat(16);
    let first = ask(&client, &text);
    assert_eq!(first.0, 0);
    let again = ask(&client, &text);
    assert!(again.0 > 64, "what is here is found");
    assert_eq!(again.1, first.1);
    // The program of the shared store has gone, and the server still works and ends.
    silent.lock().expect("nobody panics").clear();
    assert!(ask(&client, &format!("{text} And?")).0 > 64);
    drop(server);
}

#[test]
fn clients_with_one_system_prompt_compute_it_once() {
    const CLIENTS: usize = 8;
    let config = ServerConfig {
        slots: CLIENTS as u32,
        ..config()
    };
    let (server, client) = start(config);
    let system = "A delay line is a tube in which sound goes round and round. ".repeat(8);
    let body = |client: usize| json!({"prompt": format!("{system}{client}"), "max_tokens": 2});
    let usages: Vec<serde_json::Value> = std::thread::scope(|scope| {
        let ask = |number: usize| {
            let (client, body) = (&client, body(number));
            scope.spawn(move || client.post("/v1/completions", &body).json()["usage"].clone())
        };
        let asked: Vec<_> = (0..CLIENTS).map(ask).collect();
        let answers = asked.into_iter().map(|one| one.join().expect("an answer"));
        answers.collect()
    });
    let prompt = usages[0]["prompt_tokens"].as_u64().expect("counted");
    let cached = |usage: &serde_json::Value| {
        let cached = &usage["prompt_tokens_details"]["cached_tokens"];
        cached.as_u64().unwrap_or(0)
    };
    let cached: Vec<u64> = usages.iter().map(cached).collect();
    let first = cached.iter().filter(|&&tokens| tokens == 0).count();
    assert_eq!(first, 1, "one computes it: {cached:?}");
    assert!(
        cached
            .iter()
            .all(|&tokens| tokens == 0 || tokens + 4 >= prompt),
        "the others find it: {cached:?} of {prompt}"
    );
    let found: u64 = cached.iter().sum();
    assert_eq!(client.metric("delayline_cached_tokens_total"), found as f64);
    let computed = client.metric("delayline_prompt_tokens_total");
    assert_eq!(computed, (CLIENTS as u64 * prompt - found) as f64);
    drop(server);
}
