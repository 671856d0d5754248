//! `delayline template`: what a template makes of a request, and what is refused.

mod common;

use std::fs;

use common::{command, delayline, model, objects, scratch, stderr, text};

#[test]
fn a_request_is_rendered_as_it_is() {
    let folder = scratch();
    let (template, request) = (folder.path().join("t.jinja"), folder.path().join("r.json"));
    let body = r#"{"messages": [{"role": "user", "content": "Grüße {{ x }}"}],
        "tools": [{"z": 1, "a": [true, null]}], "chat_template_kwargs": {"enable_thinking": false}}"#;
    for (source, request_text, expect) in [
        (
            "{{ bos_token }}\r\n{% for t in tools %}\n{{ t|tojson }}\r\n{% endfor %}{{ messages[0].content }}|{{ enable_thinking }}\n",
            body,
            Ok("<|im_start|>\n{\"z\": 1, \"a\": [true, null]}\nGrüße {{ x }}|False"),
        ),
        // A template that wants parts gets the text of the request as it is.
        (
            "{% for p in messages[0].content %}{% if p.type == 'text' %}{{ p.text }}{% endif %}{% endfor %}.",
            body,
            Ok("."),
        ),
        ("{{ raise_exception('not so') }}", body, Err("not so")),
        ("{% for %}", body, Err("cannot be used")),
        ("x", "[]", Err("not a chat request")),
    ] {
        fs::write(&template, source).expect("written");
        fs::write(&request, request_text).expect("written");
        let out = delayline(
            "template --chat-template",
            &[&text(&template), &model(), &text(&request)],
        );
        let (said, error) = (String::from_utf8_lossy(&out.stdout), stderr(&out));
        match expect {
            Ok(text) => assert_eq!((&*said, out.status.code()), (text, Some(0)), "{error}"),
            Err(says) => {
                assert!(error.contains(says), "{source}: {error}");
                assert_eq!((&*said, out.status.code()), ("", Some(1)));
            }
        }
    }
}

#[test]
fn a_model_goes_by_its_name_and_is_listed() {
    let cache = scratch();
    let snapshot = cache.path().join("models--org--demo/snapshots/1");
    fs::create_dir_all(&snapshot).expect("a folder");
    std::os::unix::fs::symlink(
        fs::canonicalize(model()).expect("the model"),
        snapshot.join("demo-Q4_1.gguf"),
    )
    .expect("a link");
    let request = cache.path().join("r.json");
    fs::write(
        &request,
        r#"{"messages": [{"role": "user", "content": "hi"}]}"#,
    )
    .expect("written");
    let ask = |args: &str, more: &[&str]| {
        command(args, more)
            .env("HF_HUB_CACHE", cache.path())
            .env("HF_HUB_OFFLINE", "1")
            .output()
            .expect("it runs")
    };
    let shown = ask("template hf:org/demo:q4_1", &[&text(&request)]);
    let prompt = String::from_utf8_lossy(&shown.stdout);
    assert!(
        prompt.contains("<|im_start|>user\nhi"),
        "{}",
        stderr(&shown)
    );
    let none = ask("template hf:org/demo:Q8_0", &[&text(&request)]);
    assert_eq!(none.status.code(), Some(1));
    assert!(
        stderr(&none).contains("there are demo-Q4_1"),
        "{}",
        stderr(&none)
    );
    for (memory, streams) in [("1GiB", false), ("64MiB", true)] {
        let listed = objects(&ask("list --json --memory", &[memory]));
        assert_eq!(listed.len(), 1, "{listed:?}");
        assert_eq!(
            (&listed[0]["repo"], &listed[0]["streams"]),
            (&"org/demo".into(), &streams.into())
        );
    }
}
