//! The batcher: sequences that share laps. They join and leave between laps;
//! prompts are cut into pieces that go along with the tokens of those that already
//! generate. Knows nothing of clients, queues and clocks.
//!
//! Each lap carries the next token of every generating sequence. What rows are
//! then to spare ([`LapCost::spare`]) is shared equally among the prompts
//! (`share`); with nobody generating, prompts get the whole micro-batch.
//! A prompt of any length thus makes a lap of the others at most twice as long as
//! its compute would be without, or as the medium takes anyway, and itself
//! gets on by one row a lap at least.
//!
//! A sequence is admitted when the KV cache has room for its prompt and all that
//! it may generate: none is ever thrown out later. The tokens of one that has
//! left stay until their room is needed, so that a conversation goes on where it
//! was.
//!
//! The arithmetic of a batch may differ in the last bits from that of a sequence
//! alone, because kernels add up in another order for several rows: where two
//! tokens are almost equally likely, another one may be chosen.

mod cost;
mod decoder;
mod lap;
mod sequence;
mod share;
mod simulated;
mod stop;

use thiserror::Error as ThisError;

use crate::engine::Engine;
use crate::vocab::Vocab;
use delayline_engine::Error;
use delayline_engine::Laps;

pub use cost::LapCost;
pub use decoder::{Decoder, Language, ModelLanguage};
pub use sequence::{Choice, GenerateRequest, GeneratedToken, TokenLogprob};
pub use simulated::{DecodedLap, SimulatedDecoder, SimulatedLanguage, SimulatedModel};

use sequence::Sequence;

/// A sequence that was admitted; never given out twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SequenceId(u64);

/// Why a request was not admitted.
#[derive(Debug, ThisError)]
pub enum JoinError {
    /// Not now; here it is again.
    #[error("no slot is free, or the KV cache has no room")]
    Full(Box<GenerateRequest>),
    /// Never.
    #[error(transparent)]
    Invalid(#[from] Error),
}

/// A sequence that joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// Which one.
    pub id: SequenceId,
    /// Tokens of its prompt that were in the KV cache from before.
    pub cached: usize,
}

/// What became of a sequence in a lap.
#[derive(Debug)]
pub struct SequenceEvent {
    /// Which one.
    pub sequence: SequenceId,
    /// Its next token; an error has ended it.
    pub token: Result<GeneratedToken, Error>,
}

/// A lap that failed. The sequences in it are as they were before.
#[derive(Debug, ThisError)]
#[error("a lap of {} sequences failed: {error}", .sequences.len())]
pub struct FailedLap {
    /// Why.
    #[source]
    pub error: Error,
    /// The sequences that it carried.
    pub sequences: Vec<SequenceId>,
}

/// A lap that went well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompletedLap {
    /// Sequences in it.
    pub sequences: usize,
    /// Tokens of prompts.
    pub prompt_tokens: usize,
    /// Tokens of sequences that generated before.
    pub decoded: usize,
    /// Tokens that it generated.
    pub generated: usize,
    /// What it took.
    pub took: Laps,
}

/// A slot, and with it a part of the KV cache.
#[derive(Debug)]
struct Slot<S> {
    sequence: Option<(SequenceId, Sequence<S>)>,
    /// Sits out laps until told otherwise.
    held: bool,
    /// What the last sequence has left in the KV cache, and when.
    cached: Vec<i32>,
    left_at: u64,
}

impl<S> Slot<S> {
    fn empty() -> Self {
        Self {
            sequence: None,
            held: false,
            cached: Vec::new(),
            left_at: 0,
        }
    }
}

type SamplerOf<D> = <<D as Decoder>::Language as Language>::Sampler;

/// Sequences on one decoder.
pub struct Batcher<D: Decoder = Engine> {
    decoder: D,
    language: D::Language,
    slots: Vec<Slot<SamplerOf<D>>>,
    cost: LapCost,
    ctx: usize,
    next_id: u64,
    now: u64,
}

impl Batcher {
    /// The vocabulary.
    pub fn vocab(&self) -> &Vocab {
        self.language.vocab()
    }
}

impl<D: Decoder> Batcher<D> {
    /// No sequence yet. One may take `ctx` tokens of the KV cache, prompt and answer;
    /// without a number all that it holds, up to 4096.
    pub fn new(decoder: D, ctx: Option<u32>) -> Self {
        Self {
            language: decoder.language(),
            slots: (0..decoder.slots()).map(|_| Slot::empty()).collect(),
            cost: match decoder.sees_stalls() {
                true => LapCost::default(),
                false => LapCost::blind(),
            },
            ctx: ctx.map_or(4096, |ctx| ctx as usize).min(decoder.cells()),
            next_id: 0,
            now: 0,
            decoder,
        }
    }

    /// What it runs on.
    pub fn decoder(&mut self) -> &mut D {
        &mut self.decoder
    }

    /// What laps cost.
    pub fn cost(&self) -> &LapCost {
        &self.cost
    }

    /// Maximum number of tokens that a sequence keeps, prompt and answer.
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

    /// Takes a sequence on, from the next lap on.
    ///
    /// # Errors
    /// [`JoinError`], with the request if it may be tried again.
    pub fn join(&mut self, request: GenerateRequest) -> Result<Admitted, JoinError> {
        self.check_prompt(&request.prompt)?;
        if request.tokens() == 0 {
            let message = "an answer needs room for one token at least";
            return Err(Error::Option(message.into()).into());
        }
        let room = self.ctx - request.prompt.len() + 1;
        let needed = sequence::cells(request.prompt.len(), request.tokens().min(room));
        let Some(at) = self.slot_for(&request.prompt) else {
            return Err(JoinError::Full(Box::new(request)));
        };
        if !self.make_room(at, needed) {
            return Err(JoinError::Full(Box::new(request)));
        }
        // What the slot holds is given up only for a request that is admitted.
        let mut sequence = Sequence::new(&self.language, request, room)?;
        let cached = self.rewind(at, sequence.lacking());
        sequence.advance(cached);
        let id = SequenceId(self.next_id);
        self.next_id += 1;
        let slot = &mut self.slots[at];
        slot.cached.clear();
        slot.held = false;
        slot.sequence = Some((id, sequence));
        Ok(Admitted { id, cached })
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

    /// The free slot that shares most of the prompt, else the one that was left
    /// first. One that would lose more than it shares counts as sharing nothing.
    fn slot_for(&self, prompt: &[i32]) -> Option<usize> {
        let free = self.slots.iter().enumerate();
        let free = free.filter(|(_, slot)| slot.sequence.is_none());
        let best = free.max_by_key(|(_, slot)| {
            let shared = common(&slot.cached, prompt);
            let kept = if 2 * shared >= slot.cached.len() {
                shared
            } else {
                0
            };
            let since = (slot.cached.len().min(1), slot.left_at);
            (kept, std::cmp::Reverse(since))
        });
        best.map(|(at, _)| at)
    }

    /// Has room for `needed` cells in slot `at`, at the cost of what others have left
    /// behind. Changes nothing if that is not enough.
    fn make_room(&mut self, at: usize, needed: usize) -> bool {
        let promised: usize = self
            .slots
            .iter()
            .filter_map(|slot| slot.sequence.as_ref())
            .map(|(_, sequence)| sequence.cells())
            .sum();
        let Some(free) = self.decoder.cells().checked_sub(promised + needed) else {
            return false;
        };
        let mut left: Vec<usize> = (0..self.slots.len())
            .filter(|&other| other != at && !self.slots[other].cached.is_empty())
            .collect();
        left.sort_by_key(|&other| std::cmp::Reverse(self.slots[other].left_at));
        let mut kept = 0;
        for other in left {
            kept += self.slots[other].cached.len();
            if kept > free {
                kept -= self.slots[other].cached.len();
                self.slots[other].cached.clear();
                self.decoder.forget(other as u32, 0);
            }
        }
        true
    }

    /// Forgets what slot `at` does not share with the prompt; returns how many
    /// tokens it does.
    fn rewind(&mut self, at: usize, prompt: &[i32]) -> usize {
        let cached = &self.slots[at].cached;
        // The last token is computed again: its logits are needed.
        let shared = common(cached, prompt).min(prompt.len() - 1);
        if shared == cached.len() || self.decoder.forget(at as u32, shared as u32) {
            return shared;
        }
        // Recurrent states cannot go back. Should others be here, they are computed anew.
        self.decoder.clear();
        for slot in &mut self.slots {
            slot.cached.clear();
            if let Some((_, sequence)) = &mut slot.sequence {
                sequence.start_again();
            }
        }
        0
    }

    /// Lets a sequence go; what it has computed stays until the room is needed.
    pub fn leave(&mut self, id: SequenceId) {
        self.now += 1;
        let now = self.now;
        if let Some(slot) = self.slot_of(id)
            && let Some((_, sequence)) = slot.sequence.take()
        {
            slot.cached = sequence.into_computed();
            slot.left_at = now;
        }
    }

    /// A held sequence keeps its slot, but sits out laps.
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

    /// Whether a lap would carry anybody.
    pub fn ready(&self) -> bool {
        self.slots
            .iter()
            .any(|slot| slot.sequence.is_some() && !slot.held)
    }

    /// Forgets what sequences have left in the KV cache, if none is there now.
    pub fn forget_left(&mut self) {
        if self.sequences().next().is_none() {
            self.slots.iter_mut().for_each(|slot| slot.cached.clear());
            self.decoder.clear();
        }
    }
}

/// How many tokens two texts share at their beginning.
fn common(a: &[i32], b: &[i32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
