//! A backend's graph: which node uses which weight, and how. Tensors and operations are
//! known by number only.

use crate::model_file::WeightId;

/// How a node uses a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// All of it, as the matrix of a product.
    Whole,
    /// Some of its rows or experts, whose numbers an earlier node computes.
    Indexed {
        /// Number of indices that the graph has room for.
        ids: u64,
        /// The tensor of indices, to know which nodes share it.
        ids_tensor: TensorId,
        /// Whether the indices are of experts, not rows.
        experts: bool,
    },
    /// All of it, as a small tensor that other graphs may use too (norms, biases, rope
    /// factors).
    Small,
}

/// One use of a weight by a node.
#[derive(Clone, Copy, Debug)]
pub struct WeightUse {
    /// The node's position among all nodes of the graph.
    pub node: u32,
    /// The model's tensor (never a view).
    pub tensor: TensorId,
    /// Whether the node uses it through a view, which has a separate address.
    pub view: bool,
    /// The weight of the file.
    pub weight: WeightId,
    /// How it is used.
    pub how: How,
}

/// A tensor of the backend, numbered within a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TensorId(pub u32);

/// Index of a use in [`Graph::uses`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UseId(pub u32);

/// The weights that one graph reads, in the order of its nodes.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// Number of nodes that the backend announces.
    pub nodes: u32,
    /// Each node's operation, to detect a graph that is not the learned one.
    pub ops: Vec<u32>,
    /// In order of nodes.
    pub uses: Vec<WeightUse>,
}
