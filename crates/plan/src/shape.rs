//! Constructors of plans: cycle, forward and backward, stack, trace.

use crate::types::{Extent, ExtentId, Plan, Run, Use};
use std::ops::Range;

/// A layer that a lap passes twice, forward and backward.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RoundTrip {
    /// The forward pass through it.
    pub there: Run,
    /// The backward pass through it.
    pub back: Run,
}

/// What one layer keeps for the backward pass: a frame of the stack.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Frame {
    /// The extents that the forward pass writes and the backward pass reads.
    pub extents: Vec<ExtentId>,
    /// Compute of the forward pass, in the unit of [`Run::compute`].
    pub there: f64,
    /// Compute of the backward pass, in the same unit.
    pub back: f64,
}

impl Plan {
    /// The same order in every lap, always forward: inference.
    pub fn cycle(extents: Vec<Extent>, runs: Vec<Run>) -> Self {
        let turns = Vec::new();
        Self {
            extents,
            runs,
            turns,
        }
    }

    /// Forward through the layers and backward through them, a palindrome:
    /// training. What `there` reads and `back` modifies are the weights; what
    /// `back` alone modifies is the state of the optimizer.
    pub fn there_and_back(extents: Vec<Extent>, layers: Vec<RoundTrip>) -> Self {
        let turn = layers.len() as u32;
        let mut runs = Vec::with_capacity(2 * layers.len());
        let mut back = Vec::with_capacity(layers.len());
        for layer in layers {
            runs.push(layer.there);
            back.push(layer.back);
        }
        runs.extend(back.into_iter().rev());
        Self {
            extents,
            runs,
            turns: vec![turn],
        }
    }

    /// Frames pushed one after the other, then popped in reverse order:
    /// activations. The bytes of a popped frame are not needed any more.
    pub fn stack(extents: Vec<Extent>, frames: Vec<Frame>) -> Self {
        let layer = |frame: Frame| RoundTrip {
            there: Run {
                uses: frame.extents.iter().copied().map(Use::write).collect(),
                compute: frame.there,
            },
            back: Run::reading(frame.extents.iter().rev().copied(), frame.back),
        };
        Self::there_and_back(extents, frames.into_iter().map(layer).collect())
    }

    /// Known batches that each read a set of extents: rows of features for a graph
    /// network. One run per batch, all with the same compute; an extent that a batch
    /// names twice is read once.
    pub fn trace(extents: Vec<Extent>, batches: &[Vec<ExtentId>]) -> Self {
        let mut batch_of: Vec<Option<usize>> = vec![None; extents.len()];
        let run = |(batch, ids): (usize, &Vec<ExtentId>)| {
            let first = |id: &&ExtentId| batch_of[id.index()].replace(batch) != Some(batch);
            Run::reading(ids.iter().filter(first).copied(), 1.0)
        };
        let runs = batches.iter().enumerate().map(run).collect();
        Self::cycle(extents, runs)
    }

    /// The runs of each phase, in order. Phases end at the turns and make up the
    /// whole lap.
    pub fn phases(&self) -> Vec<Range<u32>> {
        let end = self.runs.len() as u32;
        let starts = [0].into_iter().chain(self.turns.iter().copied());
        let ends = self.turns.iter().copied().chain([end]);
        starts.zip(ends).map(|(start, end)| start..end).collect()
    }
}
