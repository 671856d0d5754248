//! The parameters of a request, which are taken one by one, so that each error names its
//! parameter and no unknown parameter is ignored.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::{Number, RawValue, Value};

use super::error::ApiError;

/// A value as JSON text, to be put into another JSON value unparsed.
///
/// # Errors
/// When it cannot be serialized.
pub fn raw(value: impl Serialize) -> Result<Box<RawValue>, ApiError> {
    serde_json::value::to_raw_value(&value).map_err(|error| ApiError::server(error.to_string()))
}

/// The parameters of a request that have not been taken yet.
#[derive(Debug)]
pub struct Fields<'a>(BTreeMap<String, &'a RawValue>);

impl<'a> Fields<'a> {
    /// All parameters of a body. Those that are `null` count as absent.
    ///
    /// # Errors
    /// When it is not a JSON object.
    pub fn parse(body: &'a [u8]) -> Result<Self, ApiError> {
        // Some editors write a byte order mark, which has no meaning in UTF-8.
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        let all: BTreeMap<String, &RawValue> = serde_json::from_slice(body).map_err(|error| {
            ApiError::invalid(format!("the body is not a JSON object: {error}"))
        })?;
        let given = all.into_iter().filter(|(_, value)| value.get() != "null");
        Ok(Self(given.collect()))
    }

    /// Takes a parameter; `expected` describes it in the error.
    ///
    /// # Errors
    /// When it is present and not a `T`.
    pub fn take<T: DeserializeOwned>(
        &mut self,
        name: &str,
        expected: &str,
    ) -> Result<Option<T>, ApiError> {
        let Some(raw) = self.0.remove(name) else {
            return Ok(None);
        };
        serde_json::from_str(raw.get())
            .map(Some)
            .map_err(|error| ApiError::param(name, format!("`{name}` must be {expected}: {error}")))
    }

    /// Takes a parameter if it is `false`; returns whether it was.
    pub fn take_false(&mut self, name: &str) -> bool {
        let is_false = self.0.get(name).is_some_and(|raw| raw.get() == "false");
        if is_false {
            self.0.remove(name);
        }
        is_false
    }

    /// Takes a number between two bounds.
    ///
    /// # Errors
    /// When it is something else.
    pub fn number(&mut self, name: &str, from: f32, to: f32) -> Result<Option<f32>, ApiError> {
        let expected = format!("a number from {from} to {to}");
        match self.take::<f64>(name, &expected)? {
            Some(x) if !(f64::from(from)..=f64::from(to)).contains(&x) => Err(ApiError::param(
                name,
                format!("`{name}` must be {expected}, not {x}"),
            )),
            other => Ok(other.map(|x| x as f32)),
        }
    }

    /// Takes a whole number between two bounds, which may be written as 16.0.
    ///
    /// # Errors
    /// When it is something else.
    pub fn whole(&mut self, name: &str, from: i64, to: i64) -> Result<Option<i64>, ApiError> {
        let expected = format!("a whole number from {from} to {to}");
        let Some(number) = self.take::<Number>(name, &expected)? else {
            return Ok(None);
        };
        match whole_of(&number) {
            Some(x) if (from..=to).contains(&x) => Ok(Some(x)),
            _ => Err(ApiError::param(
                name,
                format!("`{name}` must be {expected}, not {number}"),
            )),
        }
    }

    /// Takes the parameters of a table of those without effect: names, and the JSON values
    /// that are accepted; `*` stands for any value.
    ///
    /// # Errors
    /// When one has another value.
    pub fn neutral(&mut self, table: &[(&str, &[&str])]) -> Result<(), ApiError> {
        for (name, values) in table {
            let Some(raw) = self.0.remove(*name) else {
                continue;
            };
            // Compared as values, so that white space does not matter.
            let given = serde_json::from_str::<Value>(raw.get()).ok();
            let same = |value: &str| match (serde_json::from_str::<Value>(value).ok(), &given) {
                (Some(Value::Number(a)), Some(Value::Number(b))) => a.as_f64() == b.as_f64(),
                (value, given) => value == *given,
            };
            if !values.iter().any(|value| *value == "*" || same(value)) {
                return Err(ApiError::only(name, values));
            }
        }
        Ok(())
    }

    /// Checks that no other parameters are left. Those that are empty or `false` are ignored.
    ///
    /// # Errors
    /// When there is one, which the server does not support.
    pub fn finish(self) -> Result<(), ApiError> {
        let asks = |value: &RawValue| match serde_json::from_str(value.get()) {
            Ok(Value::Bool(yes)) => yes,
            Ok(Value::String(text)) => !text.is_empty(),
            Ok(Value::Array(list)) => !list.is_empty(),
            Ok(Value::Object(map)) => !map.is_empty(),
            _ => true,
        };
        match self.0.iter().find(|(_, value)| asks(value)) {
            Some((name, _)) => Err(ApiError::unsupported(name)),
            None => Ok(()),
        }
    }
}

/// The number as an `i64`, if it is whole; one beyond the bounds of an `i64` counts as the
/// bound.
pub fn whole_of(number: &Number) -> Option<i64> {
    if let Some(whole) = number.as_i64() {
        return Some(whole);
    }
    let value = number.as_f64()?;
    // The cast saturates.
    (value.fract() == 0.0).then_some(value as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(body: &str) -> String {
        let parsed = Fields::parse(body.as_bytes()).and_then(|mut fields| {
            fields.number("t", 0.0, 2.0)?;
            fields.whole("n", 1, 9)?;
            fields.take::<bool>("b", "true or false")?;
            fields.neutral(&[("one", &["1", "1.0"]), ("any", &["*"]), ("list", &["[]"])])?;
            fields.finish()
        });
        parsed.err().map(|error| error.message).unwrap_or_default()
    }

    #[test]
    fn each_mistake_is_told_by_name() {
        for fine in [
            r#"{"t": 2, "n": 9, "b": false, "one": 1, "any": [7]}"#,
            r#"{"t": null, "tools": null}"#,
            r#"{"list": [ ]}"#,
            r#"{"n": 9.0, "one": 1.0}"#,
            "\u{feff}{}",
            r#"{"new": false, "newer": "", "newest": [], "next": {}}"#,
        ] {
            assert_eq!(message(fine), "", "{fine}");
        }
        for (bad, says) in [
            ("", "JSON object"),
            ("[]", "JSON object"),
            (r#"{"t": 2.1}"#, "`t` must be a number from 0 to 2, not 2.1"),
            (r#"{"t": "hot"}"#, "`t` must be a number"),
            (r#"{"t": 1e999}"#, "JSON"),
            (
                r#"{"n": 0}"#,
                "`n` must be a whole number from 1 to 9, not 0",
            ),
            (r#"{"n": 1.5}"#, "`n` must be a whole number"),
            (r#"{"b": 1}"#, "`b` must be true or false"),
            (r#"{"one": 2}"#, "leave it out, or let it be 1 or 1.0"),
            (r#"{"n": 1e300}"#, "from 1 to 9"),
            (r#"{"n": "1"}"#, "`n` must be a whole number"),
            (r#"{"tools": [1]}"#, "`tools` is not supported"),
            (r#"{"new": true}"#, "`new` is not supported"),
            (r#"{"new": 0}"#, "`new` is not supported"),
        ] {
            let message = message(bad);
            assert!(
                message.contains(says) || bad.contains("1e999") && !message.is_empty(),
                "{bad}: {message}"
            );
        }
    }
}
