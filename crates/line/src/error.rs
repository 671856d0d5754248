//! What can go wrong on the line, as values; it does not know what the caller
//! will do about it.

use delayline_plan::ExtentId;
use thiserror::Error;

use crate::MediumError;

/// Why the line cannot give what was asked. The line stays usable after each.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LineError {
    /// The line was set up with a figure that it cannot work with.
    #[error("the line cannot work with {what} of {got}: it must be {expected}")]
    Config {
        /// Which figure.
        what: &'static str,
        /// What it was.
        got: u64,
        /// What it may be.
        expected: String,
    },
    /// An extent, or its home, is not one that the line can read.
    #[error("extent {} has {what} {got}, which must be {expected}", extent.0)]
    Extent {
        /// Which one.
        extent: ExtentId,
        /// Which of its figures.
        what: &'static str,
        /// What it was.
        got: u64,
        /// What it may be.
        expected: String,
    },
    /// An extent could not be read. Acquiring it again tries again.
    #[error(
        "extent {} could not be read: part {part} at byte {offset}, tried {attempts} times; \
         check the drive and that the file is complete", extent.0
    )]
    Read {
        /// Which one.
        extent: ExtentId,
        /// Which file of the model.
        part: u16,
        /// First byte in the file that did not come.
        offset: u64,
        /// How often it was asked for.
        attempts: u32,
        /// What the last attempt said.
        source: MediumError,
    },
    /// A fetch of an indexed weight's rows failed. Fetching again tries again.
    #[error(
        "rows of an indexed weight could not be read: part {part} at byte {offset}, tried \
         {attempts} times; check the drive and that the file is complete"
    )]
    Fetch {
        /// Which file of the model.
        part: u16,
        /// First byte in the file that did not come.
        offset: u64,
        /// How often it was asked for.
        attempts: u32,
        /// What the last attempt said.
        source: MediumError,
    },
    /// A changed extent could not be written. Its bytes stay in memory, and whatever
    /// waits next tries again.
    #[error(
        "extent {} could not be written: part {part} at byte {offset}, tried {attempts} times; \
         check the drive and its free space", extent.0
    )]
    Write {
        /// Which one.
        extent: ExtentId,
        /// Which file of the model.
        part: u16,
        /// First byte in the file that did not arrive.
        offset: u64,
        /// How often it was tried.
        attempts: u32,
        /// What the last attempt said.
        source: MediumError,
    },
    /// What was written may not survive a power cut: nobody knows which of the writes
    /// since the last good sync are safe, and they have to be written again.
    #[error("part {part} could not be synced; what was written since the last sync may be lost")]
    Sync {
        /// Which file of the model.
        part: u16,
        /// What the medium said.
        source: MediumError,
    },
    /// The extent is leased to somebody who changes it.
    #[error(
        "extent {} is leased to be changed; give that lease back before it is used again", extent.0
    )]
    BeingChanged {
        /// Which one.
        extent: ExtentId,
    },
    /// The extent can never come as long as the leases that are out stay out.
    #[error(
        "extent {} of {len} bytes finds no room: of the window of {window} bytes, leases hold \
         {leased} bytes and what lies between them; release some first, or make the window larger",
        extent.0
    )]
    WindowTooSmall {
        /// Which one.
        extent: ExtentId,
        /// Its length in bytes.
        len: u64,
        /// The window's length in bytes.
        window: u64,
        /// Bytes of the window that are leased.
        leased: u64,
    },
    /// The medium broke its contract: it waited and had nothing to say.
    #[error(
        "the medium has {operations} operations under way but returned from waiting without a completion; \
         this is a bug of the medium"
    )]
    Lost {
        /// Operations submitted and not completed.
        operations: usize,
    },
}
