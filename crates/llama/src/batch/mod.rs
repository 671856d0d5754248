//! The batcher: sequences that share laps. They join and leave between laps;
//! prompts are cut into pieces that ride with the tokens of those that already
//! generate. Knows nothing of clients, queues and clocks.
//!
//! Each lap carries the next token of every generating sequence. What rows are
//! then to spare ([`Pace::spare`]) is dealt out evenly among the prompts
//! (`share::deal`); with nobody generating, prompts get the whole micro-batch.
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

mod lap;
mod pace;
mod rider;
mod share;
mod stop;

use crate::empty::Load;
use crate::engine::Engine;
use crate::sample::Candidates;
use crate::vocab::Vocab;
use delayline_engine::Error;
use delayline_engine::Laps;

pub use pace::Pace;
pub use rider::{Likely, Request, Step};

use rider::Rider;

/// A sequence that rides; never given out twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RiderId(u64);

/// Why a request does not ride.
#[derive(Debug)]
pub enum Refused {
    /// Not now: no place or no room in the KV cache; here it is again.
    Full(Box<Request>),
    /// Never: what is wrong with it.
    Never(Error),
}

/// A sequence that joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Which one.
    pub id: RiderId,
    /// How many tokens of the prompt were in the KV cache from before.
    pub cached: usize,
}

/// What became of a sequence in a lap.
#[derive(Debug)]
pub struct Event {
    /// Which one.
    pub rider: RiderId,
    /// Its next token; an error has ended it.
    pub step: Result<Step, Error>,
}

/// A lap that failed. The sequences in it are as they were before.
#[derive(Debug)]
pub struct Failed {
    /// Why.
    pub error: Error,
    /// The sequences that it carried.
    pub riders: Vec<RiderId>,
}

/// A lap that is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
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

/// A place in the KV cache.
#[derive(Debug, Default)]
struct Seat {
    rider: Option<(RiderId, Rider)>,
    /// Sits out laps until told otherwise.
    held: bool,
    /// What is left of the last rider, and when it left.
    parked: Vec<i32>,
    left_at: u64,
}

/// Sequences on one engine.
pub struct Batcher {
    engine: Engine,
    vocab: Vocab,
    seats: Vec<Seat>,
    candidates: Candidates,
    pace: Pace,
    ctx: usize,
    next_id: u64,
    now: u64,
}

impl Batcher {
    /// No sequence yet. One may come to `ctx` tokens, prompt and answer; none is
    /// all that the KV cache holds, up to 4096.
    pub fn new(engine: Engine, ctx: Option<u32>) -> Self {
        let cells = engine.ctx() as usize;
        let seats = (0..engine.seqs()).map(|_| Seat::default()).collect();
        Self {
            vocab: Vocab::new(engine.model()),
            seats,
            candidates: Candidates::default(),
            pace: match engine.way() {
                Load::Mmap => Pace::blind(),
                Load::Empty | Load::Native => Pace::default(),
            },
            ctx: ctx.map_or(4096, |ctx| ctx as usize).min(cells),
            next_id: 0,
            now: 0,
            engine,
        }
    }

    /// The machine.
    pub fn engine(&mut self) -> &mut Engine {
        &mut self.engine
    }

    /// The vocabulary.
    pub fn vocab(&self) -> &Vocab {
        &self.vocab
    }

    /// What laps took.
    pub fn pace(&self) -> &Pace {
        &self.pace
    }

    /// Most tokens of a sequence, prompt and answer.
    pub fn ctx(&self) -> usize {
        self.ctx
    }

    /// Most sequences that ride.
    pub fn seats(&self) -> usize {
        self.seats.len()
    }

    /// Sequences that ride, in the order of their places.
    pub fn riders(&self) -> impl Iterator<Item = RiderId> + '_ {
        let ids = self.seats.iter().filter_map(|seat| seat.rider.as_ref());
        ids.map(|(id, _)| *id)
    }

    /// Takes a sequence on, from the next lap on.
    ///
    /// # Errors
    /// [`Refused`], with the request if it may be tried again.
    pub fn join(&mut self, request: Request) -> Result<Joined, Refused> {
        let mut request = request;
        let prompt = request.prompt.len();
        if prompt == 0 || request.most == 0 {
            return Err(Refused::Never(Error::Option(
                "a prompt and an answer need at least one token each".into(),
            )));
        }
        if prompt >= self.ctx {
            return Err(Refused::Never(Error::PromptTooLong {
                prompt,
                ctx: self.ctx,
            }));
        }
        request.most = request.most.min(self.ctx - prompt);
        let Some(at) = self.seat_for(&request.prompt) else {
            return Err(Refused::Full(Box::new(request)));
        };
        if !self.make_room(at, prompt + request.most) {
            return Err(Refused::Full(Box::new(request)));
        }
        // What the place holds is given up only for one that surely rides.
        let mut rider = Rider::new(&self.vocab, request).map_err(Refused::Never)?;
        let cached = self.rewind(at, rider.lacking());
        rider.advance(cached);
        let id = RiderId(self.next_id);
        self.next_id += 1;
        let seat = &mut self.seats[at];
        seat.parked.clear();
        seat.held = false;
        seat.rider = Some((id, rider));
        Ok(Joined { id, cached })
    }

    /// The free place that shares most of the prompt, else the one that was left
    /// first. One that would lose more than it shares counts as sharing nothing.
    fn seat_for(&self, prompt: &[i32]) -> Option<usize> {
        let free = self.seats.iter().enumerate();
        let free = free.filter(|(_, seat)| seat.rider.is_none());
        let best = free.max_by_key(|(_, seat)| {
            let shared = common(&seat.parked, prompt);
            let kept = if 2 * shared >= seat.parked.len() {
                shared
            } else {
                0
            };
            let since = (seat.parked.len().min(1), seat.left_at);
            (kept, std::cmp::Reverse(since))
        });
        best.map(|(at, _)| at)
    }

    /// Has room for `tokens` in place `at`, at the cost of what others have left
    /// behind. Changes nothing if that is not enough.
    fn make_room(&mut self, at: usize, tokens: usize) -> bool {
        let cells = self.engine.ctx() as usize;
        let riding: usize = self
            .seats
            .iter()
            .filter_map(|seat| seat.rider.as_ref())
            .map(|(_, rider)| rider.reserved())
            .sum();
        let Some(free) = cells.checked_sub(riding + tokens) else {
            return false;
        };
        let mut parked: Vec<usize> = (0..self.seats.len())
            .filter(|&other| other != at && !self.seats[other].parked.is_empty())
            .collect();
        parked.sort_by_key(|&other| std::cmp::Reverse(self.seats[other].left_at));
        let mut kept = 0;
        for other in parked {
            kept += self.seats[other].parked.len();
            if kept > free {
                kept -= self.seats[other].parked.len();
                self.seats[other].parked.clear();
                self.engine.context().forget(other as u32, 0);
            }
        }
        true
    }

    /// Forgets what place `at` does not share with the prompt; returns how many
    /// tokens it does.
    fn rewind(&mut self, at: usize, prompt: &[i32]) -> usize {
        // The last token is computed again: its logits are needed.
        let shared = common(&self.seats[at].parked, prompt).min(prompt.len() - 1);
        let context = self.engine.context();
        if context.forget(at as u32, shared as u32) {
            return shared;
        }
        // Recurrent states cannot go back; such models have one place.
        context.clear();
        0
    }

    /// Lets a sequence go; what it has computed stays until the room is needed.
    pub fn leave(&mut self, id: RiderId) {
        self.now += 1;
        let now = self.now;
        if let Some(seat) = self.seat_of(id)
            && let Some((_, rider)) = seat.rider.take()
        {
            seat.parked = rider.into_fed();
            seat.left_at = now;
        }
    }

    /// A held sequence keeps its place, but sits out laps.
    pub fn hold(&mut self, id: RiderId, held: bool) {
        if let Some(seat) = self.seat_of(id) {
            seat.held = held;
        }
    }

    fn seat_of(&mut self, id: RiderId) -> Option<&mut Seat> {
        let is = |seat: &&mut Seat| seat.rider.as_ref().is_some_and(|(rider, _)| *rider == id);
        self.seats.iter_mut().find(is)
    }

    /// Whether a lap would carry anybody.
    pub fn ready(&self) -> bool {
        self.seats
            .iter()
            .any(|seat| seat.rider.is_some() && !seat.held)
    }
}

/// How many tokens two texts share at their beginning.
fn common(a: &[i32], b: &[i32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
