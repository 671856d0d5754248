//! Measures how many extents per second the line itself can handle, over a medium that
//! moves no bytes and a clock that stands still.

use std::time::Instant;

use delayline_line::{
    Caps, Clock, Completion, Config, Line, LineError, LineSetup, Medium, MediumEvent, Op, Region,
    Stats,
};
use delayline_plan::{ALIGN, Extent, ExtentId};

struct Nothing {
    caps: Caps,
    done: Vec<Completion>,
}

impl Medium for Nothing {
    fn caps(&self) -> &Caps {
        &self.caps
    }

    fn submit(&mut self, op: Op) {
        let len = op.buffer.len();
        self.done.push(op.complete(Ok(len)));
    }

    fn poll(&mut self, _wait: bool, done: &mut Vec<Completion>) {
        done.append(&mut self.done);
    }

    fn stats(&self) -> Stats {
        Stats::default()
    }

    fn events(&mut self, _: &mut Vec<MediumEvent>) {}
}

struct Still;

impl Clock for Still {
    fn now_ns(&self) -> u64 {
        0
    }
}

fn main() -> Result<(), LineError> {
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
    let setup = LineSetup {
        extents,
        part_lens: vec![EXTENTS * 4 * ALIGN],
        homes,
        config,
    };
    let nothing = Nothing {
        caps: Caps {
            depth: 32,
            ..Caps::default()
        },
        done: Vec::new(),
    };
    let region = Region::new((256 + 4 * EXTENTS) * ALIGN);
    let mut line = Line::new(nothing, Still, region, setup)?;
    let ids = || (0..EXTENTS as u32).map(ExtentId);
    let start = Instant::now();
    line.enqueue(ids());
    for _ in 0..LAPS {
        line.enqueue(ids());
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
