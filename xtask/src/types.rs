//! The types that the library code of the workspace defines, and the names that each of
//! its files mentions. Tests, examples and comments do not count.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Attribute, Ident, Item, Type, UseTree, Visibility};

use crate::files::Source;
use crate::finding::Finding;

/// Who may name a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// `pub`.
    Public,
    /// `pub(…)` or private.
    Within,
}

/// A struct, enum, union, trait or alias, or a type that is exported under
/// another name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Definition {
    pub name: String,
    pub reach: Reach,
    /// From 1.
    pub line: usize,
}

/// One file of library code.
#[derive(Clone, Debug)]
pub(crate) struct Module {
    pub path: String,
    pub types: Vec<Definition>,
    /// All names outside tests and comments.
    pub mentions: BTreeSet<String>,
    /// The names in each function, with those in the head of its `impl`, and in
    /// each type.
    pub items: Vec<BTreeSet<String>>,
    /// By type: the names in its methods.
    pub methods: BTreeMap<String, BTreeSet<String>>,
}

/// The library code among `sources`.
///
/// # Errors
/// For the first file that cannot be parsed.
pub(crate) fn modules(sources: &[Source]) -> Result<Vec<Module>, Finding> {
    let library = sources.iter().filter(|source| is_library(source));
    library
        .map(|source| {
            parse(source).map_err(|error| {
                let place = format!("{}:{}", source.path, error.span().start().line);
                Finding::error(place, format!("cannot be parsed: {error}"))
            })
        })
        .collect()
}

fn is_library(source: &Source) -> bool {
    let path = &source.path;
    let is_test = path.ends_with("/tests.rs") || path.contains("/tests/");
    source.is_rust() && path.contains("/src/") && !is_test
}

fn parse(source: &Source) -> syn::Result<Module> {
    let file = syn::parse_file(&source.text)?;
    let mut module = Module {
        path: source.path.clone(),
        types: Vec::new(),
        mentions: BTreeSet::new(),
        items: Vec::new(),
        methods: BTreeMap::new(),
    };
    if !file.attrs.iter().any(is_for_tests) {
        visit(&file.items, &mut module);
    }
    Ok(module)
}

fn visit(items: &[Item], module: &mut Module) {
    for item in items {
        let (attributes, defined) = match item {
            Item::Struct(item) => (&item.attrs, Some((&item.ident, &item.vis))),
            Item::Enum(item) => (&item.attrs, Some((&item.ident, &item.vis))),
            Item::Union(item) => (&item.attrs, Some((&item.ident, &item.vis))),
            Item::Trait(item) => (&item.attrs, Some((&item.ident, &item.vis))),
            Item::Type(item) => (&item.attrs, Some((&item.ident, &item.vis))),
            Item::Mod(item) => (&item.attrs, None),
            Item::Use(item) => (&item.attrs, None),
            Item::Fn(item) => (&item.attrs, None),
            Item::Impl(item) => (&item.attrs, None),
            _ => (NO_ATTRIBUTES, None),
        };
        if attributes.iter().any(is_for_tests) {
            continue;
        }
        if let Some((name, visibility)) = defined {
            module.types.push(definition(name, visibility));
        }
        match item {
            Item::Mod(inner) => {
                if let Some((_, items)) = &inner.content {
                    visit(items, module);
                }
            }
            Item::Use(item) => {
                renamed(&item.tree, &mut |name| {
                    module.types.push(definition(name, &item.vis));
                });
                collect(item.to_token_stream(), &mut module.mentions);
            }
            Item::Impl(item) => {
                let mut head = BTreeSet::new();
                collect(item.self_ty.to_token_stream(), &mut head);
                if let Some((path, _)) = &item.trait_ {
                    collect(path.to_token_stream(), &mut head);
                }
                for inner in &item.items {
                    module.add(inner.to_token_stream(), head.clone());
                }
                if let Type::Path(of) = &*item.self_ty
                    && let Some(of) = of.path.segments.last()
                    && item.trait_.is_none()
                {
                    let methods = module.methods.entry(of.ident.to_string()).or_default();
                    for inner in &item.items {
                        collect(inner.to_token_stream(), methods);
                    }
                }
            }
            _ => module.add(item.to_token_stream(), BTreeSet::new()),
        }
    }
}

impl Module {
    /// Adds an item that names `names` and what is in `tokens`.
    fn add(&mut self, tokens: TokenStream, mut names: BTreeSet<String>) {
        collect(tokens, &mut names);
        self.mentions.extend(names.iter().cloned());
        self.items.push(names);
    }
}

const NO_ATTRIBUTES: &Vec<Attribute> = &Vec::new();

fn definition(name: &Ident, visibility: &Visibility) -> Definition {
    Definition {
        name: name.to_string(),
        reach: match visibility {
            Visibility::Public(_) => Reach::Public,
            _ => Reach::Within,
        },
        line: name.span().start().line,
    }
}

/// Whether an attribute is `#[cfg(test)]` or `#[test]`.
fn is_for_tests(attribute: &Attribute) -> bool {
    attribute.path().is_ident("test")
        || attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<Ident>()
                .is_ok_and(|only| only == "test")
}

/// Calls `found` with the names that `use … as Name` gives to types: those in camel case.
fn renamed(tree: &UseTree, found: &mut impl FnMut(&Ident)) {
    match tree {
        UseTree::Path(path) => renamed(&path.tree, found),
        UseTree::Group(group) => group.items.iter().for_each(|tree| renamed(tree, found)),
        UseTree::Rename(rename) => {
            let name = rename.rename.to_string();
            if name.starts_with(char::is_uppercase) && name.contains(char::is_lowercase) {
                found(&rename.rename);
            }
        }
        UseTree::Name(_) | UseTree::Glob(_) => {}
    }
}

fn collect(tokens: TokenStream, names: &mut BTreeSet<String>) {
    for token in tokens {
        match token {
            TokenTree::Ident(name) => {
                names.insert(name.to_string());
            }
            TokenTree::Group(group) => collect(group.stream(), names),
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Library code from pairs of path and text.
    pub(crate) fn code(files: &[(&str, &str)]) -> Vec<Module> {
        let source = |(path, text): &(&str, &str)| Source {
            path: (*path).into(),
            text: (*text).into(),
        };
        modules(&files.iter().map(source).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn every_kind_of_type_is_found_with_its_line() {
        let text = "pub struct A;\npub enum B {}\npub trait C {}\npub type D = u8;\n\
                    pub union E { a: u8 }\npub(crate) struct F;\nstruct G;\n\
                    mod inner {\n  pub struct H;\n}\npub use x::{Y as Id, z as j, K as MAX};\n\
                    fn f() { struct Inside; }\n#[cfg(test)]\nmod tests { pub struct T; }\n\
                    #[cfg(test)]\npub struct U;";
        let modules = code(&[("crates/a/src/x.rs", text)]);
        let found: Vec<(&str, Reach, usize)> = modules[0]
            .types
            .iter()
            .map(|d| (d.name.as_str(), d.reach, d.line))
            .collect();
        let expect = [
            ("A", Reach::Public, 1),
            ("B", Reach::Public, 2),
            ("C", Reach::Public, 3),
            ("D", Reach::Public, 4),
            ("E", Reach::Public, 5),
            ("F", Reach::Within, 6),
            ("G", Reach::Within, 7),
            ("H", Reach::Public, 9),
            ("Id", Reach::Public, 11),
        ];
        assert_eq!(found, expect);
    }

    #[test]
    fn mentions_are_of_code_alone() {
        let text = "/// See Documented.\nfn f() -> Used { vec![Made::new()] } // Remarked\n\
                    const S: &str = \"Quoted\";\n#[cfg(test)]\nmod tests { fn g(_: Tested) {} }";
        let mentions = &code(&[("crates/a/src/x.rs", text)])[0].mentions;
        for (name, expect) in [
            ("Used", true),
            ("Made", true),
            ("Documented", false),
            ("Remarked", false),
            ("Quoted", false),
            ("Tested", false),
        ] {
            assert_eq!(mentions.contains(name), expect, "{name}");
        }
    }

    #[test]
    fn only_library_code_counts() {
        let text = "pub struct A;";
        let paths = [
            ("crates/a/src/x.rs", 1),
            ("xtask/src/x.rs", 1),
            ("crates/a/src/x/tests.rs", 0),
            ("crates/a/tests/x.rs", 0),
            ("crates/a/examples/x.rs", 0),
            ("crates/a/src/x.md", 0),
        ];
        for (path, expect) in paths {
            assert_eq!(code(&[(path, text)]).len(), expect, "{path}");
        }
    }

    #[test]
    fn what_is_no_rust_is_said_with_its_line() {
        let source = Source {
            path: "crates/a/src/x.rs".into(),
            text: "struct A;\nstruct {".into(),
        };
        let finding = modules(&[source]).unwrap_err();
        assert_eq!(finding.place, "crates/a/src/x.rs:2");
    }
}
