//! Chooses the lap of a trace to show, and cuts it from the trace. A lap begins with
//! run 0.

use std::collections::BTreeSet;

use super::trace::{Read, Run, Stretch, Trace};

/// A complete lap: from its run 0 to that of the next lap.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Span {
    /// Its index among the trace's laps.
    pub number: usize,
    pub at: Stretch,
    pub runs: usize,
}

/// Minimum number of decoding laps to take the median of.
const ENOUGH: usize = 3;

/// The laps of a trace except the last, whose end is not known.
pub(crate) fn laps(runs: &[Run]) -> Vec<Span> {
    let starts: Vec<usize> = (0..runs.len()).filter(|i| runs[*i].number == 0).collect();
    let spans = starts.windows(2).enumerate().map(|(number, pair)| Span {
        number,
        at: Stretch {
            from_us: runs[pair[0]].at.from_us,
            to_us: runs[pair[1]].at.from_us,
        },
        runs: pair[1] - pair[0],
    });
    spans.collect()
}

/// The decoding lap of median length.
///
/// A prompt's laps come first. All but the last of them skip the output head and so have
/// fewer runs than a decoding lap. So the decoding laps are those at the end with the same
/// number of runs, without the first of these.
///
/// # Errors
/// A message if there are too few of them.
pub(crate) fn steady(laps: &[Span]) -> Result<Span, String> {
    let alike = laps
        .iter()
        .rev()
        .take_while(|lap| lap.runs == laps[laps.len() - 1].runs);
    let first = laps.len() - alike.count();
    let mut decoding = laps.get(first + 1..).unwrap_or_default().to_vec();
    if decoding.len() < ENOUGH {
        return Err(format!(
            "{} decoding laps are complete, but {ENOUGH} are needed; generate more tokens (`-n 12`)",
            decoding.len()
        ));
    }
    decoding.sort_by(|a, b| a.at.length_us().total_cmp(&b.at.length_us()));
    Ok(decoding.swap_remove((decoding.len() - 1) / 2))
}

impl Stretch {
    pub fn length_us(&self) -> f64 {
        self.to_us - self.from_us
    }

    /// The part of it within `frame`, relative to the frame's beginning.
    fn within(&self, frame: &Stretch) -> Option<Stretch> {
        let (from, to) = (self.from_us.max(frame.from_us), self.to_us.min(frame.to_us));
        // An empty stretch inside is kept; one that ends where the frame begins is not.
        let inside = self.from_us >= frame.from_us || to > from;
        (from <= to && from < frame.to_us && inside).then_some(Stretch {
            from_us: from - frame.from_us,
            to_us: to - frame.from_us,
        })
    }
}

/// A lap with all its events; times are relative to its beginning.
#[derive(Debug)]
pub(crate) struct Lap {
    pub length_us: f64,
    /// Reads under way at some time of the lap.
    pub reads: Vec<Read>,
    /// Compute, without the stalls within.
    pub runs: Vec<Run>,
    pub stalls: Vec<Stretch>,
    /// Times, from 0 on, each with the bytes of the window in use from then on.
    pub window: Vec<(f64, u64)>,
    /// Extents that were read; the others stay in memory.
    pub streamed: BTreeSet<u32>,
    /// Bytes of the reads that ended in this lap.
    pub bytes: u64,
    /// Number of runs before stalls were cut out of them.
    pub run_count: usize,
}

impl Lap {
    /// The part of `trace` in `span`.
    pub fn cut(trace: &Trace, span: &Span) -> Self {
        let frame = span.at;
        let stalls: Vec<Stretch> = trace
            .stalls
            .iter()
            .filter_map(|s| s.within(&frame))
            .collect();
        let mut lap = Self {
            length_us: frame.length_us(),
            reads: Vec::new(),
            runs: Vec::new(),
            stalls,
            window: vec![(0.0, 0)],
            streamed: BTreeSet::new(),
            bytes: 0,
            run_count: span.runs,
        };
        for read in &trace.reads {
            if let Some(at) = read.at.within(&frame) {
                lap.reads.push(Read { at, ..read.clone() });
                lap.streamed.extend(read.extent);
                if read.at.to_us <= frame.to_us {
                    lap.bytes += read.bytes;
                }
            }
        }
        for run in &trace.runs {
            let Some(at) = run.at.within(&frame) else {
                continue;
            };
            for at in without(at, &lap.stalls) {
                lap.runs.push(Run { at, ..run.clone() });
            }
        }
        for &(at, bytes) in &trace.window {
            if at <= frame.from_us {
                lap.window[0].1 = bytes;
            } else if at < frame.to_us {
                lap.window.push((at - frame.from_us, bytes));
            }
        }
        lap
    }

    /// Time in which the compute waited.
    pub fn stall_us(&self) -> f64 {
        self.stalls.iter().map(Stretch::length_us).sum()
    }

    /// Time in which at least one read was under way.
    pub fn reading_us(&self) -> f64 {
        let mut reads: Vec<Stretch> = self.reads.iter().map(|read| read.at).collect();
        reads.sort_by(|a, b| a.from_us.total_cmp(&b.from_us));
        let (mut busy, mut until) = (0.0, 0.0_f64);
        for read in reads {
            busy += (read.to_us - read.from_us.max(until)).max(0.0);
            until = until.max(read.to_us);
        }
        busy
    }

    /// The rank of the streamed extent that a run computes with; `None` if it uses only
    /// resident ones.
    pub fn streamed_by(&self, run: &Run) -> Option<usize> {
        let extent = run
            .extents
            .iter()
            .rev()
            .find(|extent| self.streamed.contains(extent))?;
        Some(self.rank(*extent))
    }

    /// Index of an extent among the streamed ones.
    pub fn rank(&self, extent: u32) -> usize {
        self.streamed.range(..extent).count()
    }
}

/// The pieces of `run` outside `stalls`, which are in order of time.
fn without(run: Stretch, stalls: &[Stretch]) -> Vec<Stretch> {
    let mut pieces = Vec::new();
    let mut from_us = run.from_us;
    for stall in stalls {
        if stall.to_us > from_us && stall.from_us < run.to_us {
            pieces.push(Stretch {
                from_us,
                to_us: stall.from_us.max(from_us),
            });
            from_us = stall.to_us;
        }
    }
    pieces.push(Stretch {
        from_us,
        to_us: run.to_us.max(from_us),
    });
    pieces.retain(|piece| piece.length_us() > 0.0);
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(from_us: f64, to_us: f64) -> Stretch {
        Stretch { from_us, to_us }
    }

    fn run(number: u32, from_us: f64, to_us: f64, extents: &[u32]) -> Run {
        Run {
            at: at(from_us, to_us),
            number,
            extents: extents.to_vec(),
        }
    }

    #[test]
    fn laps_begin_with_run_0() {
        let runs = [
            (0, 1.0),
            (1, 2.0),
            (2, 3.0),
            (0, 5.0),
            (1, 6.0),
            (0, 9.0),
            (1, 10.0),
        ];
        let runs = runs.map(|(number, from)| run(number, from, from + 0.5, &[]));
        let span = |number, at, runs| Span { number, at, runs };
        assert_eq!(
            laps(&runs),
            [span(0, at(1.0, 5.0), 3), span(1, at(5.0, 9.0), 2)]
        );
        assert!(laps(&[]).is_empty());
    }

    #[test]
    fn the_median_of_the_decoding_laps_is_chosen() {
        // Runs and length of each lap; the number of the one to choose.
        let check = |laps: &[(usize, f64)], expect: Option<usize>| {
            let mut start = 0.0;
            let spans: Vec<Span> = laps
                .iter()
                .enumerate()
                .map(|(number, &(runs, length))| {
                    start += length;
                    Span {
                        number,
                        at: at(start - length, start),
                        runs,
                    }
                })
                .collect();
            assert_eq!(
                steady(&spans).ok().map(|lap| lap.number),
                expect,
                "{laps:?}"
            );
        };
        check(&[], None);
        check(&[(9, 50.0), (9, 5.0), (9, 6.0)], None);
        check(&[(9, 50.0), (9, 5.0), (9, 7.0), (9, 6.0)], Some(3));
        // Of an even number, the shorter one in the middle.
        check(
            &[(9, 50.0), (9, 8.0), (9, 5.0), (9, 7.0), (9, 6.0)],
            Some(4),
        );
        // A prompt of three laps, of which only the last has outputs.
        check(
            &[
                (8, 50.0),
                (8, 50.0),
                (9, 40.0),
                (9, 5.0),
                (9, 7.0),
                (9, 6.0),
            ],
            Some(5),
        );
        check(&[(8, 50.0), (8, 50.0), (9, 40.0), (9, 5.0), (9, 7.0)], None);
    }

    #[test]
    fn a_lap_is_cut_from_the_trace() {
        let read = |from, to, extent| Read {
            at: at(from, to),
            lane: 0,
            extent,
            bytes: 10,
        };
        let trace = Trace {
            // Before it, into it, within it, empty, out of it, after it.
            reads: vec![
                read(80.0, 100.0, Some(1)),
                read(90.0, 110.0, Some(3)),
                read(120.0, 130.0, Some(5)),
                read(140.0, 140.0, None),
                read(190.0, 210.0, Some(7)),
                read(200.0, 220.0, Some(9)),
            ],
            runs: vec![
                run(0, 100.0, 150.0, &[2, 3]),
                run(1, 160.0, 190.0, &[2]),
                run(0, 200.0, 230.0, &[]),
            ],
            stalls: vec![at(105.0, 110.0), at(150.0, 160.0), at(230.0, 240.0)],
            window: vec![(50.0, 7), (90.0, 8), (120.0, 9), (200.0, 10)],
        };
        let lap = Lap::cut(&trace, &laps(&trace.runs)[0]);
        assert_eq!(lap.length_us, 100.0);
        let reads: Vec<Stretch> = lap.reads.iter().map(|read| read.at).collect();
        assert_eq!(
            reads,
            [
                at(0.0, 10.0),
                at(20.0, 30.0),
                at(40.0, 40.0),
                at(90.0, 100.0)
            ]
        );
        assert_eq!((lap.bytes, lap.reading_us()), (30, 30.0));
        let runs: Vec<Stretch> = lap.runs.iter().map(|run| run.at).collect();
        assert_eq!(runs, [at(0.0, 5.0), at(10.0, 50.0), at(60.0, 90.0)]);
        assert_eq!((lap.stall_us(), lap.run_count), (15.0, 2));
        assert_eq!(lap.window, [(0.0, 8), (20.0, 9)]);
        let streamed: Vec<Option<usize>> =
            lap.runs.iter().map(|run| lap.streamed_by(run)).collect();
        assert_eq!(streamed, [Some(0), Some(0), None]);
        assert_eq!(lap.rank(7), 2);
    }

    #[test]
    fn stalls_are_cut_out_of_compute() {
        let cases = [
            (vec![], vec![at(10.0, 20.0)]),
            (vec![at(0.0, 10.0), at(20.0, 30.0)], vec![at(10.0, 20.0)]),
            (
                vec![at(5.0, 12.0), at(14.0, 15.0)],
                vec![at(12.0, 14.0), at(15.0, 20.0)],
            ),
            (vec![at(18.0, 25.0)], vec![at(10.0, 18.0)]),
            (vec![at(0.0, 30.0)], vec![]),
        ];
        for (stalls, expect) in cases {
            assert_eq!(without(at(10.0, 20.0), &stalls), expect, "{stalls:?}");
        }
    }
}
