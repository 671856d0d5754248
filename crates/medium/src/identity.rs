//! The identity of a file, by which a change to the file of a running model is
//! noticed. It knows nothing of what the file holds.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What the file system says of an open file at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// Device that holds it.
    pub dev: u64,
    /// Its inode there.
    pub ino: u64,
    /// Length in bytes.
    pub size: u64,
    /// Last change of its bytes, nanoseconds since 1970.
    pub mtime_ns: i128,
    /// Last change of its bytes or of its inode, nanoseconds since 1970.
    pub ctime_ns: i128,
    /// How many names it has.
    pub links: u64,
    /// Type, permissions, owner and group.
    pub rights: (u32, u32, u32),
}

impl Fingerprint {
    /// The fingerprint of this open file, whatever its path leads to by now.
    ///
    /// # Errors
    /// Those of `fstat`.
    pub fn of(file: &File) -> io::Result<Self> {
        let meta = file.metadata()?;
        let ns = |s: i64, ns: i64| i128::from(s) * 1_000_000_000 + i128::from(ns);
        Ok(Self {
            dev: meta.dev(),
            ino: meta.ino(),
            size: meta.size(),
            mtime_ns: ns(meta.mtime(), meta.mtime_nsec()),
            ctime_ns: ns(meta.ctime(), meta.ctime_nsec()),
            links: meta.nlink(),
            rights: (meta.mode(), meta.uid(), meta.gid()),
        })
    }

    /// Whether the bytes may have changed from `self` to `now`, of a file that was opened
    /// at `path`. The inode's time counts too, because setting the modification time back
    /// cannot set it back, unless something else explains its change: another number of
    /// links, other permissions, or another file or none at `path`, since renaming and
    /// removing change no byte. A change of equal length within one tick of the file
    /// system's clock (some milliseconds) is missed.
    pub fn changed(&self, now: &Self, path: &Path) -> bool {
        let bytes = |of: &Self| (of.dev, of.ino, of.size, of.mtime_ns);
        let inode = |of: &Self| (of.links, of.rights);
        let moved = || {
            let there = std::fs::metadata(path).map(|there| (there.dev(), there.ino()));
            there.map_or(true, |there| there != (now.dev, now.ino))
        };
        bytes(self) != bytes(now)
            || self.ctime_ns != now.ctime_ns && inode(self) == inode(now) && !moved()
    }
}

#[cfg(test)]
mod tests {
    use super::Fingerprint;
    use std::time::{Duration, SystemTime};

    #[test]
    fn renames_and_removals_do_not_count_but_bytes_do() {
        let dir = tempfile::tempdir().unwrap();
        let (path, new) = (dir.path().join("a"), dir.path().join("b"));
        std::fs::write(&path, [1; 100]).unwrap();
        std::fs::write(&new, [2; 100]).unwrap();
        let file = std::fs::File::options()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        // The file's own clock may tick in milliseconds: start from long ago.
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1))
            .unwrap();
        let before = Fingerprint::of(&file).unwrap();
        assert_eq!((before.size, before.mtime_ns), (100, 1_000_000_000));
        std::fs::rename(&new, &path).unwrap();
        assert!(!before.changed(&Fingerprint::of(&file).unwrap(), &path));
        std::os::unix::fs::FileExt::write_all_at(&file, &[3], 0).unwrap();
        assert!(before.changed(&Fingerprint::of(&file).unwrap(), &path));
        let before = Fingerprint::of(&file).unwrap();
        file.set_len(99).unwrap();
        assert!(before.changed(&Fingerprint::of(&file).unwrap(), &path));
    }

    #[test]
    fn a_time_that_was_put_back_is_noticed_and_a_name_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("a"), dir.path().join("b"));
        std::fs::write(&path, [1; 100]).unwrap();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        file.set_modified(old).unwrap();
        let before = Fingerprint {
            // The file system's clock may tick in milliseconds.
            ctime_ns: 1,
            ..Fingerprint::of(&file).unwrap()
        };
        std::os::unix::fs::FileExt::write_all_at(&file, &[3], 0).unwrap();
        file.set_modified(old).unwrap();
        let now = || Fingerprint::of(&file).unwrap();
        assert_eq!(before.mtime_ns, now().mtime_ns);
        assert!(before.changed(&now(), &path));
        std::fs::hard_link(&path, &other).unwrap();
        assert!(!before.changed(&now(), &path), "another name");
        std::fs::remove_file(&other).unwrap();
        std::fs::rename(&path, &other).unwrap();
        assert!(!before.changed(&now(), &path), "it was moved");
        std::fs::remove_file(&other).unwrap();
        assert!(!before.changed(&now(), &path), "it was removed");
    }
}
