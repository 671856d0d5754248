//! What gathering has done, as figures.

use delayline_plan::ReadCost;

/// What was gathered so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GatherReport {
    /// Batches handed out.
    pub batches: u64,
    /// Rows in them.
    pub rows: u64,
    /// Rows that were not in memory.
    pub rows_missed: u64,
    /// Reads, further attempts included.
    pub reads: u64,
    /// Bytes that were read.
    pub bytes_read: u64,
    /// Further attempts of reads that failed or came short.
    pub retried: u64,
    /// Seconds that whoever asked for a batch has waited for rows.
    pub wait_s: f64,
    /// Seconds from the first batch that was announced to the last that was taken,
    /// of all epochs.
    pub elapsed_s: f64,
    /// Rows that fit into memory.
    pub rows_kept: u64,
    /// Bytes of memory allowed.
    pub memory: u64,
    /// What a read costs on this drive, where it was measured.
    pub cost: Option<ReadCost>,
}

impl GatherReport {
    /// The least that the epochs so far could have taken, in seconds: the longer of all
    /// but the waiting, and these reads at the drive's measured rate.
    pub fn limit_s(&self) -> Option<f64> {
        let drive_s = self.cost?.seconds(self.reads, self.bytes_read);
        Some(drive_s.max(self.elapsed_s - self.wait_s))
    }

    /// That limit as a share of the time that was taken, at most 1.
    pub fn share_of_limit(&self) -> Option<f64> {
        let limit_s = self.limit_s().filter(|_| self.elapsed_s > 0.0)?;
        Some((limit_s / self.elapsed_s).min(1.0))
    }
}
