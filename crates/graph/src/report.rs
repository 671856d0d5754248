//! The figures of gathering.

use delayline_plan::ReadCost;

/// The figures of gathering since the features were opened.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GatherReport {
    /// Number of batches taken.
    pub batches: u64,
    /// Number of rows in them.
    pub rows: u64,
    /// Rows of these that were not in memory.
    pub rows_missed: u64,
    /// Number of reads, retries included.
    pub reads: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// Number of retries of reads that failed or were short.
    pub retried: u64,
    /// Seconds that callers waited for rows.
    pub wait_s: f64,
    /// Seconds from the first announcement of an epoch to the last batch taken, summed over
    /// all epochs.
    pub elapsed_s: f64,
    /// Rows that fit into memory.
    pub rows_kept: u64,
    /// Bytes of memory allowed.
    pub memory: u64,
    /// Cost of a read on this drive, if it was measured.
    pub cost: Option<ReadCost>,
}

impl GatherReport {
    /// The minimum duration of the epochs so far in seconds: the longer of the time without
    /// waiting, and of the time that the drive needs for the same reads. `None` if the
    /// drive was not measured.
    pub fn limit_s(&self) -> Option<f64> {
        let drive_s = self.cost?.seconds(self.reads, self.bytes_read);
        Some(drive_s.max(self.elapsed_s - self.wait_s))
    }

    /// [`GatherReport::limit_s`] divided by the duration, at most 1. `None` if the drive was
    /// not measured or nothing was gathered.
    pub fn share_of_limit(&self) -> Option<f64> {
        let limit_s = self.limit_s().filter(|_| self.elapsed_s > 0.0)?;
        Some((limit_s / self.elapsed_s).min(1.0))
    }
}
