//! Parses the messages of a chat, and checks their roles, contents and tool calls.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::error::ApiError;

/// A message in the form for chat templates.
#[derive(Debug, Default, Serialize)]
pub struct ChatTurn {
    role: String,
    content: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<TurnCall>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

impl ChatTurn {
    /// A system message.
    pub fn system(content: String) -> Self {
        Self {
            role: "system".into(),
            content,
            ..Self::default()
        }
    }

    /// Whether it is a system message.
    pub fn is_system(&self) -> bool {
        self.role == "system"
    }

    /// Appends the content of another message.
    pub fn append(&mut self, other: &Self) {
        self.content.push_str("\n\n");
        self.content.push_str(&other.content);
    }
}

/// A tool call of an assistant.
#[derive(Debug, Deserialize, Serialize)]
struct TurnCall {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(rename = "type", default = "function")]
    kind: String,
    function: CalledFunction,
}

fn function() -> String {
    "function".into()
}

#[derive(Debug, Deserialize, Serialize)]
struct CalledFunction {
    name: String,
    /// A JSON object, or a string that contains one, as clients send it.
    arguments: Box<RawValue>,
}

impl CalledFunction {
    /// With the arguments as an object, as templates need them; none if they are not one.
    fn opened(self) -> Option<Self> {
        let text: Result<String, _> = serde_json::from_str(self.arguments.get());
        let arguments = match text {
            Ok(text) if text.trim().is_empty() => RawValue::from_string("{}".into()).ok()?,
            Ok(text) => RawValue::from_string(text).ok()?,
            Err(_) => self.arguments,
        };
        let is_object = arguments.get().trim_start().starts_with('{');
        is_object.then_some(Self { arguments, ..self })
    }
}

#[derive(Debug, Deserialize)]
struct Turn {
    role: String,
    content: Option<Content>,
    name: Option<String>,
    tool_calls: Option<Vec<TurnCall>>,
    tool_call_id: Option<String>,
    #[serde(rename = "refusal")]
    _refusal: Option<String>,
    reasoning_content: Option<String>,
    /// All other fields: client libraries send back a message with fields of their own.
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

/// Whether the value of a field is empty, so that the field can be ignored.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Debug, Deserialize)]
struct Part {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
}

/// Converts messages to turns; the role developer counts as system.
///
/// # Errors
/// When one is not text, has an unknown role, or answers no tool call.
pub fn messages(turns: Vec<RawTurn>) -> Result<Vec<ChatTurn>, ApiError> {
    if turns.is_empty() {
        return Err(ApiError::param(
            "messages",
            "`messages` must have at least one message",
        ));
    }
    let mut out: Vec<ChatTurn> = Vec::with_capacity(turns.len());
    for (at, turn) in turns.into_iter().enumerate() {
        let name = format!("messages[{at}]");
        let turn = message(&name, turn.0)?;
        if turn.role == "tool" {
            answers(&name, &turn, &out)?;
        }
        out.push(turn);
    }
    Ok(out)
}

/// Checks that a tool's answer follows its call.
fn answers(name: &str, turn: &ChatTurn, before: &[ChatTurn]) -> Result<(), ApiError> {
    let caller = before.iter().rev().find(|turn| turn.role != "tool");
    let calls = caller.map_or(&[][..], |caller| &caller.tool_calls);
    let known = match &turn.tool_call_id {
        Some(id) => calls.iter().any(|call| call.id.as_ref() == Some(id)),
        None => !calls.is_empty(),
    };
    match known {
        true => Ok(()),
        false => Err(ApiError::param(
            name,
            format!(
                "{name} is a tool's answer, but the assistant's message before it holds no call \
                 with its `tool_call_id`"
            ),
        )),
    }
}

/// A message as it was sent, not checked yet.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub struct RawTurn(Turn);

fn message(name: &str, turn: Turn) -> Result<ChatTurn, ApiError> {
    let role = match turn.role.as_str() {
        "developer" => "system",
        role @ ("system" | "user" | "assistant" | "tool") => role,
        other => {
            return Err(ApiError::param(
                name,
                format!(
                    "the role of {name} must be system, developer, user, assistant or tool, not `{}`",
                    other.chars().take(40).collect::<String>()
                ),
            ));
        }
    };
    if let Some((field, _)) = turn.others.iter().find(|(_, value)| !is_empty(value)) {
        let field: String = field.chars().take(40).collect();
        return Err(ApiError::unsupported(&format!("{name}.{field}")));
    }
    let mut tool_calls = Vec::new();
    for call in turn.tool_calls.unwrap_or_default() {
        let function = call.function.opened().ok_or_else(|| {
            ApiError::param(
                name,
                format!("{name}: the arguments of its tool_calls must be a JSON object"),
            )
        })?;
        tool_calls.push(TurnCall { function, ..call });
    }
    if role != "assistant" && !tool_calls.is_empty() {
        let message = format!("{name}: only an assistant may have tool_calls");
        return Err(ApiError::param(name, message));
    }
    let text = match turn.content {
        Some(Content::Text(text)) => text,
        Some(Content::Parts(parts)) => {
            let texts = parts
                .into_iter()
                .map(|part| match (part.kind.as_str(), part.text) {
                    ("text", Some(text)) => Ok(text),
                    _ => Err(ApiError::param(
                        name,
                        format!("{name}: this server takes text only, no images, sounds or files"),
                    )),
                });
            texts.collect::<Result<Vec<_>, _>>()?.join("\n")
        }
        None if !tool_calls.is_empty() => String::new(),
        None => {
            return Err(ApiError::param(name, format!("{name} has no content")));
        }
    };
    Ok(ChatTurn {
        role: role.to_owned(),
        content: text,
        reasoning_content: turn.reasoning_content.filter(|text| !text.is_empty()),
        tool_calls,
        tool_call_id: turn.tool_call_id.filter(|_| role == "tool"),
        name: turn.name.filter(|_| role == "tool"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_taken_or_refused() {
        let parse = |json: &str| match serde_json::from_str(json) {
            Ok(turns) => match messages(turns) {
                Ok(turns) => Ok(serde_json::to_string(&turns).expect("JSON")),
                Err(error) => Err(error.message),
            },
            Err(error) => Err(error.to_string()),
        };
        let both = r#"[{"role": "developer", "content": "a"},
            {"role": "user", "content": [{"type": "text", "text": "b"}, {"type": "text", "text": "c"}]}]"#;
        assert_eq!(
            parse(both).unwrap(),
            r#"[{"role":"system","content":"a"},{"role":"user","content":"b\nc"}]"#
        );
        // A message as client libraries send it back.
        let back = r#"[{"role": "assistant", "content": "x", "refusal": null, "tool_calls": [],
            "function_call": null, "audio": null, "annotations": [], "reasoning_content": "",
            "provider_specific_fields": {}}]"#;
        assert_eq!(
            parse(back).unwrap(),
            r#"[{"role":"assistant","content":"x"}]"#
        );
        let called = r#"[{"role": "assistant", "content": null, "tool_calls": [{"id": "a", "type":
            "function", "function": {"name": "f", "arguments": "{\"z\": 1, \"a\": 2}"}}]},
            {"role": "tool", "tool_call_id": "a", "content": "x"}]"#;
        assert_eq!(
            parse(called).unwrap(),
            r#"[{"role":"assistant","content":"","tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":{"z": 1, "a": 2}}}]},{"role":"tool","content":"x","tool_call_id":"a"}]"#
        );
        let thought = r#"[{"role": "assistant", "content": "x", "reasoning_content": "y"}]"#;
        assert!(
            parse(thought)
                .unwrap()
                .contains(r#""reasoning_content":"y""#)
        );
        for (bad, says) in [
            ("[]", "at least one message"),
            (r#"[{"role": "robot", "content": "x"}]"#, "must be system"),
            (r#"[{"role": "tool", "content": "x"}]"#, "holds no call"),
            (
                &called.replace("\"a\", \"content\"", "\"b\", \"content\""),
                "holds no call",
            ),
            (&called.replace("{\\\"z\\\"", "[\\\"z\\\""), "tool_calls"),
            (r#"[{"role": "user"}]"#, "messages[0] has no content"),
            (r#"[{"role": "user", "content": 7}]"#, "Content"),
            (
                r#"[{"role": "user", "content": [{"type": "image_url"}]}]"#,
                "text only",
            ),
            (
                r#"[{"role": "assistant", "content": "x", "tool_calls": [{}]}]"#,
                "function",
            ),
        ] {
            let message = parse(bad).unwrap_err();
            assert!(message.contains(says), "{bad}: {message}");
        }
    }
}
