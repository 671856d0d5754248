//! Guessing experts: a router that was cloned from the graph, applied to its own layer's
//! input, chooses the experts that the layer chooses.

mod common;

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use common::{alone, options, scratch, synth};
use delayline_engine::{
    Backend, Bind, Binding, Class, ContextShape, Engine, Error, Feed, Flow, FrameBinding, Graph,
    Load, Loader, ModelFile, Names, Options, UseId, Way,
};
use delayline_llama::{LlamaBackend, LlamaLoader, Piece};
use delayline_medium::Memory;
use delayline_synth::{Blueprint, Experts, Quant};

/// Numbers of compared choices: of single rows, of several rows, and of those how many differ.
#[derive(Default)]
struct Compared {
    /// Number of experts that a row uses.
    chosen: Cell<usize>,
    single: Cell<u32>,
    many: Cell<u32>,
    many_differ: Cell<u32>,
}

/// Loads a [`Comparing`] backend.
struct ComparingLoader(Rc<Compared>);

impl Loader for ComparingLoader {
    type Model = <LlamaLoader as Loader>::Model;
    type Backend = Comparing;

    fn load(&self, file: &ModelFile, how: Load) -> Result<Self::Model, Error> {
        LlamaLoader.load(file, how)
    }

    fn spelled(&self) -> u64 {
        LlamaLoader.spelled()
    }

    fn start(
        &self,
        model: &Self::Model,
        shape: ContextShape,
        fed: Option<u64>,
    ) -> Result<Comparing, Error> {
        Ok(Comparing {
            inner: LlamaLoader.start(model, shape, fed)?,
            compared: self.0.clone(),
        })
    }
}

/// A backend that compares each router's choice with its layer's.
struct Comparing {
    inner: LlamaBackend,
    compared: Rc<Compared>,
}

/// A feed that passes a [`ComparingBind`] to the inner feed.
struct ComparingFeed<'a> {
    inner: &'a mut dyn Feed,
    compared: &'a Compared,
    rows: usize,
}

struct ComparingBind<'a> {
    inner: &'a mut dyn Bind,
    compared: &'a Compared,
    rows: usize,
}

impl Feed for ComparingFeed<'_> {
    fn before(&mut self, node: u32, op: u32, bind: &mut dyn Bind) -> Flow {
        let mut bind = ComparingBind {
            inner: bind,
            compared: self.compared,
            rows: self.rows,
        };
        self.inner.before(node, op, &mut bind)
    }

    fn after(&mut self, bind: &mut dyn Bind) -> Flow {
        self.inner.after(bind)
    }

    fn fail(&mut self, error: Error, bind: &mut dyn Bind) {
        self.inner.fail(error, bind);
    }
}

fn add(cell: &Cell<u32>, more: u32) {
    cell.set(cell.get() + more);
}

impl Bind for ComparingBind<'_> {
    fn ids(&mut self, used: UseId, out: &mut Vec<i32>) -> Result<(), Error> {
        self.inner.ids(used, out)?;
        let mut guess = Vec::new();
        self.inner.guess(used, &mut guess)?;
        if guess.is_empty() {
            return Ok(());
        }
        assert_eq!(guess.len(), out.len());
        if self.rows == 1 {
            self.compared.chosen.set(out.len());
        }
        // The last layer computes only rows with outputs.
        let chosen = self.compared.chosen.get();
        let rows = out.len() / chosen;
        let by_row = |at: usize| guess[at % chosen * rows + at / chosen];
        let same = out.iter().enumerate().filter(|&(at, &id)| id == by_row(at));
        let same = same.count();
        if rows == 1 {
            assert_eq!(&guess, out);
            add(&self.compared.single, out.len() as u32);
        } else {
            add(&self.compared.many, out.len() as u32);
            add(&self.compared.many_differ, (out.len() - same) as u32);
        }
        Ok(())
    }

    fn set_ids(&mut self, used: UseId, ids: &[i32]) -> Result<(), Error> {
        self.inner.set_ids(used, ids)
    }

    fn guess(&mut self, later: UseId, out: &mut Vec<i32>) -> Result<(), Error> {
        self.inner.guess(later, out)
    }

    fn bind(&mut self, used: UseId, binding: Binding) -> Result<(), Error> {
        self.inner.bind(used, binding)
    }

    fn bind_frames(&mut self, used: UseId, frames: FrameBinding<'_>) -> Result<(), Error> {
        self.inner.bind_frames(used, frames)
    }
}

impl Bind for Comparing {
    fn ids(&mut self, used: UseId, out: &mut Vec<i32>) -> Result<(), Error> {
        self.inner.ids(used, out)
    }

    fn set_ids(&mut self, used: UseId, ids: &[i32]) -> Result<(), Error> {
        self.inner.set_ids(used, ids)
    }

    fn guess(&mut self, later: UseId, out: &mut Vec<i32>) -> Result<(), Error> {
        self.inner.guess(later, out)
    }

    fn bind(&mut self, used: UseId, binding: Binding) -> Result<(), Error> {
        self.inner.bind(used, binding)
    }

    fn bind_frames(&mut self, used: UseId, frames: FrameBinding<'_>) -> Result<(), Error> {
        self.inner.bind_frames(used, frames)
    }
}

impl Backend for Comparing {
    type Work<'a> = &'a [Piece<'a>];

    fn rows(work: &[Piece<'_>]) -> usize {
        LlamaBackend::rows(work)
    }

    fn has_output(work: &[Piece<'_>]) -> bool {
        LlamaBackend::has_output(work)
    }

    fn blank() -> &'static [Piece<'static>] {
        LlamaBackend::blank()
    }

    fn shape(&self) -> ContextShape {
        self.inner.shape()
    }

    fn kv_bytes(&self) -> u64 {
        self.inner.kv_bytes()
    }

    fn buffer_bytes(&self) -> u64 {
        self.inner.buffer_bytes()
    }

    fn learn(&mut self, class: Class, names: &Names) -> Result<Graph, Error> {
        self.inner.learn(class, names)
    }

    fn use_memory(&mut self, memory: Arc<Memory>) {
        self.inner.use_memory(memory);
    }

    fn settle(&mut self, class: Class, used: UseId, at: u64) {
        self.inner.settle(class, used, at);
    }

    fn run(&mut self, work: &[Piece<'_>], feed: Option<&mut dyn Feed>) -> Result<(), Error> {
        let mut feed = feed.map(|inner| ComparingFeed {
            inner,
            compared: &self.compared,
            rows: Self::rows(work),
        });
        let feed = feed.as_mut().map(|feed| feed as &mut dyn Feed);
        self.inner.run(work, feed)
    }

    fn undo(&mut self, work: &[Piece<'_>]) {
        self.inner.undo(work);
    }

    fn clear(&mut self) {
        self.inner.clear();
    }

    fn use_threads(&mut self, threads: u32) -> Result<(), Error> {
        self.inner.use_threads(threads)
    }
}

/// An engine whose experts are in frames, with memory for a part of them.
fn open(path: &Path, compared: &Rc<Compared>) -> Engine<Comparing> {
    let with = |weights| {
        let options = Options {
            memory: Some(8 << 30),
            weights: Some(weights),
            ..options(Way::Streamed)
        };
        Engine::open(&ComparingLoader(compared.clone()), path, &options)
    };
    let Err(Error::Budget { weights: least, .. }) = with(0) else {
        panic!("nothing is not enough");
    };
    let size = std::fs::metadata(path).expect("a file").len();
    with(least + size * 8 / 10).expect("enough")
}

/// Compares routers with their layers; returns the number of compared choices of single rows.
fn check(shape: &str, quant: Quant) -> u32 {
    let (_alone, dir) = (alone(), scratch());
    let path = synth(dir.path(), shape, quant);
    let compared = Rc::new(Compared::default());
    let mut engine = open(&path, &compared);
    let stream = engine.stream().expect("it streams");
    assert!(stream.expert_counts().is_some(), "{shape} has no frames");
    let mut pos = 0;
    for lap in 0..40 {
        let rows = [1, 1, 1, 3, 8][lap % 5];
        let tokens: Vec<i32> = (0..rows)
            .map(|row| (lap as i32 * 37 + row * 11) % 250)
            .collect();
        let piece = Piece {
            seq: 0,
            pos,
            tokens: &tokens,
            output: true,
        };
        engine.lap(&[piece], None).expect("a lap");
        pos += tokens.len() as u32;
    }
    let guesses = engine.stream().and_then(|stream| stream.guess_counts());
    let Compared {
        single,
        many,
        many_differ,
        ..
    } = &*compared;
    println!(
        "{shape}: {} choices of single rows as the layer's; of several rows {} of {} differ; \
         of the next layer {guesses:?}",
        single.get(),
        many_differ.get(),
        many.get()
    );
    // Kernels round differently for several rows, which rarely changes a choice.
    assert!(many_differ.get() * 50 <= many.get());
    single.get()
}

#[test]
fn routers_name_what_their_layers_do() {
    for (shape, quant) in [
        ("tiny-mixtral", Quant::Q4_0),
        ("tiny-qwen3moe", Quant::Q8_0),
        ("tiny-gpt-oss", Quant::Q8_0),
        ("tiny-deepseek2", Quant::Q8_0),
    ] {
        let compared = check(shape, quant);
        assert!(compared > 40, "{shape}: {compared} choices were compared");
    }
}

/// A model whose choices of experts are made like a trained one's is guessed as well: the
/// next layer's router names .886 of the experts of Qwen3-30B, .72 to .89 of other models'.
#[test]
fn a_routed_model_is_guessed_like_a_trained_one() {
    let (_alone, dir) = (alone(), scratch());
    let mut shape = delayline_synth::shape("tiny-qwen3moe").expect("a shape");
    shape.n_layers = 12;
    shape.n_embd = 512;
    shape.head_dim = 128;
    shape.vocab = 4000;
    shape.experts = Some(Experts {
        count: 64,
        used: 8,
        n_ff: 64,
    });
    let model = Blueprint::from(&shape).routed().expect("a mixture");
    let path = dir.path().join("routed.gguf");
    let seed = delayline_testing::seed();
    delayline_synth::write(model, Quant::Q8_0, seed, &path, &mut |_, _| {}).expect("a model");
    let compared = Rc::new(Compared::default());
    let mut engine = open(&path, &compared);
    for pos in 0..100 {
        let piece = Piece {
            seq: 0,
            pos,
            tokens: &[(700 + pos) as i32],
            output: true,
        };
        engine.lap(&[piece], None).expect("a lap");
    }
    let stream = engine.stream().expect("it streams");
    let counts = stream.guess_counts().expect("it has frames");
    let accuracy = counts.right as f64 / counts.named as f64;
    println!("{counts:?}: {accuracy}");
    assert!(counts.named > 500, "{counts:?}");
    assert!((0.75..=0.95).contains(&accuracy), "{accuracy} came true");
}
