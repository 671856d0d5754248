//! Tool calls over real sockets: forced ones obey their schemas, streamed or not.

mod common;

use common::{CHAT, alone, chat, config, events, start, with};
use serde_json::{Value, json};

/// A random schema, and a check whether a value is valid.
fn parameter(dice: u64) -> (Value, fn(&Value) -> bool) {
    match dice % 5 {
        0 => (json!({"type": "boolean"}), Value::is_boolean),
        1 => (
            json!({"type": "integer", "minimum": 3, "maximum": 20}),
            |v| v.as_i64().is_some_and(|n| (3..=20).contains(&n)),
        ),
        2 => (json!({"enum": ["north", "south"]}), |v| {
            *v == "north" || *v == "south"
        }),
        3 => (json!({"type": "string", "maxLength": 6}), |v| {
            v.as_str().is_some_and(|text| text.chars().count() <= 6)
        }),
        _ => (
            json!({"type": "array", "items": {"type": "null"}, "maxItems": 2}),
            |v| {
                v.as_array()
                    .is_some_and(|v| v.len() <= 2 && v.iter().all(Value::is_null))
            },
        ),
    }
}

#[test]
fn forced_calls_obey_their_schemas_streamed_or_not() {
    let _alone = alone();
    let (_server, client) = start(config());
    let seed = delayline_testing::seed();
    for round in 0..3 {
        let dice = seed.wrapping_add(round).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 8;
        let (a, b) = (parameter(dice), parameter(dice / 7));
        let tools = json!([{"type": "function", "function": {"name": "act", "parameters":
            {"type": "object", "properties": {"a": a.0, "b": b.0}, "required": ["a", "b"],
            "additionalProperties": false}}},
            {"type": "function", "function": {"name": "other", "parameters": {"type": "object", "properties": {}}}}]);
        let body = with(chat("Do it.", 100), "tools", tools);
        let choice = json!({"type": "function", "function": {"name": "act"}});
        let body = with(
            with(body, "tool_choice", choice),
            "parallel_tool_calls",
            json!(false),
        );
        let body = with(
            with(body, "temperature", json!(1)),
            "seed",
            json!(dice % 1000),
        );
        let whole = client.post(CHAT, &body);
        assert_eq!(whole.status, 200, "{whole:?}");
        let choice = whole.json()["choices"][0].clone();
        assert_eq!(choice["finish_reason"], "tool_calls", "{choice}");
        let calls = choice["message"]["tool_calls"].as_array().expect("calls");
        assert_eq!(calls.len(), 1);
        let function = &calls[0]["function"];
        assert_eq!(function["name"], "act");
        let text = function["arguments"].as_str().expect("a text");
        let value: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"));
        assert!((a.1)(&value["a"]) && (b.1)(&value["b"]), "{text}");
        assert_eq!(
            value.as_object().map(serde_json::Map::len),
            Some(2),
            "{text}"
        );

        let reply = client.post(CHAT, &with(body, "stream", json!(true)));
        let (mut streamed, mut last) = (String::new(), Value::Null);
        for event in events(&reply.body) {
            let Ok(event) = serde_json::from_str::<Value>(event) else {
                continue;
            };
            let call = &event["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"];
            streamed.push_str(call.as_str().unwrap_or_default());
            last = event["choices"][0]["finish_reason"].clone();
        }
        assert_eq!((streamed.as_str(), last), (text, json!("tool_calls")));
    }
}

#[test]
fn a_conversation_with_calls_goes_on() {
    let _alone = alone();
    let (_server, client) = start(config());
    let mut body = chat("How is the weather?", 4);
    body["messages"] = json!([
        {"role": "user", "content": "How is the weather?"},
        {"role": "assistant", "content": null, "tool_calls": [{"id": "c1", "type": "function",
            "function": {"name": "weather", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "grey"},
    ]);
    body["tools"] = json!([{"type": "function", "function": {"name": "weather"}}]);
    let reply = client.post(CHAT, &body);
    assert_eq!(reply.status, 200, "{reply:?}");
    // The demo model's template ignores tools, so a system message describes them.
    let told = reply.json()["usage"]["prompt_tokens"].as_u64();
    body.as_object_mut().expect("an object").remove("tools");
    let bare = client.post(CHAT, &body).json()["usage"]["prompt_tokens"].as_u64();
    assert!(told > bare.map(|n| n + 30), "{told:?} {bare:?}");
    body["messages"][2]["tool_call_id"] = json!("c2");
    let refused = client.post(CHAT, &body);
    assert_eq!(refused.status, 400, "{refused:?}");
    assert!(refused.body.contains("holds no call"), "{refused:?}");
}
