//! The walk through a lap: leases the extents of each run before it, and gives them back
//! after their last use. Does not know who computes, or with what.

use delayline_plan::{ExtentId, Schedule, Step, Use};

use crate::{Clock, Lease, Line, LineError, Medium};

/// A lap under way: for each run [`Walk::begin`], the compute, [`Walk::end`].
#[derive(Debug, Default)]
pub struct Walk {
    run: u32,
    leases: Vec<Lease>,
}

impl Walk {
    /// A walk before the first run of a lap.
    pub fn new() -> Self {
        Self::default()
    }

    /// The run that is next or under way; the number of runs when all are over.
    pub fn run(&self) -> u32 {
        self.run
    }

    /// The leases held.
    pub fn leases(&self) -> &[Lease] {
        &self.leases
    }

    /// The lease of an extent, if it is leased.
    pub fn lease(&self, extent: ExtentId) -> Option<&Lease> {
        self.leases.iter().find(|lease| lease.extent() == extent)
    }

    /// Waits for the extents of the next run; returns how many it leased.
    ///
    /// # Errors
    /// Those of [`Line::acquire`]; leases taken before the error are kept.
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

    /// Ends the run: gives back extents that no later run needs, writes back those that
    /// were changed, and starts reads into the free room.
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

    /// Releases all leases, at any point of a lap. Changes are not written back.
    pub fn abandon<M: Medium, C: Clock>(self, line: &mut Line<M, C>) {
        for lease in self.leases {
            line.release(lease);
        }
    }
}
