//! `delayline study` as a shell sees it: answers, pages, CSV, and what it says
//! of wrong input. The numbers themselves are tested in the library.

mod common;

use common::{delayline, number, objects, scratch, stderr, text};

#[test]
fn the_claims_are_answered() {
    let output = delayline("study claims", &[]);
    let told = String::from_utf8(output.stdout).expect("the output is text");
    assert!(output.status.success());
    for part in [
        "32 GB",
        "fails",
        "holds",
        "Where it would turn",
        "zr400.energy",
        "pJ/bit",
    ] {
        assert!(told.contains(part), "{part} is missing in {told}");
    }
    let claims = &objects(&delayline("study claims 7 --json", &[]))[0]["claims"];
    assert_eq!(claims.as_array().map(Vec::len), Some(1));
    assert_eq!(claims[0]["number"], 7);
    assert!(
        claims[0]["inputs"]
            .as_array()
            .is_some_and(|inputs| !inputs.is_empty())
    );
}

#[test]
fn a_figure_can_be_set_and_a_sheet_added() {
    let rate = |more: &[&str]| {
        let arguments = "study decode --json --model llama-8b --medium article --software ideal --accelerators 16";
        let objects = objects(&delayline(arguments, more));
        number(&objects[0], "/rows/0/tokens_per_s/typical")
    };
    let (short, long) = (rate(&[]), rate(&["--set", "article.length=400"]));
    // Twice the length holds the model three times instead of once.
    assert!((long / short - 1.5).abs() < 0.01, "{short} {long}");
    let dir = scratch();
    let sheet = dir.path().join("mine.toml");
    std::fs::write(
        &sheet,
        "[article]\nlength = { value = 400, unit = 'km', source = 'me', date = '2026', tag = 'assumption' }",
    )
    .expect("can write");
    let added = rate(&["--datasheets", &text(&sheet)]);
    assert!((added / long - 1.0).abs() < 1e-9, "{added} {long}");
}

#[test]
fn every_study_writes_a_page_that_needs_nothing_else() {
    let dir = scratch();
    for (command, plots) in [
        ("claims", 4),
        ("link hollow-core", 4),
        ("measured", 0),
        ("media --feed 32TB/s", 5),
        ("decode --model llama-8b --medium article,own", 4),
    ] {
        let path = dir.path().join("page.html");
        let output = delayline(&format!("study {command} --html"), &[&text(&path)]);
        assert!(output.status.success(), "{command}: {output:?}");
        let page = std::fs::read_to_string(&path).expect("the page is there");
        assert_eq!(page.matches("<svg").count(), plots, "{command}");
        assert!(
            !page.contains("http") || !page.contains("src="),
            "{command}"
        );
    }
    let lost = dir.path().join("no/such/folder/page.html");
    let output = delayline("study claims --html", &[&text(&lost)]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("cannot be written"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_link_is_designed_from_a_file() {
    let printed = delayline("study link c-l --print", &[]);
    let design = String::from_utf8(printed.stdout).expect("the output is text");
    let dir = scratch();
    let path = dir.path().join("mine.toml");
    std::fs::write(&path, &design).expect("can write");
    let rate = |output: &std::process::Output| {
        number(&objects(output)[0], "/link/net_rate_bit_per_s/typical")
    };
    let own = rate(&delayline("study link c-l --json", &[]));
    let same = rate(&delayline("study link --json", &[&text(&path)]));
    assert_eq!(own, same);
    let told = delayline("study link --channels", &[&text(&path)]);
    let told = String::from_utf8(told.stdout).expect("the output is text");
    assert_eq!(
        told.matches(" THz ").count(),
        111,
        "a row for each channel: {told}"
    );

    std::fs::write(&path, design.replace("span_km", "span_m")).expect("can write");
    let output = delayline("study link", &[&text(&path)]);
    assert_eq!(output.status.code(), Some(1));
    let told = stderr(&output);
    assert!(
        told.contains("`span_m`") && told.contains("`span_km`"),
        "{told}"
    );
}

/// What has no memory of its own is not asked to read from it.
#[test]
fn an_accelerator_of_sram_alone_decodes() {
    let objects = objects(&delayline("study decode --json --accelerator lpu", &[]));
    let media: Vec<&str> = objects[0]["rows"]
        .as_array()
        .expect("there are rows")
        .iter()
        .filter_map(|row| row["medium"]["unit"]["id"].as_str())
        .collect();
    assert_eq!(media, ["article", "hbf"], "{objects:?}");
}

#[test]
fn a_sweep_writes_all_rows_or_nothing() {
    let dir = scratch();
    let path = dir.path().join("sweep.csv");
    let arguments =
        "study sweep --model llama-8b --set article.length=100..400:3 --set batch=1,2 --out";
    let output = delayline(arguments, &[&text(&path)]);
    assert!(output.status.success(), "{output:?}");
    let csv = std::fs::read_to_string(&path).expect("the file is there");
    assert_eq!(csv.lines().count(), 7);
    assert!(csv.starts_with("article.length,batch,units,"));

    let none = dir.path().join("none.csv");
    let output = delayline(
        "study sweep --set article.length=0..400:3 --out",
        &[&text(&none)],
    );
    assert_eq!(output.status.code(), Some(1));
    let told = stderr(&output);
    assert!(
        told.contains("`length` is 0 km") && told.contains("from 0.000001"),
        "{told}"
    );
    assert!(!none.exists());
}

/// Prices older than six months are named in the last line, as of a day that can be given.
#[test]
fn old_prices_are_named_as_of_a_day() {
    let told = |arguments: &str| {
        let output = delayline(arguments, &[]);
        assert!(output.status.success(), "{arguments}: {output:?}");
        String::from_utf8(output.stdout).expect("the output is text")
    };
    let old = told("study media dram ssd --hold 31GB --as-of 2026-11-25");
    let line = "Older than six months in 2026-11: dram.price (2026-03)";
    assert!(old.contains(line), "{old}");
    let fresh = told("study media dram ssd --hold 31GB --as-of 2024-01");
    assert!(!fresh.contains("Older than"), "{fresh}");
    let list = told("study sheets --stale --as-of 2026-11");
    assert!(
        list.contains("zr400.price") && list.contains("h100.memory_rate"),
        "{list}"
    );
    assert!(!list.contains("attenuation"), "{list}");
}

#[test]
fn wrong_input_is_named() {
    for (arguments, status, part) in [
        ("study", 2, "Usage"),
        ("study claims 12", 2, "1..=11"),
        ("study link nowhere.toml", 1, "or one of article, c-l"),
        ("study link orbit", 1, "`study media orbit` has its figures"),
        ("study media --hold -5GB", 2, "'-5GB' for '--hold"),
        ("study decode --units 5000000", 2, "0..=1000000"),
        (
            "study decode --rate 1GB/s --compute-ms nan",
            2,
            "from 0.000001 to 1000000000",
        ),
        ("study decode --weights 1KB", 2, "from 1MB to 100TB"),
        (
            "study media paper",
            1,
            "`paper` is no medium; there are article",
        ),
        (
            "study decode --model gpt-9",
            1,
            "`gpt-9`; there are deepseek-v3",
        ),
        (
            "study decode --medium own --accelerator lpu",
            1,
            "no memory beside its SRAM",
        ),
        (
            "study decode --set batch=1,2",
            1,
            "only `study sweep` takes several",
        ),
        ("study decode --set speed", 2, "FROM..TO:COUNT"),
        (
            "study decode --set article.rate=-1",
            1,
            "`rate` is -1 Tbit/s",
        ),
        (
            "study decode --context 1000000 --batch 64",
            1,
            "at most a batch of",
        ),
        (
            "study decode --window 10GB --medium article --accelerator lpu",
            1,
            "a window of 10.000 GB has no room",
        ),
        (
            "study decode --resident 139GB --accelerator h100 --medium hbf",
            1,
            "but NVIDIA H100 SXM holds 80.00 GB",
        ),
        (
            "study decode --software fast",
            1,
            "`fast`; there are server and tuned",
        ),
        (
            "study claims --as-of yesterday",
            2,
            "expected a year and a month",
        ),
        ("study claims --datasheets nowhere.toml", 1, "nowhere.toml"),
    ] {
        let output = delayline(arguments, &[]);
        assert_eq!(
            output.status.code(),
            Some(status),
            "{arguments}: {output:?}"
        );
        let told = stderr(&output);
        assert!(told.contains(part), "{arguments}: {told}");
    }
}
