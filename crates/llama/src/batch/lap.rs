//! The laps of a batcher: which tokens the next one carries, and what becomes of its
//! results.

use super::share::{self, Member, Mixture, Share};
use super::{Batcher, CompletedLap, Decoder, FailedLap, Retention, SequenceEvent, Slot};
use crate::piece::Piece;
use delayline_engine::Class;
use delayline_engine::Error;
use delayline_engine::Laps;

impl<D: Decoder> Batcher<D> {
    /// Measures `laps` laps of one row and as many of several, so that their cost is known
    /// before a sequence joins. Of each kind the one with the shortest compute counts,
    /// because other load on the machine only lengthens it. Also reads the resident weights.
    ///
    /// # Errors
    /// When a lap fails.
    pub fn warm_up(&mut self, laps: usize) -> Result<(), Error> {
        let rows = self.decoder.rows().min(16);
        // The first lap also reads the resident weights, so it is not measured.
        self.blank_lap(1, Some(Class::Single))?;
        let mut shortest: [Option<Laps>; 2] = [None; 2];
        for turn in 0..laps {
            let next = (turn + 1 < laps).then_some(Class::Single);
            let kinds = [
                (1, Some(Class::of(rows, self.has_logits(rows)))),
                (rows, next),
            ];
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

    /// Runs a lap of a dummy token to see whether laps succeed; does nothing while there
    /// are sequences.
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

    /// Runs and measures a lap of `rows` dummy tokens, with logits if it can have them.
    fn blank_lap(&mut self, rows: usize, next: Option<Class>) -> Result<Laps, Error> {
        let piece = Piece {
            seq: 0,
            pos: 0,
            tokens: &vec![0; rows],
            output: self.has_logits(rows),
        };
        let before = self.decoder.taken();
        self.decoder.decode(&[piece], next)?;
        Ok(self.decoder.taken() - before)
    }

    /// Whether a lap of so many tokens of one sequence has logits.
    fn has_logits(&self, rows: usize) -> bool {
        rows == 1 || !self.decoder.equal_pieces()
    }

    /// Runs one lap of all sequences that are not held and appends their tokens to
    /// `events`; sequences that end are removed. Without sequences nothing happens.
    ///
    /// # Errors
    /// [`FailedLap`]: there are no events, and the next call tries the sequences again.
    pub fn lap(&mut self, events: &mut Vec<SequenceEvent>) -> Result<CompletedLap, FailedLap> {
        self.follow();
        self.grow();
        let members = self.members();
        let mixture = self.mixture();
        let shares = self.share(&members, mixture);
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
        let after = share::after(&members, &shares);
        let next = share::class(&self.share(&after, mixture.after(&shares)));
        let before = self.decoder.taken();
        if let Err(error) = self.decoder.decode(&pieces, next) {
            for share in &shares {
                self.fall_back(share.slot);
            }
            return Err(failed(error, &members, &shares));
        }
        if !self.logits_are_finite(&shares) {
            // NaNs in the KV cache spread to cells that are computed from it.
            self.start_again();
            return Err(failed(not_finite(), &members, &shares));
        }
        self.prompts_next = mixture.after(&shares) == Mixture::Equal { prompts: true };
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

    /// Number of tokens that the next lap would carry.
    pub fn next_rows(&self) -> usize {
        let shares = self.share(&self.members(), self.mixture());
        shares.iter().map(|share| share.rows).sum()
    }

    /// The sequences that take part in the next lap, in the order of their slots.
    fn members(&self) -> Vec<Member> {
        let slots = self.slots.iter().enumerate();
        let slots = slots.filter(|(at, slot)| !slot.held && !self.waits(*at));
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

    fn mixture(&self) -> Mixture {
        match self.decoder.equal_pieces() {
            false => Mixture::Any,
            true => Mixture::Equal {
                prompts: self.prompts_next,
            },
        }
    }

    fn share(&self, members: &[Member], mixture: Mixture) -> Vec<Share> {
        let spare = |n| self.cost.spare(n);
        share::share(members, self.decoder.rows(), spare, mixture)
    }

    /// After a failed lap: the sequence in a slot continues from what the decoder still holds.
    fn fall_back(&mut self, slot: usize) {
        if let Some((_, sequence)) = &mut self.slots[slot].sequence {
            let computed = sequence.computed() as u32;
            let kept = self.decoder.keep(slot as u32, computed) as usize;
            sequence.go_on_from(kept);
            self.shared.cut(slot, kept);
        }
    }

    /// Clears the KV cache, so that all sequences are computed again.
    fn start_again(&mut self) {
        self.decoder.clear();
        self.shared.clear();
        for slot in &mut self.slots {
            slot.cached.clear();
            if let Some((_, sequence)) = &mut slot.sequence {
                sequence.go_on_from(0);
            }
        }
    }

    /// Whether all logits of a lap so shared are finite; missing ones are reported by
    /// [`Batcher::advance`].
    fn logits_are_finite(&self, shares: &[Share]) -> bool {
        let ends = shares.iter().scan(0, |row, share| {
            *row += share.rows;
            Some((*row - 1, share.output))
        });
        ends.filter(|(_, output)| *output).all(|(row, _)| {
            let logits = self.decoder.logits(row).unwrap_or_default();
            logits.iter().all(|logit| logit.is_finite())
        })
    }

    /// After a lap: advances its sequences and chooses a token for each that has logits.
    /// Returns how many tokens were generated, and how many rows were input of generating
    /// sequences.
    fn advance(&mut self, shares: &[Share], events: &mut Vec<SequenceEvent>) -> (usize, usize) {
        let (mut row, mut generated, mut decoded) = (0, 0, 0);
        let mut ended = Vec::new();
        for share in shares {
            row += share.rows;
            let slot = &mut self.slots[share.slot];
            let Some((id, sequence)) = &mut slot.sequence else {
                continue;
            };
            decoded += usize::from(sequence.generates());
            sequence.advance(share.rows);
            self.decoder
                .remember(share.slot as u32, sequence.ends_prompt());
            let computed = sequence.computed_tokens();
            if slot.retention == Retention::Saved {
                self.decoder
                    .save(share.slot as u32, &slot.namespace, computed, false);
            }
            if !share.output {
                continue;
            }
            let token = match self.decoder.logits(row - 1) {
                _ if sequence.embeds() => sequence.embedded(self.decoder.hidden(row - 1)),
                Some(logits) => sequence.choose(&mut self.language, logits),
                None => Err(Error::Defect("a lap had no logits".into())),
            };
            generated += usize::from(token.is_ok() && !sequence.embeds());
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

fn failed(error: Error, members: &[Member], shares: &[Share]) -> FailedLap {
    let carried = |member: &&Member| shares.iter().any(|share| share.slot == member.slot);
    let sequences = members.iter().filter(carried).map(|member| member.id);
    FailedLap {
        error,
        sequences: sequences.collect(),
    }
}

fn not_finite() -> Error {
    Error::Llama {
        what: "decode",
        message: "its logits are not finite numbers: the model's weights are damaged, or its \
                  numbers too large for this format of the KV cache; nothing of this lap was used"
            .into(),
    }
}
