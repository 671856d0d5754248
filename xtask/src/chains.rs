//! The chains of types in ARCHITECTURE.md: the forms of an extent from the GGUF header to
//! a pointer, and of a token from the socket to the logits. A reader has to know each type
//! of a chain, so their number is limited.

use std::collections::{BTreeMap, BTreeSet};

use crate::arrows::FILE;
use crate::files::Source;
use crate::finding::Finding;
use crate::types::Module;

/// A paragraph `name: `crate::Type` → `crate::Type` → …`.
struct Chain {
    name: &'static str,
    /// Maximum number of types.
    maximum: usize,
}

const CHAINS: [Chain; 2] = [
    Chain {
        name: "extent",
        maximum: 8,
    },
    Chain {
        name: "token",
        maximum: 5,
    },
];

/// Chains that are missing or too long, types that do not exist, and neighbours that no
/// code links.
pub(crate) fn check(sources: &[Source], modules: &[Module]) -> Vec<Finding> {
    let source = sources.iter().find(|source| source.path == FILE);
    let text = source.map_or("", |source| &source.text);
    let mut findings = Vec::new();
    for chain in &CHAINS {
        judge(chain, text, modules, &mut findings);
    }
    findings
}

fn judge(chain: &Chain, text: &str, modules: &[Module], findings: &mut Vec<Finding>) {
    let Some((line, types)) = listed(chain.name, text) else {
        let message = format!("has no paragraph `{}: …` that lists its chain", chain.name);
        findings.push(Finding::error(FILE, message));
        return;
    };
    let mut error = |message| findings.push(Finding::error(format!("{FILE}:{line}"), message));
    if types.len() > chain.maximum {
        error(format!(
            "the chain `{}` has {} types, at most {} are allowed",
            chain.name,
            types.len(),
            chain.maximum
        ));
    }
    let missing = |name: &&&str| Defined::find(name, modules).is_none();
    for name in types.iter().filter(missing) {
        error(format!("`{name}` is not a type of that crate"));
    }
    for pair in types.windows(2) {
        let ends = (
            Defined::find(pair[0], modules),
            Defined::find(pair[1], modules),
        );
        if let (Some(from), Some(to)) = ends
            && !are_linked(&from, &to, modules)
        {
            error(format!(
                "no link from `{}` to `{}`: neither file names the other's type, and no function and no type's methods name both",
                pair[0], pair[1]
            ));
        }
    }
}

/// The line number, from 1, and the types of a paragraph that begins with `name:`.
fn listed<'a>(name: &str, text: &'a str) -> Option<(usize, Vec<&'a str>)> {
    let begins = |line: &str| {
        let rest = line.trim_start_matches("- ").strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with(": `"))
    };
    let first = text.lines().position(begins)?;
    let lines = text.lines().skip(first);
    let paragraph = lines.take_while(|line| !line.trim().is_empty());
    let types = paragraph.flat_map(|line| line.split('`').skip(1).step_by(2));
    Some((first + 1, types.collect()))
}

/// A type of a chain and the file that defines it.
struct Defined<'a> {
    name: &'a str,
    module: &'a Module,
}

impl<'a> Defined<'a> {
    fn find(path: &'a str, modules: &'a [Module]) -> Option<Self> {
        let (krate, name) = path.split_once("::")?;
        let folder = format!("crates/{krate}/");
        let module = modules
            .iter()
            .filter(|module| module.path.starts_with(&folder))
            .find(|module| module.types.iter().any(|d| d.name == name))?;
        Some(Self { name, module })
    }
}

/// Whether a file that defines one of the types names the other, or a function or the
/// methods of a third type name both.
fn are_linked(from: &Defined, to: &Defined, modules: &[Module]) -> bool {
    let apart = from.module.path != to.module.path;
    let by_file =
        apart && (from.module.mentions.contains(to.name) || to.module.mentions.contains(from.name));
    let by_item = modules
        .iter()
        .flat_map(|module| &module.items)
        .any(|names| has_both(names, from, to));
    by_file || by_item || machines(modules).any(|names| has_both(&names, from, to))
}

fn has_both(names: &BTreeSet<String>, from: &Defined, to: &Defined) -> bool {
    names.contains(from.name) && names.contains(to.name)
}

/// The names in all methods of each type, wherever in its crate they are written.
fn machines(modules: &[Module]) -> impl Iterator<Item = BTreeSet<String>> {
    let mut machines: BTreeMap<(&str, &str), BTreeSet<String>> = BTreeMap::new();
    for module in modules {
        let krate = module.path.split("/src/").next().unwrap_or_default();
        for (machine, names) in &module.methods {
            let all = machines.entry((krate, machine)).or_default();
            all.extend(names.iter().cloned());
        }
    }
    machines.into_values()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::tests::code;

    fn judged(maximum: usize, list: &str) -> Vec<String> {
        let modules = code(&[
            ("crates/a/src/one.rs", "pub struct One;"),
            ("crates/a/src/two.rs", "struct Two(One);\npub struct Three;"),
            ("crates/b/src/four.rs", "pub struct Four;"),
            ("crates/b/src/make.rs", "fn make(_: Three) -> Four { Four }"),
            (
                "crates/b/src/far.rs",
                "use a::One; fn f(_: Four) {} fn g(_: One) {}",
            ),
            ("crates/c/src/five.rs", "pub struct Five; pub struct Six;"),
            (
                "crates/c/src/machine.rs",
                "impl Machine { fn take(_: Five) {} }",
            ),
            (
                "crates/c/src/more.rs",
                "impl Machine { fn give() -> Six { Six } }",
            ),
        ]);
        let chain = Chain {
            name: "extent",
            maximum,
        };
        let mut findings = Vec::new();
        judge(
            &chain,
            &format!("# Title\n\n{list}\n\nend"),
            &modules,
            &mut findings,
        );
        findings
            .into_iter()
            .map(|finding| finding.message)
            .collect()
    }

    #[test]
    fn chains_are_judged() {
        let three = "extent: `a::One` → `a::Two` →\n  `a::One`";
        // The maximum, the list, a word of each finding.
        let cases: [(usize, &str, &[&str]); 10] = [
            (8, "extent: `a::One` → `a::Two`", &[]),
            (8, "- extent: `a::One` → `a::Two`", &[]),
            (3, three, &[]),
            (2, three, &["at most 2"]),
            (8, "extent: `a::Three` → `b::Four`", &[]),
            (8, "extent: `c::Five` → `c::Six`", &[]),
            (8, "extent: `a::One` → `b::Four`", &["no link"]),
            (8, "extent: `a::Two` → `a::Three`", &["no link"]),
            (8, "extent: `b::Three` → `b::One`", &["b::Three", "b::One"]),
            (8, "tokens: `a::One`", &["no paragraph"]),
        ];
        for (maximum, list, expect) in cases {
            let found = judged(maximum, list);
            assert_eq!(found.len(), expect.len(), "{list}: {found:?}");
            for (message, word) in found.iter().zip(expect) {
                assert!(message.contains(word), "{list}: {message}");
            }
        }
    }
}
