//! What a client asks for: both kinds of requests in one form.

use delayline_llama::batch::{Choice, GenerateRequest};
use delayline_llama::{Message, Sampling};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::error::ApiError;
use super::fields::Fields;
use super::messages::{self, RawTurn};
use super::schema;

/// Maximum number of stop texts, and of bytes of one.
const STOPS: usize = 16;
const STOP_BYTES: usize = 256;

/// Maximum number of likeliest tokens to tell of.
const TOP_LOGPROBS: i64 = 20;

/// Parameters that are taken as long as they ask for nothing, with the values
/// that do; `*` is any.
const NEUTRAL: &[(&str, &[&str])] = &[
    ("n", &["1"]),
    ("best_of", &["1"]),
    ("echo", &["false"]),
    ("suffix", &["\"\""]),
    ("logit_bias", &["{}"]),
    ("store", &["false"]),
    ("service_tier", &["\"auto\"", "\"default\""]),
    // For the client's own book-keeping, or hints that change no answer.
    ("user", &["*"]),
    ("metadata", &["*"]),
    ("safety_identifier", &["*"]),
    ("prompt_cache_key", &["*"]),
];

/// Those that only a chat has.
const NEUTRAL_CHAT: &[(&str, &[&str])] = &[
    ("modalities", &["[\"text\"]"]),
    // Without tools there is nothing to choose or to call.
    ("tools", &["[]"]),
    ("tool_choice", &["\"none\"", "\"auto\""]),
    ("parallel_tool_calls", &["true", "false"]),
    ("functions", &["[]"]),
    ("function_call", &["\"none\"", "\"auto\""]),
];

/// The parameters that mean something, of both kinds of requests; the OpenAPI
/// description names these.
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
];

/// Those that only a chat has.
pub const CHAT_PARAMETERS: &[&str] = &["messages", "max_completion_tokens", "top_logprobs"];

/// What is to be continued.
#[derive(Clone, Debug, PartialEq)]
pub enum Prompt {
    /// A conversation.
    Chat(Vec<Message>),
    /// A text.
    Text(String),
    /// Tokens.
    Tokens(Vec<i32>),
}

/// A request, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiRequest {
    /// What is to be continued.
    pub prompt: Prompt,
    /// The model asked for.
    pub model: Option<String>,
    /// Whether the answer is sent as it comes.
    pub stream: bool,
    /// Whether a stream tells of usage in an event of its own; if nothing was said,
    /// its end does.
    pub include_usage: Option<bool>,
    /// What the engine is asked for, still without the prompt's tokens.
    pub generate: GenerateRequest,
}

/// What holds where a request does not say.
#[derive(Clone, Copy, Debug)]
pub struct RequestDefaults {
    /// Maximum number of tokens to generate.
    pub max_tokens: usize,
    /// Seed of the choice.
    pub seed: u32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct StreamOptions {
    include_usage: Option<bool>,
    // Asks to pad events against eavesdroppers; `false` asks for nothing.
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
enum TextPrompt {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<i32>),
}

/// A body of `/v1/chat/completions`.
///
/// # Errors
/// What is wrong with it.
pub fn chat(body: &[u8], defaults: RequestDefaults) -> Result<ApiRequest, ApiError> {
    let mut fields = Fields::parse(body)?;
    fields.neutral(NEUTRAL_CHAT)?;
    let expected = "a list of messages with `role` and `content`";
    let turns: Vec<RawTurn> = fields
        .take("messages", expected)?
        .ok_or_else(|| ApiError::param("messages", format!("`messages` is missing: {expected}")))?;
    let prompt = Prompt::Chat(messages::messages(turns)?);
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
    let generate = generate(&mut fields, max, logprobs, defaults)?;
    common(fields, prompt, generate)
}

/// A body of `/v1/completions`.
///
/// # Errors
/// What is wrong with it.
pub fn completion(body: &[u8], defaults: RequestDefaults) -> Result<ApiRequest, ApiError> {
    let mut fields = Fields::parse(body)?;
    let expected = "one text, or the tokens of one";
    let prompt = fields
        .take("prompt", expected)?
        .ok_or_else(|| ApiError::param("prompt", format!("`prompt` is missing: {expected}")))?;
    let prompt = match prompt {
        TextPrompt::Text(text) => Prompt::Text(text),
        TextPrompt::Texts(mut texts) => match (texts.pop(), texts.is_empty()) {
            (Some(text), true) => Prompt::Text(text),
            _ => {
                return Err(ApiError::param(
                    "prompt",
                    "this server continues one prompt a request: send them one by one",
                ));
            }
        },
        TextPrompt::Tokens(tokens) => Prompt::Tokens(tokens),
    };
    let logprobs = fields.whole("logprobs", 0, TOP_LOGPROBS)?;
    let logprobs = logprobs.map(|top| top as usize);
    let generate = generate(&mut fields, None, logprobs, defaults)?;
    common(fields, prompt, generate)
}

fn maximum(fields: &mut Fields, name: &str) -> Result<Option<usize>, ApiError> {
    Ok(fields
        .whole(name, 1, i64::from(i32::MAX))?
        .map(|n| n as usize))
}

/// What both kinds ask of the engine. `max_tokens` by another name goes before.
fn generate(
    fields: &mut Fields,
    max: Option<usize>,
    logprobs: Option<usize>,
    defaults: RequestDefaults,
) -> Result<GenerateRequest, ApiError> {
    fields.neutral(NEUTRAL)?;
    let max_tokens = maximum(fields, "max_tokens")?;
    let seed = fields.take::<i64>("seed", "a whole number")?;
    let penalties = (
        fields.number("frequency_penalty", -2.0, 2.0)?,
        fields.number("presence_penalty", -2.0, 2.0)?,
        fields.number("repetition_penalty", 0.01, 2.0)?,
    );
    let default = Sampling::default();
    let sampling = Sampling {
        temperature: fields
            .number("temperature", 0.0, 2.0)?
            .unwrap_or(default.temperature),
        top_p: fields.number("top_p", 0.0, 1.0)?.unwrap_or(default.top_p),
        min_p: fields.number("min_p", 0.0, 1.0)?.unwrap_or(default.min_p),
        top_k: fields
            .whole("top_k", 0, i64::from(i32::MAX))?
            .map_or(default.top_k, |k| k as i32),
        frequency_penalty: penalties.0.unwrap_or(0.0),
        presence_penalty: penalties.1.unwrap_or(0.0),
        repeat_penalty: penalties.2.unwrap_or(1.0),
        // Any whole number will do; equal ones give equal answers.
        seed: seed.map_or(defaults.seed, |seed| (seed ^ (seed >> 32)) as u32),
    };
    let stop = stops(fields)?;
    let format: Option<Box<RawValue>> = fields.take("response_format", "an object")?;
    let grammar = match format {
        Some(format) => schema::grammar_of(format.get())?,
        None => None,
    };
    Ok(GenerateRequest {
        stop,
        logprobs,
        grammar,
        ..GenerateRequest::new(
            &[],
            max.or(max_tokens).unwrap_or(defaults.max_tokens),
            Choice::Sampled(sampling),
        )
    })
}

/// What both kinds ask of the server.
fn common(
    mut fields: Fields,
    prompt: Prompt,
    generate: GenerateRequest,
) -> Result<ApiRequest, ApiError> {
    let model = fields.take("model", "the name of a model")?;
    let stream: Option<bool> = fields.take("stream", "true or false")?;
    let options: Option<StreamOptions> =
        fields.take("stream_options", "an object with `include_usage`")?;
    if options.is_some() && stream != Some(true) {
        return Err(ApiError::param(
            "stream_options",
            "`stream_options` needs `stream` to be true",
        ));
    }
    let options = options.unwrap_or_default();
    if options.include_obfuscation == Some(true) {
        return Err(ApiError::unsupported("stream_options.include_obfuscation"));
    }
    fields.finish()?;
    Ok(ApiRequest {
        prompt,
        model,
        stream: stream.unwrap_or(false),
        include_usage: options.include_usage,
        generate,
    })
}

fn stops(fields: &mut Fields) -> Result<Vec<String>, ApiError> {
    let stop = match fields.take("stop", "a text or a list of texts")? {
        None => Vec::new(),
        Some(OneOrMany::One(text)) => vec![text],
        Some(OneOrMany::Many(texts)) => texts,
    };
    if stop.len() > STOPS || stop.iter().any(|s| s.is_empty() || s.len() > STOP_BYTES) {
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
        seed: 3,
    };

    fn ask(more: &str) -> Result<ApiRequest, String> {
        let body = format!(r#"{{"messages": [{{"role": "user", "content": "hi"}}]{more}}}"#);
        chat(body.as_bytes(), DEFAULTS).map_err(|error| error.message)
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
        let sampling = Sampling {
            seed: 3,
            ..Sampling::default()
        };
        let expect = GenerateRequest::new(&[], 100, Choice::Sampled(sampling));
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
        ] {
            assert_eq!(ask(more), ask(""), "{more}");
        }
        let text = r#"{"prompt": "a", "best_of": 1, "echo": false, "suffix": ""}"#;
        let plain = completion(br#"{"prompt": "a"}"#, DEFAULTS);
        assert_eq!(completion(text.as_bytes(), DEFAULTS).ok(), plain.ok());
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        for (more, says) in [
            (r#", "n": 2"#, "`n` is not supported"),
            (r#", "tools": [{}]"#, "`tools` is not supported"),
            (r#", "tool_choice": "required""#, "`tool_choice` is not"),
            (r#", "modalities": ["audio"]"#, "`modalities` is not"),
            (
                r#", "logit_bias": {"5": 1}"#,
                "`logit_bias` is not supported",
            ),
            (r#", "temperature": 3"#, "from 0 to 2"),
            (r#", "max_tokens": 0"#, "from 1 to"),
            (r#", "stop": """#, "`stop` takes"),
            (r#", "top_logprobs": 2"#, "needs `logprobs`"),
            (r#", "stream_options": {}"#, "needs `stream`"),
            (r#", "seed": "x""#, "`seed` must be a whole number"),
            (r#", "response_format": {"type": "x"}"#, "response_format"),
        ] {
            let message = ask(more).unwrap_err();
            assert!(message.contains(says), "{more}: {message}");
        }
        let many = completion(br#"{"prompt": ["a", "b"]}"#, DEFAULTS).unwrap_err();
        assert!(many.message.contains("one by one"));
    }

    #[test]
    fn prompts_come_in_several_forms() {
        for (body, expect) in [
            (r#"{"prompt": "a"}"#, Prompt::Text("a".into())),
            (r#"{"prompt": ["a"]}"#, Prompt::Text("a".into())),
            (r#"{"prompt": [1, 2]}"#, Prompt::Tokens(vec![1, 2])),
        ] {
            assert_eq!(
                completion(body.as_bytes(), DEFAULTS).unwrap().prompt,
                expect
            );
        }
    }
}
