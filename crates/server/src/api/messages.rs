//! The turns of a conversation as clients send them.

use delayline_llama::Message;
use serde::Deserialize;

use super::error::ApiError;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Turn {
    role: String,
    content: Option<Content>,
    #[serde(rename = "name")]
    _name: Option<String>,
    #[serde(rename = "refusal")]
    _refusal: Option<String>,
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

/// Takes the turns; those of a developer count as the system's.
///
/// # Errors
/// When a turn is not text, or of an unknown role.
pub fn messages(turns: Vec<RawTurn>) -> Result<Vec<Message>, ApiError> {
    if turns.is_empty() {
        return Err(ApiError::param(
            "messages",
            "`messages` must hold one message at least",
        ));
    }
    let turn = |(at, turn): (usize, RawTurn)| {
        let name = format!("messages[{at}]");
        message(&name, turn.0)
    };
    turns.into_iter().enumerate().map(turn).collect()
}

/// A turn as sent, not yet looked at.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub struct RawTurn(Turn);

fn message(name: &str, turn: Turn) -> Result<Message, ApiError> {
    let role = match turn.role.as_str() {
        "developer" => "system",
        role @ ("system" | "user" | "assistant") => role,
        other => {
            return Err(ApiError::param(
                name,
                format!(
                    "the role of {name} must be system, developer, user or assistant, not `{}`",
                    other.chars().take(40).collect::<String>()
                ),
            ));
        }
    };
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
        None => {
            return Err(ApiError::param(name, format!("{name} has no content")));
        }
    };
    Ok(Message::new(role, &text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_taken_or_refused() {
        let parse = |json: &str| match serde_json::from_str(json) {
            Ok(turns) => messages(turns).map_err(|error| error.message),
            Err(error) => Err(error.to_string()),
        };
        let both = r#"[{"role": "developer", "content": "a"},
            {"role": "user", "content": [{"type": "text", "text": "b"}, {"type": "text", "text": "c"}]}]"#;
        assert_eq!(
            parse(both).unwrap(),
            [Message::new("system", "a"), Message::new("user", "b\nc")]
        );
        for (bad, says) in [
            ("[]", "one message at least"),
            (r#"[{"role": "tool", "content": "x"}]"#, "must be system"),
            (r#"[{"role": "user"}]"#, "messages[0] has no content"),
            (r#"[{"role": "user", "content": 7}]"#, "Content"),
            (
                r#"[{"role": "user", "content": [{"type": "image_url"}]}]"#,
                "text only",
            ),
            (
                r#"[{"role": "assistant", "content": "x", "tool_calls": []}]"#,
                "tool_calls",
            ),
        ] {
            let message = parse(bad).unwrap_err();
            assert!(message.contains(says), "{bad}: {message}");
        }
    }
}
