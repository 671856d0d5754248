//! A step in virtual time: the real line there and back, and the real stack. Does not know
//! what is trained.

use delayline_line::Clock;
use delayline_line::{Config, Line, LineSetup, Region, Stack, StackConfig, StackError, Walk};
use delayline_medium::{Link, Simulated, VirtualClock};
use delayline_plan::{ALIGN, MemoryShare, NEAR_BYTES, Schedule, Use, choose, run_times};

use super::{TrainError, TrainStep};

/// Pumps in a run: a layer has as many modules, of which each is a chance.
const PUMPS: u32 = 8;
/// Operations that an extent of the longest is divided into.
const PIECES: u64 = 32;
/// Most operations at once.
const DEPTH_MAX: usize = 4096;
/// Steps that are measured, behind one that is not.
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
    // There are no bytes, so the memory has no end.
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

/// Runs a step that computes `compute_s` forward and backward in so many layers, whose
/// activations lie on these tiers side by side; returns its seconds.
///
/// # Errors
/// [`StackError`] when a layer does not fit into the memory.
pub fn simulate_stack(
    tiers: &[StackTier],
    layers: u32,
    compute_s: [f64; 2],
) -> Result<f64, StackError> {
    let clock = VirtualClock::new();
    let mut stacks = Vec::new();
    for tier in tiers {
        let len = aligned(((tier.room + tier.spilled) / f64::from(layers)) as u64);
        let op_len = aligned(len / PIECES).min(1 << 30);
        let capacity = len * u64::from(layers);
        let link = Link {
            rate_bytes_per_s: tier.rate_bytes_per_s as u64,
            depth: (tier.room as u64 / op_len + 64).min(DEPTH_MAX as u64) as usize,
            ..Link::default()
        };
        let medium = Simulated::without_bytes(link, vec![capacity], clock.clone());
        let config = StackConfig {
            at: 0,
            room: aligned(tier.room as u64),
            part: 0,
            capacity,
            op_len: op_len as u32,
            retries: 0,
        };
        let region = Region::new(config.room);
        stacks.push((Stack::new(medium, clock.clone(), region, config)?, len));
    }
    let compute = |stacks: &mut Vec<(Stack<_, _>, u64)>, of_step_s: f64| {
        let part_ns = of_step_s * 1e9 / f64::from(layers * PUMPS);
        for _ in 0..PUMPS {
            clock.advance_ns(part_ns.round() as u64);
            stacks.iter_mut().for_each(|(stack, _)| stack.pump());
        }
    };
    for _ in 0..layers {
        let mut leases = Vec::new();
        for (stack, len) in &mut stacks {
            leases.push(stack.push(*len)?);
        }
        compute(&mut stacks, compute_s[0]);
        for ((stack, _), lease) in stacks.iter_mut().zip(leases) {
            stack.filled(lease);
        }
    }
    for _ in 0..layers {
        let mut leases = Vec::new();
        for (stack, _) in &mut stacks {
            leases.extend(stack.pop()?);
        }
        compute(&mut stacks, compute_s[1]);
        for ((stack, _), lease) in stacks.iter_mut().zip(leases) {
            stack.release(lease);
        }
    }
    Ok(clock.now_ns() as f64 / 1e9)
}
