//! What this process occupies, from `/proc/self`. Knows nothing of models.

use std::fs;

/// Bytes of this process by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// In memory now, files mapped included.
    pub resident: u64,
    /// Private writable address space, touched or not.
    pub data: u64,
    /// The most that was ever in memory.
    pub peak: u64,
}

impl Usage {
    /// The present state; zeros where `/proc` is not mounted.
    pub fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self {
            resident: field(&status, "VmRSS:"),
            data: field(&status, "VmData:"),
            peak: field(&status, "VmHWM:"),
        }
    }
}

fn field(status: &str, name: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|kib| kib.parse::<u64>().ok())
        .map_or(0, |kib| kib * 1024)
}

/// Bytes of memory the machine could still give, without swapping.
pub fn available_bytes() -> Option<u64> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    Some(field(&info, "MemAvailable:")).filter(|&bytes| bytes > 0)
}

/// Returns freed heap memory to the system: what loading used for a moment
/// would otherwise count against the budget for good.
pub fn trim_heap() {
    // SAFETY: no arguments that could be wrong; glibc locks its own arenas.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_somewhere() {
        let usage = Usage::now();
        assert!(usage.resident > 0 && usage.peak >= usage.resident && usage.data > 0, "{usage:?}");
    }
}
