//! The traits between the engine and a backend, which computes: a backend describes its
//! graphs, announces each node before computing it, and binds the node's weights to the
//! addresses that it is given.

use std::rc::Rc;
use std::sync::Arc;

use delayline_line::Lease;
use delayline_medium::{Memory, Team};

use crate::arena::FrameBinding;
use crate::error::Error;
use crate::graph::{Graph, UseId};
use crate::model_file::{ModelFile, Names};
use crate::shape::ContextShape;

/// The kinds of laps; each has a separate graph.
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
    /// The class of a lap of `rows` rows, with or without outputs.
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
    /// By llama.cpp's mmap with unrepacked kernels: reference and baseline.
    Mmap,
}

/// Loads models, and makes backends that compute with them.
pub trait Loader {
    /// A loaded model.
    type Model;
    /// The backend.
    type Backend: Backend;

    /// Loads the model.
    ///
    /// # Errors
    /// If it is refused.
    fn load(&self, file: &ModelFile, how: Load) -> Result<Self::Model, Error>;

    /// Number of tokens that a grammar examines at a time when it has to choose one.
    fn spelled(&self) -> u64;

    /// A backend for the model. With `fed`, the length of the largest weight in bytes,
    /// its laps are fed; without, the model holds its weights itself.
    ///
    /// # Errors
    /// If it is refused.
    fn start(
        &self,
        model: &Self::Model,
        shape: ContextShape,
        fed: Option<u64>,
    ) -> Result<Self::Backend, Error>;
}

/// Computes laps with weights that it is fed. Between laps its [`Bind`] can only unbind
/// what the last lap used.
pub trait Backend: Bind {
    /// The rows of a lap.
    type Work<'a>: Copy;

    /// Number of rows.
    fn rows(work: Self::Work<'_>) -> usize;

    /// Whether any row has an output.
    fn has_output(work: Self::Work<'_>) -> bool;

    /// One row of no sequence, with an output, to measure a lap with.
    fn blank() -> Self::Work<'static>;

    /// The shape it was made with.
    fn shape(&self) -> ContextShape;

    /// Bytes of the KV cache.
    fn kv_bytes(&self) -> u64;

    /// Bytes of compute and output buffers, touched or not.
    fn buffer_bytes(&self) -> u64;

    /// The graph of the laps of a class, without computing it.
    ///
    /// # Errors
    /// If the graph is not as expected.
    fn learn(&mut self, class: Class, names: &Names) -> Result<Graph, Error>;

    /// Sets the memory that positions of bindings refer to.
    fn use_memory(&mut self, memory: Arc<Memory>);

    /// Binds the weight of a use in the graph of a class to byte `at` of the memory
    /// permanently. Called only while nothing computes.
    fn settle(&mut self, class: Class, used: UseId, at: u64);

    /// Computes one lap; if it is fed, it calls `feed` node by node.
    ///
    /// # Errors
    /// If it fails: the outputs must not be used, and [`Backend::undo`] has to be called.
    fn run(&mut self, work: Self::Work<'_>, feed: Option<&mut dyn Feed>) -> Result<(), Error>;

    /// Restores all sequences to their state before the lap.
    fn undo(&mut self, work: Self::Work<'_>);

    /// Removes all sequences.
    fn clear(&mut self);

    /// Sets the number of threads for the next laps.
    ///
    /// # Errors
    /// If the threads cannot be started.
    fn use_threads(&mut self, threads: u32) -> Result<(), Error>;

    /// Its threads, which share other work while it computes nothing: between laps, and
    /// during the calls of [`Feed`]. `None`: the caller works alone.
    fn team(&self) -> Option<Rc<dyn Team>> {
        None
    }
}

/// Where the bytes of a weight are while a node computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// At this byte of the memory, all of them.
    At(u64),
    /// At their permanent address.
    Settled,
    /// In address space that reads as zeros: the results are discarded.
    Zeros,
    /// Nowhere: touching them faults.
    Vacant,
}

impl Binding {
    /// The binding of a weight that starts `at` bytes into the extent of a lease; valid
    /// until the lease is returned.
    pub fn in_lease(lease: &Lease, at: u64) -> Self {
        Self::At(lease.at() + at)
    }
}

/// Binds weights to bytes, for the node announced last. Between laps it can only unbind.
pub trait Bind {
    /// Replaces `out` by the rows or experts that the node uses of an indexed weight.
    ///
    /// # Errors
    /// If they are not as the graph says.
    fn ids(&mut self, used: UseId, out: &mut Vec<i32>) -> Result<(), Error>;

    /// Replaces the indices that [`Bind::ids`] returns, for all nodes that read them. The
    /// number and order are the same.
    ///
    /// # Errors
    /// If they are not as the graph says.
    fn set_ids(&mut self, used: UseId, ids: &[i32]) -> Result<(), Error>;

    /// Replaces `out` by the experts that the node of a later use will probably choose:
    /// those that its router chooses for the input of the node announced last, the
    /// likeliest first. Empty if that cannot be computed.
    ///
    /// # Errors
    /// If computing them fails.
    fn guess(&mut self, later: UseId, out: &mut Vec<i32>) -> Result<(), Error>;

    /// Binds the weight of a use. [`Binding::Vacant`] may also be applied to uses of
    /// earlier nodes.
    ///
    /// # Errors
    /// If the node does not use that weight.
    fn bind(&mut self, used: UseId, binding: Binding) -> Result<(), Error>;

    /// Binds the experts that the node uses to frames, until the use is bound again.
    ///
    /// # Errors
    /// Those of [`Bind::bind`].
    fn bind_frames(&mut self, used: UseId, frames: FrameBinding<'_>) -> Result<(), Error>;
}

/// What the backend has to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Continue with the next node.
    Go,
    /// Compute all nodes that were announced, then call [`Feed::after`].
    Pause,
    /// The lap has failed: end it as soon as possible. Nodes that are still announced are
    /// bound to zeros.
    Stop,
}

/// The calls that a backend makes while it computes a graph.
pub trait Feed {
    /// The backend is about to compute node `node`, of operation `op`. All nodes
    /// announced before the last [`Flow::Pause`] have been computed.
    fn before(&mut self, node: u32, op: u32, bind: &mut dyn Bind) -> Flow;

    /// All nodes that were announced have been computed.
    fn after(&mut self, bind: &mut dyn Bind) -> Flow;

    /// The backend has failed at the node announced last: binds its weights to zeros.
    fn fail(&mut self, error: Error, bind: &mut dyn Bind);
}
