//! Ownership of the bytes of a memory: a region lends buffers that do not overlap,
//! and takes them back. It knows positions, not the memory itself.

use std::sync::atomic::{AtomicU64, Ordering};

/// Identifies a region; unique in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RegionId(u64);

impl RegionId {
    /// The region of empty buffers, which belong to none.
    const NONE: Self = Self(0);

    fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// Consecutive bytes of a region, owned: it is neither `Clone` nor `Copy`, and only
/// [`Region::lend`] makes one, so that no two overlap. It moves
/// into an [`Op`](crate::Op), belongs to the operation until that completes, and
/// is returned in its [`Completion`](crate::Completion). A buffer that is dropped
/// stays lent for good.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a buffer that is not given back stays lent for good"]
pub struct Buffer {
    region: RegionId,
    at: u64,
    len: u32,
}

impl Buffer {
    /// A buffer without bytes or region.
    pub fn empty() -> Self {
        let (region, at, len) = (RegionId::NONE, 0, 0);
        Self { region, at, len }
    }

    /// The region that lent it.
    pub fn region(&self) -> RegionId {
        self.region
    }

    /// First byte, from the start of the region.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Length in bytes.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Splits off the first `len` bytes.
    ///
    /// # Panics
    /// If it is shorter.
    pub fn split_at(self, len: u32) -> (Self, Self) {
        let Self {
            region,
            at,
            len: all,
        } = self;
        assert!(len <= all, "{len} bytes of a buffer of {all}");
        let rest = Self {
            region,
            at: at + u64::from(len),
            len: all - len,
        };
        (Self { region, at, len }, rest)
    }

    /// This buffer and the one that follows it in memory as one.
    ///
    /// # Panics
    /// If `next` does not begin where this one ends.
    pub fn join(self, next: Self) -> Self {
        if next.is_empty() {
            return self;
        }
        if self.is_empty() {
            return next;
        }
        assert!(
            self.region == next.region && self.at + u64::from(self.len) == next.at,
            "{next:?} does not follow {self:?}"
        );
        Self {
            len: self.len + next.len,
            ..self
        }
    }
}

/// Lends the bytes of one memory. There is one region for each memory.
#[derive(Debug)]
pub struct Region {
    id: RegionId,
    len: u64,
    /// Start and length of what is lent, in order; about one entry for each operation
    /// under way.
    lent: Vec<(u64, u32)>,
}

impl Region {
    /// A new region of `len` bytes, of which nothing is lent. Its buffers work only
    /// with the memory that was made with it, or with a medium without bytes.
    pub fn new(len: u64) -> Self {
        Self {
            id: RegionId::next(),
            len,
            lent: Vec::new(),
        }
    }

    /// Its identifier.
    pub fn id(&self) -> RegionId {
        self.id
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether nothing is lent.
    pub fn is_whole(&self) -> bool {
        self.lent.is_empty()
    }

    /// Lends `len` bytes at `at`.
    ///
    /// # Panics
    /// If they are not all within the region, or some are lent already.
    pub fn lend(&mut self, at: u64, len: u32) -> Buffer {
        let end = at.saturating_add(u64::from(len));
        assert!(
            end <= self.len,
            "bytes {at}..{end} are not within a region of {} bytes",
            self.len
        );
        if len == 0 {
            return Buffer::empty();
        }
        let place = self.lent.partition_point(|&(start, _)| start < at);
        let before = place.checked_sub(1).map(|before| self.lent[before]);
        let around = before.into_iter().chain(self.lent.get(place).copied());
        for (start, len) in around {
            let lent = start..start + u64::from(len);
            assert!(
                end <= lent.start || lent.end <= at,
                "bytes {at}..{end} cannot be lent: {lent:?} are"
            );
        }
        self.lent.insert(place, (at, len));
        let region = self.id;
        Buffer { region, at, len }
    }

    /// Takes a buffer back, or a part of one that was split.
    ///
    /// # Panics
    /// If it is of another region.
    pub fn take_back(&mut self, buffer: Buffer) {
        if buffer.is_empty() {
            return;
        }
        let Buffer { region, at, len } = buffer;
        assert_eq!(region, self.id, "a buffer of another region");
        // Joined buffers may have been lent one by one.
        let (mut at, end) = (at, at + u64::from(len));
        while at < end {
            let place = self.lent.partition_point(|&(start, _)| start <= at) - 1;
            let (start, len) = self.lent[place];
            let lent_end = start + u64::from(len);
            let back_end = end.min(lent_end);
            let before = (start, (at - start) as u32);
            let behind = (back_end, (lent_end - back_end) as u32);
            match (before.1, behind.1) {
                (0, 0) => drop(self.lent.remove(place)),
                (_, 0) => self.lent[place] = before,
                (0, _) => self.lent[place] = behind,
                _ => {
                    self.lent[place] = before;
                    self.lent.insert(place + 1, behind);
                }
            }
            at = back_end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_loan_on_a_small_region_is_checked_against_every_other() {
        const LEN: u64 = 6;
        for first in 0..LEN {
            for first_len in 1..=LEN - first {
                for at in 0..LEN {
                    for len in 1..=LEN - at {
                        let mut region = Region::new(LEN);
                        let lent = region.lend(first, first_len as u32);
                        let apart = at + len <= first || first + first_len <= at;
                        let asked = std::panic::AssertUnwindSafe(|| region.lend(at, len as u32));
                        let got = std::panic::catch_unwind(asked);
                        assert_eq!(got.is_ok(), apart, "{lent:?}, then {len} at {at}");
                        if let Ok(buffer) = got {
                            region.take_back(buffer);
                        }
                        region.take_back(lent);
                        assert!(region.is_whole());
                        region.lend_and_take_back_all(LEN as u32);
                    }
                }
            }
        }
    }

    impl Region {
        /// Checks that nothing is lent, by lending everything.
        fn lend_and_take_back_all(&mut self, len: u32) {
            let all = self.lend(0, len);
            self.take_back(all);
            assert!(self.is_whole());
        }
    }

    #[test]
    fn a_buffer_comes_back_whole_or_in_any_parts_and_order() {
        for first in 0..=5 {
            for second in 0..=5 - first {
                for order in [
                    [0, 1, 2],
                    [0, 2, 1],
                    [1, 0, 2],
                    [1, 2, 0],
                    [2, 0, 1],
                    [2, 1, 0],
                ] {
                    let mut region = Region::new(9);
                    let (a, rest) = region.lend(2, 5).split_at(first);
                    let (b, c) = rest.split_at(second);
                    assert_eq!(
                        [a.len(), b.len(), c.len()],
                        [first, second, 5 - first - second]
                    );
                    let mut parts = [Some(a), Some(b), Some(c)];
                    for index in order {
                        region.take_back(parts[index].take().unwrap());
                        let out = parts.iter().flatten().any(|part| !part.is_empty());
                        assert_eq!(region.is_whole(), !out);
                    }
                    region.lend_and_take_back_all(9);
                }
            }
        }
    }

    #[test]
    fn neighbours_join_and_others_do_not() {
        let mut region = Region::new(8);
        let (a, b) = (region.lend(0, 3), region.lend(3, 2));
        let joined = Buffer::empty().join(a).join(b).join(Buffer::empty());
        assert_eq!((joined.at(), joined.len()), (0, 5));
        region.take_back(joined);
        region.lend_and_take_back_all(8);
        let (a, c) = (region.lend(0, 3), region.lend(4, 2));
        let apart = std::panic::AssertUnwindSafe(|| a.join(c));
        assert!(std::panic::catch_unwind(apart).is_err());
        let (mine, other) = (region.lend(6, 1), Region::new(8).lend(7, 1));
        let foreign = std::panic::AssertUnwindSafe(|| mine.join(other));
        assert!(std::panic::catch_unwind(foreign).is_err());
    }

    #[test]
    #[should_panic(expected = "another region")]
    fn a_buffer_goes_back_to_its_own_region() {
        Region::new(8).take_back(Region::new(8).lend(0, 8));
    }

    #[test]
    #[should_panic(expected = "not within")]
    fn bytes_outside_are_not_lent() {
        let _ = Region::new(8).lend(u64::MAX, 2);
    }
}
