//! The repository's text files, from the file system rather than git, so that the checks
//! also run on an unpacked archive.

use std::fs;
use std::io;
use std::path::Path;

/// One text file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// Path from the root, with `/` between the parts.
    pub path: String,
    pub text: String,
}

impl Source {
    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
}

/// Names in the root folder that were built or fetched, or belong to other programs.
const SKIPPED: [&str; 5] = [".git", "target", "models", ".venv", ".schemathesis"];

/// All text files below `root`, by path. Files that are not UTF-8 are left out.
///
/// # Errors
/// If a folder or file cannot be read.
pub(crate) fn walk(root: &Path) -> io::Result<Vec<Source>> {
    let mut sources = Vec::new();
    descend(root, "", &mut sources)?;
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(sources)
}

fn descend(dir: &Path, prefix: &str, sources: &mut Vec<Source>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        let kind = entry.file_type()?;
        // Folders of these names deeper down may hold sources. In a linked worktree
        // `.git` is a file, and `models` may be a link.
        if prefix.is_empty() && SKIPPED.contains(&name.as_str()) || name == "__pycache__" {
            continue;
        }
        if kind.is_dir() {
            descend(&entry.path(), &format!("{path}/"), sources)?;
        } else if kind.is_file()
            && let Ok(text) = String::from_utf8(fs::read(entry.path())?)
        {
            sources.push(Source { path, text });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_found_and_the_rest_is_not() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        for name in [
            "target/x.rs",
            "crates/models/a.rs",
            "b.md",
            ".git/HEAD",
            "bytes",
        ] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().expect("has one"))?;
            fs::write(path, name)?;
        }
        fs::write(dir.path().join("bytes"), [0xff, 0xfe])?;
        let paths: Vec<String> = walk(dir.path())?
            .into_iter()
            .map(|source| source.path)
            .collect();
        assert_eq!(paths, ["b.md", "crates/models/a.rs"]);
        let worktree = tempfile::tempdir()?;
        fs::write(worktree.path().join(".git"), "gitdir: elsewhere")?;
        assert_eq!(walk(worktree.path())?, []);
        Ok(())
    }
}
