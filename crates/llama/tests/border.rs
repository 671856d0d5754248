//! Exceptions of llama.cpp become errors, and the object that threw can still be used:
//! exceptions from an incomplete vocabulary, and from failing the first allocation, the
//! second, and so on, until the call makes fewer.
//!
//! This program replaces C++'s `operator new` by the one below.

mod common;

use common::Steps;

use std::cell::Cell;
use std::ffi::c_void;
use std::path::{Path, PathBuf};

use delayline_engine::{Error, Options, Way};
use delayline_gguf::{Header, TensorSpec, Value, write};
use delayline_llama::{Candidates, LlamaEngine, Sampler, Sampling, Vocab};
use delayline_synth::Quant;

thread_local! {
    /// Which of this thread's next allocations in C++ fails, counted from 1; 0 for none.
    static FAILS: Cell<u64> = const { Cell::new(0) };
}

unsafe extern "C-unwind" {
    /// `std::__throw_bad_alloc()`.
    fn _ZSt17__throw_bad_allocv() -> !;
}

/// `operator new(unsigned long)` of this test program.
#[unsafe(no_mangle)]
extern "C-unwind" fn _Znwm(size: usize) -> *mut c_void {
    let fails = FAILS.get();
    FAILS.set(fails.saturating_sub(1));
    // SAFETY: the C library's allocator, whose memory the C++ library's `operator
    // delete` frees; the exception passes through no frame with a destructor.
    unsafe {
        if fails == 1 {
            _ZSt17__throw_bad_allocv();
        }
        libc::malloc(size.max(1))
    }
}

/// Calls `body` repeatedly with one of its allocations failing, whose number grows by `step`,
/// until it makes fewer allocations than that. `after` checks the state after each failure.
/// Returns the number of failures.
fn at_allocations<S, T>(
    state: &mut S,
    step: impl Fn(u64) -> u64,
    body: impl Fn(&mut S) -> Result<T, Error>,
    after: impl Fn(&mut S, u64),
) -> u64 {
    let (mut nth, mut failed) = (0, 0);
    loop {
        nth += step(nth);
        FAILS.set(nth);
        let outcome = body(state);
        let left = FAILS.replace(0);
        match outcome {
            Ok(_) if left > 0 => return failed,
            // llama.cpp caught the exception itself.
            Ok(_) => {}
            Err(Error::Llama { message, .. }) => assert!(!message.is_empty()),
            Err(error) => panic!("allocation {nth}: {error}"),
        }
        failed += 1;
        after(state, nth);
    }
}

fn open(path: &Path) -> LlamaEngine {
    common::streamed(path, 1 << 20, &common::options(Way::Streamed))
}

/// A copy of the model at `path` whose vocabulary llama.cpp reads as SentencePiece, without
/// tokens for single bytes.
fn without_bytes(path: &Path) -> PathBuf {
    let bytes = std::fs::read(path).unwrap();
    let header = Header::parse(&bytes, bytes.len() as u64).unwrap();
    let metadata: Vec<_> = header
        .metadata
        .iter()
        .map(|(key, value)| match key.as_ref() {
            "tokenizer.ggml.model" => (key.clone(), Value::from("llama")),
            _ => (key.clone(), value.clone()),
        })
        .collect();
    let tensors: Vec<TensorSpec> = header
        .tensors
        .iter()
        .map(|t| TensorSpec {
            name: t.name.clone(),
            ty: t.ty,
            dims: t.dims.to_vec(),
        })
        .collect();
    let mut out = write(&metadata, &tensors).unwrap().header;
    out.extend(&bytes[header.data_offset as usize..]);
    let changed = path.with_extension("holes.gguf");
    std::fs::write(&changed, out).unwrap();
    changed
}

#[test]
fn what_the_vocabulary_lacks_is_an_error() {
    let _alone = common::alone();
    let dir = common::scratch();
    let path = without_bytes(&common::synth(dir.path(), "tiny-llama", Quant::Q8_0));
    let mut engine = open(&path);
    let vocab = Vocab::new(engine.backend().model());
    let check = |outcome: Result<(), Error>, doing| match outcome {
        Err(Error::Llama { what, message }) => {
            assert_eq!(what, doing);
            assert!(!message.is_empty());
        }
        other => panic!("no exception: {other:?}"),
    };
    let tokens = vocab.tokenize("€", true, true);
    check(tokens.map(drop), "tokenize the prompt");
    check(vocab.piece(i32::MAX, &mut Vec::new()), "spell a token");
    assert!(!common::logits(&mut engine, &[1, 2, 3], 1).is_empty());
}

#[test]
fn memory_may_fail_at_every_allocation_of_a_lap() {
    let _alone = common::alone();
    let dir = common::scratch();
    let path = common::synth(dir.path(), "tiny-llama", Quant::Q8_0);
    let mut engine = open(&path);
    let prompt = [1, 2, 3, 4, 5];
    let expected = common::logits(&mut engine, &prompt, 2);
    let failed = at_allocations(
        &mut engine,
        |_| 1,
        |engine| {
            engine.backend_mut().context_mut().clear();
            engine.step(&prompt, 0, true, None)
        },
        |engine, nth| {
            engine.backend_mut().context_mut().clear();
            let label = format!("after allocation {nth} failed");
            common::assert_same(&label, &common::logits(engine, &prompt, 2), &expected);
        },
    );
    assert!(failed > 50, "{failed}");
}

#[test]
fn memory_may_fail_at_every_allocation_of_tokens() {
    let _alone = common::alone();
    let dir = common::scratch();
    let engine = open(&common::synth(dir.path(), "tiny-llama", Quant::Q8_0));
    let mut vocab = Vocab::new(engine.backend().model());
    let text = "some words, <|im_end|> and more";
    let expected = vocab.tokenize(text, true, true).unwrap();
    let failed = at_allocations(
        &mut vocab,
        |_| 1,
        |vocab| vocab.tokenize(text, true, true),
        |vocab, nth| {
            let tokens = vocab.tokenize(text, true, true).unwrap();
            assert_eq!(tokens, expected, "after allocation {nth} failed");
        },
    );
    assert!(failed > 10, "{failed}");

    let logits: Vec<f32> = (0..vocab.tokens()).map(|at| at as f32).collect();
    let choose = |vocab: &Vocab| {
        let mut sampler = Sampler::new(vocab, &Sampling::default(), Some("root ::= [a-z]+"))?;
        sampler.prompt(&expected)?;
        sampler.sample(&logits, &mut Candidates::default())
    };
    let chosen = choose(&vocab).unwrap();
    let failed = at_allocations(
        &mut vocab,
        |_| 1,
        |vocab| choose(vocab),
        |vocab, nth| {
            assert_eq!(
                choose(vocab).unwrap(),
                chosen,
                "after allocation {nth} failed"
            );
        },
    );
    assert!(failed > 10, "{failed}");
}

#[test]
fn memory_may_fail_while_a_model_is_loaded() {
    let _alone = common::alone();
    let dir = common::scratch();
    let path = common::synth(dir.path(), "tiny-llama", Quant::Q8_0);
    let options = Options {
        memory: Some(8 << 30),
        ..common::options(Way::Mmap)
    };
    // There are thousands of allocations: each of the first, then in growing steps.
    let failed = at_allocations(
        &mut (),
        |nth| 1 + nth / 64 * 8,
        |()| delayline_llama::open(&path, &options).map(drop),
        |(), _| {},
    );
    assert!(failed > 80, "{failed}");
    drop(delayline_llama::open(&path, &options).unwrap());
}
