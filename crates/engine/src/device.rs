//! What the device of a model can do, measured without breaking the budget.

use std::path::Path;
use std::time::Duration;

use delayline_medium::{ProbeError, device_rate_within};

use crate::process::Usage;

/// How long it is measured.
const MEASURING: Duration = Duration::from_millis(250);

/// The measurement's own structures, and what the system takes beside, in bytes.
const MARGIN: u64 = 4 << 20;

/// The device rate in bytes per second, measured with what the process leaves of
/// `budget` bytes: for when no engine is open.
///
/// # Errors
/// When the files cannot be read, or hold less than a single read.
pub fn device_rate<P: AsRef<Path>>(files: &[P], budget: u64) -> Result<f64, ProbeError> {
    let left = budget.saturating_sub(Usage::now().resident + MARGIN);
    device_rate_within(files, MEASURING, left)
}
