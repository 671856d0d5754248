//! Sharing of prefixes between slots: cells that one sequence has computed are shared with
//! all that have the same prefix, and a sequence that needs what another is computing
//! waits for it.

use super::shared::SharedCells;
use super::{Batcher, Decoder, GenerateRequest, Slot, common};

/// A slot that holds a prefix of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldPrefix {
    pub slot: usize,
    /// Length of the prefix in tokens, as far as it can be shared.
    pub tokens: usize,
}

/// Minimum number of common tokens for which sequences share cells or wait for each other:
/// half a lap of `rows` rows.
pub fn worth(rows: usize) -> usize {
    rows.div_ceil(2)
}

impl<D: Decoder> Batcher<D> {
    /// The slot that holds the longest prefix of a prompt, of those that are free or whose
    /// prefix is worth sharing. The last token is always computed: its logits are needed.
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

    /// How much of the first `tokens` tokens in a slot can be shared.
    fn have(&self, slot: usize, tokens: usize) -> HeldPrefix {
        let tokens = match tokens {
            0 => 0,
            tokens => self.decoder.shareable(slot as u32, tokens as u32) as usize,
        };
        HeldPrefix { slot, tokens }
    }

    /// Gives every sequence the longest prefix of its text that another slot has computed.
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
                match have.checked_sub(computed) {
                    Some(more) => sequence.find(more),
                    // The decoder could not share it, and has dropped what was there.
                    None => sequence.go_on_from(have),
                }
            }
        }
    }

    /// Makes slot `at` hold the prefix in `source`, which may be the same slot; returns how
    /// many tokens it holds then.
    pub(super) fn take_from(&mut self, source: HeldPrefix, at: usize) -> usize {
        let (from, tokens) = (source.slot as u32, source.tokens as u32);
        let tokens = match source.slot == at {
            true => self.decoder.keep(from, tokens),
            false => self.decoder.share(from, at as u32, tokens),
        } as usize;
        self.shared.share(source.slot, at, tokens);
        tokens
    }

    /// Whether the sequence in slot `at` skips a lap, because one that joined earlier is
    /// computing a prefix that both need.
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

    /// Whether `needed` cells can be promised to slot `at` beside the promises to all other
    /// slots; shared cells count once.
    pub(super) fn can_promise(&self, shared: &SharedCells, at: usize, needed: usize) -> bool {
        let all = self.promises().filter(|&(slot, _)| slot != at);
        let all = all.chain([(at, needed)]);
        let large = all.clone().filter(|(_, cells)| self.room.is_large(*cells));
        self.room.holds(shared.cells(all), shared.cells(large))
    }

    /// As [`Batcher::can_promise`], but only within the cells reserved for small requests.
    pub(super) fn can_promise_aside(&self, shared: &SharedCells, at: usize, needed: usize) -> bool {
        let all = self.promises().chain([(at, needed)]);
        let small = all.filter(|(_, cells)| !self.room.is_large(*cells));
        !self.room.is_large(needed)
            && self.room.holds_aside(shared.cells(small))
            && self.can_promise(shared, at, needed)
    }

    /// Maximum number of cells that each sequence may take, by slot.
    pub(super) fn promises(&self) -> impl Iterator<Item = (usize, usize)> + Clone + '_ {
        let all = self.slots.iter().enumerate();
        all.filter_map(|(at, slot)| Some((at, slot.sequence.as_ref()?.1.cells())))
    }
}

impl<S> Slot<S> {
    /// The computed tokens that other slots may share.
    fn gives(&self) -> &[i32] {
        match &self.sequence {
            Some(_) if self.apart => &[],
            Some((_, sequence)) => sequence.computed_tokens(),
            None => &self.cached,
        }
    }

    /// The tokens of its sequence except the last, and how many of them are computed; `None`
    /// if it may not share or needs no more.
    fn wants(&self) -> Option<(&[i32], usize)> {
        let (_, sequence) = self.sequence.as_ref().filter(|_| !self.apart)?;
        let tokens = sequence.tokens();
        let wanted = &tokens[..tokens.len() - 1];
        (wanted.len() > sequence.computed()).then_some((wanted, sequence.computed()))
    }
}
