//! The memory of this process, from `/proc/self`, and ways to reduce it. Knows nothing of
//! models.

use std::fs::{self, File};
use std::os::fd::AsRawFd;

/// Memory of this process, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Resident memory, mapped files included.
    pub resident: u64,
    /// Private writable address space, touched or not.
    pub data: u64,
    /// Peak of resident memory.
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

/// Bytes of memory available on the machine without swapping.
pub fn available_bytes() -> Option<u64> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    Some(field(&info, "MemAvailable:")).filter(|&bytes| bytes > 0)
}

/// Returns freed heap memory to the system: what loading used temporarily would
/// otherwise count against the budget permanently.
pub fn trim_heap() {
    // SAFETY: no arguments that could be wrong; glibc locks its own arenas.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Makes all threads share one heap, for a program with several that allocate: glibc
/// would give each its own, and memory freed in one could not be used by another. Call
/// it before they start.
pub fn share_heap() {
    // SAFETY: sets a number of the allocator, which locks itself.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Loads the whole program and its libraries into memory, and drops what the kernel read
/// of the file besides (symbols, line tables). The program's memory is then the same in
/// each run, and code used for the first time later adds nothing. If the kernel does not
/// support it, code is loaded when it runs.
pub fn settle_program() {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for (from, len) in program(&maps) {
        // SAFETY: maps in pages of a file that is mapped there already, which
        // changes no byte; a range that is gone by now is refused.
        unsafe { libc::madvise(from as *mut libc::c_void, len, libc::MADV_POPULATE_READ) };
    }
    drop_read_beside();
}

/// Drops page cache of the program's file that is not mapped. The kernel may still be
/// reading megabytes ahead; what is under way is not dropped.
pub fn drop_read_beside() {
    if let Ok(program) = File::open("/proc/self/exe") {
        // SAFETY: advice on an open descriptor; pages in use stay.
        unsafe { libc::posix_fadvise(program.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    }
}

/// Address and length of every readable mapping in `/proc/self/maps` of a file that also
/// has an executable mapping.
fn program(maps: &str) -> Vec<(usize, usize)> {
    // `from-until permissions offset device inode path`, see proc_pid_maps(5).
    let lines: Vec<Vec<&str>> = maps
        .lines()
        .map(|line| line.splitn(6, ' ').collect())
        .collect();
    let path = |line: &[&str]| {
        line.get(5)
            .map(|path| path.trim_start().to_owned())
            .filter(|path| path.starts_with('/'))
    };
    let programs: Vec<String> = lines
        .iter()
        .filter(|line| line.get(1).is_some_and(|p| p.contains('x')))
        .filter_map(|line| path(line))
        .collect();
    let is_program = |line: &&Vec<&str>| {
        line.get(1).is_some_and(|p| p.starts_with('r'))
            && path(line).is_some_and(|path| programs.contains(&path))
    };
    let range = |line: &Vec<&str>| {
        let (from, until) = line.first()?.split_once('-')?;
        let from = usize::from_str_radix(from, 16).ok()?;
        Some((
            from,
            usize::from_str_radix(until, 16).ok()?.checked_sub(from)?,
        ))
    };
    lines.iter().filter(is_program).filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_what_can_be_executed_its_constants_and_its_data() {
        let maps = "\
            1000-3000 r--p 00000000 fe:00 7                          /bin/a b\n\
            3000-7000 r-xp 00002000 fe:00 7                          /bin/a b\n\
            7000-8000 rw-p 00006000 fe:00 7                          /bin/a b\n\
            9000-a000 r--s 00000000 00:01 9                          /memfd:weights (deleted)\n\
            b000-c000 r-xp 00000000 00:00 0                          [vdso]\n\
            d000-e000 rwxp 00000000 00:00 0 \n\
            nonsense\n";
        let (code, data) = ([(0x1000, 0x2000), (0x3000, 0x4000)], (0x7000, 0x1000));
        assert_eq!(program(maps), [code[0], code[1], data]);
    }

    #[test]
    fn a_settled_program_is_in_memory() {
        settle_program();
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let bytes: usize = program(&maps).iter().map(|(_, len)| len).sum();
        assert!(
            bytes > 0 && Usage::now().resident > bytes as u64,
            "{bytes} bytes of program"
        );
    }

    #[test]
    fn this_process_is_somewhere() {
        let usage = Usage::now();
        assert!(
            usage.resident > 0 && usage.peak >= usage.resident && usage.data > 0,
            "{usage:?}"
        );
    }
}
