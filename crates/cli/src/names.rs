//! Names of models on the Hugging Face hub, `hf:ORG/REPO[:QUANT]`, where a path may go; and
//! `delayline list`. What a name means is looked up in the cache that the hub's own tools
//! share. Knows no network.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::builder::{OsStringValueParser, TypedValueParser};
use delayline_engine::budget;
use serde_json::json;

use crate::args::ListArgs;
use crate::output::{Output, TextTable};
use crate::size::format_size;

const SCHEME: &str = "hf:";

/// What is taken of several, if it is there and nothing was said, as llama.cpp does.
const USUAL: &str = "Q4_K_M";

/// How deep the folders of a repository are searched.
const MAX_DEPTH: usize = 4;

/// A model that a repository in the cache holds.
#[derive(Clone, Debug, PartialEq, Eq)]
struct CachedModel {
    /// Its name without its ending and, of a split model, its number.
    name: String,
    /// Its file, or the first of its parts.
    path: PathBuf,
    bytes: u64,
    /// Parts that it should have and that are not there.
    missing: usize,
}

/// A path as it was typed, or the file that a name means.
///
/// # Errors
/// In words, when the cache holds no such model.
fn model(text: OsString) -> Result<PathBuf, String> {
    match text.to_str().and_then(|text| text.strip_prefix(SCHEME)) {
        // Any name that the system takes is a path.
        None => Ok(text.into()),
        Some(name) => found(&cache()?, name),
    }
}

/// Of arguments that name a model.
pub fn parser() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().try_map(model)
}

/// Where the hub's tools keep what they fetched.
fn cache() -> Result<PathBuf, String> {
    let named = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let path = |name: &str| named(name).map(PathBuf::from);
    path("HF_HUB_CACHE")
        .or_else(|| path("HF_HOME").map(|home| home.join("hub")))
        .or_else(|| path("XDG_CACHE_HOME").map(|cache| cache.join("huggingface/hub")))
        .or_else(|| path("HOME").map(|home| home.join(".cache/huggingface/hub")))
        .ok_or_else(|| "there is no HOME: set HF_HUB_CACHE to the folder of the hub's cache".into())
}

fn found(cache: &Path, name: &str) -> Result<PathBuf, String> {
    let (repo, quant) = match name.split_once(':') {
        Some((repo, quant)) => (repo, Some(quant)),
        None => (name, None),
    };
    let sound = |part: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        !part.is_empty() && !part.starts_with('.') && part.chars().all(fits)
    };
    let parts: Vec<&str> = repo.split('/').collect();
    if parts.len() != 2 || !parts.into_iter().all(sound) || quant.is_some_and(str::is_empty) {
        return Err(
            "expected hf:ORG/REPO or hf:ORG/REPO:QUANT, such as hf:org/model-GGUF:Q4_K_M".into(),
        );
    }
    let include = quant.unwrap_or(USUAL);
    let fetch = format!(
        "fetch it with `hf download {repo} --include '*{include}*'`, or set HF_HUB_CACHE to the \
         folder where it is"
    );
    let folder = cache.join(format!("models--{}", repo.replace('/', "--")));
    let models = snapshot(&folder)
        .map(|folder| models(&folder))
        .unwrap_or_default();
    if models.is_empty() {
        return Err(format!(
            "{} holds no GGUF file of {repo}: {fetch}",
            cache.display()
        ));
    }
    let of = |quant: &str| -> Vec<&CachedModel> {
        models
            .iter()
            .filter(|model| is_of(&model.name, quant))
            .collect()
    };
    let fitting = match quant {
        Some(quant) => of(quant),
        None if models.len() == 1 => models.iter().collect(),
        None => of(USUAL),
    };
    match fitting[..] {
        [one] if one.missing == 0 => Ok(one.path.clone()),
        [one] => Err(format!(
            "{} parts of {} are not in {}: {fetch}",
            one.missing,
            one.name,
            cache.display()
        )),
        _ => {
            let names: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
            let which = match fitting.is_empty() {
                true => "none",
                false => "more than one",
            };
            Err(format!(
                "{which} of the models of {repo} in {} is meant by `{}`: there are {}; {fetch}",
                cache.display(),
                quant.unwrap_or(""),
                names.join(", ")
            ))
        }
    }
}

/// Whether a name has a quantisation as a word of its own, however it is spelled.
fn is_of(name: &str, quant: &str) -> bool {
    let (name, quant) = (name.to_ascii_uppercase(), quant.to_ascii_uppercase());
    let ends_word = |c: Option<char>| c.is_none_or(|c| !c.is_ascii_alphanumeric() && c != '_');
    name.match_indices(&quant).any(|(at, found)| {
        ends_word(name[..at].chars().next_back())
            && ends_word(name[at + found.len()..].chars().next())
    })
}

/// The files of a repository as they were last fetched.
fn snapshot(folder: &Path) -> Option<PathBuf> {
    let snapshots = folder.join("snapshots");
    let main = fs::read_to_string(folder.join("refs/main")).ok();
    let main = main.map(|hash| hash.trim().to_owned());
    let main =
        main.filter(|hash| !hash.is_empty() && hash.bytes().all(|c| c.is_ascii_alphanumeric()));
    if let Some(path) = main
        .map(|hash| snapshots.join(hash))
        .filter(|path| path.is_dir())
    {
        return Some(path);
    }
    let found = fs::read_dir(snapshots).ok()?.flatten();
    found
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .max()
        .map(|(_, path)| path)
}

/// The models in a folder, by name.
fn models(folder: &Path) -> Vec<CachedModel> {
    let mut files = Vec::new();
    search(folder, 0, &mut files);
    files.sort();
    let mut all: BTreeMap<(String, usize), CachedModel> = BTreeMap::new();
    for path in files {
        let stem = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let (name, parts) = split(&stem).unwrap_or((&stem, 1));
        // What a model sees with is no model of its own.
        if name.starts_with("mmproj") {
            continue;
        }
        // Where a fetch was cut off, there is a link to nothing.
        let Ok(found) = fs::metadata(&path) else {
            continue;
        };
        // Quantisations may have folders of their own, and one name in all of them.
        let within = path.parent().and_then(|of| of.strip_prefix(folder).ok());
        let name = within.unwrap_or(Path::new("")).join(name);
        let name = name.to_string_lossy().into_owned();
        let model = all
            .entry((name.clone(), parts))
            .or_insert_with(|| CachedModel {
                name,
                path,
                bytes: 0,
                missing: parts,
            });
        model.bytes += found.len();
        model.missing = model.missing.saturating_sub(1);
    }
    all.into_values().collect()
}

fn search(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()) {
        if path.is_dir() && depth < MAX_DEPTH {
            search(&path, depth + 1, files);
        } else if path.extension().is_some_and(|ending| ending == "gguf") {
            files.push(path);
        }
    }
}

/// The name of a split model and how many parts it has, from a part's.
fn split(stem: &str) -> Option<(&str, usize)> {
    let (rest, parts) = stem.rsplit_once("-of-")?;
    let (name, number) = rest.rsplit_once('-')?;
    let digits = |text: &str| text.len() == 5 && text.bytes().all(|c| c.is_ascii_digit());
    (digits(number) && digits(parts)).then(|| Some((name, parts.parse().ok()?)))?
}

/// Lists the models in the cache, with their size and whether they would stream.
///
/// # Errors
/// When there is no cache to look for, or nobody to tell.
pub fn list(args: &ListArgs, output: &Output) -> Result<()> {
    let cache = cache().map_err(anyhow::Error::msg)?;
    let budget = budget::allowed(args.memory).ok();
    let mut table = TextTable::new(["name", "size", "runs"]);
    table.left(2);
    let mut any = false;
    let folders = fs::read_dir(&cache).into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = folders.map(|entry| entry.path()).collect();
    folders.sort();
    for folder in folders {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let Some((org, repo)) = name
            .strip_prefix("models--")
            .and_then(|name| name.split_once("--"))
        else {
            continue;
        };
        for model in snapshot(&folder)
            .map(|folder| models(&folder))
            .unwrap_or_default()
        {
            let streams = budget.map(|budget| model.bytes > budget);
            let runs = match (model.missing, streams) {
                (0, Some(true)) => "streamed",
                (0, Some(false)) => "in memory",
                (0, None) => "",
                _ => "not whole",
            };
            output.object(&json!({"event": "model", "repo": format!("{org}/{repo}"),
                "name": model.name, "path": model.path, "bytes": model.bytes,
                "missing_parts": model.missing, "streams": streams}))?;
            table.row([
                format!("hf:{org}/{repo}  {}", model.name),
                format_size(model.bytes),
                runs.to_owned(),
            ]);
            any = true;
        }
    }
    match any {
        true => output.line(table)?,
        false => output.note(format_args!(
            "{} holds no GGUF files; `hf download ORG/REPO` fetches some, and HF_HUB_CACHE \
             names another folder",
            cache.display()
        )),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

    fn cache_of(files: &[&str]) -> tempfile::TempDir {
        let cache = tempfile::tempdir().expect("a folder");
        let repo = cache.path().join("models--org--repo-GGUF");
        let (blobs, snapshot) = (repo.join("blobs"), repo.join("snapshots/abc123"));
        fs::create_dir_all(repo.join("refs")).expect("a folder");
        fs::create_dir_all(&blobs).expect("a folder");
        fs::write(repo.join("refs/main"), "abc123\n").expect("written");
        for (at, file) in files.iter().enumerate() {
            let link = snapshot.join(file);
            fs::create_dir_all(link.parent().expect("a folder")).expect("a folder");
            let blob = blobs.join(at.to_string());
            if !file.contains("gone") {
                fs::write(&blob, "1234567").expect("written");
            }
            std::os::unix::fs::symlink(blob, link).expect("a link");
        }
        cache
    }

    #[test]
    fn a_name_means_one_model_or_says_which_there_are() {
        let cache = cache_of(&[
            "m-Q4_K_M.gguf",
            "m-Q8_0.gguf",
            "m-IQ4_K.gguf",
            "BF16/m-BF16-00001-of-00002.gguf",
            "BF16/m-BF16-00002-of-00002.gguf",
            "m-F16-00001-of-00002.gguf",
            "m-F16-00002-of-00002-gone.gguf",
            "m-Q2_K-gone.gguf",
            "Q5_0/same.gguf",
            "Q6_K/same.gguf",
            "mmproj-F32.gguf",
            "README.md",
        ]);
        for (name, expect) in [
            ("org/repo-GGUF", Ok("m-Q4_K_M.gguf")),
            ("org/repo-GGUF:q8_0", Ok("m-Q8_0.gguf")),
            ("org/repo-GGUF:BF16", Ok("BF16/m-BF16-00001-of-00002.gguf")),
            ("org/repo-GGUF:Q5_0", Ok("Q5_0/same.gguf")),
            ("org/repo-GGUF:Q6_K", Ok("Q6_K/same.gguf")),
            ("org/repo-GGUF:F16", Err("1 parts of m-F16 are not in")),
            (
                "org/repo-GGUF:Q4_K",
                Err(
                    "there are BF16/m-BF16, Q5_0/same, Q6_K/same, m-F16, m-IQ4_K, m-Q4_K_M, m-Q8_0",
                ),
            ),
            ("org/repo-GGUF:m", Err("more than one")),
            ("org/repo-GGUF:F32", Err("none of the models")),
            (
                "org/other",
                Err("hf download org/other --include '*Q4_K_M*'"),
            ),
            ("org/repo-GGUF:", Err("expected hf:ORG/REPO")),
            ("org/../repo", Err("expected hf:ORG/REPO")),
            ("../repo", Err("expected hf:ORG/REPO")),
            ("repo", Err("expected hf:ORG/REPO")),
        ] {
            let got = found(cache.path(), name);
            match expect {
                Ok(file) => {
                    let path = got.unwrap_or_else(|error| panic!("{name}: {error}"));
                    assert!(path.ends_with(file), "{name}: {}", path.display());
                }
                Err(says) => {
                    let error = got.expect_err(name);
                    assert!(error.contains(says), "{name}: {error}");
                }
            }
        }
        assert_eq!(model("a/path.gguf".into()), Ok("a/path.gguf".into()));
        let odd = OsString::from_vec(b"m\xff.gguf".to_vec());
        assert_eq!(model(odd.clone()), Ok(odd.into()));
    }
}
