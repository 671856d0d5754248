//! The seam to whoever computes: it tells what its graphs read, announces each node
//! before it computes it, and is told where the bytes of the node's weights are.

use std::sync::Arc;

use delayline_line::Lease;
use delayline_medium::Memory;

use crate::arena::FrameBinding;
use crate::error::Error;
use crate::graph::{Graph, UseId};
use crate::model_file::{ModelFile, Names};
use crate::shape::ContextShape;

/// The kinds of laps; each has a graph of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// One row, with outputs: decoding.
    Single,
    /// Several rows, with outputs of some.
    Many,
    /// Several rows without outputs: the output head is skipped.
    Quiet,
}

impl Class {
    /// Of a lap of so many rows.
    pub fn of(rows: usize, output: bool) -> Self {
        match (rows, output) {
            (1, _) => Self::Single,
            (_, true) => Self::Many,
            (_, false) => Self::Quiet,
        }
    }
}

/// How the weights get into memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// Not at all: Delayline feeds them.
    Empty,
    /// By llama.cpp with direct I/O and its repacked kernels.
    Native,
    /// By llama.cpp's mmap with unrepacked kernels: the oracle and the baseline.
    Mmap,
}

/// Loads models for a backend, and makes backends of them.
pub trait Loader {
    /// A loaded model.
    type Model;
    /// What computes with it.
    type Backend: Backend;

    /// Loads the model in that way.
    ///
    /// # Errors
    /// When it is refused.
    fn load(&self, file: &ModelFile, how: Load) -> Result<Self::Model, Error>;

    /// What a grammar that has to choose looks at in one go, in tokens.
    fn spelled(&self) -> u64;

    /// A backend on the model. With `fed`, the length of the largest weight in bytes,
    /// its laps are fed; else the model holds its weights itself.
    ///
    /// # Errors
    /// When it is refused.
    fn start(
        &self,
        model: &Self::Model,
        shape: ContextShape,
        fed: Option<u64>,
    ) -> Result<Self::Backend, Error>;
}

/// Computes laps with weights that it is fed. As a [`Bind`], between laps, it gives
/// up what the last lap was bound to.
pub trait Backend: Bind {
    /// The rows of a lap.
    type Work<'a>: Copy;

    /// How many rows that is.
    fn rows(work: Self::Work<'_>) -> usize;

    /// Whether outputs are wanted of any.
    fn has_output(work: Self::Work<'_>) -> bool;

    /// One row of no sequence, with an output, to measure a lap with.
    fn blank() -> Self::Work<'static>;

    /// What it was made with.
    fn shape(&self) -> ContextShape;

    /// Bytes of the KV cache.
    fn kv_bytes(&self) -> u64;

    /// Bytes of compute and output buffers, touched or not.
    fn buffer_bytes(&self) -> u64;

    /// The graph of the laps of a class, without computing it.
    ///
    /// # Errors
    /// When it cannot be had.
    fn learn(&mut self, class: Class, names: &Names) -> Result<Graph, Error>;

    /// Positions of bindings are those of this memory, from now on.
    fn use_memory(&mut self, memory: Arc<Memory>);

    /// The weight of a use in the graph of that class is at byte `at` of the memory for
    /// good. Nothing computes.
    fn settle(&mut self, class: Class, used: UseId, at: u64);

    /// Computes one lap; fed, it calls `feed` node by node.
    ///
    /// # Errors
    /// When it fails: the outputs are worthless, and [`Backend::undo`] is to be called.
    fn run(&mut self, work: Self::Work<'_>, feed: Option<&mut dyn Feed>) -> Result<(), Error>;

    /// All sequences are again as they were before the lap.
    fn undo(&mut self, work: Self::Work<'_>);

    /// Forgets all that was computed.
    fn clear(&mut self);

    /// Has the next laps computed by so many threads.
    ///
    /// # Errors
    /// When the threads cannot be started.
    fn use_threads(&mut self, threads: u32) -> Result<(), Error>;
}

/// Where the bytes of a weight are while a node computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// At this byte of the memory, all of them.
    At(u64),
    /// Where they are for good.
    Settled,
    /// In address space that reads as zeros: what is computed is thrown away.
    Zeros,
    /// Nowhere: to touch them is a fault.
    Vacant,
}

impl Binding {
    /// Of a weight that starts `at` bytes into the extent of a lease, until that goes back.
    pub fn in_lease(lease: &Lease, at: u64) -> Self {
        Self::At(lease.at() + at)
    }
}

/// Binds weights to bytes, for the node that was announced last; between laps it can
/// only give up what was bound.
pub trait Bind {
    /// Which rows or experts the node wants of an indexed weight: they replace
    /// what is in `out`.
    ///
    /// # Errors
    /// When they are not what the graph said.
    fn ids(&mut self, used: UseId, out: &mut Vec<i32>) -> Result<(), Error>;

    /// Puts other indices in the place of those that [`Bind::ids`] gives, for all nodes
    /// that read them: as many, in the same order.
    ///
    /// # Errors
    /// When they are not what the graph said.
    fn set_ids(&mut self, used: UseId, ids: &[i32]) -> Result<(), Error>;

    /// Which experts the node of another use, which comes later, will probably name of
    /// its weight: what its router would choose if its input were that of the node that
    /// was announced last. The likeliest come first; they replace what is in `out`, and
    /// there are none where it cannot be told.
    ///
    /// # Errors
    /// When it was not computed.
    fn guess(&mut self, later: UseId, out: &mut Vec<i32>) -> Result<(), Error>;

    /// From now on the bytes are there. [`Binding::Vacant`] also binds what earlier
    /// nodes used.
    ///
    /// # Errors
    /// When the node does not use that weight.
    fn bind(&mut self, used: UseId, binding: Binding) -> Result<(), Error>;

    /// From now on the experts that the node names are in frames; until the use is
    /// bound otherwise.
    ///
    /// # Errors
    /// As [`Bind::bind`].
    fn bind_frames(&mut self, used: UseId, frames: FrameBinding<'_>) -> Result<(), Error>;
}

/// What the backend does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Go on to the next node.
    Go,
    /// Compute all nodes that were announced, then call [`Feed::after`].
    Pause,
    /// The lap has failed: end it as soon as possible. What is announced still is
    /// bound to zeros.
    Stop,
}

/// What a backend calls while it computes a graph.
pub trait Feed {
    /// The backend is about to compute node `node`, an operation `op`. All that
    /// was announced before the last [`Flow::Pause`] has been computed.
    fn before(&mut self, node: u32, op: u32, bind: &mut dyn Bind) -> Flow;

    /// All nodes that were announced have been computed.
    fn after(&mut self, bind: &mut dyn Bind) -> Flow;

    /// The backend has failed at the node that was announced last: its weights are
    /// bound to zeros.
    fn fail(&mut self, error: Error, bind: &mut dyn Bind);
}
