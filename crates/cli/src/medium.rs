//! Parses `--medium`: flash, a medium of one of the kinds in [`KINDS`] with its
//! parameters, or a file that names media. A kind is a file beside this one and a line in
//! that list: nothing else in the program tells kinds apart.

mod faulty;
mod fiber;
mod figures;

use std::any::Any;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use delayline_llama::LlamaEngine;
use delayline_medium::MediumMaker;

pub use self::figures::{MediumFigures, MediumReport};

/// All kinds of media but flash.
const KINDS: [MediumKind; 2] = [fiber::KIND, faulty::KIND];

/// Keys and values.
type Pairs = Vec<(String, String)>;

/// A kind of medium that can be put around the files of a model.
#[derive(Clone, Copy)]
struct MediumKind {
    /// Its name, before the colon.
    name: &'static str,
    /// Examples of how it is written, for messages.
    examples: fn() -> String,
    /// Makes one from parameters; names of files in them are relative to the folder.
    parse: fn(Pairs, &Path) -> Result<MediumArg>,
    /// The report of a medium of this kind that is in use; `None` for any other medium.
    told: fn(&dyn Any) -> Option<MediumTold>,
}

/// The report of a medium that is in use.
struct MediumTold {
    /// What a person should know before the first token.
    before: Option<String>,
    figures: MediumFigures,
    notices: Notices,
}

/// Returns what happened in a medium since the last call, in sentences.
pub type Notices = Box<dyn Fn() -> Vec<String>>;

/// Where the weights are streamed from.
#[derive(Clone, Debug, Default)]
pub struct MediumArg {
    /// As it was written.
    pub text: String,
    /// Makes it around the files; none for flash.
    pub maker: Option<Arc<dyn MediumMaker>>,
    /// What a person should know of it before it is made, in a sentence.
    pub before: Option<String>,
    /// Whether this machine holds bytes in memory that the real medium would not.
    pub is_held_in_memory: bool,
}

/// `flash`, `KIND:key=value,…`, `media.toml` or `media.toml:NAME`.
///
/// # Errors
/// Names the parameter, its value, and what it may be.
pub fn parse_medium(text: &str) -> Result<MediumArg> {
    let named = text
        .split_once(':')
        .and_then(|(name, parameters)| Some((kind_of(name)?, parameters)));
    let arg = match named {
        None if text == "flash" => MediumArg::default(),
        Some((kind, parameters)) => (kind.parse)(pairs(parameters)?, Path::new(""))?,
        _ if text.contains(".toml") => from_file(text)?,
        _ => {
            let examples = KINDS.map(|kind| (kind.examples)()).join(", ");
            bail!("expected flash, {examples}, or a file FILE.toml or FILE.toml:NAME")
        }
    };
    let text = text.to_owned();
    Ok(MediumArg { text, ..arg })
}

/// The same for the command line, which shows only the outermost message of an error.
///
/// # Errors
/// As [`parse_medium`], all causes in one.
pub fn typed(text: &str) -> Result<MediumArg> {
    parse_medium(text).map_err(|error| anyhow!("{error:#}"))
}

/// The report of an engine's medium, if it has one.
fn told(engine: &mut LlamaEngine) -> Option<MediumTold> {
    let made: &dyn Any = engine.stream()?.medium();
    KINDS.iter().find_map(|kind| (kind.told)(made))
}

/// The figures of an engine's medium, if it has one.
pub fn report(engine: &mut LlamaEngine) -> MediumReport {
    MediumReport::new(told(engine).map(|told| told.figures))
}

/// What a person should know of it before the first token.
pub fn before(engine: &mut LlamaEngine) -> Option<String> {
    told(engine)?.before
}

/// Events of an engine's medium, for as long as the engine lives.
pub fn notices(engine: &mut LlamaEngine) -> Notices {
    told(engine).map_or_else(|| Box::new(Vec::new) as Notices, |told| told.notices)
}

/// Splits parameters into keys and values; the first may be a preset's name alone.
fn pairs(parameters: &str) -> Result<Pairs> {
    let mut all = Pairs::new();
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
        Some("flash") if pairs.is_empty() => Ok(MediumArg::default()),
        Some("flash") => bail!("flash has no parameter `{}`; it has none", pairs[0].0),
        Some(name) => match kind_of(name) {
            Some(kind) => (kind.parse)(pairs, folder),
            None => bail!("kind={name}: expected {} or flash", kinds()),
        },
        None => bail!("kind is missing: give {} or flash", kinds()),
    }
}

fn kind_of(name: &str) -> Option<MediumKind> {
    KINDS.into_iter().find(|kind| kind.name == name)
}

fn kinds() -> String {
    KINDS.map(|kind| kind.name).join(", ")
}
