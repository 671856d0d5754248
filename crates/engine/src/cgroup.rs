//! The memory limit of this process's cgroup, version 1 or 2, from `/proc` and the
//! cgroup file system. Knows nothing of budgets and models.

use std::fs;
use std::path::{Path, PathBuf};

/// Version 1 writes "no limit" as the largest page-aligned number; limits from this
/// value on count as none.
const NO_LIMIT: u64 = 1 << 62;

/// The memory cgroup of a process, with its ancestors, which limit it as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// Its folder, then its parents' up to the mount point.
    dirs: Vec<PathBuf>,
    is_v2: bool,
}

/// The cgroup of this process; `None` if the system has none for memory or does not
/// show it.
pub fn current() -> Option<Cgroup> {
    Cgroup::current()
}

impl Cgroup {
    /// See [`current`].
    pub fn current() -> Option<Self> {
        Self::under(Path::new("/"))
    }

    /// The cgroup that `proc/self` below `root` describes.
    fn under(root: &Path) -> Option<Self> {
        let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
        let mounts = fs::read_to_string(root.join("proc/self/mountinfo")).ok()?;
        // If both versions are mounted, memory belongs to version 1 if it is listed there.
        let found = [false, true].into_iter().find_map(|is_v2| {
            let group = path_in(&groups, is_v2)?;
            let (mount, top) = mount_of(&mounts, is_v2)?;
            Some((is_v2, dirs(root, &mount, &top, group)))
        });
        let (is_v2, dirs) = found?;
        dirs.iter()
            .any(|dir| dir.is_dir())
            .then_some(Self { dirs, is_v2 })
    }

    /// Whether it is of version 2, the unified hierarchy.
    pub fn is_v2(&self) -> bool {
        self.is_v2
    }

    /// The tightest limit on the way up, in bytes; `None` for no limit.
    pub fn limit_bytes(&self) -> Option<u64> {
        self.tightest().map(|(_, limit)| limit)
    }

    /// Present usage of the group with the tightest limit, or of the innermost group if
    /// there is no limit, in bytes. Includes page cache.
    pub fn usage_bytes(&self) -> Option<u64> {
        let tightest = self.tightest().map(|(dir, _)| dir);
        tightest
            .or(self.dirs.first())
            .and_then(|dir| self.usage(dir))
    }

    /// Peak usage of the innermost group in bytes; `None` if the kernel does not report it
    /// (version 2 before Linux 5.19).
    pub fn peak_bytes(&self) -> Option<u64> {
        let name = if self.is_v2 {
            "memory.peak"
        } else {
            "memory.max_usage_in_bytes"
        };
        number(&self.dirs.first()?.join(name))
    }

    /// Bytes that can still be used before any limit on the way up is reached. Inactive page
    /// cache counts as free, because the kernel drops it first. `None` for no limit.
    pub fn available_bytes(&self) -> Option<u64> {
        let left = |dir: &PathBuf| {
            let limit = self.limit(dir)?;
            let used = self.usage(dir).unwrap_or(0);
            Some(limit.saturating_sub(used.saturating_sub(self.idle_cache(dir))))
        };
        self.dirs.iter().filter_map(left).min()
    }

    /// Its folder, then its parents'.
    pub(crate) fn dirs(&self) -> &[PathBuf] {
        &self.dirs
    }

    fn tightest(&self) -> Option<(&PathBuf, u64)> {
        let limited = self
            .dirs
            .iter()
            .filter_map(|dir| Some((dir, self.limit(dir)?)));
        limited.min_by_key(|(_, limit)| *limit)
    }

    fn limit(&self, dir: &Path) -> Option<u64> {
        // At `memory.high` the kernel throttles, before it kills at `memory.max`.
        let names: &[&str] = if self.is_v2 {
            &["memory.max", "memory.high"]
        } else {
            &["memory.limit_in_bytes"]
        };
        let limits = names.iter().filter_map(|name| number(&dir.join(name)));
        limits.filter(|limit| *limit < NO_LIMIT).min()
    }

    fn usage(&self, dir: &Path) -> Option<u64> {
        number(&dir.join(if self.is_v2 {
            "memory.current"
        } else {
            "memory.usage_in_bytes"
        }))
    }

    /// File pages on the inactive list, of the group and those below it.
    fn idle_cache(&self, dir: &Path) -> u64 {
        let name = if self.is_v2 {
            "inactive_file "
        } else {
            "total_inactive_file "
        };
        let stat = fs::read_to_string(dir.join("memory.stat")).unwrap_or_default();
        let value = stat.lines().find_map(|line| line.strip_prefix(name));
        value
            .and_then(|value| value.trim().parse().ok())
            .unwrap_or(0)
    }
}

/// The number in a file; `None` for `max`.
fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The path of the memory group in `/proc/self/cgroup`, whose lines are
/// `id:controllers:path`; version 2 has id 0 and no controllers.
fn path_in(groups: &str, is_v2: bool) -> Option<&str> {
    groups.lines().find_map(|line| {
        let (id, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let found = if is_v2 {
            id == "0" && controllers.is_empty()
        } else {
            controllers.split(',').any(|name| name == "memory")
        };
        found.then_some(path)
    })
}

/// The mount point of the hierarchy, and the group that is mounted there. Lines of
/// `mountinfo` are `id parent device root mount options [optional...] - type source
/// options`, `proc(5)`.
fn mount_of(mounts: &str, is_v2: bool) -> Option<(String, String)> {
    mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut after = after.split(' ');
        let kind = after.next()?;
        let mut options = after.nth(1)?.split(',');
        let found = if is_v2 {
            kind == "cgroup2"
        } else {
            kind == "cgroup" && options.any(|name| name == "memory")
        };
        let mut before = before.split(' ').skip(3);
        let (top, mount) = (before.next()?, before.next()?);
        found.then(|| (unescape(mount), unescape(top)))
    })
}

/// Undoes the escapes of `mountinfo`: a backslash and three octal digits for spaces and
/// the like.
fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut whole = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part
            .get(..3)
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                whole.push(code.into());
                whole.push_str(&part[3..]);
            }
            None => {
                whole.push('\\');
                whole.push_str(part);
            }
        }
    }
    whole
}

/// The group's folder and its parents'. A group outside of what is mounted
/// (another namespace's) leaves only the mount itself.
fn dirs(root: &Path, mount: &str, top: &str, group: &str) -> Vec<PathBuf> {
    let mount = root.join(mount.trim_start_matches('/'));
    let inner = Path::new(group).strip_prefix(top).unwrap_or(Path::new(""));
    let inside = inner
        .components()
        .all(|part| matches!(part, std::path::Component::Normal(_)));
    let inner = if inside { inner } else { Path::new("") };
    inner.ancestors().map(|dir| mount.join(dir)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree of files that is removed afterwards.
    struct Tree(PathBuf);

    impl Tree {
        /// Lines `path|text`, in the text `;` for a new line.
        fn new(test: &str, files: &str) -> Self {
            let name = format!("delayline-cgroup-{}-{test}", std::process::id());
            let root = std::env::temp_dir().join(name);
            for line in files.lines().filter(|line| !line.trim().is_empty()) {
                let (name, text) = line.trim().split_once('|').expect("has a text");
                let path = root.join(name);
                let dir = path.parent().expect("is below the root");
                fs::create_dir_all(dir).expect("can make a folder");
                fs::write(path, text.replace(';', "\n") + "\n").expect("can write a file");
            }
            Self(root)
        }

        fn group(&self) -> Option<Cgroup> {
            Cgroup::under(&self.0)
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// `mountinfo` of a system with only version 2, and of one with both.
    const V2: &str = "\
        proc/self/mountinfo|31 23 0:27 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
    const V1: &str = "\
        proc/self/mountinfo|23 27 0:22 / /sys rw - sysfs sysfs rw;\
        32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu;\
        35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory;\
        41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
    const UNLIMITED: &str = "9223372036854771712";

    #[test]
    fn version_2_takes_the_tightest_limit_on_the_way_up() {
        let files = "proc/self/cgroup|0::/user.slice/app.scope
            sys/fs/cgroup/user.slice/app.scope/memory.max|4294967296
            sys/fs/cgroup/user.slice/app.scope/memory.current|100
            sys/fs/cgroup/user.slice/app.scope/memory.peak|300
            sys/fs/cgroup/user.slice/memory.max|1000
            sys/fs/cgroup/user.slice/memory.high|max
            sys/fs/cgroup/user.slice/memory.current|700
            sys/fs/cgroup/user.slice/memory.stat|anon 1;file 500;inactive_file 250";
        let tree = Tree::new("v2", &(V2.to_owned() + files));
        let group = tree.group().expect("is there");
        assert!(group.is_v2());
        assert_eq!(group.limit_bytes(), Some(1000));
        assert_eq!(group.usage_bytes(), Some(700));
        assert_eq!(group.peak_bytes(), Some(300));
        assert_eq!(group.available_bytes(), Some(1000 - (700 - 250)));
    }

    #[test]
    fn throttling_is_a_limit_too() {
        let files = "proc/self/cgroup|0::/a
            sys/fs/cgroup/a/memory.max|2000
            sys/fs/cgroup/a/memory.high|1500";
        let tree = Tree::new("high", &(V2.to_owned() + files));
        let limit = tree.group().and_then(|group| group.limit_bytes());
        assert_eq!(limit, Some(1500));
    }

    #[test]
    fn no_limit_is_none() {
        let v2 = "proc/self/cgroup|0::/a
            sys/fs/cgroup/a/memory.max|max
            sys/fs/cgroup/a/memory.current|5";
        let v1 = format!(
            "proc/self/cgroup|4:memory:/a;0::/
            sys/fs/cgroup/memory/a/memory.limit_in_bytes|{UNLIMITED}
            sys/fs/cgroup/memory/a/memory.usage_in_bytes|5"
        );
        for (name, files) in [
            ("none2", V2.to_owned() + v2),
            ("none1", V1.to_owned() + &v1),
        ] {
            let tree = Tree::new(name, &files);
            let group = tree.group().expect("is there");
            assert_eq!(group.limit_bytes(), None, "{name}");
            assert_eq!(group.available_bytes(), None, "{name}");
            assert_eq!(group.usage_bytes(), Some(5), "{name}");
            assert_eq!(group.peak_bytes(), None, "{name}");
        }
    }

    #[test]
    fn version_1_comes_first_where_it_has_memory() {
        let files = format!(
            "proc/self/cgroup|5:cpu,cpuacct:/;4:memory:/jobs/one;0::/
            sys/fs/cgroup/memory/memory.limit_in_bytes|{UNLIMITED}
            sys/fs/cgroup/memory/jobs/memory.limit_in_bytes|{UNLIMITED}
            sys/fs/cgroup/memory/jobs/one/memory.limit_in_bytes|2048
            sys/fs/cgroup/memory/jobs/one/memory.usage_in_bytes|1024
            sys/fs/cgroup/memory/jobs/one/memory.max_usage_in_bytes|1536
            sys/fs/cgroup/memory/jobs/one/memory.stat|inactive_file 1;total_inactive_file 24"
        );
        let tree = Tree::new("v1", &(V1.to_owned() + &files));
        let group = tree.group().expect("is there");
        assert!(!group.is_v2());
        assert_eq!(group.limit_bytes(), Some(2048));
        assert_eq!(group.usage_bytes(), Some(1024));
        assert_eq!(group.peak_bytes(), Some(1536));
        assert_eq!(group.available_bytes(), Some(2048 - 1000));
    }

    #[test]
    fn a_container_sees_its_own_group_as_the_top() {
        // Without a cgroup namespace, the process's path and the mounted group both have
        // the container's name; a process moved in from outside has a path outside.
        for (name, group, top) in [
            ("same", "/docker/abc", "/docker/abc"),
            ("namespace", "/", "/"),
            ("outside", "/../other", "/"),
            ("elsewhere", "/x", "/docker/abc"),
        ] {
            let mounts = V2.replace(" / /sys", &format!(" {top} /sys"));
            let files = format!("{mounts}proc/self/cgroup|0::{group}\nsys/fs/cgroup/memory.max|77");
            let tree = Tree::new(name, &files);
            let limit = tree.group().and_then(|group| group.limit_bytes());
            assert_eq!(limit, Some(77), "{name}");
        }
    }

    #[test]
    fn a_system_without_shows_none() {
        for (name, files) in [
            ("nothing", String::new()),
            (
                "unmounted",
                "proc/self/cgroup|0::/\nproc/self/mountinfo|".to_owned(),
            ),
            ("ungrouped", format!("{V2}proc/self/cgroup|")),
            ("gone", format!("{V2}proc/self/cgroup|0::/a")),
            (
                "garbage",
                "proc/self/cgroup|x\nproc/self/mountinfo| - ;- a;1 2 - cgroup2".to_owned(),
            ),
        ] {
            assert_eq!(Tree::new(name, &files).group(), None, "{name}");
        }
    }

    #[test]
    fn escapes_are_undone() {
        for (text, plain) in [
            ("/a", "/a"),
            ("/a\\040b\\134c", "/a b\\c"),
            ("\\04", "\\04"),
            ("\\", "\\"),
            ("\\é04", "\\é04"),
        ] {
            assert_eq!(unescape(text), plain);
        }
    }

    #[test]
    fn this_process_finds_limits_that_mean_something() {
        let limit = current().and_then(|group| group.limit_bytes());
        assert!(limit.is_none_or(|limit| limit < NO_LIMIT), "{limit:?}");
    }
}
