//! Refuses schemas whose grammar would be too ambiguous. llama.cpp's sampler follows all ways
//! to parse the text so far. Alternatives that begin alike multiply these when nested, and
//! if a schema refers to itself through such alternatives, the ways double with each level
//! until memory runs out. Makes no rules.

use std::collections::HashMap;

use super::json::Json;
use super::{Refs, refuse};
use crate::api::error::ApiError;

/// Maximum number of ways to parse a text within nested alternatives.
const WAYS: u64 = 64;

/// Maximum number of references and alternatives followed to see how a schema begins.
const CHAIN: usize = 16;

/// Maximum number of comparisons: alternatives of alternatives are compared with each other.
const LOOKS: usize = 300_000;

/// Refuses a schema whose text can be parsed in too many ways.
///
/// # Errors
/// When it can, or when finding out takes too many comparisons.
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
    /// References being followed, and in how many ways each was reached.
    under_way: Vec<(&'a str, u64)>,
    /// References that were followed before, and in how many ways each was reached.
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
            // A name may be that of an additional property or of a listed one.
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
                    "comes back to `{pointer}` through alternatives that begin alike: let these \
                     begin with different properties or values"
                ))),
                false => Ok(()),
            };
        }
        if self.done.get(pointer).is_some_and(|most| *most >= ways) {
            return Ok(());
        }
        // A missing target is refused when the rules are made.
        let Some(target) = self.refs.target(pointer) else {
            return Ok(());
        };
        self.under_way.push((pointer, ways));
        let outcome = self.go(target, ways);
        self.under_way.pop();
        self.done.insert(pointer, ways);
        outcome
    }

    /// Whether two alternatives may both still be possible within the values that they
    /// contain; true as well if that takes too many steps to find out.
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

    /// Whether two objects may begin with the same property and value.
    fn begin_alike(&mut self, a: &Json, b: &Json) -> bool {
        // An object whose first property is not certain counts as alike.
        let (Some((name_a, a)), Some((name_b, b))) = (first(a), first(b)) else {
            return true;
        };
        if name_a != name_b {
            return false;
        }
        // Without `const` or `enum`, any value is possible.
        let (Some(a), Some(b)) = (values(a), values(b)) else {
            return true;
        };
        self.looks = self.looks.saturating_sub(a.len() * b.len());
        self.looks == 0 || a.iter().any(|value| b.contains(value))
    }
}

/// Whether a value of a schema may be of this type, with values of its own inside.
fn may_be(schema: &Json, kind: &str) -> bool {
    if schema.get("const").is_some() || schema.get("enum").is_some() {
        // Literals contain no alternatives.
        return false;
    }
    match schema.get("type") {
        Some(Json::String(is)) => is == kind,
        Some(Json::Array(kinds)) => kinds.contains(&Json::String(kind.into())),
        _ => true,
    }
}

/// The property with which an object must begin; none if there are several.
fn first(schema: &Json) -> Option<(&str, &Json)> {
    let (name, value) = schema.get("properties")?.fields().first()?;
    let required = schema.get("required")?.items()?;
    let is_required = required.contains(&Json::String(name.clone()));
    let other = schema.get("additionalProperties");
    let is_closed = matches!(other, None | Some(Json::Bool(false)));
    (is_required && is_closed).then_some((name, value))
}

/// The values that a schema lists.
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

    /// An object that is identified by its first property and refers to the whole schema.
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
        // Nested without a reference: 2^7 ways.
        let mut deep = String::from("true");
        for _ in 0..7 {
            let list = format!(r#"{{"type": "array", "items": {deep}}}"#);
            deep = format!(r#"{{"anyOf": [{list}, {list}]}}"#);
        }
        assert!(verdict(&deep).contains("more than 64 ways"));
    }

    #[test]
    fn telling_apart_takes_no_time_without_bound() {
        // 100^6 chains of references, none of which begins like null.
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
        // Each definition is followed once, however many references lead to it.
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
