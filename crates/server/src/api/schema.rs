//! From `response_format` to a grammar in llama.cpp's notation (GBNF): the parts
//! of JSON Schema that can be held while a text is generated from left to right.
//! A keyword that would not be held is refused, never passed over.
//!
//! Properties come in the order in which the schema has them. Sizes are bounded,
//! because each alternative costs time for every token.

use std::collections::HashMap;
use std::fmt::Write as _;

use serde::Deserialize;

use super::error::ApiError;

mod json;
mod range;
mod ways;

use json::Json;
use range::Range;

/// Most bytes of a schema, and most subschemas, properties and values together.
const SCHEMA_BYTES: usize = 32 << 10;
const PARTS: usize = 512;

/// Most repetitions that all of its bounds count out together: a rule each.
const COUNTED: u64 = 4000;

/// Most repetitions that can be counted; llama.cpp has a limit of its own.
const REPEATS: u64 = 1000;

/// Keywords that bound a number.
const BOUNDS: [&str; 4] = ["minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"];

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

/// Keywords that say nothing about what is valid.
const ANNOTATIONS: &[&str] = &[
    "title",
    "description",
    "default",
    "examples",
    "$schema",
    "$id",
    "$comment",
    "deprecated",
    "$defs",
    "definitions",
];

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
    // A schema is always held strictly.
    #[serde(rename = "strict")]
    _strict: Option<bool>,
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

/// One schema on its way to a grammar.
struct Converter<'a> {
    refs: Refs<'a>,
    rules: String,
    count: usize,
    parts: usize,
    counted: u64,
    /// Rules of what `$ref` points at, by pointer.
    named: HashMap<&'a str, String>,
}

impl<'a> Converter<'a> {
    fn convert(schema: &'a Json) -> Result<String, ApiError> {
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
    fn rule(&mut self, body: &str) -> String {
        self.count += 1;
        let name = format!("r{}", self.count);
        let _ = writeln!(self.rules, "{name} ::= {body}");
        name
    }

    fn part(&mut self) -> Result<(), ApiError> {
        self.parts += 1;
        if self.parts > PARTS {
            return Err(refuse(format!(
                "has more than {PARTS} subschemas, properties and values"
            )));
        }
        Ok(())
    }

    /// As many repetitions more are counted out.
    fn counts(&mut self, more: u64) -> Result<(), ApiError> {
        self.counted += more;
        if self.counted > COUNTED {
            return Err(refuse(format!(
                "counts out more than {COUNTED} characters and items, all its bounds together"
            )));
        }
        Ok(())
    }

    /// The rule of a subschema.
    fn schema(&mut self, schema: &'a Json) -> Result<String, ApiError> {
        let body = self.body(schema)?;
        Ok(self.rule(&body))
    }

    /// What a schema allows, as the right side of a rule.
    fn body(&mut self, schema: &'a Json) -> Result<String, ApiError> {
        self.part()?;
        let fields = match schema {
            Json::Bool(true) => return Ok("value".into()),
            Json::Object(fields) => fields,
            _ => return Err(refuse("holds a schema that is no object")),
        };
        for (name, values) in [("$ref", None), ("const", None), ("enum", None)]
            .into_iter()
            .chain([
                ("anyOf", Some(())),
                ("oneOf", Some(())),
                ("allOf", Some(())),
            ])
        {
            let Some(value) = schema.get(name) else {
                continue;
            };
            only(fields, &[name, "type"])?;
            return match (name, values) {
                ("$ref", _) => self.reference(value),
                ("const", _) => Ok(literal(value)),
                ("enum", _) => self.alternatives(value, name, |this, value| {
                    this.part()?;
                    Ok(literal(value))
                }),
                ("allOf", _) if value.items().is_none_or(|all| all.len() != 1) => {
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

    fn kind(
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

    fn alternatives(
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

    fn reference(&mut self, pointer: &'a Json) -> Result<String, ApiError> {
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

    fn array(
        &mut self,
        schema: &'a Json,
        fields: &'a [(String, Json)],
    ) -> Result<String, ApiError> {
        only(fields, &["type", "items", "minItems", "maxItems"])?;
        let item = match schema.get("items") {
            Some(items) => self.schema(items)?,
            None => "value".into(),
        };
        let (least, most) = bounds(schema, "minItems", "maxItems")?;
        self.counts(most.unwrap_or(least))?;
        if most == Some(0) {
            return Ok("\"[\" ws \"]\"".into());
        }
        let more = braces(least.saturating_sub(1), most.map(|most| most - 1));
        let all = format!("{item} ws (\",\" ws {item} ws){more}");
        Ok(match least {
            0 => format!("\"[\" ws ({all})? \"]\""),
            _ => format!("\"[\" ws {all} \"]\""),
        })
    }

    /// Properties in their order; each optional one may be left out. Rule `first`
    /// is what may come where nothing has come yet, `then` what may after something.
    fn object(
        &mut self,
        schema: &'a Json,
        fields: &'a [(String, Json)],
    ) -> Result<String, ApiError> {
        only(
            fields,
            &["type", "properties", "required", "additionalProperties"],
        )?;
        let properties: &'a [(String, Json)] = match schema.get("properties") {
            Some(Json::Object(properties)) => properties,
            Some(_) => return Err(refuse("holds `properties` that are no object")),
            None => &[],
        };
        let required = required(schema)?;
        if let Some(name) = required
            .iter()
            .find(|name| !properties.iter().any(|(p, _)| p == *name))
        {
            return Err(refuse(format!(
                "requires `{name}`, which is not among its properties"
            )));
        }
        let other = match schema.get("additionalProperties") {
            Some(Json::Bool(false)) => None,
            Some(Json::Bool(true)) => Some("member".to_owned()),
            Some(schema) => {
                let value = self.schema(schema)?;
                Some(format!("(string ws \":\" ws {value})"))
            }
            None if properties.is_empty() => Some("member".to_owned()),
            None => None,
        };
        let (mut first, mut then) = match other {
            Some(member) => (
                format!("({member} ws (\",\" ws {member} ws)*)?"),
                format!("(\",\" ws {member} ws)*"),
            ),
            None => (String::new(), String::new()),
        };
        for (name, schema) in properties.iter().rev() {
            let value = self.schema(schema)?;
            let name_text = literal(&Json::String(name.clone()));
            let after = match then.as_str() {
                "" => String::new(),
                then => self.rule(then),
            };
            let this = format!("{name_text} ws \":\" ws {value} ws {after}");
            if required.contains(&name.as_str()) {
                first = this.clone();
                then = format!("\",\" ws {this}");
            } else {
                first = match first.as_str() {
                    "" => format!("({this})?"),
                    first => {
                        let otherwise = self.rule(first);
                        format!("{this} | {otherwise}")
                    }
                };
                then = match after.as_str() {
                    "" => format!("(\",\" ws {this})?"),
                    after => format!("\",\" ws {this} | {after}"),
                };
            }
        }
        let inside = if first.is_empty() {
            String::new()
        } else {
            self.rule(&first)
        };
        Ok(format!("\"{{\" ws {inside} \"}}\""))
    }
}

/// One of several.
fn some(all: Vec<String>, name: &str) -> Result<String, ApiError> {
    if all.is_empty() {
        return Err(refuse(format!(
            "holds an empty `{name}`, which allows nothing"
        )));
    }
    Ok(all.join(" | "))
}

/// Refuses keywords other than these and annotations.
fn only(fields: &[(String, Json)], known: &[&str]) -> Result<(), ApiError> {
    let other = fields
        .iter()
        .find(|(name, _)| !known.contains(&name.as_str()) && !ANNOTATIONS.contains(&name.as_str()));
    match other {
        Some((name, _)) => Err(refuse(format!(
            "holds the keyword `{name}` where this server cannot hold to it"
        ))),
        None => Ok(()),
    }
}

fn required(schema: &Json) -> Result<Vec<&str>, ApiError> {
    let Some(required) = schema.get("required") else {
        return Ok(Vec::new());
    };
    let bad = || refuse("holds `required` that is no list of names");
    let names = required
        .items()
        .ok_or_else(bad)?
        .iter()
        .map(|name| match name {
            Json::String(name) => Ok(name.as_str()),
            _ => Err(bad()),
        });
    names.collect()
}

/// The bounds of a number; of two on one side the tighter.
fn range(schema: &Json) -> Result<Range, ApiError> {
    let bound = |name: &str, itself: bool| match schema.get(name) {
        None => Ok(None),
        Some(Json::Number(n)) => {
            let whole = n.as_f64().filter(|x| x.fract() == 0.0);
            match whole.filter(|x| x.abs() <= range::MOST as f64) {
                Some(x) => Ok(Some((x as i64, itself))),
                None => Err(refuse(format!(
                    "holds `{name}` that is no whole number of at most 15 digits"
                ))),
            }
        }
        Some(_) => Err(refuse(format!("holds `{name}` that is no number"))),
    };
    let [least, above, most, below] = BOUNDS;
    let from = [bound(least, true)?, bound(above, false)?];
    let until = [bound(most, true)?, bound(below, false)?];
    // At the same number the one that leaves it out is tighter.
    let tightest = |n: &(i64, bool)| (n.0, !n.1);
    let loosest = |n: &(i64, bool)| (n.0, n.1);
    Ok(Range {
        from: from.into_iter().flatten().max_by_key(tightest),
        until: until.into_iter().flatten().min_by_key(loosest),
    })
}

fn bounds(schema: &Json, least: &str, most: &str) -> Result<(u64, Option<u64>), ApiError> {
    let number = |name: &str| match schema.get(name) {
        None => Ok(None),
        Some(Json::Number(n)) => match n.as_u64() {
            Some(n) if n <= REPEATS => Ok(Some(n)),
            _ => Err(refuse(format!(
                "holds `{name}` that is not from 0 to {REPEATS}"
            ))),
        },
        Some(_) => Err(refuse(format!("holds `{name}` that is no number"))),
    };
    let (from, until) = (number(least)?.unwrap_or(0), number(most)?);
    if until.is_some_and(|until| until < from) {
        return Err(refuse(format!("holds `{least}` larger than `{most}`")));
    }
    Ok((from, until))
}

fn braces(from: u64, until: Option<u64>) -> String {
    match (from, until) {
        (0, None) => "*".into(),
        (from, None) => format!("{{{from},}}"),
        (from, Some(until)) => format!("{{{from},{until}}}"),
    }
}

/// A value's JSON as a literal of the grammar.
fn literal(value: &Json) -> String {
    let mut out = String::from("\"");
    for c in value.to_text().chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests;
