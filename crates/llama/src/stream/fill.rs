//! A loop is made ready before the first lap that counts: what lies where, for the
//! compute that there is, and then all of it sent in.

use std::time::Instant;

use delayline_engine::fiber::{Circuit, Course, Lap};
use delayline_engine::{Error, ModelFile, READ_LEN};

use super::{Class, Stream};
use crate::context::Context;
use crate::piece::Piece;

/// Laps in which the compute is measured, where that decides about a loop.
const MEASURED_LAPS: u32 = 3;

impl Stream {
    /// Fills the loop. Where it depends on the compute what lies where, that is
    /// measured before.
    pub(crate) fn fill(&mut self, context: &mut Context, file: &ModelFile) -> Result<(), Error> {
        if self.circuit.as_ref().is_some_and(Circuit::wants_compute) {
            let compute_s = self.measure(context, file)?;
            let itinerary = self.learned(Class::Single).itinerary.clone();
            let lap = Lap {
                plan: &itinerary.plan,
                schedule: &itinerary.schedule,
                weight_bytes: file.weight_bytes(),
                threads: context.shape().threads,
                read_len: READ_LEN,
            };
            let circuit = self.circuit.as_mut().expect("seen above");
            let residency = &self.residency;
            circuit.place(&Course { lap, residency }, compute_s)?;
        }
        match self.circuit.clone() {
            Some(circuit) => {
                let window = self.residency.window;
                let (_, region) = self.line().medium_and_region();
                circuit.fill(region, window)
            }
            None => Ok(()),
        }
    }

    /// Compute of a lap of one token, in seconds: the shortest of a few laps from
    /// the medium behind. The first also brings what stays.
    fn measure(&mut self, context: &mut Context, file: &ModelFile) -> Result<f64, Error> {
        let piece = Piece {
            seq: 0,
            pos: 0,
            tokens: &[0],
            output: true,
        };
        let mut least_s = f64::INFINITY;
        for lap in 0..=MEASURED_LAPS {
            let (stalled, start) = (self.line().counters().stall_ns, Instant::now());
            self.lap(context, file, &[piece], None)?;
            let stalled = (self.line().counters().stall_ns - stalled) as f64 * 1e-9;
            if lap > 0 {
                least_s = least_s.min(start.elapsed().as_secs_f64() - stalled);
            }
            context.clear();
        }
        Ok(least_s.max(1e-9))
    }
}
