//! Applies faults to operations and their bytes, and counts them: spoiled reads, writes
//! that are lost or torn, operations that never complete. It does not choose which
//! operations meet them.

use super::Faulty;
use super::fate::{Deed, Failing, Fate, Lie};
use crate::{Memory, Rng};
use delayline_line::{Buffer, Completion, Medium, Op, Verb};

/// Bytes of a sector: a zeroed read has one of zeros, a torn write is cut between two.
const SECTOR: u32 = 512;

impl<M: Medium> Faulty<M> {
    /// Submits `op` to the medium inside, or what `lie` makes of it.
    pub(super) fn submit_lying(&mut self, mut op: Op, lie: Lie, mut fate: Fate) {
        let draw = self.lies.next_u64();
        match lie {
            Lie::None => {}
            Lie::Hang => {
                self.counts.hung += 1;
                if op.verb != Verb::Write || draw.is_multiple_of(2) {
                    return self.hung.push(op);
                }
                fate.deed = Deed::Hang;
            }
            Lie::Flip => fate.deed = Deed::Flip(draw),
            Lie::Zero => fate.deed = Deed::Zero(draw),
            Lie::Misplace => {
                // An earlier place: a later one may be past the end.
                let len = u64::from(op.buffer.len());
                if let Some(places) = op.offset.checked_div(len).filter(|&places| places > 0) {
                    op.offset -= (1 + draw % places) * len;
                    fate.deed = Deed::Misplace;
                }
            }
            Lie::Lose => {
                self.counts.lost += 1;
                self.lost.lose(fate.part, fate.bytes.clone());
                let len = op.buffer.len();
                return self.hold(&fate, op.complete(Ok(len)));
            }
            Lie::Tear => return self.tear(op, draw, fate),
        }
        if op.verb == Verb::Write {
            self.lost.make(fate.part, fate.bytes.clone());
        }
        self.fates.insert(op.id, fate);
        self.inner.submit(op);
    }

    /// Submits only the first or the last units of a write.
    fn tear(&mut self, op: Op, draw: u64, mut fate: Fate) {
        let align = self.inner.caps().align;
        let unit = align.offset.max(align.len).max(align.memory).max(SECTOR);
        let borders = (op.buffer.len().max(1) - 1) / unit;
        if borders > 0 {
            let cut = (1 + (draw >> 1) % u64::from(borders)) as u32 * unit;
            let (front, back) = op.buffer.split_at(cut);
            let middle = fate.bytes.start + u64::from(cut);
            let (front_bytes, back_bytes) = (fate.bytes.start..middle, middle..fate.bytes.end);
            let front_made = draw.is_multiple_of(2);
            let (made, lost) = match front_made {
                true => (front_bytes, back_bytes),
                false => (back_bytes, front_bytes),
            };
            self.counts.torn += 1;
            self.lost.make(op.part, made.clone());
            self.lost.lose(op.part, lost);
            let (id, verb, part, offset) = (op.id, op.verb, op.part, made.start);
            let (deed, buffer) = match front_made {
                true => (Deed::Tear(Buffer::empty(), back), front),
                false => (Deed::Tear(front, Buffer::empty()), back),
            };
            fate.deed = deed;
            self.fates.insert(id, fate);
            return self.inner.submit(Op {
                id,
                verb,
                part,
                offset,
                buffer,
            });
        }
        self.lost.make(fate.part, fate.bytes.clone());
        self.fates.insert(op.id, fate);
        self.inner.submit(op);
    }

    /// Applies the decided fault to a completion; none if it is never to complete.
    pub(super) fn apply(
        &mut self,
        mut done: Completion,
        fate: &Fate,
        deed: Deed,
    ) -> Option<Completion> {
        let mut good = None;
        match (deed, &mut done.result) {
            (Deed::Hang, _) => {
                self.hung_made.push(done.buffer);
                return None;
            }
            (Deed::Tear(front, back), result) => {
                let whole = front.len() + done.buffer.len() + back.len();
                if let Ok(bytes) = result
                    && *bytes == done.buffer.len()
                {
                    *bytes = whole;
                }
                done.buffer = front.join(done.buffer).join(back);
            }
            (Deed::Fail(kind, error), result) => {
                match kind {
                    Failing::Gone => self.counts.gone += 1,
                    Failing::Broken => self.counts.broken += 1,
                    Failing::Transient => self.counts.transient += 1,
                }
                *result = Err(error);
                good = Some(0);
            }
            (_, Err(_)) | (Deed::Nothing, Ok(_)) => {}
            (Deed::Short(draw), Ok(bytes)) => {
                self.counts.short += u64::from(*bytes > 0);
                *bytes = Rng::new(draw).below(u64::from(*bytes)) as u32;
                good = Some(*bytes);
            }
            (Deed::Misplace, Ok(_)) => self.counts.misplaced += 1,
            (Deed::Flip(draw), &mut Ok(bytes)) => {
                let (at, len) = (done.buffer.at(), u64::from(bytes));
                self.counts.flipped += u64::from(flip(self.memory(), at, len, draw));
            }
            (Deed::Zero(draw), &mut Ok(bytes)) => {
                let (at, len) = (done.buffer.at(), u64::from(bytes));
                self.counts.zeroed += u64::from(zero(self.memory(), at, len, draw));
            }
        }
        if fate.verb == Verb::Read {
            if let Ok(bytes) = done.result {
                let seen = fate.bytes.start..fate.bytes.start + u64::from(bytes);
                self.counts.stale += u64::from(self.lost.touches(fate.part, &seen));
            }
            if let (Some(good), Some(memory)) = (good, &self.memory) {
                let rest = vec![0xa5; (done.buffer.len() - good) as usize];
                memory.copy_in(done.buffer.at() + u64::from(good), &rest);
            }
        }
        Some(done)
    }
}

/// Flips a bit of `len` bytes at `at`; whether there was one.
fn flip(memory: &Memory, at: u64, len: u64, draw: u64) -> bool {
    if len == 0 {
        return false;
    }
    let (at, mut byte) = (at + (draw >> 3) % len, [0]);
    memory.copy_out(at, &mut byte);
    byte[0] ^= 1 << (draw % 8);
    memory.copy_in(at, &byte);
    true
}

/// Zeroes a sector of `len` bytes at `at`; whether it was not zero before.
fn zero(memory: &Memory, at: u64, len: u64, draw: u64) -> bool {
    if len == 0 {
        return false;
    }
    let sector = u64::from(SECTOR);
    let from = draw % len.div_ceil(sector) * sector;
    let mut bytes = vec![0; sector.min(len - from) as usize];
    memory.copy_out(at + from, &mut bytes);
    let told = bytes.iter().any(|&byte| byte != 0);
    bytes.fill(0);
    memory.copy_in(at + from, &bytes);
    told
}
