//! OpenAI's `/v1/responses`: translates a request to a chat, and formats its answer.

use std::collections::BTreeMap;

use delayline_llama::Finish;
use delayline_llama::batch::TokenLogprob;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::answer::{AnswerEnd, AnswerForm, TokenUsage, event};
use super::blocks::{AnswerBlock, BlockForm, BlockKind, BlockStep, Blocks};
use super::calls::AnswerPart;
use super::error::ApiError;
use super::fields::{Fields, raw};

/// Parameters with an effect.
pub const PARAMETERS: &[&str] = &[
    "input",
    "instructions",
    "model",
    "max_output_tokens",
    "stream",
    "temperature",
    "top_p",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "reasoning",
    "text",
    "cache_salt",
    "prompt_cache_key",
    "prompt_cache_retention",
];

/// Parameters without effect, and the JSON values with which they are accepted; `*` stands
/// for any value.
const NEUTRAL: &[(&str, &[&str])] = &[
    ("store", &["false"]),
    ("background", &["false"]),
    ("truncation", &["\"disabled\""]),
    ("service_tier", &["\"auto\"", "\"default\""]),
    ("top_logprobs", &["0"]),
    // Thoughts are never encrypted.
    ("include", &["[]", "[\"reasoning.encrypted_content\"]"]),
    ("stream_options", &["{}", "{\"include_obfuscation\":false}"]),
    ("metadata", &["*"]),
    ("client_metadata", &["*"]),
    ("user", &["*"]),
    ("safety_identifier", &["*"]),
];

#[derive(Deserialize)]
#[serde(untagged)]
enum Input {
    Text(String),
    Items(Vec<Item>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Deserialize)]
struct Part {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
    refusal: Option<String>,
}

/// The fields of all types of items.
#[derive(Deserialize)]
struct Item {
    #[serde(rename = "type")]
    kind: Option<String>,
    role: Option<String>,
    content: Option<Content>,
    call_id: Option<String>,
    name: Option<String>,
    arguments: Option<String>,
    output: Option<Content>,
}

#[derive(Deserialize)]
struct Tool {
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
    description: Option<String>,
    parameters: Option<Box<RawValue>>,
    strict: Option<bool>,
    /// The tools of a namespace.
    #[serde(default)]
    tools: Vec<Tool>,
}

impl Tool {
    /// Types of tools that OpenAI's service runs, or whose format needs a model trained for
    /// it. Agents offer them to any server; they are left out, and the model does without.
    const LEFT_OUT: [&str; 14] = [
        "apply_patch",
        "code_interpreter",
        "computer",
        "computer_use_preview",
        "custom",
        "file_search",
        "image_generation",
        "local_shell",
        "mcp",
        "shell",
        "tool_search",
        "web_search",
        "web_search_2025_08_26",
        "web_search_preview",
    ];

    /// The tool itself, the tools of a namespace, or nothing for one that is left out.
    fn functions(self) -> Vec<Self> {
        match self.kind.as_str() {
            "namespace" => self.tools,
            kind if Self::LEFT_OUT.contains(&kind) => Vec::new(),
            _ => vec![self],
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ToolChoice {
    Word(String),
    Named {
        #[serde(rename = "type")]
        kind: String,
        name: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reasoning {
    effort: Option<String>,
    #[serde(rename = "summary")]
    _summary: Option<Value>,
    #[serde(rename = "generate_summary")]
    _generate_summary: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TextConfig {
    format: Option<TextFormat>,
    #[serde(rename = "verbosity")]
    _verbosity: Option<String>,
}

#[derive(Deserialize)]
struct TextFormat {
    #[serde(rename = "type")]
    kind: String,
    schema: Option<Box<RawValue>>,
}

#[derive(Default, Serialize)]
struct ChatFormat {
    r#type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    json_schema: Option<BTreeMap<&'static str, Box<RawValue>>>,
}

/// A message of the chat.
#[derive(Serialize)]
struct Said {
    role: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    reasoning_content: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<String>,
}

impl Said {
    fn new(role: &str, content: Option<String>) -> Self {
        Self {
            role: role.to_owned(),
            content,
            reasoning_content: String::new(),
            tool_calls: Vec::new(),
            tool_call_id: None,
        }
    }
}

/// A request translated to a chat.
pub struct MadeChat {
    /// A body of `/v1/chat/completions`.
    pub body: Vec<u8>,
    /// The parameters that the response repeats.
    pub echo: Map<String, Value>,
}

/// Translates a body of `/v1/responses` to one of `/v1/chat/completions`.
///
/// # Errors
/// When it is invalid, or asks for something that chats do not have.
pub fn chat_body(body: &[u8]) -> Result<MadeChat, ApiError> {
    let mut fields = Fields::parse(body)?;
    fields.neutral(NEUTRAL)?;
    let mut chat: BTreeMap<&str, Box<RawValue>> = BTreeMap::new();
    let mut echo = Map::new();
    let mut said = Vec::new();
    let instructions: Option<String> = fields.take("instructions", "a text")?;
    echo.insert("instructions".into(), json!(instructions));
    said.extend(instructions.map(|text| Said::new("system", Some(text))));
    let expected = "a text, or a list of items";
    let input = fields
        .take("input", expected)?
        .ok_or_else(|| ApiError::param("input", format!("`input` is missing: {expected}")))?;
    match input {
        Input::Text(text) => said.push(Said::new("user", Some(text))),
        Input::Items(items) => {
            for (at, item) in items.into_iter().enumerate() {
                take_item(&format!("input[{at}]"), item, &mut said)?;
            }
        }
    }
    chat.insert("messages", raw(&said)?);
    for (theirs, ours) in [
        ("model", "model"),
        ("stream", "stream"),
        ("max_output_tokens", "max_tokens"),
        ("temperature", "temperature"),
        ("top_p", "top_p"),
        ("parallel_tool_calls", "parallel_tool_calls"),
        ("prompt_cache_key", "prompt_cache_key"),
        ("prompt_cache_retention", "prompt_cache_retention"),
    ] {
        if let Some(value) = fields.take::<Box<RawValue>>(theirs, "JSON")? {
            echo.insert(theirs.into(), value_of(&value));
            chat.insert(ours, value);
        }
    }
    // The salt is a secret, so the response does not repeat it.
    if let Some(salt) = fields.take::<Box<RawValue>>("cache_salt", "JSON")? {
        chat.insert("cache_salt", salt);
    }
    tools(&mut fields, &mut chat, &mut echo)?;
    let reasoning: Option<Reasoning> = fields.take("reasoning", "an object with its `effort`")?;
    if let Some(effort) = reasoning.and_then(|reasoning| reasoning.effort) {
        echo.insert(
            "reasoning".into(),
            json!({"effort": effort, "summary": null}),
        );
        chat.insert("reasoning_effort", raw(&effort)?);
    }
    let text: Option<TextConfig> = fields.take("text", "an object with its `format`")?;
    if let Some(format) = text.and_then(|text| text.format) {
        let schema = |schema| BTreeMap::from([("schema", schema)]);
        let asked = ChatFormat {
            json_schema: format.schema.map(schema),
            r#type: format.kind,
        };
        chat.insert("response_format", raw(&asked)?);
    }
    fields.finish()?;
    let body = serde_json::to_vec(&chat).map_err(|error| ApiError::server(error.to_string()))?;
    Ok(MadeChat { body, echo })
}

fn value_of(raw: &RawValue) -> Value {
    serde_json::from_str(raw.get()).unwrap_or_default()
}

fn text_of(name: &str, content: Content) -> Result<String, ApiError> {
    let parts = match content {
        Content::Text(text) => return Ok(text),
        Content::Parts(parts) => parts,
    };
    let known = [
        "input_text",
        "output_text",
        "text",
        "reasoning_text",
        "refusal",
    ];
    let texts = parts
        .into_iter()
        .map(|part| match part.text.or(part.refusal) {
            Some(text) if known.contains(&part.kind.as_str()) => Ok(text),
            _ => {
                let message =
                    format!("{name}: this server takes text only, no images, sounds or files");
                Err(ApiError::param(name, message))
            }
        });
    Ok(texts.collect::<Result<Vec<_>, _>>()?.join("\n"))
}

/// Adds an item to the messages of the chat. Consecutive thoughts, texts and calls of the
/// assistant become one message.
fn take_item(name: &str, item: Item, said: &mut Vec<Said>) -> Result<(), ApiError> {
    let content = match item.content {
        Some(content) => Some(text_of(name, content)?),
        None => None,
    };
    match item.kind.as_deref().unwrap_or("message") {
        "message" => {
            let role = item.role.unwrap_or_default();
            if role == "assistant" {
                let turn = assistant(said);
                let text = turn.content.get_or_insert_default();
                text.push_str(&content.unwrap_or_default());
            } else {
                said.push(Said::new(&role, content));
            }
        }
        "reasoning" => {
            let thought = content.unwrap_or_default();
            if !thought.is_empty() {
                assistant(said).reasoning_content.push_str(&thought);
            }
        }
        "function_call" => assistant(said).tool_calls.push(json!({"id": item.call_id,
            "type": "function", "function": {"name": item.name,
            "arguments": item.arguments.unwrap_or_default()}})),
        "function_call_output" => {
            let output = match item.output {
                Some(output) => text_of(name, output)?,
                None => String::new(),
            };
            said.push(Said {
                tool_call_id: item.call_id,
                ..Said::new("tool", Some(output))
            });
        }
        other => {
            let other: String = other.chars().take(40).collect();
            let message = format!(
                "{name} has the type `{other}`, which this server does not know: it takes \
                 message, reasoning, function_call and function_call_output"
            );
            return Err(ApiError::param(name, message));
        }
    }
    Ok(())
}

/// The last message, if it is the assistant's, or a new one.
fn assistant(said: &mut Vec<Said>) -> &mut Said {
    if said.last().is_none_or(|turn| turn.role != "assistant") {
        said.push(Said::new("assistant", None));
    }
    let last = said.len() - 1;
    &mut said[last]
}

/// Translates the tools and the choice of one.
fn tools(
    fields: &mut Fields,
    chat: &mut BTreeMap<&str, Box<RawValue>>,
    echo: &mut Map<String, Value>,
) -> Result<(), ApiError> {
    #[derive(Serialize)]
    struct Function {
        name: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        description: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        parameters: Option<Box<RawValue>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        strict: Option<bool>,
    }
    #[derive(Serialize)]
    struct Offered {
        r#type: String,
        function: Function,
    }
    let given: Option<Box<RawValue>> = fields.take("tools", "a list of tools")?;
    if let Some(given) = given {
        let tools: Vec<Tool> = serde_json::from_str(given.get()).map_err(|error| {
            ApiError::param("tools", format!("`tools` must be a list of tools: {error}"))
        })?;
        let functions = tools.into_iter().flat_map(Tool::functions);
        let offered = functions.map(|tool| Offered {
            r#type: tool.kind,
            function: Function {
                name: tool.name.or_else(|| Some(String::new())),
                description: tool.description,
                parameters: tool.parameters,
                strict: tool.strict,
            },
        });
        chat.insert("tools", raw(offered.collect::<Vec<_>>())?);
        echo.insert("tools".into(), value_of(&given));
    }
    let expected = "none, auto, required, or an object with the `type` function and a `name`";
    let choice = match fields.take("tool_choice", expected)? {
        None => return Ok(()),
        Some(ToolChoice::Word(word)) => {
            echo.insert("tool_choice".into(), json!(word));
            json!(word)
        }
        Some(ToolChoice::Named { kind, name }) => {
            echo.insert("tool_choice".into(), json!({"type": kind, "name": name}));
            json!({"type": kind, "function": {"name": name}})
        }
    };
    chat.insert("tool_choice", raw(&choice)?);
    Ok(())
}

/// Formats an answer as OpenAI's response.
#[derive(Debug)]
pub struct ResponseForm {
    id: String,
    model: String,
    created: u64,
    echo: Map<String, Value>,
    blocks: Blocks,
    end: Option<AnswerEnd>,
    events: u64,
}

impl ResponseForm {
    /// A response with that ID, model and time of creation, which repeats the parameters in
    /// `echo`.
    pub fn new(id: String, model: String, created: u64, echo: Map<String, Value>) -> Self {
        Self {
            id,
            model,
            created,
            echo,
            blocks: Blocks::default(),
            end: None,
            events: 0,
        }
    }

    /// The response object, with all blocks so far.
    fn response(&self, status: &str, usage: Option<TokenUsage>, error: Value) -> Value {
        let output = self.blocks.all().iter().enumerate();
        let output = output.map(|(at, block)| self.item(at, block, "completed"));
        let details = match status {
            "incomplete" => json!({"reason": "max_output_tokens"}),
            _ => Value::Null,
        };
        let mut out = json!({"id": self.id, "object": "response", "created_at": self.created,
            "status": status, "error": error, "incomplete_details": details,
            "model": self.model, "output": output.collect::<Vec<_>>(), "instructions": null,
            "parallel_tool_calls": true, "previous_response_id": null, "store": false,
            "temperature": null, "top_p": null, "tools": [], "tool_choice": "auto",
            "reasoning": {"effort": null, "summary": null}, "truncation": "disabled",
            "text": {"format": {"type": "text"}}, "metadata": {}, "usage": null});
        for (name, value) in &self.echo {
            if name != "model" && name != "stream" {
                out[name] = value.clone();
            }
        }
        if let Some(usage) = usage {
            out["usage"] = json!({"input_tokens": usage.prompt,
                "input_tokens_details": {"cached_tokens": usage.cached},
                "output_tokens": usage.generated,
                "output_tokens_details": {"reasoning_tokens": usage.thought},
                "total_tokens": usage.prompt + usage.generated});
        }
        out
    }

    fn status(&self) -> &'static str {
        match self.end.as_ref().map(|end| end.finish) {
            Some(Finish::Length | Finish::Full) => "incomplete",
            _ => "completed",
        }
    }

    fn item_id(&self, at: usize) -> String {
        format!("{}-{at}", self.id)
    }

    fn item(&self, at: usize, block: &AnswerBlock, status: &str) -> Value {
        let (id, text) = (self.item_id(at), block.text.as_str());
        match &block.kind {
            BlockKind::Text => json!({"id": id, "type": "message", "status": status,
            "role": "assistant", "content": match status {
                "completed" => vec![part(&block.kind, text)],
                _ => vec![],
            }}),
            BlockKind::Thought => json!({"id": id, "type": "reasoning", "status": status,
            "summary": [], "content": match status {
                "completed" => vec![part(&block.kind, text)],
                _ => vec![],
            }}),
            BlockKind::Call { id: call, name } => {
                let mut item = json!({"id": id, "type": "function_call", "status": status,
                    "call_id": call, "name": name, "arguments": text});
                if let Some(namespace) = self.namespace(name) {
                    item["namespace"] = namespace.clone();
                }
                item
            }
        }
    }

    /// The name of the namespace in which a function was offered, if it was.
    fn namespace(&self, function: &str) -> Option<&Value> {
        let offered = self.echo.get("tools")?.as_array()?;
        let has = |tool: &&Value| {
            let within = tool["tools"].as_array().into_iter().flatten();
            within.into_iter().any(|tool| tool["name"] == function)
        };
        let namespaces = offered.iter().filter(|tool| tool["type"] == "namespace");
        Some(&namespaces.into_iter().find(has)?["name"])
    }

    /// Appends an event with its type and number.
    fn named(&mut self, out: &mut String, name: &str, mut data: Value) {
        data["type"] = name.into();
        data["sequence_number"] = self.events.into();
        self.events += 1;
        event(out, name, &data.to_string());
    }
}

impl BlockForm for ResponseForm {
    fn blocks(&mut self) -> &mut Blocks {
        &mut self.blocks
    }

    fn step(&mut self, out: &mut String, step: BlockStep) {
        let (BlockStep::Begins(at) | BlockStep::Grows(at, _) | BlockStep::Ends(at)) = step;
        let block = self.blocks.all()[at].clone();
        let place = json!({"item_id": self.item_id(at), "output_index": at});
        let within = |more: Value| {
            let mut place = place.clone();
            if !matches!(block.kind, BlockKind::Call { .. }) {
                place["content_index"] = 0.into();
            }
            for (name, value) in more.as_object().into_iter().flatten() {
                place[name] = value.clone();
            }
            place
        };
        let kind = match block.kind {
            BlockKind::Text => "output_text",
            BlockKind::Thought => "reasoning_text",
            BlockKind::Call { .. } => "function_call_arguments",
        };
        let has_parts = kind != "function_call_arguments";
        match step {
            BlockStep::Begins(_) => {
                let empty = AnswerBlock {
                    text: String::new(),
                    ..block.clone()
                };
                let item = self.item(at, &empty, "in_progress");
                let data = json!({"output_index": at, "item": item});
                self.named(out, "response.output_item.added", data);
                if has_parts {
                    let data = within(json!({"part": part(&block.kind, "")}));
                    self.named(out, "response.content_part.added", data);
                }
            }
            BlockStep::Grows(_, text) => {
                let mut data = within(json!({"delta": text}));
                if kind == "output_text" {
                    data["logprobs"] = json!([]);
                }
                self.named(out, &format!("response.{kind}.delta"), data);
            }
            BlockStep::Ends(_) => {
                let mut data = match &block.kind {
                    BlockKind::Call { name, .. } => {
                        within(json!({"arguments": block.text, "name": name}))
                    }
                    _ => within(json!({"text": block.text})),
                };
                if kind == "output_text" {
                    data["logprobs"] = json!([]);
                }
                self.named(out, &format!("response.{kind}.done"), data);
                if has_parts {
                    let data = within(json!({"part": part(&block.kind, &block.text)}));
                    self.named(out, "response.content_part.done", data);
                }
                let item = self.item(at, &block, "completed");
                let data = json!({"output_index": at, "item": item});
                self.named(out, "response.output_item.done", data);
            }
        }
    }
}

fn part(kind: &BlockKind, text: &str) -> Value {
    match kind {
        BlockKind::Text => {
            json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
        }
        _ => json!({"type": "reasoning_text", "text": text}),
    }
}

impl AnswerForm for ResponseForm {
    fn begin(&mut self, _: TokenUsage) -> String {
        let mut out = String::new();
        for name in ["response.created", "response.in_progress"] {
            let response = self.response("in_progress", None, Value::Null);
            self.named(&mut out, name, json!({"response": response}));
        }
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
        let status = self.status();
        let response = self.response(status, Some(usage), Value::Null);
        self.named(
            &mut out,
            &format!("response.{status}"),
            json!({"response": response}),
        );
        out
    }

    fn fail(&mut self, error: &ApiError) -> String {
        let mut out = String::new();
        let code = error.code.unwrap_or("server_error");
        let why = json!({"code": code, "message": error.message});
        let response = self.response("failed", None, why);
        self.named(&mut out, "response.failed", json!({"response": response}));
        out
    }

    fn whole(&mut self, usage: TokenUsage) -> String {
        self.response(self.status(), Some(usage), Value::Null)
            .to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(body: &str) -> Result<Value, String> {
        let chat = chat_body(body.as_bytes()).map_err(|error| error.message)?;
        Ok(serde_json::from_slice(&chat.body).expect("JSON"))
    }

    #[test]
    fn a_request_becomes_a_chat() {
        let body = r#"{"model": "m", "instructions": "i", "max_output_tokens": 9, "store": false,
            "input": [{"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
                {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "t"}]},
                {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "ok"}]},
                {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "c", "output": "42"}],
            "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": true}],
            "tool_choice": {"type": "function", "name": "f"}, "reasoning": {"effort": "low"},
            "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "null"}}}}"#;
        let expect = json!({"model": "m", "max_tokens": 9, "messages": [
            {"role": "system", "content": "i"}, {"role": "user", "content": "hi"},
            {"role": "assistant", "content": "ok", "reasoning_content": "t", "tool_calls":
                [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "c", "content": "42"}],
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "strict": true}}],
            "tool_choice": {"type": "function", "function": {"name": "f"}}, "reasoning_effort": "low",
            "response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "null"}}}});
        assert_eq!(translated(body), Ok(expect));
    }

    /// The tools that the Codex command line offers.
    #[test]
    fn what_agents_offer_beside_functions_is_left_out_and_namespaces_are_kept() {
        let body = r#"{"input": "x", "tools": [
            {"type": "function", "name": "run", "parameters": {}},
            {"type": "namespace", "name": "agents", "description": "d", "tools": [
                {"type": "function", "name": "spawn", "parameters": {}}]},
            {"type": "custom", "name": "patch", "format": {"type": "grammar"}},
            {"type": "web_search", "external_web_access": false}]}"#;
        let chat = translated(body).expect("sound");
        let offered = chat["tools"].as_array().expect("a list");
        let names: Vec<&Value> = offered
            .iter()
            .map(|tool| &tool["function"]["name"])
            .collect();
        assert_eq!(names, ["run", "spawn"]);
        let echo = chat_body(body.as_bytes()).expect("sound").echo;
        let form = ResponseForm::new("r".into(), "m".into(), 0, echo);
        assert_eq!(form.namespace("spawn"), Some(&json!("agents")));
        assert_eq!(form.namespace("run"), None);
        let unknown = r#"{"input": "x", "tools": [{"type": "magic", "name": "m"}]}"#;
        let chat = translated(unknown).expect("passed on");
        assert_eq!(chat["tools"][0]["type"], "magic");
    }

    #[test]
    fn what_cannot_be_is_told() {
        for (body, says) in [
            ("{}", "`input` is missing"),
            (
                r#"{"input": "x", "previous_response_id": "r"}"#,
                "`previous_response_id`",
            ),
            (r#"{"input": "x", "store": true}"#, "`store`"),
            (
                r#"{"input": [{"type": "item_reference", "id": "x"}]}"#,
                "`item_reference`",
            ),
            (
                r#"{"input": [{"role": "user", "content": [{"type": "input_image"}]}]}"#,
                "text only",
            ),
        ] {
            let message = translated(body).expect_err(body);
            assert!(message.contains(says), "{body}: {message}");
        }
    }
}
