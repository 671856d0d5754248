//! Lists of hot experts: kept, written in turns, damaged, forged, of another model, and
//! with another file in their place.

use std::os::unix::fs::symlink;

use delayline_testing::seed;

use super::*;

const MODEL: u64 = 77;

/// Three layers, of which a token uses two experts.
fn empty() -> HotLaps {
    HotLaps::new(vec![8, 8, 4], 2)
}

/// A lap of one row that uses an expert of each layer.
fn used(expert: u32) -> [(u32, u32); 3] {
    [(0, expert % 8), (1, (expert + 1) % 8), (2, expert % 4)]
}

fn with(laps: u32) -> HotLaps {
    let mut all = empty();
    (0..laps).for_each(|lap| all.add(1, used(lap)));
    all
}

fn all_of(laps: &HotLaps) -> Vec<Vec<(u32, Vec<u16>)>> {
    let laps = laps.laps();
    laps.map(|lap| lap.map(|(layer, of)| (layer, of.to_vec())).collect())
        .collect()
}

/// The list read beside a model, and the notice.
fn read(model: &Path, hash: u64) -> (HotLaps, Option<String>) {
    let mut laps = empty();
    let told = HotnessFile::open(model).read(&mut laps, hash);
    (laps, told)
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

#[test]
fn what_was_chosen_is_kept_lap_by_lap() {
    let mut state = seed();
    let mut up_to = |most: u64| {
        state = block_hash(&state.to_le_bytes());
        state % (most + 1)
    };
    for _ in 0..50 {
        let counts: Vec<u32> = (0..=up_to(4)).map(|_| 1 + up_to(8) as u32).collect();
        let mut laps = HotLaps::new(counts.clone(), 3);
        let mut expected = Vec::new();
        for _ in 0..up_to(90) {
            let mut lap: Vec<(u32, Vec<u16>)> = Vec::new();
            for (layer, &count) in (0..).zip(&counts) {
                let (from, most) = (up_to(u64::from(count) - 1), up_to(3).min(count.into()));
                let of = (0..most).map(|at| ((from + at) % u64::from(count)) as u16);
                lap.push((layer, of.collect()));
            }
            let used = lap.iter();
            let used =
                used.flat_map(|(layer, of)| of.iter().map(|&expert| (*layer, u32::from(expert))));
            laps.add(1 + up_to(7) as usize, used);
            expected.push(lap);
        }
        let from = expected.len().saturating_sub(LAPS);
        assert_eq!(all_of(&laps), expected[from..]);
    }
}

#[test]
fn prompts_are_not_kept_and_rows_that_share_a_lap_take_no_more_memory() {
    let mut laps = with(10);
    laps.add(ROWS + 1, used(5));
    laps.add(0, used(5));
    assert_eq!(all_of(&laps), all_of(&with(10)));
    let whole = |layer| (0..[8, 8, 4][layer as usize]).map(move |expert| (layer, expert));
    for _ in 0..200 {
        laps.add(ROWS, (0..3).flat_map(whole));
        let words: usize = laps.laps.iter().map(|lap| lap.len()).sum();
        assert_eq!(words, laps.words);
        assert!(words <= laps.most && !laps.is_empty());
    }
    assert!(laps.len() < LAPS);
}

#[test]
fn the_file_is_made_when_there_is_something_in_it_and_is_read_again() {
    let dir = folder();
    let model = dir.path().join("m.gguf");
    let path = hotness_path(&model);
    let file = HotnessFile::open(&model);
    let mut laps = empty();
    assert_eq!(file.read(&mut laps, MODEL), None);
    file.write(&mut laps, MODEL).expect("nothing to write");
    assert!(!path.exists() && !file.has_name());
    // It is written several times while it is open.
    for lap in 0..7 {
        laps.add(1, used(lap));
        file.write(&mut laps, MODEL).expect("it is written");
        let (got, told) = read(&model, MODEL);
        assert_eq!((all_of(&got), told), (all_of(&laps), None));
    }
    drop(file);
    let file = HotnessFile::open(&model);
    assert!(file.has_name());
    let mut laps = empty();
    assert_eq!(file.read(&mut laps, MODEL), None);
    laps.add(1, used(7));
    file.write(&mut laps, MODEL).expect("it is written");
    assert_eq!(all_of(&read(&model, MODEL).0), all_of(&with(8)));
    let names = std::fs::read_dir(dir.path()).expect("a folder");
    assert_eq!(names.count(), 1, "nothing else is left");
}

/// A model, and the bytes of its file after two lists were written.
fn two_lists(dir: &Path) -> (PathBuf, Vec<u8>) {
    let model = dir.join("m.gguf");
    let file = HotnessFile::open(&model);
    let mut laps = empty();
    for lap in 0..2 {
        laps.add(1, used(lap));
        file.write(&mut laps, MODEL).expect("it is written");
    }
    let bytes = std::fs::read(hotness_path(&model)).expect("it is there");
    (model, bytes)
}

#[test]
fn a_list_that_is_not_whole_is_not_used() {
    let dir = folder();
    let (model, bytes) = two_lists(dir.path());
    let path = hotness_path(&model);
    let lists = [empty(), with(1), with(2)].map(|laps| all_of(&laps));
    let check = |bytes: &[u8], what: &str| {
        std::fs::write(&path, bytes).expect("it is written");
        let (laps, told) = read(&model, MODEL);
        let got = lists.iter().position(|list| *list == all_of(&laps));
        let got = got.unwrap_or_else(|| panic!("{what}: {laps:?}"));
        assert_eq!(told.is_some(), got == 0 && !bytes.is_empty(), "{what}");
        got
    };
    // After an interrupted write the list before it is left.
    for len in 0..bytes.len() {
        check(&bytes[..len], &format!("{len} bytes"));
    }
    let place = place_len(empty().most);
    let ends = [0, place].map(|at| at + HEAD + 2 * word64(&bytes, at + 32) as usize + TAIL);
    for at in (0..ends[0]).chain(place..ends[1]) {
        for bit in 0..8 {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << bit;
            let got = check(&bytes, &format!("bit {bit} of byte {at}"));
            assert_eq!(got, if at < place { 2 } else { 1 });
        }
    }
    // Both at once.
    let mut both = bytes.clone();
    both[20] ^= 1;
    both[place + 20] ^= 1;
    assert_eq!(check(&both, "both"), 0);
}

#[test]
fn a_list_that_was_made_up_with_a_sound_checksum_is_not_used() {
    let dir = folder();
    let (model, _) = two_lists(dir.path());
    let path = hotness_path(&model);
    let made_up = |words: &[u16], laps: u32, layers: u32, model: u64| {
        let mut out = MAGIC.to_vec();
        out.extend(u64::MAX.to_le_bytes());
        out.extend(model.to_le_bytes());
        for number in [layers, laps, words.len() as u32, 0] {
            out.extend(number.to_le_bytes());
        }
        out.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        out.extend(block_hash(&out).to_le_bytes());
        out
    };
    let good = made_up(&[1, 7, 0, 0], 1, 3, MODEL);
    std::fs::write(&path, &good).expect("it is written");
    let (laps, told) = read(&model, MODEL);
    assert_eq!((laps.len(), told), (1, None));
    // The number wraps around.
    let file = HotnessFile::open(&model);
    let mut laps = empty();
    assert_eq!(file.read(&mut laps, MODEL), None);
    laps.add(1, used(1));
    file.write(&mut laps, MODEL).expect("it is written");
    for (bytes, what) in [
        (made_up(&[1, 8, 0, 0], 1, 3, MODEL), "an expert too many"),
        (made_up(&[2, 7], 1, 3, MODEL), "it ends in a layer"),
        (made_up(&[u16::MAX, 0, 0], 1, 3, MODEL), "a long layer"),
        (made_up(&[0, 0, 0, 0], 1, 3, MODEL), "words are left"),
        (made_up(&[0, 0, 0], u32::MAX, 3, MODEL), "many laps"),
        (made_up(&[0, 0], 1, 2, MODEL), "fewer layers"),
        (made_up(&[0, 0, 0], 1, 3, MODEL + 1), "another model"),
    ] {
        std::fs::write(&path, &bytes).expect("it is written");
        let (laps, told) = read(&model, MODEL);
        assert!(laps.is_empty(), "{what}");
        assert!(told.is_some_and(|told| told.contains("m.gguf.experts")));
    }
}

#[test]
fn what_is_another_file_is_left_alone_and_told_once() {
    let dir = folder();
    let model = dir.path().join("m.gguf");
    let path = hotness_path(&model);
    let told_once = |what: &str| {
        let file = HotnessFile::open(&model);
        let mut laps = empty();
        let read = file.read(&mut laps, MODEL);
        assert!(laps.is_empty(), "{what}");
        laps.add(1, used(1));
        let first = file.write(&mut laps, MODEL);
        laps.add(1, used(1));
        let second = file.write(&mut laps, MODEL);
        let told = [first, second].map(|written| written.err().map(|error| error.to_string()));
        let told: Vec<String> = [read].into_iter().chain(told).flatten().collect();
        assert_eq!(told.len(), 1, "{what}: {told:?}");
        assert!(told[0].contains("m.gguf.experts"), "{what}: {told:?}");
    };
    std::fs::write(&path, "somebody's notes").expect("it is written");
    told_once("a text");
    let bytes = std::fs::read(&path).expect("still there");
    assert_eq!(bytes, b"somebody's notes");
    std::fs::remove_file(&path).expect("removed");
    // A link is not followed.
    let other = dir.path().join("other");
    std::fs::write(&other, "").expect("it is written");
    symlink(&other, &path).expect("a link");
    told_once("a link");
    assert_eq!(std::fs::read(&other).expect("still there"), b"");
    std::fs::remove_file(&path).expect("removed");
    std::fs::create_dir(&path).expect("a folder");
    told_once("a folder");
}
