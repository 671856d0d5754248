//! Who a file is, so that a change underneath a running model is noticed. It
//! knows nothing of what the file holds.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

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
}

impl Fingerprint {
    /// That of the file behind this descriptor, whatever its name leads to by now.
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
        })
    }

    /// Whether the bytes may have changed from `self` to `now`. The inode's
    /// own time is left out: renaming another file over this one, or removing
    /// its name, moves it without touching a byte. A change within the tick of
    /// the file system's clock (some milliseconds) and of equal length escapes.
    pub fn changed(&self, now: &Self) -> bool {
        (self.dev, self.ino, self.size, self.mtime_ns) != (now.dev, now.ino, now.size, now.mtime_ns)
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
        assert!(!before.changed(&Fingerprint::of(&file).unwrap()));
        std::os::unix::fs::FileExt::write_all_at(&file, &[3], 0).unwrap();
        assert!(before.changed(&Fingerprint::of(&file).unwrap()));
        let before = Fingerprint::of(&file).unwrap();
        file.set_len(99).unwrap();
        assert!(before.changed(&Fingerprint::of(&file).unwrap()));
    }
}
