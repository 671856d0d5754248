//! Decides which fault an operation meets, drawn from the seed when it is submitted.
//! It does not know how the fault is applied.

use super::Faulty;
use delayline_line::{Buffer, Medium, MediumError, Op, Verb};
use std::io;
use std::ops::Range;

const NAME: &str = "faulty medium";

/// What is done to one operation, decided when it is submitted: the same ones in
/// the same order meet the same fate whatever the speed of the medium inside.
pub(super) struct Fate {
    pub polls: u64,
    pub ns: u64,
    pub verb: Verb,
    /// The bytes that were asked for, to tell whether a read meets a lost write.
    pub part: u16,
    pub bytes: Range<u64>,
    pub deed: Deed,
}

pub(super) enum Deed {
    Nothing,
    /// A random number that decides how many bytes arrive.
    Short(u64),
    Fail(Failing, MediumError),
    Hang,
    /// Random numbers that decide where.
    Flip(u64),
    Zero(u64),
    Misplace,
    /// The parts of the buffer before and after the one that is written.
    Tear(Buffer, Buffer),
}

#[derive(Clone, Copy)]
pub(super) enum Failing {
    Gone,
    Broken,
    Transient,
}

/// A fault that the completion does not show, chosen before it is known whether the
/// operation can meet it.
pub(super) enum Lie {
    None,
    Hang,
    Flip,
    Zero,
    Misplace,
    Lose,
    Tear,
}

impl<M: Medium> Faulty<M> {
    /// The failure or short operation, if there is to be one.
    pub(super) fn decide_failure(&mut self, op: &Op) -> Option<Deed> {
        let short = self.deeds.chance(self.faults.short) && op.verb != Verb::Sync;
        let transient = self.deeds.chance(self.faults.transient);
        let draw = self.deeds.next_u64();
        let end = op.offset.saturating_add(op.buffer.len().into());
        let fail = |kind, message: &str| {
            let source = io::Error::other(message);
            Deed::Fail(kind, MediumError::failed(NAME, op.asked(), source))
        };
        self.served += 1;
        let touches = |(part, bad): &(u16, Range<u64>)| {
            *part == op.part && bad.start < end && op.offset < bad.end
        };
        let row = self.rows.entry((op.part, end)).or_default();
        let spared = *row >= self.faults.in_a_row;
        let most = self.faults.gone_after.unwrap_or(u64::MAX);
        if self.served > most {
            let source = io::Error::other("injected fault: it serves no more operations");
            return Some(Deed::Fail(Failing::Gone, MediumError::gone(NAME, source)));
        }
        if op.verb != Verb::Sync && self.faults.broken.iter().any(touches) {
            let never = "injected fault: these bytes always fail";
            return Some(fail(Failing::Broken, never));
        }
        if spared || !(short || transient) {
            *row = 0;
            return None;
        }
        *row += 1;
        Some(match transient {
            true => fail(
                Failing::Transient,
                "injected fault: another attempt may succeed",
            ),
            false => Deed::Short(draw),
        })
    }

    /// The first lie of those drawn that an operation of this kind can meet.
    pub(super) fn decide_lie(&mut self, verb: Verb) -> Lie {
        let mut lie = Lie::None;
        // Always the same number of draws, so that fates depend on order alone.
        let mut perhaps = |share: f64, fits: bool, other: Lie| {
            if self.lies.chance(share) && fits && matches!(lie, Lie::None) {
                lie = other;
            }
        };
        let (read, write) = (verb == Verb::Read, verb == Verb::Write);
        perhaps(self.faults.hung, true, Lie::Hang);
        perhaps(self.faults.flipped, read, Lie::Flip);
        perhaps(self.faults.zeroed, read, Lie::Zero);
        perhaps(self.faults.misplaced, read, Lie::Misplace);
        perhaps(self.faults.lost, write, Lie::Lose);
        perhaps(self.faults.torn, write, Lie::Tear);
        lie
    }
}
