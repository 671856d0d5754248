//! Shared by the tests: a seeded generator, and shorthand for plans.

// Each test file is compiled with its own copy and uses a part of it.
#![allow(dead_code)]

use delayline_plan::{ALIGN, Extent, ExtentId, Plan, Run};

/// SplitMix64: small, and the same on every machine.
pub struct Random(pub u64);

impl Random {
    /// A uniformly distributed number.
    pub fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.any() % (high - low + 1)
    }

    /// True with probability 1/`n`.
    pub fn once_in(&mut self, n: u64) -> bool {
        self.any().is_multiple_of(n)
    }
}

/// Calls `case` with `count` generators. The seed is fresh and printed, so that it is
/// shown when a case fails; `SEED=n` repeats a run.
pub fn random_cases(count: u64, mut case: impl FnMut(&mut Random)) {
    let seed = delayline_testing::seed();
    for index in 0..count {
        println!("case {index}");
        case(&mut Random(seed.wrapping_add(index)));
    }
}

/// Consecutive extents of these lengths in blocks of `ALIGN`.
pub fn extents(blocks: &[u64]) -> Vec<Extent> {
    plan(blocks, &[]).extents
}

/// A plan of extents with lengths in blocks of `ALIGN`, and of runs, each with the
/// extents it reads and its compute.
pub fn plan(blocks: &[u64], runs: &[(Vec<u32>, f64)]) -> Plan {
    let mut offset = 0;
    let extents = blocks.iter().map(|&b| {
        let len = b * ALIGN;
        offset += len;
        Extent {
            part: 0,
            offset: offset - len,
            len,
        }
    });
    let runs = runs
        .iter()
        .map(|(needs, compute)| Run::reading(needs.iter().copied().map(ExtentId), *compute));
    Plan::cycle(extents.collect(), runs.collect())
}

/// Extents of 1 to `blocks_max` blocks. Each run reads one or more new extents, some an
/// earlier one again; the compute of a run is 0 to 4.
pub fn random_plan(random: &mut Random, extents: u32, blocks_max: u64) -> Plan {
    let blocks: Vec<u64> = (0..extents)
        .map(|_| random.between(1, blocks_max))
        .collect();
    let mut runs: Vec<(Vec<u32>, f64)> = Vec::new();
    for extent in 0..extents {
        match runs.last_mut() {
            Some(last) if random.once_in(4) => last.0.push(extent),
            _ => runs.push((vec![extent], random.between(0, 4) as f64)),
        }
        let again = random.between(0, u64::from(extent)) as u32;
        if let Some(last) = runs.last_mut()
            && random.once_in(6)
            && !last.0.contains(&again)
        {
            last.0.push(again);
        }
    }
    runs[0].1 += 1.0;
    plan(&blocks, &runs)
}

/// The bits of `mask` as one value per extent.
pub fn subset(mask: u32, extents: usize) -> Vec<bool> {
    (0..extents).map(|i| mask >> i & 1 == 1).collect()
}

/// The negation of each value.
pub fn inverse(of: &[bool]) -> Vec<bool> {
    of.iter().map(|v| !v).collect()
}

/// Sum of the lengths of the marked extents, in bytes.
pub fn bytes(plan: &Plan, marked: &[bool]) -> u64 {
    let extents = plan.extents.iter().zip(marked);
    extents.filter(|(_, m)| **m).map(|(e, _)| e.len).sum()
}
