//! What a store guarantees, whatever happens to its files.

mod common;

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{SIZE, age, files, found, put, root};
use delayline_kv::{
    BLOCK_TOKENS, ContentCache, Namespace, Root, Store, StoreError, clear, prune, stat, verify,
};
use delayline_medium::Rng;

#[test]
fn what_was_put_is_found_again_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let tokens: Vec<i32> = (0..200).collect();
    let mut store = Store::open(dir.path(), SIZE, root()).unwrap();
    put(&mut store, b"me", &tokens);
    for _ in 0..2 {
        assert_eq!(found(&mut store, b"me", &tokens), 200);
        assert_eq!(
            found(&mut store, b"me", &tokens[..150]),
            150,
            "a whole block is not cut"
        );
        assert_eq!(found(&mut store, b"you", &tokens), 0);
        let mut longer = tokens.clone();
        longer.extend([7; 100]);
        assert_eq!(found(&mut store, b"me", &longer), 200);
        let mut other = tokens.clone();
        other[70] = -1;
        assert_eq!(found(&mut store, b"me", &other), 70);
        other = tokens.clone();
        other[195] = -1;
        assert_eq!(found(&mut store, b"me", &other), 195);
        drop(store);
        store = Store::open(dir.path(), SIZE, root()).unwrap();
    }
    drop(store);
    let mut other = Store::open(dir.path(), SIZE, Root::new(&[b"another model"])).unwrap();
    assert_eq!(found(&mut other, b"me", &tokens), 0);
}

/// `MUTATIONS=n` sets how many changes are tried.
#[test]
fn files_that_were_changed_are_misses() {
    let many = std::env::var("MUTATIONS").map_or(10_000, |n| n.parse().expect("a number"));
    let mut rng = Rng::new(delayline_testing::seed());
    // In memory if possible, because thousands of files are written.
    let dir = tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap();
    let texts: Vec<Vec<i32>> = (0..3)
        .map(|n| (0..150).map(|at| at / (n + 1)).collect())
        .collect();
    let mut store = Store::open(dir.path(), SIZE, root()).unwrap();
    texts.iter().for_each(|text| put(&mut store, b"", text));
    drop(store);
    let whole: Vec<(PathBuf, Vec<u8>)> = files(dir.path())
        .into_iter()
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    let (mut rejected, mut store) = (0, Store::open(dir.path(), SIZE, root()).unwrap());
    for n in 0..many {
        let (path, bytes) = &whole[rng.below(whole.len() as u64) as usize];
        let mut damaged = bytes.clone();
        match rng.below(4) {
            0 => damaged.truncate(rng.below(bytes.len() as u64) as usize),
            1 => damaged.extend([0; 8]),
            // Another block's file under this name.
            2 => damaged = whole[rng.below(whole.len() as u64) as usize].1.clone(),
            _ => {
                let bit = rng.below(8 * bytes.len() as u64);
                damaged[(bit / 8) as usize] ^= 1 << (bit % 8);
            }
        }
        let same = damaged == *bytes;
        fs::write(path, &damaged).unwrap();
        for text in &texts {
            let got = found(&mut store, b"", text);
            assert!(got <= text.len());
        }
        if store.stats().rejected > 0 || n % 50 == 49 {
            rejected += store.stats().rejected;
            drop(store);
            whole
                .iter()
                .for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
            store = Store::open(dir.path(), SIZE, root()).unwrap();
        } else if !same {
            fs::write(path, bytes).unwrap();
        }
    }
    assert!(rejected > many / 4, "{rejected} of {many}");
    for text in &texts {
        assert_eq!(found(&mut store, b"", text), text.len());
    }
}

#[test]
fn the_size_is_kept_also_across_restarts() {
    let mut rng = Rng::new(delayline_testing::seed());
    let dir = tempfile::tempdir().unwrap();
    let on_disk = || -> u64 {
        let sizes = files(dir.path())
            .into_iter()
            .map(|p| fs::metadata(p).unwrap().len());
        sizes.map(|len| len.next_multiple_of(4096)).sum()
    };
    for size in [64 << 10, 200 << 10, 128 << 10] {
        let mut store = Store::open(dir.path(), size, root()).unwrap();
        assert!(on_disk() <= size);
        for _ in 0..60 {
            let start = rng.below(20) as i32;
            let len = 1 + rng.below(300) as usize;
            let tokens: Vec<i32> = (start..).take(len).collect();
            put(&mut store, b"", &tokens);
            assert!(on_disk() <= size && store.bytes() == on_disk());
            found(&mut store, b"", &tokens);
        }
        assert!(store.stats().evicted > 0);
    }
}

#[test]
fn what_was_used_longest_ago_goes_first_also_after_a_restart() {
    let texts: Vec<Vec<i32>> = (0..4).map(|n| vec![n; 3 * BLOCK_TOKENS]).collect();
    let filled = || {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path(), SIZE, root()).unwrap();
        for text in &texts {
            put(&mut store, b"", text);
        }
        age(dir.path(), 5);
        // Put long ago, and used now.
        assert_eq!(found(&mut store, b"", &texts[2]), 3 * BLOCK_TOKENS);
        let bytes = store.bytes();
        (dir, bytes)
    };
    // Of the text that was used all is left; of each other one a beginning or nothing.
    let left = |dir: &Path, blocks: usize| {
        let mut store = Store::open(dir, SIZE, root()).unwrap();
        let left: Vec<usize> = texts
            .iter()
            .map(|text| found(&mut store, b"", text))
            .collect();
        assert_eq!(
            left.iter().sum::<usize>(),
            blocks * BLOCK_TOKENS,
            "{left:?}"
        );
        assert_eq!(left[2], 3 * BLOCK_TOKENS, "{left:?}");
    };
    for blocks in 3..=12 {
        let (dir, bytes) = filled();
        let removed = prune(dir.path(), bytes / 12 * blocks as u64).unwrap();
        assert_eq!(removed, 12 - blocks);
        left(dir.path(), blocks);
    }
    let (dir, _) = filled();
    let least = 64 << 10;
    let mut store = Store::open(dir.path(), least, root()).unwrap();
    let new: Vec<i32> = vec![9; 3 * BLOCK_TOKENS];
    for block in store.chain(&Namespace::default(), &new) {
        store.put(&block, &[0; 10_000]).unwrap();
    }
    assert!(store.stats().evicted > 0);
    assert!(new.len() == store.find(&Namespace::default(), &new).len() * BLOCK_TOKENS);
    assert_eq!(found(&mut store, b"", &texts[2]), 3 * BLOCK_TOKENS);
}

/// A process that ends between any two steps of a write leaves such files.
#[test]
fn what_is_left_half_written_is_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let tokens: Vec<i32> = (0..150).collect();
    let mut store = Store::open(dir.path(), SIZE, root()).unwrap();
    put(&mut store, b"", &tokens);
    drop(store);
    for path in files(dir.path()) {
        let bytes = fs::read(&path).unwrap();
        for len in (0..bytes.len()).step_by(97) {
            fs::write(path.with_extension("block.new"), &bytes[..len]).unwrap();
            let mut store = Store::open(dir.path(), SIZE, root()).unwrap();
            assert_eq!(found(&mut store, b"", &tokens), 150);
            assert!(!path.with_extension("block.new").exists());
        }
    }
}

#[test]
fn random_sequences_are_found_as_far_as_they_were_put() {
    let mut rng = Rng::new(delayline_testing::seed());
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path(), 64 << 20, root()).unwrap();
    // All beginnings that were put, in whole blocks, with their namespace.
    let mut known: HashSet<(u8, Vec<i32>)> = HashSet::new();
    for _ in 0..400 {
        let namespace = rng.below(2) as u8;
        let len = 1 + rng.below(4 * BLOCK_TOKENS as u64) as usize;
        let mut tokens = vec![0; len];
        // Few different texts, so that many begin alike.
        for block in tokens.chunks_mut(BLOCK_TOKENS) {
            block.fill(rng.below(3) as i32);
        }
        let end = found(&mut store, &[namespace], &tokens);
        let mut whole = 0;
        while whole + BLOCK_TOKENS <= len
            && known.contains(&(namespace, tokens[..whole + BLOCK_TOKENS].to_vec()))
        {
            whole += BLOCK_TOKENS;
        }
        assert!(
            end >= whole && end <= len,
            "{end} of {len}, {whole} were put"
        );
        put(&mut store, &[namespace], &tokens);
        for blocks in 1..=len / BLOCK_TOKENS {
            known.insert((namespace, tokens[..blocks * BLOCK_TOKENS].to_vec()));
        }
        assert_eq!(found(&mut store, &[namespace], &tokens), len);
    }
}

#[test]
fn a_folder_that_is_not_ours_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("thesis.txt"), "years of work").unwrap();
    let error = Store::open(dir.path(), SIZE, root()).unwrap_err();
    assert!(matches!(error, StoreError::NotOurs { .. }), "{error}");
    assert!(clear(dir.path()).is_err() && stat(dir.path()).is_err());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);

    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(
        Store::open(dir.path(), 100, root()),
        Err(StoreError::TooSmall { .. })
    ));
    let mut store = Store::open(dir.path(), SIZE, root()).unwrap();
    put(&mut store, b"", &[1; 70]);
    let second = Store::open(dir.path(), SIZE, root()).unwrap_err();
    assert!(matches!(second, StoreError::InUse { .. }), "{second}");
    assert!(clear(dir.path()).is_err(), "it is in use");
    assert!(prune(dir.path(), 1).is_err(), "it is in use");
    drop(store);
    assert_eq!(
        (
            stat(dir.path()).unwrap().blocks,
            stat(dir.path()).unwrap().tails
        ),
        (2, 1)
    );
    fs::write(&files(dir.path())[0], "no block").unwrap();
    assert_eq!(verify(dir.path()).unwrap().damaged.len(), 1);
    assert_eq!(clear(dir.path()).unwrap(), 2);
    fs::write(dir.path().join("delayline-kv"), "2\n").unwrap();
    let later = Store::open(dir.path(), SIZE, root()).unwrap_err();
    assert!(
        matches!(later, StoreError::Later { found: 2, .. }),
        "{later}"
    );
}

/// The system takes the first bytes of a long file and refuses the rest, as a full disk does:
/// the test runs in a process with a limit on the length of files.
#[test]
fn a_full_disk_is_told_once_and_nothing_fails() {
    const NO_ROOM: &str = "DELAYLINE_TEST_NO_ROOM";
    if std::env::var_os(NO_ROOM).is_none() {
        let limited = "trap '' XFSZ; ulimit -f 64; exec \"$0\" --exact --nocapture \
                       a_full_disk_is_told_once_and_nothing_fails";
        let program = std::env::current_exe().unwrap();
        let mut shell = Command::new("sh");
        let shell = shell.args(["-c", limited]).arg(program).env(NO_ROOM, "1");
        let output = shell.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("told: "), "{said}");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path(), SIZE, root()).unwrap();
    put(&mut store, b"", &[1; 64]);
    let chain = store.chain(&Namespace::default(), &[2; 200]);
    assert!(store.put(&chain[0], &[7; 200_000]).is_err());
    let told = store.trouble().expect("it is told");
    println!("told: {told}");
    assert!(told.contains("cannot write") && store.trouble().is_none());
    assert!(!store.writes());
    assert_eq!(
        store.put(&chain[1], b"x").ok(),
        Some(false),
        "no second try"
    );
    // What was there before is there, and of the file that had no room nothing is.
    assert_eq!(found(&mut store, b"", &[1; 64]), 64);
    assert_eq!(found(&mut store, b"", &[2; 200]), 0);
    let left = fs::read_dir(dir.path()).unwrap();
    let left = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(!left.into_iter().any(|name| name.ends_with(".new")));
    assert_eq!(store.stats().failed, 1);
}

#[test]
fn a_folder_that_disappears_is_told_once_and_nothing_fails() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path(), SIZE, root()).unwrap();
    put(&mut store, b"", &[1; 64]);
    // As when a drive is pulled.
    fs::remove_dir_all(dir.path()).unwrap();
    let chain = store.chain(&Namespace::default(), &[2; 200]);
    assert!(store.put(&chain[0], b"x").is_err());
    assert!(store.trouble().is_some() && store.trouble().is_none());
    assert!(store.put(&chain[1], b"x").is_ok(), "it does not try again");
    assert_eq!(found(&mut store, b"", &[1; 64]), 0);
}

#[test]
fn the_hash_of_a_model_is_read_once_and_sees_every_change() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m");
    fs::write(&path, vec![5; 100_000]).unwrap();
    let cache = ContentCache::new(dir.path().join("cache"));
    let paths = [path.clone()];
    let mut reads = 0;
    let ask = |reads: &mut u32| {
        cache
            .content_of(&paths, &mut |_| {
                *reads += 1;
                true
            })
            .unwrap()
    };
    let first = ask(&mut reads);
    let once = reads;
    assert!(once > 0 && ask(&mut reads) == first && reads == once);
    // One byte is changed, and the mtime set back.
    let times = fs::metadata(&path).unwrap().modified().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[77_777] ^= 1;
    fs::write(&path, bytes).unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(times).unwrap();
    assert!(ask(&mut reads) != first && reads > once);
    let stopped = ContentCache::new(dir.path().join("other")).content_of(&paths, &mut |_| false);
    assert_eq!(stopped.unwrap_err().kind(), std::io::ErrorKind::Interrupted);
}

#[test]
fn what_is_forgotten_of_one_owner_stays_of_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path(), SIZE, root()).unwrap();
    let text: Vec<i32> = (0..150).collect();
    let all = [("me", ""), ("me", "salt"), ("you", ""), ("you", "salt")];
    let all = all.map(|(owner, salt)| Namespace::new(owner.as_bytes(), salt.as_bytes()));
    for namespace in &all {
        for block in store.chain(namespace, &text) {
            store.put(&block, b"bytes").unwrap();
        }
    }
    let left = |store: &mut Store| all.map(|whose| store.find(&whose, &text).len());
    assert_eq!(left(&mut store), [3; 4]);
    assert_eq!(store.forget(&all[1]), 6);
    assert_eq!(left(&mut store), [0, 0, 3, 3]);
    assert_eq!(store.forget(&all[0]), 0);
    drop(store);
    let mut store = Store::open(dir.path(), SIZE, root()).unwrap();
    assert_eq!(left(&mut store), [0, 0, 3, 3]);
    assert_eq!((files(dir.path()).len(), store.blocks()), (6, 6));
}
