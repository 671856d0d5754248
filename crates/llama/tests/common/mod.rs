//! What this crate's tests share: models of all kinds, and laps of them.
#![allow(dead_code, reason = "each test program uses its part")]

pub mod switched;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use delayline_engine::{Class, Error, Options, Way};
use delayline_llama::{LlamaEngine, Piece};
use delayline_synth::Quant;

/// The demo model, which `make test` fetches.
pub fn demo_model() -> PathBuf {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/SmolLM2-135M-Instruct.Q4_1.gguf");
    assert!(
        path.exists(),
        "the demo model is missing: run scripts/fetch-demo-model"
    );
    path
}

/// A lock for one engine at a time: budgets count the whole process, and the spinning
/// threads of two engines would hold up each other.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A folder on a real disk, removed at the end.
pub fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder for test models")
}

/// A model with random weights of the named shape.
pub fn synth(dir: &Path, shape: &str, quant: Quant) -> PathBuf {
    let path = dir.join(format!("{shape}.gguf"));
    let model = delayline_synth::Blueprint::named(shape).expect("a known shape");
    delayline_synth::write(&model, quant, 1, &path, &mut |_, _| {}).expect("a model");
    path
}

/// Options that make two engines comparable.
pub fn options(way: Way) -> Options {
    Options {
        way,
        threads: Some(2),
        ctx: Some(256),
        ubatch: Some(16),
        ..Options::default()
    }
}

/// Laps of one sequence, and their logits.
pub trait Steps {
    /// Runs one lap: `tokens` at positions `pos..`, with the logits of the last if `output`.
    fn step(
        &mut self,
        tokens: &[i32],
        pos: u32,
        output: bool,
        next: Option<Class>,
    ) -> Result<(), Error>;

    /// Logits of the last lap; `None` if it failed or had no output.
    fn logits(&self) -> Option<&[f32]>;
}

impl Steps for LlamaEngine {
    fn step(
        &mut self,
        tokens: &[i32],
        pos: u32,
        output: bool,
        next: Option<Class>,
    ) -> Result<(), Error> {
        let piece = Piece {
            seq: 0,
            pos,
            tokens,
            output,
        };
        self.lap(&[piece], next)
    }

    fn logits(&self) -> Option<&[f32]> {
        let context = self.backend().context();
        self.has_output().then(|| context.logits()).flatten()
    }
}

/// A streamed engine with `extra` bytes for weights more than the minimum.
pub fn streamed(path: &Path, extra: u64, options: &Options) -> LlamaEngine {
    let with = |weights| {
        let memory = Some(8 << 30);
        delayline_llama::open(
            path,
            &Options {
                memory,
                weights: Some(weights),
                way: Way::Streamed,
                ..options.clone()
            },
        )
    };
    let least = match with(0) {
        Err(Error::Budget { weights, .. }) => weights,
        Err(error) => panic!("{}: {error}", path.display()),
        Ok(_) => panic!("{}: nothing is not enough", path.display()),
    };
    with(least + extra).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Logits after a prompt in several laps and after each of `steps` greedy tokens.
pub fn logits(engine: &mut LlamaEngine, prompt: &[i32], steps: usize) -> Vec<Vec<f32>> {
    let ubatch = engine.ubatch() as usize;
    let chunks: Vec<&[i32]> = prompt.chunks(ubatch).collect();
    let mut pos = 0;
    for (at, chunk) in chunks.iter().enumerate() {
        engine
            .step(chunk, pos, at + 1 == chunks.len(), None)
            .expect("a lap of the prompt");
        pos += chunk.len() as u32;
    }
    let mut out = vec![engine.logits().expect("logits").to_vec()];
    for _ in 0..steps {
        let token = likeliest(out.last().expect("one at least"));
        engine
            .step(&[token], pos, true, None)
            .expect("a decoding lap");
        pos += 1;
        out.push(engine.logits().expect("logits").to_vec());
    }
    out
}

/// Index of the largest logit.
pub fn likeliest(logits: &[f32]) -> i32 {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.map_or(0, |(at, _)| at as i32)
}

/// Asserts that two runs agree bit for bit, and that their logits are finite and not all
/// equal.
pub fn assert_same(label: &str, got: &[Vec<f32>], expected: &[Vec<f32>]) {
    assert_eq!(got.len(), expected.len(), "{label}: number of laps");
    for (lap, (a, b)) in got.iter().zip(expected).enumerate() {
        assert!(
            b.iter().all(|x| x.is_finite()),
            "{label}: the oracle's logits are not finite"
        );
        assert!(
            b.iter().any(|x| *x != b[0]),
            "{label}: the oracle's logits are all alike"
        );
        let differs = a
            .iter()
            .zip(b)
            .position(|(x, y)| x.to_bits() != y.to_bits());
        assert_eq!(differs, None, "{label}: logits differ in lap {lap}");
        assert_eq!(
            a.len(),
            b.len(),
            "{label}: length of the logits in lap {lap}"
        );
    }
}
