//! `--medium` as people write it: flash, a fiber loop by its parameters or by the
//! name of one, or a file that names media. What a parameter may be, the loop
//! itself says, and what the light of a design does, the study.

mod presets;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use delayline_fiber::{LoopMaker, LoopSpec, Order, PlacedLoop, Quantity, SpecBuilder, SpecError};
use delayline_llama::LlamaEngine;
use delayline_study::link::Optics;

use self::presets::PresetSource;

/// Parameters beside those of the loop: of how it is used, and of where its light
/// comes from.
const OURS: [&str; 7] = [
    "split", "order", "compute", "copies", "preset", "design", "laps",
];

/// Where the weights are streamed from.
#[derive(Clone, Debug, Default)]
pub struct MediumArg {
    /// As it was written.
    pub text: String,
    /// The loop, unless it is flash alone.
    pub fiber: Option<LoopMaker>,
    /// What is known of its light, if it has a design.
    pub optics: Option<Optics>,
}

/// `flash`, `fiber:length=10000km,rate=20Gbit/s`, `fiber:c-l,laps=3`,
/// `fiber:design=my.toml`, `media.toml` or `media.toml:NAME`.
///
/// # Errors
/// Names the parameter, its value, and what it may be.
pub fn parse_medium(text: &str) -> Result<MediumArg> {
    let arg = match text.split_once(':') {
        None if text == "flash" => MediumArg::default(),
        Some(("fiber", parameters)) => from_pairs(pairs(parameters)?, Path::new(""))?,
        _ if text.contains(".toml") => from_file(text)?,
        _ => bail!(
            "expected flash, fiber:length=10000km,rate=20Gbit/s, fiber:NAME with one of {}, or a \
             file FILE.toml or FILE.toml:NAME",
            presets::names()
        ),
    };
    let text = text.to_owned();
    Ok(MediumArg { text, ..arg })
}

/// The same for the command line, which shows of an error its first words only.
///
/// # Errors
/// As [`parse_medium`], all causes in one.
pub fn typed(text: &str) -> Result<MediumArg> {
    parse_medium(text).map_err(|error| anyhow!("{error:#}"))
}

/// The loop that an engine reads from, if it does.
pub fn placed_loop(engine: &mut LlamaEngine) -> Option<&PlacedLoop> {
    let made: &dyn Any = engine.stream()?.medium();
    made.downcast_ref()
}

/// Keys and values; a word alone is a preset's name, and the first.
fn pairs(parameters: &str) -> Result<Vec<(String, String)>> {
    let mut all: Vec<(String, String)> = Vec::new();
    for (at, word) in parameters.split(',').map(str::trim).enumerate() {
        match word.split_once('=') {
            Some((key, _)) if all.iter().any(|(given, _)| given == key.trim()) => {
                bail!("`{word}`: {} is given twice", key.trim())
            }
            Some((key, value)) => all.push((key.trim().into(), value.trim().into())),
            None if at == 0 => all.push(("preset".into(), word.into())),
            None => bail!("`{word}` is no parameter: expected key=value"),
        }
    }
    Ok(all)
}

/// A loop from parameters; files that they name lie in `folder`.
fn from_pairs(pairs: Vec<(String, String)>, folder: &Path) -> Result<MediumArg> {
    let mut fiber = LoopMaker::new(LoopSpec::new(f64::NAN, f64::NAN));
    let mut source = PresetSource::default();
    let mut given = Vec::new();
    for (key, value) in pairs {
        if !use_of(&mut fiber, &key, &value)? && !source.set(&key, &value, folder)? {
            given.push((key, value));
        }
    }
    // Once by themselves: what is wrong is said before any light is reckoned.
    let alone = with(SpecBuilder::new(), &given)?;
    let (base, optics) = source.light(alone)?;
    fiber.spec = with(base, &given)?.build()?;
    Ok(MediumArg {
        text: String::new(),
        fiber: Some(fiber),
        optics,
    })
}

/// The loop's own parameters.
fn with(mut builder: SpecBuilder, given: &[(String, String)]) -> Result<SpecBuilder> {
    for (key, value) in given {
        match builder.set(key, value) {
            Err(SpecError::UnknownKey { key, known }) => {
                let known = format!("{known}, {}", OURS.join(", "));
                return Err(SpecError::UnknownKey { key, known }.into());
            }
            other => other?,
        }
    }
    Ok(builder)
}

/// Sets how the loop is used; false if the key is of something else.
fn use_of(fiber: &mut LoopMaker, key: &str, value: &str) -> Result<bool, SpecError> {
    match key {
        "split" => {
            fiber.split = match value {
                "yes" | "true" => true,
                "no" | "false" => false,
                _ => return Err(wrong(key, value, "yes or no")),
            }
        }
        "order" => {
            fiber.order = match value {
                "optimum" => Order::Optimum,
                "plain" => Order::Plain,
                _ => return Err(wrong(key, value, "optimum or plain")),
            }
        }
        "compute" => {
            let seconds = Quantity::Time.parse(value);
            let seconds = seconds.filter(|s| (1e-9..=1e6).contains(s));
            let expected = "the time of a decoding lap, 1ns to 1000000s";
            fiber.compute_s = Some(seconds.ok_or_else(|| wrong(key, value, expected))?);
        }
        "copies" => {
            let copies = value.parse().ok().filter(|&copies: &u32| copies > 0);
            let expected = "a whole number from 1: how often the weights circulate";
            fiber.copies = Some(copies.ok_or_else(|| wrong(key, value, expected))?);
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn wrong(key: &str, value: &str, expected: &str) -> SpecError {
    SpecError::Value {
        key: key.into(),
        value: value.into(),
        expected: expected.into(),
    }
}

/// `FILE.toml` with one medium, or `FILE.toml:NAME` with several.
fn from_file(text: &str) -> Result<MediumArg> {
    let (path, name) = match text.rsplit_once(".toml:") {
        Some((stem, name)) => (format!("{stem}.toml"), Some(name)),
        None => (text.to_owned(), None),
    };
    let path = Path::new(&path);
    let content = std::fs::read_to_string(path)
        .with_context(|| format!("{} cannot be read", path.display()))?;
    let table: toml::Table = content
        .parse()
        .with_context(|| format!("{} is no TOML", path.display()))?;
    let names = || {
        let names: Vec<&str> = table.keys().map(String::as_str).collect();
        names.join(", ")
    };
    let name = match (name, table.len()) {
        (Some(name), _) => name,
        (None, 1) => table.keys().next().map_or("", String::as_str),
        _ => bail!(
            "{} names {} media: say which, {}:NAME with one of {}",
            path.display(),
            table.len(),
            path.display(),
            names()
        ),
    };
    let Some(medium) = table.get(name) else {
        bail!(
            "{} has no medium `{name}`; it has {}",
            path.display(),
            names()
        );
    };
    let place = || format!("medium `{name}` of {}", path.display());
    let Some(medium) = medium.as_table() else {
        bail!(
            "{} is no table: write [{name}] above its parameters",
            place()
        );
    };
    let folder = path.parent().unwrap_or(Path::new(""));
    from_table(medium, folder).with_context(place)
}

fn from_table(table: &toml::Table, folder: &Path) -> Result<MediumArg> {
    let mut pairs = Vec::new();
    let mut kind = None;
    for (key, value) in table {
        let text = match value {
            toml::Value::String(text) => text.clone(),
            toml::Value::Integer(_) | toml::Value::Float(_) | toml::Value::Boolean(_) => {
                value.to_string()
            }
            _ => bail!("{key}={value}: expected a number or a text such as \"10000km\""),
        };
        match key.as_str() {
            "kind" => kind = Some(text),
            _ => pairs.push((key.clone(), text)),
        }
    }
    match kind.as_deref() {
        Some("fiber") => from_pairs(pairs, folder),
        Some("flash") if pairs.is_empty() => Ok(MediumArg::default()),
        Some("flash") => bail!("flash has no parameter `{}`; it has none", pairs[0].0),
        Some(other) => bail!("kind={other}: expected fiber or flash"),
        None => bail!("kind is missing: give fiber or flash"),
    }
}
