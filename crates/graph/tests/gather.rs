//! Gathered rows are those of the file, whatever the memory, the batches and the drive
//! do; what cannot be gathered is an error.

use delayline_graph::{ElementType, Error, FeatureFile, Features, RowFormat};
use delayline_medium::{FaultSwitch, Faults, Faulty, Rng};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const COLUMNS: u64 = 96;
const ROW: usize = 4 * COLUMNS as usize;

/// The bytes of a row, which follow from its number.
fn row_bytes(row: u32) -> Vec<u8> {
    let number = |column: u32| (row * 1000 + column) as f32;
    (0..COLUMNS as u32)
        .flat_map(|column| number(column).to_le_bytes())
        .collect()
}

fn written(dir: &Path, rows: u32) -> PathBuf {
    let path = dir.join("x.npy");
    let mut bytes = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    let text =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {COLUMNS}), }}");
    bytes.extend(format!("{text:<117}\n").bytes());
    (0..rows).for_each(|row| bytes.extend(row_bytes(row)));
    std::fs::write(&path, bytes).unwrap();
    path
}

fn open(path: &Path, memory: u64) -> Features {
    let file = FeatureFile::open(path, &RowFormat::default()).unwrap();
    assert_eq!((file.columns, file.element), (COLUMNS, ElementType::F32));
    Features::new(file, memory).unwrap()
}

/// Random batches; a tenth of the rows is far more likely.
fn batches(rng: &mut Rng, rows: u32, count: usize, len: u64) -> Vec<Vec<u32>> {
    let row = |rng: &mut Rng| {
        let bound = if rng.chance(0.5) { rows / 10 } else { rows };
        rng.below(u64::from(bound)) as u32
    };
    let batch = |rng: &mut Rng| (0..rng.below(len) + 1).map(|_| row(rng)).collect();
    (0..count).map(|_| batch(rng)).collect()
}

fn check(rows: &[u32], got: &[u8]) {
    for (row, bytes) in rows.iter().zip(got.chunks(ROW)) {
        assert!(bytes == row_bytes(*row), "row {row}");
    }
}

/// Takes and checks all batches, with as many ahead as there is room for. Stops at an
/// error.
fn epoch(features: &mut Features, batches: &[Vec<u32>]) -> Result<usize, Error> {
    let (mut announced, mut taken) = (0, 0);
    while taken < batches.len() {
        while announced < batches.len() && features.wants_more() {
            features.announce(batches[announced].clone(), 0)?;
            announced += 1;
        }
        let mut out = vec![0; features.next_rows().unwrap() * ROW];
        features.take(&mut out)?;
        check(&batches[taken], &out);
        taken += 1;
    }
    features.end();
    Ok(taken)
}

#[test]
fn every_row_is_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = written(dir.path(), 20_000);
    let mut rng = Rng::new(delayline_testing::seed());
    for memory in [1400 << 10, 2 << 20, 6 << 20, 64 << 20] {
        let mut features = open(&path, memory);
        // Some batches are longer than what fits into the smaller memories.
        let batches = batches(&mut rng, 20_000, 40, 6000);
        for _ in 0..2 {
            assert_eq!(epoch(&mut features, &batches).unwrap(), 40);
        }
        let (report, rows) = (
            features.report(),
            batches.iter().map(Vec::len).sum::<usize>(),
        );
        assert_eq!((report.batches, report.rows), (80, 2 * rows as u64));
        assert!(report.rows_missed > 0 && report.bytes_read >= report.reads * 4096);
        if memory == 64 << 20 {
            let distinct: std::collections::HashSet<&u32> = batches.iter().flatten().collect();
            assert_eq!(report.rows_missed, distinct.len() as u64);
        }
    }
}

#[test]
fn an_epoch_that_is_left_early_does_not_affect_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let path = written(dir.path(), 5000);
    let mut rng = Rng::new(delayline_testing::seed());
    let mut features = open(&path, 2 << 20);
    for _ in 0..30 {
        let batches = batches(&mut rng, 5000, 8, 2000);
        for batch in &batches {
            features.announce(batch.clone(), 0).unwrap();
        }
        for batch in &batches[..rng.below(8) as usize] {
            let mut out = vec![0; batch.len() * ROW];
            features.take(&mut out).unwrap();
            check(batch, &out);
        }
        features.end();
        let mut one = vec![0; ROW];
        assert!(matches!(features.take(&mut one), Err(Error::NothingAhead)));
    }
}

#[test]
fn a_drive_that_fails_ends_the_epoch_and_no_wrong_row_is_returned() {
    let dir = tempfile::tempdir().unwrap();
    let path = written(dir.path(), 20_000);
    let mut rng = Rng::new(delayline_testing::seed());
    let passing = Faults {
        delay_polls: 3,
        reorder: true,
        short: 0.05,
        transient: 0.05,
        in_a_row: 3,
        ..Faults::default()
    };
    let (switch, seed) = (FaultSwitch::default(), rng.next_u64());
    let (inner, faults) = (switch.clone(), passing.clone());
    let mut features = open(&path, 3 << 20).through(Box::new(move |flash, memory| {
        let faulty = Faulty::new(flash, faults, seed).spoiling(memory);
        Box::new(faulty.with_switch(inner))
    }));
    let batches = batches(&mut rng, 20_000, 30, 3000);
    assert_eq!(epoch(&mut features, &batches).unwrap(), 30);
    assert!(features.report().retried > 0);
    for round in 0..10 {
        // A range of bytes that cannot be read, in a part of the file that is used.
        let from = rng.below(100) * 70_000;
        switch.set(Faults {
            broken: vec![(0, from..from + 400_000)],
            ..passing.clone()
        });
        match epoch(&mut features, &batches) {
            Err(error @ Error::Read { .. }) => {
                assert!(
                    error.to_string().contains("x.npy: rows could not be read"),
                    "{error}"
                );
            }
            // The whole range may be in memory.
            Ok(taken) => assert_eq!(taken, 30, "{round}"),
            Err(error) => panic!("{error}"),
        }
        switch.set(passing.clone());
        assert_eq!(
            epoch(&mut features, &batches).unwrap(),
            30,
            "a new epoch is as good as any"
        );
    }
    switch.set(Faults {
        broken: vec![(0, 0..u64::MAX / 2)],
        ..Faults::default()
    });
    assert!(matches!(
        epoch(&mut features, &batches),
        Err(Error::Read { .. })
    ));
}

#[test]
fn a_drive_that_loses_a_read_stops_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let path = written(dir.path(), 2000);
    let mut features = open(&path, 2 << 20).through(Box::new(|flash, memory| {
        let faults = Faults {
            hung: 1.0,
            ..Faults::default()
        };
        Box::new(Faulty::new(flash, faults, 1).spoiling(memory))
    }));
    let mut out = vec![0; ROW];
    let lost = features.gather(vec![7], &mut out).unwrap_err();
    assert!(matches!(lost, Error::Line(_)), "{lost}");
    assert!(matches!(
        features.gather(vec![7], &mut out),
        Err(Error::Stopped)
    ));
}

#[test]
fn a_file_that_changes_is_not_read_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let path = written(dir.path(), 5000);
    let old = std::fs::File::options().write(true).open(&path).unwrap();
    let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1);
    old.set_modified(long_ago).unwrap();
    let mut features = open(&path, 2 << 20);
    let mut out = vec![0; ROW];
    features.gather(vec![7], &mut out).unwrap();
    let mut file = &old;
    file.seek(SeekFrom::Start(1 << 20)).unwrap();
    file.write_all(&[1]).unwrap();
    // Also for rows in memory, because they are of the old file.
    for row in [7, 4000, 7] {
        let error = features.gather(vec![row], &mut out).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("has changed since it was opened"),
            "{error}"
        );
    }
    old.set_len(1000).unwrap();
    let error = features.gather(vec![8], &mut out).unwrap_err();
    assert!(matches!(error, Error::Changed { .. }), "{error}");
}

#[test]
fn what_cannot_be_gathered_is_refused_with_a_message() {
    let dir = tempfile::tempdir().unwrap();
    let path = written(dir.path(), 100);
    let file = || FeatureFile::open(&path, &RowFormat::default()).unwrap();
    let small = Features::new(file(), 100 << 10).err().unwrap().to_string();
    assert!(
        small.contains("too small for rows of 384 bytes: allow at least"),
        "{small}"
    );
    let need: u64 = small.rsplit(' ').next().unwrap().parse().unwrap();
    let mut features = Features::new(file(), need).unwrap();
    let row = features.announce(vec![3, 100], 0).unwrap_err().to_string();
    assert_eq!(
        row,
        "row 100 is asked for, but the features have 100 rows (0 to 99)"
    );
    let mut out = vec![0; ROW];
    assert!(matches!(features.take(&mut out), Err(Error::NothingAhead)));
    features.announce(vec![3, 4], 0).unwrap();
    assert!(matches!(features.take(&mut out), Err(Error::Buffer { .. })));
    assert!(matches!(
        features.gather(vec![1], &mut out),
        Err(Error::Busy)
    ));
    let expected = features.expect(&[1.0; 99]).unwrap_err().to_string();
    assert!(expected.contains("of 99 rows"), "{expected}");
    // A batch without rows is allowed.
    let mut features = Features::new(file(), need).unwrap();
    features.gather(Vec::new(), &mut []).unwrap();
}

#[test]
fn a_read_with_wrong_bytes_is_retried_and_then_fails() {
    let dir = tempfile::tempdir().unwrap();
    let path = written(dir.path(), 20_000);
    let mut rng = Rng::new(delayline_testing::seed());
    let (switch, seed) = (FaultSwitch::default(), rng.next_u64());
    let inner = switch.clone();
    let mut features = open(&path, 3 << 20).through(Box::new(move |flash, memory| {
        let faulty = Faulty::new(flash, Faults::default(), seed).spoiling(memory);
        Box::new(faulty.with_switch(inner))
    }));
    // All rows are read correctly once.
    let all: Vec<Vec<u32>> = (0..20)
        .map(|n| (n * 1000..n * 1000 + 1000).collect())
        .collect();
    assert_eq!(epoch(&mut features, &all).unwrap(), 20);
    let batches = batches(&mut rng, 20_000, 30, 3000);
    let lies = |share: f64| Faults {
        flipped: share,
        zeroed: share,
        misplaced: share,
        ..Faults::default()
    };
    let mut retried = features.report().retried;
    switch.set(lies(0.01));
    // `epoch` checks each row.
    match epoch(&mut features, &batches) {
        Ok(taken) => assert_eq!(taken, 30),
        Err(error) => assert!(matches!(error, Error::Read { .. }), "{error}"),
    }
    assert!(features.report().retried > retried);
    for share in [0.3, 1.0] {
        switch.set(lies(share));
        let error = epoch(&mut features, &batches).unwrap_err();
        assert!(matches!(error, Error::Read { .. }), "{error}");
        let why = std::error::Error::source(&error).unwrap().to_string();
        assert!(why.contains("other bytes came than are known"), "{why}");
        switch.set(Faults::default());
        assert_eq!(epoch(&mut features, &batches).unwrap(), 30);
    }
    retried = features.report().retried;
    assert_eq!(epoch(&mut features, &batches).unwrap(), 30);
    assert_eq!(features.report().retried, retried);
}
