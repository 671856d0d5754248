//! Keywords of a schema and how they are written in a grammar.

use super::json::Json;
use super::range::{self, Range};
use super::refuse;
use crate::api::error::ApiError;

/// Most repetitions that can be counted; llama.cpp has a limit of its own.
const REPEATS: u64 = 1000;

/// Keywords that bound a number.
pub(super) const BOUNDS: [&str; 4] = ["minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"];

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

/// One of several.
pub(super) fn some(all: Vec<String>, name: &str) -> Result<String, ApiError> {
    if all.is_empty() {
        return Err(refuse(format!(
            "holds an empty `{name}`, which allows nothing"
        )));
    }
    Ok(all.join(" | "))
}

/// Refuses keywords other than these and annotations.
pub(super) fn only(fields: &[(String, Json)], known: &[&str]) -> Result<(), ApiError> {
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

pub(super) fn required(schema: &Json) -> Result<Vec<&str>, ApiError> {
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
pub(super) fn range(schema: &Json) -> Result<Range, ApiError> {
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

pub(super) fn bounds(
    schema: &Json,
    least: &str,
    most: &str,
) -> Result<(u64, Option<u64>), ApiError> {
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

pub(super) fn braces(from: u64, until: Option<u64>) -> String {
    match (from, until) {
        (0, None) => "*".into(),
        (from, None) => format!("{{{from},}}"),
        (from, Some(until)) => format!("{{{from},{until}}}"),
    }
}

/// A value's JSON as a literal of the grammar.
pub(super) fn literal(value: &Json) -> String {
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
