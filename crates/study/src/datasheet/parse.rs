//! TOML to sheets, checked against the schema. Every complaint names the place,
//! the key, the value and what is accepted.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::{Table, Value};

use super::{Figure, Key, Sheet, SheetError, SheetKind, Tag, list};
use crate::interval::Interval;
use crate::report::format::plain as number;

/// Keys of every sheet beside its figures.
const COMMON: [&str; 3] = ["kind", "name", "note"];
/// What a figure consists of.
const PARTS: [&str; 5] = ["value", "unit", "source", "date", "tag"];

/// Adds the sheets of one file to `sheets`.
pub fn add(sheets: &mut BTreeMap<String, Sheet>, file: &str, text: &str) -> Result<(), SheetError> {
    let table: Table = text
        .parse()
        .map_err(|error: toml::de::Error| SheetError::Syntax {
            file: file.to_owned(),
            message: error.to_string().trim_end().to_owned(),
        })?;
    if table.is_empty() {
        return Err(missing(file, "[sheet]", "the file holds no data sheet"));
    }
    for (id, value) in table {
        let place = format!("{file}: {id}");
        let Value::Table(entries) = value else {
            return Err(wrong(file, &id, &value, "a table, [sheet]"));
        };
        add_sheet(sheets, &id, entries, &place)?;
    }
    Ok(())
}

fn add_sheet(
    sheets: &mut BTreeMap<String, Sheet>,
    id: &str,
    entries: Table,
    place: &str,
) -> Result<(), SheetError> {
    let known = sheets.get(id);
    let kind = match (entries.get("kind"), known) {
        (Some(value), _) => SheetKind::deserialize(value.clone()).map_err(|_| {
            wrong(
                place,
                "kind",
                value,
                "a kind of sheet, such as store or loop",
            )
        })?,
        (None, Some(sheet)) => sheet.kind,
        (None, None) => {
            let expected = "a new sheet says what it describes, such as kind = \"store\"";
            return Err(missing(place, "kind", expected));
        }
    };
    if kind == SheetKind::Design && known.is_none_or(|sheet| sheet.kind != kind) {
        let value = Value::String(kind_name(kind));
        let expected = "a design of the program; one's own is a medium, fiber:design=FILE.toml";
        return Err(wrong(place, "kind", &value, expected));
    }
    let mut sheet = match known {
        Some(sheet) if sheet.kind == kind => sheet.clone(),
        _ => Sheet {
            id: id.to_owned(),
            kind,
            name: id.to_owned(),
            note: String::new(),
            references: BTreeMap::new(),
            figures: BTreeMap::new(),
        },
    };
    for (key, value) in entries {
        let is_reference = kind.references().iter().any(|(name, _)| *name == key);
        match key.as_str() {
            "kind" => {}
            "name" => sheet.name = text(place, &key, &value)?,
            "note" => sheet.note = text(place, &key, &value)?,
            _ if is_reference => {
                let name = text(place, &key, &value)?;
                sheet.references.insert(key, name);
            }
            _ => {
                let Some(row) = kind.key(&key) else {
                    let names = kind.keys().iter().map(|row| row.name);
                    let references = kind.references().iter().map(|(name, _)| *name);
                    return Err(SheetError::UnknownKey {
                        place: place.to_owned(),
                        key,
                        expected: list(COMMON.into_iter().chain(references).chain(names)),
                    });
                };
                sheet.figures.insert(key, figure(row, &value, place)?);
            }
        }
    }
    sheets.insert(id.to_owned(), sheet);
    Ok(())
}

/// Checks that no sheet lacks a key and that every reference leads somewhere.
pub fn complete(sheets: &BTreeMap<String, Sheet>, file: &str) -> Result<(), SheetError> {
    for sheet in sheets.values() {
        let place = format!("{file}: {}", sheet.id);
        for key in sheet.kind.keys().iter().filter(|key| !key.optional) {
            if !sheet.figures.contains_key(key.name) {
                let expected = format!("a figure {}", accepted(key));
                return Err(missing(&place, key.name, &expected));
            }
        }
        for &(name, kind) in sheet.kind.references() {
            let of_kind = || {
                let all = sheets.values().filter(|other| other.kind == kind);
                list(all.map(|other| other.id.as_str()))
            };
            let Some(to) = sheet.references.get(name) else {
                return Err(missing(&place, name, &format!("one of {}", of_kind())));
            };
            if sheets.get(to).is_none_or(|other| other.kind != kind) {
                let expected = format!("one of {}", of_kind());
                return Err(SheetError::Value {
                    place,
                    key: name.to_owned(),
                    got: format!("`{to}`"),
                    expected,
                });
            }
        }
    }
    Ok(())
}

/// Checks a value in `unit` and converts it to base units.
pub fn value(
    key: &Key,
    written: Interval,
    unit: &str,
    place: &str,
) -> Result<Interval, SheetError> {
    let fail = |got: String, expected: String| SheetError::Value {
        place: place.to_owned(),
        key: key.name.to_owned(),
        got,
        expected,
    };
    let Some(factor) = key.dimension.factor(unit) else {
        let units = list(key.dimension.units());
        return Err(fail(format!("in `{unit}`"), format!("in one of {units}")));
    };
    let base = key
        .dimension
        .factor(key.unit)
        .expect("the schema is checked");
    let (least, most) = (key.least * base, key.most * base);
    let value = written.rising(|value| value * factor);
    // Tolerance for a limit that is written in another unit.
    let room = 1e-12 * most.abs().min(f64::MAX / 2.0);
    let counted = [written.low, written.typical, written.high];
    if key.whole && counted.iter().any(|count| count.fract() != 0.0) {
        return Err(fail(shown(written, unit), whole(key)));
    }
    let within = value.low >= least - room.min(1e-9 * least.abs()) && value.high <= most + room;
    if !within || !value.low.is_finite() || !value.high.is_finite() {
        return Err(fail(shown(written, unit), accepted(key)));
    }
    Ok(value)
}

fn figure(key: &Key, entry: &Value, place: &str) -> Result<Figure, SheetError> {
    let Value::Table(parts) = entry else {
        let expected = "{ value, unit, source, date, tag }";
        return Err(wrong(place, key.name, entry, expected));
    };
    let place_of = format!("{place}.{}", key.name);
    if let Some(part) = parts.keys().find(|part| !PARTS.contains(&part.as_str())) {
        return Err(SheetError::UnknownKey {
            place: place_of,
            key: part.clone(),
            expected: list(PARTS.into_iter()),
        });
    }
    let part = |name: &str| {
        let expected = "every figure has value, unit, source, date and tag";
        parts
            .get(name)
            .ok_or_else(|| missing(&place_of, name, expected))
    };
    let raw = part("value")?;
    let written = Interval::deserialize(raw.clone()).map_err(|_| {
        let expected = "a number, or [low, typical, high] that do not fall";
        wrong(place, key.name, raw, expected)
    })?;
    let unit = text(&place_of, "unit", part("unit")?)?;
    let tag = part("tag")?;
    Ok(Figure {
        value: value(key, written, &unit, place)?,
        written,
        unit,
        source: text(&place_of, "source", part("source")?)?,
        date: text(&place_of, "date", part("date")?)?,
        tag: Tag::deserialize(tag.clone()).map_err(|_| {
            let expected = "one of read, second-hand, assumption, computed and given";
            wrong(&place_of, "tag", tag, expected)
        })?,
    })
}

fn text(place: &str, key: &str, value: &Value) -> Result<String, SheetError> {
    match value {
        Value::String(text) if !text.trim().is_empty() => Ok(text.clone()),
        _ => Err(wrong(place, key, value, "a text that is not empty")),
    }
}

/// What a message says of an accepted value.
fn accepted(key: &Key) -> String {
    let (least, most) = (number(key.least), number(key.most));
    format!("from {least} to {most}{}", unit_behind(key.unit))
}

fn whole(key: &Key) -> String {
    format!("whole, {}", accepted(key))
}

/// What a message says of a value that was given.
fn shown(written: Interval, unit: &str) -> String {
    let [low, typical, high] = [written.low, written.typical, written.high].map(number);
    let value = match written.is_exact() {
        true => typical,
        false => format!("{typical} ({low}–{high})"),
    };
    format!("{value}{}", unit_behind(unit))
}

fn unit_behind(unit: &str) -> String {
    match unit {
        "1" => String::new(),
        unit => format!(" {unit}"),
    }
}

fn wrong(place: &str, key: &str, got: &Value, expected: &str) -> SheetError {
    SheetError::Value {
        place: place.to_owned(),
        key: key.to_owned(),
        got: got.to_string(),
        expected: expected.to_owned(),
    }
}

fn missing(place: &str, key: &str, expected: &str) -> SheetError {
    SheetError::Missing {
        place: place.to_owned(),
        key: key.to_owned(),
        expected: expected.to_owned(),
    }
}

/// The kind as it is written.
pub fn kind_name(kind: SheetKind) -> String {
    match serde_json::to_value(kind) {
        Ok(serde_json::Value::String(name)) => name,
        _ => format!("{kind:?}"),
    }
}
