//! Converts schemas of arrays and objects.

use super::convert::Converter;
use super::json::Json;
use super::keywords::{bounds, braces, literal, only, required};
use super::refuse;
use crate::api::error::ApiError;

impl<'a> Converter<'a> {
    pub(super) fn array(
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

    /// Properties in their order; optional ones may be left out. The rules are built from the
    /// last property back: `first` is what may follow if no property has come yet, `then`
    /// what may follow after one.
    pub(super) fn object(
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
            Some(_) => return Err(refuse("has `properties` that are not an object")),
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
