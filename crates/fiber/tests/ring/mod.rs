//! A loop of sixteen pieces in virtual time, for the tests of loops.
#![allow(dead_code, reason = "each test program uses its part")]

use delayline_fiber::{FiberLoop, LoopFigures, LoopSpec, PlacedExtent};
use delayline_line::{Clock, Completion, Medium, Op, Region};
use delayline_medium::{Dram, Faults, Faulty, Link, Memory, Rng, Simulated, VirtualClock};
use delayline_plan::{ALIGN, Extent};
use std::ops::ControlFlow;
use std::sync::Arc;

pub const PIECE: u64 = 4 * ALIGN;
pub const COUNT: u64 = 16;

/// A loop that passes one byte a nanosecond, with a lap of `lap_ns`.
pub fn spec(lap_ns: u64) -> LoopSpec {
    let mut spec = LoopSpec::new(1.0, 8e9);
    spec.overhead = 0.0;
    spec.length_km = lap_ns as f64 * 1e-9 / spec.lap_s();
    spec
}

/// All pieces, each as many pieces after the turn's start as `place` returns.
pub fn placed(place: impl Fn(u64) -> u64) -> Vec<PlacedExtent> {
    let one = |i: u64| PlacedExtent {
        extent: Extent {
            part: 0,
            offset: i * PIECE,
            len: PIECE,
        },
        phase_s: (place(i) * PIECE) as f64 * 1e-9,
    };
    (0..COUNT).map(one).collect()
}

/// A loop full of sixteen pieces, one after the other from 0 on, and a drive behind it of
/// half its rate.
pub struct Bench {
    pub bytes: Vec<u8>,
    pub memory: Arc<Memory>,
    pub region: Region,
    pub clock: VirtualClock,
    pub fiber: FiberLoop<Faulty<Simulated>, VirtualClock>,
}

pub fn bench(change: impl FnOnce(&mut LoopSpec)) -> Bench {
    // The last piece ends with its file, within a page.
    let mut bytes = vec![0; (COUNT * PIECE) as usize - 100];
    Rng::new(5).fill(&mut bytes);
    let (memory, region) = Memory::new(COUNT * PIECE).unwrap();
    let clock = VirtualClock::new();
    let dram = Dram::new(vec![bytes.clone()], memory.clone(), COUNT as usize);
    let link = Link {
        rate_bytes_per_s: 500_000_000,
        latency_ns: 1000,
        depth: COUNT as usize,
        ..Link::default()
    };
    let drive = Simulated::new(link, dram, clock.clone());
    let behind = Faulty::new(drive, Faults::default(), 3);
    let mut spec = spec(COUNT * PIECE);
    change(&mut spec);
    let placed = placed(|i| i);
    let lens = [bytes.len() as u64];
    let measures = (PIECE as u32, COUNT as usize);
    let fiber = FiberLoop::new(
        behind,
        clock.clone(),
        memory.clone(),
        spec,
        &placed,
        measures,
        &lens,
    )
    .unwrap();
    Bench {
        bytes,
        memory,
        region,
        clock,
        fiber,
    }
}

/// Makes the loop `copies` times as long, with as many copies of each piece.
pub fn with_copies(spec: &mut LoopSpec, copies: u32) {
    spec.length_km *= f64::from(copies);
    spec.copies = copies;
}

impl Bench {
    pub fn filled(change: impl FnOnce(&mut LoopSpec)) -> Self {
        let mut bench = bench(change);
        let mut told = Vec::new();
        bench
            .fiber
            .fill(&mut bench.region, 0..bench.memory.len(), |done, all| {
                told.push((done, all));
                ControlFlow::Continue(())
            })
            .unwrap();
        let all = COUNT * PIECE;
        assert!(
            told.iter()
                .zip(1..)
                .all(|(&one, n)| one == (n * PIECE, all)),
            "{told:?}"
        );
        assert_eq!(told.len() as u64, COUNT);
        bench
    }

    pub fn submit(&mut self, piece: u64) {
        // Bytes of an earlier read must not pass for what is read now.
        self.memory
            .copy_in(piece * PIECE, &vec![0xcc; PIECE as usize]);
        let buffer = self.region.lend(piece * PIECE, PIECE as u32);
        self.fiber.submit(Op::read(piece, 0, piece * PIECE, buffer));
    }

    /// Waits for reads and checks their bytes; returns which came, and when.
    pub fn wait(&mut self) -> Vec<(u64, u64)> {
        let mut done = Vec::new();
        self.fiber.poll(true, &mut done);
        done.iter().for_each(|one| self.judge(one));
        let now_ns = self.clock.now_ns();
        let came = done.into_iter().map(|one| {
            self.region.take_back(one.buffer);
            (one.id, now_ns)
        });
        came.collect()
    }

    pub fn judge(&self, done: &Completion) {
        let from = (done.id * PIECE) as usize;
        let expect = &self.bytes[from..self.bytes.len().min(from + PIECE as usize)];
        assert_eq!(done.result, Ok(expect.len() as u32), "piece {}", done.id);
        let mut got = vec![0; expect.len()];
        self.memory.copy_out(done.buffer.at(), &mut got);
        assert!(got == expect, "wrong bytes of piece {}", done.id);
    }

    /// Takes all pieces once, all asked for at the start.
    pub fn lap(&mut self) {
        (0..COUNT).for_each(|piece| self.submit(piece));
        let mut came = 0;
        while came < COUNT {
            came += self.wait().len() as u64;
        }
    }

    pub fn figures(&self) -> LoopFigures {
        // Whether the host is late says nothing in virtual time.
        LoopFigures {
            pieces_late: 0,
            ..self.fiber.gauge().figures()
        }
    }
}
