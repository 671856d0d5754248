//! In how many ways a text may be read while it is generated. llama.cpp's sampler
//! follows all of them at once: alternatives that begin alike, one within another,
//! multiply, and where a schema comes back to itself through them they double with
//! each level, until no memory is left. Such schemas are refused here. Makes no rules.

use std::collections::HashMap;

use super::json::Json;
use super::{Refs, refuse};
use crate::api::error::ApiError;

/// Most ways that may be open at once within alternatives that hold others.
const WAYS: u64 = 64;

/// How far a chain of references is followed to see what it begins with.
const CHAIN: usize = 16;

/// How many comparisons finding that out may take: alternatives of alternatives
/// are compared each with each.
const LOOKS: usize = 300_000;

/// Refuses a schema that can be read in too many ways.
///
/// # Errors
/// Why.
pub fn check(schema: &Json) -> Result<(), ApiError> {
    let mut walk = Walk {
        refs: Refs(schema),
        under_way: vec![("#", 1)],
        done: HashMap::new(),
        looks: LOOKS,
    };
    walk.go(schema, 1)
}

struct Walk<'a> {
    refs: Refs<'a>,
    /// References under way, and in how many ways each was come to.
    under_way: Vec<(&'a str, u64)>,
    /// Those that were gone through, with the most ways.
    done: HashMap<&'a str, u64>,
    /// Comparisons left.
    looks: usize,
}

impl<'a> Walk<'a> {
    fn go(&mut self, schema: &'a Json, ways: u64) -> Result<(), ApiError> {
        if ways > WAYS {
            return Err(refuse(format!(
                "has alternatives that begin alike, one within another, in more than {WAYS} ways: \
                 let them begin with different properties or values"
            )));
        }
        if let Some(Json::String(pointer)) = schema.get("$ref") {
            return self.follow(pointer, ways);
        }
        for name in ["anyOf", "oneOf", "allOf"] {
            let all = schema.get(name).and_then(Json::items).unwrap_or_default();
            for one in all {
                let alike = all.iter().filter(|other| self.alike(one, other, CHAIN));
                let alike = alike.count().max(1) as u64;
                if self.looks == 0 {
                    return Err(refuse(
                        "has too many alternatives to tell apart: let it have fewer",
                    ));
                }
                self.go(one, ways * alike)?;
            }
        }
        if let Some(items) = schema.get("items") {
            self.go(items, ways)?;
        }
        let properties = schema.get("properties").map_or(&[][..], Json::fields);
        let mut ways = ways;
        if let Some(other @ Json::Object(_)) = schema.get("additionalProperties") {
            // Each name may be that of another property too.
            ways *= 1 + u64::from(!properties.is_empty());
            self.go(other, ways)?;
        }
        properties
            .iter()
            .try_for_each(|(_, one)| self.go(one, ways))
    }

    fn follow(&mut self, pointer: &'a str, ways: u64) -> Result<(), ApiError> {
        if let Some((_, before)) = self.under_way.iter().find(|(p, _)| *p == pointer) {
            return match ways > *before {
                true => Err(refuse(format!(
                    "comes back to `{pointer}` through alternatives that begin alike: let them \
                     begin with different properties or values"
                ))),
                false => Ok(()),
            };
        }
        if self.done.get(pointer).is_some_and(|most| *most >= ways) {
            return Ok(());
        }
        // What is not there is refused when rules are made.
        let Some(target) = self.refs.target(pointer) else {
            return Ok(());
        };
        self.under_way.push((pointer, ways));
        let outcome = self.go(target, ways);
        self.under_way.pop();
        self.done.insert(pointer, ways);
        outcome
    }

    /// Whether two alternatives may both still be open within what they hold; also
    /// if that takes too long to find out.
    fn alike(&mut self, a: &'a Json, b: &'a Json, chain: usize) -> bool {
        self.looks = self.looks.saturating_sub(1);
        if chain == 0 || self.looks == 0 {
            return true;
        }
        for (one, other) in [(a, b), (b, a)] {
            if let Some(Json::String(pointer)) = one.get("$ref") {
                let target = self.refs.target(pointer);
                return target.is_none_or(|target| self.alike(target, other, chain - 1));
            }
            for name in ["anyOf", "oneOf", "allOf"] {
                if let Some(all) = one.get(name).and_then(Json::items) {
                    return all.iter().any(|each| self.alike(each, other, chain - 1));
                }
            }
        }
        let both = |kind| may_be(a, kind) && may_be(b, kind);
        both("array") || both("object") && self.begin_alike(a, b)
    }

    /// Whether the first property of one object may be the other's, with the same value.
    fn begin_alike(&mut self, a: &Json, b: &Json) -> bool {
        // An object that may begin with this or that is taken to be like any other.
        let (Some((name_a, a)), Some((name_b, b))) = (first(a), first(b)) else {
            return true;
        };
        if name_a != name_b {
            return false;
        }
        // Any value may come where none is told.
        let (Some(a), Some(b)) = (values(a), values(b)) else {
            return true;
        };
        self.looks = self.looks.saturating_sub(a.len() * b.len());
        self.looks == 0 || a.iter().any(|value| b.contains(value))
    }
}

/// Whether it may be an array or an object.
fn may_be(schema: &Json, kind: &str) -> bool {
    if schema.get("const").is_some() || schema.get("enum").is_some() {
        // They hold nothing that goes on.
        return false;
    }
    match schema.get("type") {
        Some(Json::String(is)) => is == kind,
        Some(Json::Array(kinds)) => kinds.contains(&Json::String(kind.into())),
        _ => true,
    }
}

/// The property that an object begins with, if there is no other way.
fn first(schema: &Json) -> Option<(&str, &Json)> {
    let (name, value) = schema.get("properties")?.fields().first()?;
    let required = schema.get("required")?.items()?;
    let is_required = required.contains(&Json::String(name.clone()));
    let other = schema.get("additionalProperties");
    let is_closed = matches!(other, None | Some(Json::Bool(false)));
    (is_required && is_closed).then_some((name, value))
}

/// The values that a schema names.
fn values(schema: &Json) -> Option<&[Json]> {
    match schema.get("const") {
        Some(value) => Some(std::slice::from_ref(value)),
        None => schema.get("enum")?.items(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(schema: &str) -> String {
        let schema: Json = serde_json::from_str(schema).unwrap_or_else(|e| panic!("{schema}: {e}"));
        check(&schema)
            .err()
            .map(|error| error.message)
            .unwrap_or_default()
    }

    /// An object whose first property tells it apart, and which holds the whole again.
    fn kind(name: &str) -> String {
        format!(
            r##"{{"type": "object", "properties": {{"kind": {{"const": "{name}"}}, "of": {{"$ref": "#"}}}},
            "required": ["kind"]}}"##
        )
    }

    #[test]
    fn what_doubles_with_each_level_is_refused() {
        let list = r##"{"type": "array", "items": {"$ref": "#"}}"##;
        let open =
            r##"{"additionalProperties": {"$ref": "#"}, "properties": {"a": {"$ref": "#"}}}"##;
        for schema in [
            format!(r#"{{"anyOf": [{list}, {list}]}}"#),
            format!(r#"{{"anyOf": [{list}, {{"oneOf": [{{"type": "null"}}, {list}]}}]}}"#),
            format!(r#"{{"anyOf": [{}, {}]}}"#, kind("a"), kind("a")),
            open.into(),
        ] {
            let why = verdict(&schema);
            assert!(why.contains("comes back to `#`"), "{schema}: {why}");
        }
        // Without coming back, but one within another: 2^7 ways.
        let mut deep = String::from("true");
        for _ in 0..7 {
            let list = format!(r#"{{"type": "array", "items": {deep}}}"#);
            deep = format!(r#"{{"anyOf": [{list}, {list}]}}"#);
        }
        assert!(verdict(&deep).contains("more than 64 ways"));
    }

    #[test]
    fn telling_apart_takes_no_time_without_bound() {
        // 100^6 chains of references, none of which is like a number.
        let mut defs = String::from(r#""d6": {"type": "string"}"#);
        for at in 0..6 {
            let next = format!(r##"{{"$ref": "#/$defs/d{}"}}"##, at + 1);
            defs += &format!(r#", "d{at}": {{"anyOf": [{}]}}"#, [&*next; 100].join(","));
        }
        let why = verdict(&format!(
            r##"{{"anyOf": [{{"$ref": "#/$defs/d0"}}, {{"type": "null"}}], "$defs": {{{defs}}}}}"##
        ));
        assert!(why.contains("too many alternatives"), "{why}");
    }

    #[test]
    fn what_can_be_told_apart_may_come_back() {
        let list = r##"{"type": "array", "items": {"$ref": "#"}}"##;
        for schema in [
            format!(
                r#"{{"anyOf": [{list}, {{"type": "string"}}, {}]}}"#,
                kind("a")
            ),
            format!(
                r#"{{"anyOf": [{}, {}, {}]}}"#,
                kind("a"),
                kind("b"),
                kind("c")
            ),
            r##"{"type": "object", "properties": {"next": {"$ref": "#"}, "last": {"$ref": "#"}}}"##
                .into(),
            format!(
                r#"{{"anyOf": [{}]}}"#,
                [r#"{"type": "string"}"#; 200].join(",")
            ),
        ] {
            assert_eq!(verdict(&schema), "", "{schema}");
        }
        // Gone through once, however many ways lead there.
        let mut defs = String::from(r#""d60": {"type": "null"}"#);
        for at in 0..60 {
            let next = format!(r##"{{"$ref": "#/$defs/d{}"}}"##, at + 1);
            defs += &format!(r#", "d{at}": {{"properties": {{"a": {next}, "b": {next}}}}}"#);
        }
        assert_eq!(
            verdict(&format!(
                r##"{{"$ref": "#/$defs/d0", "$defs": {{{defs}}}}}"##
            )),
            ""
        );
    }
}
