//! Models in several files, with the names that llama.cpp gives the parts. Does not look
//! whether they exist.

use crate::header::Header;
use crate::{Error, Value};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// A file's place in a model of several files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    /// Index of the part, from 0.
    pub no: u16,
    /// How many parts there are, at least 1.
    pub count: u16,
    /// Number of tensors of all parts together.
    pub tensors: u64,
}

impl Header<'_> {
    /// This file's place in a split model; `None` if it is not split.
    ///
    /// # Errors
    /// A key is missing or of a wrong type, or the numbers contradict each
    /// other.
    pub fn split(&self) -> Result<Option<Split>, Error> {
        if self.get("split.count").is_none() {
            return Ok(None);
        }
        let count = self.require_u64("split.count")?;
        if count == 0 {
            // llama.cpp's tool writes 0 when it merges parts into one file.
            return Ok(None);
        }
        let no = self.require_u64("split.no")?;
        let tensors = self.require_u64("split.tensors.count")?;
        if no >= count {
            return Err(Error::SplitNumber { no, count });
        }
        let wrong = |_| Error::SplitNumber { no, count };
        Ok(Some(Split {
            no: no.try_into().map_err(wrong)?,
            count: count.try_into().map_err(wrong)?,
            tensors,
        }))
    }
}

impl Split {
    /// The metadata for this place in a file, of the types that llama.cpp reads.
    pub fn metadata(self) -> [(std::borrow::Cow<'static, str>, Value<'static>); 3] {
        let tensors = i32::try_from(self.tensors).unwrap_or(i32::MAX);
        [
            ("split.no".into(), Value::U16(self.no)),
            ("split.count".into(), Value::U16(self.count)),
            ("split.tensors.count".into(), Value::I32(tensors)),
        ]
    }
}

fn suffix(no: u16, count: u16) -> String {
    format!("-{:05}-of-{count:05}.gguf", u32::from(no) + 1)
}

/// The path of part `no`, the first being 0, of `count`: `dir/NAME` gives
/// `dir/NAME-00001-of-00003.gguf`.
pub fn part_path(stem: &Path, no: u16, count: u16) -> PathBuf {
    let mut path = OsString::from(stem);
    path.push(suffix(no, count));
    path.into()
}

/// The paths of all `count` parts, given that of the first.
///
/// # Errors
/// The name is not that of the first of `count` parts.
pub fn parts(first: &Path, count: u16) -> Result<Vec<PathBuf>, Error> {
    let suffix = suffix(0, count);
    let name = first.file_name().and_then(|name| name.to_str());
    // llama.cpp refuses a name that is only the suffix.
    let stem = name
        .and_then(|name| name.strip_suffix(&suffix))
        .filter(|stem| !stem.is_empty());
    match stem {
        Some(stem) => {
            let stem = first.with_file_name(stem);
            Ok((0..count).map(|no| part_path(&stem, no, count)).collect())
        }
        None => Err(Error::SplitName {
            path: first.display().to_string(),
            count,
            suffix,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_parts() {
        let check = |first: &str, count: u16, expect: Option<&[&str]>| {
            let got = parts(Path::new(first), count).ok();
            let expect = expect.map(|paths| paths.iter().map(PathBuf::from).collect::<Vec<_>>());
            assert_eq!(got, expect, "{first} of {count}");
        };
        check("m-00001-of-00001.gguf", 1, Some(&["m-00001-of-00001.gguf"]));
        check(
            "/a b/m-00001-of-00003.gguf",
            3,
            Some(&[
                "/a b/m-00001-of-00003.gguf",
                "/a b/m-00002-of-00003.gguf",
                "/a b/m-00003-of-00003.gguf",
            ]),
        );
        check("m-00002-of-00003.gguf", 3, None);
        check("m-00001-of-00003.gguf", 2, None);
        check("m.gguf", 2, None);
        check("dir/-00001-of-00003.gguf", 3, None);
        check("", 3, None);
    }
}
