//! A model file whose content changes while it is open ends the lap; one whose name is
//! replaced or removed goes on unchanged.

mod common;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use common::{Steps, alone, assert_same, logits, options, scratch, streamed, synth};
use delayline_engine::{Class, Error, Way};
use delayline_llama::LlamaEngine;
use delayline_synth::Quant;

const PROMPT: [i32; 20] = [
    5, 80, 9, 200, 44, 3, 71, 150, 20, 90, 6, 33, 100, 8, 250, 17, 60, 42, 12, 7,
];

/// A model with an old modification time, so that a change cannot fall into the same tick of
/// the file system's clock.
fn old_model(dir: &Path, shape: &str) -> PathBuf {
    let path = synth(dir, shape, Quant::Q4_0);
    writable(&path)
        .set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000))
        .unwrap();
    path
}

fn writable(path: &Path) -> File {
    File::options().read(true).write(true).open(path).unwrap()
}

/// Applies `change` to the model after its first lap and expects the next lap to end with an
/// error that names the file and contains `what`.
fn check_changed(extra: u64, what: &str, change: impl Fn(&Path)) {
    let (_alone, dir) = (alone(), scratch());
    for shape in ["tiny-llama", "tiny-mixtral"] {
        let path = old_model(dir.path(), shape);
        let mut engine = streamed(&path, extra, &options(Way::Auto));
        engine
            .step(&PROMPT[..16], 0, true, Some(Class::Single))
            .expect("nothing has changed yet");
        change(&path);
        for attempt in 0..2 {
            let error = engine
                .step(&[1], 16, true, Some(Class::Single))
                .expect_err("it has changed");
            let message = error.to_string();
            assert!(
                message.contains(what),
                "{shape}, attempt {attempt}: {message}"
            );
            match error {
                Error::Changed { path: named, .. } => assert_eq!(named, path),
                other => panic!("{shape}, attempt {attempt}: {other}"),
            }
            assert!(
                engine.logits().is_none(),
                "{shape}: what it computed is not given"
            );
        }
    }
}

#[test]
fn a_file_that_shrinks_ends_the_lap() {
    let half = |path: &Path| {
        let file = writable(path);
        file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    };
    check_changed(0, "length", half);
    check_changed(1 << 30, "length", half);
    check_changed(0, "length", |path| writable(path).set_len(0).unwrap());
}

#[test]
fn a_file_that_grows_ends_the_lap() {
    check_changed(0, "length", |path| {
        let file = writable(path);
        file.set_len(file.metadata().unwrap().len() + 1).unwrap();
    });
}

#[test]
fn a_file_that_is_written_to_ends_the_lap() {
    let overwrite = |path: &Path| {
        let file = writable(path);
        let middle = file.metadata().unwrap().len() / 2;
        file.write_all_at(&[0; 4096], middle).unwrap();
    };
    check_changed(0, "written", overwrite);
    check_changed(1 << 30, "written", overwrite);
}

#[test]
fn a_file_that_is_only_touched_ends_the_lap() {
    check_changed(0, "written", |path| {
        writable(path).set_modified(SystemTime::now()).unwrap()
    });
}

#[test]
fn another_part_of_a_split_model_counts_too() {
    let (_alone, dir) = (alone(), scratch());
    let shape = delayline_synth::shape("tiny-llama").unwrap();
    let out = dir.path().join("split.gguf");
    let parts = delayline_synth::write_split(&shape, Quant::Q8_0, 1, 3, &out, &mut |_, _| {})
        .unwrap()
        .paths;
    let mut engine = streamed(&parts[0], 0, &options(Way::Auto));
    engine
        .step(&PROMPT[..16], 0, true, None)
        .expect("nothing has changed yet");
    writable(&parts[2]).set_len(5000).unwrap();
    match engine.step(&[1], 16, true, None) {
        Err(Error::Changed { path, .. }) => assert_eq!(path, parts[2]),
        other => panic!("{other:?}"),
    }
}

/// Applies `change` to the model's name after the first lap, and expects the logits of the
/// file that was opened.
fn check_goes_on(change: impl Fn(&Path)) {
    let (_alone, dir) = (alone(), scratch());
    for shape in ["tiny-llama", "tiny-mixtral"] {
        let path = old_model(dir.path(), shape);
        let open = || streamed(&path, 0, &options(Way::Auto));
        let run = |engine: &mut LlamaEngine| logits(engine, &PROMPT, 4);
        let expected = run(&mut open());
        let mut engine = open();
        engine.step(&PROMPT[..16], 0, true, None).expect("a lap");
        assert!(engine.backend_mut().context_mut().truncate(0));
        change(&path);
        assert_same(shape, &run(&mut engine), &expected);
        drop(engine);
        let _ = fs::remove_file(&path);
    }
}

#[test]
fn a_file_that_is_renamed_over_goes_on() {
    check_goes_on(|path| {
        let other = path.with_extension("new");
        fs::write(&other, b"something else").unwrap();
        fs::rename(&other, path).unwrap();
    });
}

#[test]
fn a_file_that_is_removed_goes_on() {
    check_goes_on(|path| fs::remove_file(path).unwrap());
}
