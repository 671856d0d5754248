//! Reads keywords of a schema, and writes bounds and literals of a grammar.

use super::json::Json;
use super::range::{self, Range};
use super::refuse;
use crate::api::error::ApiError;

/// Maximum of a bound on lengths and items; llama.cpp has a limit of its own.
const REPEATS: u64 = 1000;

/// Keywords that bound a number.
pub(super) const BOUNDS: [&str; 4] = ["minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"];

/// Keywords that do not affect which values are valid.
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

/// The alternatives of `name` as the right side of a rule.
pub(super) fn some(all: Vec<String>, name: &str) -> Result<String, ApiError> {
    if all.is_empty() {
        return Err(refuse(format!(
            "has an empty `{name}`, which allows nothing"
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
            "has the keyword `{name}` where this server cannot enforce it: leave it out"
        ))),
        None => Ok(()),
    }
}

/// The names in `required`.
pub(super) fn required(schema: &Json) -> Result<Vec<&str>, ApiError> {
    let Some(required) = schema.get("required") else {
        return Ok(Vec::new());
    };
    let bad = || refuse("has `required` that is not a list of names");
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

/// The bounds of a number; if there are two on one side, the tighter one.
pub(super) fn range(schema: &Json) -> Result<Range, ApiError> {
    let bound = |name: &str, itself: bool| match schema.get(name) {
        None => Ok(None),
        Some(Json::Number(n)) => {
            let whole = n.as_f64().filter(|x| x.fract() == 0.0);
            match whole.filter(|x| x.abs() <= range::MOST as f64) {
                Some(x) => Ok(Some((x as i64, itself))),
                None => Err(refuse(format!(
                    "has `{name}` that is not a whole number of at most 15 digits"
                ))),
            }
        }
        Some(_) => Err(refuse(format!("has `{name}` that is not a number"))),
    };
    let [least, above, most, below] = BOUNDS;
    let from = [bound(least, true)?, bound(above, false)?];
    let until = [bound(most, true)?, bound(below, false)?];
    // Of equal bounds the exclusive one is tighter.
    let tightest = |n: &(i64, bool)| (n.0, !n.1);
    let loosest = |n: &(i64, bool)| (n.0, n.1);
    Ok(Range {
        from: from.into_iter().flatten().max_by_key(tightest),
        until: until.into_iter().flatten().min_by_key(loosest),
    })
}

/// The lower and upper bound of a length or a number of items.
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
                "has `{name}` that is not from 0 to {REPEATS}"
            ))),
        },
        Some(_) => Err(refuse(format!("has `{name}` that is not a number"))),
    };
    let (from, until) = (number(least)?.unwrap_or(0), number(most)?);
    if until.is_some_and(|until| until < from) {
        return Err(refuse(format!("has `{least}` larger than `{most}`")));
    }
    Ok((from, until))
}

/// A number of repetitions in the grammar's notation.
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
