//! Settings as they are typed, and sweeps of few rows.

use super::*;
use std::sync::atomic::AtomicUsize;

fn setting(text: &str) -> Setting {
    text.parse().expect(text)
}

#[test]
fn settings_are_parsed() {
    let cases: [(&str, &str, &[f64]); 5] = [
        ("batch=8", "batch", &[8.0]),
        (" a.b = 1, 2.5 ,-3", "a.b", &[1.0, 2.5, -3.0]),
        ("x=0..10:3", "x", &[0.0, 5.0, 10.0]),
        ("x=10..-10:2", "x", &[10.0, -10.0]),
        ("x=1..100:3:log", "x", &[1.0, 10.0, 100.0]),
    ];
    for (text, name, values) in cases {
        let got = setting(text);
        assert_eq!(got.name, name);
        assert_eq!(got.values.len(), values.len(), "{text}");
        for (a, b) in got.values.iter().zip(values) {
            assert!((a - b).abs() < 1e-9, "{text}: {a}");
        }
    }
    for text in [
        "",
        "x",
        "=1",
        "x=",
        "x=a",
        "x=1..2",
        "x=1..2:1",
        "x=1..2:3:lin",
        "x=0..2:3:log",
        "x=1..2:3:log:x",
        "x=inf",
        "x=1,,2",
        "x=1..2:9999999",
    ] {
        let error = text.parse::<Setting>().expect_err(text).to_string();
        assert!(error.contains("FROM..TO:COUNT"), "{error}");
    }
}

fn base() -> Base {
    Base {
        model: "llama-8b".to_owned(),
        accelerator: "b200".to_owned(),
        medium: "article".to_owned(),
        batch: 1,
    }
}

#[test]
fn all_combinations_are_run_in_order() {
    let library = Library::embedded();
    let settings = [setting("article.length=200,400"), setting("batch=1,2,4")];
    let done = AtomicUsize::new(0);
    let count = || {
        done.fetch_add(1, Ordering::Relaxed);
    };
    let stop = AtomicBool::new(false);
    let csv = sweep(
        &library,
        &CaseOptions::default(),
        &base(),
        &settings,
        &stop,
        count,
    )
    .expect("it can be");
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!((lines.len(), done.load(Ordering::Relaxed)), (7, 6));
    assert!(lines[0].starts_with("article.length,batch,units,lap_s,"));
    let starts: Vec<String> = lines[1..]
        .iter()
        .map(|line| line.split(',').take(2).collect::<Vec<_>>().join(","))
        .collect();
    assert_eq!(
        starts,
        ["200,1", "200,2", "200,4", "400,1", "400,2", "400,4"]
    );
    for line in &lines {
        assert_eq!(line.split(',').count(), 2 + COLUMNS.len(), "{line}");
    }
}

#[test]
fn what_has_no_answer_says_why_in_its_row() {
    let library = Library::embedded();
    let stop = AtomicBool::new(false);
    let settings = [setting("context=0,100000000")];
    let csv = sweep(
        &library,
        &CaseOptions::default(),
        &base(),
        &settings,
        &stop,
        || {},
    )
    .expect("it can be");
    let last = csv.lines().last().expect("it has lines");
    assert!(last.contains("keys and values of 1 sequences"), "{last}");
    assert!(
        csv.lines().nth(1).expect("it has lines").ends_with(','),
        "{csv}"
    );
}

#[test]
fn what_cannot_be_set_is_refused_before_anything_runs() {
    let library = Library::embedded();
    let stop = AtomicBool::new(false);
    let refused = |text: &str, part: &str| {
        let settings = [setting("units=0,1"), setting(text)];
        let run = || panic!("something ran");
        let error = sweep(
            &library,
            &CaseOptions::default(),
            &base(),
            &settings,
            &stop,
            run,
        )
        .expect_err(text)
        .to_string();
        assert!(error.contains(part), "{error}");
    };
    refused(
        "batch=1.5",
        "batch is 1.5, but must be a whole number from 1",
    );
    refused("batch=0", "batch is 0");
    refused("units=2", "units is set twice");
    refused("resident=-5", "resident is -5, but must be from 0 to 1e18");
    refused("feed=1e300", "feed is 1e300");
    refused("article.length=-5", "from 0.000001 to 1000000000 km");
    refused("article.size=5", "no figure of article `size`");
    refused("speed=5", "or one of batch, context");
    refused("window=1..1e6:1000000", "2000000 combinations");
}

#[test]
fn a_sweep_can_be_stopped() {
    let stop = AtomicBool::new(true);
    let run = sweep(
        &Library::embedded(),
        &CaseOptions::default(),
        &base(),
        &[],
        &stop,
        || {},
    );
    assert!(matches!(run, Err(SweepError::Stopped)));
}
