//! Converts a schema to the rules of a grammar: references, alternatives and simple types.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::json::Json;
use super::keywords::{BOUNDS, bounds, braces, literal, only, range, some};
use super::range::Range;
use super::{BASE, Refs, refuse, ways};
use crate::api::error::ApiError;

/// Maximum number of subschemas, properties and values together.
const PARTS: usize = 512;

/// Maximum number of repetitions that the bounds of a schema count together. Each becomes a
/// rule in llama.cpp.
const COUNTED: u64 = 4000;

/// The conversion of one schema.
pub(super) struct Converter<'a> {
    refs: Refs<'a>,
    rules: String,
    count: usize,
    parts: usize,
    counted: u64,
    /// Names of the rules of `$ref` targets, by pointer.
    named: HashMap<&'a str, String>,
}

impl<'a> Converter<'a> {
    pub(super) fn convert(schema: &'a Json) -> Result<String, ApiError> {
        ways::check(schema)?;
        let mut this = Converter {
            refs: Refs(schema),
            rules: String::new(),
            count: 0,
            parts: 0,
            counted: 0,
            named: HashMap::from([("#", "whole-schema".to_owned())]),
        };
        let body = this.body(schema)?;
        Ok(format!(
            "root ::= whole-schema\nwhole-schema ::= {body}\n{}{BASE}",
            this.rules
        ))
    }

    /// Adds a rule; returns its name.
    pub(super) fn rule(&mut self, body: &str) -> String {
        self.count += 1;
        let name = format!("r{}", self.count);
        let _ = writeln!(self.rules, "{name} ::= {body}");
        name
    }

    /// Counts a subschema, property or value.
    pub(super) fn part(&mut self) -> Result<(), ApiError> {
        self.parts += 1;
        if self.parts > PARTS {
            return Err(refuse(format!(
                "has more than {PARTS} subschemas, properties and values"
            )));
        }
        Ok(())
    }

    /// Counts `more` repetitions.
    pub(super) fn counts(&mut self, more: u64) -> Result<(), ApiError> {
        self.counted += more;
        if self.counted > COUNTED {
            return Err(refuse(format!(
                "counts out more than {COUNTED} characters and items in all of its bounds: let \
                 them be smaller"
            )));
        }
        Ok(())
    }

    /// The rule of a subschema.
    pub(super) fn schema(&mut self, schema: &'a Json) -> Result<String, ApiError> {
        let body = self.body(schema)?;
        Ok(self.rule(&body))
    }

    /// The right side of the rule of a schema.
    pub(super) fn body(&mut self, schema: &'a Json) -> Result<String, ApiError> {
        self.part()?;
        let fields = match schema {
            Json::Bool(true) => return Ok("value".into()),
            Json::Object(fields) => fields,
            _ => return Err(refuse("has a schema that is not an object")),
        };
        for name in ["$ref", "const", "enum", "anyOf", "oneOf", "allOf"] {
            let Some(value) = schema.get(name) else {
                continue;
            };
            only(fields, &[name, "type"])?;
            return match name {
                "$ref" => self.reference(value),
                "const" => Ok(literal(value)),
                "enum" => self.alternatives(value, name, |this, value| {
                    this.part()?;
                    Ok(literal(value))
                }),
                "allOf" if value.items().is_none_or(|all| all.len() != 1) => {
                    Err(refuse("has an `allOf` that is not a list of one schema"))
                }
                _ => self.alternatives(value, name, Self::schema),
            };
        }
        match schema.get("type") {
            None if schema.get("properties").is_some() => self.object(schema, fields),
            None => {
                only(fields, &[])?;
                Ok("value".into())
            }
            Some(Json::String(kind)) => self.kind(kind, schema, fields),
            Some(Json::Array(kinds)) => {
                let mut bodies = Vec::new();
                for (at, kind) in kinds.iter().enumerate() {
                    if kinds[..at].contains(kind) {
                        return Err(refuse("has a `type` that lists the same type twice"));
                    }
                    let Json::String(kind) = kind else {
                        return Err(refuse("has a `type` that is not a string"));
                    };
                    // Of `null` no keywords are checked: there may be those of the other types.
                    let body = match kind.as_str() {
                        "null" => "\"null\"".to_owned(),
                        kind => self.kind(kind, schema, fields)?,
                    };
                    bodies.push(format!("({body})"));
                }
                some(bodies, "type")
            }
            Some(_) => Err(refuse("has a `type` that is not a string")),
        }
    }

    pub(super) fn kind(
        &mut self,
        kind: &str,
        schema: &'a Json,
        fields: &'a [(String, Json)],
    ) -> Result<String, ApiError> {
        match kind {
            "object" => self.object(schema, fields),
            "array" => self.array(schema, fields),
            "string" => {
                only(fields, &["type", "minLength", "maxLength"])?;
                let (least, most) = bounds(schema, "minLength", "maxLength")?;
                self.counts(most.unwrap_or(least))?;
                let counts = braces(least, most);
                Ok(format!("\"\\\"\" char{counts} \"\\\"\""))
            }
            "null" => {
                only(fields, &["type"])?;
                Ok("\"null\"".into())
            }
            "boolean" => {
                only(fields, &["type"])?;
                Ok(kind.to_owned())
            }
            "integer" | "number" => {
                only(fields, &[&["type"], BOUNDS.as_slice()].concat())?;
                let range = range(schema)?;
                let rule = match kind {
                    _ if range == Range::default() => Some(kind.to_owned()),
                    "integer" => range.integers(),
                    _ => range.numbers(),
                };
                rule.ok_or_else(|| refuse("has bounds that no number is within"))
            }
            other => Err(refuse(format!("has the unknown type `{other}`"))),
        }
    }

    pub(super) fn alternatives(
        &mut self,
        list: &'a Json,
        name: &str,
        mut each: impl FnMut(&mut Self, &'a Json) -> Result<String, ApiError>,
    ) -> Result<String, ApiError> {
        let list = list
            .items()
            .ok_or_else(|| refuse(format!("has `{name}` that is not a list")))?;
        let all: Result<Vec<_>, _> = list.iter().map(|item| each(self, item)).collect();
        some(all?, name)
    }

    pub(super) fn reference(&mut self, pointer: &'a Json) -> Result<String, ApiError> {
        let Json::String(pointer) = pointer else {
            return Err(refuse("has a `$ref` that is not a string"));
        };
        if let Some(name) = self.named.get(pointer.as_str()) {
            return Ok(name.clone());
        }
        let unknown = || refuse(format!("refers to `{pointer}`, which it does not contain"));
        let target = self.refs.target(pointer).ok_or_else(unknown)?;
        self.count += 1;
        let name = format!("n{}", self.count);
        // Inserted before the target is converted, which may refer to itself.
        self.named.insert(pointer, name.clone());
        let body = self.body(target)?;
        let _ = writeln!(self.rules, "{name} ::= {body}");
        Ok(name)
    }
}
