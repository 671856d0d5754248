//! How many extents a second the engine alone can handle: a medium that does
//! nothing at all, in time that stands still.

use std::time::Instant;

use delayline_line::{Clock, Completion, Config, Line, Medium, Read};
use delayline_plan::{ALIGN, Extent, ExtentId};

struct Nothing(Vec<Completion>);

impl Medium for Nothing {
    fn depth(&self) -> usize {
        32
    }

    fn submit(&mut self, read: Read) {
        let len = read.slot.len();
        self.0.push(Completion {
            id: read.id,
            slot: read.slot,
            result: Ok(len),
        });
    }

    fn poll(&mut self, _wait: bool, done: &mut Vec<Completion>) {
        done.append(&mut self.0);
    }
}

struct Still;

impl Clock for Still {
    fn now_ns(&self) -> u64 {
        0
    }
}

fn main() -> Result<(), delayline_line::LineError> {
    const EXTENTS: u64 = 1000;
    const LAPS: u64 = 3000;
    let extents: Vec<Extent> = (0..EXTENTS)
        .map(|n| Extent {
            part: 0,
            offset: n * 4 * ALIGN,
            len: 4 * ALIGN,
        })
        .collect();
    // A quarter stays.
    let homes = (0..EXTENTS)
        .map(|n| (n % 4 == 0).then_some((256 + 4 * n) * ALIGN))
        .collect();
    let config = Config {
        window: 256 * ALIGN,
        read_len: 2 * ALIGN as u32,
        retries: 0,
    };
    let part_lens = vec![EXTENTS * 4 * ALIGN];
    let mut line = Line::new(
        Nothing(Vec::new()),
        Still,
        extents,
        part_lens,
        homes,
        config,
    )?;
    let ids = || (0..EXTENTS as u32).map(ExtentId);
    let start = Instant::now();
    line.lay(ids());
    for _ in 0..LAPS {
        line.lay(ids());
        for id in ids() {
            let lease = line.acquire(id)?;
            line.release(lease);
            line.pump()?;
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let counters = line.counters();
    println!(
        "{:.1} million extents/s, {:.1} million reads/s, {} stalls",
        (EXTENTS * LAPS) as f64 / seconds / 1e6,
        counters.reads as f64 / seconds / 1e6,
        counters.stalls,
    );
    Ok(())
}
