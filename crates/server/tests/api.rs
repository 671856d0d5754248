//! The API over real sockets: whole answers and streams, one and many at a time, errors, and
//! the description of the API.

mod common;

use std::collections::HashSet;
use std::sync::Arc;

use common::{CHAT, Client, JSON, MODEL, alone, chat, config, events, start, with};
use delayline_engine::{Error, HotnessFile, Options};
use delayline_server::OPENAPI;
use delayline_server::ServerConfig;
use delayline_server::api::{anthropic, embeddings, responses};
use serde_json::{Value, json};

#[test]
fn whole_or_in_pieces_an_answer_is_the_same() {
    let _alone = alone();
    let (_server, client) = start(config());
    let body = chat("Say hello.", 12);
    let whole = client.post(CHAT, &body);
    assert_eq!(whole.status, 200, "{whole:?}");
    let whole = whole.json();
    let text = whole["choices"][0]["message"]["content"]
        .as_str()
        .expect("a text");
    assert!(!text.is_empty());
    assert_eq!(whole["object"], "chat.completion");
    assert_eq!(whole["model"], MODEL);
    assert_eq!(whole["choices"][0]["finish_reason"], "length");
    assert_eq!(whole["usage"]["completion_tokens"], 12);

    let body = with(body, "stream", json!(true));
    // By default, usage is in the event of the end.
    let reply = client.post(CHAT, &body);
    let mut unasked = events(&reply.body);
    assert_eq!(unasked.pop(), Some("[DONE]"));
    let last: Value = serde_json::from_str(unasked[unasked.len() - 1]).expect("JSON");
    assert_eq!(last["choices"][0]["finish_reason"], "length");
    assert_eq!(last["usage"]["completion_tokens"], 12);

    let body = with(body, "stream_options", json!({"include_usage": true}));
    let reply = client.post(CHAT, &body);
    assert_eq!(reply.header("content-type"), Some("text/event-stream"));
    let mut events = events(&reply.body);
    assert_eq!(events.pop(), Some("[DONE]"));
    let events: Vec<Value> = events
        .iter()
        .map(|event| serde_json::from_str(event).expect("JSON"))
        .collect();
    let pieces = events
        .iter()
        .filter_map(|e| e["choices"][0]["delta"]["content"].as_str());
    assert_eq!(pieces.collect::<String>(), text);
    let (last, before) = events.split_last().expect("events");
    assert_eq!(last["usage"]["completion_tokens"], 12);
    assert_eq!(last["choices"], json!([]));
    assert!(before.iter().all(|event| event["usage"].is_null()));
    let ids: HashSet<&str> = events.iter().filter_map(|e| e["id"].as_str()).collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(
        before.last().expect("one")["choices"][0]["finish_reason"],
        "length"
    );
}

#[test]
fn many_ride_together() {
    let _alone = alone();
    let (_server, client) = start(config());
    let words = ["red", "green", "blue", "white", "black", "grey"];
    let sent: Vec<_> = words
        .iter()
        .map(|word| {
            let body = with(
                chat(&format!("Tell me of {word}."), 24),
                "stream",
                json!(true),
            );
            client.send_json(CHAT, &body)
        })
        .collect();
    for mut stream in sent {
        let reply = common::read(&mut stream);
        assert_eq!(reply.status, 200);
        let events = events(&reply.body);
        assert_eq!(events.last(), Some(&"[DONE]"));
        assert!(events.len() > 3, "{reply:?}");
    }
    assert_eq!(client.metric("delayline_riding"), 0.0);
    let (laps, tokens) = (
        client.metric("delayline_laps_total"),
        client.metric("delayline_generated_tokens_total"),
    );
    assert!(
        tokens > 1.5 * laps,
        "{tokens} tokens in {laps} laps: nobody shared"
    );
    // The lower bound of the time in laps, and the time of their bytes.
    let [lap_s, limit_s, busy_s] = ["lap", "limit", "drive_busy"]
        .map(|name| client.metric(&format!("delayline_{name}_seconds_total")));
    let (read, rate) = (
        client.metric("delayline_read_bytes_total"),
        client.metric("delayline_device_bytes_per_second"),
    );
    assert!(read > 0.0 && (busy_s - read / rate).abs() < 1e-6 * busy_s);
    assert!(0.0 < limit_s && limit_s <= lap_s, "{limit_s} of {lap_s} s");
}

#[test]
fn what_was_hot_is_read_while_nobody_asks() {
    let _alone = alone();
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let model = dir.path().join("mixture.gguf");
    let shape = delayline_synth::Blueprint::named("tiny-qwen3moe").expect("a known shape");
    delayline_synth::write(
        &shape,
        delayline_synth::Quant::F16,
        1,
        &model,
        &mut |_, _| {},
    )
    .expect("a model");
    let mut config = config();
    config.model.clone_from(&model);
    let least = Options {
        weights: Some(0),
        seqs: Some(config.slots),
        ..config.engine.clone()
    };
    let Err(Error::Budget { weights, .. }) = delayline_llama::open(&model, &least) else {
        panic!("nothing is not enough");
    };
    // Room for all other weights and for some of the experts.
    let len = std::fs::metadata(&model).expect("a file").len();
    config.engine.weights = Some(weights + len * 6 / 10);
    let begin = || {
        let mut config = config.clone();
        config.engine.hotness = Some(Arc::new(HotnessFile::open(&model)));
        start(config)
    };
    let answer = |client: &Client| {
        let body = json!({"prompt": "Some words.", "max_tokens": 16, "temperature": 0});
        let reply = client.post("/v1/completions", &body);
        assert_eq!(reply.status, 200, "{reply:?}");
        let answer = reply.json();
        let read = client.metric("delayline_expert_read_bytes_total");
        assert!(client.metric("delayline_expert_uses_total") > 0.0);
        (answer["choices"][0]["text"].clone(), read)
    };
    let (server, client) = begin();
    let (text, cold) = answer(&client);
    assert_eq!(client.metric("delayline_expert_warmed_bytes_total"), 0.0);
    server.drain().expect("it ends");
    let (_server, client) = begin();
    client.until("delayline_expert_warmed_bytes_total", |bytes| bytes > 0.0);
    let (again, warm) = answer(&client);
    assert_eq!(text, again);
    assert!(
        warm < cold,
        "{warm} bytes after a start with a list, {cold} without"
    );
}

#[test]
fn an_answer_obeys_its_schema_and_its_stops() {
    let _alone = alone();
    let (_server, client) = start(config());
    let schema = json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 12},
            "age": {"type": "integer", "minimum": 18, "exclusiveMaximum": 100},
            "share": {"type": "number", "minimum": 0, "maximum": 1},
            "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 2},
            "more": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/pair"}]}
        },
        "required": ["age", "share", "more"],
        "$defs": {"pair": {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 2}}
    });
    let format = json!({"type": "json_schema", "json_schema": {"name": "p", "schema": schema}});
    for seed in 0..4 {
        let body = with(
            chat("A person, please.", 160),
            "response_format",
            format.clone(),
        );
        let body = with(with(body, "temperature", json!(1.5)), "seed", json!(seed));
        let answer = client.post(CHAT, &body).json();
        assert_eq!(answer["choices"][0]["finish_reason"], "stop", "{answer}");
        let text = answer["choices"][0]["message"]["content"]
            .as_str()
            .expect("a text");
        let value: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"));
        let fields = value.as_object().expect("an object");
        let age = fields["age"].as_i64().expect("a whole number");
        assert!((18..100).contains(&age), "{text}");
        let share = fields["share"].as_f64().expect("a number");
        assert!((0.0..=1.0).contains(&share), "{text}");
        assert!(
            fields["more"].is_null() || fields["more"].as_array().is_some_and(|m| m.len() == 2)
        );
        assert!(
            fields
                .keys()
                .all(|k| ["name", "age", "share", "tags", "more"].contains(&k.as_str()))
        );
    }
    let body = with(
        chat("A person, please.", 60),
        "response_format",
        json!({"type": "json_object"}),
    );
    let answer = client.post(CHAT, &with(body, "stop", json!(["{"]))).json();
    assert_eq!(answer["choices"][0]["message"]["content"], "", "{answer}");
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
}

#[test]
fn texts_and_tokens_are_continued() {
    let _alone = alone();
    let (_server, client) = start(config());
    let path = "/v1/completions";
    let body =
        json!({"prompt": "One, two, three,", "max_tokens": 4, "temperature": 0, "logprobs": 2});
    let reply = client.post(path, &body).json();
    assert_eq!(reply["object"], "text_completion");
    let text = reply["choices"][0]["text"]
        .as_str()
        .expect("a text")
        .to_owned();
    let logprobs = &reply["choices"][0]["logprobs"];
    let tokens: Vec<&str> = logprobs["tokens"]
        .as_array()
        .expect("tokens")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(tokens.concat(), text);
    assert_eq!(logprobs["text_offset"][0], 0);
    for (at, own) in logprobs["token_logprobs"]
        .as_array()
        .expect("a list")
        .iter()
        .enumerate()
    {
        let own = own.as_f64().expect("a number");
        let top = logprobs["top_logprobs"][at]
            .as_object()
            .expect("the likeliest");
        let best = top
            .values()
            .filter_map(Value::as_f64)
            .fold(f64::MIN, f64::max);
        assert!(
            own <= 0.0 && (own - best).abs() < 1e-6,
            "greedy takes the likeliest: {own}, {best}"
        );
    }
    let asked = client.post(path, &json!({"prompt": [1, 2, 3], "max_tokens": 1}));
    assert_eq!(asked.status, 200, "{asked:?}");
    assert_eq!(asked.json()["usage"]["prompt_tokens"], 3);
}

#[test]
fn equal_seeds_give_equal_answers() {
    let _alone = alone();
    let (_server, client) = start(config());
    let ask = |seed: u32| {
        let body = with(chat("Tell me a story.", 16), "temperature", json!(1.5));
        let reply = client.post(CHAT, &with(body, "seed", json!(seed))).json();
        reply["choices"][0]["message"]["content"]
            .as_str()
            .expect("a text")
            .to_owned()
    };
    // Fills the cache, so that all others find the prompt there.
    ask(0);
    assert_eq!(ask(7), ask(7));
    let others: HashSet<String> = (0..4).map(ask).collect();
    assert!(others.len() > 1, "{others:?}");
}

#[test]
fn what_cannot_be_is_told_in_openais_form() {
    let _alone = alone();
    let (_server, client) = start(ServerConfig {
        strict_model: true,
        ..config()
    });
    let post = |body: &str| client.ask("POST", CHAT, JSON, body);
    let long = format!(
        r#"{{"messages": [{{"role": "user", "content": "{}"}}]}}"#,
        "word ".repeat(3000)
    );
    let huge = "x".repeat(300 << 10);
    for (reply, status, kind, says) in [
        (post("{"), 400, "invalid_request_error", "JSON object"),
        (
            post("{}"),
            400,
            "invalid_request_error",
            "`messages` is missing",
        ),
        (
            post(&with(chat("x", 1), "tools", json!([{"type": "function"}])).to_string()),
            400,
            "invalid_request_error",
            "`tools`",
        ),
        (
            post(&with(chat("x", 1), "temperature", json!(9)).to_string()),
            400,
            "invalid_request_error",
            "`temperature`",
        ),
        (
            post(&with(chat("x", 1), "model", json!("gpt-4")).to_string()),
            404,
            "invalid_request_error",
            "gpt-4",
        ),
        (post(&long), 400, "invalid_request_error", "tokens"),
        (post(&huge), 413, "invalid_request_error", "longer than"),
        (
            client.ask("POST", CHAT, "Content-Type: text/plain\r\n", "{}"),
            415,
            "invalid_request_error",
            "application/json",
        ),
        (
            client.get("/v1/nothing"),
            404,
            "invalid_request_error",
            "nothing is here",
        ),
        (
            client.get("/v1/models/other"),
            404,
            "invalid_request_error",
            "other",
        ),
        (client.get(CHAT), 405, "invalid_request_error", "method"),
        (
            client.post("/v1/completions", &json!({"prompt": [999_999]})),
            400,
            "invalid_request_error",
            "tokens that are not",
        ),
        (
            client.post("/v1/completions", &json!({"prompt": ["a", "b"], "n": 33})),
            400,
            "invalid_request_error",
            "answers at most",
        ),
    ] {
        assert_eq!(reply.status, status, "{says}: {reply:?}");
        let error = &reply.json()["error"];
        assert_eq!(error["type"], kind, "{reply:?}");
        let message = error["message"].as_str().expect("a message");
        assert!(message.contains(says), "{message}");
        assert!(error.get("param").is_some() && error.get("code").is_some());
    }
    let left = json!({"$ref": "#"});
    let format = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": left}});
    let reply = client.post(CHAT, &with(chat("x", 1), "response_format", format));
    assert_eq!(reply.status, 400, "{reply:?}");
    // The server still answers.
    assert_eq!(client.post(CHAT, &chat("hi", 2)).status, 200);
}

#[test]
fn it_tells_of_itself() {
    let _alone = alone();
    let (server, client) = start(config());
    let models = client.get("/v1/models").json();
    assert_eq!(models["data"][0]["id"], MODEL);
    assert_eq!(models["data"][0]["context_length"], server.started().ctx);
    assert_eq!(
        client.get(&format!("/v1/models/{MODEL}")).json()["object"],
        "model"
    );
    assert_eq!(client.get("/health").json()["status"], "ok");
    assert_eq!(client.get("/openapi.json").json()["openapi"], "3.1.0");
    assert!(client.get("/").body.contains("<html"));
    let started = server.started();
    assert!(started.streamed_bytes > 0 && started.compute_s.is_some_and(|s| s > 0.0));
    assert!(client.get("/metrics").body.ends_with("# EOF\n"));
}

/// The OpenAPI description and the server have the same parameters and paths.
#[test]
fn the_description_is_complete() {
    let _alone = alone();
    let (_server, client) = start(config());
    let api: Value = serde_json::from_str(OPENAPI).expect("JSON");
    let paths = api["paths"].as_object().expect("paths");
    for path in paths.keys().filter(|path| *path != "/live") {
        let get = client.get(&path.replace("{model}", MODEL));
        let expected = if paths[path].get("get").is_some() {
            200
        } else {
            405
        };
        assert_eq!(get.status, expected, "{path}");
    }
    let properties = |name: &str| {
        let schema = &api["components"]["schemas"][name]["properties"];
        schema
            .as_object()
            .expect("properties")
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    for (path, names, base) in [
        (CHAT, properties("ChatRequest"), chat("x", 1)),
        (
            "/v1/completions",
            properties("CompletionRequest"),
            json!({"prompt": "x", "max_tokens": 1}),
        ),
    ] {
        for name in &names {
            // With a wrong type: the error for a known parameter is about the type.
            let reply = client.post(path, &with(base.clone(), name, json!({"wrong": 1})));
            let error = reply.json()["error"].clone();
            // Variables of templates may have any value.
            let free = name == "chat_template_kwargs"
                || api["components"]["schemas"]["ChatRequest"]["properties"][name] == json!({});
            assert_eq!(error.is_null(), free, "{name}: {reply:?}");
            let neutral = error["code"] == "unsupported_parameter";
            let values =
                api["components"]["schemas"]["ChatRequest"]["properties"][name]["enum"].is_array();
            assert_eq!(neutral, values, "{path} {name}: {error}");
        }
        let other = client.post(path, &with(base.clone(), "audio", json!({"voice": "x"})));
        assert_eq!(other.json()["error"]["code"], "unsupported_parameter");
    }
    for (name, known) in [
        (
            "EmbeddingsRequest",
            &[embeddings::PARAMETERS, &["user"]].concat()[..],
        ),
        ("MessagesRequest", anthropic::PARAMETERS),
        ("ResponsesRequest", responses::PARAMETERS),
    ] {
        let mut known = known.to_vec();
        known.sort_unstable();
        assert_eq!(properties(name), known);
    }
}
