//! A folder into which somebody else has put what is no block: files of any length, pipes,
//! links, devices, and what cannot be removed. Nothing waits, and nothing is taken in.

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use common::{SIZE, files, found, put, root};
use delayline_kv::{BLOCK_TOKENS, Namespace, Store, clear, stat, verify};
use rustix::fs::{CWD, FileType, Mode, mknodat};

type Put = fn(&Path);

/// What may stand in a file's place, and how it is put there.
const ODD: [(&str, Put); 4] = [
    ("a pipe", |path| {
        mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).expect("a pipe");
    }),
    ("a link to a device", |path| {
        symlink("/dev/zero", path).expect("a link");
    }),
    ("a link to a file", |path| {
        let other = path.with_extension("other");
        fs::write(&other, "not yours").expect("a file");
        symlink(other, path).expect("a link");
    }),
    ("a folder", |path| {
        fs::create_dir_all(path.join("full")).expect("a folder");
    }),
];

fn tokens() -> Vec<i32> {
    (0..150).collect()
}

#[test]
fn what_is_no_file_is_no_block_and_is_not_waited_for() {
    for (name, make) in ODD {
        println!("{name}");
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path(), SIZE, root()).unwrap();
        put(&mut store, b"", &tokens());
        let all = files(dir.path());
        for path in &all {
            fs::remove_file(path).unwrap();
            make(path);
        }
        assert_eq!(found(&mut store, b"", &tokens()), 0, "{name}");
        drop(store);
        let mut store = Store::open(dir.path(), SIZE, root()).unwrap();
        assert_eq!((store.blocks(), store.bytes()), (0, 0), "{name}");
        // A place that is taken is an error of the system, or is free again.
        for block in store.chain(&Namespace::default(), &tokens()) {
            let _ = store.put(&block, b"bytes");
        }
        drop(store);
        assert!(verify(dir.path()).unwrap().damaged.is_empty(), "{name}");
        for path in &all {
            let other = path.with_extension("other");
            assert!(!other.exists() || fs::read_to_string(other).unwrap() == "not yours");
        }
    }
}

#[test]
fn the_own_files_of_a_folder_are_files() {
    for (name, make) in ODD {
        for own in ["delayline-kv", "lock", "wear"] {
            let dir = tempfile::tempdir().unwrap();
            drop(Store::open(dir.path(), SIZE, root()).unwrap());
            let path = dir.path().join(own);
            fs::remove_file(&path).unwrap();
            make(&path);
            let opened = Store::open(dir.path(), SIZE, root());
            let error = opened.expect_err(name).to_string();
            assert!(error.contains(dir.path().to_str().unwrap()), "{error}");
            let other = path.with_extension("other");
            assert!(!other.exists() || fs::read_to_string(other).unwrap() == "not yours");
            // Nor do the commands wait.
            let _ = (stat(dir.path()), clear(dir.path()));
        }
    }
}

#[test]
fn a_file_that_is_longer_than_any_block_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path(), 1 << 40, root()).unwrap();
    store.limit_blocks(64 << 10);
    put(&mut store, b"", &tokens());
    let read = |store: &mut Store| {
        let before = store.stats().read_bytes;
        let found = found(store, b"", &tokens());
        (found, store.stats().read_bytes - before)
    };
    let (all, bytes) = read(&mut store);
    assert!(all == 150 && bytes < 64 << 10, "{all}, {bytes}");
    let longer = &files(dir.path())[0];
    let file = fs::File::options().write(true).open(longer).unwrap();
    file.set_len(200 << 20).unwrap();
    let (some, read_bytes) = read(&mut store);
    assert!(some < 150 && read_bytes <= bytes, "{some}, {read_bytes}");
    assert_eq!(store.stats().rejected, 1);
    assert!(!longer.exists(), "it is removed");
}

/// The file of an evicted block cannot be removed: its room is not given away.
#[test]
fn what_cannot_be_removed_takes_room() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path(), 64 << 10, root()).unwrap();
    for text in 0..16 {
        put(&mut store, b"", &[text; BLOCK_TOKENS]);
    }
    assert_eq!((store.blocks(), store.bytes()), (16, 64 << 10));
    for path in files(dir.path()) {
        fs::remove_file(&path).unwrap();
        fs::create_dir_all(path.join("full")).unwrap();
    }
    let chain = store.chain(&Namespace::default(), &[99; BLOCK_TOKENS]);
    assert_eq!(store.put(&chain[0], b"new").ok(), Some(false));
    assert!(!store.writes());
    let told = store.trouble().expect("it is told");
    assert!(told.contains("cannot remove"), "{told}");
    assert_eq!(files(dir.path()).len(), 16, "nothing new");
}
