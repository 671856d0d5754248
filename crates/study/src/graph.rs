//! Replays the feature rows of a graph's mini-batches on a drive: under the loader's own
//! look-ahead, Belady's policy, SIEVE and LRU, each missed row read singly or in sweeps. Times
//! are predicted from the drive's two limits, reads a second and bytes a second.

use std::ops::Range;

use delayline_graph::{Error, RowTrace};
use delayline_plan::{ALIGN, ReadCost, RowPolicy, replay_rows, sweep};
use rayon::prelude::*;
use serde_json::json;

use crate::interval::Interval;
use crate::report::{Axis, Plot, PlotShape, Report, ReportTable, Whisker, format};

/// Longest read of a sweep, as the loader's largest.
const READ_MAX: u64 = 1 << 20;

/// The loader's tables over the memory that it is given, at most.
const TABLES: f64 = 0.15;

/// A drive by its two limits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GraphDrive {
    /// What it is called.
    pub name: &'static str,
    /// What it stands for.
    pub what: &'static str,
    /// Reads a second.
    pub reads_per_s: f64,
    /// Bytes a second.
    pub bytes_per_s: f64,
}

impl GraphDrive {
    /// Those with a name.
    pub const ALL: [Self; 4] = [
        Self {
            name: "cloud",
            what: "a network disk as it is rented without extras (gp3)",
            reads_per_s: 3_000.0,
            bytes_per_s: 125e6,
        },
        Self {
            name: "cloud-most",
            what: "the same with as much as could long be added",
            reads_per_s: 16_000.0,
            bytes_per_s: 1e9,
        },
        Self {
            name: "virtual",
            what: "the disk of the virtual machine that we measured, at depth 128",
            reads_per_s: 123_000.0,
            bytes_per_s: 1.4e9,
        },
        Self {
            name: "nvme",
            what: "a local drive on four lanes of PCIe 4",
            reads_per_s: 1e6,
            bytes_per_s: 7e9,
        },
    ];

    /// By its name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|drive| drive.name == name)
    }

    fn cost(&self) -> ReadCost {
        ReadCost {
            read_s: 1.0 / self.reads_per_s,
            bytes_per_s: self.bytes_per_s,
        }
    }

    fn seconds(&self, reads: Reads) -> f64 {
        (reads.count as f64 / self.reads_per_s).max(reads.bytes as f64 / self.bytes_per_s)
    }
}

/// Reads and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Reads {
    count: u64,
    bytes: u64,
}

impl Reads {
    fn add(&mut self, read: &Range<u64>) {
        self.count += 1;
        self.bytes += read.end - read.start;
    }
}

/// What one policy does on a drive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GraphRow {
    /// Name of the drive.
    pub drive: &'static str,
    /// Name of the policy.
    pub policy: &'static str,
    /// Whether the program uses it.
    pub is_default: bool,
    /// Memory as a share of the file.
    pub share: f64,
    /// Rows of all batches that were not in memory.
    pub missed: u64,
    /// Seconds when each of them is a read of its pages.
    pub single_s: f64,
    /// Seconds in sweeps: over batches for the loader, over one for the others.
    pub swept_s: f64,
    /// Reads of the sweeps.
    pub reads: u64,
    /// Bytes of the sweeps.
    pub bytes: u64,
}

/// The loader's own, and those beside it.
const POLICIES: [(&str, Option<RowPolicy>); 4] = [
    ("look-ahead", None),
    ("belady", Some(RowPolicy::Belady)),
    ("sieve", Some(RowPolicy::Sieve)),
    ("lru", Some(RowPolicy::Lru)),
];

/// A replay: memory as a share of the file, a policy, and drives for which it is the same.
type Case<'a> = (f64, (&'static str, Option<RowPolicy>), &'a [GraphDrive]);

/// How many replays [`replayed`] makes.
pub fn replays(shares: usize, drives: usize) -> usize {
    shares * (POLICIES.len() - 1 + drives)
}

/// Replays a trace under all policies with memories of these shares of the file, on all
/// drives. `told` is called after each replay, from any thread.
///
/// # Errors
/// [`Error::Budget`] where a memory is too small.
pub fn replayed(
    trace: &RowTrace,
    shares: &[f64],
    drives: &[GraphDrive],
    told: &(dyn Fn() + Sync),
) -> Result<Vec<GraphRow>, Error> {
    // The look-ahead reads by what a drive is; what the others miss is the same on all.
    let apart = |rival: Option<RowPolicy>| match rival {
        None => 1,
        Some(_) => drives.len().max(1),
    };
    for &share in shares {
        check_memory(share * trace.rows as f64 * trace.row_len as f64)?;
    }
    let mut cases: Vec<Case> = Vec::new();
    for &share in shares {
        for policy in POLICIES {
            let chunks = drives.chunks(apart(policy.1));
            cases.extend(chunks.map(|drives| (share, policy, drives)));
        }
    }
    let rows = |&(share, (policy, rival), drives): &Case| {
        let memory = (share * trace.rows as f64 * trace.row_len as f64) as u64;
        let mut done: Vec<Replay> = drives
            .iter()
            .map(|drive| Replay::new(trace, drive))
            .collect();
        let mut swept = |rows: &[u32]| done.iter_mut().for_each(|replay| replay.swept(rows));
        match rival {
            None => trace.ahead(memory, &drives[0].cost(), swept)?,
            Some(rival) => {
                let slots = trace.rows_kept(memory)? as usize;
                let (mut batch, mut missed) = (0, Vec::new());
                replay_rows(
                    &trace.batches,
                    trace.rows as usize,
                    slots,
                    rival,
                    |at, row| {
                        if at != batch {
                            missed.sort_unstable();
                            swept(&missed);
                            (batch, missed) = (at, Vec::new());
                        }
                        missed.push(row);
                    },
                );
                missed.sort_unstable();
                swept(&missed);
            }
        }
        let row = |done: Replay| GraphRow {
            drive: done.drive.name,
            policy,
            is_default: rival.is_none(),
            share,
            missed: done.single.count,
            single_s: done.drive.seconds(done.single),
            swept_s: done.swept_s,
            reads: done.reads.count,
            bytes: done.reads.bytes,
        };
        told();
        Ok(done.into_iter().map(row).collect())
    };
    let all: Result<Vec<Vec<GraphRow>>, Error> = cases.par_iter().map(rows).collect();
    Ok(all?.into_iter().flatten().collect())
}

/// The loader's tables grow with the memory that it is given, and the replay has them all.
fn check_memory(memory: f64) -> Result<(), Error> {
    let tables = (memory * TABLES) as usize;
    match Vec::<u8>::new().try_reserve_exact(tables) {
        Ok(()) => Ok(()),
        Err(_) => Err(Error::Graph(format!(
            "the loader's tables for a memory of {} do not fit into that of this machine; take \
             a smaller share, fewer rows or shorter ones",
            format::si(memory, "B")
        ))),
    }
}

/// What was read so far.
struct Replay<'a> {
    row_len: u64,
    drive: &'a GraphDrive,
    single: Reads,
    reads: Reads,
    swept_s: f64,
}

impl<'a> Replay<'a> {
    fn new(trace: &RowTrace, drive: &'a GraphDrive) -> Self {
        Self {
            row_len: trace.row_len,
            drive,
            single: Reads::default(),
            reads: Reads::default(),
            swept_s: 0.0,
        }
    }

    /// Rows in order of place, read together.
    fn swept(&mut self, rows: &[u32]) {
        let place = |&row: &u32| {
            let start = u64::from(row) * self.row_len;
            start..start + self.row_len
        };
        for row in rows.iter().map(place) {
            let pages = row.start / ALIGN * ALIGN..row.end.next_multiple_of(ALIGN);
            self.single.add(&pages);
        }
        let mut together = Reads::default();
        for read in sweep(rows.iter().map(place), self.drive.cost().gap(), READ_MAX) {
            together.add(&read);
        }
        self.reads.count += together.count;
        self.reads.bytes += together.bytes;
        self.swept_s += self.drive.seconds(together);
    }
}

/// The same as a report. `told` is called after each replay, from any thread.
///
/// # Errors
/// [`Error::Budget`] where a memory is too small.
pub fn graph_report(
    name: &str,
    trace: &RowTrace,
    shares: &[f64],
    drives: &[GraphDrive],
    told: &(dyn Fn() + Sync),
) -> Result<Report, Error> {
    let wanted: u64 = trace.batches.iter().map(|batch| batch.len() as u64).sum();
    let mut report = Report {
        title: format!(
            "Predicted: {} of {name}, {wanted} of {} of {}, read from a drive",
            match trace.batches.len() {
                1 => "1 batch".to_owned(),
                batches => format!("{batches} batches"),
            },
            format::counted(trace.rows, "row"),
            format::si(trace.row_len as f64, "B"),
        ),
        notes: vec![
            "Predicted, not measured: seconds are the longer of reads and bytes at the drive's \
             two limits, sweep by sweep; nobody computes, and drives have no other faults."
                .to_owned(),
            "look-ahead is what the loader does, with its own division of the memory; the others \
             keep as many rows. Singly each missed row is a read of its pages. In sweeps pages \
             and short gaps are shared: by the loader among all batches that it reads together, \
             by the others within a batch. belady knows the whole trace and is out of reach."
                .to_owned(),
        ],
        ..Report::default()
    };
    let (mut answers, mut objects) = (Vec::new(), Vec::new());
    let all = replayed(trace, shares, drives, told)?;
    for drive in drives {
        let rows = || all.iter().filter(|row| row.drive == drive.name);
        let mut table = ReportTable::new(
            &format!(
                "{}: {}, {:.0} reads/s, {}",
                drive.name,
                drive.what,
                drive.reads_per_s,
                format::si(drive.bytes_per_s, "B/s")
            ),
            &[
                "policy",
                "memory",
                "missed",
                "singly",
                "in sweeps",
                "reads",
                "bytes",
            ],
        );
        for row in rows() {
            table.row([
                row.policy.to_owned(),
                format::percent(row.share),
                format::percent(row.missed as f64 / wanted.max(1) as f64),
                format::si(row.single_s, "s"),
                format::si(row.swept_s, "s"),
                row.reads.to_string(),
                format::si(row.bytes as f64, "B"),
            ]);
            objects.push(row_json(trace, drive, row));
        }
        report.tables.push(table);
        report.plots.push(plot(drive, rows()));
        answers.extend(rows().filter(|row| row.is_default).map(|row| {
            let times = row.single_s / row.swept_s.max(f64::MIN_POSITIVE);
            let share = format::percent(row.share);
            format!(
                "{} × on {} with {share} in memory",
                format::digits(times),
                drive.name
            )
        }));
    }
    report.answer = format!(
        "Sweeps over the file are predicted to be faster than a read a row by {}.",
        answers.join(", ")
    );
    report.json = objects.into();
    Ok(report)
}

/// What an epoch's reads take on a drive, singly and in sweeps.
fn plot<'a>(drive: &GraphDrive, rows: impl Iterator<Item = &'a GraphRow>) -> Plot {
    let whiskers = rows.flat_map(|row| {
        let memory = format::percent(row.share);
        let whisker = |how: &str, seconds| Whisker {
            name: format!("{}, {memory}, {how}", row.policy),
            value: Interval::exact(seconds),
        };
        [
            whisker("singly", row.single_s),
            whisker("in sweeps", row.swept_s),
        ]
    });
    Plot {
        title: format!("What the reads take on {}", drive.name),
        caption: "Predicted, from the drive's two limits.".to_owned(),
        shape: PlotShape::Whiskers {
            x: Axis::log("time", "s"),
            rows: whiskers.collect(),
        },
    }
}

fn row_json(trace: &RowTrace, drive: &GraphDrive, row: &GraphRow) -> serde_json::Value {
    json!({
        "policy": row.policy, "default": row.is_default, "predicted": true,
        "drive": drive.name, "reads_per_s": drive.reads_per_s, "bytes_per_s": drive.bytes_per_s,
        "share": row.share, "batches": trace.batches.len(), "rows_missed": row.missed,
        "single_s": row.single_s, "swept_s": row.swept_s,
        "reads": row.reads, "bytes_read": row.bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use delayline_graph::TraceShape;

    fn trace() -> RowTrace {
        let shape = TraceShape {
            rows: 500_000,
            row_len: 512,
            batches: 100,
            draws: 3_000,
            skew: 0.7,
            seed: 1,
        };
        RowTrace::drawn(&shape).expect("a trace")
    }

    #[test]
    fn sweeps_pay_where_reads_are_few_and_policies_are_ordered() {
        let times = |name| {
            let drive = GraphDrive::named(name).expect("a drive");
            let rows = replayed(&trace(), &[0.125], &[drive], &|| ()).expect("it fits");
            let [ours, belady, sieve, lru] = rows[..] else {
                panic!("four policies: {rows:?}")
            };
            assert!(belady.missed <= ours.missed && ours.missed < sieve.missed.min(lru.missed));
            for row in &rows {
                assert!(row.reads <= row.missed, "{row:?}");
            }
            ours.single_s / ours.swept_s
        };
        let (poor, rich) = (times("cloud"), times("nvme"));
        assert!(poor >= 2.0, "{poor}");
        assert!((1.0..poor).contains(&rich), "{rich} beside {poor}");
    }

    /// What is replayed once for all drives is what each would have alone.
    #[test]
    fn drives_side_by_side_are_each_as_alone() {
        let (trace, shares) = (trace(), [0.05, 0.125]);
        let drives = GraphDrive::ALL;
        let together = replayed(&trace, &shares, &drives, &|| ()).expect("it fits");
        assert_eq!(together.len(), shares.len() * POLICIES.len() * drives.len());
        for drive in drives {
            let alone = replayed(&trace, &shares, &[drive], &|| ()).expect("it fits");
            let of_it = together.iter().filter(|row| row.drive == drive.name);
            assert!(of_it.eq(&alone), "{}", drive.name);
        }
    }

    #[test]
    fn a_sweep_over_everything_is_the_file_and_single_reads_are_pages() {
        let drive = GraphDrive::named("cloud").expect("a drive");
        let shape = TraceShape {
            rows: 8_192,
            row_len: 4_096,
            batches: 1,
            draws: 100_000,
            skew: 0.0,
            seed: 1,
        };
        let trace = RowTrace::drawn(&shape).expect("a trace");
        let mut done = Replay::new(&trace, &drive);
        done.swept(&(0..8_192).collect::<Vec<u32>>());
        let whole = Reads {
            count: 32,
            bytes: 32 << 20,
        };
        assert_eq!(done.reads, whole);
        assert_eq!(done.single.count, 8_192);
        assert_eq!(drive.seconds(done.single), 8_192.0 / 3_000.0);
        assert_eq!(done.swept_s, f64::from(32 << 20) / 125e6);
    }

    /// Memory whose tables this machine cannot hold is refused; each replay is told.
    #[test]
    fn tables_that_do_not_fit_are_refused_and_replays_are_counted() {
        let mut trace = trace();
        let count = std::sync::atomic::AtomicUsize::new(0);
        let told = || {
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        };
        let drives = &GraphDrive::ALL[..2];
        replayed(&trace, &[0.125, 0.25], drives, &told).expect("it fits");
        assert_eq!(count.into_inner(), replays(2, 2));
        trace.row_len = 1 << 50;
        let error = replayed(&trace, &[0.125], drives, &|| ()).expect_err("too large");
        assert!(error.to_string().contains("do not fit"), "{error}");
    }
}
