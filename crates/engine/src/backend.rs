//! The seam to whoever computes: it announces each node of a graph before it
//! computes it, and is told where the bytes of the node's weights are.

use crate::error::Error;
use crate::graph::UseId;

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

/// Binds weights to bytes, for the node that was announced last.
pub trait Bind {
    /// Which rows or experts the node wants of an indexed weight: they replace
    /// what is in `out`.
    ///
    /// # Errors
    /// When they are not what the graph said.
    fn ids(&mut self, used: UseId, out: &mut Vec<i32>) -> Result<(), Error>;

    /// From now on the bytes are there. [`Binding::Vacant`] also binds what earlier
    /// nodes used.
    ///
    /// # Errors
    /// When the node does not use that weight.
    fn bind(&mut self, used: UseId, binding: Binding) -> Result<(), Error>;
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
