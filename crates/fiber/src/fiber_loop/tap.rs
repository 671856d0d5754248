//! The tap and the sender: takes pieces as they pass, with the bits that flipped, and
//! sends them again. It does not know why a piece is sent.

use super::{BehindRead, FiberLoop, Waiting};
use crate::gauge::LoopNotice;
use delayline_line::{Completion, Medium, Op, Verb};
use delayline_medium::{Pace, Rng};
use std::cmp::Reverse;

/// Maximum number of flipped bits of a piece: more make no difference.
const FLIPS: u64 = 64;

impl<M: Medium, C: Pace> FiberLoop<M, C> {
    /// Sends the piece, whose bytes are at `at` in memory, wherever a copy of it is dark.
    /// These places pass the sender once a lap; a lap after that the copies are at the tap.
    pub(super) fn send(&mut self, piece: u32, at: u64) {
        let bytes = self.orbit.pieces[piece as usize].bytes;
        if let Some(glass) = &mut self.glass
            && glass.send(piece, at, bytes).is_err()
        {
            // The host has no room: the piece stays dark and is read from the
            // medium behind.
            return;
        }
        let pass = self.orbit.next_pass(piece, self.now_ns());
        self.lights.send(piece, pass);
        if self.refilling && self.lights.is_full() {
            self.refilling = false;
            self.gauge.tell(LoopNotice::Refilled);
        }
    }

    /// The next pass in which the piece is there; `None` if it does not circulate.
    pub(super) fn next_pass(&self, piece: u32) -> Option<u64> {
        let pass = self.orbit.next_pass(piece, self.now_ns());
        self.lights.next(piece, pass)
    }

    /// Has a read wait for its piece.
    pub(super) fn await_piece(&mut self, op: Op, piece: u32, pass: u64) {
        let bytes = self.orbit.pieces[piece as usize].bytes;
        let found = self.lights.take(piece, pass);
        let mean = self.spec.residual_ber * f64::from(bytes) * 8.0;
        let count = poisson(&mut self.rng, mean * found.laps as f64).min(FLIPS);
        let bits = u64::from(bytes) * 8;
        let flips: Vec<u64> = (0..count).map(|_| self.rng.below(bits)).collect();
        self.gauge.count(|figures| {
            figures.passes_missed += found.missed;
            figures.wrong_bits += count;
        });
        let ticket = self.tickets;
        self.tickets += 1;
        let good = flips.is_empty();
        if let Some(glass) = &mut self.glass {
            glass.take(ticket, piece, bytes, op.buffer.at(), flips);
        }
        let passed_ns = self.orbit.passed_ns(piece, pass);
        self.passing.push(Reverse((passed_ns, ticket)));
        let waiting = Waiting {
            op,
            piece,
            pass,
            good,
        };
        self.waiting.insert(ticket, waiting);
    }

    /// Completes the reads whose pieces have passed.
    pub(super) fn land_light(&mut self, done: &mut Vec<Completion>) {
        let now_ns = self.now_ns();
        while let Some(&Reverse((passed_ns, ticket))) = self.passing.peek()
            && passed_ns <= now_ns
        {
            self.passing.pop();
            let waiting = self.waiting.remove(&ticket).expect("one for each ticket");
            let Waiting { op, piece, .. } = waiting;
            let late = self
                .glass
                .as_mut()
                .is_some_and(|glass| !glass.is_out(ticket));
            if !self.checks(ticket, piece, waiting.good) {
                self.gauge.count(|figures| figures.pieces_scrubbed += 1);
                self.lights.lose(piece, waiting.pass);
                self.read_behind(op, BehindRead::Wrong(piece));
                continue;
            }
            let bytes = self.orbit.pieces[piece as usize].bytes;
            self.gauge.count(|figures| {
                figures.pieces_taken += 1;
                figures.bytes_taken += u64::from(bytes);
                figures.pieces_late += u64::from(late);
            });
            self.stats.count(Verb::Read, &Ok(bytes));
            done.push(op.complete(Ok(bytes)));
        }
    }

    /// Waits until the piece has been copied; whether its checksum is right. Without glass
    /// that is `good`.
    pub(super) fn checks(&mut self, ticket: u64, piece: u32, good: bool) -> bool {
        match &mut self.glass {
            Some(glass) => glass.taken(ticket, piece),
            None => good,
        }
    }
}

/// A random number of the Poisson distribution with this mean (Knuth, The Art of
/// Computer Programming, 3.4.1). Beyond 30 it is the mean itself: the difference does not
/// matter here.
fn poisson(rng: &mut Rng, mean: f64) -> u64 {
    if mean <= 0.0 {
        return 0;
    }
    if mean > 30.0 {
        return mean as u64;
    }
    let limit = (-mean).exp();
    let (mut count, mut product) = (0, 1.0);
    loop {
        product *= (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        if product <= limit {
            return count;
        }
        count += 1;
    }
}
