//! [`Engine`]: a model opened in one of three ways, run lap by lap. Streamed (fed by the
//! line), native (the backend holds all weights), or mmap (the backend's own mapping, as
//! reference and baseline).

use std::path::Path;
use std::rc::Rc;

use delayline_line::{Clock, Counters};
use delayline_medium::RealClock;

use crate::backend::{Backend, Class, Load, Loader};
use crate::budget;
use crate::division::Division;
use crate::draft::Draft;
use crate::error::{Error, mib};
use crate::ledger::{Account, Ledger};
use crate::model_file::ModelFile;
use crate::options::{Options, Way};
use crate::process::{self, Usage};
use crate::report::{Laps, LoadedBytes, Source};
use crate::seal;
use crate::shape::ContextShape;
use crate::shrink::Shrink;
use crate::stream::Stream;
use crate::thread_choice::ThreadChoice;

/// A model ready to run.
pub struct Engine<B: Backend> {
    // It points into the stream's memory, so it is dropped first.
    backend: B,
    stream: Option<Stream>,
    /// Times laps; the medium's clock, if it has one.
    clock: Rc<dyn Clock>,
    file: ModelFile,
    ledger: Ledger,
    way: Load,
    native_from: Option<u64>,
    /// What the weights were held against, if the backend holds all of them.
    loaded: Option<LoadedBytes>,
    /// Name of a medium from [`Options::maker`].
    medium_name: Option<String>,
    laps: Laps,
    last_lap_ns: u64,
    has_output: bool,
    /// Chooses the number of threads, unless the user has.
    choice: Option<ThreadChoice>,
    /// Notice that a sequence may be longer than the model was trained for.
    too_long: Option<String>,
    /// Notices of files with holes.
    holes: Vec<String>,
}

impl<B: Backend> Engine<B> {
    /// Opens the model at `path`.
    ///
    /// # Errors
    /// If the file is unsound, the backend refuses it, or the budget is too small.
    pub fn open<L: Loader<Backend = B>>(
        loader: &L,
        path: &Path,
        options: &Options,
    ) -> Result<Self, Error> {
        let mut engine = Self::opened(loader, path, options)?;
        engine.holes = engine.file.holes();
        engine.too_long = budget::beyond_training(engine.file.facts().context, options.ctx);
        // The mapping is a baseline and keeps its number of threads.
        if options.threads.is_none() && options.way != Way::Mmap {
            engine.choice = Some(ThreadChoice::new(engine.threads()));
        }
        Ok(engine)
    }

    fn opened<L: Loader<Backend = B>>(
        loader: &L,
        path: &Path,
        options: &Options,
    ) -> Result<Self, Error> {
        let total = budget::allowed(options.memory)?;
        let mut file = ModelFile::open_within(path, total)?;
        let threads = budget::threads(options.threads);
        let seqs = options.seqs.unwrap_or(1).max(1);
        let mut shape = ContextShape {
            ctx: 0,
            seqs,
            ubatch: options
                .ubatch
                .unwrap_or_else(|| budget::default_ubatch(threads)),
            threads,
            kv: options.kv,
            flash: options.flash,
            spare: options.spare,
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
            return Self::whole(loader, file, way, shape, total, options.unchecked);
        }

        let model = loader.load(&file, Load::Empty)?;
        file.drop_headers();
        process::trim_heap();
        process::settle_program();
        let base = Usage::now().resident;
        let ledger = budget::ledger(total, &file, options, loader.spelled());
        let least = Shrink {
            ctx: options.ctx.unwrap_or(budget::SHORT_CTX),
            ubatch: options.ubatch.unwrap_or(1).max(seqs),
        };
        if shape.ctx > budget::SHORT_CTX && budget::kv_bytes(&file, shape.ctx, shape.kv) >= total {
            return Err(too_long(loader, &model, options, ledger, &file, shape)?);
        }
        let native_from = budget::native_from(&ledger, &file, options, base, &shape);
        let insists = options.maker.as_ref().is_some_and(|maker| maker.insists());
        let streams = insists || file.stripe_unit().is_some();
        if options.way == Way::Auto && !streams {
            let native = budget::native(&ledger, &file, base, &shape);
            if native.spent() <= total {
                drop(model);
                let shape = ContextShape {
                    ubatch: options.ubatch.unwrap_or(512).clamp(1, shape.ctx).max(seqs),
                    ..shape
                };
                return Self::whole(loader, file, Load::Native, shape, total, options.unchecked);
            }
        }

        // Find the longest context that there is room for, unless the user asks for one,
        // and the largest micro-batch that leaves most of the budget to the weights.
        // A context's size is measured by making it; one that is too large is made again,
        // smaller.
        let largest = largest_weight(&file);
        loop {
            let mut backend = loader.start(&model, shape, Some(largest))?;
            let draft = Draft::learn(&mut backend, &file, ledger.clone(), options)?;
            let (residency, keep) = match draft.divide(&file, shape.threads, options)? {
                Division::Fits { residency, keep } => (residency, keep),
                Division::Short(short) => {
                    let over = short.needed.saturating_sub(total);
                    let smaller = least.by(shape, &draft.ledger, over);
                    shape = smaller.ok_or_else(|| short.refusal(&draft.ledger))?;
                    continue;
                }
            };
            if let Some(smaller) = least.to_fair_buffers(shape, &draft.ledger) {
                shape = smaller;
                continue;
            }
            let mut stream = Stream::open(draft, residency, keep, &mut backend, &file, options)?;
            stream.fill(&mut backend, &file)?;
            let ledger = stream.ledger().clone();
            return Ok(Self {
                clock: stream.clock(),
                stream: Some(stream),
                native_from: Some(native_from),
                medium_name: options.maker.as_ref().and_then(|maker| maker.name()),
                ..Self::new(backend, file, Load::Empty, ledger)
            });
        }
    }

    fn new(backend: B, file: ModelFile, way: Load, ledger: Ledger) -> Self {
        Self {
            backend,
            stream: None,
            clock: Rc::new(RealClock::default()),
            file,
            ledger,
            way,
            native_from: None,
            loaded: None,
            medium_name: None,
            laps: Laps::default(),
            last_lap_ns: 0,
            has_output: false,
            choice: None,
            too_long: None,
            holes: Vec::new(),
        }
    }

    fn whole<L: Loader<Backend = B>>(
        loader: &L,
        mut file: ModelFile,
        way: Load,
        shape: ContextShape,
        total: u64,
        unchecked: bool,
    ) -> Result<Self, Error> {
        let loaded = match way {
            Load::Native if unchecked => LoadedBytes::Unchecked,
            Load::Native if seal::check_whole(&file)? => LoadedBytes::Sealed,
            _ => LoadedBytes::Trusted,
        };
        let model = loader.load(&file, way)?;
        file.drop_headers();
        process::trim_heap();
        let backend = loader.start(&model, shape, None)?;
        let mut ledger = Ledger::new(total);
        ledger.book(Account::Weights, file.weight_bytes());
        ledger.book(Account::KvCache, backend.kv_bytes());
        ledger.book(Account::Buffers, backend.buffer_bytes());
        Ok(Self {
            loaded: Some(loaded),
            ..Self::new(backend, file, way, ledger)
        })
    }

    /// Runs one lap. `next` is the kind of the lap expected after it, which is prefetched.
    ///
    /// # Errors
    /// If the bytes cannot be read or the backend fails. All sequences are then as they
    /// were before, and no output of the lap may be used.
    pub fn lap(&mut self, work: B::Work<'_>, next: Option<Class>) -> Result<(), Error> {
        let before = self.counters();
        let start_ns = self.clock.now_ns();
        let outcome = match &mut self.stream {
            Some(stream) => stream.lap(&mut self.backend, &self.file, work, next),
            None => self.whole_lap(work),
        };
        self.last_lap_ns = self.clock.now_ns() - start_ns;
        let after = self.counters();
        self.laps.count += 1;
        self.laps.ns += self.last_lap_ns;
        self.laps.stall_ns += after.stall_ns - before.stall_ns;
        self.laps.bytes_read += after.bytes_read - before.bytes_read;
        self.has_output = outcome.is_ok() && B::has_output(work);
        if let (Ok(()), Some(choice)) = (&outcome, &mut self.choice) {
            let stall_ns = after.stall_ns - before.stall_ns;
            let compute_ns = self.last_lap_ns.saturating_sub(stall_ns);
            let threads = choice.lap(B::rows(work), compute_ns as f64 / 1e9);
            // The lap has succeeded; if new threads cannot be started, the old ones stay.
            let _ = self.backend.use_threads(threads);
        }
        outcome
    }

    fn whole_lap(&mut self, work: B::Work<'_>) -> Result<(), Error> {
        let outcome = self.backend.run(work, None);
        if outcome.is_err() {
            self.backend.undo(work);
        }
        outcome
    }

    /// Whether the last lap has outputs: not if it failed or none were requested.
    pub fn has_output(&self) -> bool {
        self.has_output
    }

    /// The backend, for its outputs and its KV cache.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// Like [`Engine::backend`], to change it.
    pub fn backend_mut(&mut self) -> &mut B {
        &mut self.backend
    }

    /// Notices for a person about how the model is run, in sentences.
    pub fn notices(&self) -> Vec<String> {
        let stream = self.stream.iter().flat_map(|stream| stream.notices());
        stream
            .chain(&self.holes)
            .chain(&self.too_long)
            .cloned()
            .collect()
    }

    /// Tokens that the KV cache holds, of all sequences together.
    pub fn ctx(&self) -> u32 {
        self.backend.shape().ctx
    }

    /// Maximum number of sequences that share a lap.
    pub fn seqs(&self) -> u32 {
        self.backend.shape().seqs
    }

    /// Maximum number of tokens of a lap.
    pub fn ubatch(&self) -> u32 {
        self.backend.shape().ubatch
    }

    /// Compute threads.
    pub fn threads(&self) -> u32 {
        self.backend.shape().threads
    }

    /// The model's files.
    pub fn file(&self) -> &ModelFile {
        &self.file
    }

    /// What the budget is spent on.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The stream, unless the backend holds the weights itself.
    pub fn stream(&mut self) -> Option<&mut Stream> {
        self.stream.as_mut()
    }

    /// How the weights got into memory.
    pub fn way(&self) -> Load {
        self.way
    }

    /// What the weights were held against when the backend loaded them itself; `None` if they
    /// are streamed.
    pub fn loaded(&self) -> Option<LoadedBytes> {
        self.loaded
    }

    /// Where the weights of a lap come from.
    pub fn source(&self) -> Source {
        let stream = self.stream.as_ref().filter(|s| s.reads());
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

    /// Totals of all laps so far.
    pub fn laps(&self) -> Laps {
        self.laps
    }

    /// For a streamed model, the smallest budget in bytes with which [`Way::Auto`] would
    /// load it natively.
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

/// Bytes of the largest weight.
fn largest_weight(file: &ModelFile) -> u64 {
    file.weights().iter().map(|w| w.len).max().unwrap_or(0)
}

/// The error for a context whose KV cache alone exceeds the budget. That context is not
/// made; its needs are computed from those of a short one.
fn too_long<L: Loader>(
    loader: &L,
    model: &L::Model,
    options: &Options,
    ledger: Ledger,
    file: &ModelFile,
    shape: ContextShape,
) -> Result<Error, Error> {
    let short = ContextShape {
        ctx: budget::SHORT_CTX,
        ubatch: options.ubatch.unwrap_or(1).max(shape.seqs),
        ..shape
    };
    let mut backend = loader.start(model, short, Some(largest_weight(file)))?;
    let draft = Draft::learn(&mut backend, file, ledger.of_nothing(), options)?;
    let options = Options {
        weights: None,
        ..options.clone()
    };
    match draft.divide(file, shape.threads, &options)? {
        Division::Short(least) => Ok(Error::Budget {
            budget: ledger.budget(),
            needed: least
                .needed
                .saturating_add(budget::longer_context(file, &options, &shape)),
            weights: least.weights,
            detail: format!(
                "the KV cache of {} tokens alone takes up to {}; lower --ctx",
                shape.ctx,
                mib(budget::kv_bytes(file, shape.ctx, shape.kv))
            ),
        }),
        Division::Fits { .. } => Err(Error::Defect("weights fit into no memory".into())),
    }
}
