//! Limits the length of source files.

use crate::files::Source;
use crate::finding::Finding;

/// Lines above which a file gets a warning, and above which an error.
const LONG: usize = 400;
const TOO_LONG: usize = 800;

/// The Rust files that are too long, longest first.
pub(crate) fn check(sources: &[Source]) -> Vec<Finding> {
    let mut long: Vec<(usize, &str)> = sources
        .iter()
        .filter(|source| source.is_rust())
        .map(|source| (source.text.lines().count(), source.path.as_str()))
        .filter(|(lines, _)| *lines > LONG)
        .collect();
    long.sort_by(|a, b| b.cmp(a));
    long.into_iter()
        .map(|(lines, path)| match lines {
            0..=TOO_LONG => Finding::warning(
                path,
                format!("{lines} lines, more than {LONG}; see whether it is two files"),
            ),
            _ => Finding::error(
                path,
                format!("{lines} lines, more than {TOO_LONG}; split it"),
            ),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Severity;

    #[test]
    fn lengths_are_judged() {
        let cases = [
            ("a.rs", 400, None),
            ("a.rs", 401, Some(Severity::Warning)),
            ("a.rs", 800, Some(Severity::Warning)),
            ("a.rs", 801, Some(Severity::Error)),
            ("a.md", 5000, None),
        ];
        for (path, lines, expect) in cases {
            let findings = check(&[Source {
                path: path.into(),
                text: "x\n".repeat(lines),
            }]);
            assert_eq!(
                findings.first().map(|finding| finding.severity),
                expect,
                "{path}, {lines} lines"
            );
        }
    }
}
