//! A server's life: the model is opened, laps are measured, the socket is opened;
//! told to stop, it lets answers end.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;

use delayline_llama::batch::Batcher;
use delayline_llama::watch::{Stretch, StretchKind};
use delayline_llama::{MemoryReport, ModelFile, Source, Template, Vocab};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, watch};

use crate::app::{App, unix_s};
use crate::config::{Error, Limits, ServerConfig};
use crate::engine::EngineThread;
use crate::http;
use crate::listen;
use crate::live::{self, Machine};
use crate::shared::{Health, Shared};

/// Laps of each size that are measured before the first request.
const WARM_UP: usize = 2;

/// Threads that take requests apart.
const TASKS: usize = 2;

/// What a server tells of itself when it is ready.
#[derive(Clone, Debug)]
pub struct Started {
    /// Where it listens.
    pub address: SocketAddr,
    /// The model's name in the API.
    pub model: String,
    /// Most sequences that share a lap.
    pub seats: usize,
    /// Tokens that a sequence may have, prompt and answer.
    pub ctx: usize,
    /// Tokens that the KV cache holds, of all sequences.
    pub cells: usize,
    /// Most tokens of an answer whose request does not say.
    pub default_tokens: usize,
    /// How many sequences a lap carries until compute is its longer part; 0 if it
    /// always is. `None` if nobody knows, as with a mapped model.
    pub limit: Option<f64>,
    /// Compute of a lap of one token, in seconds; of a mapped model the whole lap.
    pub compute_s: Option<f64>,
    /// How long the bytes of a lap take, in seconds, if the compute waits for them.
    pub medium_s: Option<f64>,
    /// Where the weights of a lap come from.
    pub source: Source,
    /// Bytes that a lap streams.
    pub streamed_bytes: u64,
    /// Where the budget goes.
    pub memory: MemoryReport,
    /// What a person should know of how the files are read.
    pub notices: Vec<String>,
}

/// A running server; dropped, it stops at once.
pub struct Handle {
    started: Started,
    shared: Arc<Shared>,
    engine: Option<JoinHandle<()>>,
    sockets: Option<JoinHandle<()>>,
    over: watch::Sender<bool>,
    drain: std::time::Duration,
}

/// Opens the model and the socket, and serves.
///
/// # Errors
/// When that cannot be.
pub fn start(config: ServerConfig) -> Result<Handle, Error> {
    config.check()?;
    let listen_error = |source| Error::Listen {
        address: config.address,
        source,
    };
    // A taken address is told before minutes are spent on the model.
    let socket = std::net::TcpListener::bind(config.address).map_err(listen_error)?;
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?;
    let shared = Arc::new(Shared::new(config.limits.queue));
    delayline_llama::share_heap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(TASKS)
        .max_blocking_threads(TASKS)
        .enable_all()
        .build()?;

    let (tell, told) = mpsc::channel();
    let engine = std::thread::Builder::new().name("engine".into()).spawn({
        let (config, shared) = (config.clone(), shared.clone());
        move || compute(&config, &shared, &tell)
    })?;
    let Ok(opened) = told.recv() else {
        return Err(Error::Engine);
    };
    let opened = opened?;
    let started = Started {
        address,
        ..opened.started.clone()
    };
    let limits = config.limits.clone();
    shared.feed.describe(|machine| {
        let live = describe(&started, &config.limits, &opened);
        *machine = Machine {
            version: std::mem::take(&mut machine.version),
            started_unix_ms: machine.started_unix_ms,
            ..live
        };
    });
    let app = Arc::new(App {
        shared: shared.clone(),
        vocab: opened.vocab,
        template: opened.template,
        model: started.model.clone(),
        created: unix_s(),
        ctx: started.ctx,
        default_tokens: started.default_tokens,
        seats: started.seats,
        keys: config.keys,
        origins: config.origins,
        loopback: address.ip().is_loopback(),
        bodies: Arc::new(Semaphore::new(limits.bodies.div_ceil(1024))),
        reading: Arc::new(Semaphore::new(TASKS)),
        listeners: Arc::new(Semaphore::new(limits.listeners)),
        limits: limits.clone(),
    });
    let (over, is_over) = watch::channel(false);
    let drain = limits.drain_time;
    let sockets = std::thread::Builder::new()
        .name("sockets".into())
        .spawn(move || {
            serve(&runtime, socket, app, limits, is_over);
        })?;
    Ok(Handle {
        started,
        shared,
        engine: Some(engine),
        sockets: Some(sockets),
        over,
        drain,
    })
}

fn serve(
    runtime: &Runtime,
    socket: std::net::TcpListener,
    app: Arc<App>,
    limits: crate::config::Limits,
    over: watch::Receiver<bool>,
) {
    runtime.block_on(async {
        match tokio::net::TcpListener::from_std(socket) {
            Ok(socket) => listen::listen(socket, http::router(app), limits, over).await,
            Err(error) => tracing::error!("the socket was refused: {error}"),
        }
    });
}

/// What the engine's thread has opened.
struct Opened {
    started: Started,
    vocab: Vocab,
    template: Result<Template, String>,
    stretches: Vec<Stretch>,
    threads: u32,
    /// What the device can do, in bytes per second.
    device: Option<f64>,
    /// What a medium from above tells of itself.
    glass: Option<serde_json::Value>,
}

/// The engine's thread.
fn compute(
    config: &ServerConfig,
    shared: &Arc<Shared>,
    tell: &mpsc::Sender<Result<Opened, Error>>,
) {
    let outcome = catch_unwind(AssertUnwindSafe(|| match open(config, shared) {
        Ok((batcher, opened)) => {
            let _ = tell.send(Ok(opened));
            EngineThread::new(batcher, shared.clone()).run();
        }
        Err(error) => {
            let _ = tell.send(Err(error));
        }
    }));
    if outcome.is_err() {
        shared.set_health(Health::Ended);
        shared.drain();
    }
}

fn open(config: &ServerConfig, shared: &Shared) -> Result<(Batcher, Opened), Error> {
    let options = delayline_llama::Options {
        seqs: Some(config.riders.max(1)),
        reserve: config.limits.reserve(),
        grammars: true,
        ..config.engine.clone()
    };
    // A medium from above that knows its rate is not measured by the drive behind it.
    let known = config
        .engine
        .maker
        .as_ref()
        .and_then(|maker| maker.rate_bytes_per_s());
    let device = known.or_else(|| device_rate(config));
    let mut engine = delayline_llama::Engine::open(&config.model, &options)?;
    let (threads, cells) = (engine.threads(), engine.ctx() as usize);
    let (memory, source) = (engine.memory(), engine.source());
    let (mut notices, mut streamed_bytes) = (Vec::new(), 0);
    let mut stretches = vec![Stretch {
        bytes: memory.resident_weights,
        kind: StretchKind::Resident,
    }];
    if let Some(stream) = engine.stream() {
        notices = stream.notices().to_vec();
        streamed_bytes = stream.bytes_per_lap();
        let fine = stream.stretches();
        let len = fine.iter().map(|stretch| stretch.bytes).sum();
        stretches = live::stretches(fine);
        shared.feed.watch(stream.watch(), len);
    }
    let mut batcher = Batcher::new(engine, config.engine.ctx);
    batcher.warm_up(WARM_UP)?;
    let vocab = batcher.vocab().clone();
    let template = Template::of(&vocab).map_err(|error| error.to_string());
    let (seats, ctx) = (batcher.slots(), batcher.ctx());
    let cost = batcher.cost();
    let started = Started {
        address: config.address,
        model: name(&config.model),
        seats,
        ctx,
        cells,
        default_tokens: (cells / seats).max(256).min(ctx),
        limit: cost.limit(),
        compute_s: cost.compute_s(1),
        medium_s: cost.medium_s(),
        source,
        streamed_bytes,
        memory,
        notices,
    };
    let opened = Opened {
        started,
        vocab,
        template,
        stretches,
        threads,
        device: device.filter(|_| streamed_bytes > 0),
        glass: config
            .engine
            .maker
            .as_ref()
            .filter(|_| streamed_bytes > 0)
            .and_then(|maker| maker.describe()),
    };
    Ok((batcher, opened))
}

/// What the device can do, in bytes per second. Measured before the model is
/// opened, while the budget is free; if that fails, opening it will tell why.
fn device_rate(config: &ServerConfig) -> Option<f64> {
    let file = ModelFile::open(&config.model).ok()?;
    let budget = config.engine.memory.unwrap_or(u64::MAX);
    delayline_llama::device_rate(&file.paths(), budget).ok()
}

/// The file's name without its ending and, of a split model, its number.
fn name(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    match stem.rsplit_once("-00001-of-") {
        Some((name, _)) => name.to_owned(),
        None => stem.into_owned(),
    }
}

fn describe(started: &Started, limits: &Limits, opened: &Opened) -> Machine {
    let memory = started.memory;
    Machine {
        model: started.model.clone(),
        medium: started.source.to_string(),
        mapped: started.source == Source::Mapping,
        glass: opened.glass.clone(),
        stretches: opened.stretches.clone(),
        budget_bytes: memory.budget,
        window_bytes: memory.window,
        resident_bytes: if started.source == Source::Mapping {
            0
        } else {
            memory.resident_weights
        },
        kv_bytes: memory.kv,
        buffer_bytes: memory.buffers,
        device_bytes_per_s: opened.device,
        compute_s: started.compute_s,
        limit_sequences: started.limit,
        max_sequences: started.seats as u32,
        max_queued: limits.queue as u32,
        context_tokens: started.ctx as u32,
        threads: opened.threads,
        ..Machine::default()
    }
}

impl Handle {
    /// What it tells of itself.
    pub fn started(&self) -> &Started {
        &self.started
    }

    /// Whether the engine still runs.
    pub fn runs(&self) -> bool {
        self.engine
            .as_ref()
            .is_some_and(|engine| !engine.is_finished())
    }

    /// Takes no more requests; ends when all answers are given or time is over.
    ///
    /// # Errors
    /// When the engine has ended by a defect.
    pub fn drain(mut self) -> Result<(), Error> {
        self.shared.drain();
        let end = std::time::Instant::now() + self.drain;
        while self.runs() && std::time::Instant::now() < end {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        self.end();
        match self.shared.health() {
            Health::Ended => Err(Error::Engine),
            _ => Ok(()),
        }
    }

    fn end(&mut self) {
        self.shared.stop();
        if let Some(engine) = self.engine.take() {
            // A panic was caught in it and is told by `health`.
            let _ = engine.join();
        }
        let _ = self.over.send(true);
        if let Some(sockets) = self.sockets.take() {
            let _ = sockets.join();
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.end();
    }
}
