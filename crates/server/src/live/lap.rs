//! Turns the engine's marks of a lap into what the page shows: coarser, and by place in the
//! lap instead of by time.

use delayline_engine::watch::{self, Stretch};

use super::{BINS, Bins};

/// Joins neighbouring stretches of one kind, up to 1 % of the lap.
pub fn stretches(fine: &[Stretch]) -> Vec<Stretch> {
    let all: u64 = fine.iter().map(|stretch| stretch.bytes).sum();
    let mut coarse: Vec<Stretch> = Vec::new();
    for stretch in fine {
        match coarse.last_mut() {
            Some(last) if last.kind == stretch.kind && last.bytes + stretch.bytes <= all / 100 => {
                last.bytes += stretch.bytes;
            }
            _ => coarse.push(*stretch),
        }
    }
    coarse
}

impl Bins {
    /// The bins of a lap with these marks, over `len` bytes; `None` if either is empty.
    pub fn of(marks: &[watch::Mark], len: u64) -> Option<Self> {
        if marks.is_empty() || len == 0 {
            return None;
        }
        let mut compute_ns = vec![0.0; BINS];
        let mut stall_ns = vec![0.0; BINS];
        let width = len as f64 / BINS as f64;
        let bin_of = |place: f64| ((place / width) as usize).min(BINS - 1);
        stall_ns[bin_of(marks[0].place as f64)] += marks[0].stall_ns as f64;
        for pair in marks.windows(2) {
            let (from, to) = (pair[0].place as f64, pair[1].place as f64);
            let stalled = (pair[1].stall_ns - pair[0].stall_ns) as f64;
            let took = (pair[1].at_ns - pair[0].at_ns) as f64;
            stall_ns[bin_of(to)] += stalled;
            // The compute time of a run is spread evenly over its bytes.
            for (bin, spent) in compute_ns
                .iter_mut()
                .enumerate()
                .take(bin_of(to) + 1)
                .skip(bin_of(from))
            {
                let start = width * bin as f64;
                let part = (to.min(start + width) - from.max(start)).max(0.0);
                let share = if to > from { part / (to - from) } else { 1.0 };
                *spent += (took - stalled).max(0.0) * share;
            }
        }
        let arrived = |bin: usize| {
            let start = (width * bin as f64) as u64;
            let begun = marks.partition_point(|mark| mark.place <= start);
            marks[begun.saturating_sub(1)].arrived
        };
        let in_us = |ns: Vec<f64>| ns.iter().map(|ns| (ns / 1e3).round() as u32).collect();
        Some(Self {
            compute_us: in_us(compute_ns),
            stall_us: in_us(stall_ns),
            arrived_bytes: (0..BINS).map(arrived).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use delayline_engine::watch::StretchKind;

    use super::*;

    fn mark(place: u64, at_us: u64, stall_us: u64, arrived: u64) -> watch::Mark {
        watch::Mark {
            place,
            at_ns: at_us * 1000,
            stall_ns: stall_us * 1000,
            bytes_read: 0,
            arrived,
        }
    }

    #[test]
    fn stretches_are_joined_up_to_one_percent() {
        let stretch = |bytes, kind| Stretch { bytes, kind };
        let (stays, streams) = (StretchKind::Resident, StretchKind::Streamed);
        let fine = [
            stretch(4, stays),
            stretch(5, stays),
            stretch(2, stays),
            stretch(1, streams),
            stretch(988, streams),
        ];
        assert_eq!(
            stretches(&fine),
            [
                stretch(9, stays),
                stretch(2, stays),
                stretch(1, streams),
                stretch(988, streams),
            ]
        );
        assert_eq!(stretches(&[]), []);
    }

    #[test]
    fn time_is_told_by_place() {
        let len = BINS as u64 * 10;
        // Waits 3 at the start, computes 20 over two parts, waits 5 at their end,
        // computes 7 within one part, and 62 over the rest.
        let marks = [
            mark(0, 3, 3, 1),
            mark(20, 28, 8, 2),
            mark(25, 35, 8, 3),
            mark(len, 97, 8, 4),
        ];
        let bins = Bins::of(&marks, len).expect("marks");
        assert_eq!(bins.stall_us[..4], [3, 0, 5, 0]);
        assert_eq!(bins.compute_us[..2], [10, 10]);
        // 62 over 615 bytes, of which 5 are in the third part.
        assert_eq!(bins.compute_us[2..4], [8, 1]);
        assert_eq!(bins.arrived_bytes[..4], [1, 1, 2, 3]);
        for list in [&bins.compute_us, &bins.stall_us] {
            assert_eq!(list.len(), BINS);
        }
        let stall: u32 = bins.stall_us.iter().sum();
        assert_eq!(stall, 8);
    }

    #[test]
    fn nothing_is_lost_at_the_ends() {
        let all_at_once = [mark(0, 0, 0, 0), mark(640, 1000, 360, 0)];
        let bins = Bins::of(&all_at_once, 640).expect("marks");
        assert_eq!(bins.stall_us[BINS - 1], 360);
        assert_eq!(bins.compute_us.iter().sum::<u32>(), 640);
        let no_way = [mark(640, 0, 0, 0), mark(640, 50, 10, 0)];
        let bins = Bins::of(&no_way, 640).expect("marks");
        assert_eq!(
            (bins.compute_us[BINS - 1], bins.stall_us[BINS - 1]),
            (40, 10)
        );
        assert_eq!(Bins::of(&[], 640), None);
        assert_eq!(Bins::of(&all_at_once, 0), None);
    }
}
