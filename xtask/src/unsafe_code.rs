//! Checks that `unsafe` is only in three crates and one file of a fourth, that all other
//! crates forbid it at their roots, and that only one file names the bindings of llama.cpp:
//! the one that catches exceptions.

use crate::files::Source;
use crate::finding::Finding;

/// Where `unsafe` may be. Clippy requires a justification at each block.
const ALLOWED: [&str; 5] = [
    "crates/medium/",
    "crates/engine/",
    "crates/llama/",
    "crates/python/src/train.rs",
    // The crate's root, which declares that file.
    "crates/python/src/lib.rs",
];

/// The bindings, and the only file that may name them.
const BINDINGS: &str = concat!("llama_cpp", "_sys_2");
const BORDER: &str = "/src/sys.rs";

const ATTRIBUTE: &str = "#![forbid(unsafe_code)]";

/// Roots without the attribute, and unsafe code in the files that it does not apply to:
/// tests and build scripts are separate roots.
pub(crate) fn check(sources: &[Source]) -> Vec<Finding> {
    let safe = |source: &&Source| {
        source.is_rust() && !ALLOWED.iter().any(|dir| source.path.starts_with(dir))
    };
    let mut findings = Vec::new();
    for source in sources.iter().filter(safe) {
        if is_root(&source.path) && !source.text.lines().any(|line| line.trim() == ATTRIBUTE) {
            findings.push(Finding::error(
                &source.path,
                format!("lacks `{ATTRIBUTE}`; add it below the opening `//!`"),
            ));
        }
        for (number, line) in source.text.lines().enumerate() {
            if opens_unsafe(line) {
                let place = format!("{}:{}", source.path, number + 1);
                findings.push(Finding::error(
                    place,
                    "unsafe code is only for the crates medium, engine and llama, and python/src/train.rs",
                ));
            }
        }
    }
    let past = |source: &&Source| source.is_rust() && !source.path.ends_with(BORDER);
    for source in sources.iter().filter(past) {
        for (number, line) in source.text.lines().enumerate() {
            if line.contains(BINDINGS) {
                findings.push(Finding::error(
                    format!("{}:{}", source.path, number + 1),
                    format!("{BINDINGS} is for sys.rs alone, where exceptions are caught"),
                ));
            }
        }
    }
    findings
}

/// The root of a library or program: `src/lib.rs`, `src/main.rs`.
fn is_root(path: &str) -> bool {
    path.ends_with("/src/lib.rs") || path.ends_with("/src/main.rs")
}

/// Whether the line has the keyword in code, opening something. Strings that look like
/// code are not distinguished.
fn opens_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    code.match_indices("unsafe").any(|(at, word)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].trim_start();
        let starts = !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '"');
        let opens = ["{", "(", "fn ", "impl ", "impl<", "extern ", "trait "];
        starts && opens.iter().any(|next| after.starts_with(next))
    })
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
    fn sources_are_judged() {
        let good = "//! Doc.\n#![forbid(unsafe_code)]\n";
        let block = format!("fn f() {{ {} {{ g() }} }}", "unsafe");
        let past = format!("use {BINDINGS} as raw;");
        let cases = [
            ("crates/plan/src/lib.rs", good, 0),
            ("crates/plan/src/lib.rs", "//! Doc.\n", 1),
            ("crates/plan/src/lib.rs", "// #![forbid(unsafe_code)]", 1),
            ("xtask/src/main.rs", "fn main() {}", 1),
            ("crates/plan/src/inner.rs", "//! Doc.", 0),
            ("crates/plan/tests/t.rs", &block, 1),
            (
                "crates/plan/tests/t.rs",
                "// an unsafe fn\nlet unsafe_code = 1;",
                0,
            ),
            ("crates/medium/src/lib.rs", &block, 0),
            ("crates/llama/src/pump.rs", &block, 0),
            ("README.md", &block, 0),
            ("crates/llama/src/sys.rs", &past, 0),
            ("crates/llama/src/context.rs", &past, 1),
        ];
        for (path, text, expect) in cases {
            assert_eq!(found(path, text), expect, "{path}: {text:?}");
        }
    }

    #[test]
    fn every_form_is_known() {
        for rest in [
            " {",
            "{",
            " fn f()",
            " impl Send for X {}",
            " extern \"C\" {}",
            " trait T {}",
            "(no_mangle)",
        ] {
            let line = ["    unsafe", rest].concat();
            assert!(opens_unsafe(&line), "{line}");
        }
    }
}
