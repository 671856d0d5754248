//! Runs the inputs of `fuzz/corpus` without a fuzzer.

mod look;

use std::path::Path;

use look::{look, look_at_seal};

fn replay(target: &str, try_out: impl Fn(&[u8])) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let folder = std::fs::read_dir(root.join(target)).expect("the corpus is in the repository");
    let mut tried = 0;
    for entry in folder {
        let path = entry.expect("a file").path();
        println!("{}", path.display());
        try_out(&std::fs::read(&path).expect("can be read"));
        tried += 1;
    }
    assert!(tried > 3, "only {tried} files for {target}");
}

#[test]
fn headers_of_the_corpus_are_understood_or_refused() {
    replay("header", look);
}

#[test]
fn seals_of_the_corpus_are_sound_or_refused() {
    replay("seal", look_at_seal);
}
