//! A model that is striped over several drives gives the same logits, bit for bit, and an
//! error names the drive that failed.

mod common;

use std::fs::File;
use std::path::{Path, PathBuf};

use common::{Steps, alone, assert_same, logits, options, scratch, streamed, synth};
use delayline_engine::{Error, Manifest, StripedPart, Way};
use delayline_medium::stripes;
use delayline_synth::Quant;

const PROMPT: [i32; 6] = [3, 40, 77, 114, 151, 188];

/// Stripes a model over `drives` files in `dir`; returns the paths of the list and of the
/// files.
fn stripe(dir: &Path, model: &Path, drives: usize) -> (PathBuf, Vec<PathBuf>) {
    let (bytes, unit) = (std::fs::read(model).unwrap(), 64 << 10);
    let mut parts = vec![Vec::new(); drives];
    let mut from = 0;
    for (drive, _, len) in stripes(unit, drives as u64, 0, bytes.len() as u64) {
        parts[drive].extend(&bytes[from..from + len as usize]);
        from += len as usize;
    }
    // Relative to the list's folder.
    let files: Vec<PathBuf> = (0..drives)
        .map(|i| PathBuf::from(format!("drive{i}")))
        .collect();
    for (file, bytes) in files.iter().zip(parts) {
        std::fs::write(dir.join(file), bytes).unwrap();
    }
    let part = StripedPart {
        name: "m.gguf".into(),
        len: bytes.len() as u64,
        files: files.clone(),
    };
    let list = Manifest {
        unit,
        parts: vec![part],
    };
    let path = dir.join(Manifest::name("m.gguf"));
    std::fs::write(&path, list.text()).unwrap();
    (path, files.iter().map(|file| dir.join(file)).collect())
}

#[test]
fn a_striped_model_is_the_same_model() {
    let (_alone, dir) = (alone(), scratch());
    let model = synth(dir.path(), "tiny-llama", Quant::Q4_0);
    let options = options(Way::Auto);
    let expected = logits(&mut streamed(&model, 0, &options), &PROMPT, 4);
    for drives in [1, 2, 3] {
        let dir = scratch();
        let (list, _) = stripe(dir.path(), &model, drives);
        let got = logits(&mut streamed(&list, 0, &options), &PROMPT, 4);
        assert_same(&format!("{drives} drives"), &got, &expected);
    }
}

#[test]
fn a_drive_that_fails_in_a_lap_is_named() {
    let (_alone, dir) = (alone(), scratch());
    let model = synth(dir.path(), "tiny-llama", Quant::Q4_0);
    let (list, files) = stripe(dir.path(), &model, 3);
    let mut engine = streamed(&list, 0, &options(Way::Auto));
    engine.step(&PROMPT, 0, true, None).unwrap();
    File::options()
        .write(true)
        .open(&files[1])
        .unwrap()
        .set_len(0)
        .unwrap();
    let error = engine
        .step(&[3], PROMPT.len() as u32, true, None)
        .unwrap_err();
    assert!(matches!(error, Error::Changed { .. }), "{error}");
    assert!(error.to_string().contains("drive1"), "{error}");
}
