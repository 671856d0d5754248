//! Checks with cargo-deny and RustSec's database whether a dependency has a known
//! vulnerability, is unmaintained or was yanked. If either is not available, the check
//! warns that nothing was checked.

use std::path::Path;
use std::process::Command;

use crate::finding::Finding;

const PLACE: &str = "deny.toml";

/// The outcome of a command `cargo deny …`.
enum Ran {
    Well,
    /// It failed, with this on standard error.
    Badly(String),
    /// Cargo cannot be started.
    Missing,
}

/// Every advisory, or a warning that there was nothing to check with.
pub(crate) fn check(root: &Path) -> Vec<Finding> {
    judge(|args| deny(root, args))
}

fn judge(mut deny: impl FnMut(&[&str]) -> Ran) -> Vec<Finding> {
    let unchecked = |why: &str| {
        let message = format!("advisories about dependencies were not checked: {why}");
        vec![Finding::warning(PLACE, message)]
    };
    match deny(&["--version"]) {
        Ran::Well => {}
        Ran::Badly(_) | Ran::Missing => {
            return unchecked("there is no cargo-deny; run `cargo install cargo-deny` first");
        }
    }
    if let Ran::Badly(said) = deny(&["fetch", "db"]) {
        let last = said.lines().last().unwrap_or_default();
        return unchecked(&format!("RustSec's database cannot be fetched ({last})"));
    }
    match deny(&["--offline", "check", "advisories"]) {
        Ran::Badly(said) => vec![Finding::error(PLACE, said)],
        Ran::Well | Ran::Missing => Vec::new(),
    }
}

fn deny(root: &Path, args: &[&str]) -> Ran {
    let mut command = Command::new("cargo");
    command.arg("deny").args(args).current_dir(root);
    match command.output() {
        Ok(output) if output.status.success() => Ran::Well,
        Ok(output) => Ran::Badly(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(_) => Ran::Missing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Severity;

    /// The findings when the command whose first word is `fails` fails.
    fn judged(fails: &str) -> Vec<Finding> {
        judge(|args| match args[0] == fails {
            true => Ran::Badly("first\nlast words".into()),
            false => Ran::Well,
        })
    }

    #[test]
    fn what_was_not_checked_is_a_warning() {
        assert_eq!(judged(""), []);
        for (fails, severity, word) in [
            ("--version", Severity::Warning, "no cargo-deny"),
            ("fetch", Severity::Warning, "(last words)"),
            ("--offline", Severity::Error, "first"),
        ] {
            let findings = judged(fails);
            assert_eq!(findings[0].severity, severity, "{fails}");
            assert!(findings[0].message.contains(word), "{fails}: {findings:?}");
        }
    }
}
