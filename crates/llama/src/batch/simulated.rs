//! A decoder that computes nothing, for tests of the whole batcher: its logits are a hash
//! of the tokens so far, its laps fail at random from a seed, and its time is virtual. It
//! panics where the batcher breaks the rules of [`Decoder`].

use std::collections::HashSet;

use delayline_medium::Rng;

use super::decoder::{Decoder, Language};
use super::sequence::GenerateRequest;
use crate::piece::Piece;
use crate::sample::Sampling;
use delayline_engine::Class;
use delayline_engine::Error;
use delayline_engine::Laps;

/// The parameters of a simulation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SimulatedModel {
    /// As [`Decoder::slots`].
    pub slots: usize,
    /// As [`Decoder::cells`].
    pub cells: usize,
    /// As [`Decoder::rows`].
    pub rows: usize,
    /// Tokens in the vocabulary; 0 ends a text.
    pub vocab: usize,
    /// For a memory that cannot be cut, like recurrent states: the distance in tokens
    /// between snapshots, besides those at the ends of prompts. `None` for a memory that
    /// can be cut anywhere.
    pub snapshots: Option<u32>,
    /// Share of laps that fail.
    pub failures: f64,
    /// Share of laps with a logit that is NaN.
    pub spoiled: f64,
    /// Fixed compute time of a lap, in nanoseconds.
    pub lap_ns: u64,
    /// Additional compute time per row, in nanoseconds.
    pub row_ns: u64,
    /// Time in which the medium brings a lap's bytes, in nanoseconds.
    pub medium_ns: u64,
    /// Seed of the logits and of the failures.
    pub seed: u64,
}

impl SimulatedModel {
    /// The logits after a text, one for each token of the vocabulary.
    pub fn logits(&self, text: &[i32]) -> Vec<f32> {
        let state = text.iter().fold(self.seed, |state, &token| {
            Rng::new(state ^ token as u64).next_u64()
        });
        let mut rng = Rng::new(state);
        let logit = |_| rng.below(1 << 16) as f32 / f32::from(1_u16 << 12);
        (0..self.vocab).map(logit).collect()
    }

    /// The language.
    pub fn language(&self) -> SimulatedLanguage {
        SimulatedLanguage
    }

    /// The byte of a token: a letter, or, for tokens 1 to 3, a byte of the character `€`.
    pub fn spelling(token: i32) -> u8 {
        match token {
            1 => 0xe2,
            2 => 0x82,
            3 => 0xac,
            _ => b'a' + (token.unsigned_abs() % 26) as u8,
        }
    }
}

/// A lap that was decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodedLap {
    /// Number of its tokens.
    pub rows: usize,
    /// Its class.
    pub class: Class,
    /// The class of lap that was expected after it.
    pub next: Option<Class>,
}

/// A decoder without compute; see the module.
#[derive(Debug)]
pub struct SimulatedDecoder {
    model: SimulatedModel,
    memory: Vec<Vec<i32>>,
    /// By slot: the cell of each token. Numbers are never reused.
    cells: Vec<Vec<u64>>,
    next_cell: u64,
    /// By slot: the lengths in tokens at which snapshots were taken.
    snapshots: Vec<Vec<u32>>,
    /// Logits of each row of the last lap.
    logits: Vec<Option<Vec<f32>>>,
    /// Whether a NaN was computed since the memory was last cleared.
    poisoned: bool,
    failing: Rng,
    failures: f64,
    spoiled: f64,
    unshared: f64,
    taken: Laps,
    laps: Vec<DecodedLap>,
}

impl SimulatedDecoder {
    /// With an empty memory.
    pub fn new(model: SimulatedModel) -> Self {
        assert!(model.slots <= model.rows, "a row for each slot");
        Self {
            memory: vec![Vec::new(); model.slots],
            cells: vec![Vec::new(); model.slots],
            next_cell: 0,
            snapshots: vec![Vec::new(); model.slots],
            logits: Vec::new(),
            poisoned: false,
            failing: Rng::new(!model.seed),
            failures: model.failures,
            spoiled: model.spoiled,
            unshared: 0.0,
            taken: Laps::default(),
            laps: Vec::new(),
            model,
        }
    }

    /// Sets which shares of laps fail and are spoiled.
    pub fn set_failures(&mut self, failures: f64, spoiled: f64) {
        self.failures = failures;
        self.spoiled = spoiled;
    }

    /// Sets which share of what can be shared is not shared after all.
    pub fn set_unshared(&mut self, unshared: f64) {
        self.unshared = unshared;
    }

    /// The tokens in each slot.
    pub fn memory(&self) -> &[Vec<i32>] {
        &self.memory
    }

    /// The lengths in tokens to which a slot can be taken back.
    pub fn snapshots(&self, slot: usize) -> &[u32] {
        &self.snapshots[slot]
    }

    /// The laps since the last call, without failed ones.
    pub fn take_laps(&mut self) -> Vec<DecodedLap> {
        std::mem::take(&mut self.laps)
    }

    /// Takes a slot back to its last snapshot of at most `tokens` tokens.
    fn take_back(&mut self, slot: usize, tokens: u32) {
        let snapshots = &mut self.snapshots[slot];
        snapshots.retain(|&kept| kept <= tokens);
        let kept = snapshots.iter().copied().max().unwrap_or(0);
        self.truncate(slot, kept);
    }

    fn truncate(&mut self, slot: usize, tokens: u32) {
        self.memory[slot].truncate(tokens as usize);
        self.cells[slot].truncate(tokens as usize);
    }

    /// Number of cells in use.
    pub fn taken_cells(&self) -> usize {
        let all: HashSet<&u64> = self.cells.iter().flatten().collect();
        all.len()
    }

    fn check(&self, pieces: &[Piece<'_>]) {
        assert!(
            !self.poisoned,
            "a lap after a NaN, without clearing the memory"
        );
        let rows: usize = pieces.iter().map(|piece| piece.tokens.len()).sum();
        assert!(
            (1..=self.model.rows).contains(&rows),
            "a lap of {rows} rows"
        );
        for (at, piece) in pieces.iter().enumerate() {
            assert!(!piece.tokens.is_empty(), "an empty piece");
            let held = self.memory[piece.seq as usize].len();
            assert_eq!(piece.pos as usize, held, "a gap in slot {}", piece.seq);
            let twice = pieces[..at].iter().any(|other| other.seq == piece.seq);
            assert!(!twice, "slot {} is twice in a lap", piece.seq);
        }
        let held = self.taken_cells();
        if self.model.snapshots.is_some() {
            let len = pieces[0].tokens.len();
            let equal = pieces.iter().all(|piece| piece.tokens.len() == len);
            assert!(equal, "pieces of several lengths");
            let output = pieces.iter().any(|piece| piece.output);
            assert!(output == (len == 1) || pieces.len() == 1 && len == 1);
        }
        assert!(
            held + rows <= self.model.cells,
            "{held} cells are taken, {rows} more are needed, there are {}",
            self.model.cells
        );
    }
}

impl Decoder for SimulatedDecoder {
    type Language = SimulatedLanguage;

    fn language(&self) -> SimulatedLanguage {
        self.model.language()
    }

    fn slots(&self) -> usize {
        self.model.slots
    }

    fn cells(&self) -> usize {
        self.model.cells
    }

    fn rows(&self) -> usize {
        self.model.rows
    }

    fn decode(&mut self, pieces: &[Piece<'_>], next: Option<Class>) -> Result<(), Error> {
        self.check(pieces);
        let rows = pieces.iter().map(|piece| piece.tokens.len()).sum::<usize>();
        let compute = self.model.lap_ns + self.model.row_ns * rows as u64;
        let lap = compute.max(self.model.medium_ns);
        self.taken.count += 1;
        self.taken.ns += lap;
        self.taken.stall_ns += lap - compute;
        self.logits.clear();
        if self.failing.chance(self.failures) {
            for piece in pieces {
                // A failed lap may have advanced the state, which cannot be cut.
                if self.model.snapshots.is_some() {
                    self.take_back(piece.seq as usize, piece.pos);
                }
            }
            return Err(Error::Llama {
                what: "decode",
                message: "the simulation says so".into(),
            });
        }
        for piece in pieces {
            let text = &mut self.memory[piece.seq as usize];
            text.extend_from_slice(piece.tokens);
            let from = self.next_cell;
            self.next_cell += piece.tokens.len() as u64;
            self.cells[piece.seq as usize].extend(from..self.next_cell);
            self.logits
                .resize(self.logits.len() + piece.tokens.len(), None);
            if let Some(last) = self.logits.last_mut()
                && piece.output
            {
                *last = Some(self.model.logits(text));
            }
        }
        if self.failing.chance(self.spoiled)
            && let Some(Some(logits)) = self.logits.last_mut()
        {
            logits[0] = f32::NAN;
            self.poisoned = true;
        }
        let output = pieces.iter().any(|piece| piece.output);
        self.laps.push(DecodedLap {
            rows,
            class: Class::of(rows, output),
            next,
        });
        Ok(())
    }

    fn logits(&self, row: usize) -> Option<&[f32]> {
        self.logits.get(row)?.as_deref()
    }

    fn equal_pieces(&self) -> bool {
        self.model.snapshots.is_some()
    }

    fn keep(&mut self, slot: u32, tokens: u32) -> u32 {
        let at = slot as usize;
        if self.model.snapshots.is_some() && self.memory[at].len() > tokens as usize {
            self.take_back(at, tokens);
        }
        self.truncate(at, tokens);
        self.memory[at].len() as u32
    }

    fn shareable(&self, slot: u32, tokens: u32) -> u32 {
        let held = self.memory[slot as usize].len() as u32;
        match self.model.snapshots {
            Some(_) if held > tokens => {
                let all = self.snapshots[slot as usize].iter().copied();
                all.filter(|&kept| kept <= tokens).max().unwrap_or(0)
            }
            _ => held.min(tokens),
        }
    }

    fn share(&mut self, from: u32, to: u32, tokens: u32) -> u32 {
        assert_eq!(self.shareable(from, tokens), tokens, "it can be had");
        assert_ne!(from, to, "two slots");
        let (from, to) = (from as usize, to as usize);
        if self.failing.chance(self.unshared) {
            self.truncate(to, 0);
            self.snapshots[to].clear();
            return 0;
        }
        self.memory[to] = self.memory[from][..tokens as usize].to_vec();
        self.cells[to] = self.cells[from][..tokens as usize].to_vec();
        self.snapshots[to] = self.snapshots[from].clone();
        self.snapshots[to].retain(|&kept| kept == tokens);
        tokens
    }

    fn remember(&mut self, slot: u32, at_prompt: bool) {
        let held = self.memory[slot as usize].len() as u32;
        if at_prompt
            || self
                .model
                .snapshots
                .is_some_and(|every| held.is_multiple_of(every))
        {
            self.snapshots[slot as usize].push(held);
        }
    }

    fn clear(&mut self) {
        self.poisoned = false;
        self.memory.iter_mut().for_each(Vec::clear);
        self.cells.iter_mut().for_each(Vec::clear);
        self.snapshots.iter_mut().for_each(Vec::clear);
    }

    fn taken(&self) -> Laps {
        self.taken
    }

    fn sees_stalls(&self) -> bool {
        true
    }
}

/// Chooses the likeliest token; with a temperature above 0, after adding seeded noise.
#[derive(Clone, Copy, Debug)]
pub struct SimulatedLanguage;

impl Language for SimulatedLanguage {
    /// The source of noise, if there is any.
    type Sampler = Option<Rng>;

    fn sampler(
        &self,
        sampling: &Sampling,
        request: &GenerateRequest,
    ) -> Result<Option<Rng>, Error> {
        if request.grammar.is_some() {
            let message = "a simulated language has no grammar";
            return Err(Error::Option(message.into()));
        }
        let seed = u64::from(sampling.seed);
        Ok((sampling.temperature > 0.0).then(|| Rng::new(seed)))
    }

    fn choose(&mut self, sampler: &mut Option<Rng>, logits: &[f32]) -> Result<i32, Error> {
        let mut noise = || sampler.as_mut().map_or(0.0, |rng| rng.below(8) as f32);
        let with_noise = logits.iter().map(|logit| logit + noise());
        let best = with_noise.enumerate().max_by(|a, b| a.1.total_cmp(&b.1));
        best.map(|(token, _)| token as i32)
            .ok_or_else(|| Error::Defect("a vocabulary without tokens".into()))
    }

    fn spell(&self, token: i32, out: &mut Vec<u8>) -> Result<(), Error> {
        out.push(SimulatedModel::spelling(token));
        Ok(())
    }

    fn is_end(&self, token: i32) -> bool {
        token == 0
    }
}
