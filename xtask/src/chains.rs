//! The chains of types in ARCHITECTURE.md: what an extent passes from the GGUF
//! header to a pointer, and a token from the socket to the logits. Each type of
//! a chain is one that a reader has to know.

use crate::arrows::FILE;
use crate::files::Source;
use crate::finding::Finding;
use crate::types::Module;

/// A paragraph `name: `crate::Type` → `crate::Type` → …`.
struct Chain {
    name: &'static str,
    /// Types that it may have.
    maximum: usize,
    /// Types that it has as long as it has more.
    for_now: Option<usize>,
}

const CHAINS: [Chain; 2] = [
    Chain {
        name: "extent",
        maximum: 8,
        for_now: Some(19),
    },
    Chain {
        name: "token",
        maximum: 5,
        for_now: None,
    },
];

/// Chains that are missing or too long, types that do not exist, and links
/// that no code makes.
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
    if let Some(message) = length(chain, types.len()) {
        error(message);
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
                "no link from `{}` to `{}`: neither file names the other's type, and no function both",
                pair[0], pair[1]
            ));
        }
    }
}

/// What is wrong with the number of types.
fn length(chain: &Chain, types: usize) -> Option<String> {
    let name = chain.name;
    match chain.for_now {
        None if types > chain.maximum => Some(format!(
            "the chain `{name}` has {types} types, at most {} are allowed",
            chain.maximum
        )),
        Some(now) if types > now => Some(format!(
            "the chain `{name}` has grown from {now} to {types} types; it is to come down to {}",
            chain.maximum
        )),
        Some(now) if types < now => Some(format!(
            "the chain `{name}` has {types} types now; write that into xtask/src/chains.rs, and nothing where that is {} or less",
            chain.maximum
        )),
        _ => None,
    }
}

/// The line from 1 and the types of a paragraph that begins with `name:`.
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

/// Whether a file that defines one of the types names the other, or a function
/// anywhere names both.
fn are_linked(from: &Defined, to: &Defined, modules: &[Module]) -> bool {
    let apart = from.module.path != to.module.path;
    let by_file =
        apart && (from.module.mentions.contains(to.name) || to.module.mentions.contains(from.name));
    let by_item = modules
        .iter()
        .flat_map(|module| &module.items)
        .any(|names| names.contains(from.name) && names.contains(to.name));
    by_file || by_item
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::tests::code;

    fn judged(maximum: usize, for_now: Option<usize>, list: &str) -> Vec<String> {
        let modules = code(&[
            ("crates/a/src/one.rs", "pub struct One;"),
            ("crates/a/src/two.rs", "struct Two(One);\npub struct Three;"),
            ("crates/b/src/four.rs", "pub struct Four;"),
            ("crates/b/src/make.rs", "fn make(_: Three) -> Four { Four }"),
            (
                "crates/b/src/far.rs",
                "use a::One; fn f(_: Four) {} fn g(_: One) {}",
            ),
        ]);
        let chain = Chain {
            name: "extent",
            maximum,
            for_now,
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
        // The maximum, what holds for now, the list, a word of each finding.
        let cases: [(usize, Option<usize>, &str, &[&str]); 12] = [
            (8, None, "extent: `a::One` → `a::Two`", &[]),
            (8, None, "- extent: `a::One` → `a::Two`", &[]),
            (3, None, three, &[]),
            (2, None, three, &["at most 2"]),
            (2, Some(3), three, &[]),
            (1, Some(2), three, &["has grown"]),
            (2, Some(4), three, &["has 3 types now"]),
            (8, None, "extent: `a::Three` → `b::Four`", &[]),
            (8, None, "extent: `a::One` → `b::Four`", &["no link"]),
            (8, None, "extent: `a::Two` → `a::Three`", &["no link"]),
            (
                8,
                None,
                "extent: `b::Three` → `b::One`",
                &["b::Three", "b::One"],
            ),
            (8, None, "tokens: `a::One`", &["no paragraph"]),
        ];
        for (maximum, for_now, list, expect) in cases {
            let found = judged(maximum, for_now, list);
            assert_eq!(found.len(), expect.len(), "{list}: {found:?}");
            for (message, word) in found.iter().zip(expect) {
                assert!(message.contains(word), "{list}: {message}");
            }
        }
    }

    #[test]
    fn what_holds_for_now_is_more_than_what_is_allowed() {
        for chain in CHAINS {
            assert!(chain.for_now.is_none_or(|now| now > chain.maximum));
        }
    }
}
