//! When the light fails and comes back, and what happens to the reads that wait for it.
//! It does not know how they are served then.

use super::{BehindRead, FiberLoop, Waiting};
use crate::gauge::LoopNotice;
use delayline_line::Medium;
use delayline_medium::Pace;
use std::cmp::Reverse;

/// A cut of the light that is to come or lasts, in nanoseconds of the clock.
#[derive(Clone, Copy)]
pub(super) enum Fault {
    None,
    Comes { at_ns: u64, until_ns: u64 },
    Lasts { until_ns: u64 },
}

impl<M: Medium, C: Pace> FiberLoop<M, C> {
    /// Cuts the light, until [`FiberLoop::mend`].
    pub fn break_fiber(&mut self) {
        let at_ns = self.clock.now_ns();
        self.cut = Fault::Comes {
            at_ns,
            until_ns: u64::MAX,
        };
        self.follow_fault();
    }

    /// Brings the light back.
    pub fn mend(&mut self) {
        self.cut = Fault::Lasts { until_ns: 0 };
        self.follow_fault();
    }

    /// Sets the time of the cut that the parameters demand, counted from now.
    pub(super) fn expect_cut(&mut self) {
        if let Some(cut) = self.spec.cut {
            let ns = |s: f64| (s * 1e9) as u64;
            let at_ns = self.clock.now_ns() + ns(cut.at_s);
            self.cut = Fault::Comes {
                at_ns,
                until_ns: at_ns + ns(cut.for_s),
            };
        }
    }

    /// Applies a cut or its end when its time has come.
    pub(super) fn follow_fault(&mut self) {
        let now_ns = self.clock.now_ns();
        if let Fault::Comes { at_ns, until_ns } = self.cut
            && at_ns <= now_ns
        {
            self.cut = Fault::Lasts { until_ns };
            self.darken(at_ns);
        }
        if let Fault::Lasts { until_ns } = self.cut
            && until_ns <= now_ns
        {
            self.cut = Fault::None;
            self.gauge.tell(LoopNotice::Mended);
        }
    }

    /// Loses all light that has not passed by `at_ns`.
    fn darken(&mut self, at_ns: u64) {
        let lit = self.orbit.pieces.iter().zip(0..);
        let lit = lit.filter(|(_, piece)| !self.lights.is_dark(*piece));
        let bytes = lit.map(|(piece, _)| u64::from(piece.len)).sum();
        self.gauge.count(|figures| figures.cuts += 1);
        self.gauge.tell(LoopNotice::Cut { bytes });
        self.lights.go_dark();
        self.refilling = true;
        let at_ns = at_ns - self.t0_ns;
        let all = std::mem::take(&mut self.passing).into_sorted_vec();
        for Reverse((passed_ns, ticket)) in all.into_iter().rev() {
            if passed_ns <= at_ns {
                self.passing.push(Reverse((passed_ns, ticket)));
                continue;
            }
            let Waiting { op, piece, .. } = self.waiting.remove(&ticket).expect("of a ticket");
            // The receiver may be writing there: wait until it has ended.
            self.checks(ticket, piece, true);
            self.read_behind(op, BehindRead::Dark(piece));
        }
    }
}
