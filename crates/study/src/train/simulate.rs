//! A step in virtual time: the real line there and back, and the real activations.

use delayline_line::{Clock, Config, Line, LineSetup, Region, Walk};
use delayline_medium::{Dram, Link, Memory, Simulated, VirtualClock};
use delayline_plan::{
    ALIGN, DriveRates, MemoryShare, NEAR_BYTES, Schedule, Use, choose, run_times,
};
use delayline_train::{ActivationId, Activations};

use super::{TrainError, TrainStep};

/// Pumps in a run: a layer has as many modules, of which each is a chance.
const PUMPS: u32 = 8;
/// Operations that the longest extent is divided into.
const PIECES: u64 = 32;
/// Maximum number of operations at once.
const DEPTH_MAX: usize = 4096;
/// Operations at once of the drive of activations.
const DEPTH: usize = 64;
/// Seconds of a step that a clock of nanoseconds counts well.
const CLOCKED_S: std::ops::RangeInclusive<f64> = 1e-3..=1e6;
/// Steps that are measured, after one that is not.
const STEPS: u32 = 3;

/// What a step took, in the steady state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SimulatedStep {
    /// From step to step, in seconds.
    pub step_s: f64,
    /// The part of it that the compute waited.
    pub stall_s: f64,
    /// Bytes that it read.
    pub read_bytes: f64,
    /// Bytes that it wrote.
    pub written_bytes: f64,
    /// Bytes that stay in memory.
    pub resident_bytes: u64,
}

fn aligned(bytes: u64) -> u64 {
    bytes.max(1).next_multiple_of(ALIGN)
}

/// Runs a step of which so many layers are updated in the next forward pass.
///
/// # Errors
/// [`TrainError`] when the memory is too small.
pub fn simulate_step(step: &TrainStep, waiting: u32) -> Result<SimulatedStep, TrainError> {
    let closed_s = step.closed_form_s(f64::from(waiting) / f64::from(step.layers));
    // The clock counts nanoseconds: much shorter and much longer steps run at other rates.
    let times = match CLOCKED_S.contains(&closed_s) {
        true => 1.0,
        false => closed_s,
    };
    let rates = step.rates;
    let scaled = TrainStep {
        flop_per_s: step.flop_per_s * times,
        rates: DriveRates {
            read: rates.read * times,
            write: rates.write * times,
            mixed: rates.mixed * times,
        },
        ..*step
    };
    let simulated = simulate_clocked(&scaled, waiting)?;
    Ok(SimulatedStep {
        step_s: simulated.step_s * times,
        stall_s: simulated.stall_s * times,
        ..simulated
    })
}

fn simulate_clocked(step: &TrainStep, waiting: u32) -> Result<SimulatedStep, TrainError> {
    let plan = step.plan(waiting);
    let schedule = Schedule::new(&plan, NEAR_BYTES);
    let longest = plan.extents.iter().map(|e| e.len).max().unwrap_or(ALIGN);
    let memory = MemoryShare {
        available: step.memory,
        lookahead: 4 * longest,
    };
    let residency = choose(&plan, &schedule, memory)?;
    let op_len = aligned(longest / PIECES).min(1 << 30);
    let depth = (residency.window / op_len + 64).min(DEPTH_MAX as u64);
    let rate = |bytes_per_s: f64| bytes_per_s.round().max(1.0) as u64;
    let link = Link {
        rate_bytes_per_s: rate(step.rates.read),
        write_bytes_per_s: Some(rate(step.rates.write)),
        mixed_bytes_per_s: Some(rate(step.rates.mixed)),
        latency_ns: 0,
        depth: depth as usize,
    };
    let end = plan.extents.last().map_or(0, |e| e.offset + e.len);
    let clock = VirtualClock::new();
    let medium = Simulated::without_bytes(link, vec![end], clock.clone());
    let mut home = residency.window;
    let homes = plan.extents.iter().zip(&residency.resident);
    let homes = homes.map(|(extent, &stays)| {
        let at = home;
        home += if stays { extent.len } else { 0 };
        stays.then_some(at)
    });
    let setup = LineSetup {
        homes: homes.collect(),
        extents: plan.extents.clone(),
        part_lens: vec![end],
        config: Config {
            window: residency.window,
            read_len: op_len as u32,
            retries: 0,
        },
    };
    // No bytes are stored, so the memory is unlimited.
    let mut line = Line::new(medium, clock.clone(), Region::new(u64::MAX), setup)?;
    let times = run_times(&plan, step.in_memory_s());
    let lay = |line: &mut Line<Simulated, VirtualClock>| {
        line.enqueue(schedule.steps().iter().map(|step| Use {
            extent: step.extent,
            mode: step.mode,
        }));
    };
    lay(&mut line);
    let (mut start, mut before) = (0, line.counters());
    for number in 0..=STEPS {
        // The next step is laid at the start of each, so that it goes on across its end.
        lay(&mut line);
        let mut walk = Walk::new();
        for time in &times {
            walk.begin(&schedule, &mut line)?;
            let part = time * 1e9 / f64::from(PUMPS);
            for pump in 1..=PUMPS {
                let whole = |n: u32| (part * f64::from(n)).round() as u64;
                clock.advance_ns(whole(pump) - whole(pump - 1));
                line.pump()?;
            }
            walk.end(&schedule, &mut line)?;
        }
        if number == 0 {
            (start, before) = (clock.now_ns(), line.counters());
        }
    }
    let counters = line.counters();
    let each = f64::from(STEPS);
    Ok(SimulatedStep {
        step_s: (clock.now_ns() - start) as f64 / 1e9 / each,
        stall_s: (counters.stall_ns - before.stall_ns) as f64 / 1e9 / each,
        read_bytes: (counters.bytes_read - before.bytes_read) as f64 / each,
        written_bytes: (counters.bytes_written - before.bytes_written) as f64 / each,
        resident_bytes: residency.resident_bytes,
    })
}

/// Where a part of what a step keeps for its backward pass goes when it does not fit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StackTier {
    /// Memory for this part, in bytes.
    pub room: f64,
    /// What does not fit, in bytes.
    pub spilled: f64,
    /// What moves it, in bytes per second each way.
    pub rate_bytes_per_s: f64,
}

/// Memory that a tier is scaled down to, as its bytes and its rate are: the program's
/// activations have bytes, which are checked.
const SCALED_ROOM: u64 = 2 << 20;

/// A tier as the program's own activations on a simulated drive.
struct ScaledTier {
    activations: Activations<Simulated>,
    len: u64,
    ids: Vec<ActivationId>,
}

impl ScaledTier {
    fn new(tier: &StackTier, layers: u32, clock: &VirtualClock) -> Result<Self, TrainError> {
        let scale = SCALED_ROOM as f64 / tier.room;
        let all = (tier.room + tier.spilled) * scale;
        let len = aligned((all / f64::from(layers)) as u64);
        let capacity = len * u64::from(layers);
        let (memory, region) = Memory::new(SCALED_ROOM)?;
        let behind = Dram::new(vec![vec![0; capacity as usize]], memory.clone(), DEPTH);
        let link = Link {
            rate_bytes_per_s: (tier.rate_bytes_per_s * scale).round().max(1.0) as u64,
            depth: DEPTH,
            ..Link::default()
        };
        let medium = Simulated::new(link, behind, clock.clone());
        Ok(Self {
            activations: Activations::new(medium, (memory, region), capacity),
            len,
            ids: Vec::new(),
        })
    }
}

/// Runs a step that computes `compute_s` forward and backward in so many layers, whose
/// activations lie on these tiers side by side; returns its seconds.
///
/// # Errors
/// [`TrainError`] when a layer does not fit into the memory.
pub fn simulate_stack(
    tiers: &[StackTier],
    layers: u32,
    compute_s: [f64; 2],
) -> Result<f64, TrainError> {
    let clock = VirtualClock::new();
    let scaled = tiers
        .iter()
        .map(|tier| ScaledTier::new(tier, layers, &clock));
    let mut tiers = scaled.collect::<Result<Vec<ScaledTier>, TrainError>>()?;
    let compute = |tiers: &mut [ScaledTier], of_step_s: f64| {
        let part_ns = of_step_s * 1e9 / f64::from(layers * PUMPS);
        for _ in 0..PUMPS {
            clock.advance_ns(part_ns.round() as u64);
            tiers.iter_mut().for_each(|tier| tier.activations.pump());
        }
    };
    for _ in 0..layers {
        for tier in &mut tiers {
            let (id, _) = tier.activations.push(tier.len)?;
            tier.ids.push(id);
        }
        compute(&mut tiers, compute_s[0]);
        for tier in &mut tiers {
            tier.activations.filled(tier.ids[tier.ids.len() - 1]);
        }
    }
    for _ in 0..layers {
        for tier in &mut tiers {
            tier.activations.take(tier.ids[tier.ids.len() - 1])?;
        }
        compute(&mut tiers, compute_s[1]);
        for tier in &mut tiers {
            let id = tier.ids.pop().expect("as many as were pushed");
            tier.activations.release(id);
            tier.activations.remove(id)?;
        }
    }
    Ok(clock.now_ns() as f64 / 1e9)
}
