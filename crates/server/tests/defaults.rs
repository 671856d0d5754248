//! Defaults: names of models, templates, parameters that clients send unasked, and sampling
//! parameters of the model's file.

mod common;

use common::{CHAT, JSON, MODEL, alone, chat, config, start, with};
use delayline_server::ServerConfig;
use serde_json::json;

#[test]
fn a_model_has_other_names_if_it_is_given_any() {
    let _alone = alone();
    let (_server, client) = start(ServerConfig {
        aliases: vec!["gpt-4o".into(), "mine".into()],
        ..config()
    });
    let listed = client.get("/v1/models").json();
    let listed = listed["data"].as_array().expect("a list").iter();
    let names: Vec<_> = listed
        .map(|model| model["id"].as_str().expect("a name"))
        .collect();
    assert_eq!(names, [MODEL, "gpt-4o", "mine"]);
    for name in names {
        let reply = client.post(CHAT, &with(chat("hi", 1), "model", json!(name)));
        assert_eq!((reply.status, &reply.json()["model"]), (200, &json!(name)));
        assert_eq!(client.get(&format!("/v1/models/{name}")).json()["id"], name);
    }
    // A request for an unknown model is answered by the only one, under its own name.
    let other = with(chat("hi", 1), "model", json!("gpt-4"));
    let reply = client.post(CHAT, &other);
    assert_eq!((reply.status, &reply.json()["model"]), (200, &json!(MODEL)));
    assert_eq!(client.get("/v1/models/gpt-4").status, 404);
    drop(_server);
    let (_server, client) = start(ServerConfig {
        strict_model: true,
        ..config()
    });
    let reply = client.post(CHAT, &other);
    assert_eq!(
        reply.json()["error"]["code"],
        "model_not_found",
        "{reply:?}"
    );
}

#[test]
fn the_prompt_of_a_chat_is_shown_by_the_template_that_was_given() {
    let _alone = alone();
    let (server, client) = start(config());
    let ask = json!({"max_tokens": 1, "messages": [{"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hi"}], "tools": [{"type": "function", "function": {"name": "f"}}]});
    let reply = client.post("/apply-template", &ask).json();
    let prompt = reply["prompt"].as_str().expect("a prompt");
    assert!(
        prompt.starts_with("<|im_start|>system\nYou may call"),
        "{prompt}"
    );
    assert!(prompt.contains("Be brief.<|im_end|>\n<|im_start|>user\nhi<|im_end|>"));
    let wrong = client.post("/apply-template", &json!({"messages": []}));
    assert_eq!(wrong.status, 400);
    drop(server);
    let (_server, client) = start(ServerConfig {
        chat_template: Some("{{ tools[0].function.name }}:{{ messages[1].content }}\r\n!".into()),
        ..config()
    });
    let reply = client.post("/apply-template", &ask).json();
    assert_eq!(reply, json!({"prompt": "f:hi\n!"}));
    assert_eq!(client.post(CHAT, &ask).status, 200);
}

/// Values without effect, which client libraries send, are accepted.
#[test]
fn what_clients_send_by_default_is_taken() {
    let _alone = alone();
    let (_server, client) = start(config());
    let good = chat("hi", 1).to_string();
    let marked = format!("\u{feff}{good}");
    let ask = |more: &str, body: &str| client.ask("POST", CHAT, &format!("{JSON}{more}"), body);
    assert_eq!(ask("", &marked).status, 200);
    assert_eq!(ask("Content-Encoding: identity\r\n", &good).status, 200);
    assert_eq!(ask("Content-Encoding: gzip\r\n", &good).status, 415);
    let nothing = json!({"max_completion_tokens": null, "stop": "", "top_k": -1, "seed": -1,
        "n": 1.0, "tools": [], "reasoning": {}, "audio": null, "logit_bias": {}, "user": ""});
    let mut body = chat("hi", 1);
    for (name, value) in nothing.as_object().expect("an object") {
        body = with(body, name, value.clone());
    }
    let reply = client.post(CHAT, &body);
    assert_eq!(reply.status, 200, "{reply:?}");
}

#[test]
fn the_models_own_sampling_is_the_default() {
    let _alone = alone();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tiny.gguf");
    let model = delayline_synth::Blueprint::named("tiny-llama").expect("a known shape");
    let quant = delayline_synth::Quant::Q8_0;
    delayline_synth::write(&model, quant, 1, &path, &mut |_, _| {}).expect("a model");
    let plain = std::fs::read(&path).expect("a model");
    let ask = |seed: u64| json!({"prompt": "One", "max_tokens": 8, "seed": seed});
    // With random weights no token is likely: only a temperature of 0 repeats an answer.
    for (keys, same) in [(&[("general.sampling.temp", 0.0)][..], true), (&[], false)] {
        std::fs::write(&path, delayline_testing::with_numbers(&plain, keys)).expect("written");
        let (_server, client) = start(ServerConfig {
            model: path.clone(),
            engine: delayline_engine::Options {
                memory: Some(4 << 30),
                ctx: Some(64),
                threads: Some(1),
                ..config().engine
            },
            ..config()
        });
        let said =
            |body| client.post("/v1/completions", &body).json()["choices"][0]["text"].clone();
        let (first, second) = (said(ask(1)), said(ask(2)));
        assert!(first.is_string());
        assert_eq!(first == second, same, "{keys:?}: {first} {second}");
        let wild = |seed| with(ask(seed), "temperature", json!(1.5));
        assert_ne!(
            said(wild(1)),
            said(wild(2)),
            "what a request says goes before"
        );
    }
}
