//! Finds what does not belong in the repository: marks of unfinished work, paths and
//! package sources of one machine, files of plans and notes.

use crate::files::Source;
use crate::finding::Finding;

/// Words that must not occur in any file. Written in two pieces so that this file passes
/// its own check.
const MARKS: [&str; 3] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
];

/// Absolute paths of one machine, at the start of a word.
const PATHS: [&str; 4] = [
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("/Us", "ers/"),
];

/// Settings and hosts of one machine's package sources.
const HOSTS: [&str; 6] = [
    concat!("index", "-url"),
    concat!("sparse", "+http"),
    concat!("files.python", "hosted"),
    concat!("static.crates", ".io"),
    concat!("artifact", "ory"),
    concat!("replace", "-with"),
];

/// Beginnings of file names, in lower case.
const NAMES: [&str; 7] = [
    "todo",
    "notes",
    "plan.md",
    "report.md",
    "handoff",
    "scratch",
    "progress.md",
];

/// The only place packages may come from.
const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Every trace in every file.
pub(crate) fn check(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources {
        let name = source
            .path
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .to_lowercase();
        if !source.is_rust() && NAMES.iter().any(|trace| name.starts_with(trace)) {
            findings.push(Finding::error(
                &source.path,
                "plans and notes do not belong in the repository; remove it",
            ));
        }
        for (number, line) in source.text.lines().enumerate() {
            if let Some(trace) = trace_in(&name, line) {
                findings.push(Finding::error(
                    format!("{}:{}", source.path, number + 1),
                    trace,
                ));
            }
        }
    }
    findings
}

fn trace_in(name: &str, line: &str) -> Option<String> {
    if name == "cargo.lock" {
        let source = line.trim().strip_prefix("source = \"")?.strip_suffix('"')?;
        return (source != CRATES_IO)
            .then(|| format!("`{source}` is not crates.io; take the package from there"));
    }
    let is_word =
        |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '~' | '}' | ')' | '$');
    let alone = |trace: &str, at: usize, open_end: bool| {
        let before = line[..at].chars().next_back();
        let after = line[at + trace.len()..].chars().next();
        !before.is_some_and(is_word) && (open_end || !after.is_some_and(char::is_alphanumeric))
    };
    let find = |trace: &str, open_end| {
        line.match_indices(trace)
            .any(|(at, _)| alone(trace, at, open_end))
    };
    if let Some(mark) = MARKS.iter().find(|mark| find(mark, false)) {
        return Some(format!(
            "`{mark}`: do it, or say in ARCHITECTURE.md what does not work"
        ));
    }
    if let Some(path) = PATHS.iter().find(|path| find(path, true)) {
        return Some(format!(
            "`{path}` is a path of one machine; take it from the environment or an argument"
        ));
    }
    let host = HOSTS.iter().find(|host| line.contains(**host))?;
    Some(format!(
        "`{host}` names where one machine gets its packages; leave that to its own settings"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> usize {
        check(&[Source {
            path: path.into(),
            text: text.into(),
        }])
        .len()
    }

    #[test]
    fn traces_are_found() {
        let lines = [
            format!("// {}: later", MARKS[0]),
            format!("{}(me)", MARKS[1]),
            format!("let x = 1; // {}", MARKS[2]),
            format!("cd {}main", PATHS[0]),
            format!("'{}x'", PATHS[1]),
            format!("see {}someone/x", PATHS[2]),
            format!("pip --{}=y", HOSTS[0]),
            format!("[source]\n{} = 'z'", HOSTS[5]),
        ];
        for line in &lines {
            assert_eq!(found("a.rs", line), 1, "{line}");
        }
        for path in [&format!("{}.md", MARKS[0]), "docs/Notes.txt", "PLAN.md"] {
            assert_eq!(found(path, ""), 1, "{path}");
        }
    }

    #[test]
    fn other_words_are_not() {
        let lines = [
            "mktemp -d models/fetch.XXXXXX".to_owned(),
            format!("/proc/self{}sys", PATHS[1]),
            format!("~{}x", PATHS[0]),
            format!("$HOME{}x", PATHS[0]),
            format!("frame{}x", PATHS[0]),
            "https://crates.io/crates/clap".to_owned(),
        ];
        for line in &lines {
            assert_eq!(found("a.rs", line), 0, "{line}");
        }
        assert_eq!(found("crates/plan/src/plan.rs", "todos, plans"), 0);
    }

    #[test]
    fn packages_come_from_one_place() {
        assert_eq!(
            found(
                "Cargo.lock",
                &format!("source = \"{CRATES_IO}\"\nchecksum = \"abc\"")
            ),
            0
        );
        assert_eq!(
            found("Cargo.lock", "source = \"git+https://example.org/x#1\""),
            1
        );
    }
}
