//! `cargo xtask check`: checks of the repository itself. `cargo xtask picture`: draws the
//! picture of a lap in its README. `cargo xtask simulate`: runs the engine in virtual time
//! for a number of minutes. Each check is a separate file that turns sources or metadata
//! into findings; this file runs them and prints the findings.
#![forbid(unsafe_code)]

mod advisories;
mod arrows;
mod chains;
mod files;
mod finding;
mod lengths;
mod licences;
mod names;
mod picture;
mod specification;
mod traces;
mod types;
mod unsafe_code;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use cargo_metadata::{Metadata, MetadataCommand};

use crate::files::Source;
use crate::finding::{Finding, Severity};
use crate::types::Module;

/// The inputs of the checks.
struct Repository {
    root: PathBuf,
    /// Text files with their paths from the root.
    sources: Vec<Source>,
    /// The library code among them.
    modules: Vec<Module>,
    metadata: Metadata,
    /// The text of `deny.toml`.
    deny: String,
}

impl Repository {
    fn open() -> Result<Self, String> {
        let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        let metadata = MetadataCommand::new()
            .manifest_path(root.join("Cargo.toml"))
            .exec()
            .map_err(|error| format!("cargo metadata failed: {error}"))?;
        let sources = files::walk(&root).map_err(|error| {
            format!("cannot read the repository at {}: {error}", root.display())
        })?;
        let modules = types::modules(&sources)
            .map_err(|finding| format!("{}: {}", finding.place, finding.message))?;
        let deny = sources.iter().find(|source| source.path == "deny.toml");
        let deny = deny
            .ok_or("deny.toml is missing: it lists the allowed licences")?
            .text
            .clone();
        Ok(Self {
            root,
            sources,
            modules,
            metadata,
            deny,
        })
    }
}

type Check = fn(&Repository) -> Vec<Finding>;

const CHECKS: [(&str, Check); 9] = [
    ("arrows", |repo| {
        arrows::check(&repo.sources, &arrows::edges(&repo.metadata), &repo.modules)
    }),
    ("licences", |repo| {
        licences::check(&repo.deny, &licences::packages(&repo.metadata))
    }),
    ("advisories", |repo| advisories::check(&repo.root)),
    ("unsafe", |repo| unsafe_code::check(&repo.sources)),
    ("lengths", |repo| lengths::check(&repo.sources)),
    ("traces", |repo| traces::check(&repo.sources)),
    ("specification", |repo| specification::check(&repo.sources)),
    ("names", |repo| names::check(&repo.modules)),
    ("chains", |repo| chains::check(&repo.sources, &repo.modules)),
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["check", names @ ..] => check(names),
        ["picture", trace, out] => picture(trace, out),
        ["picture", ..] => usage("`picture` needs a trace to read and a file to write"),
        ["simulate", "--minutes", minutes] => simulate(minutes),
        ["simulate", ..] => usage("`simulate` needs `--minutes` with a number"),
        _ => usage("expected the word `check`, `picture` or `simulate`"),
    }
}

fn picture(trace: &str, out: &str) -> ExitCode {
    match picture::draw(Path::new(trace), Path::new(out)) {
        Ok(said) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the test of the whole engine in virtual time for longer than `make test` does.
fn simulate(minutes: &str) -> ExitCode {
    if minutes.parse::<u64>().is_err() {
        return usage(&format!("--minutes {minutes}: expected a whole number"));
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args([
            "test",
            "--release",
            "--locked",
            "--package",
            "delayline-llama",
        ])
        .args(["--test", "simulation", "--", "--nocapture"])
        .env("MINUTES", minutes)
        .status();
    match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: cargo cannot be started: {error}");
            ExitCode::FAILURE
        }
    }
}

fn check(names: &[&str]) -> ExitCode {
    if let Some(name) = names
        .iter()
        .find(|name| CHECKS.iter().all(|(known, _)| known != *name))
    {
        return usage(&format!("there is no check `{name}`"));
    }
    let repo = match Repository::open() {
        Ok(repo) => repo,
        Err(message) => {
            eprintln!("error: {message}");
            return ExitCode::FAILURE;
        }
    };
    let mut failed = false;
    for (name, check) in CHECKS {
        if !names.is_empty() && !names.contains(&name) {
            continue;
        }
        let findings = check(&repo);
        let errors = findings
            .iter()
            .filter(|finding| finding.severity == Severity::Error)
            .count();
        let warnings = findings.len() - errors;
        println!(
            "{} {name}{}",
            if errors == 0 { "ok    " } else { "FAILED" },
            match (errors, warnings) {
                (0, 0) => String::new(),
                (_, 0) => format!(": {errors} errors"),
                (0, _) => format!(": {warnings} warnings"),
                _ => format!(": {errors} errors, {warnings} warnings"),
            }
        );
        for finding in &findings {
            println!("  {finding}");
        }
        failed |= errors > 0;
    }
    if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn usage(problem: &str) -> ExitCode {
    let names: Vec<&str> = CHECKS.iter().map(|(name, _)| *name).collect();
    eprintln!(
        "error: {problem}\nusage: cargo xtask check [{}]\n       cargo xtask picture TRACE.json OUT.svg\n       cargo xtask simulate --minutes N",
        names.join("|")
    );
    ExitCode::from(2)
}
