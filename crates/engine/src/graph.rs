//! What a graph reads: which node uses which weight, and how. Whoever computes
//! tells; its tensors and operations are known here by number only.

use crate::model_file::WeightId;

/// How a node uses a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// All of it, as the matrix of a product.
    Whole,
    /// Some of its rows or experts, whose numbers an earlier node computes.
    Indexed {
        /// How many indices the graph has room for.
        ids: u64,
        /// The tensor of indices, to see which nodes share it.
        ids_tensor: TensorId,
        /// Whether they name experts (else rows).
        experts: bool,
    },
    /// In a way that other graphs may share (norms, biases, rope factors).
    Small,
}

/// One use of a weight by a node.
#[derive(Clone, Copy, Debug)]
pub struct WeightUse {
    /// The node's position among all nodes of the graph.
    pub node: u32,
    /// The model's tensor (never a view).
    pub tensor: TensorId,
    /// Whether the node sees it through a view, which has an address of its own.
    pub view: bool,
    /// Which weight of the file.
    pub weight: WeightId,
    /// In which way.
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
    /// How many nodes the backend announces.
    pub nodes: u32,
    /// Each node's operation, to notice a graph that is not the learned one.
    pub ops: Vec<u32>,
    /// In order of nodes.
    pub uses: Vec<WeightUse>,
}
