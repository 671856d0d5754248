//! Starts a server (opens the model, measures laps, opens the socket) and ends it, with or
//! without waiting for the answers in progress.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use delayline_engine::watch::{Stretch, StretchKind};
use delayline_engine::{LedgerFigures, ModelFile, Options, Source};
use delayline_llama::batch::Batcher;
use delayline_llama::{KvTier, Sampling, Template, Vocab};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, watch};

use crate::api::channels;
use crate::api::error::ApiError;
use crate::api::thoughts::ThoughtTags;
use crate::api::tools::CallFormat;
use crate::app::{App, unix_s};
use crate::config::{Error, Limits, ServerConfig, TASKS};
use crate::engine::EngineThread;
use crate::http;
use crate::intake::Intake;
use crate::listen::{self, Closing};
use crate::live::{self, Machine};
use crate::overdue;
use crate::shared::{Flush, Health, Shared, Update};

/// Number of laps of each size that are measured before the first request.
const WARM_UP: usize = 2;

/// What is known of a server when it is ready.
#[derive(Clone, Debug)]
pub struct Started {
    /// Where it listens.
    pub address: SocketAddr,
    /// The model's name in the API.
    pub model: String,
    /// Maximum number of sequences that share a lap.
    pub slots: usize,
    /// Maximum number of tokens of a sequence, prompt and answer.
    pub ctx: usize,
    /// Number of tokens in the KV cache, of all sequences.
    pub cells: usize,
    /// Default maximum number of tokens of an answer.
    pub default_tokens: usize,
    /// Number of sequences in a lap from which on computing takes longer than reading; 0 if
    /// it always does. `None` if unknown, as with a mapped model.
    pub limit: Option<f64>,
    /// Compute time of a lap of one token, in seconds; of a mapped model the whole lap.
    pub compute_s: Option<f64>,
    /// Time to read the bytes of a lap, in seconds, if the compute waits for them.
    pub medium_s: Option<f64>,
    /// Time after which a lap of one token counts as hung, in seconds.
    pub lap_limit_s: f64,
    /// Where the weights of a lap come from.
    pub source: Source,
    /// Bytes that a lap streams.
    pub streamed_bytes: u64,
    /// How the budget is divided.
    pub ledger: LedgerFigures,
    /// Notices for the user about how the files are read.
    pub notices: Vec<String>,
}

/// Maximum wait for the engine's next lap boundary when the server ends.
pub(crate) const LAST_LAP: Duration = Duration::from_secs(1);

/// A running server, which stops at once when this is dropped. If the engine hangs in a lap,
/// its thread is abandoned: nothing waits for a drive.
pub struct Handle {
    started: Started,
    shared: Arc<Shared>,
    /// Disconnected when the engine's thread has ended.
    engine: Arc<Mutex<mpsc::Receiver<Infallible>>>,
    door: Door,
    drain: Duration,
}

/// How a server has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Drained {
    /// The engine's thread has ended.
    Whole,
    /// The time was over with the engine's thread still in a lap; with a message if it hangs.
    Cut(Option<String>),
}

/// Closes a server's sockets from any thread.
#[derive(Clone)]
pub struct Door {
    shared: Arc<Shared>,
    over: watch::Sender<Closing>,
    /// Disconnected when the sockets' thread has ended.
    sockets: Arc<Mutex<mpsc::Receiver<Infallible>>>,
}

impl Door {
    /// Closes all sockets now, also those with an answer in progress.
    pub fn close(&self) {
        self.over.send_replace(Closing::AtOnce);
        has_ended(&self.sockets, LAST_LAP);
    }

    /// Closes the sockets and waits for connections to end.
    fn close_gently(&self) {
        self.over.send_replace(Closing::Gently);
        has_ended(&self.sockets, Duration::MAX);
    }

    /// A message if the current lap hangs.
    pub fn hung(&self) -> Option<String> {
        self.shared.laps.hung().map(|why| why.to_string())
    }
}

/// Waits for at most `time` until a thread has ended; returns whether it has.
fn has_ended(thread: &Mutex<mpsc::Receiver<Infallible>>, time: Duration) -> bool {
    let thread = thread.lock().unwrap_or_else(PoisonError::into_inner);
    thread.recv_timeout(time) == Err(RecvTimeoutError::Disconnected)
}

/// Opens the model and the socket, and serves.
///
/// # Errors
/// When the configuration is refused, or the model or the socket cannot be opened.
pub fn start(config: ServerConfig) -> Result<Handle, Error> {
    config.check()?;
    let listen_error = |source| Error::Listen {
        address: config.address,
        source,
    };
    // First, so that an address in use is reported before minutes are spent on the model.
    let socket = std::net::TcpListener::bind(config.address).map_err(listen_error)?;
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?;
    let (limits, drain) = (config.limits.clone(), config.limits.drain_time);
    let core = core(config, address)?;
    let (shared, runtime, app) = (core.shared.clone(), core.runtime, core.app);
    let (over, is_over) = watch::channel(Closing::Open);
    let (serves, sockets) = mpsc::channel();
    std::thread::Builder::new()
        .name("sockets".into())
        .spawn(move || {
            serve(&runtime, socket, app, limits, is_over);
            drop((runtime, serves));
        })?;
    let door = Door {
        shared: shared.clone(),
        over,
        sockets: Arc::new(Mutex::new(sockets)),
    };
    Ok(Handle {
        started: core.started,
        shared,
        engine: Arc::new(Mutex::new(core.engine)),
        door,
        drain,
    })
}

/// A server without its sockets.
pub(crate) struct Core {
    pub(crate) started: Started,
    pub(crate) shared: Arc<Shared>,
    /// Disconnected when the engine's thread has ended.
    pub(crate) engine: mpsc::Receiver<Infallible>,
    pub(crate) runtime: Runtime,
    pub(crate) app: Arc<App>,
}

/// Opens the model and prepares everything for requests.
pub(crate) fn core(config: ServerConfig, address: SocketAddr) -> Result<Core, Error> {
    let shared = Arc::new(Shared::new(config.limits.queue));
    delayline_engine::share_heap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(TASKS)
        .max_blocking_threads(TASKS)
        .enable_all()
        .build()?;

    let (tell, told) = mpsc::channel();
    let (runs, engine) = mpsc::channel();
    let (flushes, to_flush) = tokio::sync::mpsc::channel(TASKS);
    std::thread::Builder::new().name("engine".into()).spawn({
        let (config, shared) = (config.clone(), shared.clone());
        move || {
            compute(&config, &shared, to_flush, &tell);
            drop(runs);
        }
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
    let rate = opened.device.unwrap_or(0.0);
    shared.metrics.device_rate.set(rate);
    shared.feed.describe(|machine| {
        let live = describe(&started, &config.limits, &opened);
        *machine = Machine {
            version: std::mem::take(&mut machine.version),
            started_unix_ms: machine.started_unix_ms,
            ..live
        };
    });
    let longest = longest(&config.engine);
    let lap_s = started.compute_s.unwrap_or(0.0);
    let lap_s = lap_s.max(started.medium_s.unwrap_or(0.0));
    let app = Arc::new(App {
        shared: shared.clone(),
        tells_tools: opened.tells_tools,
        thinks: opened.thinks,
        shown: opened.shown,
        embeds: opened.embeds,
        call_format: opened.call_format,
        strict_model: config.strict_model,
        thinking_budget: config.thinking_budget,
        vocab: opened.vocab,
        template: opened.template,
        names: std::iter::once(started.model.clone())
            .chain(config.aliases)
            .collect(),
        created: unix_s(),
        ctx: started.ctx,
        default_tokens: started.default_tokens,
        sampling: opened.sampling,
        slots: started.slots,
        keys: config.keys,
        kv_scope: config.kv_scope,
        flushes,
        origins: config.origins,
        loopback: address.ip().is_loopback(),
        intake: Intake::new(
            limits.body_bytes(longest),
            limits.bodies_bytes(longest),
            limits.transfer_time,
            limits.head_time,
        ),
        reading: Arc::new(Semaphore::new(TASKS)),
        listeners: Arc::new(Semaphore::new(limits.listeners)),
        queue_time: limits.queue_time(lap_s),
        request_time: limits.request_time(lap_s, started.ctx),
        limits,
    });
    let watched = shared.clone();
    runtime.spawn(async move {
        let ill = |why: &str| {
            tracing::error!("{why}");
            watched.set_health(Health::Ill(why.to_owned()));
        };
        watched.laps.watch(|| watched.feed.waits(), ill).await;
    });
    Ok(Core {
        started,
        shared,
        engine,
        runtime,
        app,
    })
}

fn serve(
    runtime: &Runtime,
    socket: std::net::TcpListener,
    app: Arc<App>,
    limits: crate::config::Limits,
    over: watch::Receiver<Closing>,
) {
    runtime.block_on(async {
        match tokio::net::TcpListener::from_std(socket) {
            Ok(socket) => listen::listen(socket, http::router(app), limits, over).await,
            Err(error) => tracing::error!("cannot serve on the socket: {error}"),
        }
    });
}

/// Number of tokens of a sequence for which memory is reserved. The engine decides on the
/// actual number later, when it knows what is reserved.
fn longest(options: &Options) -> usize {
    options.ctx.map_or(4096, |ctx| ctx as usize)
}

/// What the engine's thread knows after opening the model. Fields as in [`App`].
struct Opened {
    started: Started,
    vocab: Vocab,
    template: Result<Template, String>,
    tells_tools: bool,
    thinks: Option<ThoughtTags>,
    shown: Vec<i32>,
    embeds: bool,
    call_format: CallFormat,
    sampling: Sampling,
    stretches: Vec<Stretch>,
    threads: u32,
    /// Rate of the device, in bytes per second.
    device: Option<f64>,
    /// The description of a medium that the caller handed in.
    glass: Option<serde_json::Value>,
}

/// The body of the engine's thread.
fn compute(
    config: &ServerConfig,
    shared: &Arc<Shared>,
    flushes: tokio::sync::mpsc::Receiver<Flush>,
    tell: &mpsc::Sender<Result<Opened, Error>>,
) {
    let outcome = catch_unwind(AssertUnwindSafe(|| match open(config, shared) {
        Ok((batcher, opened)) => {
            let _ = tell.send(Ok(opened));
            let lap_time = config.limits.lap_time;
            EngineThread::new(batcher, shared.clone(), flushes, lap_time).run();
        }
        Err(error) => {
            let _ = tell.send(Err(error));
        }
    }));
    if outcome.is_err() {
        shared.set_health(Health::Ended);
        shared.drain();
        // No other thread would answer those that wait.
        while let Some(job) = shared.queue.pop() {
            let ended = ApiError::unavailable("the engine has ended", None);
            let _ = job.reply.try_send(Update::Failed(ended));
        }
    }
}

fn open(config: &ServerConfig, shared: &Shared) -> Result<(Batcher, Opened), Error> {
    // If the medium handed in knows its rate, the drive behind it is not measured.
    let known = config
        .engine
        .maker
        .as_ref()
        .and_then(|maker| maker.rate_bytes_per_s());
    let device = known.or_else(|| device_rate(config));
    let staging = match &config.kv {
        Some(cache) => cache.staging(&config.model, config.engine.kv)?,
        None => 0,
    };
    let options = Options {
        rate: device,
        seqs: Some(config.slots.max(1)),
        reserve: config.limits.reserve(longest(&config.engine)) + staging,
        grammars: true,
        spare: config.kv.is_some(),
        ..config.engine.clone()
    };
    let mut engine = delayline_llama::open(&config.model, &options)?;
    if let Some(cache) = &config.kv {
        let tier = KvTier::open(cache, &config.model, &options)?;
        engine.backend_mut().use_tier(tier)?;
    }
    let (threads, cells) = (engine.threads(), engine.ctx() as usize);
    let (ledger, source) = (engine.ledger().figures(), engine.source());
    let (notices, mut streamed_bytes, mut reads) = (engine.notices(), 0, false);
    let mut stretches = vec![Stretch {
        bytes: ledger.resident_weights_bytes,
        kind: StretchKind::Resident,
    }];
    if let Some(stream) = engine.stream() {
        streamed_bytes = stream.bytes_per_lap();
        reads = stream.reads();
        let fine = stream.stretches();
        let len = fine.iter().map(|stretch| stretch.bytes).sum();
        stretches = live::stretches(fine);
        shared.feed.watch(stream.watch(), len);
    }
    let embeds = engine.backend().embeds();
    let mut batcher = Batcher::new(engine, config.engine.ctx);
    let keep_choices = |batcher: &mut Batcher, keep| {
        if let Some(stream) = batcher.decoder().stream() {
            stream.keep_choices(keep);
        }
    };
    keep_choices(&mut batcher, false);
    batcher.warm_up(WARM_UP)?;
    keep_choices(&mut batcher, true);
    let vocab = batcher.vocab().clone();
    let (jinja, template) = match config.chat_template.clone() {
        // A template that was given must work; the model's own may be missing.
        Some(given) => (given.clone(), Ok(Template::for_vocab(given, &vocab)?)),
        None => (
            vocab.chat_template()?.unwrap_or_default(),
            Template::of(&vocab).map_err(|error| error.to_string()),
        ),
    };
    let (slots, ctx) = (batcher.slots(), batcher.ctx());
    let cost = batcher.cost();
    let started = Started {
        address: config.address,
        model: name(&config.model),
        slots,
        ctx,
        cells,
        default_tokens: ctx,
        limit: cost.limit(),
        compute_s: cost.compute_s(1),
        medium_s: cost.medium_s(),
        lap_limit_s: config
            .limits
            .lap_time
            .unwrap_or_else(|| overdue::allowed(cost, 1))
            .as_secs_f64(),
        source,
        streamed_bytes,
        ledger,
        notices,
    };
    let thinks = ThoughtTags::in_template(&jinja);
    let call_format = CallFormat::in_template(&jinja);
    let control = match (call_format.has_channels(), thinks) {
        (true, _) => channels::CONTROL.to_vec(),
        (false, Some(tags)) => vec![tags.open, tags.close],
        (false, None) => Vec::new(),
    };
    let opened = Opened {
        started,
        shown: vocab.control_tokens(&control)?,
        sampling: Sampling::of(&vocab)?,
        vocab,
        template,
        tells_tools: CallFormat::tells_tools(&jinja),
        thinks,
        embeds,
        call_format,
        stretches,
        threads,
        device: device.filter(|_| reads),
        glass: config
            .engine
            .maker
            .as_ref()
            .filter(|_| reads)
            .and_then(|maker| maker.describe()),
    };
    Ok((batcher, opened))
}

/// The measured rate of the device, in bytes per second. Measured before the model is opened,
/// while the budget is free; if that fails, opening the model reports the reason.
fn device_rate(config: &ServerConfig) -> Option<f64> {
    let file = ModelFile::open(&config.model).ok()?;
    let budget = config.engine.memory.unwrap_or(u64::MAX);
    delayline_engine::device_rate(&file.paths(), budget).ok()
}

/// The file's name without its extension and, for a split model, without its part number.
fn name(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    match stem.rsplit_once("-00001-of-") {
        Some((name, _)) => name.to_owned(),
        None => stem.into_owned(),
    }
}

fn describe(started: &Started, limits: &Limits, opened: &Opened) -> Machine {
    let ledger = started.ledger;
    Machine {
        model: started.model.clone(),
        medium: started.source.to_string(),
        mapped: started.source == Source::Mapping,
        glass: opened.glass.clone(),
        stretches: opened.stretches.clone(),
        budget_bytes: ledger.budget_bytes,
        window_bytes: ledger.window_bytes,
        resident_bytes: if started.source == Source::Mapping {
            0
        } else {
            ledger.resident_weights_bytes
        },
        kv_bytes: ledger.kv_bytes,
        buffer_bytes: ledger.buffer_bytes,
        device_bytes_per_s: opened.device,
        compute_s: started.compute_s,
        limit_sequences: started.limit,
        max_sequences: started.slots as u32,
        max_queued: limits.queue as u32,
        context_tokens: started.ctx as u32,
        threads: opened.threads,
        ..Machine::default()
    }
}

impl Handle {
    /// What was known when it was ready.
    pub fn started(&self) -> &Started {
        &self.started
    }

    /// Whether the engine still runs.
    pub fn runs(&self) -> bool {
        !has_ended(&self.engine, Duration::ZERO)
    }

    /// A handle to close the server's sockets from any thread.
    pub fn door(&self) -> Door {
        self.door.clone()
    }

    /// Takes no more requests, and ends when all answers are given or the drain time is over.
    ///
    /// # Errors
    /// When the engine's thread has panicked.
    pub fn drain(self) -> Result<Drained, Error> {
        self.shared.drain();
        has_ended(&self.engine, self.drain);
        let whole = self.end();
        match self.shared.health() {
            Health::Ended => Err(Error::Engine),
            _ if whole => Ok(Drained::Whole),
            _ => Ok(Drained::Cut(self.door.hung())),
        }
    }

    /// Ends the engine and then the sockets; returns whether the engine's thread has ended.
    fn end(&self) -> bool {
        self.shared.stop();
        let time = match self.door.hung() {
            Some(_) => Duration::ZERO,
            None => LAST_LAP,
        };
        let ended = has_ended(&self.engine, time);
        match ended {
            true => self.door.close_gently(),
            false => self.door.close(),
        }
        ended
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if !self.shared.stopping() {
            self.end();
        }
    }
}
