//! The sheets of the program, and everything that a sheet can have wrong.

use super::*;

#[test]
fn the_sheets_of_the_program_are_whole() {
    let library = Library::embedded();
    for kind in [
        SheetKind::Store,
        SheetKind::Loop,
        SheetKind::Acoustic,
        SheetKind::Model,
        SheetKind::Accelerator,
    ] {
        assert!(library.of_kind(kind).count() > 0, "{kind:?}");
    }
    let figure = library.figure("said-loop.length").expect("it is embedded");
    assert_eq!(figure.value, Interval::exact(200e3));
    assert_eq!((figure.unit.as_str(), figure.tag), ("km", Tag::SecondHand));
}

/// Adds `text` to the sheets of the program; the complaint has all of `parts`.
fn refused(text: &str, parts: &[&str]) {
    let mut library = Library::embedded();
    let before = library.clone();
    let error = library.add("mine.toml", text).expect_err(text).to_string();
    for part in parts {
        assert!(error.contains(part), "{text}\n{error}\nlacks {part}");
    }
    assert_eq!(library, before, "a wrong file changes nothing");
}

/// A figure of the sheet `dram`.
fn dram(key: &str, value: &str, unit: &str) -> String {
    format!(
        "[dram]\n{key} = {{ value = {value}, unit = '{unit}', source = 's', date = '2026', tag = 'read' }}"
    )
}

#[test]
fn what_is_wrong_is_named_with_what_is_accepted() {
    refused("", &["mine.toml", "`[sheet]` is missing", "no data sheet"]);
    refused("[dram", &["mine.toml", "not a data sheet"]);
    refused("dram = 3", &["mine.toml", "dram", "a table"]);
    refused(
        "[new]\nname = 'x'",
        &["mine.toml: new", "`kind` is missing"],
    );
    refused("[new]\nkind = 'thing'", &["`kind` is \"thing\"", "store"]);
    refused(
        "[new]\nkind = 'trend'",
        &["new", "`growth` is missing", "%/year"],
    );
    refused(
        &dram("speed", "1", "GB/s"),
        &["dram", "no key `speed`", "capacity, rate"],
    );
    refused(
        &dram("rate", "1", "GB"),
        &["dram", "`rate` is in `GB`", "GB/s"],
    );
    refused(
        &dram("rate", "-3", "GB/s"),
        &["`rate` is -3 GB/s", "from 0.000000001 to 1000000000 GB/s"],
    );
    refused(
        &dram("rate", "nan", "GB/s"),
        &["`rate`", "[low, typical, high]"],
    );
    refused(&dram("rate", "inf", "GB/s"), &["`rate` is inf GB/s"]);
    refused(
        &dram("rate", "[3, 2, 1]", "GB/s"),
        &["`rate`", "do not fall"],
    );
    refused(
        &dram("rate", "'fast'", "GB/s"),
        &["`rate` is \"fast\"", "a number"],
    );
    refused(
        "[dram]\nrate = 3",
        &["`rate` is 3", "{ value, unit, source, date, tag }"],
    );
    refused(
        "[dram]\nrate = { value = 3, unit = 'GB/s', date = '2026', tag = 'read' }",
        &["dram.rate", "`source` is missing"],
    );
    refused(
        "[dram]\nrate = { value = 3, unit = 'GB/s', source = 's', date = '2026', tag = 'sure' }",
        &["dram.rate", "`tag` is \"sure\"", "second-hand"],
    );
    refused(
        "[dram]\nrate = { value = 3, unit = 'GB/s', source = 's', date = '2026', tag = 'read', by = 'me' }",
        &["dram.rate", "no key `by`", "value, unit"],
    );
    refused(
        "[mine]\nkind = 'design'",
        &["mine", "`kind`", "fiber:design=FILE.toml"],
    );
    refused(
        "[said-loop]\nfiber = 'wool'",
        &["said-loop", "`fiber` is `wool`", "smf"],
    );
    refused(
        "[said-loop]\nfiber = 'dram'",
        &["said-loop", "`fiber` is `dram`", "smf"],
    );
    refused(
        "[said-loop]\nfiber = ''",
        &["said-loop", "`fiber`", "not empty"],
    );
}

#[test]
fn single_figures_are_replaced() {
    let mut library = Library::embedded();
    let before = library
        .figure("dram.price")
        .expect("it is embedded")
        .clone();
    library
        .add("mine.toml", &dram("rate", "[1, 2, 3]", "TB/s"))
        .expect("it is right");
    let rate = library.figure("dram.rate").expect("it is there");
    assert_eq!(rate.value, Interval::new(1e12, 2e12, 3e12));
    assert_eq!(library.figure("dram.price").expect("it is there"), &before);
}

#[test]
fn figures_are_set_in_their_own_unit() {
    let mut library = Library::embedded();
    library
        .set("article.length", Interval::exact(400.0))
        .expect("it can be");
    let figure = library.figure("article.length").expect("it is there");
    assert_eq!(
        (figure.value, figure.tag),
        (Interval::exact(400e3), Tag::Given)
    );
    for (path, value, part) in [
        ("article.length", -1.0, "from 0.001 to 100000000 km"),
        ("article.colour", 1.0, "no figure of article `colour`"),
        ("article.length", 1e300, "is 1e300 km, but"),
        (
            "smf.cores",
            1.5,
            "is 1.5, but must be whole, from 1 to 1000",
        ),
        ("hollow.group_index", 0.5, "is 0.5, but must be from 1 to 2"),
        ("artikel.length", 1.0, "no data sheet `artikel`"),
        ("article", 1.0, "no figure of article"),
    ] {
        let error = library
            .set(path, Interval::exact(value))
            .expect_err(path)
            .to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn directories_are_read_in_order() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for (file, price) in [("a.toml", "1"), ("b.toml", "2"), ("c.txt", "3")] {
        let text = dram("price", price, "$/GB");
        std::fs::write(directory.path().join(file), text).expect("a small file");
    }
    let mut library = Library::embedded();
    library.load(directory.path()).expect("they are right");
    assert_eq!(
        library.figure("dram.price").expect("it is there").written,
        Interval::exact(2.0)
    );
    let empty = tempfile::tempdir().expect("a temporary directory");
    let error = library.load(empty.path()).expect_err("it is empty");
    assert!(error.to_string().contains("no data sheets"), "{error}");
    let nowhere = directory.path().join("nowhere.toml");
    let error = library
        .load(&nowhere)
        .expect_err("it is not there")
        .to_string();
    assert!(error.contains("nowhere.toml"), "{error}");
}
