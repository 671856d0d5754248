//! llama.cpp as a [`Backend`] of the engine: a context whose graphs are learned by dry laps
//! and computed with weights that the engine feeds.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use delayline_engine::{
    Backend, Bind, Binding, Class, ContextShape, Engine, Error, Feed, FrameBinding, Graph, Load,
    Loader, ModelFile, Names, Options, UseId,
};
use delayline_medium::Memory;

use crate::bind::TensorUse;
use crate::context::Context;
use crate::empty::{Model, load};
use crate::kind::{check_arch, check_kind, seqs_of};
use crate::learn::Learned;
use crate::piece::{self, Piece};
use crate::pump::Pump;
use crate::sample::SPELLED;
use crate::tier::KvTier;

/// An engine whose laps llama.cpp computes.
pub type LlamaEngine = Engine<LlamaBackend>;

/// Opens the model at `path`.
///
/// # Errors
/// When the file is invalid, llama.cpp refuses it, or the budget is too small.
pub fn open(path: &Path, options: &Options) -> Result<LlamaEngine, Error> {
    Engine::open(&LlamaLoader, path, options)
}

/// Loads models by llama.cpp.
#[derive(Clone, Copy, Debug)]
pub struct LlamaLoader;

impl Loader for LlamaLoader {
    type Model = Arc<Model>;
    type Backend = LlamaBackend;

    fn load(&self, file: &ModelFile, how: Load) -> Result<Arc<Model>, Error> {
        check_arch(&file.facts().architecture)?;
        let model = load(file, how)?;
        check_kind(&model)?;
        Ok(model)
    }

    fn spelled(&self) -> u64 {
        SPELLED as u64
    }

    fn start(
        &self,
        model: &Arc<Model>,
        shape: ContextShape,
        fed: Option<u64>,
    ) -> Result<LlamaBackend, Error> {
        let mut pump = fed.map(Pump::new).transpose()?;
        let shape = ContextShape {
            seqs: seqs_of(model, shape.seqs),
            ..shape
        };
        let context = Context::new(model, shape, pump.as_ref())?;
        if let Some(pump) = &mut pump
            && context.pools_last()
            && !context.equal_pieces()
        {
            pump.keep_hidden();
        }
        Ok(LlamaBackend {
            context,
            pump,
            outputs: Vec::new(),
            tensors: Default::default(),
            model: model.clone(),
            tier: None,
        })
    }
}

/// A context of llama.cpp, and the pump that feeds it unless it holds the weights.
pub struct LlamaBackend {
    // Holds a pointer to the pump, so it is dropped first.
    context: Context,
    pump: Option<Pump>,
    /// Rows of the last lap that have an output, ascending; kept only if it embeds.
    outputs: Vec<usize>,
    /// By class of lap: the tensor of each use of its graph.
    tensors: [Rc<[TensorUse]>; 3],
    model: Arc<Model>,
    tier: Option<KvTier>,
}

impl LlamaBackend {
    /// The model, for its vocabulary.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Whether it can give embeddings ([`LlamaBackend::hidden`]): the model's file declares
    /// last-token pooling, and the weights are fed.
    pub fn embeds(&self) -> bool {
        self.pump.as_ref().is_some_and(Pump::keeps_hidden)
    }

    /// The hidden state of a row of the last lap: the output of the last layer, normalized.
    /// `None` where the row has no output, or the model gives no embeddings.
    pub fn hidden(&self, row: usize) -> Option<&[f32]> {
        let output = self.outputs.binary_search(&row).ok()?;
        self.pump.as_ref()?.hidden(output)
    }

    /// The context, for sampling and the KV cache.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Has blocks of the KV cache stored in `tier`, which needs the sequence that
    /// `Options::spare` reserves.
    ///
    /// # Errors
    /// Where this model's cache cannot be stored in blocks.
    pub fn use_tier(&mut self, tier: KvTier) -> Result<(), Error> {
        self.context.check_tier()?;
        self.tier = Some(tier);
        Ok(())
    }

    /// The store of blocks of the KV cache, if there is one.
    pub fn tier(&mut self) -> Option<&mut KvTier> {
        self.tier.as_mut()
    }

    pub(crate) fn context_and_tier(&mut self) -> (&mut Context, Option<&mut KvTier>) {
        (&mut self.context, self.tier.as_mut())
    }

    /// The context, mutably.
    pub fn context_mut(&mut self) -> &mut Context {
        &mut self.context
    }

    /// Computes a lap of one token to its end with zeros in place of all weights.
    ///
    /// # Errors
    /// When llama.cpp fails.
    pub(crate) fn run_on_zeros(&mut self, names: &Names) -> Result<(), Error> {
        self.pump()?.learn_whole(names.clone());
        let code = self.context.decode(Self::blank());
        self.pump()?.learned()?;
        code.and_then(status)
    }

    fn pump(&mut self) -> Result<&mut Pump, Error> {
        let none = || Error::Defect("a model that is not fed has no pump".into());
        self.pump.as_mut().ok_or_else(none)
    }
}

impl Bind for LlamaBackend {
    fn ids(&mut self, _: UseId, _: &mut Vec<i32>) -> Result<(), Error> {
        Err(Error::Defect("indices were asked for between laps".into()))
    }

    fn bind(&mut self, used: UseId, binding: Binding) -> Result<(), Error> {
        self.pump()?.bind(used, binding)
    }

    fn set_ids(&mut self, _: UseId, _: &[i32]) -> Result<(), Error> {
        Err(Error::Defect("indices were set between laps".into()))
    }

    fn guess(&mut self, _: UseId, _: &mut Vec<i32>) -> Result<(), Error> {
        Err(Error::Defect("experts were guessed between laps".into()))
    }

    fn bind_frames(&mut self, _: UseId, _: FrameBinding<'_>) -> Result<(), Error> {
        Err(Error::Defect("experts were bound between laps".into()))
    }
}

impl Backend for LlamaBackend {
    type Work<'a> = &'a [Piece<'a>];

    fn rows(work: &[Piece<'_>]) -> usize {
        work.iter().map(|piece| piece.tokens.len()).sum()
    }

    fn has_output(work: &[Piece<'_>]) -> bool {
        work.iter().any(|piece| piece.output)
    }

    fn blank() -> &'static [Piece<'static>] {
        &[Piece {
            seq: 0,
            pos: 0,
            tokens: &[0],
            output: true,
        }]
    }

    fn shape(&self) -> ContextShape {
        ContextShape {
            ctx: self.context.cells(),
            ..self.context.shape()
        }
    }

    fn kv_bytes(&self) -> u64 {
        self.context.kv_bytes()
    }

    fn buffer_bytes(&self) -> u64 {
        self.context.buffer_bytes()
    }

    fn learn(&mut self, class: Class, names: &Names) -> Result<Graph, Error> {
        let shape = self.context.shape();
        // As many outputs as a lap can have, so that the largest number of indices that a
        // node reads is learned. With equal pieces only single tokens have outputs.
        let (rows, outputs) = match class {
            Class::Single => (1, 1),
            Class::Many if self.context.equal_pieces() => (shape.seqs, shape.seqs),
            Class::Many => (shape.ubatch, shape.seqs),
            Class::Quiet => (shape.ubatch, 0),
        };
        let tokens = vec![0; rows as usize];
        self.pump()?.learn(names.clone());
        let code = self.context.decode(&piece::even(&tokens, outputs));
        let Learned {
            graph,
            tensors,
            routers,
        } = self.pump()?.learned()?;
        let code = code?;
        if code != 2 {
            return Err(Error::Assumption(format!(
                "a dry lap ended with status {code}, not 2"
            )));
        }
        self.context.clear();
        if class == Class::Single {
            self.pump()?.use_routers(routers);
        }
        self.tensors[class as usize] = tensors.into();
        Ok(graph)
    }

    fn use_memory(&mut self, memory: Arc<Memory>) {
        if let Some(pump) = &mut self.pump {
            pump.use_memory(memory);
        }
    }

    fn settle(&mut self, class: Class, used: UseId, at: u64) {
        let tensor = self.tensors[class as usize][used.0 as usize].tensor;
        if let Some(memory) = self.pump.as_mut().and_then(Pump::memory) {
            // SAFETY: nothing computes between laps; a settled weight is completely read
            // and stays at its address as long as the memory lives, which the pump holds.
            unsafe { (*tensor).data = memory.ptr(at).cast_mut().cast() };
        }
    }

    fn run(&mut self, work: &[Piece<'_>], feed: Option<&mut dyn Feed>) -> Result<(), Error> {
        let class = Class::of(Self::rows(work), Self::has_output(work));
        if self.embeds() {
            self.outputs = piece::outputs(work);
        }
        let context = &mut self.context;
        let code = match (feed, &mut self.pump) {
            (Some(feed), Some(pump)) => {
                let tensors = self.tensors[class as usize].clone();
                pump.drive(feed, tensors, || match (class, work) {
                    // The graph that was learned for a single token has an output.
                    (Class::Single, &[piece]) => context.decode(&[piece.with_output()]),
                    _ => context.decode(work),
                })
            }
            _ => context.decode(work),
        };
        code.and_then(status)
    }

    fn undo(&mut self, work: &[Piece<'_>]) {
        self.context.undo(work);
    }

    fn clear(&mut self) {
        self.context.clear();
    }

    fn use_threads(&mut self, threads: u32) -> Result<(), Error> {
        self.context.use_threads(threads)
    }
}

/// The status that `llama_decode` returned, as a result.
fn status(code: i32) -> Result<(), Error> {
    let message = match code {
        0 => return Ok(()),
        1 => "the KV cache has no room for this batch",
        2 => "it was aborted",
        -2 => "it could not allocate memory",
        _ => "the computation failed",
    };
    Err(Error::Llama {
        what: "decode",
        message: message.into(),
    })
}
