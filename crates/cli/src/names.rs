//! Names of models on the Hugging Face hub, `hf:ORG/REPO[:QUANT]`, in place of paths; and
//! `delayline list`. The meaning of names is the hub crate's. This program only looks into
//! the cache: `delayline-fetch`, a program beside it, fetches what is not there.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, bail};
use clap::builder::{OsStringValueParser, TypedValueParser};
use delayline_engine::budget;
use delayline_hub::{HubCache, HubName};
use serde_json::json;

use crate::args::ListArgs;
use crate::interrupt::{self, Interrupted};
use crate::output::{Output, TextTable};
use crate::size::format_size;

/// Checks an argument: a path as it was typed, or a valid name of the hub.
fn sound(text: OsString) -> Result<PathBuf, String> {
    match text.to_str().and_then(HubName::parse) {
        Some(Err(error)) => Err(error.to_string()),
        // Anything else is a path.
        _ => Ok(text.into()),
    }
}

/// The parser of arguments that name a model.
pub fn parser() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().try_map(sound)
}

/// The path itself, or the file that a name means, fetched if it is not in the cache.
///
/// # Errors
/// When there is no such model, or it cannot be fetched. [`Interrupted`] after Ctrl-C.
pub fn resolve(path: &Path) -> Result<PathBuf> {
    let Some(name) = path.to_str().and_then(HubName::parse) else {
        return Ok(path.to_owned());
    };
    let (name, cache) = (name?, HubCache::from_env()?);
    let absent = match cache.find(&name) {
        Ok(path) => return Ok(path),
        Err(absent) => absent,
    };
    // The values that the hub's own tools accept.
    let offline = std::env::var("HF_HUB_OFFLINE").unwrap_or_default();
    if ["1", "ON", "YES", "TRUE"].contains(&offline.to_ascii_uppercase().as_str()) {
        bail!("{absent} (HF_HUB_OFFLINE forbids fetching it)");
    }
    let fetch = std::env::current_exe()?.with_file_name("delayline-fetch");
    if !fetch.is_file() {
        bail!("{absent} (delayline-fetch, which would fetch it, is not beside this program)");
    }
    let ended = Command::new(fetch)
        .arg(path)
        .stdout(Stdio::null())
        .status()?;
    match ended.code() {
        Some(0) => Ok(cache.find(&name)?),
        Some(code) if code == i32::from(interrupt::EXIT_CODE) => Err(Interrupted.into()),
        // The child has printed why.
        _ => bail!("{absent}"),
    }
}

/// Lists the models in the cache, with their size and whether they would stream.
///
/// # Errors
/// When the place of the cache is unknown, or standard output is closed.
pub fn list(args: &ListArgs, output: &Output) -> Result<()> {
    let cache = HubCache::from_env()?;
    let budget = budget::allowed(args.memory).ok();
    let mut table = TextTable::new(["name", "size", "runs"]);
    table.left(2);
    let models = cache.models();
    for model in &models {
        let streams = budget.map(|budget| model.bytes > budget);
        let runs = match (model.missing, streams) {
            (0, Some(true)) => "streamed",
            (0, Some(false)) => "in memory",
            (0, None) => "",
            _ => "not whole",
        };
        output.object(
            &json!({"event": "model", "repo": model.repo, "name": model.name,
            "path": model.path, "bytes": model.bytes, "missing_parts": model.missing,
            "streams": streams}),
        )?;
        table.row([
            format!("hf:{}  {}", model.repo, model.name),
            format_size(model.bytes),
            runs.to_owned(),
        ]);
    }
    match models.is_empty() {
        false => output.line(table)?,
        true => output.note(format_args!(
            "{} holds no GGUF files; `delayline-fetch hf:ORG/REPO` fetches one, and HF_HUB_CACHE \
             names another folder",
            cache.folder.display()
        )),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

    #[test]
    fn a_path_is_taken_as_it_is() {
        let odd = OsString::from_vec(b"m\xff.gguf".to_vec());
        for path in ["a/path.gguf".into(), odd] {
            assert_eq!(sound(path.clone()), Ok(path.clone().into()));
            assert_eq!(
                resolve(Path::new(&path)).expect("a path"),
                PathBuf::from(path)
            );
        }
        assert!(sound("hf:repo".into()).is_err());
    }
}
