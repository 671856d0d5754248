//! What sequences find of their texts in other slots: cells that one has computed are
//! shared with all that begin alike, and one that would compute what another is just
//! computing waits for it.

use super::shared::SharedCells;
use super::{Batcher, Decoder, GenerateRequest, Slot, common};

/// A slot that holds the beginning of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldPrefix {
    pub slot: usize,
    /// Tokens of the text that can be had of it.
    pub tokens: usize,
}

/// From how many tokens in common on texts share cells and wait for each other, where a lap
/// has so many rows: what is saved is half a lap at least.
pub fn worth(rows: usize) -> usize {
    rows.div_ceil(2)
}

impl<D: Decoder> Batcher<D> {
    /// The slot that holds most of a prompt, which is worth sharing or is free. The last
    /// token is computed in any case: its logits are needed.
    pub(super) fn source(&self, request: &GenerateRequest) -> Option<HeldPrefix> {
        let prompt = &request.prompt[..request.prompt.len() - 1];
        let all = self.slots.iter().enumerate();
        let kin = all.filter(|(_, slot)| !request.fresh && slot.namespace == request.namespace);
        let sources = kin.map(|(at, slot)| self.have(at, common(slot.gives(), prompt)));
        let worth = worth(self.decoder.rows());
        let some = sources.filter(|source| {
            let free = self.slots[source.slot].sequence.is_none();
            source.tokens >= worth || source.tokens > 0 && free
        });
        some.max_by_key(|source| (source.tokens, self.slots[source.slot].sequence.is_none()))
    }

    /// What can be had of the first `tokens` tokens in a slot.
    fn have(&self, slot: usize, tokens: usize) -> HeldPrefix {
        let tokens = match tokens {
            0 => 0,
            tokens => self.decoder.shareable(slot as u32, tokens as u32) as usize,
        };
        HeldPrefix { slot, tokens }
    }

    /// Has every sequence hold what others have computed of its text.
    pub(super) fn follow(&mut self) {
        for at in 0..self.slots.len() {
            let Some((wanted, computed)) = self.slots[at].wants() else {
                continue;
            };
            let all = self.slots.iter().enumerate();
            let kin = all
                .filter(|&(other, slot)| other != at && slot.namespace == self.slots[at].namespace);
            let longer = kin.map(|(other, slot)| (other, common(slot.gives(), wanted)));
            let least = worth(self.decoder.rows()).max(computed + 1);
            let longer = longer.filter(|(_, tokens)| *tokens >= least);
            let sources = longer.map(|(other, tokens)| self.have(other, tokens));
            let best = sources.max_by_key(|source| source.tokens);
            let Some(source) = best.filter(|source| source.tokens > computed) else {
                continue;
            };
            let have = self.take_from(source, at);
            if let Some((_, sequence)) = &mut self.slots[at].sequence {
                sequence.find(have - computed);
            }
        }
    }

    /// What slot `at` holds is now what can be had of a source, which may be itself; returns
    /// how many tokens that are.
    pub(super) fn take_from(&mut self, source: HeldPrefix, at: usize) -> usize {
        let (from, tokens) = (source.slot as u32, source.tokens as u32);
        let tokens = match source.slot == at {
            true => self.decoder.keep(from, tokens),
            false => {
                self.decoder.share(from, at as u32, tokens);
                tokens
            }
        } as usize;
        self.shared.share(source.slot, at, tokens);
        tokens
    }

    /// Whether the sequence in slot `at` sits out a lap, because one that came before it
    /// computes what it needs as well.
    pub(super) fn waits(&self, at: usize) -> bool {
        let own = &self.slots[at];
        let (Some((wanted, computed)), Some((id, _))) = (own.wants(), &own.sequence) else {
            return false;
        };
        let worth = worth(self.decoder.rows()).max(computed + 1);
        self.slots
            .iter()
            .any(|slot| match (&slot.sequence, slot.wants()) {
                (Some((other, sequence)), Some((_, so_far))) => {
                    other < id
                        && !slot.held
                        && slot.namespace == own.namespace
                        && so_far == computed
                        && common(sequence.tokens(), wanted) >= worth
                }
                _ => false,
            })
    }

    /// Whether cells can be promised, with those that are shared counted once, and one more
    /// request in slot `at` that may come to take `needed` of them.
    pub(super) fn can_promise(&self, shared: &SharedCells, at: usize, needed: usize) -> bool {
        let all = self.promises().filter(|&(slot, _)| slot != at);
        let all = all.chain([(at, needed)]);
        let large = all.clone().filter(|(_, cells)| self.room.is_large(*cells));
        self.room.holds(shared.cells(all), shared.cells(large))
    }

    /// As [`Batcher::can_promise`], and only of the room that large requests leave to others.
    pub(super) fn can_promise_aside(&self, shared: &SharedCells, at: usize, needed: usize) -> bool {
        let all = self.promises().chain([(at, needed)]);
        let small = all.filter(|(_, cells)| !self.room.is_large(*cells));
        !self.room.is_large(needed)
            && self.room.holds_aside(shared.cells(small))
            && self.can_promise(shared, at, needed)
    }

    /// Cells that the sequences may come to take, by slot.
    pub(super) fn promises(&self) -> impl Iterator<Item = (usize, usize)> + Clone + '_ {
        let all = self.slots.iter().enumerate();
        all.filter_map(|(at, slot)| Some((at, slot.sequence.as_ref()?.1.cells())))
    }
}

impl<S> Slot<S> {
    /// What others may have of it: the tokens that were computed.
    fn gives(&self) -> &[i32] {
        match &self.sequence {
            Some(_) if self.apart => &[],
            Some((_, sequence)) => sequence.computed_tokens(),
            None => &self.cached,
        }
    }

    /// The tokens of its sequence but the last one, if it may find them elsewhere, and how
    /// many it has.
    fn wants(&self) -> Option<(&[i32], usize)> {
        let (_, sequence) = self.sequence.as_ref().filter(|_| !self.apart)?;
        let tokens = sequence.tokens();
        let wanted = &tokens[..tokens.len() - 1];
        (wanted.len() > sequence.computed()).then_some((wanted, sequence.computed()))
    }
}
