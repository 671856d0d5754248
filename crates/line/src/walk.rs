//! The walk through a lap: what is leased before each run and given back after it.
//! Does not know who computes, nor what with.

use delayline_plan::{ExtentId, Schedule, Step, Use};

use crate::{Clock, Lease, Line, LineError, Medium};

/// A lap under way: for each run [`Walk::begin`], the compute, [`Walk::end`].
#[derive(Debug, Default)]
pub struct Walk {
    run: u32,
    leases: Vec<Lease>,
}

impl Walk {
    /// Before the first run of a lap.
    pub fn new() -> Self {
        Self::default()
    }

    /// The run that comes, or is under way; the number of runs when all are over.
    pub fn run(&self) -> u32 {
        self.run
    }

    /// What is leased.
    pub fn leases(&self) -> &[Lease] {
        &self.leases
    }

    /// The lease of an extent, if it is leased.
    pub fn lease(&self, extent: ExtentId) -> Option<&Lease> {
        self.leases.iter().find(|lease| lease.extent() == extent)
    }

    /// Waits for the extents of the run that comes; returns how many it leased.
    ///
    /// # Errors
    /// Those of [`Line::acquire`]; what was leased before it stays so.
    pub fn begin<M: Medium, C: Clock>(
        &mut self,
        schedule: &Schedule,
        line: &mut Line<M, C>,
    ) -> Result<usize, LineError> {
        let steps = schedule.leased_before(self.run);
        for step in steps {
            let Step { extent, mode, .. } = *step;
            self.leases.push(line.acquire(Use { extent, mode })?);
        }
        Ok(steps.len())
    }

    /// The run is over: gives back what was last needed in it, to be written where it
    /// was changed, and starts reads into the room.
    ///
    /// # Errors
    /// Those of [`Line::pump`].
    pub fn end<M: Medium, C: Clock>(
        &mut self,
        schedule: &Schedule,
        line: &mut Line<M, C>,
    ) -> Result<(), LineError> {
        for step in schedule.released_after(self.run) {
            let at = self.leases.iter().position(|l| l.extent() == step.extent);
            let at = at.expect("what is released was leased");
            let lease = self.leases.swap_remove(at);
            match step.saves {
                true => line.write_back(lease),
                false => line.release(lease),
            }
        }
        self.run += 1;
        line.pump()
    }

    /// Gives everything back, also in the middle of a lap.
    pub fn abandon<M: Medium, C: Clock>(self, line: &mut Line<M, C>) {
        for lease in self.leases {
            line.release(lease);
        }
    }
}
