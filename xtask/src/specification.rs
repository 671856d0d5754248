//! Checks that the tests that `SPECIFICATION.md` names exist. Its promises are rows
//! `| promise | number | test |`, with tests in backticks in the last column:
//! `line::window::some_test` (crate, path, name), `tests/some.rs::some_test`
//! (file of any crate, name), or a path from the root.

use crate::files::Source;
use crate::finding::Finding;

const FILE: &str = "SPECIFICATION.md";

/// Every promise without a test, and every test that does not exist.
pub(crate) fn check(sources: &[Source]) -> Vec<Finding> {
    let Some(specification) = sources.iter().find(|source| source.path == FILE) else {
        return vec![Finding::error(
            FILE,
            "is missing: it says what is promised and which tests hold it",
        )];
    };
    let mut findings = Vec::new();
    let mut rows = 0;
    for (number, row) in rows_of(&specification.text) {
        rows += 1;
        let place = format!("{FILE}:{number}");
        let tests: Vec<&str> = references(row).collect();
        if tests.is_empty() {
            findings.push(Finding::warning(
                &place,
                "a promise without a test: name one in backticks in the last column",
            ));
        }
        for test in tests.into_iter().filter(|test| !exists(test, sources)) {
            findings.push(Finding::error(
                &place,
                format!("`{test}` does not exist; write the test or correct its name"),
            ));
        }
    }
    if rows == 0 {
        findings.push(Finding::error(
            FILE,
            "has no row `| promise | number | test |`",
        ));
    }
    findings
}

/// Table rows below their heading and rule, with line numbers from 1.
fn rows_of(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_body = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let line = line.trim();
        if !line.starts_with('|') {
            in_body = false;
            return None;
        }
        if line.chars().all(|c| matches!(c, '|' | '-' | ':' | ' ')) {
            in_body = true;
            return None;
        }
        in_body.then_some((index + 1, line))
    })
}

/// The words in backticks in the last column that look like tests.
fn references(row: &str) -> impl Iterator<Item = &str> {
    let last = row
        .trim_end_matches('|')
        .rsplit('|')
        .next()
        .unwrap_or_default();
    let words = last.split('`').skip(1).step_by(2);
    words.filter(|word| {
        !word.contains(' ') && (word.contains("::") || (word.contains('/') && word.contains('.')))
    })
}

fn exists(test: &str, sources: &[Source]) -> bool {
    let Some((place, name)) = test.rsplit_once("::") else {
        return sources.iter().any(|source| source.path == test);
    };
    let file = place.split("::").next().unwrap_or_default();
    let among = |source: &&Source| {
        if file.ends_with(".rs") {
            source.path == file || source.path.ends_with(&format!("/{file}"))
        } else if file.contains('/') {
            source.path.starts_with(&format!("{file}/"))
        } else {
            let krate = file.replace('_', "-");
            let krate = krate.strip_prefix("delayline-").unwrap_or(&krate);
            source.path.starts_with(&format!("crates/{krate}/"))
                || source.path.starts_with(&format!("{krate}/"))
        }
    };
    let head = format!("fn {name}");
    let defines = |line: &str| {
        let rest = line.trim_start().split_once(&head).map(|(_, rest)| rest);
        rest.is_some_and(|rest| rest.starts_with(['(', '<']))
    };
    sources
        .iter()
        .filter(|source| source.is_rust())
        .filter(among)
        .any(|source| source.text.lines().any(defines))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Severity;

    fn with(rows: &str) -> Vec<Finding> {
        let table = format!("# Promises\n\n| promise | number | test |\n|---|---:|---|\n{rows}\n");
        let source = |path: &str, text: &str| Source {
            path: path.into(),
            text: text.into(),
        };
        check(&[
            source(FILE, &table),
            source("crates/line/src/window.rs", "#[test]\n    fn it_holds() {}"),
            source("crates/line/tests/far.rs", "fn it_reaches() {}"),
            source("scripts/budget.sh", ""),
        ])
    }

    #[test]
    fn names_are_looked_up() {
        let cases = [
            ("`line::window::it_holds`", true),
            ("`delayline_line::window::tests::it_holds`", true),
            ("`tests/far.rs::it_reaches`", true),
            ("`crates/line/tests/far.rs::it_reaches`", true),
            ("`crates/line::it_holds`", true),
            ("`scripts/budget.sh`", true),
            ("`line::window::it_hold`", false),
            ("`plan::window::it_holds`", false),
            ("`tests/ar.rs::it_reaches`", false),
            ("`scripts/other.sh`", false),
            ("`line::it_holds` and `line::it_breaks`", false),
        ];
        for (cell, fine) in cases {
            let findings = with(&format!("| `a::b` is kept | 3 s | {cell} |"));
            assert_eq!(findings.is_empty(), fine, "{cell}: {findings:?}");
        }
    }

    #[test]
    fn a_promise_needs_a_test() {
        let findings = with("| kept | – | by hand |");
        assert_eq!(
            findings.iter().map(|f| f.severity).collect::<Vec<_>>(),
            [Severity::Warning]
        );
    }

    #[test]
    fn no_file_and_no_rows_are_errors() {
        assert_eq!(check(&[])[0].severity, Severity::Error);
        assert_eq!(with("")[0].severity, Severity::Error);
    }
}
