//! The thread that computes: takes requests on, drives laps, tells each client
//! what came of them. Knows no HTTP and measures no client's time.
//!
//! Between two laps it lets those go whose client has gone, tells the others their
//! tokens, and takes on who waits, in the order in which they came. An answer that
//! its reader does not take is held: it sits out laps and takes no more memory.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use delayline_engine::{Error, Stream};
use delayline_llama::batch::{
    Batcher, CompletedLap, FailedLap, JoinError, SequenceEvent, SequenceId,
};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::api::error::ApiError;
use crate::overdue;
use crate::shared::{Flush, Health, QueuedRequest, Shared, Update};

/// So many failed laps in a row make the server ill.
const ILL: u32 = 3;

/// How often an ill server tries a lap when nobody asks for one.
const PROBE: Duration = Duration::from_secs(5);

/// How often slow readers are looked after when nobody else rides.
const NAP: Duration = Duration::from_millis(10);

/// How often it looks for what has come of the experts that were hot, while nobody rides.
const WARM_NAP: Duration = Duration::from_millis(1);

/// Between two times that it is written which experts are hot; only while nobody rides.
const KEEP: Duration = Duration::from_secs(60);

/// How long it sleeps when there is nothing to do; news wake it.
const SLEEP: Duration = Duration::from_secs(3600);

/// A client's answer under way.
struct Answer {
    reply: mpsc::Sender<Update>,
    asked: Instant,
    joined: Instant,
    last: Instant,
    tokens: u64,
    /// Tokens of its prompt that were not computed for it, as far as they are counted.
    found: usize,
    /// What the client has not taken yet.
    owed: VecDeque<Update>,
    /// Whether the sequence has left.
    over: bool,
}

/// The engine's thread.
pub struct EngineThread {
    /// How long a lap may take, if that was given.
    lap_time: Option<Duration>,
    batcher: Batcher,
    shared: Arc<Shared>,
    flushes: mpsc::Receiver<Flush>,
    answers: BTreeMap<SequenceId, Answer>,
    events: Vec<SequenceEvent>,
    failures: u32,
    lap_ended: Option<Instant>,
    /// Requests in the queue for whose prompts something is on its way.
    fetching: usize,
    /// When it was written which experts are hot, and whether laps have come since.
    kept: Instant,
    is_kept: bool,
}

impl EngineThread {
    /// Nobody rides yet.
    pub fn new(
        batcher: Batcher,
        shared: Arc<Shared>,
        flushes: mpsc::Receiver<Flush>,
        lap_time: Option<Duration>,
    ) -> Self {
        Self {
            lap_time,
            batcher,
            shared,
            flushes,
            answers: BTreeMap::new(),
            events: Vec::new(),
            failures: 0,
            lap_ended: None,
            fetching: 0,
            kept: Instant::now(),
            is_kept: true,
        }
    }

    /// Runs until the server has been told to drain and all answers are given, or
    /// to stop.
    pub fn run(mut self) {
        self.answer_all();
        self.write_hotness();
    }

    fn answer_all(&mut self) {
        loop {
            self.settle();
            self.flush();
            if self.shared.stopping() {
                self.end_all();
                return;
            }
            self.admit();
            if self.batcher.ready() {
                self.lap();
            } else if self.answers.is_empty() && self.shared.draining() && self.fetching == 0 {
                // One may have come in just before the queue was closed.
                if self.shared.queue.is_empty() {
                    return;
                }
            } else {
                self.rest();
            }
        }
    }

    /// Hands out what is owed, and lets those go who have gone or got all.
    fn settle(&mut self) {
        let mut done = Vec::new();
        let mut held = 0;
        for (&id, answer) in &mut self.answers {
            let gone = answer.reply.is_closed() || !hand_out(answer);
            if !answer.over {
                if gone {
                    self.batcher.leave(id);
                } else {
                    self.batcher.hold(id, !answer.owed.is_empty());
                    held += i64::from(!answer.owed.is_empty());
                }
            }
            if gone || answer.over && answer.owed.is_empty() {
                done.push(id);
            }
        }
        for id in done {
            if let Some(answer) = self.answers.remove(&id) {
                self.shared.rode(answer.joined.elapsed());
                let all = answer.asked.elapsed().as_secs_f64();
                self.shared.metrics.request.observe(all);
            }
        }
        self.shared.queue.retain(|job| !job.reply.is_closed());
        self.shared.metrics.held.set(held);
        self.count();
    }

    /// Forgets what it is asked to.
    fn flush(&mut self) {
        while let Ok(Flush { namespace, reply }) = self.flushes.try_recv() {
            let forgotten = self.batcher.forget(&namespace);
            // Who has gone meanwhile need not be told.
            let _ = reply.send(forgotten);
        }
    }

    fn count(&self) {
        let metrics = &self.shared.metrics;
        metrics.riding.set(self.batcher.sequences().count() as i64);
        metrics.queued.set(self.shared.queue.len() as i64);
    }

    /// Takes on who waits, the first first. Past one that finds no room go only those
    /// who take none of what it waits for; past one whose prompt is on its way, all.
    fn admit(&mut self) {
        let (mut waiting, mut aside) = (Vec::new(), false);
        self.fetching = 0;
        while self.batcher.sequences().count() < self.batcher.slots()
            && let Some(job) = self.shared.queue.pop()
        {
            if self.batcher.fetch(&job.request) {
                self.fetching += 1;
                waiting.push(job);
            } else if let Some(job) = self.take_on(job, aside) {
                aside = true;
                waiting.push(job);
            }
        }
        for job in waiting.into_iter().rev() {
            self.shared.queue.put_back(job);
        }
        self.count();
    }

    /// Takes one on, if there is room, or refuses it; else here it is again.
    fn take_on(&mut self, job: QueuedRequest, aside: bool) -> Option<QueuedRequest> {
        let QueuedRequest {
            request,
            reply,
            asked,
        } = job;
        let before = self.brought_back();
        let joined = match aside {
            true => self.batcher.join_aside(request),
            false => self.batcher.join(request),
        };
        match joined {
            Ok(joined) => {
                let now = Instant::now();
                let metrics = &self.shared.metrics;
                metrics.waited.observe((now - asked).as_secs_f64());
                metrics.cached_tokens.inc_by(joined.cached as u64);
                self.found(joined.cached as u64, before);
                let mut answer = Answer {
                    reply,
                    asked,
                    joined: now,
                    last: now,
                    tokens: 0,
                    found: joined.cached,
                    owed: VecDeque::new(),
                    over: false,
                };
                let cached = joined.cached;
                answer.owed.push_back(Update::Joined { cached });
                hand_out(&mut answer);
                self.answers.insert(joined.id, answer);
                None
            }
            Err(JoinError::Full(request)) => Some(QueuedRequest {
                request: *request,
                reply,
                asked,
            }),
            Err(JoinError::Invalid(error)) => {
                // The channel is new and empty: this is taken, or nobody is there.
                let _ = reply.try_send(Update::Failed(refusal(&error)));
                None
            }
        }
    }

    /// Tokens that have come back from disk so far, here or elsewhere.
    fn brought_back(&mut self) -> u64 {
        let tier = self.batcher.decoder().backend_mut().tier();
        let stats = tier.map(|tier| tier.stats()).unwrap_or_default();
        stats.flash_tokens + stats.shared_tokens
    }

    /// Counts where the tokens were that one who joined need not compute.
    fn found(&mut self, cached: u64, before: u64) {
        let in_memory = cached.saturating_sub(self.brought_back() - before);
        let token_s = self.batcher.prompt_token_s().unwrap_or(0.0);
        let metrics = &self.shared.metrics;
        metrics.kv.spared(in_memory, token_s * cached as f64);
        self.stored();
    }

    fn lap(&mut self) {
        let now = Instant::now();
        if let Some(ended) = self.lap_ended.take() {
            let between = (now - ended).as_secs_f64();
            self.shared.metrics.between_s.inc_by(between);
        }
        let riding = self.batcher.sequences().count();
        self.shared.feed.lap_begins(riding, self.shared.queue.len());
        let mut events = std::mem::take(&mut self.events);
        self.begins(self.batcher.next_rows());
        let outcome = self.batcher.lap(&mut events);
        self.is_kept = false;
        self.shared.laps.ends();
        match outcome {
            Ok(lap) => {
                self.failures = 0;
                if self.shared.health() != Health::Good {
                    self.shared.set_health(Health::Good);
                }
                self.measured(&lap);
                // Who has heard of the end must not be counted any more.
                self.count();
                for event in events.drain(..) {
                    self.tell(event);
                }
                // Choosing tokens and handing them out is no lap's time either.
                let took = Duration::from_nanos(lap.took.ns);
                let own = now.elapsed().saturating_sub(took);
                self.shared.metrics.between_s.inc_by(own.as_secs_f64());
            }
            Err(failed) => self.failed(&failed),
        }
        self.checked();
        self.stored();
        self.events = events;
        self.lap_ended = Some(Instant::now());
    }

    fn begins(&self, rows: usize) {
        let cost = self.batcher.cost();
        let allowed = self
            .lap_time
            .unwrap_or_else(|| overdue::allowed(cost, rows));
        self.shared.laps.begins(allowed);
    }

    fn measured(&mut self, lap: &CompletedLap) {
        self.experts();
        let metrics = &self.shared.metrics;
        let s = |ns: u64| ns as f64 / 1e9;
        metrics.laps.inc();
        metrics.lap_s.inc_by(s(lap.took.ns));
        metrics.stall_s.inc_by(s(lap.took.stall_ns));
        metrics.read_bytes.inc_by(lap.took.bytes_read);
        metrics.prompt_tokens.inc_by(lap.prompt_tokens as u64);
        metrics.generated_tokens.inc_by(lap.generated as u64);
        metrics.lap_duration.observe(s(lap.took.ns));
        metrics.batch.observe(lap.sequences as f64);
        let rows = lap.prompt_tokens + lap.decoded;
        let compute_s = self.batcher.cost().compute_s(rows).unwrap_or(0.0);
        let rate = metrics.device_rate.get();
        if rate > 0.0 {
            let busy_s = lap.took.bytes_read as f64 / rate;
            metrics.drive_busy_s.inc_by(busy_s);
            // Neither figure is exact: no lap is shorter than its limit.
            let limit_s = compute_s.max(busy_s).min(s(lap.took.ns));
            metrics.limit_s.inc_by(limit_s);
        }
        let stream = self.batcher.decoder().stream();
        let experts = stream.filter(|_| self.shared.feed.heard());
        let experts = experts.map_or_else(Vec::new, Stream::expert_picture);
        let cost = self.batcher.cost();
        if let Some(limit) = cost.limit() {
            metrics.limit_sequences.set(limit);
        }
        if let Some(compute_s) = cost.compute_s(1) {
            metrics.compute_s.set(compute_s);
        }
        self.shared
            .feed
            .lap_ended(lap, cost, metrics, self.shared.queue.len(), experts);
    }

    /// Counts what the KV cache on disk has done, and tells what the system refused it.
    fn stored(&mut self) {
        let Some(tier) = self.batcher.decoder().backend_mut().tier() else {
            return;
        };
        let (stats, trouble) = (tier.stats(), tier.trouble());
        self.shared.metrics.kv.are(&stats);
        if let Some(trouble) = trouble {
            tracing::warn!("{trouble}");
        }
    }

    /// Counts the reads that brought wrong bytes, and tells of them.
    fn checked(&mut self) {
        let stream = self.batcher.decoder().stream();
        let counts = stream.and_then(|stream| stream.check_counts());
        let wrong = counts.map_or(0, |counts| counts.wrong);
        let told = &self.shared.metrics.wrong_reads;
        let new = wrong - told.get();
        if new > 0 {
            told.inc_by(new);
            tracing::warn!(
                "{new} reads brought wrong bytes and were tried again, {wrong} so far: \
                 the drive or its cable may be failing"
            );
        }
    }

    /// Counts what became of experts.
    fn experts(&mut self) {
        let stream = self.batcher.decoder().stream();
        let Some(stream) = stream else {
            return;
        };
        let warmed = stream.warmed_bytes();
        let Some((counts, guesses)) = stream.expert_counts().zip(stream.guess_counts()) else {
            return;
        };
        let metrics = &self.shared.metrics;
        for (counter, now) in [
            (&metrics.expert_uses, counts.used),
            (&metrics.expert_hits, counts.hits),
            (&metrics.expert_read_bytes, counts.bytes_read),
            (&metrics.expert_warmed_bytes, warmed),
            (&metrics.guess_read_bytes, guesses.bytes),
            (&metrics.guess_wasted_bytes, guesses.wasted),
        ] {
            counter.inc_by(now - counter.get());
        }
    }

    fn tell(&mut self, event: SequenceEvent) {
        let Some(answer) = self.answers.get_mut(&event.sequence) else {
            return;
        };
        let now = Instant::now();
        let metrics = &self.shared.metrics;
        match answer.tokens {
            0 => metrics
                .first_token
                .observe((now - answer.asked).as_secs_f64()),
            _ => metrics
                .next_token
                .observe((now - answer.last).as_secs_f64()),
        }
        answer.last = now;
        answer.tokens += 1;
        let update = match event.token {
            Ok(token) => {
                // What others had computed of its prompt came after it had joined.
                let cached = token.found.saturating_sub(answer.found);
                if cached > 0 {
                    answer.found = token.found;
                    let token_s = self.batcher.prompt_token_s().unwrap_or(0.0);
                    metrics.cached_tokens.inc_by(cached as u64);
                    metrics.kv.spared(cached as u64, token_s * cached as f64);
                }
                answer.over = token.finish.is_some();
                Update::Token(token)
            }
            Err(error) => {
                answer.over = true;
                Update::Failed(refusal(&error))
            }
        };
        answer.owed.push_back(update);
        hand_out(answer);
    }

    /// All that rode the lap end with its error. The others go on, and so does the
    /// server: the next lap may go well.
    fn failed(&mut self, failed: &FailedLap) {
        tracing::error!("a lap failed: {}", failed.error);
        self.shared.metrics.failed_laps.inc();
        self.failures += 1;
        if self.failures >= ILL {
            self.shared.set_health(Health::Ill(told(&failed.error)));
        }
        let message = format!(
            "the lap that carried this answer failed: {}",
            told(&failed.error)
        );
        for &id in &failed.sequences {
            self.batcher.leave(id);
            if let Some(answer) = self.answers.get_mut(&id) {
                answer.over = true;
                let error = ApiError::server(message.clone());
                answer.owed.push_back(Update::Failed(error));
                hand_out(answer);
            }
        }
    }

    /// Nobody rides a lap now.
    fn rest(&mut self) {
        self.lap_ended = None;
        self.shared.feed.rests(self.shared.queue.len());
        // With places free, whoever has come in meanwhile is taken on at once; with
        // none, who waits already is no news.
        if !self.answers.is_empty() || self.fetching > 0 {
            let known = self.shared.queue.len();
            self.shared.queue.wait(known, NAP);
            self.stored();
        } else if self.shared.health() != Health::Good {
            self.shared.queue.wait(0, PROBE);
            if self.shared.queue.is_empty() && !self.shared.draining() {
                self.probe();
            }
        } else if self.warm() {
            self.shared.queue.wait(0, WARM_NAP);
        } else {
            let time = self.keep();
            self.shared.queue.wait(0, time);
        }
    }

    /// Reads what was hot when the model last ran; whether more of it is to come.
    fn warm(&mut self) -> bool {
        let Some(stream) = self.batcher.decoder().stream() else {
            return false;
        };
        // What cannot be read is told by the lap that wants it.
        let is_coming = stream.warm().unwrap_or(false);
        self.experts();
        is_coming
    }

    /// Writes which experts are hot, if it is time; else how long until then.
    fn keep(&mut self) -> Duration {
        let left = KEEP.saturating_sub(self.kept.elapsed());
        if self.is_kept {
            return SLEEP;
        }
        if left.is_zero() {
            self.write_hotness();
            return SLEEP;
        }
        left
    }

    fn write_hotness(&mut self) {
        (self.kept, self.is_kept) = (Instant::now(), true);
        if let Some(stream) = self.batcher.decoder().stream()
            && let Err(error) = stream.write_hotness()
        {
            tracing::warn!("{error}");
        }
    }

    /// A lap for nobody, to see whether the trouble is over.
    fn probe(&mut self) {
        self.begins(1);
        let outcome = self.batcher.probe();
        self.shared.laps.ends();
        match outcome {
            Ok(()) => {
                self.failures = 0;
                self.shared.set_health(Health::Good);
            }
            Err(error) => self.shared.set_health(Health::Ill(told(&error))),
        }
    }

    /// Time is over for those who ride or wait.
    fn end_all(&mut self) {
        let ending = || ApiError::unavailable("the server is stopping", None);
        for answer in self.answers.values_mut().filter(|answer| !answer.over) {
            // Who does not read gets no farewell.
            let _ = answer.reply.try_send(Update::Failed(ending()));
        }
        while let Some(job) = self.shared.queue.pop() {
            let _ = job.reply.try_send(Update::Failed(ending()));
        }
    }
}

/// Sends what is owed as far as there is room; false if the client has gone.
fn hand_out(answer: &mut Answer) -> bool {
    while let Some(update) = answer.owed.pop_front() {
        match answer.reply.try_send(update) {
            Ok(()) => {}
            Err(TrySendError::Full(update)) => {
                answer.owed.push_front(update);
                return true;
            }
            Err(TrySendError::Closed(_)) => return false,
        }
    }
    true
}

/// What anybody may know of a lap that failed: the kind of the fault, and no path of
/// this machine, which is in the log.
fn told(error: &Error) -> String {
    match error {
        Error::Llama { .. } | Error::Defect(_) => error.to_string(),
        Error::Changed { .. } => "the model's file was changed while it was being read".into(),
        _ => "the medium has not delivered the weights; the server's log tells more".into(),
    }
}

/// What a client is told of a request that cannot ride.
fn refusal(error: &Error) -> ApiError {
    match error {
        Error::PromptTooLong { .. } => ApiError::too_long(error.to_string()),
        Error::Option(message) => ApiError::invalid(message.clone()),
        Error::Llama {
            what: "read this grammar",
            ..
        } => ApiError::param(
            "response_format",
            "`response_format` has a schema that refers to itself without anything in between, \
             or that is too large",
        ),
        other => ApiError::server(told(other)),
    }
}

#[cfg(test)]
mod tests;
