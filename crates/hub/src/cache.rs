//! The cache that the hub's tools share. Each repository has a folder with the files by
//! their checksums (`blobs`) and, for each revision, links to them by their names
//! (`snapshots`).

use std::fs;
use std::path::{Path, PathBuf};

use crate::name::{self, ModelFiles, RepoFile};
use crate::{Error, HubName};

/// Maximum depth to which the folders of a repository are searched.
const MAX_DEPTH: usize = 4;

/// The cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubCache {
    /// Its folder.
    pub folder: PathBuf,
}

/// A model in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedModel {
    /// `ORG/REPO`.
    pub repo: String,
    /// Path of its file without the extension and, for a split model, without the number.
    pub name: String,
    /// Its file, or the first of its parts.
    pub path: PathBuf,
    /// Sum of the lengths of the parts that are there.
    pub bytes: u64,
    /// Number of parts that are missing.
    pub missing: usize,
}

impl HubCache {
    /// The cache of the hub's own tools: `HF_HUB_CACHE`, or a folder below `HF_HOME`,
    /// `XDG_CACHE_HOME` or `HOME`.
    ///
    /// # Errors
    /// [`Error::NoCache`] if none of them is set.
    pub fn from_env() -> Result<Self, Error> {
        let named = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let path = |name: &str| named(name).map(PathBuf::from);
        path("HF_HUB_CACHE")
            .or_else(|| path("HF_HOME").map(|home| home.join("hub")))
            .or_else(|| path("XDG_CACHE_HOME").map(|cache| cache.join("huggingface/hub")))
            .or_else(|| path("HOME").map(|home| home.join(".cache/huggingface/hub")))
            .map(|folder| Self { folder })
            .ok_or(Error::NoCache)
    }

    /// The file, or the first part, of a model of which all parts are in the cache.
    ///
    /// # Errors
    /// [`Error::NotCached`], which says what the cache has instead.
    pub fn find(&self, name: &HubName) -> Result<PathBuf, Error> {
        let lacks = |what: String| Error::NotCached {
            what,
            repo: name.repo.clone(),
            include: name.include().to_owned(),
        };
        let cache = self.folder.display();
        let snapshot = snapshot(&self.repo(&name.repo));
        let models = snapshot.as_deref().map(files).unwrap_or_default();
        let Some(snapshot) = snapshot.filter(|_| !models.is_empty()) else {
            return Err(lacks(format!(
                "{cache} holds no GGUF file of {}",
                name.repo
            )));
        };
        match name.choose(&models) {
            Ok(one) if one.missing == 0 => Ok(snapshot.join(&one.files[0].path)),
            Ok(one) => Err(lacks(format!(
                "{} parts of {} are not in {cache}",
                one.missing, one.name
            ))),
            Err(unclear) => Err(lacks(format!("{unclear} in {cache}"))),
        }
    }

    /// All models in the cache, ordered by repository and name.
    pub fn models(&self) -> Vec<CachedModel> {
        let folders = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut folders: Vec<PathBuf> = folders.map(|entry| entry.path()).collect();
        folders.sort();
        let of = |folder: PathBuf| {
            let name = folder.file_name()?.to_string_lossy().into_owned();
            let (org, repo) = name.strip_prefix("models--")?.split_once("--")?;
            let snapshot = snapshot(&folder)?;
            let models = files(&snapshot).into_iter().map(move |model| CachedModel {
                repo: format!("{org}/{repo}"),
                path: snapshot.join(&model.files[0].path),
                name: model.name,
                bytes: model.bytes,
                missing: model.missing,
            });
            Some(models.collect::<Vec<_>>())
        };
        folders.into_iter().filter_map(of).flatten().collect()
    }

    /// The folder of a repository.
    pub(crate) fn repo(&self, repo: &str) -> PathBuf {
        self.folder.join(folder_name(repo))
    }

    /// The folder of the lock files of a repository.
    pub(crate) fn locks(&self, repo: &str) -> PathBuf {
        self.folder.join(".locks").join(folder_name(repo))
    }
}

fn folder_name(repo: &str) -> String {
    format!("models--{}", repo.replace('/', "--"))
}

/// The folder of the revision that was last fetched.
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
fn files(folder: &Path) -> Vec<ModelFiles> {
    let mut files = Vec::new();
    search(folder, folder, 0, &mut files);
    name::models(files)
}

fn search(root: &Path, folder: &Path, depth: usize, files: &mut Vec<RepoFile>) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()) {
        // After an interrupted fetch a link may point to nothing.
        let Ok(found) = fs::metadata(&path) else {
            continue;
        };
        if found.is_dir() && depth < MAX_DEPTH {
            search(root, &path, depth + 1, files);
        } else if let Ok(within) = path.strip_prefix(root) {
            files.push(RepoFile {
                path: within.to_owned(),
                len: found.len(),
                sha256: None,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_name_selects_one_model_or_the_error_lists_all() {
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
            let got = HubName::parse(&format!("hf:{name}")).expect("a name");
            let folder = cache.path().to_owned();
            let got = got.and_then(|name| HubCache { folder }.find(&name));
            match expect {
                Ok(file) => {
                    let path = got.unwrap_or_else(|error| panic!("{name}: {error}"));
                    assert!(path.ends_with(file), "{name}: {}", path.display());
                }
                Err(says) => {
                    let error = got.expect_err(name).to_string();
                    assert!(error.contains(says), "{name}: {error}");
                }
            }
        }
    }
}
