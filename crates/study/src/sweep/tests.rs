//! Settings as they are typed, and sweeps of few rows.

use super::*;
use std::sync::atomic::AtomicUsize;

fn setting(text: &str) -> Setting {
    text.parse().expect(text)
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
    let settings = [setting("article.length=200,400km"), setting("batch=1,2,4")];
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
    assert!(lines[0].starts_with("article.length [km],batch,units,lap_s,"));
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
    refused("resident=-5GB", "must be from 0 to 1e18");
    refused("feed=1e300B/s", "feed is 1e300");
    refused("feed=8", "needs one of the units");
    refused("article.length=-5km", "from 0.001 to 100000000 km");
    refused("article.size=5", "no figure of article `size`");
    refused("speed=5", "or one of batch, context");
    refused("window=1..1e6B:1000000", "2000000 combinations");
}

/// What makes no difference is no column.
#[test]
fn a_setting_without_effect_is_refused() {
    let library = Library::embedded();
    let run = |settings: &[Setting]| {
        let stop = AtomicBool::new(false);
        sweep(
            &library,
            &CaseOptions::default(),
            &base(),
            settings,
            &stop,
            || {},
        )
    };
    for settings in [
        vec![setting("dram.price=1,2$/GB"), setting("batch=1,2")],
        vec![setting("batch=1,2"), setting("dram.price=1,2$/GB")],
        vec![setting("dram.price=1$/GB")],
    ] {
        let error = run(&settings).expect_err("it does nothing").to_string();
        assert!(error.contains("dram.price changes no figure"), "{error}");
    }
    run(&[setting("batch=1,2"), setting("units=0,3")]).expect("both do something");
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

#[test]
fn of_rows_that_are_equally_good_the_first_is_the_best() {
    let best = |rows: &str| super::best_row(&format!("set,tokens_per_s\n{rows}"));
    assert_eq!(best("1,2\n2,5\n3,5\n4,1"), Some(1));
    assert_eq!(best("1,\n2,too small"), None);
    assert_eq!(best(""), None);
}
