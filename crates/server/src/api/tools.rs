//! The tools of a request: which are offered and which must be called, the formats in which
//! models write calls, and the grammars that enforce them.

use delayline_llama::Trigger;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::channels;
use super::error::ApiError;
use super::fields::Fields;
use super::schema;
use super::schema::json::Json;

/// Maximum number of tools of a request.
const TOOLS: usize = 128;

/// Maximum number of calls in an answer that must call.
const CALLS: usize = 8;

/// A format in which models write calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallFormat {
    /// Text in a template by which the format is recognized.
    sign: &'static str,
    /// The tag before calls anywhere in an answer.
    pub(super) open: &'static str,
    /// The character with which an answer begins if it is a call whose control token is not
    /// visible.
    pub(super) bare: Option<char>,
    /// Texts that may be before, between and after calls.
    pub(super) glue: &'static [&'static str],
    /// The name of the field of the arguments.
    arguments: &'static str,
    /// Literals of the grammar before, between and after forced calls.
    forced: [&'static str; 3],
    /// The text after which calls that a model makes by itself are held to a grammar.
    trigger: &'static str,
    /// The part of that text with which the grammar begins.
    begins: &'static str,
    /// Whether calls are messages to channels, which [`super::channels`] parses; then only
    /// `trigger` and `begins` are used.
    pub(super) channels: bool,
}

/// The grammar of an answer's calls.
#[derive(Clone, Debug, PartialEq)]
pub struct HeldCalls {
    /// The grammar in llama.cpp's notation.
    pub text: String,
    /// Where it begins to apply, if not at the beginning of the answer.
    pub trigger: Option<Trigger>,
}

/// The formats, those with the most specific signs first. [`HERMES`] is taught to models
/// whose template has no format.
const FORMATS: [CallFormat; 5] = [
    CHANNELS,
    CallFormat {
        sign: "[TOOL_CALLS]",
        open: "[TOOL_CALLS]",
        bare: Some('['),
        glue: &["[TOOL_CALLS]", "[", ",", "]"],
        arguments: "arguments",
        forced: [r#""[""#, r#"", ""#, r#""]""#],
        trigger: "[TOOL_CALLS]",
        begins: "",
        channels: false,
    },
    HERMES,
    CallFormat {
        sign: "<|python_tag|>",
        open: "<|python_tag|>",
        bare: Some('{'),
        glue: &["<|python_tag|>", ";"],
        arguments: "parameters",
        forced: ["", r#""; ""#, ""],
        trigger: "{",
        begins: "{",
        channels: false,
    },
    CallFormat {
        sign: "\"parameters\":",
        open: "<|python_tag|>",
        bare: Some('{'),
        glue: &["<|python_tag|>", ";"],
        arguments: "parameters",
        forced: ["", r#""; ""#, ""],
        trigger: "{",
        begins: "{",
        channels: false,
    },
];

const HERMES: CallFormat = CallFormat {
    sign: "<tool_call>",
    open: "<tool_call>",
    bare: None,
    glue: &["<tool_call>", "</tool_call>"],
    arguments: "arguments",
    forced: [
        r#""<tool_call>\n""#,
        r#""\n</tool_call>\n<tool_call>\n""#,
        r#""\n</tool_call>""#,
    ],
    trigger: "<tool_call>",
    begins: "<tool_call>",
    channels: false,
};

const CHANNELS: CallFormat = CallFormat {
    sign: "<|channel|>",
    open: channels::CALL,
    bare: None,
    glue: &[],
    arguments: "arguments",
    forced: [""; 3],
    trigger: channels::CALL,
    begins: "",
    channels: true,
};

impl CallFormat {
    /// Whether a template with this source renders the tools offered.
    pub fn tells_tools(source: &str) -> bool {
        source.contains("tools")
    }

    /// Whether the model writes its answers to channels.
    pub fn has_channels(&self) -> bool {
        self.channels
    }

    /// The format in a template with this source, or the one that is taught in its absence.
    pub fn in_template(source: &str) -> Self {
        let told = FORMATS.iter().find(|form| source.contains(form.sign));
        *told.unwrap_or(&HERMES)
    }
}

/// The tools of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolRequest {
    /// The tools as they were sent, in JSON.
    pub json: String,
    /// The names of the tools.
    pub names: Vec<String>,
    /// A schema of one call, if calls are forced or a tool is strict.
    held: Option<Json>,
    forced: bool,
    parallel: bool,
}

#[derive(Deserialize)]
struct RawTool {
    #[serde(rename = "type")]
    kind: String,
    function: Function,
}

#[derive(Deserialize)]
struct Function {
    name: String,
    parameters: Option<Json>,
    strict: Option<bool>,
}

impl Function {
    /// Whether also calls that the model makes by itself are held to the parameters.
    fn is_strict(&self) -> bool {
        self.strict == Some(true)
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ToolChoice {
    Word(String),
    Named { function: NamedFunction },
}

#[derive(Deserialize)]
struct NamedFunction {
    name: String,
}

/// Takes the parameters about tools; `None` if the model may call none.
///
/// # Errors
/// When one is invalid.
pub fn take(fields: &mut Fields) -> Result<Option<ToolRequest>, ApiError> {
    let raw: Option<Box<RawValue>> = fields.take("tools", "a list of tools")?;
    let choice: Option<ToolChoice> = fields.take(
        "tool_choice",
        "none, auto, required, or an object with a `function` and its `name`",
    )?;
    let parallel: Option<bool> = fields.take("parallel_tool_calls", "true or false")?;
    let json = raw.map_or_else(|| "[]".to_owned(), |raw| raw.get().to_owned());
    let bad = |message: String| ApiError::param("tools", message);
    let tools: Vec<RawTool> = serde_json::from_str(&json).map_err(|error| {
        bad(format!(
            "`tools` must be a list of objects with the `type` function and a `function` with \
             its `name` and `parameters`: {error}"
        ))
    })?;
    if tools.len() > TOOLS {
        return Err(bad(format!("`tools` has more than {TOOLS} tools")));
    }
    for (at, tool) in tools.iter().enumerate() {
        let name = &tool.function.name;
        let fits = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        if tool.kind != "function" {
            return Err(bad(format!("tools[{at}]: its `type` must be function")));
        }
        if name.is_empty() || name.len() > 64 || !name.chars().all(fits) {
            return Err(bad(format!(
                "tools[{at}]: its `name` must be 1 to 64 letters, digits, `_`, `-` and `.`"
            )));
        }
        if tools[..at].iter().any(|other| other.function.name == *name) {
            return Err(bad(format!("tools[{at}]: `{name}` is there twice")));
        }
    }
    let none = |choice: &str| {
        let message = format!("`tool_choice` is {choice}, but `tools` has no such tool");
        Err(ApiError::param("tool_choice", message))
    };
    let forced: Vec<&RawTool> = match &choice {
        None => Vec::new(),
        Some(ToolChoice::Word(word)) => match word.as_str() {
            "auto" => Vec::new(),
            "none" => return Ok(None),
            "required" if tools.is_empty() => return none("required"),
            "required" => tools.iter().collect(),
            _ => {
                let message = "`tool_choice` must be none, auto, required or a function's name";
                return Err(ApiError::param("tool_choice", message));
            }
        },
        Some(ToolChoice::Named { function }) => {
            let named = tools
                .iter()
                .find(|tool| tool.function.name == function.name);
            match named {
                Some(tool) => vec![tool],
                None => return none("a function"),
            }
        }
    };
    if tools.is_empty() {
        return Ok(None);
    }
    let is_forced = !forced.is_empty();
    let held = match is_forced {
        true => Some(one_call(&forced, false)),
        false if tools.iter().any(|tool| tool.function.is_strict()) => {
            Some(one_call(&tools.iter().collect::<Vec<_>>(), true))
        }
        false => None,
    };
    Ok(Some(ToolRequest {
        names: tools
            .iter()
            .map(|tool| tool.function.name.clone())
            .collect(),
        json,
        held,
        forced: is_forced,
        parallel: parallel != Some(false),
    }))
}

impl ToolRequest {
    /// The grammar of the calls, if they are forced or a tool is strict.
    ///
    /// # Errors
    /// When a schema cannot be enforced.
    pub fn grammar(&self, format: CallFormat) -> Result<Option<HeldCalls>, ApiError> {
        let Some(schema) = &self.held else {
            return Ok(None);
        };
        if format.channels {
            return Ok(Some(self.channel_grammar(schema)?));
        }
        let rules = rules_of(&renamed(schema, format.arguments))?;
        let [before, between, after] = format.forced;
        let more = match self.parallel {
            true => format!("({between} whole-schema){{0,{}}}", CALLS - 1),
            false => String::new(),
        };
        let (_, rules) = rules.split_once('\n').unwrap_or_default();
        let trigger = Trigger {
            text: format.trigger.to_owned(),
            at_start: format.bare == Some('{'),
            begins: format.begins.to_owned(),
        };
        Ok(Some(HeldCalls {
            text: format!("root ::= {before} whole-schema {more} {after}\n{rules}"),
            trigger: (!self.forced).then_some(trigger),
        }))
    }

    /// Whether the answer must be a call.
    pub fn is_forced(&self) -> bool {
        self.forced
    }

    /// The grammar of a single call that is a message to a channel, whose head names the tool.
    fn channel_grammar(&self, held: &Json) -> Result<HeldCalls, ApiError> {
        let calls = held.get("anyOf").and_then(Json::items).unwrap_or_default();
        let defs = held.get("$defs").cloned().unwrap_or(Json::Null);
        let (mut ways, mut all) = (Vec::new(), String::new());
        for (at, call) in calls.iter().enumerate() {
            let part = |name: &str| call.get("properties")?.get(name).cloned();
            let (Some(name), Some(arguments)) = (part("name"), part("arguments")) else {
                continue;
            };
            let Some(Json::String(name)) = name.get("const") else {
                continue;
            };
            let schema = object(vec![
                ("anyOf", Json::Array(vec![arguments])),
                ("$defs", defs.clone()),
            ]);
            let (prefix, head) = (format!("t{at}-"), channels::ARGUMENTS);
            let rules = rules_of(&schema)?;
            let (_, rules) = rules.split_once('\n').unwrap_or_default();
            all += &prefixed(rules, &prefix);
            ways.push(format!("\"{name}{head}\" {prefix}whole-schema"));
        }
        let lead = match self.forced {
            true => format!("\"{}{}\" ", channels::NEXT, channels::CALL),
            false => String::new(),
        };
        let trigger = Trigger {
            text: CHANNELS.trigger.to_owned(),
            at_start: false,
            begins: CHANNELS.begins.to_owned(),
        };
        Ok(HeldCalls {
            text: format!("root ::= {lead}({})\n{all}", ways.join(" | ")),
            trigger: (!self.forced).then_some(trigger),
        })
    }

    /// The system message that describes the tools, for templates that do not render them.
    pub fn told(&self) -> String {
        format!(
            "You may call these functions:\n<tools>\n{}\n</tools>\nTo call one, answer with its \
             name and arguments as JSON between tags:\n<tool_call>\n{{\"name\": NAME, \
             \"arguments\": {{...}}}}\n</tool_call>",
            self.json
        )
    }
}

/// The grammar of a schema.
fn rules_of(schema: &Json) -> Result<String, ApiError> {
    schema::grammar_of_schema(schema).map_err(|error| {
        let message = error.message.replace("`response_format`", "`tools`");
        ApiError::param("tools", message)
    })
}

/// Adds a prefix to the names of a grammar's rules, so that several grammars can be joined.
fn prefixed(rules: &str, prefix: &str) -> String {
    let mut out = String::with_capacity(rules.len() * 2);
    // The end of the current literal or character class.
    let mut within = None;
    let (mut escaped, mut in_name) = (false, false);
    for c in rules.chars() {
        match within {
            Some(end) => {
                if !escaped && c == end {
                    within = None;
                }
                escaped = !escaped && c == '\\';
            }
            None => {
                let is_name = c.is_ascii_alphanumeric() || c == '-';
                if c.is_ascii_alphabetic() && !in_name {
                    out.push_str(prefix);
                }
                in_name = is_name;
                within = match c {
                    '"' => Some('"'),
                    '[' => Some(']'),
                    _ => None,
                };
            }
        }
        out.push(c);
    }
    out
}

fn text(text: &str) -> Json {
    Json::String(text.to_owned())
}

fn object(fields: Vec<(&str, Json)>) -> Json {
    let owned = |(name, value): (&str, Json)| (name.to_owned(), value);
    Json::Object(fields.into_iter().map(owned).collect())
}

/// The schema of a call of one of these tools. For calls that a model makes `by_themselves`,
/// the arguments of tools that are not strict may be any object.
fn one_call(tools: &[&RawTool], by_themselves: bool) -> Json {
    let (mut calls, mut defs) = (Vec::new(), Vec::new());
    for (at, tool) in tools.iter().enumerate() {
        let root = format!("#/$defs/t{at}");
        let empty = || object(vec![("type", text("object"))]);
        let parameters = match &tool.function.parameters {
            _ if by_themselves && !tool.function.is_strict() => empty(),
            Some(Json::Object(fields)) if fields.is_empty() => empty(),
            Some(parameters) => parameters.clone(),
            None => object(vec![
                ("type", text("object")),
                ("properties", object(vec![])),
            ]),
        };
        defs.push((format!("t{at}"), rooted(&parameters, &root, false)));
        let properties = object(vec![
            ("name", object(vec![("const", text(&tool.function.name))])),
            ("arguments", object(vec![("$ref", text(&root))])),
        ]);
        calls.push(object(vec![
            ("type", text("object")),
            ("properties", properties),
            (
                "required",
                Json::Array(vec![text("name"), text("arguments")]),
            ),
            ("additionalProperties", Json::Bool(false)),
        ]));
    }
    object(vec![
        ("anyOf", Json::Array(calls)),
        ("$defs", Json::Object(defs)),
    ])
}

/// A schema whose references are moved to another root. If `named`, the fields of `schema`
/// are properties or definitions, not keywords.
fn rooted(schema: &Json, root: &str, named: bool) -> Json {
    match schema {
        Json::Object(fields) => {
            let field = |(name, value): &(String, Json)| {
                let value = match (name.as_str(), value) {
                    (name, value) if named => {
                        return (name.to_owned(), rooted(value, root, false));
                    }
                    ("$ref", Json::String(pointer)) => {
                        let behind = pointer.strip_prefix('#');
                        text(&behind.map_or(pointer.clone(), |behind| format!("{root}{behind}")))
                    }
                    ("const" | "enum" | "default" | "examples", value) => value.clone(),
                    ("properties" | "$defs" | "definitions", value) => rooted(value, root, true),
                    (_, value) => rooted(value, root, false),
                };
                (name.clone(), value)
            };
            Json::Object(fields.iter().map(field).collect())
        }
        Json::Array(items) => {
            let items = items.iter().map(|item| rooted(item, root, false));
            Json::Array(items.collect())
        }
        other => other.clone(),
    }
}

/// The schema of a call with another name for the field of the arguments.
fn renamed(call: &Json, arguments: &str) -> Json {
    if arguments == "arguments" {
        return call.clone();
    }
    let name = |name: &str| match name {
        "arguments" => arguments.to_owned(),
        other => other.to_owned(),
    };
    let calls = call.get("anyOf").and_then(Json::items).unwrap_or_default();
    let calls = calls.iter().map(|one| {
        let fields = one.fields().iter().map(|(keyword, value)| {
            let value = match value {
                Json::Object(fields) => {
                    let fields = fields.iter().map(|(n, v)| (name(n), v.clone()));
                    Json::Object(fields.collect())
                }
                Json::Array(_) => Json::Array(vec![text("name"), text(arguments)]),
                other => other.clone(),
            };
            (keyword.clone(), value)
        });
        Json::Object(fields.collect())
    });
    let defs = call.get("$defs").cloned().unwrap_or(Json::Null);
    object(vec![
        ("anyOf", Json::Array(calls.collect())),
        ("$defs", defs),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(body: &str) -> Result<Option<ToolRequest>, String> {
        let mut fields = Fields::parse(body.as_bytes()).map_err(|error| error.message)?;
        take(&mut fields).map_err(|error| error.message)
    }

    #[test]
    fn rules_get_other_names_and_texts_do_not() {
        let rules = "a-1 ::= \"b \\\" c\" [d-z\\]] (e2 | f){0,2}\nws ::= [ ]*\n";
        assert_eq!(
            prefixed(rules, "t-"),
            "t-a-1 ::= \"b \\\" c\" [d-z\\]] (t-e2 | t-f){0,2}\nt-ws ::= [ ]*\n"
        );
    }

    #[test]
    fn tools_are_taken_or_refused() {
        let f = r#"{"type": "function", "function": {"name": "f", "parameters": {}}}"#;
        for (body, says) in [
            (r#"{"tools": [{}]}"#.into(), "`tools` must be a list"),
            (format!(r#"{{"tools": [{f}, {f}]}}"#), "twice"),
            (r#"{"tool_choice": "required"}"#.into(), "no such tool"),
            (
                format!(r#"{{"tools": [{f}], "tool_choice": {{"function": {{"name": "g"}}}}}}"#),
                "no such tool",
            ),
            (
                format!(r#"{{"tools": [{f}], "tool_choice": "x"}}"#),
                "must be none",
            ),
            (
                f.replace("\"f\"", "\"a b\"")
                    .replacen('{', "{\"tools\": [{", 1)
                    + "]}",
                "letters",
            ),
        ] {
            let message = taken(&body).expect_err(&body);
            assert!(message.contains(says), "{body}: {message}");
        }
        for none in [
            "{}".into(),
            format!(r#"{{"tools": [{f}], "tool_choice": "none"}}"#),
        ] {
            assert_eq!(taken(&none), Ok(None));
        }
        let auto = taken(&format!(r#"{{"tools": [{f}]}}"#)).expect("sound");
        let auto = auto.expect("it is offered");
        assert_eq!(auto.names, ["f"]);
        assert_eq!(auto.grammar(HERMES), Ok(None));
    }

    #[test]
    fn what_refers_to_itself_does_so_within_its_own_schema() {
        let tool = r##"{"type": "function", "function": {"name": "f", "parameters":
            {"type": "object", "properties": {"next": {"$ref": "#"}, "of": {"$ref": "#/$defs/x"}},
            "$defs": {"x": {"type": "boolean"}}}}}"##;
        let body = format!(r#"{{"tools": [{tool}], "tool_choice": "required"}}"#);
        for format in FORMATS {
            let request = taken(&body).expect("sound").expect("offered");
            let held = request.grammar(format).expect("held").expect("forced");
            assert_eq!(held.trigger, None);
            let grammar = held.text;
            assert!(grammar.contains("boolean"), "{grammar}");
            // In channels the head names the tool, and the arguments have no field name.
            let names = match format.channels {
                true => "\"f <|constrain|>json<|message|>\" t0-whole-schema".to_owned(),
                false => format!("\\\"{}\\\"", format.arguments),
            };
            assert!(grammar.contains(&names), "{grammar}");
        }
        let auto = body.replace("\"required\"", "\"auto\"");
        let strict = auto.replace("\"name\": \"f\"", "\"name\": \"f\", \"strict\": true");
        for (body, holds) in [(auto, false), (strict, true)] {
            let request = taken(&body).expect("sound").expect("offered");
            let held = request.grammar(HERMES).expect("held");
            let trigger = held.and_then(|held| held.trigger);
            assert_eq!(
                trigger.map(|trigger| trigger.text),
                holds.then(|| "<tool_call>".into())
            );
        }
        let never = body.replace("\"boolean\"", "\"boolean\", \"pattern\": \"a\"");
        let error = taken(&never)
            .expect("sound")
            .expect("offered")
            .grammar(HERMES);
        let error = error.expect_err("a pattern cannot be held");
        assert!(error.message.contains("`tools`"), "{}", error.message);
    }
}
