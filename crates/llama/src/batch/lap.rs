//! The laps of a batcher: which tokens ride on the next one, and what came of it.

use super::{Batcher, Carried, Event, Failed, share};
use crate::piece::Piece;
use crate::stream::Class;
use delayline_engine::Error;
use delayline_engine::Laps;

/// Fewest rows of prompts beside generating sequences: a prompt gets on.
const LEAST_SPARE: usize = 4;

impl Batcher {
    /// Measures laps of one row and of more, so that the pace is known before
    /// anybody rides: `laps` of each kind, of which the one with the shortest compute
    /// counts, for whatever else the machine does only makes it longer. Brings what
    /// stays into memory.
    ///
    /// # Errors
    /// When a lap fails.
    pub fn warm_up(&mut self, laps: usize) -> Result<(), Error> {
        let rows = (self.engine.ubatch() as usize).min(16);
        let tokens = vec![0; rows];
        // The first lap reads what stays as well, and is no measure.
        self.engine
            .lap(&tokens[..1], 0, true, Some(Class::Single))?;
        let mut shortest: [Option<Laps>; 2] = [None; 2];
        for turn in 0..laps {
            let next = (turn + 1 < laps).then_some(Class::Single);
            let kinds = [(1, Some(Class::of(rows, true))), (rows, next)];
            for ((rows, next), shortest) in kinds.into_iter().zip(&mut shortest) {
                self.engine.context().clear();
                let before = self.engine.laps();
                self.engine.lap(&tokens[..rows], 0, true, next)?;
                let took = self.engine.laps() - before;
                let all = shortest.iter().copied().chain([took]);
                *shortest = all.min_by_key(|took| took.ns.saturating_sub(took.stall_ns));
            }
        }
        for (rows, took) in [1, rows].into_iter().zip(shortest) {
            if let Some(took) = took {
                self.measured(rows, took);
            }
        }
        self.engine.context().clear();
        Ok(())
    }

    /// A lap for nobody, to see whether laps go well; only while nobody rides.
    ///
    /// # Errors
    /// When it fails.
    pub fn probe(&mut self) -> Result<(), Error> {
        if self.riders().next().is_some() {
            return Ok(());
        }
        for seat in &mut self.seats {
            seat.parked.clear();
        }
        self.engine.context().clear();
        self.engine.lap(&[0], 0, true, Some(Class::Single))?;
        self.engine.context().clear();
        Ok(())
    }

    /// One lap of all that ride. What comes of it is added to `events`; a sequence
    /// that ended has left. Without riders nothing happens.
    ///
    /// # Errors
    /// [`Failed`]: nothing came of it, and the sequences may ride again.
    pub fn lap(&mut self, events: &mut Vec<Event>) -> Result<Carried, Failed> {
        let shares = self.shares();
        let mut pieces: Vec<Piece> = Vec::with_capacity(shares.len());
        for &(at, rows) in &shares {
            if let Some((_, rider)) = &self.seats[at].rider {
                let lacking = rider.lacking();
                pieces.push(Piece {
                    seq: at as u32,
                    pos: rider.fed() as u32,
                    tokens: &lacking[..rows],
                    output: rows == lacking.len(),
                });
            }
        }
        if pieces.is_empty() {
            return Ok(Carried::default());
        }
        let rows: usize = pieces.iter().map(|piece| piece.tokens.len()).sum();
        let next = self.expect(&shares);
        let before = self.engine.laps();
        if let Err(error) = self.engine.lap_of(&pieces, next) {
            let riders = shares
                .iter()
                .filter_map(|&(at, _)| self.seats[at].rider.as_ref());
            let riders = riders.map(|(id, _)| *id).collect();
            return Err(Failed { error, riders });
        }
        let took = self.engine.laps() - before;
        self.measured(rows, took);
        let (generated, decoded) = self.advance(&shares, events);
        Ok(Carried {
            sequences: shares.len(),
            prompt_tokens: rows - decoded,
            decoded,
            generated,
            took,
        })
    }

    /// Which place brings how many tokens to the next lap.
    fn shares(&self) -> Vec<(usize, usize)> {
        let riding = |generates: bool| {
            let seats = self.seats.iter().enumerate().filter(|(_, seat)| !seat.held);
            seats.filter_map(move |(at, seat)| {
                let (id, rider) = seat.rider.as_ref()?;
                (rider.generates() == generates).then_some((at, *id, rider))
            })
        };
        let mut shares: Vec<(usize, usize)> = riding(true).map(|(at, ..)| (at, 1)).collect();
        let mut prompts: Vec<_> = riding(false).collect();
        prompts.sort_by_key(|(_, id, _)| *id);
        let most = self.engine.ubatch() as usize - shares.len();
        let rows = match shares.len() {
            0 => most,
            n => self.pace.spare(n).max(LEAST_SPARE).min(most),
        };
        let lacking: Vec<usize> = prompts.iter().map(|(.., r)| r.lacking().len()).collect();
        let dealt = share::deal(rows, &lacking);
        let dealt = prompts.iter().zip(dealt).filter(|(_, rows)| *rows > 0);
        shares.extend(dealt.map(|((at, ..), rows)| (*at, rows)));
        shares
    }

    /// The lap after this one, as far as it can be known: no one joins, and
    /// nobody ends but by length.
    fn expect(&self, shares: &[(usize, usize)]) -> Option<Class> {
        let (mut tokens, mut output) = (0, false);
        for (at, seat) in self.seats.iter().enumerate() {
            let Some((_, rider)) = seat.rider.as_ref().filter(|_| !seat.held) else {
                continue;
            };
            let rows = shares
                .iter()
                .find(|(other, _)| *other == at)
                .map_or(0, |(_, rows)| *rows);
            let left = rider.lacking().len() - rows;
            if left == 0 && !rider.ends_next() {
                tokens += 1;
                output = true;
            } else {
                tokens += left;
            }
        }
        (tokens > 0).then(|| Class::of(tokens, output))
    }

    /// After a lap: tokens for all whose logits it has. Returns how many there
    /// were, and how many rows had been such tokens themselves.
    fn advance(&mut self, shares: &[(usize, usize)], events: &mut Vec<Event>) -> (usize, usize) {
        let (mut row, mut generated, mut decoded) = (0, 0, 0);
        let mut gone = Vec::new();
        for &(at, rows) in shares {
            row += rows;
            let Some((id, rider)) = &mut self.seats[at].rider else {
                continue;
            };
            decoded += usize::from(rider.generates());
            rider.advance(rows);
            if !rider.lacking().is_empty() {
                continue;
            }
            let step = match self.engine.logits_of(row - 1) {
                Some(logits) => rider.step(&self.vocab, logits, &mut self.candidates),
                None => Err(Error::Defect("a lap had no logits".into())),
            };
            generated += usize::from(step.is_ok());
            if step.as_ref().map_or(true, |step| step.finish.is_some()) {
                gone.push(*id);
            }
            events.push(Event { rider: *id, step });
        }
        for id in gone {
            self.leave(id);
        }
        (generated, decoded)
    }

    fn measured(&mut self, rows: usize, took: Laps) {
        let s = |ns: u64| ns as f64 / 1e9;
        self.pace.add(rows, s(took.ns), s(took.stall_ns));
    }
}
