//! Checks that a public name means one thing in the whole workspace.

use std::collections::BTreeMap;

use crate::finding::Finding;
use crate::types::{Module, Reach};

/// Each crate may have this one, because `crate::Error` tells which is meant.
const SHARED: &str = "Error";

/// Every public name with several definitions, at each of them.
pub(crate) fn check(modules: &[Module]) -> Vec<Finding> {
    let mut places: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for module in modules {
        for defined in &module.types {
            if defined.reach == Reach::Public && defined.name != SHARED {
                let place = format!("{}:{}", module.path, defined.line);
                places.entry(&defined.name).or_default().push(place);
            }
        }
    }
    places.retain(|_, places| places.len() > 1);
    let mut findings = Vec::new();
    for (name, places) in &places {
        for (index, place) in places.iter().enumerate() {
            let others: Vec<&str> = (0..places.len())
                .filter(|other| *other != index)
                .map(|other| places[other].as_str())
                .collect();
            let message = format!(
                "the public type `{name}` is also one of {}; rename one, or make it pub(crate)",
                others.join(", ")
            );
            findings.push(Finding::error(place, message));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::tests::code;

    #[test]
    fn names_are_judged() {
        let one = "pub struct Lap;";
        // The other file, the number of findings.
        let cases = [
            ("pub struct Turn;", 0),
            ("pub struct Lap;", 2),
            ("pub trait Lap {}", 2),
            ("pub use x::Turn as Lap;", 2),
            ("pub(crate) struct Lap;", 0),
            ("struct Lap;", 0),
            ("pub mod a { pub enum Lap {} }", 2),
        ];
        for (other, expect) in cases {
            let modules = code(&[("crates/a/src/x.rs", one), ("crates/b/src/y.rs", other)]);
            let findings = check(&modules);
            assert_eq!(findings.len(), expect, "{other}: {findings:?}");
        }
    }

    #[test]
    fn both_places_are_named() {
        let modules = code(&[
            ("crates/a/src/x.rs", "pub struct Lap;"),
            ("crates/b/src/y.rs", "\npub struct Lap;"),
        ]);
        let findings = check(&modules);
        assert_eq!(findings[0].place, "crates/a/src/x.rs:1");
        assert!(findings[0].message.contains("crates/b/src/y.rs:2"));
        assert_eq!(findings[1].place, "crates/b/src/y.rs:2");
        assert!(findings[1].message.contains("crates/a/src/x.rs:1"));
    }

    #[test]
    fn errors_are_called_so_everywhere() {
        let text = "pub enum Error {}";
        let modules = code(&[("crates/a/src/x.rs", text), ("crates/b/src/y.rs", text)]);
        assert_eq!(check(&modules), []);
    }
}
