//! What client libraries and small clients send without being asked to.

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
    let reply = client.post(CHAT, &with(chat("hi", 1), "model", json!("gpt-4")));
    assert_eq!(
        reply.json()["error"]["code"],
        "model_not_found",
        "{reply:?}"
    );
}

/// As libraries and small clients send them: nothing asked for is nothing refused.
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
