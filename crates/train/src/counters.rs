//! What a store or activations have done; no behaviour.

/// What was done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrainCounters {
    /// Bytes that came from the drive.
    pub bytes_read: u64,
    /// Bytes that went to it, commit records apart.
    pub bytes_written: u64,
    /// Operations that were tried again, and bytes that were read again.
    pub retried: u64,
    /// How often somebody waited for bytes.
    pub stalls: u64,
    /// How long, in nanoseconds.
    pub stall_ns: u64,
    /// Time in which commits waited for writes, in nanoseconds.
    pub commit_ns: u64,
    /// Most bytes in memory at once.
    pub peak: u64,
    /// Uses that were not where the last step had them.
    pub deviations: u64,
    /// Commits.
    pub commits: u64,
}
