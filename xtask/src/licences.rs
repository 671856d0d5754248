//! Checks that every dependency's licence is on the list of `deny.toml`, which cargo-deny
//! reads as well.

use cargo_metadata::Metadata;
use spdx::{Expression, LicenseReq, ParseMode};

use crate::finding::Finding;

/// A package from outside the workspace.
#[derive(Clone, Debug)]
pub(crate) struct Package {
    pub name: String,
    pub version: String,
    pub licence: Option<String>,
}

/// All packages from outside the workspace in the lock file.
pub(crate) fn packages(metadata: &Metadata) -> Vec<Package> {
    let foreign = metadata
        .packages
        .iter()
        .filter(|package| package.source.is_some());
    let package = |package: &cargo_metadata::Package| Package {
        name: package.name.to_string(),
        version: package.version.to_string(),
        licence: package.license.clone(),
    };
    foreign.map(package).collect()
}

/// Every package whose licence the list does not satisfy.
pub(crate) fn check(deny: &str, packages: &[Package]) -> Vec<Finding> {
    match allowed(deny) {
        Ok(allowed) => packages
            .iter()
            .filter_map(|package| judge(&allowed, package))
            .collect(),
        Err(message) => vec![Finding::error("deny.toml", message)],
    }
}

fn allowed(deny: &str) -> Result<Vec<String>, String> {
    let table: toml::Table =
        toml::from_str(deny).map_err(|error| format!("not valid TOML: {error}"))?;
    let list = table
        .get("licenses")
        .and_then(|licenses| licenses.get("allow"));
    let list = list
        .and_then(|list| list.as_array())
        .ok_or("[licenses] has no `allow` list")?;
    let name = |name: &toml::Value| name.as_str().map(str::to_owned);
    list.iter()
        .map(|entry| name(entry).ok_or(format!("`{entry}` in `allow` is not a string")))
        .collect()
}

fn judge(allowed: &[String], package: &Package) -> Option<Finding> {
    let place = format!("{} {}", package.name, package.version);
    let Some(licence) = &package.licence else {
        return Some(Finding::error(
            place,
            "names no licence; look at its files before using it",
        ));
    };
    // Old crates write `MIT/Apache-2.0`, which means `OR`.
    let expression = match Expression::parse_mode(licence, ParseMode::LAX) {
        Ok(expression) => expression,
        Err(error) => {
            return Some(Finding::error(
                place,
                format!("licence `{licence}`: {}", error.reason),
            ));
        }
    };
    let listed = |req: &LicenseReq| allowed.contains(&req.to_string());
    let message = || format!("licence `{licence}` is not among those allowed in deny.toml");
    (!expression.evaluate(listed)).then(|| Finding::error(place, message()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DENY: &str =
        "[licenses]\nallow = ['MIT', 'Apache-2.0', 'Apache-2.0 WITH LLVM-exception']";

    fn package(licence: Option<&str>) -> Package {
        Package {
            name: "some".into(),
            version: "1.0.0".into(),
            licence: licence.map(str::to_owned),
        }
    }

    #[test]
    fn licences_are_judged() {
        let cases = [
            (Some("MIT"), true),
            (Some("MIT OR Apache-2.0"), true),
            (Some("MIT/Apache-2.0"), true),
            (Some("MIT OR GPL-3.0-only"), true),
            (Some("MIT AND GPL-3.0-only"), false),
            (Some("(MIT OR Apache-2.0) AND Unicode-3.0"), false),
            (Some("Apache-2.0 WITH LLVM-exception"), true),
            (Some("GPL-2.0-only"), false),
            (Some("whatever I like"), false),
            (None, false),
        ];
        for (licence, fine) in cases {
            let findings = check(DENY, &[package(licence)]);
            assert_eq!(findings.is_empty(), fine, "{licence:?}: {findings:?}");
        }
    }

    #[test]
    fn an_exception_is_not_the_licence_without_it() {
        let deny = "[licenses]\nallow = ['Apache-2.0']";
        assert_eq!(
            check(deny, &[package(Some("Apache-2.0 WITH LLVM-exception"))]).len(),
            1
        );
    }

    #[test]
    fn an_invalid_list_is_an_error() {
        for deny in [
            "",
            "[licenses]",
            "[licenses]\nallow = 'MIT'",
            "[licenses]\nallow = [1]",
            "[",
        ] {
            assert_eq!(check(deny, &[]).len(), 1, "{deny:?}");
        }
    }
}
