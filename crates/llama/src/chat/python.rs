//! What templates, which are written for Jinja2 and Python, expect of values: Python's
//! output format, methods and filters, with limits on sizes.

use std::fmt::Write as _;

use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Output, State, Value};

/// Maximum length of a text in bytes, number of items of a list, and nesting depth of
/// values that a template may make.
const MAX_BYTES: usize = 8 << 20;
const MAX_ITEMS: usize = 100_000;
const MAX_DEPTH: usize = 64;

/// Maximum width of an indent.
const MAX_WIDTH: usize = 4096;

/// Adds what templates use and minijinja lacks, does not do as Python does, or does not
/// limit.
pub(super) fn furnish(environment: &mut Environment<'static>) {
    environment.set_formatter(print);
    environment.set_unknown_method_callback(method);
    environment.add_filter("tojson", to_json);
    environment.add_filter("kept", kept);
    environment.add_filter("held", held);
    environment.add_filter("replace", |text: String, from: String, to: String| {
        replaceable(&text, &from, &to)?;
        Ok::<_, Error>(text.replace(&from, &to))
    });
    environment.add_filter("join", |items: Value, separator: Option<String>| {
        joined(&items, &separator.unwrap_or_default())
    });
    environment.add_filter("indent", indent);
    environment.add_filter("format", |text: String, args: Rest<Value>| {
        widths(&text)?;
        minijinja::format_filter(minijinja::FormatStyle::Printf, &text, &args)
    });
    for name in ["batch", "slice"] {
        environment.remove_filter(name);
    }
}

fn refused(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

fn within(bytes: usize) -> Result<(), Error> {
    match bytes > MAX_BYTES {
        true => Err(refused(format!(
            "it makes a text of more than {MAX_BYTES} bytes"
        ))),
        false => Ok(()),
    }
}

/// Filter on every assigned value: refuses one that is too long.
fn kept(value: Value) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        within(text.len())?;
    } else if value.len().is_some_and(|len| len > MAX_ITEMS) {
        return Err(refused(format!(
            "it makes a list of more than {MAX_ITEMS} items"
        )));
    }
    Ok(value)
}

/// Filter on values assigned to a namespace's attributes: also refuses values that contain a
/// namespace, so that there are no cycles.
fn held(value: Value) -> Result<Value, Error> {
    let value = kept(value)?;
    match holds_namespace(&value, 0) {
        true => Err(refused("a namespace cannot hold a namespace")),
        false => Ok(value),
    }
}

fn holds_namespace(value: &Value, depth: usize) -> bool {
    let Some(object) = value.as_object() else {
        return false;
    };
    if depth > MAX_DEPTH || object.type_name().contains("Namespace") {
        return true;
    }
    match value.kind() {
        ValueKind::Map => object
            .try_iter_pairs()
            .is_some_and(|mut pairs| pairs.any(|(_, value)| holds_namespace(&value, depth + 1))),
        ValueKind::Seq => value
            .try_iter()
            .is_ok_and(|mut items| items.any(|item| holds_namespace(&item, depth + 1))),
        _ => false,
    }
}

fn replaceable(text: &str, from: &str, to: &str) -> Result<(), Error> {
    let times = match from.is_empty() {
        true => text.chars().count() + 1,
        false => text.matches(from).count(),
    };
    within(text.len().saturating_add(times.saturating_mul(to.len())))
}

fn joined(items: &Value, separator: &str) -> Result<String, Error> {
    let mut out = String::new();
    for (at, item) in items.try_iter()?.enumerate() {
        if at > 0 {
            out.push_str(separator);
        }
        match item.as_str() {
            Some(text) => out.push_str(text),
            None => write_str(&mut out, &item, 0)?,
        }
        within(out.len())?;
    }
    Ok(out)
}

fn indent(text: String, width: Option<usize>, kwargs: Kwargs) -> Result<String, Error> {
    let width: usize = kwargs.get::<Option<usize>>("width")?.or(width).unwrap_or(4);
    let first: bool = kwargs.get::<Option<bool>>("first")?.unwrap_or(false);
    let blank: bool = kwargs.get::<Option<bool>>("blank")?.unwrap_or(false);
    kwargs.assert_all_used()?;
    if width > MAX_WIDTH {
        return Err(refused(format!("it indents by more than {MAX_WIDTH}")));
    }
    within(
        text.len()
            .saturating_add(text.lines().count().saturating_mul(width)),
    )?;
    let mut out = String::new();
    for (at, line) in text.split('\n').enumerate() {
        if at > 0 {
            out.push('\n');
        }
        if (at > 0 || first) && (blank || !line.is_empty()) {
            out.push_str(&" ".repeat(width));
        }
        out.push_str(line);
    }
    Ok(out)
}

/// Refuses a format with a width of more than four digits.
pub(super) fn widths(format: &str) -> Result<(), Error> {
    let numbers = format.split(|c: char| !c.is_ascii_digit());
    match numbers
        .into_iter()
        .any(|digits| digits.trim_start_matches('0').len() > 4)
    {
        true => Err(refused("a format pads by more than 9999")),
        false => Ok(()),
    }
}

/// Methods of Python's types; those that could make a large text of a small one are limited.
fn method(state: &State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let text = |at: usize| args.get(at).and_then(Value::as_str).unwrap_or_default();
    match (value.as_str(), name) {
        (Some(whole), "replace") => replaceable(whole, text(0), text(1))?,
        (Some(format), "format") => widths(format)?,
        (Some(separator), "join") => {
            return match args {
                [items] => joined(items, separator).map(Value::from),
                _ => Err(ErrorKind::TooManyArguments.into()),
            };
        }
        _ => {}
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args)
}

/// `{{ value }}`, as Python's `str` writes it.
fn print(out: &mut Output<'_>, _: &State<'_, '_>, value: &Value) -> Result<(), Error> {
    if value.is_undefined() {
        return Ok(());
    }
    match value.as_str() {
        Some(text) => out.write_str(text)?,
        None => {
            let mut text = String::new();
            write_str(&mut text, value, 0)?;
            out.write_str(&text)?;
        }
    }
    Ok(())
}

fn too_deep() -> Error {
    refused(format!("a value is nested more than {MAX_DEPTH} deep"))
}

/// Writes a value as Python's `str` does, or, inside another value, as `repr` does.
fn write_str(out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(too_deep());
    }
    within(out.len())?;
    match value.kind() {
        ValueKind::Undefined => {}
        ValueKind::None => out.push_str("None"),
        ValueKind::Bool => out.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::String if depth > 0 => quoted(out, value.as_str().unwrap_or_default()),
        ValueKind::Seq => {
            out.push('[');
            for (at, item) in value.try_iter()?.enumerate() {
                out.push_str(if at > 0 { ", " } else { "" });
                write_str(out, &item, depth + 1)?;
            }
            out.push(']');
        }
        ValueKind::Map => {
            out.push('{');
            let pairs = value.as_object().and_then(|object| object.try_iter_pairs());
            for (at, (key, item)) in pairs.into_iter().flatten().enumerate() {
                out.push_str(if at > 0 { ", " } else { "" });
                write_str(out, &key, depth + 1)?;
                out.push_str(": ");
                write_str(out, &item, depth + 1)?;
            }
            out.push('}');
        }
        _ => write!(out, "{value}").map_err(|_| refused("a value cannot be written"))?,
    }
    Ok(())
}

/// Writes a text as Python's `repr` does.
fn quoted(out: &mut String, text: &str) {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            c if c == quote => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out.push(quote);
}

/// The filter `tojson`: Python's `json.dumps` with the defaults of Transformers.
fn to_json(value: Value, indent: Option<usize>, kwargs: Kwargs) -> Result<Value, Error> {
    let indent = kwargs.get::<Option<usize>>("indent")?.or(indent);
    let separators: Option<Vec<String>> = kwargs.get("separators")?;
    let mut json = Json {
        indent,
        comma: if indent.is_some() { "," } else { ", " }.into(),
        colon: ": ".into(),
        ascii: kwargs.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        sorts: kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        out: String::new(),
    };
    kwargs.assert_all_used()?;
    if let Some([comma, colon]) = separators.as_deref() {
        (json.comma, json.colon) = (comma.clone(), colon.clone());
    }
    if indent.is_some_and(|indent| indent > MAX_WIDTH) {
        return Err(refused(format!("it indents by more than {MAX_WIDTH}")));
    }
    json.value(&value, 0)?;
    Ok(Value::from_safe_string(json.out))
}

/// A JSON writer.
struct Json {
    indent: Option<usize>,
    comma: String,
    colon: String,
    ascii: bool,
    sorts: bool,
    out: String,
}

impl Json {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(too_deep());
        }
        within(self.out.len())?;
        match value.kind() {
            ValueKind::Undefined => return Err(refused("an undefined value has no JSON form")),
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self
                .out
                .push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                self.out.push('[');
                let mut any = false;
                for item in value.try_iter()? {
                    self.next(&mut any, depth + 1);
                    self.value(&item, depth + 1)?;
                }
                self.end(any, depth, ']');
            }
            ValueKind::Map => {
                self.out.push('{');
                let pairs = value.as_object().and_then(|object| object.try_iter_pairs());
                let mut pairs: Vec<(Value, Value)> = pairs.into_iter().flatten().collect();
                if self.sorts {
                    pairs.sort_by(|a, b| a.0.cmp(&b.0));
                }
                let mut any = false;
                for (key, item) in pairs {
                    self.next(&mut any, depth + 1);
                    match key.as_str() {
                        Some(key) => self.string(key),
                        None => self.string(&key.to_string()),
                    }
                    let colon = self.colon.clone();
                    self.out.push_str(&colon);
                    self.value(&item, depth + 1)?;
                }
                self.end(any, depth, '}');
            }
            ValueKind::Number => self.out.push_str(&value.to_string()),
            other => return Err(refused(format!("a value of kind {other} has no JSON form"))),
        }
        Ok(())
    }

    /// Writes what separates an item from the one before.
    fn next(&mut self, any: &mut bool, depth: usize) {
        if *any {
            let comma = self.comma.clone();
            self.out.push_str(&comma);
        }
        *any = true;
        self.line(depth);
    }

    fn end(&mut self, any: bool, depth: usize, close: char) {
        if any {
            self.line(depth);
        }
        self.out.push(close);
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = self.indent {
            self.out.push('\n');
            self.out.push_str(&" ".repeat(indent * depth));
        }
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                c if c < ' ' || (self.ascii && !c.is_ascii()) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        self.out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }
}
