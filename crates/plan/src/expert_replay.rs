//! Replays a recorded route of experts under a policy. Only the last three quarters of
//! the laps that generate a token are counted, when the memory holds experts that this
//! model and text use.

use crate::experts::{ExpertPools, PoolShape};
use crate::frames::{Framed, Presence};
use crate::policy::{Belady, Policy};
use crate::replay::{Cache, Trace};
use crate::route::ExpertRoute;
use crate::types::ExtentId;
use std::collections::HashSet;

/// Hits and misses of the uses that were counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplayedExperts {
    /// Laps that generated a token.
    pub tokens: u64,
    /// Experts that were in memory.
    pub hits: u64,
    /// Experts that were not.
    pub misses: u64,
    /// Bytes of the missing experts.
    pub bytes_read: u64,
    /// Bytes of the missing experts of each lap, in order.
    pub lap_bytes: Vec<u64>,
}

impl ReplayedExperts {
    /// Share of the uses that were hits.
    pub fn hit_share(&self) -> f64 {
        self.hits as f64 / (self.hits + self.misses).max(1) as f64
    }

    /// Counts the visit of a layer whose missing experts have `bytes` bytes in all.
    /// `is_first` begins a lap.
    fn count(&mut self, is_first: bool, hits: u64, misses: u64, bytes: u64) {
        if is_first {
            self.tokens += 1;
            self.lap_bytes.push(0);
        }
        self.hits += hits;
        self.misses += misses;
        self.bytes_read += bytes;
        if let Some(lap) = self.lap_bytes.last_mut() {
            *lap += bytes;
        }
    }

    /// Bytes of missing experts per token.
    pub fn bytes_per_token(&self) -> f64 {
        self.bytes_read as f64 / self.tokens.max(1) as f64
    }
}

impl ExpertRoute {
    /// Bytes of all experts.
    pub fn expert_bytes(&self) -> u64 {
        let layers = self.layers.iter();
        layers
            .map(|layer| layer.bytes * u64::from(layer.count))
            .sum()
    }

    /// The distinct experts of each layer in each lap, in order, and whether the lap
    /// counts.
    fn visits(&self) -> impl Iterator<Item = ExpertVisit> + '_ {
        let answers = self.laps.iter().filter(|lap| !lap.is_prompt).count();
        let mut answer = 0;
        self.laps.iter().flat_map(move |lap| {
            answer += usize::from(!lap.is_prompt);
            let counts = !lap.is_prompt && answer > answers / 4;
            (0..self.layers.len() as u16).map(move |layer| {
                let mut seen = HashSet::new();
                let rows = lap.rows.iter().flat_map(|row| row.of_layer(layer));
                ExpertVisit {
                    layer,
                    experts: rows.filter(|expert| seen.insert(*expert)).collect(),
                    counts,
                }
            })
        })
    }
}

struct ExpertVisit {
    layer: u16,
    experts: Vec<u16>,
    counts: bool,
}

/// Replays a route in empty pools of `shapes`. A lap that uses more experts of a layer
/// than the pool has frames uses them in portions.
pub fn replay_experts<P: Policy>(
    route: &ExpertRoute,
    shapes: &[PoolShape],
    policy: impl Fn(&PoolShape) -> P,
) -> ReplayedExperts {
    let mut pools = ExpertPools::new(&route.layers, shapes, policy);
    let mut sums = ReplayedExperts::default();
    let mut framed = Vec::new();
    for visit in route.visits() {
        let layer = u32::from(visit.layer);
        let frames = pools.frames(pools.pool_of(layer)) as usize;
        let (mut hits, mut misses) = (0, 0);
        for portion in visit.experts.chunks(frames.max(1)) {
            framed.clear();
            pools.visit(layer, portion.iter().map(|&id| id.into()), &mut framed);
            let held = |framed: &&Framed| framed.found == Presence::Held;
            let here = framed.iter().filter(held).count() as u64;
            hits += here;
            misses += portion.len() as u64 - here;
        }
        if visit.counts {
            let bytes = misses * route.layers[usize::from(visit.layer)].bytes;
            sums.count(layer == 0, hits, misses, bytes);
        }
    }
    sums
}

/// Replays a route in a memory of `capacity` bytes under [`Belady`], which knows all of
/// the route. Missing experts need not be kept. A reference that policies without
/// knowledge of the future do not reach.
pub fn replay_experts_ahead(route: &ExpertRoute, capacity: u64) -> ReplayedExperts {
    let mut firsts = Vec::new();
    let mut trace = Trace::default();
    for layer in &route.layers {
        firsts.push(trace.lens.len() as u32);
        let lens = std::iter::repeat_n(layer.bytes, layer.count as usize);
        trace.lens.extend(lens);
    }
    let mut counts = Vec::new();
    for visit in route.visits() {
        let first = firsts[usize::from(visit.layer)];
        let item = |&expert: &u16| ExtentId(first + u32::from(expert));
        trace.batches.push(visit.experts.iter().map(item).collect());
        counts.push((visit.counts, visit.counts && visit.layer == 0));
    }
    let mut cache = Cache::new(capacity, Belady::new(&trace));
    let mut sums = ReplayedExperts::default();
    for (batch, (is_counted, is_token)) in trace.batches.iter().zip(counts) {
        let visit = cache.visit(batch.iter().map(|&item| (item, trace.len_of(item))));
        if is_counted {
            let missing = || visit.admitted.iter().chain(&visit.passed);
            let bytes = missing().map(|&item| trace.len_of(item)).sum();
            let misses = missing().count() as u64;
            sums.count(is_token, visit.hits.len() as u64, misses, bytes);
        }
    }
    sums
}
