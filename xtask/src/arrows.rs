//! Which crate may depend on which: arrows only downward.

use cargo_metadata::{DependencyKind, Metadata};

use crate::finding::Finding;

/// The allowed arrows, the one place where they are written down.
const ALLOWED: [(&str, &[&str]); 10] = [
    (
        "cli",
        &[
            "server", "study", "runtime", "synth", "medium", "line", "plan", "gguf",
        ],
    ),
    ("server", &["runtime"]),
    ("study", &["medium", "line", "plan", "gguf"]),
    ("runtime", &["medium", "line", "plan", "gguf"]),
    ("medium", &["line", "plan"]),
    ("line", &["plan"]),
    ("synth", &["gguf"]),
    ("plan", &[]),
    ("gguf", &[]),
    ("xtask", &[]),
];

/// Tests of any crate may write models to test with.
const ALLOWED_IN_TESTS: &str = "synth";

/// One workspace member that depends on another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Edge {
    pub from: String,
    /// `None` for the crate itself, so that one without arrows is known too.
    pub to: Option<String>,
    pub test_only: bool,
}

/// All arrows between members of the workspace.
pub(crate) fn edges(metadata: &Metadata) -> Vec<Edge> {
    let members = metadata.workspace_packages();
    let mut edges = Vec::new();
    for package in &members {
        let from = short(&package.name);
        edges.push(Edge {
            from: from.clone(),
            to: None,
            test_only: false,
        });
        let inner = package
            .dependencies
            .iter()
            .filter(|dep| members.iter().any(|m| *m.name == dep.name));
        edges.extend(inner.map(|dep| Edge {
            from: from.clone(),
            to: Some(short(&dep.name)),
            test_only: dep.kind == DependencyKind::Development,
        }));
    }
    edges
}

/// Every arrow that is not in the table, and every crate that is not.
pub(crate) fn check(edges: &[Edge]) -> Vec<Finding> {
    edges.iter().filter_map(judge).collect()
}

fn judge(edge: &Edge) -> Option<Finding> {
    let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == edge.from) else {
        return edge.to.is_none().then(|| {
            let message = "has no row in the table of arrows; add one to xtask/src/arrows.rs and ARCHITECTURE.md";
            Finding::error(&edge.from, message)
        });
    };
    let to = edge.to.as_deref()?;
    let fine = allowed.contains(&to) || (edge.test_only && to == ALLOWED_IN_TESTS);
    (!fine).then(|| {
        let expected = if allowed.is_empty() {
            "no other crate".to_owned()
        } else {
            allowed.join(", ")
        };
        Finding::error(
            &edge.from,
            format!("must not depend on {to}; it may depend on {expected}"),
        )
    })
}

fn short(name: &str) -> String {
    name.strip_prefix("delayline-").unwrap_or(name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(from: &str, to: &str, test_only: bool) -> Edge {
        let to = Some(to).filter(|to| !to.is_empty()).map(str::to_owned);
        Edge {
            from: from.into(),
            to,
            test_only,
        }
    }

    #[test]
    fn arrows_are_judged() {
        let cases = [
            ("cli", "runtime", false, true),
            ("plan", "", false, true),
            ("line", "plan", false, true),
            ("plan", "line", false, false),
            ("plan", "synth", false, false),
            ("plan", "synth", true, true),
            ("medium", "gguf", true, false),
            ("server", "medium", false, false),
            ("newcomer", "", false, false),
        ];
        for (from, to, test_only, fine) in cases {
            let findings = check(&[edge(from, to, test_only)]);
            assert_eq!(findings.is_empty(), fine, "{from} -> {to}: {findings:?}");
        }
    }

    #[test]
    fn the_table_has_no_cycle() {
        // Removing crates without arrows until none is left works only without one.
        let mut left: Vec<_> = ALLOWED.to_vec();
        while !left.is_empty() {
            let names: Vec<&str> = left.iter().map(|(name, _)| *name).collect();
            let before = left.len();
            left.retain(|(_, to)| to.iter().any(|to| names.contains(to)));
            assert!(left.len() < before, "a cycle among {names:?}");
        }
    }
}
