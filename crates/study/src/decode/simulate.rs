//! Laps of the real line in virtual time. Knows bytes, rates and the order in
//! which a lap uses its weights; does not know what they cost or what they are.
//!
//! Virtual time is counted in ticks. How long a tick is follows from the lap:
//! short enough that an extent takes thousands of them, and such that the rate
//! is a whole number of bytes in 10⁹ ticks, which is what the simulated medium
//! takes. So it makes no difference whether a machine is of mercury or of light.

use std::collections::VecDeque;

use delayline_line::{Clock, Config, Line, LineError, Span, Ticket};
use delayline_medium::{Link, Simulated, Source, VirtualClock};
use delayline_plan::{ALIGN, Extent, ExtentId, Memory, NEAR_BYTES, Plan, Run, Schedule, choose};

/// About how many ticks a lap is to take.
const LAP_TICKS: f64 = 1e11;
/// The medium's time unit in ticks.
const PER_RATE: f64 = 1e9;
/// Largest extent, in bytes; longer reads gain nothing (see `plan`).
const EXTENT_MAX: u64 = 4 << 20;
/// How many extents a window holds at least.
const EXTENTS_A_WINDOW: u64 = 16;
/// Most reads at once.
const DEPTH_MAX: usize = 4096;

/// A machine: a medium, a window and what a lap computes.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    /// What the medium delivers, in bytes per second.
    pub rate_bytes_per_s: f64,
    /// From the last byte leaving until the read is there, in seconds.
    pub latency_s: f64,
    /// The window, in bytes.
    pub window_bytes: u64,
    /// Memory for weights that stay, in bytes.
    pub resident_bytes: u64,
    /// Compute of a lap that never waits, in seconds.
    pub compute_s: f64,
}

/// What a lap uses, in order: so many layers, each of certain weights and then
/// of weights known only when it gets there.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// Lengths of the certain weights' extents in bytes, in order of use.
    pub extents: Vec<u64>,
    /// After how many of the extents each layer's choice is made.
    pub layers: Vec<usize>,
    /// What is chosen in a layer, in bytes, on average.
    pub chosen_bytes: f64,
}

/// What a lap took, in the steady state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lap {
    /// From lap to lap, in seconds.
    pub lap_s: f64,
    /// The part of it that the compute waited, in seconds.
    pub stall_s: f64,
    /// Bytes that it took from the medium.
    pub streamed_bytes: f64,
    /// Extents and pieces that passed in the whole simulation.
    pub events: u64,
}

impl Load {
    /// Even layers: `dense_bytes` of certain weights and `chosen_bytes` of
    /// chosen ones spread over `layers`, in extents that suit the window.
    pub fn even(layers: u32, dense_bytes: f64, chosen_bytes: f64, window_bytes: u64) -> Self {
        let extent = extent_bytes(window_bytes);
        let layers = layers.max(1);
        let each = dense_bytes / f64::from(layers);
        let pieces = (each / extent as f64).ceil().max(1.0);
        let len = align(each / pieces);
        let extents = vec![len; pieces as usize * layers as usize];
        let layers: Vec<usize> = (1..=layers as usize).map(|n| n * pieces as usize).collect();
        Self {
            extents,
            chosen_bytes: chosen_bytes / layers.len() as f64,
            layers,
        }
    }

    /// The bytes of the certain weights.
    pub fn dense_bytes(&self) -> u64 {
        self.extents.iter().sum()
    }

    fn lap_bytes(&self) -> f64 {
        self.dense_bytes() as f64 + self.chosen_bytes * self.layers.len() as f64
    }
}

/// The length of extents that suits a window, in bytes.
pub fn extent_bytes(window_bytes: u64) -> u64 {
    let len = (window_bytes / EXTENTS_A_WINDOW).min(EXTENT_MAX);
    (len / ALIGN * ALIGN).max(ALIGN)
}

fn align(bytes: f64) -> u64 {
    (bytes / ALIGN as f64).ceil().max(1.0) as u64 * ALIGN
}

/// Runs one lap to fill the window and `laps` more, and tells the average of
/// those.
///
/// # Errors
/// [`LineError`] when the window is too small for what is leased together.
pub fn simulate(machine: &Machine, load: &Load, laps: u32) -> Result<Lap, LineError> {
    let mut simulation = Simulation::new(machine, load)?;
    simulation.line.lay(simulation.ids());
    simulation.lap()?;
    let (start, before) = (simulation.clock.now_ns(), simulation.line.counters());
    for _ in 0..laps {
        simulation.lap()?;
    }
    let counters = simulation.line.counters();
    let each = f64::from(laps) * simulation.ticks_per_s;
    Ok(Lap {
        lap_s: (simulation.clock.now_ns() - start) as f64 / each,
        stall_s: (counters.stall_ns - before.stall_ns) as f64 / each,
        streamed_bytes: (counters.bytes_read - before.bytes_read) as f64 / f64::from(laps),
        events: simulation.events,
    })
}

struct Simulation<'a> {
    load: &'a Load,
    line: Line<Simulated, VirtualClock>,
    clock: VirtualClock,
    ticks_per_s: f64,
    /// Ticks of compute for a byte that is used.
    ticks_a_byte: f64,
    /// Ticks of compute that are not yet whole.
    fraction: f64,
    scratch: Scratch,
    events: u64,
}

/// Where chosen weights go: a ring of pieces behind everything else.
struct Scratch {
    /// Length of a piece in bytes.
    piece: u64,
    /// How many there is room for.
    pieces: u64,
    /// Memory position of the first.
    at: u64,
    /// Where the chosen weights begin in the medium, in bytes.
    offset: u64,
    /// Bytes of a choice that are not yet whole pieces.
    fraction: f64,
}

impl<'a> Simulation<'a> {
    fn new(machine: &Machine, load: &'a Load) -> Result<Self, LineError> {
        let piece = extent_bytes(machine.window_bytes);
        let mixed = load.chosen_bytes > 0.0;
        // What is chosen needs room too: half of the window is its.
        let share = if mixed { 2 } else { 1 };
        let window = machine.window_bytes / share / ALIGN * ALIGN;
        let mut offset = 0;
        let extents: Vec<Extent> = load
            .extents
            .iter()
            .map(|&len| {
                offset += len;
                Extent {
                    part: 0,
                    offset: offset - len,
                    len,
                }
            })
            .collect();
        let (homes, behind, window) = homes(&extents, window, machine.resident_bytes);
        let scratch = Scratch {
            piece,
            pieces: (machine.window_bytes / 2 / piece).max(2),
            at: behind,
            offset,
            fraction: 0.0,
        };
        let chosen = align(2.0 * load.chosen_bytes) + 2 * piece;
        let part_len = offset + if mixed { chosen } else { 0 };

        // A tick such that the rate is a whole number a unit of the medium.
        let bytes = load.lap_bytes();
        let rate = (bytes * PER_RATE / LAP_TICKS).round().max(1.0);
        let ticks_per_s = machine.rate_bytes_per_s * PER_RATE / rate;
        let in_window = window.div_ceil(piece) + scratch.pieces;
        let link = Link {
            rate_bytes_per_s: rate as u64,
            latency_ns: (machine.latency_s * ticks_per_s).round() as u64,
            depth: (in_window as usize + 1).min(DEPTH_MAX),
        };
        let clock = VirtualClock::new();
        let medium = Simulated::new(link, Source::Lengths(vec![part_len]), clock.clone());
        let longest = extents.iter().map(|e| e.len).max().unwrap_or(ALIGN);
        let config = Config {
            window,
            read_len: longest.min(1 << 30).max(piece) as u32,
            retries: 0,
        };
        let line = Line::new(
            medium,
            clock.clone(),
            extents,
            vec![part_len],
            homes,
            config,
        )?;
        Ok(Self {
            load,
            line,
            clock,
            ticks_per_s,
            ticks_a_byte: machine.compute_s * ticks_per_s / bytes,
            fraction: 0.0,
            scratch,
            events: 0,
        })
    }

    fn ids(&self) -> impl Iterator<Item = ExtentId> + use<> {
        (0..self.load.extents.len() as u32).map(ExtentId)
    }

    /// One pass over the plan; the next is laid at its start, so that reading
    /// goes on across its end.
    fn lap(&mut self) -> Result<(), LineError> {
        self.line.lay(self.ids());
        let mut next = 0;
        for layer in 0..self.load.layers.len() {
            while next < self.load.layers[layer] {
                let lease = self.line.acquire(ExtentId(next as u32))?;
                self.compute(self.load.extents[next] as f64);
                self.line.release(lease);
                self.line.pump()?;
                next += 1;
            }
            if self.load.chosen_bytes > 0.0 {
                self.choice()?;
            }
        }
        Ok(())
    }

    /// What a router has just chosen: fetched in pieces ahead of all prefetch,
    /// as many at once as there is room for.
    fn choice(&mut self) -> Result<(), LineError> {
        let exact = self.load.chosen_bytes + self.scratch.fraction;
        let pieces = (exact / self.scratch.piece as f64).floor() as u64;
        self.scratch.fraction = exact - (pieces * self.scratch.piece) as f64;
        let mut asked: VecDeque<Ticket> = VecDeque::new();
        let mut next = 0;
        for _ in 0..pieces {
            while next < pieces && (asked.len() as u64) < self.scratch.pieces {
                asked.push_back(self.line.fetch(&[self.scratch.span(next)]));
                next += 1;
            }
            let ticket = asked.pop_front().expect("there is one for each piece");
            self.line.fetched(ticket)?;
            self.compute(self.scratch.piece as f64);
            self.line.pump()?;
        }
        Ok(())
    }

    fn compute(&mut self, bytes: f64) {
        self.events += 1;
        let exact = bytes * self.ticks_a_byte + self.fraction;
        self.fraction = exact.fract();
        self.clock.advance_ns(exact as u64);
    }
}

impl Scratch {
    fn span(&self, index: u64) -> Span {
        Span {
            part: 0,
            offset: self.offset + index * self.piece,
            len: self.piece,
            at: self.at + index % self.pieces * self.piece,
        }
    }
}

/// Which extents stay and where, the first position behind all of them, and
/// the window. What stays is chosen as the program chooses it.
fn homes(extents: &[Extent], window: u64, resident: u64) -> (Vec<Option<u64>>, u64, u64) {
    let total: u64 = extents.iter().map(|extent| extent.len).sum();
    if resident == 0 && total > window {
        return (vec![None; extents.len()], window, window);
    }
    let run = |(index, extent): (usize, &Extent)| Run {
        needs: vec![ExtentId(index as u32)],
        compute: extent.len as f64,
    };
    let plan = Plan {
        extents: extents.to_vec(),
        runs: extents.iter().enumerate().map(run).collect(),
    };
    let schedule = Schedule::new(&plan, NEAR_BYTES);
    let longest = extents.iter().map(|extent| extent.len).max().unwrap_or(0);
    let memory = Memory {
        available: window + resident,
        lookahead: window.saturating_sub(longest),
    };
    let Ok(choice) = choose(&plan, &schedule, memory) else {
        return (vec![None; extents.len()], window, window);
    };
    let mut behind = choice.window;
    let homes = extents
        .iter()
        .zip(&choice.resident)
        .map(|(extent, &stays)| {
            stays.then(|| {
                behind += extent.len;
                behind - extent.len
            })
        });
    (homes.collect(), behind, choice.window)
}
