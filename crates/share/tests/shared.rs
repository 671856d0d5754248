//! A store that several machines share, over a folder, over memory, and over stores with
//! changed contents, failures and hangs.

mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::{Adverse, Machine, SECRET, bytes_of, link, objects, root, store_at, text};
use delayline_kv::{BLOCK_TOKENS, Namespace, Root, ShareLink, ShareSecret, StoreError};
use delayline_medium::Rng;
use delayline_share::SharedPlace;
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path;

const SIZE: u64 = 1 << 30;

#[test]
fn what_one_server_has_computed_another_finds() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(InMemory::new());
    let places: [&dyn Fn() -> SharedPlace; 2] = [
        &|| SharedPlace::open(folder.path().to_str().expect("a name"), SIZE).expect("a folder"),
        &|| SharedPlace::new(memory.clone(), "some/prefix", SIZE),
    ];
    for place in places {
        let (long, short) = (text(1, 200), text(2, 40));
        let mut one = Machine::new(place());
        one.put(b"me", &long);
        one.put(b"me", &short);
        let asks = one.store.fetch(&whose(b"me"), &long, None);
        assert!(!asks, "all of it is here");
        one.leave();
        let mut two = Machine::new(place());
        // Complete blocks are shared; the tokens after the last one are computed.
        assert_eq!(two.fetched(b"me", &long), 3 * BLOCK_TOKENS);
        assert_eq!(two.fetched(b"me", &short), 0);
        assert_eq!(two.fetched(b"you", &long), 0);
        let stats = two.store.stats();
        assert_eq!(
            (stats.fetched, stats.shared_rejected, stats.shared_failed),
            (3, 0, 0)
        );
        let first = &two.store.chain(&whose(b"me"), &long)[0];
        assert!(two.store.was_fetched(first) && !two.store.was_fetched(first));
        // A longer text, whose further blocks this machine adds for the others.
        let longer: Vec<i32> = long.iter().copied().chain(text(3, 300)).collect();
        assert_eq!(two.fetched(b"me", &longer), 3 * BLOCK_TOKENS);
        two.put(b"me", &longer);
        two.leave();
        let mut three = Machine::new(place());
        assert_eq!(
            three.fetched(b"me", &longer),
            500 / BLOCK_TOKENS * BLOCK_TOKENS
        );
        assert_eq!(three.store.stats().written, 500 / BLOCK_TOKENS as u64);
        let mut other = Machine::of(place(), Root::new(&[b"another model"]), SECRET);
        assert_eq!(other.fetched(b"me", &longer), 0);
        assert_eq!(other.store.trouble(), None);
    }
}

#[test]
fn what_was_changed_in_a_shared_store_is_a_miss_and_goes() {
    let many = std::env::var("MUTATIONS").map_or(400, |n| n.parse().expect("a number"));
    let mut rng = Rng::new(delayline_testing::seed());
    let store = Arc::new(InMemory::new());
    let place = || SharedPlace::new(store.clone(), "", SIZE);
    let texts = [text(1, 64), text(2, 64), text(3, 64)];
    let mut writer = Machine::new(place());
    texts.iter().for_each(|text| writer.put(b"", text));
    writer.leave();
    let whole = objects(&*store);
    assert_eq!(whole.len(), 3);
    let mut rejected = 0;
    for _ in 0..many {
        let (path, bytes) = &whole[rng.below(3) as usize];
        let mut changed = bytes.clone();
        match rng.below(4) {
            0 => changed.truncate(rng.below(bytes.len() as u64) as usize),
            1 => changed.extend([0; 8]),
            2 => changed = whole[rng.below(3) as usize].1.clone(),
            _ => {
                let bit = rng.below(8 * bytes.len() as u64);
                changed[(bit / 8) as usize] ^= 1 << (bit % 8);
            }
        }
        let same = changed == *bytes;
        store_at(&*store, path, changed);
        let mut reader = Machine::new(place());
        let found: usize = texts.iter().map(|text| reader.fetched(b"", text)).sum();
        assert_eq!(found, if same { 192 } else { 128 });
        assert_eq!(reader.store.stats().shared_rejected, u64::from(!same));
        reader.leave();
        rejected += u64::from(!same);
        // A changed object is removed, so that it can be stored again.
        assert_eq!(objects(&*store).len(), if same { 3 } else { 2 });
        store_at(&*store, path, bytes.clone());
    }
    assert!(rejected > many / 2, "{rejected} of {many}");
}

#[test]
fn another_secret_is_refused_in_words_and_finds_nothing() {
    let store = Arc::new(InMemory::new());
    let place = || SharedPlace::new(store.clone(), "p", SIZE);
    let mut one = Machine::new(place());
    one.put(b"", &text(1, 128));
    one.leave();
    let error = link(place(), b"another secret than that").expect_err("another one");
    assert!(
        error
            .to_string()
            .contains("another secret than that of --kv-secret"),
        "{error}"
    );
    assert!(matches!(
        ShareSecret::new(b"  too short\n"),
        Err(StoreError::Secret { len: 9, .. })
    ));
    // With a forged mark the names still differ, and the seals are wrong.
    let mark = Path::from("p/delayline-kv-shared");
    let kept = objects(&*store);
    common::run(store.delete(&mark)).expect("it is there");
    for (path, _) in kept.iter().filter(|(path, _)| *path != mark) {
        common::run(store.delete(path)).expect("it is there");
    }
    link(place(), b"another secret than that").expect("an empty place");
    for (path, bytes) in kept.iter().filter(|(path, _)| *path != mark) {
        store_at(&*store, path, bytes.clone());
    }
    let mut two = Machine::of(place(), root(), b"another secret than that");
    assert_eq!(two.fetched(b"", &text(1, 128)), 0);
    assert_eq!(two.store.stats().fetched, 0);
}

#[test]
fn names_tell_nothing_of_texts_and_owners() {
    let store = Arc::new(InMemory::new());
    let mut one = Machine::new(SharedPlace::new(store.clone(), "", SIZE));
    one.put(b"me", &text(1, 192));
    let mut local: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(one.folder.path()).expect("a folder") {
        local.push(
            entry
                .expect("a file")
                .file_name()
                .to_string_lossy()
                .into_owned(),
        );
    }
    local.retain(|name| name.ends_with(".block"));
    one.leave();
    let names: Vec<String> = objects(&*store)
        .iter()
        .map(|(path, _)| path.to_string())
        .collect();
    assert_eq!((local.len(), names.len()), (3, 3));
    // The names in the folder can be computed from the texts by anyone with the model.
    for part in local.iter().flat_map(|name| name.split(['-', '.'])) {
        let told = names.iter().any(|name| name.contains(part));
        assert!(!told || part == "block", "{part} is in {names:?}");
    }
}

#[test]
fn a_place_that_is_not_ours_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("thesis.txt"), "years of work").expect("written");
    let name = folder.path().to_str().expect("a name");
    let place = || SharedPlace::open(name, SIZE).expect("a folder");
    let error = link(place(), SECRET).expect_err("not ours");
    assert!(error.to_string().contains("thesis.txt"), "{error}");
    assert_eq!(
        std::fs::read_dir(folder.path()).expect("a folder").count(),
        1
    );
    let later = tempfile::tempdir().expect("a folder");
    std::fs::write(later.path().join("delayline-kv-shared"), "version 2\n").expect("written");
    let place = SharedPlace::open(later.path().to_str().expect("a name"), SIZE).expect("a folder");
    let error = link(place, SECRET).expect_err("later");
    assert!(error.to_string().contains("later version"), "{error}");
    for odd in ["", "s3://", "gs://bucket/prefix"] {
        let error = SharedPlace::open(odd, SIZE).expect_err("no place");
        assert!(error.to_string().contains("s3://BUCKET/PREFIX"), "{error}");
    }
    let file = later.path().join("delayline-kv-shared");
    assert!(SharedPlace::open(file.to_str().expect("a name"), SIZE).is_err());
}

/// Three servers write at random; one ends, another is cut off, and the last one keeps the
/// size.
#[test]
fn the_size_is_kept_by_whoever_is_left() {
    let mut rng = Rng::new(delayline_testing::seed());
    let store = Arc::new(InMemory::new());
    let size = 1 << 20;
    let place = || SharedPlace::new(store.clone(), "", size);
    let bytes = || -> u64 {
        let all = objects(&*store);
        all.iter().map(|(_, bytes)| bytes.len() as u64).sum()
    };
    let mut machines: Vec<Machine> = (0..3).map(|_| Machine::new(place())).collect();
    let mut texts = 0;
    while !machines.is_empty() {
        for _ in 0..120 {
            let at = rng.below(machines.len() as u64) as usize;
            texts += 1;
            machines[at].put_bytes(b"", &text(texts, 64), &[1; 20_000]);
        }
        machines.iter_mut().for_each(Machine::settle);
        // Each may have written a step since it listed the store, and a block.
        let over = machines.len() as u64 * (size / 64 + 21_000);
        assert!(
            bytes() <= size + over,
            "{} bytes with {}",
            bytes(),
            machines.len()
        );
        assert!(bytes() > size / 2, "{} bytes", bytes());
        match machines.len() {
            3 => machines.remove(0).leave(),
            2 => machines.remove(0).die(),
            _ => drop(machines.pop()),
        }
    }
    // The first server with a smaller size makes the store smaller.
    let smaller = SharedPlace::new(store.clone(), "", size / 4);
    let mut last = Machine::new(smaller);
    last.put(b"", &text(0, 64));
    last.leave();
    assert!(bytes() <= size / 4, "{} bytes", bytes());
}

#[test]
fn what_is_used_stays_in_a_shared_store() {
    let store = Arc::new(InMemory::new());
    let size = 1 << 20;
    let place = || SharedPlace::new(store.clone(), "", size);
    let (used, unused) = (text(1, 64), text(2, 64));
    let mut writer = Machine::new(place());
    for text in [&used, &unused] {
        writer.put_bytes(b"", text, &[1; 20_000]);
    }
    for n in 0..200 {
        writer.put_bytes(b"", &text(100 + n, 64), &[1; 20_000]);
        writer.settle();
        if n % 10 == 0 {
            // Another machine, with an empty folder.
            let mut reader = Machine::new(place());
            reader.settle();
            assert_eq!(reader.fetched_any(b"", &used), 64, "after {n}");
            reader.leave();
        }
    }
    let mut reader = Machine::new(place());
    assert_eq!(reader.fetched_any(b"", &used), 64);
    assert_eq!(reader.fetched_any(b"", &unused), 0);
}

#[test]
fn a_store_that_hangs_is_a_miss_and_told_once() {
    let adverse = Arc::new(Adverse::default());
    let text = text(1, 256);
    let mut one = Machine::new(SharedPlace::new(adverse.clone(), "", SIZE));
    one.put(b"", &text);
    one.leave();
    let folder = tempfile::tempdir().expect("a folder");
    let link = ShareLink {
        wait: Duration::from_millis(20),
        ..link(SharedPlace::new(adverse.clone(), "", SIZE), SECRET).expect("it answers")
    };
    adverse.hangs.store(true, Ordering::SeqCst);
    let mut two = Machine::at(folder, link);
    assert_eq!(two.fetched(b"", &text), 0);
    let told = two.store.trouble().expect("told");
    assert!(told.contains("did not answer within 20ms"), "{told}");
    // It is left alone for a while: nobody waits for it, and blocks are kept locally.
    assert!(!two.store.fetch(&whose(b""), &common::text(2, 256), None));
    two.put(b"", &text);
    assert_eq!(two.found(b"", &text), 256);
    assert_eq!(two.store.trouble(), None);
}

#[test]
fn a_store_that_fails_is_a_miss_told_once_and_used_again_when_it_works() {
    let adverse = Arc::new(Adverse::default());
    let place = || SharedPlace::new(adverse.clone(), "", SIZE);
    let mut one = Machine::new(place());
    one.put(b"", &text(1, 128));
    one.leave();
    let mut two = Machine::new(place());
    adverse.fails.store(true, Ordering::SeqCst);
    let mut told = Vec::new();
    for n in 1..4 {
        assert_eq!(two.fetched(b"", &text(n, 128)), 0);
        told.extend(two.store.trouble());
        two.put(b"", &text(10 + n, 128));
        two.settle();
        told.extend(two.store.trouble());
    }
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("the drive is gone"), "{told:?}");
    assert!(two.store.stats().shared_failed >= 6);
    adverse.fails.store(false, Ordering::SeqCst);
    two.put(b"", &text(20, 128));
    two.settle();
    assert_eq!(two.store.stats().shared, 2);
    let mut three = Machine::new(place());
    assert_eq!(three.fetched(b"", &text(1, 128)), 128);
    assert_eq!(three.fetched(b"", &text(20, 128)), 128);
}

/// Blocks are found while the store is being listed, however long that takes.
#[test]
fn a_listing_that_hangs_holds_up_no_fetch() {
    let adverse = Arc::new(Adverse::default());
    let place = || SharedPlace::new(adverse.clone(), "", SIZE);
    let mut one = Machine::new(place());
    one.put(b"", &text(1, 128));
    one.leave();
    adverse.lists_hang.store(true, Ordering::SeqCst);
    let mut two = Machine::new(place());
    assert_eq!(two.fetched(b"", &text(1, 128)), 128);
    two.put(b"", &text(2, 128));
    two.settle();
    assert_eq!(two.store.trouble(), None);
    two.abandon();
}

#[test]
fn without_the_program_that_reaches_it_answers_go_on() {
    let mut one = Machine::new(SharedPlace::new(Arc::new(InMemory::new()), "", SIZE));
    one.cut();
    for n in 0..3 {
        assert_eq!(one.fetched(b"", &text(n, 128)), 0);
        one.put(b"", &text(n, 128));
        assert_eq!(one.found(b"", &text(n, 128)), 128);
    }
    let told = one.store.trouble().expect("told");
    assert!(
        told.contains("has ended") && one.store.trouble().is_none(),
        "{told}"
    );
}

#[test]
fn a_store_slower_than_computing_is_not_waited_for() {
    let adverse = Arc::new(Adverse::default());
    let place = || SharedPlace::new(adverse.clone(), "", SIZE);
    let mut one = Machine::new(place());
    one.put(b"", &text(1, 128));
    one.leave();
    let mut two = Machine::new(place());
    adverse.hangs.store(true, Ordering::SeqCst);
    while two.store.fetch(&whose(b""), &text(1, 128), Some(1e-6)) {
        std::thread::yield_now();
    }
    assert_eq!(
        (two.found(b"", &text(1, 128)), two.store.trouble()),
        (0, None)
    );
}

#[test]
fn what_is_forgotten_of_one_owner_goes_from_the_shared_store_as_well() {
    let store = Arc::new(InMemory::new());
    let place = || SharedPlace::new(store.clone(), "", SIZE);
    let text = text(1, 192);
    let mut one = Machine::new(place());
    one.put(b"me", &text);
    one.put(b"you", &text);
    one.settle();
    assert_eq!(objects(&*store).len(), 6);
    assert_eq!(one.store.forget(&whose(b"me")), 3);
    assert_eq!(one.fetched(b"me", &text), 0);
    one.leave();
    assert_eq!(objects(&*store).len(), 3);
    let mut two = Machine::new(place());
    assert_eq!(two.fetched(b"me", &text), 0);
    assert_eq!(two.fetched(b"you", &text), 192);
    assert_eq!(
        two.bytes(b"you", &text[..64]),
        bytes_of(b"you", &text[..64])
    );
}

fn whose(owner: &[u8]) -> Namespace {
    Namespace::new(owner, b"")
}
