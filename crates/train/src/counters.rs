//! The counters of a store or of activations. No behaviour.

/// Counters since the store or the activations were opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrainCounters {
    /// Bytes read.
    pub bytes_read: u64,
    /// Bytes written, without commit records.
    pub bytes_written: u64,
    /// Operations that were retried, and items that were read again because of a wrong
    /// checksum.
    pub retried: u64,
    /// How often a caller waited for an item.
    pub stalls: u64,
    /// Time that callers waited for items, in nanoseconds.
    pub stall_ns: u64,
    /// Time that commits waited for writes, in nanoseconds, without syncs.
    pub commit_ns: u64,
    /// Maximum number of bytes of items in memory at once.
    pub peak: u64,
    /// Uses that were not in the order of the last step.
    pub deviations: u64,
    /// Number of commits.
    pub commits: u64,
}
