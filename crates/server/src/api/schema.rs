//! From `response_format` to a grammar in llama.cpp's notation (GBNF): the parts
//! of JSON Schema that can be held while a text is generated from left to right.
//! A keyword that would not be held is refused, never passed over.
//!
//! Properties come in the order in which the schema has them. Sizes are bounded,
//! because each alternative costs time for every token.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::error::ApiError;

mod convert;
pub(super) mod json;
mod keywords;
mod nested;
mod range;
mod ways;

use convert::Converter;
use json::Json;

/// Most bytes of a schema.
const SCHEMA_BYTES: usize = 32 << 10;

/// What every grammar may refer to.
const BASE: &str = r#"ws ::= | " " | "\n" [ \t]{0,20}
char ::= [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt/] | "u" [0-9a-fA-F]{4})
string ::= "\"" char* "\""
whole ::= "0" | [1-9] [0-9]{0,15}
integer ::= "-"? whole
number ::= "-"? whole ("." [0-9]{1,16})? ([eE] [-+]? [0-9]{1,3})?
boolean ::= "true" | "false"
member ::= string ws ":" ws value
object ::= "{" ws (member ws ("," ws member ws)*)? "}"
array ::= "[" ws (value ws ("," ws value ws)*)? "]"
value ::= object | array | string | number | boolean | "null"
"#;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Format {
    #[serde(rename = "type")]
    kind: String,
    json_schema: Option<Named>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    #[serde(rename = "name")]
    _name: Option<String>,
    #[serde(rename = "description")]
    _description: Option<String>,
    // A schema is always held strictly, also for those who write "true".
    #[serde(rename = "strict")]
    _strict: Option<IgnoredAny>,
    schema: Option<Json>,
}

/// The grammar of a `response_format`; `None` for plain text.
///
/// # Errors
/// When it is not one that this server can hold.
pub fn grammar_of(format: &str) -> Result<Option<String>, ApiError> {
    if format.len() > SCHEMA_BYTES {
        return Err(refuse(format!("is longer than {SCHEMA_BYTES} bytes")));
    }
    let format: Format = serde_json::from_str(format)
        .map_err(|error| refuse(format!("is not understood: {error}")))?;
    match (format.kind.as_str(), format.json_schema) {
        ("text", None) => Ok(None),
        ("json_object", None) => Ok(Some(format!("root ::= object\n{BASE}"))),
        ("json_schema", Some(Named { schema, .. })) => match schema {
            Some(schema) => Converter::convert(&schema).map(Some),
            None => Ok(Some(format!("root ::= value\n{BASE}"))),
        },
        _ => Err(refuse(
            "must have the type text, json_object, or json_schema with a `json_schema`",
        )),
    }
}

/// The grammar of a schema alone.
///
/// # Errors
/// When it is not one that this server can hold.
pub fn grammar_of_schema(schema: &Json) -> Result<String, ApiError> {
    if schema.to_text().len() > SCHEMA_BYTES {
        return Err(refuse(format!("is longer than {SCHEMA_BYTES} bytes")));
    }
    Converter::convert(schema)
}

fn refuse(what: impl std::fmt::Display) -> ApiError {
    ApiError::param("response_format", format!("`response_format` {what}"))
}

/// What the references of a schema point at.
#[derive(Clone, Copy)]
struct Refs<'a>(&'a Json);

impl<'a> Refs<'a> {
    /// A part of the schema, by its pointer.
    fn target(self, pointer: &str) -> Option<&'a Json> {
        if pointer == "#" {
            return Some(self.0);
        }
        let mut steps = pointer.strip_prefix("#/")?.split('/');
        let unescape = |step: &str| step.replace("~1", "/").replace("~0", "~");
        steps.try_fold(self.0, |at, step| at.get(&unescape(step)))
    }
}

#[cfg(test)]
mod tests;
