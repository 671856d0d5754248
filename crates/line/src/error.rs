//! The errors of a line.

use delayline_plan::ExtentId;
use thiserror::Error;

use crate::MediumError;

/// Why a call of the line failed. The line stays usable after each.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LineError {
    /// A figure of the setup is out of range.
    #[error("the line cannot work with {what} of {got}: it must be {expected}")]
    Config {
        /// Which figure.
        what: &'static str,
        /// Its value.
        got: u64,
        /// The values allowed.
        expected: String,
    },
    /// A figure of an extent, or of its home, is out of range.
    #[error("extent {} has {what} {got}, which must be {expected}", extent.0)]
    Extent {
        /// Which extent.
        extent: ExtentId,
        /// Which of its figures.
        what: &'static str,
        /// Its value.
        got: u64,
        /// The values allowed.
        expected: String,
    },
    /// An extent could not be read. Acquiring it again retries.
    #[error(
        "extent {} could not be read: part {part} at byte {offset}, tried {attempts} times; \
         check the drive and that the file is complete", extent.0
    )]
    Read {
        /// Which extent.
        extent: ExtentId,
        /// Which file of the model.
        part: u16,
        /// First byte in the file that was not read.
        offset: u64,
        /// Number of attempts.
        attempts: u32,
        /// The error of the last attempt.
        source: MediumError,
    },
    /// A fetch of an indexed weight's rows failed. Fetching again retries.
    #[error(
        "rows of an indexed weight could not be read: part {part} at byte {offset}, tried \
         {attempts} times; check the drive and that the file is complete"
    )]
    Fetch {
        /// Which file of the model.
        part: u16,
        /// First byte in the file that was not read.
        offset: u64,
        /// Number of attempts.
        attempts: u32,
        /// The error of the last attempt.
        source: MediumError,
    },
    /// A changed extent could not be written. Its bytes stay in memory, and the next
    /// call that waits retries.
    #[error(
        "extent {} could not be written: part {part} at byte {offset}, tried {attempts} times; \
         check the drive and its free space", extent.0
    )]
    Write {
        /// Which extent.
        extent: ExtentId,
        /// Which file of the model.
        part: u16,
        /// First byte in the file that was not written.
        offset: u64,
        /// Number of attempts.
        attempts: u32,
        /// The error of the last attempt.
        source: MediumError,
    },
    /// A sync failed. It is unknown which of the writes since the last successful sync
    /// survive a power cut; they have to be written again.
    #[error("part {part} could not be synced; what was written since the last sync may be lost")]
    Sync {
        /// Which file of the model.
        part: u16,
        /// The medium's error.
        source: MediumError,
    },
    /// The extent is leased to be changed.
    #[error(
        "extent {} is leased to be changed; give that lease back before it is used again", extent.0
    )]
    BeingChanged {
        /// Which extent.
        extent: ExtentId,
    },
    /// The extent finds no room until some lease is released.
    #[error(
        "extent {} of {len} bytes finds no room: of the window of {window} bytes, leases hold \
         {leased} bytes and what lies between them; release some first, or make the window larger",
        extent.0
    )]
    WindowTooSmall {
        /// Which extent.
        extent: ExtentId,
        /// Its length in bytes.
        len: u64,
        /// The window's length in bytes.
        window: u64,
        /// Bytes of the window that are leased.
        leased: u64,
    },
    /// The medium broke its contract: it returned from waiting without a completion.
    #[error(
        "the medium has {operations} operations under way but returned from waiting without a completion; \
         this is a bug of the medium"
    )]
    Lost {
        /// Operations submitted and not completed.
        operations: usize,
    },
}
