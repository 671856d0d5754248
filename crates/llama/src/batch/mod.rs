//! The batcher: sequences that share laps. They join and leave between laps;
//! prompts are cut into pieces that share laps with the tokens of sequences that
//! already generate. Knows nothing of clients, queues and clocks.
//!
//! Each lap carries the next token of every generating sequence. The remaining rows
//! ([`LapCost::spare`]) are shared equally among the prompts (`share`); if no sequence
//! generates, prompts get the whole micro-batch. A prompt of any length thus makes a lap
//! at most as long as the medium takes anyway, or twice as long as the compute of the
//! generating sequences alone, and advances by at least one row a lap. Where a lap holds
//! only pieces of equal length ([`Decoder::equal_pieces`]), prompts alternate with
//! generating sequences, except for their last tokens, which share the laps of the latter.
//!
//! A sequence is admitted when the KV cache has room for its prompt and all that
//! it may generate, or, if it is [`GenerateRequest::elastic`], for a part of it; none is
//! ever evicted while it runs. Cells that sequences share count once (`shared`), and a
//! prefix that several need is computed by one of them (`prefix`). No request takes all
//! of the cache while others wait (`room`). The tokens of a sequence that has left stay
//! until their cells are needed, so that a conversation continues without computing them
//! again.
//!
//! The arithmetic of a batch may differ in the last bits from that of a sequence
//! alone, because kernels sum in another order for several rows: where two
//! tokens are almost equally likely, another one may be chosen.

mod cost;
mod decoder;
mod engine;
mod lap;
mod prefix;
mod room;
mod sequence;
mod share;
mod shared;
mod simulated;
mod stop;

use thiserror::Error as ThisError;

use crate::backend::LlamaEngine;
use crate::vocab::Vocab;
use delayline_engine::Error;
use delayline_engine::Laps;
use delayline_kv::Namespace;

pub use cost::LapCost;
pub use decoder::{Decoder, Language, ModelLanguage};
pub use engine::TokenBackend;
pub use sequence::{Choice, GenerateRequest, GeneratedToken, Retention, TokenLogprob};
pub use simulated::{DecodedLap, SimulatedDecoder, SimulatedLanguage, SimulatedModel};
pub use stop::begun;

use prefix::HeldPrefix;
use room::Room;
use sequence::Sequence;
use shared::SharedCells;

/// Identifies an admitted sequence; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SequenceId(u64);

/// Why a request was not admitted.
#[derive(Debug, ThisError)]
pub enum JoinError {
    /// Not now: the request is handed back, to be tried again.
    #[error("no slot is free, or the KV cache has no room")]
    Full(Box<GenerateRequest>),
    /// It can never be admitted.
    #[error(transparent)]
    Invalid(#[from] Error),
}

/// A sequence that joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// Its id.
    pub id: SequenceId,
    /// Tokens of its prompt that were already in the KV cache.
    pub cached: usize,
}

/// What [`Batcher::forget`] removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Tokens in memory.
    pub tokens: usize,
    /// Saved blocks.
    pub blocks: usize,
}

/// The outcome of a lap for one sequence.
#[derive(Debug)]
pub struct SequenceEvent {
    /// The sequence.
    pub sequence: SequenceId,
    /// Its next token; an error ends the sequence.
    pub token: Result<GeneratedToken, Error>,
}

/// A lap that failed. Its sequences keep their tokens; some may have to be computed again.
#[derive(Debug, ThisError)]
#[error("a lap of {} sequences failed: {error}", .sequences.len())]
pub struct FailedLap {
    /// Why.
    #[source]
    pub error: Error,
    /// The sequences in it.
    pub sequences: Vec<SequenceId>,
}

/// A lap that succeeded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompletedLap {
    /// Sequences in it.
    pub sequences: usize,
    /// Tokens of prompts.
    pub prompt_tokens: usize,
    /// Input tokens of generating sequences.
    pub decoded: usize,
    /// Tokens that it generated.
    pub generated: usize,
    /// Its times and counts.
    pub took: Laps,
}

/// Tokens by which the promise to an elastic sequence grows at most at a time.
const STEP: usize = 64;

/// A slot and its part of the KV cache.
#[derive(Debug)]
struct Slot<S> {
    /// The owner of its tokens.
    namespace: Namespace,
    /// Where they are kept after the sequence has left.
    retention: Retention,
    sequence: Option<(SequenceId, Sequence<S>)>,
    /// Excluded from laps, by [`Batcher::hold`].
    held: bool,
    /// Shares no cells with other slots, in either direction.
    apart: bool,
    /// Tokens that the last sequence left in the KV cache.
    cached: Vec<i32>,
    /// When it left, in the batcher's logical time `now`.
    left_at: u64,
}

impl<S> Slot<S> {
    fn empty() -> Self {
        Self {
            namespace: Namespace::default(),
            retention: Retention::default(),
            sequence: None,
            held: false,
            apart: false,
            cached: Vec::new(),
            left_at: 0,
        }
    }
}

type SamplerOf<D> = <<D as Decoder>::Language as Language>::Sampler;

/// Sequences on one decoder.
pub struct Batcher<D: Decoder = LlamaEngine> {
    decoder: D,
    language: D::Language,
    slots: Vec<Slot<SamplerOf<D>>>,
    cost: LapCost,
    ctx: usize,
    room: Room,
    shared: SharedCells,
    next_id: u64,
    now: u64,
    /// Whether the next lap is one of prompts, where pieces have to be equal.
    prompts_next: bool,
}

impl Batcher {
    /// The vocabulary.
    pub fn vocab(&self) -> &Vocab {
        self.language.vocab()
    }
}

impl<D: Decoder> Batcher<D> {
    /// Without sequences. Each may take up to `ctx` tokens of the KV cache, prompt and
    /// answer together; `None` means all that it holds, up to 4096.
    pub fn new(decoder: D, ctx: Option<u32>) -> Self {
        let ctx = ctx.map_or(4096, |ctx| ctx as usize).min(decoder.cells());
        Self {
            language: decoder.language(),
            slots: (0..decoder.slots()).map(|_| Slot::empty()).collect(),
            cost: match decoder.sees_stalls() {
                true => LapCost::default(),
                false => LapCost::blind(),
            },
            ctx,
            room: Room::new(decoder.cells(), decoder.slots(), ctx),
            shared: SharedCells::new(
                decoder.slots(),
                match decoder.equal_pieces() {
                    // There, a failed lap may take away what slots share.
                    true => usize::MAX,
                    false => prefix::worth(decoder.rows()),
                },
            ),
            next_id: 0,
            now: 0,
            prompts_next: false,
            decoder,
        }
    }

    /// The decoder that it runs on.
    pub fn decoder(&mut self) -> &mut D {
        &mut self.decoder
    }

    /// The measured cost of laps.
    pub fn cost(&self) -> &LapCost {
        &self.cost
    }

    /// Maximum number of tokens of a sequence, prompt and answer together.
    pub fn ctx(&self) -> usize {
        self.ctx
    }

    /// Maximum number of sequences.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// The sequences, in the order of their slots.
    pub fn sequences(&self) -> impl Iterator<Item = SequenceId> + '_ {
        let ids = self.slots.iter().filter_map(|slot| slot.sequence.as_ref());
        ids.map(|(id, _)| *id)
    }

    /// Admits a sequence, which takes part from the next lap on.
    ///
    /// # Errors
    /// [`JoinError`], with the request if it may be tried again.
    pub fn join(&mut self, request: GenerateRequest) -> Result<Admitted, JoinError> {
        self.take_on(request, false)
    }

    /// As [`Batcher::join`], overtaking a large request that waits for room: succeeds only
    /// within the cells that are reserved for small requests.
    ///
    /// # Errors
    /// As [`Batcher::join`].
    pub fn join_aside(&mut self, request: GenerateRequest) -> Result<Admitted, JoinError> {
        self.take_on(request, true)
    }

    /// Whether blocks of this prompt that were computed elsewhere are being fetched and are
    /// expected sooner than they would be computed here. Then ask again before joining.
    pub fn fetch(&mut self, request: &GenerateRequest) -> bool {
        if request.fresh || self.check_prompt(&request.prompt).is_err() {
            return false;
        }
        let token_s = self.prompt_token_s();
        let prompt = &request.prompt[..request.prompt.len() - 1];
        self.decoder.fetch(&request.namespace, prompt, token_s)
    }

    /// Time per prompt token in full micro-batches, in seconds; `None` if not yet measured.
    pub fn prompt_token_s(&self) -> Option<f64> {
        let rows = self.decoder.rows();
        let medium_s = self.cost.medium_s().unwrap_or(0.0);
        let compute_s = self.cost.compute_s(rows)?;
        Some(compute_s.max(medium_s) / rows as f64)
    }

    fn take_on(&mut self, request: GenerateRequest, aside: bool) -> Result<Admitted, JoinError> {
        self.check_prompt(&request.prompt)?;
        if request.tokens() == 0 {
            let message = "an answer needs room for one token at least";
            return Err(Error::Option(message.into()).into());
        }
        let room = self.ctx - request.prompt.len() + 1;
        let first = self.first_promise(&request).min(room);
        let needed = sequence::cells(request.prompt.len(), first);
        let source = self.source(&request);
        let Some(at) = self.slot_for(source) else {
            return Err(JoinError::Full(Box::new(request)));
        };
        let worth = prefix::worth(self.decoder.rows());
        let source = source.filter(|source| source.slot == at || source.tokens >= worth);
        let source = source.unwrap_or(HeldPrefix {
            slot: at,
            tokens: 0,
        });
        let mut shared = self.shared.clone();
        shared.share(source.slot, at, source.tokens);
        let holds = match aside {
            true => self.can_promise_aside(&shared, at, needed),
            false => self.can_promise(&shared, at, needed),
        };
        if !holds {
            return Err(JoinError::Full(Box::new(request)));
        }
        let (namespace, fresh) = (request.namespace, request.fresh);
        let retention = request.retention;
        let mut sequence = Sequence::new(&self.language, request, room)?;
        sequence.limit(first);
        // From here on the request is admitted, so the slot's old content may go.
        self.slots[at].cached.clear();
        let have = self.take_from(source, at);
        let prompt = sequence.lacking();
        // A fresh request restores nothing.
        let wanted = if fresh { 0 } else { prompt.len() - 1 };
        self.make_room((at, needed));
        let prompt = &prompt[..wanted];
        let cached = self.decoder.restore(at as u32, &namespace, prompt, have);
        self.shared.cut(at, cached);
        sequence.find(cached);
        self.slots[at].namespace = namespace;
        self.slots[at].retention = retention;
        let id = SequenceId(self.next_id);
        self.next_id += 1;
        let slot = &mut self.slots[at];
        slot.held = false;
        slot.apart = fresh;
        slot.sequence = Some((id, sequence));
        Ok(Admitted { id, cached })
    }

    /// How many generated tokens a request is promised when it joins.
    fn first_promise(&self, request: &GenerateRequest) -> usize {
        let share = self.decoder.cells() / self.slots.len();
        match request.elastic {
            true => {
                let rest = share.saturating_sub(request.prompt.len());
                request.tokens().min(rest.max(STEP))
            }
            false => request.tokens(),
        }
    }

    /// Promises more tokens to elastic sequences that have used up their promise, as far
    /// as there is room.
    fn grow(&mut self) {
        for at in 0..self.slots.len() {
            let Some((_, sequence)) = &self.slots[at].sequence else {
                continue;
            };
            let more = sequence.wants(STEP);
            let cells = sequence.cells();
            let fits = |more: &usize| self.can_promise(&self.shared, at, cells + more);
            let Some(more) = (1..=more).rev().find(fits) else {
                continue;
            };
            if let Some((_, sequence)) = &mut self.slots[at].sequence {
                sequence.grow(more);
            }
            self.make_room((at, cells + more));
        }
    }

    /// Refuses a prompt that can never be continued.
    ///
    /// # Errors
    /// When it is empty, or leaves no room for a token.
    pub(crate) fn check_prompt(&self, prompt: &[i32]) -> Result<(), Error> {
        match prompt.len() {
            0 => Err(Error::Option(
                "the prompt is empty: give at least one token of text".into(),
            )),
            prompt if prompt >= self.ctx => Err(Error::PromptTooLong {
                prompt,
                ctx: self.ctx,
            }),
            _ => Ok(()),
        }
    }

    /// The free slot whose reuse loses least. In this order: the source if it holds nothing
    /// beyond the shared prefix; an empty slot; the source if at most half of it is lost; the
    /// slot that was left longest ago.
    fn slot_for(&self, source: Option<HeldPrefix>) -> Option<usize> {
        let free = self.slots.iter().enumerate();
        let free = free.filter(|(_, slot)| slot.sequence.is_none());
        let loss = |at: usize, slot: &Slot<_>| {
            let found = source.filter(|source| source.slot == at);
            match (slot.cached.len(), found.map(|source| source.tokens)) {
                // The last token of a prompt is computed again anyway.
                (held, Some(tokens)) if tokens + 1 >= held => 0,
                (0, _) => 1,
                (held, Some(tokens)) if 2 * tokens >= held => 2,
                _ => 3,
            }
        };
        let best = free.min_by_key(|(at, slot)| (loss(*at, slot), slot.left_at));
        best.map(|(at, _)| at)
    }

    /// Makes room for `needed` cells in slot `at` by dropping what departed sequences have
    /// left, the longest ago first. The cells must be promisable ([`Batcher::can_promise`]).
    fn make_room(&mut self, (at, needed): (usize, usize)) {
        let mut left: Vec<usize> = (0..self.slots.len())
            .filter(|&other| other != at && !self.slots[other].cached.is_empty())
            .collect();
        left.sort_by_key(|&other| std::cmp::Reverse(self.slots[other].left_at));
        let promised = self.promises().filter(|&(slot, _)| slot != at);
        let mut taken: Vec<_> = promised.chain([(at, needed)]).collect();
        for other in left {
            taken.push((other, self.slots[other].cached.len()));
            if self.shared.cells(taken.iter().copied()) > self.decoder.cells() {
                taken.pop();
                self.drop_left(other);
            }
        }
    }

    /// Drops the tokens that the last sequence of a slot has left.
    fn drop_left(&mut self, slot: usize) {
        self.slots[slot].cached.clear();
        self.decoder.keep(slot as u32, 0);
        self.shared.cut(slot, 0);
    }

    /// Removes a sequence; its tokens stay in the KV cache until the cells are needed, as far
    /// as its [`Retention`] says so. Unknown ids are ignored.
    pub fn leave(&mut self, id: SequenceId) {
        self.now += 1;
        let of = |slot: &Slot<_>| slot.sequence.as_ref().is_some_and(|(own, _)| *own == id);
        let Some(at) = self.slots.iter().position(of) else {
            return;
        };
        let slot = &mut self.slots[at];
        let Some((_, sequence)) = slot.sequence.take() else {
            return;
        };
        slot.left_at = self.now;
        if slot.retention == Retention::Nowhere {
            return self.drop_left(at);
        }
        slot.cached = sequence.into_computed();
        if slot.retention == Retention::Saved {
            self.decoder
                .save(at as u32, &slot.namespace, &slot.cached, true);
        }
    }

    /// Removes what departed sequences of an owner have left, for all salts, in memory and
    /// in the store; its running sequences will leave nothing.
    pub fn forget(&mut self, namespace: &Namespace) -> Forgotten {
        let mut left = Vec::new();
        for (at, slot) in self.slots.iter_mut().enumerate() {
            if !slot.namespace.same_owner(namespace) {
                continue;
            }
            if slot.sequence.is_some() {
                slot.retention = Retention::Nowhere;
                slot.apart = true;
            } else {
                left.push((at, slot.cached.len()));
            }
        }
        let tokens = self.shared.cells(left.iter().copied());
        left.iter().for_each(|&(at, _)| self.drop_left(at));
        Forgotten {
            tokens,
            blocks: self.decoder.forget_saved(namespace),
        }
    }

    /// Holds a sequence or resumes it: a held one keeps its slot but takes part in no lap.
    pub fn hold(&mut self, id: SequenceId, held: bool) {
        if let Some(slot) = self.slot_of(id) {
            slot.held = held;
        }
    }

    fn slot_of(&mut self, id: SequenceId) -> Option<&mut Slot<SamplerOf<D>>> {
        self.slots.iter_mut().find(|slot| {
            let sequence = slot.sequence.as_ref();
            sequence.is_some_and(|(sequence, _)| *sequence == id)
        })
    }

    /// Whether any sequence would take part in a lap.
    pub fn ready(&self) -> bool {
        self.slots
            .iter()
            .any(|slot| slot.sequence.is_some() && !slot.held)
    }

    /// Clears the KV cache, if there is no sequence.
    pub fn forget_left(&mut self) {
        if self.sequences().next().is_none() {
            self.slots.iter_mut().for_each(|slot| slot.cached.clear());
            self.decoder.clear();
            self.shared.clear();
        }
    }
}

/// Length of the common prefix.
fn common(a: &[i32], b: &[i32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
