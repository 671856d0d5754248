//! Feeds whole experts: reads the experts that a layer uses into frames before it
//! computes, all missing matrices at once; after those, experts that the next layer will
//! probably use. Knows no policy, no graph and no router.

use std::time::Duration;

use delayline_line::{LineError, PartSpan, Ticket};
use delayline_medium::Memory;
use delayline_plan::{Framed, Presence};

use crate::arena::{ExpertArena, FrameBinding, Shift};
use crate::hotness::HotLaps;
use crate::items::BadIndex;
use crate::source::EngineLine;

/// A matrix of one expert or of several, being read into frames.
struct Coming {
    matrix: u32,
    ticket: Ticket,
    shifts: Vec<Shift>,
}

/// An expert that a layer may use, being read into a reserved frame.
struct Guess {
    layer: u32,
    expert: u32,
    frame: u32,
    coming: Vec<Coming>,
}

/// Counters of guesses since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GuessCounts {
    /// Experts used by layers for which a guess had been made.
    pub named: u64,
    /// Those of them that had been guessed.
    pub right: u64,
    /// Those of `named` that were not in memory.
    pub missed: u64,
    /// Those of `missed` that had been guessed and were being read, or had been.
    pub early: u64,
    /// Bytes read because of a guess.
    pub bytes: u64,
    /// Those of them that were not used.
    pub wasted: u64,
}

/// Experts in frames, and those being read.
pub struct ExpertFeed {
    /// The frames.
    pub arena: ExpertArena,
    counts: GuessCounts,
    /// The layer under way.
    layer: Option<u32>,
    /// Reads of that layer.
    coming: Vec<Coming>,
    /// A layer, and the experts that it was guessed to use, in memory or not.
    guessed: Option<(u32, Vec<u32>)>,
    /// Those of them that are not in memory.
    early: Vec<Guess>,
    /// Wrong guesses whose reads may still be under way.
    wrong: Vec<Guess>,
    worth: Worth,
    warming: Warming,
    spans: Vec<PartSpan>,
}

/// Experts that were hot when the model last ran, being read into empty frames.
#[derive(Default)]
struct Warming {
    /// Experts not requested yet; the next one is last.
    ahead: Vec<(u32, u32)>,
    coming: Vec<Guess>,
    /// Bytes of experts that the line read as guesses for this.
    bytes: u64,
}

impl Warming {
    fn is_over(&self) -> bool {
        self.ahead.is_empty() && self.coming.is_empty()
    }
}

impl ExpertFeed {
    /// A feed with nothing being read. With `guesses`, frames are set aside for them if
    /// there are enough.
    pub fn new(mut arena: ExpertArena, guesses: bool) -> Self {
        let possible = guesses && arena.spare() > 0;
        arena.leave_spare(possible);
        Self {
            arena,
            counts: GuessCounts::default(),
            layer: None,
            coming: Vec::new(),
            guessed: None,
            early: Vec::new(),
            wrong: Vec::new(),
            worth: Worth::new(possible),
            warming: Warming::default(),
            spans: Vec::new(),
        }
    }

    /// Begins a lap: no layer is under way.
    pub fn begin(&mut self) {
        self.layer = None;
        self.arena.begin();
    }

    /// Whether a layer is the one under way.
    pub fn is_at(&self, layer: u32) -> bool {
        self.layer == Some(layer)
    }

    /// Begins a layer that uses experts: each gets a frame, and missing ones are requested.
    ///
    /// # Errors
    /// If an index is out of range; nothing has changed then.
    pub fn visit(
        &mut self,
        layer: u32,
        ids: &[i32],
        line: &mut EngineLine,
    ) -> Result<(), BadIndex> {
        self.arena.visit(layer, ids)?;
        self.layer = Some(layer);
        self.give_back(line);
        self.judge(layer, line);
        for matrix in 0..self.arena.matrices(layer) {
            let mut shifts = Vec::new();
            self.spans.clear();
            self.arena
                .missing(layer, matrix, &mut self.spans, &mut shifts);
            if !self.spans.is_empty() {
                self.coming.push(Coming {
                    matrix,
                    ticket: line.fetch(&self.spans),
                    shifts,
                });
            }
        }
        Ok(())
    }

    /// Compares the guesses for a layer with the experts that it uses: promotes the reads of
    /// right ones and cancels the others.
    fn judge(&mut self, layer: u32, line: &mut EngineLine) {
        let visited = self.arena.visited();
        if let Some((of, guessed)) = self.guessed.take()
            && of == layer
        {
            let counts = &mut self.counts;
            for framed in visited {
                counts.named += 1;
                counts.right += u64::from(guessed.contains(&framed.item.0));
                counts.missed += u64::from(framed.found != Presence::Held);
                // Others may be being read because they were hot.
                let early = framed.found == Presence::Reserved;
                counts.early += u64::from(early && guessed.contains(&framed.item.0));
            }
        }
        let came_true = |guess: &mut Guess| {
            let reserved = |framed: &Framed| framed.found == Presence::Reserved;
            let mut taken = visited.iter().filter(|framed| reserved(framed));
            guess.layer == layer && taken.any(|framed| framed.item.0 == guess.expert)
        };
        for guess in self.early.extract_if(.., came_true) {
            for coming in &guess.coming {
                line.promote(&coming.ticket);
            }
            self.coming.extend(guess.coming);
        }
        for hot in self.warming.coming.extract_if(.., came_true) {
            self.warming.bytes += self.arena.read_bytes(hot.layer, hot.expert);
            for coming in &hot.coming {
                line.promote(&coming.ticket);
            }
            self.coming.extend(hot.coming);
        }
        for guess in self.early.drain(..) {
            for coming in &guess.coming {
                line.cancel(&coming.ticket);
            }
            self.arena.cancel(guess.layer, guess.expert);
            self.wrong.push(guess);
        }
    }

    /// Counters of guesses; `line` is the one that reads them.
    pub fn guesses(&self, line: &EngineLine) -> GuessCounts {
        let counters = line.counters();
        GuessCounts {
            bytes: counters.bytes_guessed.saturating_sub(self.warming.bytes),
            // If experts have frames, nothing else is wasted.
            wasted: counters.bytes_wasted,
            ..self.counts
        }
    }

    /// Bytes of experts that were read because they were hot before.
    pub fn warmed_bytes(&self) -> u64 {
        self.warming.bytes
    }

    /// Whether guesses are worth making now.
    pub fn wants_guess(&mut self, line: &EngineLine) -> bool {
        if !self.warming.is_over() {
            // The bytes of guesses are known only once warming is over.
            return self.worth.on;
        }
        let counters = line.counters();
        let guessed = counters.bytes_guessed.saturating_sub(self.warming.bytes);
        let wasted = counters.bytes_wasted;
        let was = self.worth.on;
        let on = self.worth.ask(guessed, wasted);
        if on != was {
            self.arena.leave_spare(on);
        }
        on
    }

    /// Guesses that a later layer uses these experts, the likeliest first: those not in
    /// memory are read when nothing else is. `cost` is the time that the guess took.
    pub fn guess(&mut self, layer: u32, ids: &[i32], cost: Duration, line: &mut EngineLine) {
        self.worth.cost_ns += cost.as_nanos() as u64;
        let mut guessed = Vec::new();
        for expert in ids.iter().filter_map(|&id| u32::try_from(id).ok()) {
            if guessed.contains(&expert) {
                continue;
            }
            guessed.push(expert);
            let Some(frame) = self.arena.reserve(layer, expert) else {
                continue;
            };
            let guess = self.ask_early(layer, expert, frame, line);
            self.early.push(guess);
        }
        // Laps of many rows are not guessed for, and count as little.
        self.guessed = Some((layer, guessed)).filter(|(_, guessed)| !guessed.is_empty());
    }

    /// Reads an expert into its frame when nothing else is read.
    fn ask_early(&self, layer: u32, expert: u32, frame: u32, line: &mut EngineLine) -> Guess {
        let coming = (0..self.arena.matrices(layer)).map(|matrix| {
            let (span, shift) = self.arena.span(layer, matrix, expert, frame);
            Coming {
                matrix,
                ticket: line.guess(&[span]),
                shifts: shift.into_iter().collect(),
            }
        });
        Guess {
            layer,
            expert,
            frame,
            coming: coming.collect(),
        }
    }

    /// Takes over choices of earlier laps: the policy learns them, and the experts that
    /// would be in memory are read by [`ExpertFeed::warm`].
    pub fn recall(&mut self, hot: HotLaps) {
        self.warming.ahead = self.arena.recall(hot);
        self.warming.ahead.reverse();
    }

    /// Reads a few more of the experts that were hot into empty frames, when nothing else
    /// is read. Never waits. Returns whether some are under way.
    ///
    /// # Errors
    /// Those of [`delayline_line::Line::pump`].
    pub fn warm(&mut self, line: &mut EngineLine, memory: &Memory) -> Result<bool, LineError> {
        if self.warming.is_over() {
            return Ok(false);
        }
        line.pump()?;
        self.give_back(line);
        let came = |hot: &mut Guess| {
            let mut coming = hot.coming.iter();
            coming.all(|coming| line.is_settled(&coming.ticket))
        };
        let came: Vec<Guess> = self.warming.coming.extract_if(.., came).collect();
        for hot in came {
            self.warming.bytes += self.arena.read_bytes(hot.layer, hot.expert);
            let mut is_whole = true;
            for coming in hot.coming {
                line.promote(&coming.ticket);
                is_whole &= line.fetched(coming.ticket).is_ok();
                for shift in coming.shifts {
                    memory.move_down(shift.from, shift.to, shift.len);
                }
            }
            match is_whole {
                true => _ = self.arena.hold(hot.layer, hot.expert),
                // A read failed: the expert is read again when it is used.
                false => {
                    self.arena.cancel(hot.layer, hot.expert);
                    self.arena.give_back(hot.layer, hot.frame);
                    self.warming.ahead.clear();
                }
            }
        }
        while let Some((layer, expert)) = self.warming.ahead.pop() {
            if self.arena.has_frame(layer, expert) || self.arena.is_full(layer) {
                continue;
            }
            let Some(frame) = self.arena.reserve_unused(layer, expert) else {
                self.warming.ahead.push((layer, expert));
                break;
            };
            let hot = self.ask_early(layer, expert, frame, line);
            self.warming.coming.push(hot);
        }
        line.pump()?;
        Ok(!self.warming.coming.is_empty())
    }

    /// Frees the frames of wrong guesses whose reads are over.
    fn give_back(&mut self, line: &mut EngineLine) {
        let settled = |guess: &mut Guess| {
            let mut coming = guess.coming.iter();
            coming.all(|coming| line.is_settled(&coming.ticket))
        };
        let over: Vec<Guess> = self.wrong.extract_if(.., settled).collect();
        for guess in over {
            self.arena.give_back(guess.layer, guess.frame);
            for coming in guess.coming {
                // Whether these reads failed does not matter.
                let _ = line.fetched(coming.ticket);
            }
        }
    }

    /// Waits for one matrix of all experts of the layer under way.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn wait(
        &mut self,
        matrix: u32,
        line: &mut EngineLine,
        memory: &Memory,
    ) -> Result<(), LineError> {
        while let Some(at) = self
            .coming
            .iter()
            .position(|coming| coming.matrix == matrix)
        {
            let coming = self.coming.swap_remove(at);
            line.fetched(coming.ticket)?;
            for shift in coming.shifts {
                memory.move_down(shift.from, shift.to, shift.len);
            }
        }
        Ok(())
    }

    /// The binding of one matrix of the experts of the layer under way.
    pub fn binding(&self, layer: u32, matrix: u32) -> FrameBinding<'_> {
        self.arena.binding(layer, matrix)
    }

    /// Empties all frames after reads that failed. No read may be under way.
    pub fn clear(&mut self, line: &mut EngineLine) {
        self.warming.ahead.clear();
        let early = self.early.drain(..).chain(self.warming.coming.drain(..));
        let guesses = early.chain(self.wrong.drain(..));
        let coming = guesses.flat_map(|guess| guess.coming);
        for coming in coming.chain(self.coming.drain(..)) {
            // The error was reported already.
            let _ = line.fetched(coming.ticket);
        }
        self.guessed = None;
        self.layer = None;
        self.arena.clear();
    }
}

/// Visits after which guesses are evaluated.
const TRIAL: u32 = 128;

/// Longest pause of guesses that do not pay, in trials.
const LONGEST_PAUSE: u32 = 64;

/// Nanoseconds saved by a byte that is read in time (2 GB/s). The decision hardly
/// depends on it.
const NS_PER_BYTE: f64 = 0.5;

/// Decides whether guesses pay: the bytes read in time against those wasted and the time
/// to make guesses. As long as they do not, they pause for longer and longer.
#[derive(Clone, Copy, Debug)]
struct Worth {
    possible: bool,
    on: bool,
    /// Visits since the trial or the pause began.
    visits: u32,
    /// Length of the latest pause, in trials.
    pause: u32,
    guessed: u64,
    wasted: u64,
    cost_ns: u64,
}

impl Worth {
    fn new(possible: bool) -> Self {
        Self {
            possible,
            on: possible,
            visits: 0,
            pause: 0,
            guessed: 0,
            wasted: 0,
            cost_ns: 0,
        }
    }

    /// Whether to guess at this visit. `guessed` and `wasted` are the bytes of guesses and
    /// the wasted bytes that the line has read so far.
    fn ask(&mut self, guessed: u64, wasted: u64) -> bool {
        if !self.possible {
            return false;
        }
        self.visits += 1;
        let over = match self.on {
            true => self.visits > TRIAL,
            false => self.visits > TRIAL * self.pause,
        };
        if over {
            let read = guessed - self.guessed;
            let vain = wasted - self.wasted;
            // Wasted bytes bring nothing, and delay others.
            let gain = (read as f64 - 2.0 * vain as f64) * NS_PER_BYTE;
            let pays = gain >= self.cost_ns as f64;
            match (self.on, pays) {
                (true, true) => self.pause = 0,
                (true, false) => {
                    self.pause = (2 * self.pause).clamp(1, LONGEST_PAUSE);
                    self.on = false;
                }
                (false, _) => self.on = true,
            }
            (self.guessed, self.wasted) = (guessed, wasted);
            self.cost_ns = 0;
            self.visits = 1;
        }
        self.on
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guesses_go_on_as_long_as_they_pay_and_are_tried_again_ever_later() {
        let mut worth = Worth::new(true);
        let (mut guessed, mut wasted) = (0, 0);
        let mut visits = |worth: &mut Worth, count: u32, useful: u64, vain: u64| {
            let on = (0..count).filter(|_| {
                let on = worth.ask(guessed, wasted);
                if on {
                    guessed += useful + vain;
                    wasted += vain;
                    worth.cost_ns += 1000;
                }
                on
            });
            on.count() as u32
        };
        assert_eq!(visits(&mut worth, 10 * TRIAL, 1 << 20, 1 << 18), 10 * TRIAL);
        // Half of them wrong: a trial, then pauses of 1, 2, 4 trials and so on.
        let on = visits(&mut worth, 16 * TRIAL, 1 << 18, 1 << 20);
        assert!((4 * TRIAL..=6 * TRIAL).contains(&on), "{on}");
        let on = visits(&mut worth, 1000 * TRIAL, 1 << 18, 1 << 20);
        assert!(on < 20 * TRIAL, "{on}");
        // Nothing is missing, so guesses only cost time.
        assert!(visits(&mut worth, 1000 * TRIAL, 0, 0) < 20 * TRIAL);
        let on = visits(&mut worth, 200 * TRIAL, 1 << 20, 0);
        assert!(on > 100 * TRIAL, "{on}");
    }

    #[test]
    fn where_guesses_are_not_possible_there_are_none() {
        let mut worth = Worth::new(false);
        assert!((0..10 * TRIAL).all(|_| !worth.ask(0, 0)));
    }
}
