//! Names of models, and which files of a repository a name selects.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::Error;

const SCHEME: &str = "hf:";

/// The quantisation that is taken of several if the name gives none, as in llama.cpp.
const DEFAULT_QUANT: &str = "Q4_K_M";

/// `hf:ORG/REPO[:QUANT]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubName {
    /// `ORG/REPO`.
    pub repo: String,
    /// The quantisation, if the name gives one.
    pub quant: Option<String>,
}

impl HubName {
    /// Parses a name; `None` if `text` is a path.
    ///
    /// # Errors
    /// [`Error::Name`] if it begins with `hf:` and is malformed.
    pub fn parse(text: &str) -> Option<Result<Self, Error>> {
        let name = text.strip_prefix(SCHEME)?;
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
            return Some(Err(Error::Name));
        }
        Some(Ok(Self {
            repo: repo.to_owned(),
            quant: quant.map(str::to_owned),
        }))
    }

    /// The quantisation to fetch.
    pub(crate) fn include(&self) -> &str {
        self.quant.as_deref().unwrap_or(DEFAULT_QUANT)
    }

    /// The model of a repository that the name selects.
    pub(crate) fn choose<'m>(&self, models: &'m [ModelFiles]) -> Result<&'m ModelFiles, Error> {
        let of = |quant: &str| -> Vec<&ModelFiles> {
            let models = models.iter();
            models.filter(|model| is_of(&model.name, quant)).collect()
        };
        let fitting = match &self.quant {
            Some(quant) => of(quant),
            None if models.len() == 1 => models.iter().collect(),
            None => of(DEFAULT_QUANT),
        };
        match fitting[..] {
            [one] => Ok(one),
            _ => Err(Error::Unclear {
                none: fitting.is_empty(),
                repo: self.repo.clone(),
                quant: self.include().to_owned(),
                names: models.iter().map(|model| model.name.clone()).collect(),
            }),
        }
    }
}

/// A file in a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RepoFile {
    /// Path within the repository.
    pub path: PathBuf,
    /// Length in bytes.
    pub len: u64,
    /// SHA-256 in hexadecimal digits, if the repository lists it.
    pub sha256: Option<String>,
}

/// The files of one model in a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ModelFiles {
    /// Path of its file without the extension and, for a split model, without the number.
    pub name: String,
    /// Its file, or its parts in order.
    pub files: Vec<RepoFile>,
    /// Sum of their lengths.
    pub bytes: u64,
    /// Number of parts that are missing.
    pub missing: usize,
}

/// The models that the files of a repository belong to. Files other than GGUF are ignored.
pub(crate) fn models(mut files: Vec<RepoFile>) -> Vec<ModelFiles> {
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let mut all: BTreeMap<(String, usize), ModelFiles> = BTreeMap::new();
    for file in files {
        let path = &file.path;
        if path.extension().is_none_or(|ending| ending != "gguf") {
            continue;
        }
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let (name, parts) = split(&stem).unwrap_or((&stem, 1));
        // A vision projector is not a model.
        if name.starts_with("mmproj") {
            continue;
        }
        // Quantisations may be in separate folders under the same name.
        let name = path.parent().unwrap_or(Path::new("")).join(name);
        let name = name.to_string_lossy().into_owned();
        let model = all
            .entry((name.clone(), parts))
            .or_insert_with(|| ModelFiles {
                name,
                files: Vec::new(),
                bytes: 0,
                missing: parts,
            });
        model.bytes = model.bytes.saturating_add(file.len);
        model.missing = model.missing.saturating_sub(1);
        model.files.push(file);
    }
    all.into_values().collect()
}

/// Whether a name contains a quantisation as a whole word, in any case.
fn is_of(name: &str, quant: &str) -> bool {
    let (name, quant) = (name.to_ascii_uppercase(), quant.to_ascii_uppercase());
    let ends_word = |c: Option<char>| c.is_none_or(|c| !c.is_ascii_alphanumeric() && c != '_');
    name.match_indices(&quant).any(|(at, found)| {
        ends_word(name[..at].chars().next_back())
            && ends_word(name[at + found.len()..].chars().next())
    })
}

/// The name of a split model and its number of parts, from the name of a part.
fn split(stem: &str) -> Option<(&str, usize)> {
    let (rest, parts) = stem.rsplit_once("-of-")?;
    let (name, number) = rest.rsplit_once('-')?;
    let digits = |text: &str| text.len() == 5 && text.bytes().all(|c| c.is_ascii_digit());
    (digits(number) && digits(parts)).then(|| Some((name, parts.parse().ok()?)))?
}
