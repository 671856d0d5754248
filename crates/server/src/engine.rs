//! The engine's thread: admits requests, runs laps, and sends each client its tokens. Knows
//! no HTTP and enforces no deadlines.
//!
//! Between two laps it drops sequences whose client has gone, sends tokens to the others,
//! and admits waiting requests in order of arrival. If a client does not read its answer, the
//! sequence is held: it takes part in no laps, so that the unsent tokens stay bounded.

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

/// Number of failed laps in a row after which the server is unhealthy.
const ILL: u32 = 3;

/// Interval at which an unhealthy server without requests tries a lap.
const PROBE: Duration = Duration::from_secs(5);

/// Interval at which slow readers and blocks from elsewhere are polled while no laps run.
const NAP: Duration = Duration::from_millis(10);

/// Interval at which reads of hot experts are polled while the server is idle.
const WARM_NAP: Duration = Duration::from_millis(1);

/// Minimum time between two writes of the list of hot experts, which are made while the
/// server is idle.
const KEEP: Duration = Duration::from_secs(60);

/// Maximum sleep when there is nothing to do; requests end it.
const SLEEP: Duration = Duration::from_secs(3600);

/// An answer in progress.
struct Answer {
    reply: mpsc::Sender<Update>,
    asked: Instant,
    joined: Instant,
    last: Instant,
    tokens: u64,
    /// Tokens of its prompt that were found in the cache, as far as they were counted.
    found: usize,
    /// Updates that did not fit into the client's channel yet.
    owed: VecDeque<Update>,
    /// Whether the sequence has ended.
    over: bool,
}

/// The engine's thread.
pub struct EngineThread {
    /// The configured maximum time of a lap.
    lap_time: Option<Duration>,
    batcher: Batcher,
    shared: Arc<Shared>,
    flushes: mpsc::Receiver<Flush>,
    answers: BTreeMap<SequenceId, Answer>,
    events: Vec<SequenceEvent>,
    failures: u32,
    lap_ended: Option<Instant>,
    /// Number of requests in the queue whose blocks are being fetched.
    fetching: usize,
    /// When the list of hot experts was written.
    kept: Instant,
    /// Whether no laps have run since.
    is_kept: bool,
}

impl EngineThread {
    /// A thread without sequences.
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

    /// Runs until the server drains and all answers are given, or until it is to stop.
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
            } else if self.answers.is_empty()
                && self.shared.draining()
                && self.fetching == 0
                // One may have arrived just before the queue was closed.
                && self.shared.queue.is_empty()
            {
                return;
            } else {
                self.rest();
            }
        }
    }

    /// Sends updates that are owed, and drops the answers that are complete or whose client
    /// has gone.
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
                self.shared.count_slot_time(answer.joined.elapsed());
                let all = answer.asked.elapsed().as_secs_f64();
                self.shared.metrics.request.observe(all);
            }
        }
        self.shared.queue.retain(|job| !job.reply.is_closed());
        self.shared.metrics.held.set(held);
        self.count();
    }

    /// Serves requests to forget what is kept of an owner.
    fn flush(&mut self) {
        while let Ok(Flush { namespace, reply }) = self.flushes.try_recv() {
            let forgotten = self.batcher.forget(&namespace);
            // The client may have gone.
            let _ = reply.send(forgotten);
        }
    }

    fn count(&self) {
        let metrics = &self.shared.metrics;
        metrics.riding.set(self.batcher.sequences().count() as i64);
        metrics.queued.set(self.shared.queue.len() as i64);
    }

    /// Admits waiting requests in order. Once one finds no room, only requests are admitted
    /// that take nothing from it; one whose blocks are being fetched lets all others pass.
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

    /// Admits a request or refuses it; returns it if there is no room now.
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
                self.count_found(joined.cached as u64, before);
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
            Err(JoinError::Full(_)) if self.answers.is_empty() => {
                // Nobody is there who could leave and make room.
                let message = "there is no room in the KV cache for this request, though \
                               nothing else runs: ask for fewer tokens";
                let error = ApiError::unavailable(message, None);
                let _ = reply.try_send(Update::Failed(error));
                None
            }
            Err(JoinError::Full(request)) => Some(QueuedRequest {
                request: *request,
                reply,
                asked,
            }),
            Err(JoinError::Invalid(error)) => {
                // The channel is empty, so this fails only if the client has gone.
                let _ = reply.try_send(Update::Failed(refusal(&error)));
                None
            }
        }
    }

    /// Number of tokens restored so far from this machine's disk or a shared store.
    fn brought_back(&mut self) -> u64 {
        let tier = self.batcher.decoder().backend_mut().tier();
        let stats = tier.map(|tier| tier.stats()).unwrap_or_default();
        stats.flash_tokens + stats.shared_tokens
    }

    /// Counts the tokens that a new sequence need not compute, by where they were found.
    fn count_found(&mut self, cached: u64, before: u64) {
        let in_memory = cached.saturating_sub(self.brought_back() - before);
        let token_s = self.batcher.prompt_token_s().unwrap_or(0.0);
        let metrics = &self.shared.metrics;
        metrics.kv.spared(in_memory, token_s * cached as f64);
        self.count_stored();
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
        self.lap_begins(self.batcher.next_rows());
        let outcome = self.batcher.lap(&mut events);
        self.is_kept = false;
        self.shared.laps.ends();
        match outcome {
            Ok(lap) => {
                self.failures = 0;
                if self.shared.health() != Health::Good {
                    self.shared.set_health(Health::Good);
                }
                self.count_lap(&lap);
                // A client that hears of its end must not find itself counted in /metrics.
                self.count();
                for event in events.drain(..) {
                    self.tell(event);
                }
                // Sampling and sending tokens do not count as time of the lap.
                let took = Duration::from_nanos(lap.took.ns);
                let own = now.elapsed().saturating_sub(took);
                self.shared.metrics.between_s.inc_by(own.as_secs_f64());
            }
            Err(failed) => self.end_failed(&failed),
        }
        self.count_wrong_reads();
        self.count_stored();
        self.events = events;
        self.lap_ended = Some(Instant::now());
    }

    fn lap_begins(&self, rows: usize) {
        let cost = self.batcher.cost();
        let allowed = self
            .lap_time
            .unwrap_or_else(|| overdue::allowed(cost, rows));
        self.shared.laps.begins(allowed);
    }

    fn count_lap(&mut self, lap: &CompletedLap) {
        self.count_experts();
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
            // Both figures are estimates, and a lap cannot be shorter than its limit.
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

    /// Updates the figures of the KV cache on disk, and logs its errors.
    fn count_stored(&mut self) {
        let Some(tier) = self.batcher.decoder().backend_mut().tier() else {
            return;
        };
        let (stats, trouble) = (tier.stats(), tier.trouble());
        self.shared.metrics.kv.update(&stats);
        if let Some(trouble) = trouble {
            tracing::warn!("{trouble}");
        }
    }

    /// Counts and logs the reads that returned wrong bytes.
    fn count_wrong_reads(&mut self) {
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

    /// Updates the figures of experts.
    fn count_experts(&mut self) {
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
                // More of the prompt was found after joining, computed by other sequences.
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

    /// Ends all sequences of a failed lap with its error. The others and the server go on,
    /// because the next lap may succeed.
    fn end_failed(&mut self, failed: &FailedLap) {
        tracing::error!("a lap failed: {}", failed.error);
        self.shared.metrics.failed_laps.inc();
        self.failures += 1;
        if self.failures >= ILL {
            self.shared
                .set_health(Health::Ill(public_message(&failed.error)));
        }
        let message = format!(
            "the lap that computed this answer failed: {}",
            public_message(&failed.error)
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

    /// Waits for something to do while no sequence can run.
    fn rest(&mut self) {
        self.lap_ended = None;
        self.shared.feed.rests(self.shared.queue.len());
        if !self.answers.is_empty() || self.fetching > 0 {
            // Requests that are in the queue could not be admitted, so only new ones end the
            // wait.
            let known = self.shared.queue.len();
            self.shared.queue.wait(known, NAP);
            self.count_stored();
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

    /// Reads experts that were hot when the model last ran; returns whether more are to come.
    fn warm(&mut self) -> bool {
        let Some(stream) = self.batcher.decoder().stream() else {
            return false;
        };
        // An error is reported by the lap that needs the expert.
        let is_coming = stream.warm().unwrap_or(false);
        self.count_experts();
        is_coming
    }

    /// Writes the list of hot experts if that is due; returns how long to sleep.
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

    /// Runs a lap without sequences to see whether the fault is over.
    fn probe(&mut self) {
        self.lap_begins(1);
        let outcome = self.batcher.probe();
        self.shared.laps.ends();
        match outcome {
            Ok(()) => {
                self.failures = 0;
                self.shared.set_health(Health::Good);
            }
            Err(error) => self.shared.set_health(Health::Ill(public_message(&error))),
        }
    }

    /// Ends all answers and all waiting requests.
    fn end_all(&mut self) {
        let ending = || ApiError::unavailable("the server is stopping", None);
        for answer in self.answers.values_mut().filter(|answer| !answer.over) {
            // A client that does not read gets no final event.
            let _ = answer.reply.try_send(Update::Failed(ending()));
        }
        while let Some(job) = self.shared.queue.pop() {
            let _ = job.reply.try_send(Update::Failed(ending()));
        }
    }
}

/// Sends owed updates while the channel has room; returns false if the client has gone.
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

/// An error of a lap as clients may see it: the kind of fault, without paths of this machine,
/// which only the log contains.
fn public_message(error: &Error) -> String {
    match error {
        Error::Llama { .. } | Error::Defect(_) => error.to_string(),
        Error::Changed { .. } => "the model's file was changed while it was being read".into(),
        _ => "the medium did not deliver the weights; see the server's log".into(),
    }
}

/// The error of a request that cannot be run.
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
        other => ApiError::server(public_message(other)),
    }
}

#[cfg(test)]
mod tests;
