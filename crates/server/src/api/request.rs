//! Parses bodies of `/v1/chat/completions` and `/v1/completions` to one form of request.

use std::collections::BTreeMap;

use delayline_llama::batch::{Choice, GenerateRequest, Retention};
use delayline_llama::{Sampling, TokenBias};
use serde::Deserialize;
use serde_json::value::{Number, RawValue};

use super::error::ApiError;
use super::fields::{Fields, whole_of};
use super::messages::{self, ChatTurn, RawTurn};
use super::schema;
use super::thoughts;
use super::tools::{self, CallFormat, ToolRequest};

/// Maximum number of stop texts, and maximum length of one in bytes.
const STOPS: usize = 16;
const STOP_BYTES: usize = 256;

/// Maximum number of answers to a request, over all its prompts.
const ANSWERS: usize = 64;

/// Maximum number of tokens whose logits are changed.
const BIASES: usize = 1024;

/// Maximum number of likeliest tokens in `logprobs`.
const TOP_LOGPROBS: i64 = 20;

/// Parameters without effect, and the JSON values with which they are accepted; `*` stands
/// for any value.
const NEUTRAL: &[(&str, &[&str])] = &[
    ("best_of", &["1"]),
    ("echo", &["false"]),
    ("suffix", &["\"\""]),
    ("store", &["false"]),
    ("service_tier", &["\"auto\"", "\"default\""]),
    // For the client's own records, or hints that change no answer.
    ("user", &["*"]),
    ("metadata", &["*"]),
    ("safety_identifier", &["*"]),
    ("keep_alive", &["*"]),
];

/// The same for parameters of chats alone.
const NEUTRAL_CHAT: &[(&str, &[&str])] = &[
    ("modalities", &["[\"text\"]"]),
    // Earlier names of the parameters for tools.
    ("functions", &["[]"]),
    ("function_call", &["\"none\"", "\"auto\""]),
];

/// Parameters with an effect in both kinds of requests, as in the OpenAPI description.
pub const PARAMETERS: &[&str] = &[
    "model",
    "stream",
    "stream_options",
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "seed",
    "stop",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "logprobs",
    "response_format",
    "n",
    "logit_bias",
    "cache_prompt",
    "cache_salt",
    "prompt_cache_key",
    "prompt_cache_retention",
];

/// Parameters with an effect in chats alone.
pub const CHAT_PARAMETERS: &[&str] = &[
    "messages",
    "max_completion_tokens",
    "top_logprobs",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "reasoning_effort",
    "chat_template_kwargs",
    "thinking_budget_tokens",
    "thinking_token_budget",
];

/// A prompt.
#[derive(Clone, Debug, PartialEq)]
pub enum Prompt {
    /// A conversation and the tools offered.
    Chat(ChatPrompt),
    /// A text.
    Text(String),
    /// Tokens.
    Tokens(Vec<i32>),
}

/// A conversation as JSON for the chat template.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatPrompt {
    /// The conversation as it was sent.
    pub json: String,
    /// The alternative for templates that ignore tools, if any are offered.
    pub tools: Option<ToldTools>,
}

/// A conversation for templates that ignore tools.
#[derive(Clone, Debug, PartialEq)]
pub struct ToldTools {
    /// The conversation with a system message that describes the tools.
    pub told: String,
}

impl ChatPrompt {
    fn new(
        mut turns: Vec<ChatTurn>,
        tools: Option<&ToolRequest>,
        variables: &str,
    ) -> Result<Self, ApiError> {
        let json = |turns: &[ChatTurn], tools: &str| {
            let turns = serde_json::to_string(turns)
                .map_err(|error| ApiError::server(error.to_string()))?;
            Ok(format!(
                r#"{{"messages":{turns},"tools":{tools},"chat_template_kwargs":{variables}}}"#
            ))
        };
        let Some(tools) = tools else {
            return Ok(Self {
                json: json(&turns, "null")?,
                tools: None,
            });
        };
        let as_sent = json(&turns, &tools.json)?;
        turns.insert(0, ChatTurn::system(tools.told()));
        if turns.get(1).is_some_and(ChatTurn::is_system) {
            let own = turns.remove(1);
            turns[0].append(&own);
        }
        Ok(Self {
            json: as_sent,
            tools: Some(ToldTools {
                told: json(&turns, "null")?,
            }),
        })
    }
}

/// A parsed and checked request.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiRequest {
    /// The prompts, each of which is answered separately.
    pub prompts: Vec<Prompt>,
    /// Number of answers to each prompt.
    pub answers: usize,
    /// The model asked for.
    pub model: Option<String>,
    /// Whether the answer is sent as events.
    pub stream: bool,
    /// Whether a stream has an event for usage; if `None`, usage is in the event of the end.
    pub include_usage: Option<bool>,
    /// The tools that may be called.
    pub tools: Option<ToolRequest>,
    /// The salt that keeps its cached prompts apart from others of the same key; may be
    /// empty.
    pub salt: String,
    /// Maximum number of tokens of thought; none is no limit.
    pub thinking_budget: Option<usize>,
    /// The job for the engine, without the prompt's tokens.
    pub generate: GenerateRequest,
}

/// The values of parameters that a request does not have.
#[derive(Clone, Copy, Debug)]
pub struct RequestDefaults {
    /// Maximum number of tokens to generate.
    pub max_tokens: usize,
    /// Sampling parameters, with a seed.
    pub sampling: Sampling,
    /// Maximum number of tokens of thought.
    pub thinking_budget: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct StreamOptions {
    include_usage: Option<bool>,
    // Pads events against eavesdroppers; only `false` is accepted.
    include_obfuscation: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum TextPrompt {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<i32>),
    TokenLists(Vec<Vec<i32>>),
}

impl TextPrompt {
    /// The single prompts.
    pub(super) fn into_prompts(self) -> Vec<Prompt> {
        match self {
            Self::Text(text) => vec![Prompt::Text(text)],
            Self::Texts(texts) => texts.into_iter().map(Prompt::Text).collect(),
            Self::Tokens(tokens) => vec![Prompt::Tokens(tokens)],
            Self::TokenLists(lists) => lists.into_iter().map(Prompt::Tokens).collect(),
        }
    }
}

/// Parses a body of `/v1/chat/completions`.
///
/// # Errors
/// When it is invalid or not supported.
pub fn chat(
    body: &[u8],
    defaults: RequestDefaults,
    format: CallFormat,
) -> Result<ApiRequest, ApiError> {
    let mut fields = Fields::parse(body)?;
    fields.neutral(NEUTRAL_CHAT)?;
    let expected = "a list of messages with `role` and `content`";
    let turns: Vec<RawTurn> = fields
        .take("messages", expected)?
        .ok_or_else(|| ApiError::param("messages", format!("`messages` is missing: {expected}")))?;
    let tools = tools::take(&mut fields)?;
    let turns = messages::messages(turns)?;
    let variables = thoughts::variables(&mut fields)?;
    let thinking_budget = thoughts::budget(&mut fields)?.unwrap_or(defaults.thinking_budget);
    let prompt = Prompt::Chat(ChatPrompt::new(turns, tools.as_ref(), &variables)?);
    let max = maximum(&mut fields, "max_completion_tokens")?;
    let told: Option<bool> = fields.take("logprobs", "true or false")?;
    let top = fields.whole("top_logprobs", 0, TOP_LOGPROBS)?;
    if top.is_some_and(|top| top > 0) && told != Some(true) {
        return Err(ApiError::param(
            "top_logprobs",
            "`top_logprobs` needs `logprobs` to be true",
        ));
    }
    let logprobs = (told == Some(true)).then(|| top.unwrap_or(0) as usize);
    let mut generate = generate(&mut fields, max, logprobs, defaults)?;
    if let Some(tools) = &tools {
        let held = tools.grammar(format)?;
        if held.is_some() && generate.grammar.is_some() {
            let message = "an answer cannot both call a tool and have a `response_format`";
            return Err(ApiError::param("response_format", message));
        }
        if let Some(held) = held {
            generate.grammar = Some(held.text);
            generate.trigger = held.trigger;
        }
    }
    Ok(ApiRequest {
        tools,
        thinking_budget,
        ..common(fields, vec![prompt], generate)?
    })
}

/// Parses a body of `/v1/completions`.
///
/// # Errors
/// When it is invalid or not supported.
pub fn completion(body: &[u8], defaults: RequestDefaults) -> Result<ApiRequest, ApiError> {
    let mut fields = Fields::parse(body)?;
    let expected = "a text, a list of texts, the tokens of a text, or a list of such";
    let prompt: TextPrompt = fields
        .take("prompt", expected)?
        .ok_or_else(|| ApiError::param("prompt", format!("`prompt` is missing: {expected}")))?;
    let prompts = prompt.into_prompts();
    if prompts.is_empty() {
        return Err(ApiError::param(
            "prompt",
            format!("`prompt` is empty: give {expected}"),
        ));
    }
    // As in a chat, `false` means none.
    let logprobs = match fields.take_false("logprobs") {
        true => None,
        false => fields.whole("logprobs", 0, TOP_LOGPROBS)?,
    };
    let logprobs = logprobs.map(|top| top as usize);
    let generate = generate(&mut fields, None, logprobs, defaults)?;
    common(fields, prompts, generate)
}

/// Takes a maximum number of tokens. -1, which some clients send, is no maximum; numbers
/// beyond `i32::MAX` count as that.
fn maximum(fields: &mut Fields, name: &str) -> Result<Option<usize>, ApiError> {
    let asked = fields.whole(name, -1, i64::MAX)?;
    match asked {
        Some(0) => Err(ApiError::param(
            name,
            format!("`{name}` must be a whole number from 1 on, or -1 for no limit, not 0"),
        )),
        Some(-1) => Ok(None),
        asked => Ok(asked.map(|n| n.min(i64::from(i32::MAX)) as usize)),
    }
}

/// Takes the parameters of both kinds that concern the engine. `max` is the maximum number of
/// tokens under another name, which precedes `max_tokens`.
fn generate(
    fields: &mut Fields,
    max: Option<usize>,
    logprobs: Option<usize>,
    defaults: RequestDefaults,
) -> Result<GenerateRequest, ApiError> {
    fields.neutral(NEUTRAL)?;
    let max_tokens = maximum(fields, "max_tokens")?;
    let seed = seed(fields)?;
    let penalties = (
        fields.number("frequency_penalty", -2.0, 2.0)?,
        fields.number("presence_penalty", -2.0, 2.0)?,
        fields.number("repetition_penalty", 0.01, 2.0)?,
    );
    let default = defaults.sampling;
    let sampling = Sampling {
        temperature: fields
            .number("temperature", 0.0, 2.0)?
            .unwrap_or(default.temperature),
        top_p: fields.number("top_p", 0.0, 1.0)?.unwrap_or(default.top_p),
        min_p: fields.number("min_p", 0.0, 1.0)?.unwrap_or(default.min_p),
        // Both 0 and -1 mean all tokens.
        top_k: fields
            .whole("top_k", -1, i64::from(i32::MAX))?
            .map_or(default.top_k, |k| k.max(0) as i32),
        frequency_penalty: penalties.0.unwrap_or(0.0),
        presence_penalty: penalties.1.unwrap_or(0.0),
        repeat_penalty: penalties.2.unwrap_or(default.repeat_penalty),
        seed: seed.unwrap_or(default.seed),
    };
    let stop = stops(fields)?;
    let bias = biases(fields)?;
    let format: Option<Box<RawValue>> = fields.take("response_format", "an object")?;
    let grammar = match format {
        Some(format) => schema::grammar_of(format.get())?,
        None => None,
    };
    let max_tokens = max.or(max_tokens);
    let cache_prompt: Option<bool> = fields.take("cache_prompt", "true or false")?;
    // OpenAI's hint for sending requests that begin alike to the same of its machines. It has
    // no effect here: there is one machine, and cached prompts are found by their tokens.
    let _: Option<String> = fields.take("prompt_cache_key", "a text")?;
    Ok(GenerateRequest {
        retention: retention(fields)?,
        // Without a maximum, the answer may use whatever room there is.
        elastic: max_tokens.is_none(),
        fresh: cache_prompt == Some(false),
        stop,
        logprobs,
        grammar,
        bias,
        ..GenerateRequest::new(
            &[],
            max_tokens.unwrap_or(defaults.max_tokens),
            Choice::Sampled(sampling),
        )
    })
}

/// Takes where the cached prompt is kept: by default in memory and on disk.
fn retention(fields: &mut Fields) -> Result<Retention, ApiError> {
    const NAME: &str = "prompt_cache_retention";
    let expected = "\"in_memory\", which keeps it off the disk, or \"24h\"";
    let asked: Option<String> = fields.take(NAME, expected)?;
    match asked.as_deref() {
        None | Some("24h") => Ok(Retention::Saved),
        // OpenAI uses both spellings.
        Some("in_memory" | "in-memory") => Ok(Retention::Memory),
        Some(other) => Err(ApiError::param(
            NAME,
            format!("`{NAME}` must be {expected}, not {other:?}"),
        )),
    }
}

/// Takes the salt that keeps cached prompts apart from others of the same key. An empty one
/// would have no effect and is refused, since whoever sends one expects an effect.
fn salt(fields: &mut Fields) -> Result<String, ApiError> {
    const NAME: &str = "cache_salt";
    let expected = "a text that is not empty";
    match fields.take::<String>(NAME, expected)? {
        Some(salt) if salt.is_empty() => Err(ApiError::param(
            NAME,
            format!("`{NAME}` must be {expected}; leave it out to use the cache without a salt"),
        )),
        salt => Ok(salt.unwrap_or_default()),
    }
}

/// Takes a seed, which is any whole number; -1, which some clients send, is none.
fn seed(fields: &mut Fields) -> Result<Option<u32>, ApiError> {
    let Some(number) = fields.take::<Number>("seed", "a whole number")? else {
        return Ok(None);
    };
    let seed = match (number.as_u64(), whole_of(&number)) {
        (_, Some(-1)) => return Ok(None),
        (Some(seed), _) => seed,
        (None, Some(seed)) => seed as u64,
        (None, None) => {
            let message = format!("`seed` must be a whole number, not {number}");
            return Err(ApiError::param("seed", message));
        }
    };
    Ok(Some((seed ^ (seed >> 32)) as u32))
}

/// Takes the parameters of both kinds that concern the server.
fn common(
    mut fields: Fields,
    prompts: Vec<Prompt>,
    generate: GenerateRequest,
) -> Result<ApiRequest, ApiError> {
    let answers = fields.whole("n", 1, ANSWERS as i64)?.unwrap_or(1) as usize;
    if answers * prompts.len() > ANSWERS {
        let message =
            format!("a request may ask for {ANSWERS} answers at most, over all its prompts");
        return Err(ApiError::param("n", message));
    }
    let model: Option<String> = fields.take("model", "the name of a model")?;
    let stream: Option<bool> = fields.take("stream", "true or false")?;
    // Without a stream they have no effect: a whole answer always has its usage.
    let options: Option<StreamOptions> =
        fields.take("stream_options", "an object with `include_usage`")?;
    let options = options.unwrap_or_default();
    if options.include_obfuscation == Some(true) {
        return Err(ApiError::unsupported("stream_options.include_obfuscation"));
    }
    let salt = salt(&mut fields)?;
    fields.finish()?;
    Ok(ApiRequest {
        salt,
        thinking_budget: None,
        prompts,
        answers,
        model: model.filter(|model| !model.is_empty()),
        stream: stream.unwrap_or(false),
        include_usage: options.include_usage,
        tools: None,
        generate,
    })
}

/// Takes the biases of logits: from token numbers, as names, to values from -100 to 100.
fn biases(fields: &mut Fields) -> Result<Vec<TokenBias>, ApiError> {
    const NAME: &str = "logit_bias";
    let expected = "an object of token numbers with numbers from -100 to 100";
    let given: Option<BTreeMap<String, f32>> = fields.take(NAME, expected)?;
    let given = given.unwrap_or_default();
    if given.len() > BIASES {
        return Err(ApiError::param(
            NAME,
            format!("`{NAME}` has more than {BIASES} tokens"),
        ));
    }
    let biases = given.into_iter().map(|(token, bias)| {
        let token = token
            .parse::<u32>()
            .ok()
            .and_then(|token| i32::try_from(token).ok());
        match token {
            Some(token) if (-100.0..=100.0).contains(&bias) => Ok(TokenBias { token, bias }),
            _ => Err(ApiError::param(
                NAME,
                format!("`{NAME}` must be {expected}"),
            )),
        }
    });
    biases.collect()
}

fn stops(fields: &mut Fields) -> Result<Vec<String>, ApiError> {
    let stop = match fields.take("stop", "a text or a list of texts")? {
        None => Vec::new(),
        Some(OneOrMany::One(text)) => vec![text],
        Some(OneOrMany::Many(texts)) => texts,
    };
    // An empty text has no effect.
    let stop: Vec<String> = stop.into_iter().filter(|text| !text.is_empty()).collect();
    if stop.len() > STOPS || stop.iter().any(|text| text.len() > STOP_BYTES) {
        return Err(ApiError::param(
            "stop",
            format!("`stop` takes at most {STOPS} texts of 1 to {STOP_BYTES} bytes each"),
        ));
    }
    Ok(stop)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULTS: RequestDefaults = RequestDefaults {
        max_tokens: 100,
        thinking_budget: None,
        sampling: Sampling {
            temperature: 0.7,
            top_k: 20,
            top_p: 0.8,
            min_p: 0.0,
            repeat_penalty: 1.1,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            seed: 3,
        },
    };

    fn ask(more: &str) -> Result<ApiRequest, String> {
        let body = format!(r#"{{"messages": [{{"role": "user", "content": "hi"}}]{more}}}"#);
        chat(body.as_bytes(), DEFAULTS, CallFormat::in_template("")).map_err(|error| error.message)
    }

    #[test]
    fn parameters_arrive() {
        let ask = ask(
            r#", "model": "m", "temperature": 0, "top_p": 0.5, "top_k": 7, "min_p": 0.1, "seed": 5,
            "stop": "x", "max_tokens": 9, "max_completion_tokens": 8, "logprobs": true,
            "top_logprobs": 3, "frequency_penalty": 1, "presence_penalty": -1,
            "repetition_penalty": 1.5, "stream": true, "stream_options": {"include_usage": true},
            "n": 1, "user": "me""#,
        )
        .unwrap();
        let expect = Sampling {
            temperature: 0.0,
            top_p: 0.5,
            top_k: 7,
            min_p: 0.1,
            frequency_penalty: 1.0,
            presence_penalty: -1.0,
            repeat_penalty: 1.5,
            seed: 5,
        };
        assert_eq!(ask.generate.choice, Choice::Sampled(expect));
        assert_eq!(
            (ask.generate.max_tokens, ask.generate.logprobs),
            (8, Some(3))
        );
        assert!(ask.stream && ask.include_usage == Some(true));
        assert_eq!(
            (ask.generate.stop, ask.model),
            (vec!["x".to_owned()], Some("m".into()))
        );
    }

    #[test]
    fn defaults_hold_where_nothing_is_said() {
        let ask = ask("").unwrap();
        let sampling = DEFAULTS.sampling;
        let expect = GenerateRequest {
            elastic: true,
            ..GenerateRequest::new(&[], 100, Choice::Sampled(sampling))
        };
        assert_eq!(ask.generate, expect);
    }

    #[test]
    fn what_asks_for_nothing_is_taken() {
        for more in [
            r#", "n": 1, "logit_bias": { }, "user": "me", "metadata": {"a": "b"}"#,
            r#", "safety_identifier": "x", "prompt_cache_key": "y", "store": false"#,
            r#", "service_tier": "auto", "modalities": [ "text" ]"#,
            r#", "tools": [ ], "tool_choice": "none", "parallel_tool_calls": true"#,
            r#", "functions": [], "function_call": "auto""#,
            r#", "stop": """#,
            r#", "stop": ["", ""]"#,
            r#", "stream_options": {}"#,
            r#", "stream": false, "stream_options": {"include_usage": null}"#,
            r#", "model": "", "max_tokens": -1, "max_completion_tokens": -1, "seed": -1"#,
            r#", "cache_prompt": true, "keep_alive": "5m", "n": 1.0, "reasoning": {}"#,
            r#", "cache_salt": null, "prompt_cache_retention": "24h""#,
        ] {
            assert_eq!(ask(more), ask(""), "{more}");
        }
        let text =
            r#"{"prompt": "a", "best_of": 1, "echo": false, "suffix": "", "logprobs": false}"#;
        let plain = completion(br#"{"prompt": "a"}"#, DEFAULTS);
        assert_eq!(completion(text.as_bytes(), DEFAULTS).ok(), plain.ok());
    }

    #[test]
    fn what_is_said_of_the_cache_arrives() {
        for name in ["in_memory", "in-memory"] {
            let ask = ask(&format!(
                r#", "cache_salt": "s", "prompt_cache_retention": "{name}""#
            ));
            let ask = ask.expect("a request");
            assert_eq!(
                (ask.salt.as_str(), ask.generate.retention),
                ("s", Retention::Memory)
            );
        }
        let text = completion(br#"{"prompt": "a", "cache_salt": "s"}"#, DEFAULTS);
        assert_eq!(text.expect("a request").salt, "s");
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        for (more, says) in [
            (r#", "n": 0"#, "from 1 to 64"),
            (r#", "reasoning_effort": "huge""#, "must be none"),
            (r#", "tools": [{}]"#, "`tools` must be a list"),
            (r#", "tool_choice": "required""#, "no such tool"),
            (r#", "modalities": ["audio"]"#, "`modalities` is not"),
            (r#", "logit_bias": {"5": 101}"#, "from -100 to 100"),
            (r#", "logit_bias": {"x": 1}"#, "token numbers"),
            (r#", "temperature": 3"#, "from 0 to 2"),
            (r#", "max_tokens": 0"#, "from 1 on"),
            (r#", "max_tokens": -2"#, "from -1 to"),
            (r#", "max_tokens": 1.5"#, "`max_tokens` must be"),
            (r#", "top_k": -2"#, "from -1 to"),
            (r#", "top_logprobs": 2"#, "needs `logprobs`"),
            (r#", "seed": "x""#, "`seed` must be a whole number"),
            (r#", "seed": 0.5"#, "`seed` must be a whole number"),
            (r#", "response_format": {"type": "x"}"#, "response_format"),
            (r#", "cache_salt": """#, "leave it out"),
            (r#", "cache_salt": 5"#, "`cache_salt` must be a text"),
            (r#", "prompt_cache_key": {}"#, "must be a text"),
            (r#", "prompt_cache_retention": "1h""#, "or \"24h\", not"),
            (r#", "prompt_cache_retention": 24"#, "or \"24h\": "),
        ] {
            let message = ask(more).unwrap_err();
            assert!(message.contains(says), "{more}: {message}");
        }
        let many = completion(br#"{"prompt": ["a", "b"], "n": 33}"#, DEFAULTS).unwrap_err();
        assert!(many.message.contains("64 answers"));
        let none = completion(br#"{"prompt": []}"#, DEFAULTS).unwrap_err();
        assert!(none.message.contains("is empty"));
    }

    #[test]
    fn limits_and_seeds_are_as_clients_write_them() {
        let asked = |more: &str| match ask(more).unwrap().generate {
            GenerateRequest {
                max_tokens,
                choice: Choice::Sampled(sampling),
                ..
            } => (max_tokens, sampling.top_k, sampling.seed),
            other => panic!("{other:?}"),
        };
        let (max, k, seed) = asked("");
        for (more, expect) in [
            (r#", "max_tokens": 16.0"#, (16, k, seed)),
            (
                r#", "max_tokens": 10000000000"#,
                (i32::MAX as usize, k, seed),
            ),
            (
                r#", "max_tokens": 9, "max_completion_tokens": -1"#,
                (9, k, seed),
            ),
            (r#", "max_tokens": -1"#, (max, k, seed)),
            (r#", "top_k": -1"#, (max, 0, seed)),
            (r#", "top_k": 5.0"#, (max, 5, seed)),
            (r#", "seed": 7.0"#, (max, k, 7)),
            (r#", "seed": -1"#, (max, k, seed)),
            (r#", "seed": 18446744073709551615"#, (max, k, 0)),
            (r#", "seed": 4294967295"#, (max, k, u32::MAX)),
        ] {
            assert_eq!(asked(more), expect, "{more}");
        }
    }

    #[test]
    fn prompts_come_in_several_forms() {
        for (body, expect) in [
            (r#"{"prompt": "a"}"#, vec![Prompt::Text("a".into())]),
            (
                r#"{"prompt": ["a", "b"]}"#,
                vec![Prompt::Text("a".into()), Prompt::Text("b".into())],
            ),
            (r#"{"prompt": [1, 2]}"#, vec![Prompt::Tokens(vec![1, 2])]),
            (
                r#"{"prompt": [[1], [2]]}"#,
                vec![Prompt::Tokens(vec![1]), Prompt::Tokens(vec![2])],
            ),
        ] {
            assert_eq!(
                completion(body.as_bytes(), DEFAULTS).unwrap().prompts,
                expect
            );
        }
    }
}
