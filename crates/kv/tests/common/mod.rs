//! Helpers of the store's tests: sequences put into a store and found again, and its files.
#![allow(dead_code, reason = "each test program uses its part")]

use std::fs;
use std::path::{Path, PathBuf};

use delayline_kv::{Namespace, Root, Store};

pub const SIZE: u64 = 1 << 20;

pub fn root() -> Root {
    Root::new(&[b"a model"])
}

/// The bytes put for these tokens; different tokens have different bytes.
pub fn bytes_of(namespace: &[u8], tokens: &[i32]) -> Vec<u8> {
    let mut bytes = namespace.to_vec();
    bytes.extend(tokens.iter().flat_map(|token| token.to_le_bytes()));
    bytes.repeat(3)
}

pub fn put(store: &mut Store, namespace: &[u8], tokens: &[i32]) {
    for block in store.chain(&whose(namespace), tokens) {
        let bytes = bytes_of(namespace, &tokens[..block.range().end]);
        store.put(&block, &bytes).expect("can be written");
    }
}

pub fn whose(namespace: &[u8]) -> Namespace {
    Namespace::new(namespace, b"")
}

/// How many tokens of a sequence are found; asserts that their bytes are right.
pub fn found(store: &mut Store, namespace: &[u8], tokens: &[i32]) -> usize {
    let mut end = 0;
    for block in store.find(&whose(namespace), tokens) {
        let range = block.range();
        assert_eq!(range.start, end);
        let Some(bytes) = store.get(&block) else {
            break;
        };
        // Only the beginning of the last block may match; its bytes contain its tokens.
        let (whose, of) = bytes[..bytes.len() / 3].split_at(namespace.len());
        assert_eq!(whose, namespace);
        let of: Vec<i32> = of
            .as_chunks()
            .0
            .iter()
            .map(|b| i32::from_le_bytes(*b))
            .collect();
        assert_eq!(of.len(), range.end);
        assert!(bytes == bytes_of(namespace, &of), "torn bytes");
        end = common(&of, tokens);
        assert!(end > range.start, "nothing of it is the sequence's");
    }
    end
}

pub fn common(a: &[i32], b: &[i32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

pub fn files(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries
        .filter(|path| {
            path.extension()
                .is_some_and(|end| end == "block" || end == "tail")
        })
        .collect();
    files.sort();
    files
}

/// Sets the time of all files of a folder, which is their last use, to so many hours ago.
pub fn age(path: &Path, hours: u64) {
    let then = std::time::SystemTime::now() - std::time::Duration::from_secs(hours * 3600);
    for file in files(path) {
        let file = fs::File::options().write(true).open(file).unwrap();
        file.set_modified(then).unwrap();
    }
}
