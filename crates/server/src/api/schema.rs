//! Converts `response_format` to a grammar in llama.cpp's notation (GBNF), for the part of
//! JSON Schema that can be enforced while a text is generated from left to right. A keyword
//! that cannot be enforced is refused, never ignored.
//!
//! Properties are generated in the schema's order. Sizes are limited, because each
//! alternative costs time for every token.

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

/// Maximum length of a schema, in bytes.
const SCHEMA_BYTES: usize = 32 << 10;

/// Rules to which every grammar may refer.
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
    // A schema is always enforced, so `strict` has no effect, whatever its value and type.
    #[serde(rename = "strict")]
    _strict: Option<IgnoredAny>,
    schema: Option<Json>,
}

/// The grammar of a `response_format`; `None` for plain text.
///
/// # Errors
/// When it is invalid or cannot be enforced.
pub fn grammar_of(format: &str) -> Result<Option<String>, ApiError> {
    if format.len() > SCHEMA_BYTES {
        return Err(refuse(format!("is longer than {SCHEMA_BYTES} bytes")));
    }
    let format: Format =
        serde_json::from_str(format).map_err(|error| refuse(format!("is invalid: {error}")))?;
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
/// When it is invalid or cannot be enforced.
pub fn grammar_of_schema(schema: &Json) -> Result<String, ApiError> {
    if schema.to_text().len() > SCHEMA_BYTES {
        return Err(refuse(format!("is longer than {SCHEMA_BYTES} bytes")));
    }
    Converter::convert(schema)
}

fn refuse(what: impl std::fmt::Display) -> ApiError {
    ApiError::param("response_format", format!("`response_format` {what}"))
}

/// Resolves the references of a schema.
#[derive(Clone, Copy)]
struct Refs<'a>(&'a Json);

impl<'a> Refs<'a> {
    /// The part of the schema at a JSON pointer.
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
