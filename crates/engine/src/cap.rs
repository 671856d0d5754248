//! A memory limit for child processes: a separate cgroup, version 1 or 2, which also
//! reports what they used. Knows nothing of models.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::cgroup::Cgroup;

/// How often the removal of a group is tried: its last process may not have left yet
/// when its parent is told of its end.
const REMOVALS: u32 = 1000;

/// A cgroup with a limit; removed on drop, once its processes have ended.
#[derive(Debug)]
pub struct Cap {
    dir: PathBuf,
    is_v2: bool,
}

impl Cap {
    /// A group whose processes may use `limit_bytes` of memory together, including their
    /// page cache and kernel memory, and no swap.
    ///
    /// # Errors
    /// If there is no memory cgroup, or this process may not create one in it, which usually
    /// requires root.
    pub fn new(limit_bytes: u64) -> io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let own = Cgroup::current().ok_or_else(|| {
            io::Error::new(io::ErrorKind::Unsupported, "there is no memory cgroup here")
        })?;
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("delayline-cap-{}-{count}", std::process::id());
        let mut refused = None;
        for parent in parents(own.dirs(), own.is_v2()) {
            match Self::below(parent, &name, own.is_v2(), limit_bytes) {
                Ok(cap) => return Ok(cap),
                Err(error) => _ = refused.get_or_insert(error),
            }
        }
        Err(refused.unwrap_or_else(|| io::ErrorKind::NotFound.into()))
    }

    fn below(parent: &Path, name: &str, is_v2: bool, limit_bytes: u64) -> io::Result<Self> {
        let dir = parent.join(name);
        fs::create_dir(&dir)?;
        // From here on, dropping `cap` removes the folder.
        let cap = Self { dir, is_v2 };
        if is_v2 {
            if !cap.dir.join("memory.max").exists() {
                fs::write(parent.join("cgroup.subtree_control"), "+memory")?;
            }
            cap.set("memory.max", limit_bytes)?;
            // Absent in a kernel without swap.
            cap.set_if_there("memory.swap.max", 0)?;
        } else {
            cap.set("memory.limit_in_bytes", limit_bytes)?;
            cap.set_if_there("memory.memsw.limit_in_bytes", limit_bytes)?;
            cap.set_if_there("memory.swappiness", 0)?;
        }
        Ok(cap)
    }

    /// A command that runs `program` inside; arguments are added as to any other.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", r#"echo $$ > "$0" && exec "$@""#]);
        command.arg(self.dir.join("cgroup.procs")).arg(program);
        command
    }

    /// Peak usage in bytes; `None` if the kernel does not report it (version 2 before
    /// Linux 5.19).
    pub fn peak_bytes(&self) -> Option<u64> {
        self.number(if self.is_v2 {
            "memory.peak"
        } else {
            "memory.max_usage_in_bytes"
        })
    }

    /// Bytes of page cache of the processes inside.
    pub fn cached_bytes(&self) -> u64 {
        let key = if self.is_v2 { "file" } else { "cache" };
        self.field("memory.stat", key)
    }

    /// Number of processes inside that were killed because memory ran out.
    pub fn oom_kills(&self) -> u64 {
        self.field(
            if self.is_v2 {
                "memory.events"
            } else {
                "memory.oom_control"
            },
            "oom_kill",
        )
    }

    /// Bytes swapped out: the peak if the kernel reports it, else the present value.
    pub fn swapped_bytes(&self) -> u64 {
        if self.is_v2 {
            let peak = self.number("memory.swap.peak");
            peak.or_else(|| self.number("memory.swap.current"))
                .unwrap_or(0)
        } else {
            self.field("memory.stat", "swap")
        }
    }

    fn set(&self, name: &str, bytes: u64) -> io::Result<()> {
        fs::write(self.dir.join(name), bytes.to_string())
    }

    fn set_if_there(&self, name: &str, bytes: u64) -> io::Result<()> {
        if self.dir.join(name).exists() {
            self.set(name, bytes)
        } else {
            Ok(())
        }
    }

    fn number(&self, name: &str) -> Option<u64> {
        fs::read_to_string(self.dir.join(name))
            .ok()?
            .trim()
            .parse()
            .ok()
    }

    /// A line `key value` of a file with several.
    fn field(&self, name: &str, key: &str) -> u64 {
        let text = fs::read_to_string(self.dir.join(name)).unwrap_or_default();
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        value.and_then(|value| value.parse().ok()).unwrap_or(0)
    }
}

/// Folders in which to try to create a group, best first. In version 2 a group with
/// processes cannot have children with limits, so a sibling is tried first.
fn parents(dirs: &[PathBuf], is_v2: bool) -> impl Iterator<Item = &Path> {
    let there = dirs.iter().filter(|dir| dir.is_dir());
    let skipped = usize::from(is_v2 && dirs.len() > 1);
    there.skip(skipped).map(PathBuf::as_path)
}

impl Drop for Cap {
    fn drop(&mut self) {
        for _ in 0..REMOVALS {
            match fs::remove_dir(&self.dir) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                    std::thread::yield_now()
                }
                _ => return,
            }
        }
        tracing::warn!(
            "{} still has processes and was left there",
            self.dir.display()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use delayline_testing::cannot_run;

    const MIB: u64 = 1 << 20;

    /// A cap; if none can be made, reports that the test cannot run.
    fn cap(limit_bytes: u64) -> Option<Cap> {
        Cap::new(limit_bytes)
            .inspect_err(|error| cannot_run(format!("no memory cgroup can be made: {error}")))
            .ok()
    }

    /// Runs something that holds `mib` MiB in memory at its end.
    fn holds(cap: &Cap, mib: u64) -> bool {
        let bytes = mib * MIB;
        let script = format!("head -c {bytes} /dev/zero | tail -c {bytes} > /dev/null");
        cap.command("sh")
            .args(["-c", &script])
            .status()
            .expect("can run a shell")
            .success()
    }

    #[test]
    fn what_fits_runs_and_is_measured() {
        let Some(cap) = cap(64 * MIB) else { return };
        assert!(holds(&cap, 20));
        assert_eq!((cap.oom_kills(), cap.swapped_bytes()), (0, 0));
        if let Some(peak) = cap.peak_bytes() {
            assert!((20 * MIB..=64 * MIB).contains(&peak), "{peak}");
        }
    }

    #[test]
    fn what_does_not_fit_is_killed() {
        let Some(cap) = cap(16 * MIB) else { return };
        assert!(!holds(&cap, 40));
        assert!(cap.oom_kills() > 0);
        assert_eq!(cap.swapped_bytes(), 0);
    }

    #[test]
    fn arguments_arrive_as_they_are_and_the_group_goes() {
        let Some(cap) = cap(64 * MIB) else { return };
        let output = cap
            .command("printf")
            .args(["%s|%s", "a b", "$c"])
            .output()
            .expect("can run printf");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "a b|$c");
        let dir = cap.dir.clone();
        assert!(dir.is_dir());
        drop(cap);
        assert!(!dir.exists());
    }

    #[test]
    fn a_sibling_comes_before_a_child_where_children_are_barred() {
        let dirs: Vec<PathBuf> = ["/usr/bin", "/usr", "/"].map(PathBuf::from).into();
        let of = |dirs, is_v2| parents(dirs, is_v2).map(Path::to_owned).collect::<Vec<_>>();
        assert_eq!(of(&dirs, false), dirs);
        assert_eq!(of(&dirs, true), dirs[1..]);
        assert_eq!(of(&dirs[2..], true), dirs[2..]);
    }
}
