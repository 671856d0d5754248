//! A drive that returns wrong bytes: no lap computes with them, with a seal from the first
//! read on, without one from the second. `SEED=n` sets the seed, `LAPS=n` the number of laps.

mod common;

use std::path::Path;

use common::{Steps, alone, options, scratch, streamed, synth};
use delayline_engine::{Backend, Error, ModelFile, Options, Way, seal_of, seal_path};
use delayline_line::Medium;
use delayline_llama::LlamaEngine;
use delayline_medium::{
    FaultSwitch, Faults, Faulty, MadeMedium, MakeError, MediumMaker, MediumSite,
};
use delayline_synth::Quant;

/// Makes a drive that returns wrong bytes while the switch says so.
#[derive(Clone, Debug, Default)]
struct Liar(FaultSwitch, u64);

impl MediumMaker for Liar {
    fn make(
        &self,
        behind: Box<dyn Medium>,
        site: &MediumSite<'_>,
    ) -> Result<Box<dyn MadeMedium>, MakeError> {
        let faulty = Faulty::new(behind, Faults::default(), self.1);
        let faulty = faulty
            .spoiling(site.memory.clone())
            .with_switch(self.0.clone());
        Ok(Box::new(Box::new(faulty) as Box<dyn Medium>))
    }
}

const LIES: Faults = Faults {
    short: 0.05,
    transient: 0.05,
    flipped: 0.03,
    zeroed: 0.03,
    misplaced: 0.03,
    delay_polls: 2,
    reorder: true,
    delay_ns: 0,
    in_a_row: 0,
    broken: Vec::new(),
    gone_after: None,
    hung: 0.0,
    lost: 0.0,
    torn: 0.0,
};

/// Runs a prompt and some tokens; returns the logits of each successful lap, and how many
/// attempts failed.
fn answer(engine: &mut LlamaEngine) -> (Vec<Vec<f32>>, u64) {
    let (mut out, mut failed, mut pos) = (Vec::new(), 0, 0);
    engine.backend_mut().clear();
    for at in 0..6u32 {
        let tokens: Vec<i32> = match at {
            0 => (0..16).map(|i| 3 + i * 37 % 300).collect(),
            _ => vec![3 + (at as i32 * 53) % 300],
        };
        while let Err(error) = engine.step(&tokens, pos, true, None) {
            assert!(matches!(error, Error::Line(_)), "{error}");
            failed += 1;
        }
        pos += tokens.len() as u32;
        out.push(engine.logits().expect("asked for").to_vec());
    }
    (out, failed)
}

fn seal(path: &Path) {
    let file = ModelFile::open(path).expect("sound");
    let seal = seal_of(&file.parts()[0], &mut |_| true).expect("can be read");
    std::fs::write(seal_path(path), seal).expect("can write");
}

fn engine(path: &Path, liar: &Liar) -> LlamaEngine {
    let options = Options {
        maker: Some(std::sync::Arc::new(liar.clone())),
        ..options(Way::Auto)
    };
    streamed(path, 300 << 10, &options)
}

#[test]
fn no_lap_computes_with_a_lie() {
    let (_alone, dir) = (alone(), scratch());
    let laps: u64 = std::env::var("LAPS").map_or(600, |n| n.parse().expect("a whole number"));
    let seed = delayline_testing::seed();
    for (shape, sealed) in [
        ("tiny-llama", true),
        ("tiny-llama", false),
        ("tiny-mixtral", true),
        ("tiny-mixtral", false),
    ] {
        let path = synth(dir.path(), shape, Quant::Q4_0);
        let _ = std::fs::remove_file(seal_path(&path));
        if sealed {
            seal(&path);
        }
        let liar = Liar(FaultSwitch::default(), seed);
        let mut engine = engine(&path, &liar);
        let (clean, _) = answer(&mut engine);
        let unsealed = engine.stream().expect("streamed").unsealed().len();
        assert_eq!(unsealed, usize::from(!sealed));
        if sealed {
            // With a seal, the first reads may lie as well.
            let liar = Liar(FaultSwitch::default(), seed);
            engine = self::engine(&path, &liar);
            liar.0.set(LIES);
        }
        liar.0.set(LIES);
        let (mut good, mut failed) = (0, 0);
        while good < laps / 4 {
            let (logits, again) = answer(&mut engine);
            assert!(
                logits == clean,
                "{shape}, sealed {sealed}: wrong after {good} laps"
            );
            (good, failed) = (good + logits.len() as u64, failed + again);
        }
        let counts = engine.stream().and_then(|stream| stream.check_counts());
        let counts = counts.expect("checked");
        println!(
            "{shape}, sealed {sealed}: {good} laps good and {failed} failed, {} lies found in {} bytes",
            counts.wrong, counts.checked_bytes
        );
        assert!(counts.wrong > good / 10, "{counts:?}");
    }
}

#[test]
fn a_changed_byte_is_told_by_the_seal() {
    let (_alone, dir) = (alone(), scratch());
    let path = synth(dir.path(), "tiny-llama", Quant::Q4_0);
    seal(&path);
    let file = ModelFile::open(&path).expect("sound");
    let weight = file.weights().iter().max_by_key(|w| w.len).expect("one");
    let at = weight.offset as usize + delayline_testing::seed() as usize % weight.len as usize;
    let mut bytes = std::fs::read(&path).expect("there");
    bytes[at] ^= 1;
    std::fs::write(&path, &bytes).expect("can write");
    let mut engine = streamed(&path, 300 << 10, &options(Way::Auto));
    let every: Vec<i32> = (0..engine.file().facts().vocab as i32).collect();
    let mut told = None;
    for tokens in every.chunks(16) {
        engine.backend_mut().clear();
        if let Err(error) = engine.step(tokens, 0, true, None) {
            let cause = std::error::Error::source(&error);
            told = Some(format!("{error}: {}", cause.expect("the medium's")));
            break;
        }
    }
    let told = told.expect("the byte was read");
    assert!(told.contains("other bytes came"), "{told}");
    // llama.cpp does not check what it loads itself, so the file is checked before.
    drop(engine);
    let native = |unchecked| {
        let options = Options {
            unchecked,
            memory: Some(8 << 30),
            ..options(Way::Native)
        };
        delayline_llama::open(&path, &options)
    };
    let refused = native(false).err().map(|error| error.to_string());
    let refused = refused.expect("the byte was read");
    assert!(refused.contains("than its seal tells"), "{refused}");
    assert!(native(true).is_ok());
    bytes[at] ^= 1;
    std::fs::write(&path, &bytes).expect("can write");
    assert!(native(false).is_ok());
    bytes[at] ^= 1;
    std::fs::write(&path, &bytes).expect("can write");
    let trusting = Options {
        unchecked: true,
        ..options(Way::Auto)
    };
    let mut engine = streamed(&path, 300 << 10, &trusting);
    assert!(engine.step(&[5], 0, true, None).is_ok());
}

/// Without a seal, resident weights are read a second time.
#[test]
fn what_stays_is_read_again() {
    let (_alone, dir) = (alone(), scratch());
    let path = synth(dir.path(), "tiny-llama", Quant::Q4_0);
    let mut engine = streamed(&path, 300 << 10, &options(Way::Auto));
    engine.step(&[5], 0, true, None).expect("a lap");
    engine.step(&[6], 1, true, None).expect("another");
    let again = |engine: &mut LlamaEngine| engine.stream().expect("streamed").is_read_again();
    while !again(&mut engine) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    engine.step(&[7], 2, true, None).expect("nothing was wrong");
}

#[test]
fn a_seal_that_is_none_is_refused() {
    let (_alone, dir) = (alone(), scratch());
    let path = synth(dir.path(), "tiny-llama", Quant::Q4_0);
    let options = Options {
        memory: Some(8 << 30),
        ..options(Way::Streamed)
    };
    for bytes in [b"".as_slice(), b"hello", &[7; 100_000]] {
        std::fs::write(seal_path(&path), bytes).expect("can write");
        let refused = delayline_llama::open(&path, &options);
        let error = refused.err().expect("refused").to_string();
        assert!(error.contains("delayline seal"), "{error}");
    }
    // A file with the name of a seal that is a model is ignored, unlike a damaged seal.
    std::fs::copy(&path, seal_path(&path)).expect("can copy");
    let mut engine = delayline_llama::open(&path, &options).expect("opened");
    assert_eq!(engine.stream().expect("streamed").unsealed().len(), 1);
}
