//! The whole machine: a model opened in one of three ways, one lap at a time.
//! Streamed (fed by the line), native (llama.cpp holds everything), or mmap
//! (llama.cpp's own way, the oracle and the baseline).

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use delayline_engine::process::{self, Usage};
use delayline_engine::{
    Error, Laps, MemoryReport, ModelFile, Options, Shape, Source, Way, budget, mib,
};
use delayline_line::Counters;

use crate::context::Context;
use crate::empty::{Load, Model, load};
use crate::kind::{check_kind, seqs_of};
use crate::piece::{self, Piece};
use crate::sample::SPELLED;
use crate::stream::{Class, Stream};
use crate::thread_choice::ThreadChoice;

/// A model ready to run.
pub struct Engine {
    context: Context,
    stream: Option<Stream>,
    model: Arc<Model>,
    file: ModelFile,
    memory: MemoryReport,
    way: Load,
    native_from: Option<u64>,
    /// What a medium from above is called.
    medium_name: Option<String>,
    laps: Laps,
    last_lap_ns: u64,
    has_logits: bool,
    /// How many threads compute, unless the user chose.
    choice: Option<ThreadChoice>,
}

impl Engine {
    /// Opens the model at `path`.
    ///
    /// # Errors
    /// When the file is unsound, llama.cpp refuses it, or the budget is too small.
    pub fn open(path: &Path, options: &Options) -> Result<Self, Error> {
        let mut engine = Self::opened(path, options)?;
        // llama.cpp's own mapping is compared with, not improved.
        if options.threads.is_none() && options.way != Way::Mmap {
            engine.choice = Some(ThreadChoice::new(engine.threads()));
        }
        Ok(engine)
    }

    fn opened(path: &Path, options: &Options) -> Result<Self, Error> {
        let mut file = ModelFile::open(path)?;
        let threads = budget::threads(options.threads);
        let total = budget::allowed(options.memory)?;
        let seqs = options.seqs.unwrap_or(1).max(1);
        let mut shape = Shape {
            ctx: 0,
            seqs,
            ubatch: options
                .ubatch
                .unwrap_or_else(|| budget::default_ubatch(threads)),
            threads,
            kv: options.kv,
            flash: options.flash,
        };
        shape.ctx = budget::context(&file, options, total, &shape);
        shape.ubatch = shape.ubatch.clamp(1, shape.ctx).max(seqs);
        if let Way::Native | Way::Mmap = options.way {
            if file.stripe_unit().is_some() {
                let message = "llama.cpp cannot load a striped model itself: name the model";
                return Err(Error::Option(message.into()));
            }
            if options.maker.as_ref().is_some_and(|maker| maker.insists()) {
                let message = "llama.cpp reads the files itself, from flash: leave the medium out";
                return Err(Error::Option(message.into()));
            }
            let way = if options.way == Way::Native {
                Load::Native
            } else {
                Load::Mmap
            };
            return Self::whole(file, way, shape, total);
        }

        if shape.ctx > budget::SHORT_CTX && budget::kv_bytes(&file, shape.ctx, shape.kv) >= total {
            return Err(too_long(path, options, total, &file, &shape));
        }
        let model = load(&file, Load::Empty)?;
        file.drop_headers();
        process::trim_heap();
        process::settle_program();
        check_kind(&model)?;
        shape.seqs = seqs_of(&model, seqs);
        let base = Usage::now().resident;
        let set_aside = budget::set_aside(options, SPELLED as u64);
        let native_from = Some(budget::native_from(&file, options, base, &shape) + set_aside);
        let insists = options.maker.as_ref().is_some_and(|maker| maker.insists());
        let streams = insists || file.stripe_unit().is_some();
        if options.way == Way::Auto && !streams {
            let native = budget::native(&file, base, &shape) + set_aside;
            if native <= total {
                drop(model);
                let shape = Shape {
                    ubatch: options.ubatch.unwrap_or(512).clamp(1, shape.ctx).max(seqs),
                    ..shape
                };
                return Self::whole(file, Load::Native, shape, total);
            }
        }

        // The longest context that there is room for, unless the user asks for one,
        // and the largest micro-batch that leaves most of the budget to the weights.
        let smallest = options.ubatch.unwrap_or(1).max(seqs);
        let shortest = options.ctx.unwrap_or(budget::SHORT_CTX);
        loop {
            match Self::streamed(&model, &file, shape, total, options) {
                Err(Error::Budget { .. }) if shape.ctx > shortest => {
                    shape.ctx = (shape.ctx / 2).max(shortest);
                    shape.ubatch = shape.ubatch.min(shape.ctx).max(smallest);
                }
                Err(Error::Budget { .. }) if shape.ubatch > smallest => {
                    shape.ubatch = (shape.ubatch / 2).max(smallest)
                }
                Err(other) => return Err(other),
                Ok((mut context, mut stream, memory)) => {
                    let greedy = context.buffer_bytes() > total / 8;
                    if greedy && shape.ubatch > smallest.max(16) {
                        shape.ubatch /= 2;
                        // It points into the stream, so it goes first.
                        drop(context);
                        continue;
                    }
                    stream.fill(&mut context, &file)?;
                    return Ok(Self {
                        context,
                        stream: Some(stream),
                        model,
                        file,
                        memory,
                        way: Load::Empty,
                        native_from,
                        medium_name: options.maker.as_ref().and_then(|maker| maker.name()),
                        laps: Laps::default(),
                        last_lap_ns: 0,
                        has_logits: false,
                        choice: None,
                    });
                }
            }
        }
    }

    fn streamed(
        model: &Arc<Model>,
        file: &ModelFile,
        shape: Shape,
        total: u64,
        options: &Options,
    ) -> Result<(Context, Stream, MemoryReport), Error> {
        let (context, mut stream) = Stream::open(model, file, shape, total, options)?;
        let memory = MemoryReport {
            budget: total,
            window: stream.window(),
            resident_weights: stream.resident_bytes(),
            kv: context.kv_bytes(),
            buffers: stream.needs().saturating_sub(context.kv_bytes()),
        };
        Ok((context, stream, memory))
    }

    fn whole(mut file: ModelFile, way: Load, mut shape: Shape, total: u64) -> Result<Self, Error> {
        let model = load(&file, way)?;
        file.drop_headers();
        process::trim_heap();
        check_kind(&model)?;
        shape.seqs = seqs_of(&model, shape.seqs);
        let context = Context::new(&model, shape, None)?;
        let memory = MemoryReport {
            budget: total,
            window: 0,
            resident_weights: file.weight_bytes(),
            kv: context.kv_bytes(),
            buffers: context.buffer_bytes(),
        };
        Ok(Self {
            context,
            stream: None,
            model,
            file,
            memory,
            way,
            native_from: None,
            medium_name: None,
            laps: Laps::default(),
            last_lap_ns: 0,
            has_logits: false,
            choice: None,
        })
    }

    /// One lap: `tokens`, at most a micro-batch, at positions `pos..`. With
    /// `output`, the logits of the last token are computed. `next` is what the
    /// caller expects to ask for after this, so that it is prefetched.
    ///
    /// # Errors
    /// When the bytes cannot be had or llama.cpp fails; the KV cache then holds
    /// what it held before, and nothing of this lap may be used.
    pub fn lap(
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
        self.lap_of(&[piece], next)
    }

    /// One lap that several sequences share, at most a micro-batch of tokens
    /// together, one piece a sequence.
    ///
    /// # Errors
    /// As [`Engine::lap`]: all sequences are as they were before.
    pub fn lap_of(&mut self, pieces: &[Piece], next: Option<Class>) -> Result<(), Error> {
        let before = self.counters();
        let start = Instant::now();
        let outcome = match &mut self.stream {
            Some(stream) => stream.lap(&mut self.context, &self.file, pieces, next),
            None => self.whole_lap(pieces),
        };
        self.last_lap_ns = start.elapsed().as_nanos() as u64;
        let after = self.counters();
        self.laps.count += 1;
        self.laps.ns += self.last_lap_ns;
        self.laps.stall_ns += after.stall_ns - before.stall_ns;
        self.laps.bytes_read += after.bytes_read - before.bytes_read;
        self.has_logits = outcome.is_ok() && pieces.iter().any(|piece| piece.output);
        if let (Ok(()), Some(choice)) = (&outcome, &mut self.choice) {
            let rows = pieces.iter().map(|piece| piece.tokens.len()).sum();
            let stall_ns = after.stall_ns - before.stall_ns;
            let compute_ns = self.last_lap_ns.saturating_sub(stall_ns);
            let threads = choice.lap(rows, compute_ns as f64 / 1e9);
            // What was computed stands: without new threads the old ones go on.
            let _ = self.context.use_threads(threads);
        }
        outcome
    }

    fn whole_lap(&mut self, pieces: &[Piece]) -> Result<(), Error> {
        let outcome = self.context.decode(pieces).and_then(status);
        if outcome.is_err() {
            piece::undo(pieces, &mut self.context);
        }
        outcome
    }

    /// Logits of that token of the last lap, counted from 0 over all its pieces.
    pub fn logits_of(&self, token: usize) -> Option<&[f32]> {
        if self.has_logits {
            self.context.logits_of(token as i32)
        } else {
            None
        }
    }

    /// Logits of the last lap; `None` if it failed or was without output.
    pub fn logits(&self) -> Option<&[f32]> {
        if self.has_logits {
            self.context.logits()
        } else {
            None
        }
    }

    /// The context, for sampling and the KV cache.
    pub fn context(&mut self) -> &mut Context {
        &mut self.context
    }

    /// Tokens that the context holds, of all sequences together.
    pub fn ctx(&self) -> u32 {
        // SAFETY: the context is live.
        unsafe { crate::sys::llama_n_ctx(self.context.as_ptr()) }
    }

    /// Most sequences that share a lap.
    pub fn seqs(&self) -> u32 {
        self.context.shape().seqs
    }

    /// Most tokens of a lap.
    pub fn ubatch(&self) -> u32 {
        self.context.shape().ubatch
    }

    /// Compute threads.
    pub fn threads(&self) -> u32 {
        self.context.shape().threads
    }

    /// The model, for its vocabulary.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// The files.
    pub fn file(&self) -> &ModelFile {
        &self.file
    }

    /// Where the budget goes.
    pub fn memory(&self) -> MemoryReport {
        self.memory
    }

    /// The stream, unless llama.cpp holds the weights itself.
    pub fn stream(&mut self) -> Option<&mut Stream> {
        self.stream.as_mut()
    }

    /// How the weights got into memory.
    pub fn way(&self) -> Load {
        self.way
    }

    /// Where the weights of a lap come from.
    pub fn source(&self) -> Source {
        let stream = self.stream.as_ref().filter(|s| s.bytes_per_lap() > 0);
        match (self.way, stream, &self.medium_name) {
            (Load::Mmap, ..) => Source::Mapping,
            (_, None, _) => Source::Memory,
            (.., Some(name)) => Source::Other(name.clone()),
            _ if self.file.stripe_unit().is_some() => {
                Source::Drives(self.file.parts()[0].files.len())
            }
            _ => Source::Flash,
        }
    }

    /// What all laps so far took.
    pub fn laps(&self) -> Laps {
        self.laps
    }

    /// Of a streamed model, the budget in bytes from which on [`Way::Auto`]
    /// lets llama.cpp hold all of it.
    pub fn native_from(&self) -> Option<u64> {
        self.native_from
    }

    fn counters(&mut self) -> Counters {
        self.stream
            .as_mut()
            .map(|stream| stream.line().counters())
            .unwrap_or_default()
    }

    /// Time of the last lap in nanoseconds.
    pub fn last_lap_ns(&self) -> u64 {
        self.last_lap_ns
    }
}

/// llama.cpp's status of a decode as a result.
pub(crate) fn status(code: i32) -> Result<(), Error> {
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

/// The refusal of a context of which the KV cache alone breaks the budget. It is
/// not tried, but reckoned from what a short one needs.
fn too_long(path: &Path, options: &Options, total: u64, file: &ModelFile, shape: &Shape) -> Error {
    let nothing = Options {
        ctx: Some(budget::SHORT_CTX),
        memory: Some(0),
        weights: None,
        way: Way::Streamed,
        ..options.clone()
    };
    match Engine::open(path, &nothing) {
        Err(Error::Budget {
            needed, weights, ..
        }) => Error::Budget {
            budget: total,
            needed: needed + budget::longer_context(file, options, shape),
            weights,
            detail: format!(
                "the KV cache of {} tokens alone takes up to {}; lower --ctx",
                shape.ctx,
                mib(budget::kv_bytes(file, shape.ctx, shape.kv))
            ),
        },
        Err(other) => other,
        Ok(_) => Error::Defect("a model was opened in no memory".into()),
    }
}
