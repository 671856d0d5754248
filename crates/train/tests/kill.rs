//! A process that is killed at a random moment, on a real file system.
#![forbid(unsafe_code)]

mod common;

use common::{checked, layout, step};
use delayline_medium::Rng;
use delayline_train::{Error, StateFolder};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const MEMORY: u64 = 256 << 10;

/// Trains until it is killed. Not a test by itself.
#[test]
#[ignore = "the child of the test below"]
fn child() {
    let Ok(path) = std::env::var("STORE") else {
        return;
    };
    let path = Path::new(&path);
    let seed: u64 = std::env::var("LAYOUT").unwrap().parse().unwrap();
    let layout = layout(&mut Rng::new(seed), true);
    let (mut store, mut at) = match StateFolder::exists(path) {
        true => {
            let mut store = StateFolder::open(path, MEMORY).unwrap();
            let at = checked(&mut store).unwrap();
            (store, at)
        }
        false => (StateFolder::create(path, MEMORY, layout).unwrap(), 0),
    };
    let mut out = std::io::stdout();
    loop {
        writeln!(out, "\nafter {at}").unwrap();
        out.flush().unwrap();
        step(&mut store, at + 1).unwrap();
        at += 1;
    }
}

/// The number of kills is `KILLS`, 200 by default.
#[test]
fn a_killed_process_loses_at_most_the_running_step() {
    let kills =
        std::env::var("KILLS").map_or(200, |kills| kills.parse().expect("KILLS is a number"));
    let seed = delayline_testing::seed();
    let rng = &mut Rng::new(seed);
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (mut last, mut stores) = (0, 0);
    for kill in 0..kills {
        if kill % 50 == 0 {
            (last, stores) = (0, stores + 1);
        }
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--ignored", "--nocapture"])
            .env("STORE", dir.path().join(format!("{stores}")))
            .env("LAYOUT", format!("{}", seed + stores))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut first = None;
        let wait = 1 + rng.below(4);
        for line in lines {
            let Some(after) = line
                .unwrap()
                .strip_prefix("after ")
                .map(|n| n.parse::<u64>().unwrap())
            else {
                continue;
            };
            let first = *first.get_or_insert(after);
            if first == after {
                assert!(
                    first == last || first == last + 1,
                    "opened after {first}, acknowledged {last}"
                );
            }
            last = after;
            if after - first >= wait {
                std::thread::sleep(Duration::from_micros(rng.below(3000)));
                child.kill().unwrap();
            }
        }
        assert!(!child.wait().unwrap().success());
        assert!(first.is_some(), "the child never began");
    }
    println!("{kills} kills");
}

#[test]
fn a_folder_belongs_to_one_user_at_a_time() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let layout = layout(&mut Rng::new(1), true);
    let mut store = StateFolder::create(dir.path(), MEMORY, layout).unwrap();
    step(&mut store, 1).unwrap();
    let again = StateFolder::open(dir.path(), MEMORY);
    assert!(matches!(again, Err(Error::InUse { .. })));
    // Another process does not get it either.
    let other = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env("STORE", dir.path())
        .env("LAYOUT", "1")
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&other.stderr);
    assert!(
        !other.status.success() && words.contains("InUse"),
        "{words}"
    );
    drop(store);
    let mut store = StateFolder::open(dir.path(), MEMORY).unwrap();
    assert_eq!(checked(&mut store).unwrap(), 1);
    drop(store);
    std::fs::File::options()
        .write(true)
        .open(dir.path().join("state.1"))
        .unwrap()
        .set_len(4096)
        .unwrap();
    let cut = StateFolder::open(dir.path(), MEMORY).err().unwrap();
    assert!(cut.to_string().contains("cut short"), "{cut}");
}

#[test]
fn a_store_is_not_overwritten_from_its_first_commit_on() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let layout = layout(&mut Rng::new(delayline_testing::seed()), true);
    // An attempt that ended before its first commit is replaced.
    drop(StateFolder::create(dir.path(), MEMORY, layout.clone()).unwrap());
    let mut store = StateFolder::create(dir.path(), MEMORY, layout.clone()).unwrap();
    for number in 1..=3 {
        step(&mut store, number).unwrap();
        drop(store);
        let error = StateFolder::create(dir.path(), MEMORY, layout.clone());
        let error = error.err().unwrap().to_string();
        assert!(error.contains("there is a store already"), "{error}");
        store = StateFolder::open(dir.path(), MEMORY).unwrap();
        assert_eq!(checked(&mut store).unwrap(), number);
    }
    drop(store);
    // A file that cannot be read is not taken for an empty one.
    let records = dir.path().join("commits");
    std::fs::remove_file(&records).unwrap();
    std::fs::create_dir(&records).unwrap();
    let error = StateFolder::create(dir.path(), MEMORY, layout)
        .err()
        .unwrap();
    assert!(
        error.to_string().contains("commits: cannot be read"),
        "{error}"
    );
    assert!(dir.path().join("state.0").exists());
}

#[test]
fn a_damaged_store_is_not_overwritten() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let layout = layout(&mut Rng::new(2), true);
    let mut store = StateFolder::create(dir.path(), MEMORY, layout.clone()).unwrap();
    step(&mut store, 1).unwrap();
    step(&mut store, 2).unwrap();
    drop(store);
    let records = dir.path().join("commits");
    let mut bytes = std::fs::read(&records).unwrap();
    let half = bytes.len() / 2;
    bytes[20] ^= 1;
    bytes[half + 20] ^= 1;
    std::fs::write(&records, &bytes).unwrap();
    assert!(!StateFolder::exists(dir.path()));
    let error = StateFolder::create(dir.path(), MEMORY, layout)
        .err()
        .unwrap();
    assert!(error.to_string().contains("nothing is removed"), "{error}");
    assert_eq!(std::fs::read(&records).unwrap(), bytes);
}
