//! The parameters of a request, taken one by one, so that each mistake is told
//! by its parameter's name and none is passed over in silence.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::value::{RawValue, Value};

use super::error::ApiError;

/// What is left of a request's parameters.
#[derive(Debug)]
pub struct Fields<'a>(BTreeMap<String, &'a RawValue>);

impl<'a> Fields<'a> {
    /// All parameters of a body. Those that are `null` count as absent.
    ///
    /// # Errors
    /// When it is not a JSON object.
    pub fn parse(body: &'a [u8]) -> Result<Self, ApiError> {
        let all: BTreeMap<String, &RawValue> = serde_json::from_slice(body).map_err(|error| {
            ApiError::invalid(format!("the body is not a JSON object: {error}"))
        })?;
        let given = all.into_iter().filter(|(_, value)| value.get() != "null");
        Ok(Self(given.collect()))
    }

    /// Takes a parameter; `expected` is what to say of one of another type.
    ///
    /// # Errors
    /// When it is there and not a `T`.
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

    /// Takes a whole number between two bounds.
    ///
    /// # Errors
    /// When it is something else.
    pub fn whole(&mut self, name: &str, from: i64, to: i64) -> Result<Option<i64>, ApiError> {
        let expected = format!("a whole number from {from} to {to}");
        match self.take::<i64>(name, &expected)? {
            Some(x) if !(from..=to).contains(&x) => Err(ApiError::param(
                name,
                format!("`{name}` must be {expected}, not {x}"),
            )),
            other => Ok(other),
        }
    }

    /// Takes parameters that are harmless as long as they ask for what is done
    /// anyway, given as JSON.
    ///
    /// # Errors
    /// When one asks for something else.
    pub fn neutral(&mut self, table: &[(&str, &[&str])]) -> Result<(), ApiError> {
        for (name, values) in table {
            let Some(raw) = self.0.remove(*name) else {
                continue;
            };
            // However it is spaced.
            let given = serde_json::from_str::<Value>(raw.get()).ok();
            let fine = |value: &&str| *value == "*" || serde_json::from_str(value).ok() == given;
            if !values.iter().any(fine) {
                return Err(ApiError::only(name, values));
            }
        }
        Ok(())
    }

    /// That was all.
    ///
    /// # Errors
    /// When a parameter is left: it is one that the server does not have.
    pub fn finish(self) -> Result<(), ApiError> {
        match self.0.keys().next() {
            Some(name) => Err(ApiError::unsupported(name)),
            None => Ok(()),
        }
    }
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
            (r#"{"tools": []}"#, "`tools` is not supported"),
        ] {
            let message = message(bad);
            assert!(
                message.contains(says) || bad.contains("1e999") && !message.is_empty(),
                "{bad}: {message}"
            );
        }
    }
}
