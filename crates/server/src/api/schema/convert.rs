//! One schema to the rules of a grammar: references, alternatives and plain types.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::json::Json;
use super::keywords::{BOUNDS, bounds, braces, literal, only, range, some};
use super::range::Range;
use super::{BASE, Refs, refuse, ways};
use crate::api::error::ApiError;

/// Most subschemas, properties and values together.
const PARTS: usize = 512;

/// Most repetitions that all of its bounds count out together: a rule each.
const COUNTED: u64 = 4000;

/// One schema on its way to a grammar.
pub(super) struct Converter<'a> {
    refs: Refs<'a>,
    rules: String,
    count: usize,
    parts: usize,
    counted: u64,
    /// Rules of what `$ref` points at, by pointer.
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

    /// A new rule; returns its name.
    pub(super) fn rule(&mut self, body: &str) -> String {
        self.count += 1;
        let name = format!("r{}", self.count);
        let _ = writeln!(self.rules, "{name} ::= {body}");
        name
    }

    pub(super) fn part(&mut self) -> Result<(), ApiError> {
        self.parts += 1;
        if self.parts > PARTS {
            return Err(refuse(format!(
                "has more than {PARTS} subschemas, properties and values"
            )));
        }
        Ok(())
    }

    /// As many repetitions more are counted out.
    pub(super) fn counts(&mut self, more: u64) -> Result<(), ApiError> {
        self.counted += more;
        if self.counted > COUNTED {
            return Err(refuse(format!(
                "counts out more than {COUNTED} characters and items, all its bounds together"
            )));
        }
        Ok(())
    }

    /// The rule of a subschema.
    pub(super) fn schema(&mut self, schema: &'a Json) -> Result<String, ApiError> {
        let body = self.body(schema)?;
        Ok(self.rule(&body))
    }

    /// What a schema allows, as the right side of a rule.
    pub(super) fn body(&mut self, schema: &'a Json) -> Result<String, ApiError> {
        self.part()?;
        let fields = match schema {
            Json::Bool(true) => return Ok("value".into()),
            Json::Object(fields) => fields,
            _ => return Err(refuse("holds a schema that is no object")),
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
                    Err(refuse("holds `allOf` of more than one schema"))
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
                        return Err(refuse("holds a `type` with the same twice"));
                    }
                    let Json::String(kind) = kind else {
                        return Err(refuse("holds a `type` that is no text"));
                    };
                    // Keywords that belong to the other types mean nothing for this one.
                    let body = match kind.as_str() {
                        "null" => "\"null\"".to_owned(),
                        kind => self.kind(kind, schema, fields)?,
                    };
                    bodies.push(format!("({body})"));
                }
                some(bodies, "type")
            }
            Some(_) => Err(refuse("holds a `type` that is no text")),
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
                rule.ok_or_else(|| refuse("holds bounds that no number is within"))
            }
            other => Err(refuse(format!("holds the unknown type `{other}`"))),
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
            .ok_or_else(|| refuse(format!("holds `{name}` that is no list")))?;
        let all: Result<Vec<_>, _> = list.iter().map(|item| each(self, item)).collect();
        some(all?, name)
    }

    pub(super) fn reference(&mut self, pointer: &'a Json) -> Result<String, ApiError> {
        let Json::String(pointer) = pointer else {
            return Err(refuse("holds a `$ref` that is no text"));
        };
        if let Some(name) = self.named.get(pointer.as_str()) {
            return Ok(name.clone());
        }
        let unknown = || refuse(format!("refers to `{pointer}`, which it does not hold"));
        let target = self.refs.target(pointer).ok_or_else(unknown)?;
        self.count += 1;
        let name = format!("n{}", self.count);
        // Known before it is written, so that it may refer to itself.
        self.named.insert(pointer, name.clone());
        let body = self.body(target)?;
        let _ = writeln!(self.rules, "{name} ::= {body}");
        Ok(name)
    }
}
