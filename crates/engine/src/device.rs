//! The rate of a model's device, measured within the budget.

use std::path::Path;
use std::time::Duration;

use delayline_medium::{ProbeError, device_rate_within};

use crate::process::Usage;

/// Duration of the measurement.
const MEASURING: Duration = Duration::from_millis(250);

/// Bytes for the measurement's own structures and those of the system.
const MARGIN: u64 = 4 << 20;

/// The device rate in bytes per second, measured with the memory that the process leaves
/// of `budget` bytes. For use while no engine is open.
///
/// # Errors
/// If the files cannot be read, or are shorter than a single read.
pub fn device_rate<P: AsRef<Path>>(files: &[P], budget: u64) -> Result<f64, ProbeError> {
    let left = budget.saturating_sub(Usage::now().resident + MARGIN);
    device_rate_within(files, MEASURING, left)
}
