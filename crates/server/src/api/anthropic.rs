//! Anthropic's `/v1/messages`: translates a request to a chat, and formats its answer.

use axum::http::StatusCode;
use delayline_llama::Finish;
use delayline_llama::batch::TokenLogprob;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::answer::{AnswerEnd, AnswerForm, TokenUsage, event};
use super::blocks::{AnswerBlock, BlockForm, BlockKind, BlockStep, Blocks};
use super::calls::AnswerPart;
use super::error::ApiError;
use super::fields::{Fields, raw};
use super::schema::json::Json;

/// Parameters with an effect.
pub const PARAMETERS: &[&str] = &[
    "messages",
    "system",
    "model",
    "max_tokens",
    "stop_sequences",
    "stream",
    "temperature",
    "top_p",
    "top_k",
    "tools",
    "tool_choice",
    "thinking",
    "output_config",
    "cache_salt",
];

/// Parameters without effect: hints, and data for the client's own records.
const NEUTRAL: &[(&str, &[&str])] = &[
    ("metadata", &["*"]),
    ("service_tier", &["*"]),
    ("cache_control", &["*"]),
    ("context_management", &["*"]),
    ("inference_geo", &["*"]),
];

/// A text, or blocks.
#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Blocks(Vec<Block>),
}

/// A text, or blocks of text. Not [`Content`], which is untagged: serde buffers an untagged
/// enum before it tries the variants, so that each level of nesting would copy its content.
#[derive(Deserialize)]
#[serde(untagged)]
enum Texts {
    Text(String),
    Blocks(Vec<TextBlock>),
}

#[derive(Deserialize)]
struct TextBlock {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
}

#[derive(Deserialize)]
struct Turn {
    role: String,
    content: Content,
}

/// The fields of all types of blocks.
#[derive(Deserialize)]
struct Block {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
    thinking: Option<String>,
    id: Option<String>,
    name: Option<String>,
    // Not a `RawValue`, which cannot be deserialized within an untagged enum.
    input: Option<Json>,
    tool_use_id: Option<String>,
    content: Option<Texts>,
    is_error: Option<bool>,
}

#[derive(Deserialize)]
struct Tool {
    #[serde(rename = "type")]
    kind: Option<String>,
    name: String,
    description: Option<String>,
    input_schema: Option<Box<RawValue>>,
    strict: Option<bool>,
}

#[derive(Deserialize)]
struct ToolChoice {
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
    disable_parallel_tool_use: Option<bool>,
}

#[derive(Deserialize)]
struct Thinking {
    #[serde(rename = "type")]
    kind: String,
    budget_tokens: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OutputConfig {
    effort: Option<String>,
    format: Option<OutputFormat>,
}

#[derive(Deserialize)]
struct OutputFormat {
    #[serde(rename = "type")]
    kind: String,
    schema: Option<Box<RawValue>>,
}

/// A body of `/v1/chat/completions`.
#[derive(Default, Serialize)]
struct Chat {
    messages: Vec<Value>,
    #[serde(flatten)]
    others: std::collections::BTreeMap<&'static str, Box<RawValue>>,
}

impl Chat {
    fn set(&mut self, name: &'static str, value: impl Serialize) -> Result<(), ApiError> {
        self.others.insert(name, raw(value)?);
        Ok(())
    }
}

/// Translates a body of `/v1/messages` to one of `/v1/chat/completions`.
///
/// # Errors
/// When it is invalid, or asks for something that chats do not have.
pub fn chat_body(body: &[u8]) -> Result<Vec<u8>, ApiError> {
    let mut fields = Fields::parse(body)?;
    fields.neutral(NEUTRAL)?;
    let mut chat = Chat::default();
    let expected = "a text or blocks of text";
    if let Some(system) = fields.take::<Texts>("system", expected)? {
        let text = text_of("system", system)?;
        chat.messages
            .push(json!({"role": "system", "content": text}));
    }
    let expected = "a list of messages with `role` and `content`";
    let turns: Vec<Turn> = fields
        .take("messages", expected)?
        .ok_or_else(|| ApiError::param("messages", format!("`messages` is missing: {expected}")))?;
    for (at, turn) in turns.into_iter().enumerate() {
        take_turn(&format!("messages[{at}]"), turn, &mut chat.messages)?;
    }
    tools(&mut fields, &mut chat)?;
    for (theirs, ours) in [
        ("model", "model"),
        ("max_tokens", "max_tokens"),
        ("stop_sequences", "stop"),
        ("stream", "stream"),
        ("temperature", "temperature"),
        ("top_p", "top_p"),
        ("top_k", "top_k"),
        // Not a parameter of Anthropic's API, but all APIs share the cached prompts.
        ("cache_salt", "cache_salt"),
    ] {
        if let Some(value) = fields.take::<Box<RawValue>>(theirs, "JSON")? {
            chat.set(ours, value)?;
        }
    }
    let thinking: Option<Thinking> = fields.take("thinking", "an object with its `type`")?;
    let config: Option<OutputConfig> =
        fields.take("output_config", "an object with `effort` or `format`")?;
    let (effort, format) = config.map_or((None, None), |config| (config.effort, config.format));
    match (
        thinking.as_ref().map(|thinking| thinking.kind.as_str()),
        effort,
    ) {
        (Some("disabled"), _) => chat.set("reasoning_effort", "none")?,
        (None | Some("enabled" | "adaptive"), Some(effort)) => {
            chat.set("reasoning_effort", effort)?;
        }
        (Some("enabled" | "adaptive"), None) => {
            chat.set(
                "chat_template_kwargs",
                json!({"enable_thinking": true, "thinking": true}),
            )?;
        }
        (None, None) => {}
        (Some(_), _) => {
            let message = "the `type` of `thinking` must be enabled, adaptive or disabled";
            return Err(ApiError::param("thinking", message));
        }
    }
    if let Some(budget) = thinking.and_then(|thinking| thinking.budget_tokens) {
        chat.set("thinking_budget_tokens", budget)?;
    }
    if let Some(format) = format {
        let Some(schema) = format.schema.filter(|_| format.kind == "json_schema") else {
            let message = "the `format` of `output_config` must be a json_schema with its `schema`";
            return Err(ApiError::param("output_config", message));
        };
        #[derive(Serialize)]
        struct Named {
            schema: Box<RawValue>,
        }
        #[derive(Serialize)]
        struct Format {
            r#type: &'static str,
            json_schema: Named,
        }
        chat.set(
            "response_format",
            Format {
                r#type: "json_schema",
                json_schema: Named { schema },
            },
        )?;
    }
    fields.finish()?;
    serde_json::to_vec(&chat).map_err(|error| ApiError::server(error.to_string()))
}

/// Joins blocks of text.
fn text_of(name: &str, content: Texts) -> Result<String, ApiError> {
    let blocks = match content {
        Texts::Text(text) => return Ok(text),
        Texts::Blocks(blocks) => blocks,
    };
    let texts = blocks.into_iter().map(|block| match block.text {
        Some(text) if block.kind == "text" => Ok(text),
        _ => Err(no_text(name, &block.kind)),
    });
    Ok(texts.collect::<Result<Vec<_>, _>>()?.join("\n\n"))
}

fn no_text(name: &str, kind: &str) -> ApiError {
    let kind: String = kind.chars().take(40).collect();
    let message = format!(
        "{name} has a block of the type `{kind}`, which this server does not take here: it takes \
         text, tool_use, tool_result and thinking"
    );
    ApiError::param(name, message)
}

/// Adds a turn to the messages of the chat, in which results of tools are separate messages.
fn take_turn(name: &str, turn: Turn, out: &mut Vec<Value>) -> Result<(), ApiError> {
    let blocks = match turn.content {
        Content::Text(text) => {
            out.push(json!({"role": turn.role, "content": text}));
            return Ok(());
        }
        Content::Blocks(blocks) => blocks,
    };
    let (mut texts, mut thoughts, mut calls) = (Vec::new(), String::new(), Vec::new());
    let is_assistant = turn.role == "assistant";
    for block in blocks {
        match block.kind.as_str() {
            "text" => texts.extend(block.text),
            "thinking" if is_assistant => thoughts.extend(block.thinking),
            // Only Anthropic can read it.
            "redacted_thinking" if is_assistant => {}
            "tool_use" if is_assistant => {
                let arguments = block.input.map_or("{}".into(), |input| input.to_text());
                calls.push(json!({"id": block.id, "type": "function",
                    "function": {"name": block.name, "arguments": arguments}}));
            }
            "tool_result" if !is_assistant => {
                let result = match block.content {
                    Some(content) => text_of(name, content)?,
                    None => String::new(),
                };
                let result = match block.is_error {
                    Some(true) => format!("Error: {result}"),
                    _ => result,
                };
                out.push(json!({"role": "tool", "tool_call_id": block.tool_use_id,
                    "content": result}));
            }
            other => return Err(no_text(name, other)),
        }
    }
    if is_assistant {
        out.push(json!({"role": "assistant", "content": texts.join("\n\n"),
            "reasoning_content": thoughts, "tool_calls": calls}));
    } else if !texts.is_empty() {
        out.push(json!({"role": turn.role, "content": texts.join("\n\n")}));
    }
    Ok(())
}

/// Translates the tools and the choice of one.
fn tools(fields: &mut Fields, chat: &mut Chat) -> Result<(), ApiError> {
    #[derive(Serialize)]
    struct Function {
        name: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        description: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        parameters: Option<Box<RawValue>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        strict: Option<bool>,
    }
    #[derive(Serialize)]
    struct Offered {
        r#type: &'static str,
        function: Function,
    }
    let expected = "a list of tools with `name` and `input_schema`";
    let tools: Vec<Tool> = fields.take("tools", expected)?.unwrap_or_default();
    let mut offered = Vec::with_capacity(tools.len());
    for (at, tool) in tools.into_iter().enumerate() {
        if tool.kind.as_deref().is_some_and(|kind| kind != "custom") {
            let message = format!(
                "tools[{at}] is a tool that a server runs, and this one runs none: leave it out"
            );
            return Err(ApiError::param("tools", message));
        }
        offered.push(Offered {
            r#type: "function",
            function: Function {
                name: tool.name,
                description: tool.description,
                parameters: tool.input_schema,
                strict: tool.strict,
            },
        });
    }
    chat.set("tools", offered)?;
    let choice: Option<ToolChoice> = fields.take("tool_choice", "an object with its `type`")?;
    let Some(choice) = choice else {
        return Ok(());
    };
    if choice.disable_parallel_tool_use == Some(true) {
        chat.set("parallel_tool_calls", false)?;
    }
    match (choice.kind.as_str(), choice.name) {
        ("auto", _) => chat.set("tool_choice", "auto"),
        ("none", _) => chat.set("tool_choice", "none"),
        ("any", _) => chat.set("tool_choice", "required"),
        ("tool", Some(name)) => {
            let named = json!({"type": "function", "function": {"name": name}});
            chat.set("tool_choice", named)
        }
        _ => Err(ApiError::param(
            "tool_choice",
            "the `type` of `tool_choice` must be auto, any, none, or tool with a `name`",
        )),
    }
}

/// The body of an error response in Anthropic's form.
pub fn error_json(error: &ApiError) -> Value {
    let kind = match error.status {
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::FORBIDDEN => "permission_error",
        StatusCode::NOT_FOUND => "not_found_error",
        StatusCode::PAYLOAD_TOO_LARGE => "request_too_large",
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        StatusCode::SERVICE_UNAVAILABLE => "overloaded_error",
        StatusCode::GATEWAY_TIMEOUT => "timeout_error",
        status if status.is_server_error() => "api_error",
        _ => "invalid_request_error",
    };
    json!({"type": "error", "error": {"type": kind, "message": error.message}})
}

/// Formats an answer as Anthropic's message.
#[derive(Debug)]
pub struct MessageForm {
    id: String,
    model: String,
    blocks: Blocks,
    end: Option<AnswerEnd>,
}

impl MessageForm {
    /// A message with that ID and model.
    pub fn new(id: String, model: String) -> Self {
        Self {
            id,
            model,
            blocks: Blocks::default(),
            end: None,
        }
    }

    fn message(&self, usage: TokenUsage) -> Value {
        let content = self.blocks.all().iter().map(block_json);
        json!({"id": self.id, "type": "message", "role": "assistant", "model": self.model,
            "content": content.collect::<Vec<_>>(), "stop_reason": self.reason(),
            "stop_sequence": self.end.as_ref().and_then(|end| end.stop.as_deref()),
            "usage": usage_json(usage)})
    }

    fn reason(&self) -> Option<&'static str> {
        let end = self.end.as_ref()?;
        Some(match end.finish {
            Finish::Length => "max_tokens",
            Finish::Full => "model_context_window_exceeded",
            Finish::Stopped => "stop_sequence",
            Finish::End if end.called => "tool_use",
            Finish::End => "end_turn",
        })
    }
}

fn usage_json(usage: TokenUsage) -> Value {
    json!({"input_tokens": usage.prompt.saturating_sub(usage.cached), "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached, "output_tokens": usage.generated})
}

fn block_json(block: &AnswerBlock) -> Value {
    match &block.kind {
        BlockKind::Text => json!({"type": "text", "text": block.text}),
        BlockKind::Thought => {
            json!({"type": "thinking", "thinking": block.text, "signature": ""})
        }
        BlockKind::Call { id, name } => {
            let input: Value = serde_json::from_str(&block.text).unwrap_or_else(|_| json!({}));
            json!({"type": "tool_use", "id": id, "name": name, "input": input})
        }
    }
}

fn delta_json(kind: &BlockKind, text: &str) -> Value {
    match kind {
        BlockKind::Text => json!({"type": "text_delta", "text": text}),
        BlockKind::Thought => json!({"type": "thinking_delta", "thinking": text}),
        BlockKind::Call { .. } => json!({"type": "input_json_delta", "partial_json": text}),
    }
}

/// Appends an event that is named by the `type` in its data.
fn named(out: &mut String, data: &Value) {
    event(
        out,
        data["type"].as_str().unwrap_or_default(),
        &data.to_string(),
    );
}

impl BlockForm for MessageForm {
    fn blocks(&mut self) -> &mut Blocks {
        &mut self.blocks
    }

    fn step(&mut self, out: &mut String, step: BlockStep) {
        let all = self.blocks.all();
        match step {
            BlockStep::Begins(index) => {
                let empty = AnswerBlock {
                    kind: all[index].kind.clone(),
                    text: String::new(),
                };
                named(
                    out,
                    &json!({"type": "content_block_start", "index": index,
                    "content_block": block_json(&empty)}),
                );
            }
            BlockStep::Grows(index, text) => {
                let delta = delta_json(&all[index].kind, &text);
                named(
                    out,
                    &json!({"type": "content_block_delta", "index": index, "delta": delta}),
                );
            }
            BlockStep::Ends(index) => {
                if all[index].kind == BlockKind::Thought {
                    let delta = json!({"type": "signature_delta", "signature": ""});
                    named(
                        out,
                        &json!({"type": "content_block_delta", "index": index,
                        "delta": delta}),
                    );
                }
                named(out, &json!({"type": "content_block_stop", "index": index}));
            }
        }
    }
}

impl AnswerForm for MessageForm {
    fn begin(&mut self, usage: TokenUsage) -> String {
        let mut out = String::new();
        named(
            &mut out,
            &json!({"type": "message_start", "message": self.message(usage)}),
        );
        out
    }

    fn token(&mut self, _: usize, parts: Vec<AnswerPart>, _: Vec<TokenLogprob>) -> String {
        self.add(parts)
    }

    fn end(&mut self, _: usize, end: AnswerEnd, _: TokenUsage) -> String {
        self.end = Some(end);
        self.finish()
    }

    fn close(&mut self, usage: TokenUsage) -> String {
        let mut out = String::new();
        let stop = self.end.as_ref().and_then(|end| end.stop.as_deref());
        named(
            &mut out,
            &json!({"type": "message_delta", "usage": usage_json(usage),
            "delta": {"stop_reason": self.reason(), "stop_sequence": stop}}),
        );
        named(&mut out, &json!({"type": "message_stop"}));
        out
    }

    fn fail(&mut self, error: &ApiError) -> String {
        let mut out = String::new();
        named(&mut out, &error_json(error));
        out
    }

    fn whole(&mut self, usage: TokenUsage) -> String {
        self.message(usage).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(body: &str) -> Result<Value, String> {
        let chat = chat_body(body.as_bytes()).map_err(|error| error.message)?;
        Ok(serde_json::from_slice(&chat).expect("JSON"))
    }

    #[test]
    fn a_request_becomes_a_chat() {
        let body = r#"{"model": "m", "max_tokens": 9, "stop_sequences": ["x"], "metadata": {"user_id": "u"},
            "system": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "b"}],
            "messages": [{"role": "user", "content": "hi"},
                {"role": "assistant", "content": [{"type": "thinking", "thinking": "t", "signature": "s"},
                    {"type": "text", "text": "ok"}, {"type": "tool_use", "id": "c", "name": "f", "input": {"z": 1}}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "is_error": true,
                    "content": [{"type": "text", "text": "no"}]}, {"type": "text", "text": "go on"}]}],
            "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}}],
            "tool_choice": {"type": "any", "disable_parallel_tool_use": true},
            "thinking": {"type": "disabled"}}"#;
        let expect = json!({"model": "m", "max_tokens": 9, "stop": ["x"], "messages": [
            {"role": "system", "content": "a\n\nb"}, {"role": "user", "content": "hi"},
            {"role": "assistant", "content": "ok", "reasoning_content": "t", "tool_calls":
                [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{\"z\":1}"}}]},
            {"role": "tool", "tool_call_id": "c", "content": "Error: no"},
            {"role": "user", "content": "go on"}],
            "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}],
            "tool_choice": "required", "parallel_tool_calls": false, "reasoning_effort": "none"});
        assert_eq!(translated(body), Ok(expect));
    }

    #[test]
    fn what_cannot_be_is_told() {
        let turn = r#""messages": [{"role": "user", "content": "hi"}]"#;
        for (body, says) in [
            ("{}".into(), "`messages` is missing"),
            (
                format!(r#"{{{turn}, "mcp_servers": [{{}}]}}"#),
                "`mcp_servers`",
            ),
            (
                format!(r#"{{{turn}, "thinking": {{"type": "x"}}}}"#),
                "enabled",
            ),
            (
                format!(r#"{{{turn}, "tool_choice": {{"type": "tool"}}}}"#),
                "with a `name`",
            ),
            (
                format!(r#"{{{turn}, "tools": [{{"type": "web_search_20250305", "name": "w"}}]}}"#),
                "a server runs",
            ),
            (
                r#"{"messages": [{"role": "user", "content": [{"type": "image"}]}]}"#.into(),
                "`image`",
            ),
        ] {
            let message = translated(&body).expect_err(&body);
            assert!(message.contains(says), "{body}: {message}");
        }
    }
}
