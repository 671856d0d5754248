//! Which crate uses which: compares the picture in ARCHITECTURE.md with what the manifests
//! declare and the code names. A dependency is allowed only if it is in the picture.

use std::collections::BTreeMap;
use std::fmt;

use cargo_metadata::{DependencyKind, Metadata};

use crate::files::Source;
use crate::finding::Finding;
use crate::types::Module;

pub(crate) const FILE: &str = "ARCHITECTURE.md";

/// The first line of the picture. The others are `a --> b & c`, or `a -.-> b` for
/// dependencies of tests only.
const BEGIN: &str = "```mermaid";

/// One member of the workspace that depends on another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Edge {
    pub from: String,
    pub to: String,
    pub test_only: bool,
}

impl fmt::Display for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arrow = if self.test_only { "-.->" } else { "-->" };
        write!(f, "`{} {arrow} {}`", self.from, self.to)
    }
}

/// All arrows between members of the workspace, as the manifests declare them.
pub(crate) fn edges(metadata: &Metadata) -> Vec<Edge> {
    let members = metadata.workspace_packages();
    // A dependency of both code and tests counts as one of code.
    let mut edges: BTreeMap<(String, String), bool> = BTreeMap::new();
    for package in &members {
        let inner = package
            .dependencies
            .iter()
            .filter(|dep| members.iter().any(|member| *member.name == dep.name));
        for dep in inner {
            let test_only = dep.kind == DependencyKind::Development;
            let ends = (short(&package.name), short(&dep.name));
            *edges.entry(ends).or_insert(true) &= test_only;
        }
    }
    let edge = |((from, to), test_only)| Edge {
        from,
        to,
        test_only,
    };
    edges.into_iter().map(edge).collect()
}

fn short(name: &str) -> String {
    name.strip_prefix("delayline-").unwrap_or(name).to_owned()
}

/// Every arrow that is declared but not drawn, drawn but not declared, or declared for
/// code that does not use it.
pub(crate) fn check(sources: &[Source], edges: &[Edge], modules: &[Module]) -> Vec<Finding> {
    let text = sources.iter().find(|source| source.path == FILE);
    let drawn = match drawn(text.map_or("", |source| &source.text)) {
        Ok(drawn) => drawn,
        Err(finding) => return vec![finding],
    };
    let mut findings = Vec::new();
    for edge in edges {
        if !drawn.iter().any(|(_, arrow)| arrow == edge) {
            let message = format!(
                "the arrow {edge} is not in the picture of {FILE}; remove the dependency, or draw it"
            );
            findings.push(Finding::error(&edge.from, message));
        }
        if !edge.test_only && !is_used(edge, modules) {
            let message = format!(
                "declares delayline-{} and does not use it; remove the dependency",
                edge.to
            );
            findings.push(Finding::error(&edge.from, message));
        }
    }
    for (line, arrow) in &drawn {
        if !edges.contains(arrow) {
            let message = format!("no manifest declares {arrow}; remove the arrow");
            findings.push(Finding::error(format!("{FILE}:{line}"), message));
        }
    }
    findings
}

/// Whether the code of the first crate names the second.
fn is_used(edge: &Edge, modules: &[Module]) -> bool {
    let folder = format!("crates/{}/", edge.from);
    let name = format!("delayline_{}", edge.to.replace('-', "_"));
    modules
        .iter()
        .filter(|module| module.path.starts_with(&folder))
        .any(|module| module.mentions.contains(&name))
}

/// The arrows of the first picture in `text`, with their lines from 1.
fn drawn(text: &str) -> Result<Vec<(usize, Edge)>, Finding> {
    let mut lines = (1..).zip(text.lines().map(str::trim));
    if !lines.any(|(_, line)| line == BEGIN) {
        let message = format!("has no picture of the crates, which begins with {BEGIN}");
        return Err(Finding::error(FILE, message));
    }
    let mut drawn = Vec::new();
    for (number, line) in lines.take_while(|(_, line)| *line != "```") {
        if line.is_empty() || line.starts_with("flowchart") {
            continue;
        }
        let (from, to, test_only) = if let Some((from, to)) = line.split_once(" --> ") {
            (from, to, false)
        } else if let Some((from, to)) = line.split_once(" -.-> ") {
            (from, to, true)
        } else {
            let message = format!("`{line}` is not of the form `a --> b & c` or `a -.-> b`");
            return Err(Finding::error(format!("{FILE}:{number}"), message));
        };
        let edge = |from: &str, to: &str| Edge {
            from: from.trim().into(),
            to: to.trim().into(),
            test_only,
        };
        for from in from.split('&') {
            drawn.extend(to.split('&').map(|to| (number, edge(from, to))));
        }
    }
    Ok(drawn)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::tests::code;

    /// The findings for a picture if the manifests declare `edges`, written in the same
    /// form.
    fn judged(picture: &str, edges: &str, line_uses: &str) -> Vec<Finding> {
        let text =
            |picture| format!("# Map\n\n```mermaid\nflowchart TD\n{picture}\n```\n\na --> b\n");
        let edges = drawn(&text(edges)).unwrap();
        let edges: Vec<Edge> = edges.into_iter().map(|(_, edge)| edge).collect();
        let source = Source {
            path: FILE.into(),
            text: text(picture),
        };
        let modules = code(&[("crates/line/src/lib.rs", line_uses)]);
        check(&[source], &edges, &modules)
    }

    #[test]
    fn the_picture_is_compared_with_the_code() {
        let uses = "use delayline_plan::Plan; use delayline_gguf::Header;";
        // The picture, the arrows, what the code names, the places of findings.
        let cases: [(&str, &str, &str, &[&str]); 10] = [
            ("    line --> plan", "line --> plan", uses, &[]),
            (
                "line --> plan & gguf",
                "line --> gguf\nline --> plan",
                uses,
                &[],
            ),
            ("line -.-> synth", "line -.-> synth", uses, &[]),
            ("", "line --> plan", uses, &["line"]),
            ("line --> gguf", "line --> plan & gguf", uses, &["line"]),
            (
                "line -.-> plan",
                "line --> plan",
                uses,
                &["line", "ARCHITECTURE.md:5"],
            ),
            (
                "line --> synth",
                "line -.-> synth",
                uses,
                &["line", "ARCHITECTURE.md:5"],
            ),
            (
                "line --> plan\n\nplan --> line",
                "line --> plan",
                uses,
                &["ARCHITECTURE.md:7"],
            ),
            ("line --> plan", "line --> plan", "", &["line"]),
            (
                "line ==> plan",
                "line --> plan",
                uses,
                &["ARCHITECTURE.md:5"],
            ),
        ];
        for (picture, edges, uses, expect) in cases {
            let findings = judged(picture, edges, uses);
            let places: Vec<&str> = findings.iter().map(|f| f.place.as_str()).collect();
            assert_eq!(places, expect, "{picture}: {findings:?}");
        }
    }

    #[test]
    fn a_picture_that_is_missing_is_said() {
        assert_eq!(check(&[], &[], &[])[0].place, FILE);
    }
}
