//! Calls in each format, in pieces of any lengths.

use super::*;

/// Reads an answer in pieces of `step` characters; returns its text, and its calls with their
/// arguments.
fn read(source: &str, text: &str, step: usize) -> (String, Vec<(String, String)>) {
    let names = vec!["f".to_owned(), "g".to_owned()];
    let mut reader = CallReader::new(CallFormat::in_template(source), names);
    let (mut said, mut calls) = (String::new(), Vec::<(String, String)>::new());
    let chars: Vec<char> = text.chars().collect();
    let mut parts: Vec<AnswerPart> = Vec::new();
    for piece in chars.chunks(step) {
        parts.extend(reader.push(&piece.iter().collect::<String>()));
    }
    parts.extend(reader.finish());
    for part in parts {
        match part {
            AnswerPart::Content(text) => said.push_str(&text),
            AnswerPart::Call { index, name } => {
                assert_eq!(index, calls.len());
                calls.push((name, String::new()));
            }
            AnswerPart::Thought(text) => panic!("nothing is thought: {text}"),
            AnswerPart::Arguments { index, text } => calls[index].1.push_str(&text),
        }
    }
    assert_eq!(reader.called(), !calls.is_empty());
    (said, calls)
}

#[test]
fn calls_are_told_from_text() {
    let hermes = "<tool_call>";
    let llama = "<|python_tag|>";
    let mistral = "[TOOL_CALLS]";
    let f = |arguments: &str| ("f".to_owned(), arguments.to_owned());
    let g = |arguments: &str| ("g".to_owned(), arguments.to_owned());
    for (form, text, said, calls) in [
        (hermes, "just < text <tool", "just < text <tool", vec![]),
        (
            hermes,
            "Well.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"}{\\\"\"}}\n</tool_call>\n<tool_call>{\"arguments\": {}, \"name\": \"g\"}</tool_call>",
            "Well.",
            vec![f("{\"a\": \"}{\\\"\"}"), g("{}")],
        ),
        (
            hermes,
            "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": [1",
            "",
            vec![f("{\"a\": [1")],
        ),
        (
            hermes,
            "<tool_call>\n{\"name\": \"none\", \"arguments\": {}}\n</tool_call>",
            "<tool_call>\n{\"name\": \"none\", \"arguments\": {}}\n</tool_call>",
            vec![],
        ),
        (
            llama,
            "{\"name\": \"f\", \"parameters\": {\"a\": 1}}",
            "",
            vec![f("{\"a\": 1}")],
        ),
        (
            llama,
            "<|python_tag|>{\"name\":\"f\",\"parameters\":{}}; {\"name\":\"g\",\"parameters\":{\"b\":null}}",
            "",
            vec![f("{}"), g("{\"b\":null}")],
        ),
        (llama, "{\"x\": 1} it is", "{\"x\": 1} it is", vec![]),
        (
            mistral,
            "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {}}, {\"name\": \"g\", \"arguments\": {\"c\": {}}}]",
            "",
            vec![f("{}"), g("{\"c\": {}}")],
        ),
        (
            mistral,
            "[{\"name\": \"f\", \"arguments\": \"{\\\"a\\\": 1}\"}]",
            "",
            vec![f("{\"a\":1}")],
        ),
    ] {
        for step in [1, 2, 3, 7, 1000] {
            let got = read(form, text, step);
            assert_eq!(got, (said.to_owned(), calls.clone()), "{text} by {step}");
        }
    }
}
