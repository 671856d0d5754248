//! The laps of a batcher: which tokens go on the next one, and what came of it.

use super::share::{self, Member, Share};
use super::{Batcher, CompletedLap, Decoder, FailedLap, SequenceEvent, Slot};
use crate::piece::Piece;
use crate::stream::Class;
use delayline_engine::Error;
use delayline_engine::Laps;

impl<D: Decoder> Batcher<D> {
    /// Measures laps of one row and of more, so that their cost is known before
    /// anybody joins: `laps` of each kind, of which the one with the shortest compute
    /// counts, for whatever else the machine does only makes it longer. Brings what
    /// stays into memory.
    ///
    /// # Errors
    /// When a lap fails.
    pub fn warm_up(&mut self, laps: usize) -> Result<(), Error> {
        let rows = self.decoder.rows().min(16);
        // The first lap reads what stays as well, and is no measure.
        self.blank_lap(1, Some(Class::Single))?;
        let mut shortest: [Option<Laps>; 2] = [None; 2];
        for turn in 0..laps {
            let next = (turn + 1 < laps).then_some(Class::Single);
            let kinds = [(1, Some(Class::of(rows, true))), (rows, next)];
            for ((rows, next), shortest) in kinds.into_iter().zip(&mut shortest) {
                self.decoder.clear();
                let took = self.blank_lap(rows, next)?;
                let all = shortest.iter().copied().chain([took]);
                *shortest = all.min_by_key(|took| took.ns.saturating_sub(took.stall_ns));
            }
        }
        for (rows, took) in [1, rows].into_iter().zip(shortest) {
            if let Some(took) = took {
                self.measured(rows, took);
            }
        }
        self.decoder.clear();
        Ok(())
    }

    /// A lap for nobody, to see whether laps go well; only while there are no
    /// sequences.
    ///
    /// # Errors
    /// When it fails.
    pub fn probe(&mut self) -> Result<(), Error> {
        if self.sequences().next().is_some() {
            return Ok(());
        }
        self.forget_left();
        self.blank_lap(1, Some(Class::Single))?;
        self.decoder.clear();
        Ok(())
    }

    /// A lap of so many tokens of no text, with logits.
    fn blank_lap(&mut self, rows: usize, next: Option<Class>) -> Result<Laps, Error> {
        let piece = Piece {
            seq: 0,
            pos: 0,
            tokens: &vec![0; rows],
            output: true,
        };
        let before = self.decoder.taken();
        self.decoder.decode(&[piece], next)?;
        Ok(self.decoder.taken() - before)
    }

    /// One lap of all sequences that are not held. What comes of it is added to
    /// `events`; a sequence that ended has left. Without sequences nothing happens.
    ///
    /// # Errors
    /// [`FailedLap`]: nothing came of it, and the sequences may be tried again.
    pub fn lap(&mut self, events: &mut Vec<SequenceEvent>) -> Result<CompletedLap, FailedLap> {
        let members = self.members();
        let shares = self.share(&members);
        let pieces: Vec<Piece> = shares
            .iter()
            .filter_map(|share| {
                let (_, sequence) = self.slots[share.slot].sequence.as_ref()?;
                Some(sequence.piece(share))
            })
            .collect();
        if pieces.is_empty() {
            return Ok(CompletedLap::default());
        }
        let rows: usize = pieces.iter().map(|piece| piece.tokens.len()).sum();
        let next = share::class(&self.share(&share::after(&members, &shares)));
        let before = self.decoder.taken();
        if let Err(error) = self.decoder.decode(&pieces, next) {
            let carried = |member: &&Member| shares.iter().any(|s| s.slot == member.slot);
            let sequences = members.iter().filter(carried).map(|member| member.id);
            return Err(FailedLap {
                error,
                sequences: sequences.collect(),
            });
        }
        let took = self.decoder.taken() - before;
        self.measured(rows, took);
        let (generated, decoded) = self.advance(&shares, events);
        Ok(CompletedLap {
            sequences: shares.len(),
            prompt_tokens: rows - decoded,
            decoded,
            generated,
            took,
        })
    }

    /// Those who take part in the next lap, in the order of their slots.
    fn members(&self) -> Vec<Member> {
        let slots = self.slots.iter().enumerate().filter(|(_, slot)| !slot.held);
        let member = |(at, slot): (usize, &Slot<_>)| {
            let (id, sequence) = slot.sequence.as_ref()?;
            Some(Member {
                slot: at,
                id: *id,
                lacking: sequence.lacking().len(),
                generates: sequence.generates(),
                ends_next: sequence.ends_next(),
            })
        };
        slots.filter_map(member).collect()
    }

    fn share(&self, members: &[Member]) -> Vec<Share> {
        share::share(members, self.decoder.rows(), |n| self.cost.spare(n))
    }

    /// After a lap: tokens for all whose logits it has. Returns how many there
    /// were, and how many rows had been such tokens themselves.
    fn advance(&mut self, shares: &[Share], events: &mut Vec<SequenceEvent>) -> (usize, usize) {
        let (mut row, mut generated, mut decoded) = (0, 0, 0);
        let mut ended = Vec::new();
        for share in shares {
            row += share.rows;
            let Some((id, sequence)) = &mut self.slots[share.slot].sequence else {
                continue;
            };
            decoded += usize::from(sequence.generates());
            sequence.advance(share.rows);
            if !share.output {
                continue;
            }
            let token = match self.decoder.logits(row - 1) {
                Some(logits) => sequence.choose(&mut self.language, logits),
                None => Err(Error::Defect("a lap had no logits".into())),
            };
            generated += usize::from(token.is_ok());
            if token.as_ref().map_or(true, |token| token.finish.is_some()) {
                ended.push(*id);
            }
            events.push(SequenceEvent {
                sequence: *id,
                token,
            });
        }
        for id in ended {
            self.leave(id);
        }
        (generated, decoded)
    }

    fn measured(&mut self, rows: usize, took: Laps) {
        let s = |ns: u64| ns as f64 / 1e9;
        self.cost.add(rows, s(took.ns), s(took.stall_ns));
    }
}
