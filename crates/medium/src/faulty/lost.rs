//! Which bytes a faulty medium has not written though it said so.

use std::ops::Range;

/// Ranges of bytes, by part, of which the last write never arrived.
#[derive(Default)]
pub(super) struct Lost(Vec<(u16, Range<u64>)>);

impl Lost {
    /// A write of these bytes is lost.
    pub fn lose(&mut self, part: u16, bytes: Range<u64>) {
        self.make(part, bytes.clone());
        self.0.push((part, bytes));
    }

    /// A write of these bytes is made: they are lost no more.
    pub fn make(&mut self, part: u16, made: Range<u64>) {
        let old = std::mem::take(&mut self.0);
        for (other, lost) in old {
            if other != part || made.end <= lost.start || lost.end <= made.start {
                self.0.push((other, lost));
                continue;
            }
            for rest in [lost.start..made.start, made.end..lost.end] {
                if rest.start < rest.end {
                    self.0.push((part, rest));
                }
            }
        }
    }

    /// Whether some of these bytes are from before the last write.
    pub fn touches(&self, part: u16, bytes: &Range<u64>) -> bool {
        let overlaps = |lost: &Range<u64>| lost.start < bytes.end && bytes.start < lost.end;
        self.0
            .iter()
            .any(|(other, lost)| *other == part && overlaps(lost))
    }
}

#[cfg(test)]
mod tests {
    use super::Lost;

    #[test]
    fn every_short_history_of_a_few_bytes_is_followed() {
        const LEN: u64 = 4;
        // Each range, lost or made, one after the other, three times.
        let ranges: Vec<(u64, u64)> = (0..LEN)
            .flat_map(|start| (start + 1..=LEN).map(move |end| (start, end)))
            .collect();
        let steps = 2 * ranges.len();
        for history in 0..steps.pow(3) {
            let (mut lost, mut plain) = (Lost::default(), [false; LEN as usize]);
            let mut rest = history;
            for _ in 0..3 {
                let (start, end) = ranges[rest % steps / 2];
                let loses = rest % 2 == 0;
                rest /= steps;
                match loses {
                    true => lost.lose(1, start..end),
                    false => lost.make(1, start..end),
                }
                plain[start as usize..end as usize].fill(loses);
            }
            for byte in 0..LEN {
                let stale = lost.touches(1, &(byte..byte + 1));
                assert_eq!(
                    stale, plain[byte as usize],
                    "byte {byte} of history {history}"
                );
                assert!(!lost.touches(0, &(byte..byte + 1)));
            }
        }
    }
}
