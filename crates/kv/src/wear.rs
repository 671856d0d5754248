//! The number of bytes written today, kept in the folder, and a daily limit, because a drive
//! endures only so many writes.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::folder;

/// The file of the count. It has a fixed length and is overwritten in place.
pub(crate) const WEAR: &str = "wear";

/// A day and the bytes written in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Day {
    /// Days since 1970 (UTC).
    pub day: u64,
    pub bytes: u64,
}

impl Day {
    fn encode(self) -> String {
        format!("{:>10} {:>20}\n", self.day, self.bytes)
    }

    fn decode(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let (day, bytes) = text.strip_suffix('\n')?.split_at_checked(10)?;
        let read = |text: &str| text.trim_start().parse().ok();
        let day = Self {
            day: read(day)?,
            bytes: read(bytes)?,
        };
        // Only exactly what `encode` writes is valid.
        (day.encode() == text).then_some(day)
    }
}

/// Today, in days since 1970 (UTC).
pub(crate) fn today() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs() / (24 * 3600))
}

/// What was written on that day, from the file in the folder: 0 bytes if there is no file,
/// `u64::MAX` if it cannot be read, so that a limit counts as reached.
pub(crate) fn written_on(folder: &Path, day: u64) -> Day {
    let mut text = Vec::new();
    let read =
        folder::read(&folder.join(WEAR)).and_then(|file| file.take(64).read_to_end(&mut text));
    let bytes = match read {
        Ok(_) => match Day::decode(&text) {
            Some(found) if found.day == day => found.bytes,
            Some(_) => 0,
            None => u64::MAX,
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(_) => u64::MAX,
    };
    Day { day, bytes }
}

/// The count and the limit of a folder that is open for writing.
#[derive(Debug)]
pub(crate) struct Wear {
    file: File,
    now: Day,
    limit: u64,
    /// The day on which a block exceeded the limit.
    full: Option<u64>,
}

impl Wear {
    pub fn open(folder: &Path) -> io::Result<Self> {
        let now = written_on(folder, today());
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(false);
        let options = options.mode(0o600);
        Ok(Self {
            file: folder::open_file(&folder.join(WEAR), options)?,
            now,
            limit: u64::MAX,
            full: None,
        })
    }

    /// Sets the bytes that may be written in a day.
    pub fn limit(&mut self, bytes: u64) {
        (self.limit, self.full) = (bytes, None);
    }

    pub fn written_today(&mut self) -> u64 {
        self.begin(today());
        self.now.bytes
    }

    fn begin(&mut self, day: u64) {
        if self.now.day != day {
            self.now = Day { day, bytes: 0 };
        }
    }

    /// Whether no block has exceeded today's limit yet.
    pub fn has_room(&self) -> bool {
        self.full.is_none_or(|full| full != today())
    }

    /// Whether `bytes` may be written today.
    pub fn takes(&mut self, bytes: u64) -> bool {
        self.takes_on(bytes, today())
    }

    fn takes_on(&mut self, bytes: u64, day: u64) -> bool {
        self.begin(day);
        let takes = match self.limit {
            u64::MAX => true,
            limit => self.now.bytes.saturating_add(bytes) <= limit,
        };
        if !takes {
            self.full = Some(day);
        }
        takes
    }

    /// Adds `bytes` to today's count and writes it to the file.
    pub fn wrote(&mut self, bytes: u64) -> io::Result<()> {
        self.begin(today());
        self.now.bytes = self.now.bytes.saturating_add(bytes);
        self.file.write_all_at(self.now.encode().as_bytes(), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Length of the file: day, space, bytes, end of line.
    const LEN: usize = 10 + 1 + 20 + 1;

    #[test]
    fn a_day_is_read_as_it_was_written_and_nothing_else_is_one() {
        let (small, large) = (
            Day { day: 0, bytes: 0 },
            Day {
                day: 9_999_999_999,
                bytes: u64::MAX,
            },
        );
        for day in [
            small,
            large,
            Day {
                day: 20_785,
                bytes: 123_456,
            },
        ] {
            let text = day.encode();
            assert_eq!((text.len(), Day::decode(text.as_bytes())), (LEN, Some(day)));
            for len in 0..LEN {
                assert_eq!(Day::decode(&text.as_bytes()[..len]), None);
            }
            assert_eq!(Day::decode(format!("{text} ").as_bytes()), None);
        }
        assert_eq!(Day::decode(&[0; LEN]), None);
    }

    #[test]
    fn a_day_that_is_full_ends_with_the_day() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut wear = Wear::open(folder.path()).expect("writable");
        wear.limit(100);
        wear.now = Day { day: 7, bytes: 60 };
        assert!(wear.takes_on(40, 7) && !wear.takes_on(41, 7));
        assert!(wear.takes_on(100, 8) && !wear.takes_on(101, 8));
        std::fs::write(folder.path().join(WEAR), "not a day").expect("written");
        assert_eq!(written_on(folder.path(), 8).bytes, u64::MAX);
        let mut wear = Wear::open(folder.path()).expect("writable");
        wear.limit(100);
        assert!(!wear.takes(1) && !wear.has_room());
    }
}
