//! Prepares a medium of `Options::maker` before the first lap; it may need to know the
//! compute time of a lap.

use delayline_line::Clock;
use delayline_medium::MediumSite;

use super::{Class, Stream, outline};
use crate::backend::Backend;
use crate::error::Error;
use crate::model_file::ModelFile;

/// Number of laps in which the compute is measured.
const MEASURED_LAPS: u32 = 3;

impl Stream {
    /// Prepares the medium; if it needs the compute time, measures that first.
    pub(crate) fn fill<B: Backend>(
        &mut self,
        backend: &mut B,
        file: &ModelFile,
    ) -> Result<(), Error> {
        let compute_s = match self.medium().wants_compute() {
            true => Some(self.measure(backend, file)?),
            false => None,
        };
        let itinerary = self.learned(Class::Single).itinerary.clone();
        let (memory, residency) = (self.memory.clone(), self.residency.clone());
        let part_lens = file.part_lens();
        let site = MediumSite {
            lap: outline(&itinerary, file, backend.shape().threads),
            residency: &residency,
            memory: &memory,
            part_lens: &part_lens,
        };
        let (medium, region) = self.line().medium_and_region();
        let made = medium
            .inner_mut()
            .make_ready(&site, region, 0..residency.window, compute_s);
        Ok(made?)
    }

    /// Compute of a lap of one token, in seconds: the shortest of a few laps. An earlier lap
    /// loads what stays.
    fn measure<B: Backend>(&mut self, backend: &mut B, file: &ModelFile) -> Result<f64, Error> {
        let mut least_s = f64::INFINITY;
        for lap in 0..=MEASURED_LAPS {
            let (stalled, start) = (self.line().counters().stall_ns, self.clock.now_ns());
            self.lap(backend, file, B::blank(), None)?;
            let stalled = (self.line().counters().stall_ns - stalled) as f64 * 1e-9;
            if lap > 0 {
                least_s = least_s.min((self.clock.now_ns() - start) as f64 * 1e-9 - stalled);
            }
            backend.clear();
        }
        Ok(least_s.max(1e-9))
    }
}
