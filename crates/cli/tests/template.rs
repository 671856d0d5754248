//! `delayline template`: what a template makes of a request, and what is refused.

mod common;

use std::fs;

use common::{delayline, model, scratch, stderr, text};

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
        // Wants parts, and is given the text that the request has.
        (
            "{% for p in messages[0].content %}{% if p.type == 'text' %}{{ p.text }}{% endif %}{% endfor %}.",
            body,
            Ok("."),
        ),
        ("{{ raise_exception('not so') }}", body, Err("not so")),
        ("{% for %}", body, Err("cannot be used")),
        ("x", "[]", Err("no chat request")),
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
