//! The speed of the parts of this machine that bound a lap: the drive, and the memory from
//! which the compute reads. Knows no more of a model than its files.

use std::hint::black_box;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use delayline_engine::ModelFile;
use delayline_medium::device_rate;
use serde::Serialize;

use crate::args::InspectArgs;

/// Bytes per second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Speed {
    pub device_rate_bytes_per_s: f64,
    /// Whether it was measured, not given.
    pub is_measured: bool,
    /// Rate at which all threads together read from memory: for one token each weight is
    /// read once, so this bounds the compute.
    pub memory_rate_bytes_per_s: f64,
}

const MEASURING: Duration = Duration::from_secs(1);
/// Words of 8 bytes that a thread reads: more than a core's caches hold.
const WORDS: usize = 8 << 20;
const PASSES: usize = 4;

impl Speed {
    /// Measured or given, as the arguments say; `None` if they ask for no prediction.
    ///
    /// # Errors
    /// When the drive cannot be measured.
    pub fn of(args: &InspectArgs, file: &ModelFile) -> Result<Option<Self>> {
        let files: Vec<PathBuf> = file.paths();
        let rate = match args.rate {
            Some(rate) => rate,
            None if args.measure => device_rate(&files, MEASURING)?,
            None => return Ok(None),
        };
        let cores = || thread::available_parallelism().map_or(1, |n| n.get());
        let threads = args.engine.threads.map_or_else(cores, |n| n as usize);
        Ok(Some(Self {
            device_rate_bytes_per_s: rate,
            is_measured: args.measure,
            memory_rate_bytes_per_s: memory_rate(threads),
        }))
    }
}

/// Bytes per second that `threads` threads read from memory at once: the sum of their best
/// passes.
fn memory_rate(threads: usize) -> f64 {
    let read = || {
        let words: Vec<u64> = (0..WORDS as u64).collect();
        let pass = || {
            let start = Instant::now();
            let sum = black_box(&words)
                .iter()
                .fold(0, |sum: u64, &word| sum.wrapping_add(word));
            black_box(sum);
            (WORDS * size_of::<u64>()) as f64 / start.elapsed().as_secs_f64()
        };
        (0..PASSES).map(|_| pass()).fold(0.0, f64::max)
    };
    thread::scope(|scope| {
        let readers: Vec<_> = (0..threads).map(|_| scope.spawn(read)).collect();
        let rates = readers.into_iter().map(|reader| reader.join());
        rates
            .map(|rate| rate.expect("adding numbers does not panic"))
            .sum()
    })
}
