//! The adapters over real sockets: messages and responses have the same answers as chats, in
//! the form of each API; thoughts, channels, embeddings, several answers and biases.

mod common;

use common::{CHAT, Reply, alone, chat, config, events, start, with};
use delayline_server::ServerConfig;
use serde_json::{Value, json};

const MESSAGES: &str = "/v1/messages";
const RESPONSES: &str = "/v1/responses";

/// Events by name, in order.
fn named(reply: &Reply) -> Vec<(String, Value)> {
    let names = reply.body.lines();
    let names = names.filter_map(|line| line.strip_prefix("event: "));
    let data = events(&reply.body).into_iter();
    let parsed = data.map(|data| serde_json::from_str::<Value>(data).expect("JSON"));
    let all: Vec<_> = names.map(str::to_owned).zip(parsed).collect();
    assert!(!all.is_empty(), "{reply:?}");
    for (name, data) in &all {
        assert_eq!(data["type"], name.as_str());
    }
    all
}

fn joined(events: &[(String, Value)], name: &str, pointer: &str) -> String {
    let of = events.iter().filter(|(event, _)| event == name);
    let texts = of.filter_map(|(_, data)| data.pointer(pointer)?.as_str());
    texts.collect()
}

/// A tool that must be called, in OpenAI's form of chats.
fn forced() -> Value {
    // One value alone is allowed: between two the demo model is nearly undecided, and which it
    // says depends on the processor's rounding.
    let parameters = json!({"type": "object", "properties": {"on": {"const": true}},
        "required": ["on"], "additionalProperties": false});
    let tools =
        json!([{"type": "function", "function": {"name": "act", "parameters": parameters}}]);
    let body = with(chat("Do it.", 60), "tools", tools);
    with(
        with(body, "tool_choice", json!("required")),
        "parallel_tool_calls",
        json!(false),
    )
}

#[test]
fn messages_say_what_chats_say() {
    let _alone = alone();
    let (_server, client) = start(config());
    let said = client.post(CHAT, &chat("Say hello.", 8)).json();
    let said = said["choices"][0]["message"]["content"]
        .as_str()
        .expect("a text")
        .to_owned();
    let ask = json!({"max_tokens": 8, "temperature": 0,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Say hello."}]}]});
    let whole = client.post(MESSAGES, &ask).json();
    assert_eq!(whole["content"], json!([{"type": "text", "text": said}]));
    assert_eq!(
        (&whole["stop_reason"], &whole["type"]),
        (&json!("max_tokens"), &json!("message"))
    );
    assert_eq!(whole["usage"]["output_tokens"], 8);
    let counted = client.post("/v1/messages/count_tokens", &ask).json();
    let usage = &whole["usage"];
    let read = usage["input_tokens"]
        .as_u64()
        .zip(usage["cache_read_input_tokens"].as_u64());
    assert_eq!(
        counted["input_tokens"].as_u64(),
        read.map(|(new, known)| new + known)
    );

    let streamed = named(&client.post(MESSAGES, &with(ask.clone(), "stream", json!(true))));
    assert_eq!(
        joined(&streamed, "content_block_delta", "/delta/text"),
        said
    );
    let mut order: Vec<&str> = streamed.iter().map(|(name, _)| name.as_str()).collect();
    order.dedup();
    assert_eq!(
        order,
        [
            "message_start",
            "content_block_start",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop"
        ]
    );
    let end = &streamed[streamed.len() - 2].1;
    assert_eq!(
        (&end["delta"]["stop_reason"], &end["usage"]["output_tokens"]),
        (&json!("max_tokens"), &json!(8))
    );

    // The stop text that was met is in the answer.
    let stop: String = said.chars().skip(2).take(3).collect();
    let stopped = with(ask.clone(), "stop_sequences", json!(["never said", stop]));
    let stopped = client.post(MESSAGES, &stopped).json();
    assert_eq!(
        (&stopped["stop_reason"], &stopped["stop_sequence"]),
        (&json!("stop_sequence"), &json!(stop))
    );

    // Deeply nested: parsing must not copy the content on each level.
    let mut nested = json!([{"type": "text", "text": "", "x": vec![0; 50_000]}]);
    for _ in 0..50 {
        nested = json!([{"type": "tool_result", "tool_use_id": "a", "content": nested}]);
    }
    for (bad, status, kind) in [
        (json!({}), 400, "invalid_request_error"),
        (
            json!({"messages": [{"role": "user", "content": nested}], "max_tokens": 1}),
            400,
            "invalid_request_error",
        ),
        (
            with(ask.clone(), "temperature", json!(9)),
            400,
            "invalid_request_error",
        ),
    ] {
        let reply = client.post(MESSAGES, &bad);
        assert_eq!(reply.status, status, "{reply:?}");
        assert_eq!(
            (&reply.json()["type"], &reply.json()["error"]["type"]),
            (&json!("error"), &json!(kind))
        );
    }
}

#[test]
fn calls_have_the_form_of_each_api() {
    let _alone = alone();
    let (_server, client) = start(config());
    // Fills the cache: a cached prompt may round differently from a computed one.
    client.post(CHAT, &forced());
    let said = client.post(CHAT, &forced()).json();
    let call = &said["choices"][0]["message"]["tool_calls"][0]["function"];
    let arguments = call["arguments"].as_str().expect("a text").to_owned();
    let value: Value = serde_json::from_str(&arguments).expect("JSON");
    let parameters = forced()["tools"][0]["function"]["parameters"].clone();

    let ask = json!({"temperature": 0, "max_tokens": 60, "messages": [{"role": "user", "content": "Do it."}],
        "tools": [{"name": "act", "input_schema": parameters}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": true}});
    let whole = client.post(MESSAGES, &ask).json();
    let used = &whole["content"][0];
    assert_eq!(
        (&used["type"], &used["name"], &used["input"]),
        (&json!("tool_use"), &json!("act"), &value),
        "{whole}"
    );
    assert_eq!(whole["stop_reason"], "tool_use");
    let streamed = named(&client.post(MESSAGES, &with(ask.clone(), "stream", json!(true))));
    assert_eq!(
        joined(&streamed, "content_block_delta", "/delta/partial_json"),
        arguments
    );
    // The conversation continues with the tool's answer.
    let mut next = ask;
    next["tool_choice"] = json!({"type": "auto"});
    next["messages"] = json!([next["messages"][0], {"role": "assistant", "content": whole["content"]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": used["id"], "content": "done"}]}]);
    assert_eq!(client.post(MESSAGES, &next).status, 200);

    let ask = json!({"temperature": 0, "input": "Do it.", "tools": [{"type": "function", "name": "act", "parameters": parameters}],
        "tool_choice": "required", "parallel_tool_calls": false});
    let whole = client.post(RESPONSES, &ask).json();
    let item = &whole["output"][0];
    assert_eq!(
        (&item["type"], &item["arguments"]),
        (&json!("function_call"), &json!(arguments)),
        "{whole}"
    );
    assert_eq!(
        (&whole["status"], &whole["tool_choice"]),
        (&json!("completed"), &json!("required"))
    );
    let streamed = named(&client.post(RESPONSES, &with(ask.clone(), "stream", json!(true))));
    assert_eq!(
        joined(
            &streamed,
            "response.function_call_arguments.delta",
            "/delta"
        ),
        arguments
    );
    let mut next = ask;
    next["tool_choice"] = json!("auto");
    next["input"] = json!([{"role": "user", "content": "Do it."}, item,
        {"type": "function_call_output", "call_id": item["call_id"], "output": "done"}]);
    assert_eq!(client.post(RESPONSES, &next).status, 200);
}

#[test]
fn responses_say_what_chats_say() {
    let _alone = alone();
    let (_server, client) = start(config());
    let said = client.post(CHAT, &chat("Say hello.", 8)).json();
    let said = said["choices"][0]["message"]["content"]
        .as_str()
        .expect("a text")
        .to_owned();
    let ask = json!({"input": "Say hello.", "max_output_tokens": 8, "temperature": 0});
    let whole = client.post(RESPONSES, &ask).json();
    assert_eq!(whole["output"][0]["content"][0]["text"], said, "{whole}");
    assert_eq!(whole["incomplete_details"]["reason"], "max_output_tokens");
    assert_eq!(whole["usage"]["output_tokens"], 8);
    let streamed = named(&client.post(RESPONSES, &with(ask.clone(), "stream", json!(true))));
    assert_eq!(
        joined(&streamed, "response.output_text.delta", "/delta"),
        said
    );
    let mut order: Vec<&str> = streamed.iter().map(|(name, _)| name.as_str()).collect();
    order.dedup();
    let expect = [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "incomplete",
    ];
    assert_eq!(order, expect.map(|name| format!("response.{name}")));
    for (at, (_, data)) in streamed.iter().enumerate() {
        assert_eq!(data["sequence_number"], at);
    }
    let last = &streamed[streamed.len() - 1].1["response"];
    assert_eq!(last["output"][0]["content"][0]["text"], said);
    let refused = client.post(RESPONSES, &with(ask, "previous_response_id", json!("r")));
    assert_eq!(
        refused.json()["error"]["code"],
        "unsupported_parameter",
        "{refused:?}"
    );
}

/// The demo model writes no thoughts, but a template can begin them.
#[test]
fn what_is_thought_is_apart() {
    let _alone = alone();
    let template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n{% if enable_thinking is not defined or enable_thinking %}<think>\n{% else %}<think>\n\n</think>\n\n{% endif %}";
    let (_server, client) = start(ServerConfig {
        chat_template: Some(template.into()),
        ..config()
    });
    let ask = chat("Say hello.", 6);
    let whole = client.post(CHAT, &ask).json();
    let message = &whole["choices"][0]["message"];
    let thought = message["reasoning_content"]
        .as_str()
        .expect("a thought")
        .to_owned();
    assert_eq!(message["content"], "", "{whole}");
    assert_eq!(
        whole["usage"]["completion_tokens_details"]["reasoning_tokens"],
        6
    );
    let reply = client.post(CHAT, &with(ask.clone(), "stream", json!(true)));
    let streamed = events(&reply.body)
        .into_iter()
        .filter_map(|data| serde_json::from_str::<Value>(data).ok());
    let streamed: String = streamed
        .filter_map(|data| {
            Some(
                data["choices"][0]["delta"]["reasoning_content"]
                    .as_str()?
                    .to_owned(),
            )
        })
        .collect();
    assert_eq!(streamed, thought);
    for off in [
        ("reasoning_effort", json!("none")),
        ("chat_template_kwargs", json!({"enable_thinking": false})),
    ] {
        let whole = client.post(CHAT, &with(ask.clone(), off.0, off.1)).json();
        let message = &whole["choices"][0]["message"];
        assert!(
            message["reasoning_content"].is_null() && message["content"] != "",
            "{whole}"
        );
    }
    let ask = json!({"max_tokens": 6, "temperature": 0, "messages": [{"role": "user", "content": "Say hello."}]});
    let whole = client.post(MESSAGES, &ask).json();
    assert_eq!(
        (
            &whole["content"][0]["type"],
            &whole["content"][0]["thinking"]
        ),
        (&json!("thinking"), &json!(thought))
    );
    let streamed = named(&client.post(MESSAGES, &with(ask.clone(), "stream", json!(true))));
    assert_eq!(
        joined(&streamed, "content_block_delta", "/delta/thinking"),
        thought
    );
    let off = with(ask, "thinking", json!({"type": "disabled"}));
    assert_eq!(
        client.post(MESSAGES, &off).json()["content"][0]["type"],
        "text"
    );
    let ask = json!({"max_output_tokens": 6, "temperature": 0, "input": "Say hello."});
    let whole = client.post(RESPONSES, &ask).json();
    assert_eq!(whole["output"][0]["content"][0]["text"], thought, "{whole}");
    let streamed = named(&client.post(RESPONSES, &with(ask, "stream", json!(true))));
    assert_eq!(
        joined(&streamed, "response.reasoning_text.delta", "/delta"),
        thought
    );
}

/// Thoughts obey no grammar and are limited by their budget; the answer after them obeys the
/// schema.
#[test]
fn thoughts_end_with_their_budget_and_a_schema_holds_behind_them() {
    let _alone = alone();
    let template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n<think>\n";
    let (_server, client) = start(ServerConfig {
        chat_template: Some(template.into()),
        thinking_budget: Some(9),
        ..config()
    });
    let schema = json!({"type": "object", "properties": {"on": {"type": "boolean"}},
        "required": ["on"], "additionalProperties": false});
    let ask = with(
        chat("Say hello.", 60),
        "response_format",
        json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}),
    );
    let thought = |whole: &Value| {
        let usage = &whole["usage"]["completion_tokens_details"];
        usage["reasoning_tokens"].as_u64().expect("a number")
    };
    let check = |whole: &Value| {
        let message = &whole["choices"][0]["message"];
        assert!(message["reasoning_content"].is_string(), "{whole}");
        let content = message["content"].as_str().expect("a text");
        let read: Value = serde_json::from_str(content).expect("JSON");
        assert!(read["on"].is_boolean(), "{whole}");
        assert_eq!(whole["choices"][0]["finish_reason"], "stop", "{whole}");
    };
    // The server's own budget, a smaller one, and one under its other name.
    let close = 3;
    let mut counts = Vec::new();
    for (name, budget) in [
        ("seed", json!(1)),
        ("thinking_budget_tokens", json!(4)),
        ("thinking_token_budget", json!(4)),
    ] {
        let whole = client.post(CHAT, &with(ask.clone(), name, budget)).json();
        check(&whole);
        counts.push(thought(&whole));
    }
    assert!(
        (9..=9 + close).contains(&counts[0])
            && (4..=4 + close).contains(&counts[1])
            && counts[1] == counts[2],
        "{counts:?}"
    );
    let none = client.post(CHAT, &with(ask.clone(), "thinking_budget_tokens", json!(0)));
    let none = none.json();
    assert!(thought(&none) <= close, "{none}");
    let content = none["choices"][0]["message"]["content"].as_str();
    serde_json::from_str::<Value>(content.expect("a text")).expect("JSON");
    let message = json!({"max_tokens": 60, "temperature": 0,
        "messages": [{"role": "user", "content": "Say hello."}],
        "thinking": {"type": "enabled", "budget_tokens": 4}});
    let whole = client.post(MESSAGES, &message).json();
    let kinds: Vec<&Value> = (0..2).map(|at| &whole["content"][at]["type"]).collect();
    assert_eq!(kinds, [&json!("thinking"), &json!("text")], "{whole}");
    // A required call follows the thoughts as well.
    let tools = json!([{"type": "function", "function": {"name": "f", "parameters": schema}}]);
    let ask = with(chat("Say hello.", 80), "tools", tools);
    let whole = client.post(CHAT, &with(ask, "tool_choice", json!("required")));
    let whole = whole.json();
    let call = &whole["choices"][0]["message"]["tool_calls"][0]["function"];
    let arguments = call["arguments"].as_str().expect("arguments");
    let arguments: Value = serde_json::from_str(arguments).expect("JSON");
    assert!(arguments["on"].is_boolean(), "{whole}");
    for bad in [json!(-2), json!("much")] {
        let reply = client.post(CHAT, &with(chat("hi", 1), "thinking_budget_tokens", bad));
        assert_eq!(reply.status, 400, "{reply:?}");
    }
}

/// The demo model writes no channels, but a grammar and a budget of thoughts make it do so.
#[test]
fn messages_to_channels_are_thoughts_answers_and_calls() {
    let _alone = alone();
    let template = "{# <|channel|> #}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|start|>assistant";
    let (_server, client) = start(ServerConfig {
        chat_template: Some(template.into()),
        ..config()
    });
    let schema = |value: Value| {
        json!({"type": "object", "properties": {"on": value}, "required": ["on"],
            "additionalProperties": false})
    };
    let ask = with(chat("Say hello.", 160), "thinking_budget_tokens", json!(6));
    let format = json!({"type": "json_schema",
        "json_schema": {"name": "x", "schema": schema(json!({"type": "boolean"}))}});
    let whole = client
        .post(CHAT, &with(ask.clone(), "response_format", format))
        .json();
    let message = &whole["choices"][0]["message"];
    let thought = message["reasoning_content"].as_str().expect("a thought");
    assert!(!thought.is_empty() && !thought.contains("<|"), "{whole}");
    let content = message["content"].as_str().expect("a text");
    let read: Value = serde_json::from_str(content).expect("JSON");
    assert!(read["on"].is_boolean(), "{whole}");
    let tool = |name: &str, value| json!({"type": "function", "function": {"name": name, "parameters": schema(value)}});
    let tools = json!([
        tool("first", json!({"type": "boolean"})),
        tool("second", json!({"enum": ["yes", "no"]})),
    ]);
    let ask = with(with(ask, "tools", tools), "tool_choice", json!("required"));
    let whole = client.post(CHAT, &ask).json();
    assert_eq!(
        whole["choices"][0]["finish_reason"], "tool_calls",
        "{whole}"
    );
    let message = &whole["choices"][0]["message"];
    let call = &message["tool_calls"][0]["function"];
    let arguments = call["arguments"].as_str().expect("arguments");
    let arguments: Value = serde_json::from_str(arguments).expect("JSON");
    let fits = match call["name"].as_str() {
        Some("first") => [json!(true), json!(false)],
        Some("second") => [json!("yes"), json!("no")],
        _ => panic!("{whole}"),
    };
    assert!(fits.contains(&arguments["on"]), "{whole}");
    assert!(message["reasoning_content"].is_string(), "{whole}");
    // Otherwise it writes no channels, and its text is the answer.
    let plain = client.post(CHAT, &chat("Say hello.", 8)).json();
    assert_ne!(plain["choices"][0]["message"]["content"], "", "{plain}");
}

/// The demo model's file is changed to ask for pooling by the last token.
#[test]
fn embeddings_are_told_as_openai_has_them() {
    let _alone = alone();
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let path = dir.path().join("embedder.gguf");
    let plain = std::fs::read(common::demo_model()).expect("the demo model");
    let says = delayline_testing::with_numbers(&plain, &[("llama.pooling_type", 3_u32)]);
    std::fs::write(&path, says).expect("written");
    let (server, client) = start(ServerConfig {
        model: path,
        ..config()
    });
    let post = |body: Value| client.post("/v1/embeddings", &body);
    let texts = [
        "The cat sits on the mat.",
        "A cat sat upon a mat.",
        "Taxes rose by 4 % in 1995.",
    ];
    let whole = post(json!({"input": texts, "model": "text-embedding-3-small"})).json();
    let vectors: Vec<Vec<f64>> = (0..3)
        .map(|at| serde_json::from_value(whole["data"][at]["embedding"].clone()).expect("numbers"))
        .collect();
    assert_eq!(whole["data"][2]["index"], 2, "{whole}");
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    assert!(
        vectors
            .iter()
            .all(|v| v.len() == 576 && (dot(v, v) - 1.0).abs() < 1e-4)
    );
    assert!(dot(&vectors[0], &vectors[1]) > dot(&vectors[0], &vectors[2]));
    let usage = &whole["usage"];
    assert!(
        usage["prompt_tokens"].as_u64() > Some(15)
            && usage["prompt_tokens"] == usage["total_tokens"]
    );
    // More texts than share a lap, given as tokens; with fewer dimensions and as bytes.
    let lists: Vec<Value> = (0..9).map(|n| json!([n + 100, 7, 9])).collect();
    let many = post(json!({"input": lists, "dimensions": 64, "encoding_format": "base64"})).json();
    let texts: Vec<&str> = many["data"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|item| item["embedding"].as_str().expect("a text"))
        .collect();
    assert_eq!((texts.len(), texts[8].len()), (9, 344));
    assert!(texts[0] != texts[1]);
    for (body, part) in [
        (json!({"input": ""}), "empty"),
        (json!({"input": "a", "dimensions": 600}), "576"),
        (json!({"input": "word ".repeat(3000)}), "shorten it"),
        (json!({"input": [-1]}), "not from 0"),
    ] {
        let reply = post(body);
        let error = reply.json()["error"]["message"].to_string();
        assert!(reply.status == 400 && error.contains(part), "{reply:?}");
    }
    // It still generates text.
    assert_eq!(client.post(CHAT, &chat("hi", 1)).status, 200);
    drop(server);
    let (_server, client) = start(config());
    let reply = client.post("/v1/embeddings", &json!({"input": "a"}));
    assert!(
        reply.status == 400 && reply.body.contains("pooling_type"),
        "{reply:?}"
    );
}

#[test]
fn a_request_may_have_several_answers() {
    let _alone = alone();
    let (_server, client) = start(config());
    let ask = with(
        with(chat("Tell me a word.", 6), "temperature", json!(1.5)),
        "seed",
        json!(4),
    );
    let several = client.post(CHAT, &with(ask.clone(), "n", json!(6))).json();
    let choices = several["choices"].as_array().expect("a list");
    let texts: Vec<_> = choices
        .iter()
        .map(|choice| choice["message"]["content"].to_string())
        .collect();
    let indices: Vec<_> = choices
        .iter()
        .map(|choice| choice["index"].as_u64())
        .collect();
    assert_eq!(indices, (0..6).map(Some).collect::<Vec<_>>());
    let mut different = texts.clone();
    different.sort();
    different.dedup();
    assert!(different.len() > 1, "{texts:?}");
    let generated = several["usage"]["completion_tokens"]
        .as_u64()
        .expect("a number");
    assert!((7..=36).contains(&generated), "{several}");

    let texts =
        json!({"prompt": ["One, two,", "Red, green,"], "max_tokens": 5, "temperature": 0, "n": 2});
    let alone: Vec<_> = ["One, two,", "Red, green,"]
        .map(|text| {
            client
                .post(
                    "/v1/completions",
                    &json!({"prompt": text, "max_tokens": 5, "temperature": 0}),
                )
                .json()["choices"][0]["text"]
                .clone()
        })
        .to_vec();
    let all = client.post("/v1/completions", &texts).json();
    let all: Vec<_> = all["choices"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|choice| choice["text"].clone())
        .collect();
    assert_eq!(
        all,
        [
            alone[0].clone(),
            alone[0].clone(),
            alone[1].clone(),
            alone[1].clone()
        ]
    );
    let reply = client.post("/v1/completions", &with(texts, "stream", json!(true)));
    let mut streamed = vec![String::new(); 4];
    let (mut ended, mut usages) = (0, 0);
    for data in events(&reply.body)
        .into_iter()
        .filter_map(|data| serde_json::from_str::<Value>(data).ok())
    {
        let choice = &data["choices"][0];
        let at = choice["index"].as_u64().expect("a number") as usize;
        streamed[at] += choice["text"].as_str().expect("a text");
        ended += usize::from(choice["finish_reason"].is_string());
        usages += usize::from(data["usage"].is_object());
    }
    assert_eq!((ended, usages), (4, 1));
    assert_eq!(
        streamed.into_iter().map(Value::from).collect::<Vec<_>>(),
        all
    );
}

#[test]
fn a_bias_bans_and_forces() {
    let _alone = alone();
    let (_server, client) = start(config());
    let ask = json!({"prompt": "One, two,", "max_tokens": 4, "temperature": 0, "logprobs": 0});
    let tokens = |body: &Value| {
        client.post("/v1/completions", body).json()["choices"][0]["logprobs"]["tokens"].clone()
    };
    let plain = tokens(&ask);
    // Any token becomes the likeliest with a bias of 100.
    let forced = tokens(&with(ask.clone(), "logit_bias", json!({"5000": 100})));
    let forced = forced.as_array().expect("a list");
    assert!(
        forced.iter().all(|token| *token == forced[0]) && Some(forced) != plain.as_array(),
        "{forced:?}"
    );
    let both = tokens(&with(
        ask,
        "logit_bias",
        json!({"5000": 100, "5001": 100, "999999999": 1}),
    ));
    assert!(both.as_array().expect("a list").len() == 4, "{both}");
}
