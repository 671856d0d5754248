//! What a store changes in its folder: bytes a day, nothing when it only reads, and the modes
//! of files.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{SIZE, age, files, found, put, root, whose};
use delayline_kv::{BLOCK_TOKENS, Store, StoreError, stat};

#[test]
fn no_more_is_written_in_a_day_than_was_said_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let text = |n: i32| vec![n; 3 * BLOCK_TOKENS];
    let put = |store: &mut Store, n: i32| -> Vec<bool> {
        let chain = store.chain(&whose(b""), &text(n));
        let put = chain.iter().map(|block| store.put(block, &[1; 5000]));
        put.map(Result::unwrap).collect()
    };
    let open = |blocks: u64| {
        let mut store = Store::open(dir.path(), SIZE, root()).unwrap();
        store.limit_a_day(blocks * 8192);
        store
    };
    let mut store = open(4);
    assert_eq!(put(&mut store, 1), [true; 3]);
    assert!(store.writes());
    assert_eq!(put(&mut store, 2), [true, false, false]);
    assert!(!store.writes());
    assert_eq!(put(&mut store, 1), [true; 3], "they are there");
    assert_eq!(
        (store.written_today(), store.stats().deferred),
        (4 * 8192, 2)
    );
    drop(store);
    // A new process continues the count; with a higher limit it writes more.
    let mut store = open(4);
    assert_eq!(put(&mut store, 2), [true, false, false]);
    drop(store);
    let mut store = open(5);
    assert_eq!(put(&mut store, 2), [true, true, false]);
    drop(store);
    assert_eq!(stat(dir.path()).unwrap().written_today, Some(5 * 8192));
    // The count of another day does not count today.
    fs::write(dir.path().join("wear"), format!("{:>10} {:>20}\n", 3, 99)).unwrap();
    let mut store = open(1);
    assert_eq!(store.written_today(), 0);
    assert_eq!(put(&mut store, 2), [true; 3]);
    assert_eq!(put(&mut store, 4), [false; 3]);
    drop(store);
    // If the count cannot be read, the limit counts as reached.
    fs::write(dir.path().join("wear"), "4 or 5, who knows").unwrap();
    assert_eq!(stat(dir.path()).unwrap().written_today, None);
    assert_eq!(put(&mut open(1 << 20), 4), [false; 3]);
    // Without a limit it writes.
    let mut store = Store::open(dir.path(), SIZE, root()).unwrap();
    assert_eq!(put(&mut store, 4), [true; 3]);
}

/// Names, lengths, times and modes of a folder and all its files.
fn state(path: &Path) -> Vec<(PathBuf, u64, i64, i64, u32)> {
    use std::os::unix::fs::MetadataExt;
    let entries = fs::read_dir(path).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.push(path.to_owned());
    paths.sort();
    let state = |path: PathBuf| {
        let meta = fs::metadata(&path).unwrap();
        let times = [
            meta.mtime() * 1_000_000_000 + meta.mtime_nsec(),
            meta.ctime() * 1_000_000_000 + meta.ctime_nsec(),
        ];
        (path, meta.len(), times[0], times[1], meta.mode())
    };
    paths.into_iter().map(state).collect()
}

#[test]
fn a_folder_that_is_only_read_is_never_changed() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let (text, torn) = (vec![1; 150], vec![2; 64]);
    let mut store = Store::open(dir.path(), SIZE, root()).unwrap();
    put(&mut store, b"", &text);
    put(&mut store, b"", &torn);
    let bad = store.chain(&whose(b""), &torn).remove(0);
    drop(store);
    age(dir.path(), 5);
    let half = files(dir.path())[0].with_extension("block.new");
    fs::write(half, "half").unwrap();
    let torn_file = files(dir.path())
        .into_iter()
        .find(|path| {
            let mut store = Store::open_read_only(dir.path(), root()).unwrap();
            let own = store.get(&bad).expect("whole");
            fs::read(path).unwrap().ends_with(&own)
        })
        .expect("its file");
    let mut bytes = fs::read(&torn_file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&torn_file, bytes).unwrap();
    for entry in fs::read_dir(dir.path()).unwrap() {
        let readable = fs::Permissions::from_mode(0o444);
        fs::set_permissions(entry.unwrap().path(), readable).unwrap();
    }
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o555)).unwrap();
    let before = state(dir.path());
    // Two readers at once.
    let mut both = [(); 2].map(|()| Store::open_read_only(dir.path(), root()).unwrap());
    for store in &mut both {
        assert_eq!(found(store, b"", &text), 150);
        assert!(!store.writes());
        let new = store.chain(&whose(b""), &[3; 64]).remove(0);
        assert!(!store.put(&new, b"bytes").unwrap());
        assert!(store.find(&whose(b""), &[3; 64]).is_empty());
        assert_eq!(store.get(&bad), None);
        assert_eq!(store.stats().rejected, 1);
        assert_eq!(store.forget(&whose(b"")), 0);
        assert_eq!(found(store, b"", &text), 0, "not by this process");
        assert_eq!((store.stats().written, store.trouble()), (0, None));
    }
    drop(both);
    assert_eq!(state(dir.path()), before);
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let writer = Store::open(dir.path(), SIZE, root()).unwrap();
    let mut reader = Store::open_read_only(dir.path(), root()).unwrap();
    assert_eq!(found(&mut reader, b"", &text), 150);
    drop(writer);
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("thesis.txt"), "years of work").unwrap();
    let error = Store::open_read_only(other.path(), root()).unwrap_err();
    assert!(matches!(error, StoreError::NotOurs { .. }), "{error}");
    let gone = Store::open_read_only(&other.path().join("gone"), root()).unwrap_err();
    assert!(matches!(gone, StoreError::Io { .. }), "{gone}");
}

#[test]
fn what_is_kept_is_for_its_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("made/by/it");
    let mut store = Store::open(&folder, SIZE, root()).unwrap();
    put(&mut store, b"", &[1; 100]);
    let all = state(&folder);
    assert!(all.len() > 4);
    for (path, .., mode) in all {
        assert_eq!(mode & 0o077, 0, "{}", path.display());
    }
}
