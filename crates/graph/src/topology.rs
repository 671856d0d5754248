//! The edges of a graph in memory, by their target: compressed sparse columns, with
//! 32 bits an id where they fit. It knows numbers of nodes, not their features.

use crate::Error;

/// Ids in as few bytes as they need.
#[derive(Clone, Debug)]
enum Ids {
    Short(Box<[u32]>),
    Long(Box<[u64]>),
}

impl Ids {
    fn zeros(len: usize, largest: u64) -> Self {
        match u32::try_from(largest) {
            Ok(_) => Self::Short(vec![0; len].into()),
            Err(_) => Self::Long(vec![0; len].into()),
        }
    }

    fn get(&self, index: usize) -> u64 {
        match self {
            Self::Short(ids) => u64::from(ids[index]),
            Self::Long(ids) => ids[index],
        }
    }

    fn set(&mut self, index: usize, id: u64) {
        match self {
            Self::Short(ids) => ids[index] = id as u32,
            Self::Long(ids) => ids[index] = id,
        }
    }

    fn bytes(&self) -> u64 {
        match self {
            Self::Short(ids) => 4 * ids.len() as u64,
            Self::Long(ids) => 8 * ids.len() as u64,
        }
    }
}

/// An edge into a node: where it comes from, and its number in the list that the
/// graph was made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InEdge {
    /// The node at its other end.
    pub source: u32,
    /// Its number.
    pub edge: u64,
}

/// All edges of a graph.
#[derive(Clone, Debug)]
pub struct Topology {
    nodes: u32,
    /// For each node the first of its edges; one more entry at the end.
    starts: Ids,
    sources: Box<[u32]>,
    /// Number of each; `None` where they are in this order.
    edges: Option<Ids>,
}

impl Topology {
    /// From lists of sources and targets.
    ///
    /// # Errors
    /// As [`Topology::from_pairs`], and when the lists differ in length.
    pub fn from_edges(nodes: u64, sources: &[i64], targets: &[i64]) -> Result<Self, Error> {
        if sources.len() != targets.len() {
            return Err(Error::Graph(format!(
                "edges with {} sources and {} targets, expected as many of both",
                sources.len(),
                targets.len()
            )));
        }
        Self::from_pairs(nodes, sources.len(), |edge| (sources[edge], targets[edge]))
    }

    /// From `len` edges, of which `edge` tells source and target, in any order; the
    /// edges into a node keep theirs. Takes time in proportion to their number, and
    /// what stays is all it takes but for one figure a node.
    ///
    /// # Errors
    /// [`Error::Graph`] when there are too many nodes or an id is out of range.
    pub fn from_pairs(
        nodes: u64,
        len: usize,
        edge: impl Fn(usize) -> (i64, i64),
    ) -> Result<Self, Error> {
        let count = u32::try_from(nodes).ok().filter(|&count| count < u32::MAX);
        let Some(count) = count else {
            return Err(Error::Graph(format!(
                "a graph of {nodes} nodes, expected fewer than 2^32 - 1"
            )));
        };
        let mut starts = Ids::zeros(nodes as usize + 1, len as u64);
        for index in 0..len {
            let (source, target) = edge(index);
            for id in [source, target] {
                if !u64::try_from(id).is_ok_and(|id| id < nodes) {
                    return Err(Error::Graph(format!(
                        "edge {index} names node {id}, but the graph has {nodes} nodes; correct \
                         edge_index or num_nodes"
                    )));
                }
            }
            let next = target as usize + 1;
            starts.set(next, starts.get(next) + 1);
        }
        for node in 0..nodes as usize {
            starts.set(node + 1, starts.get(node + 1) + starts.get(node));
        }
        let mut filled = starts.clone();
        let mut sources = vec![0; len];
        let mut edges = Ids::zeros(len, len as u64);
        for index in 0..len {
            let (source, target) = edge(index);
            let place = filled.get(target as usize);
            filled.set(target as usize, place + 1);
            sources[place as usize] = source as u32;
            edges.set(place as usize, index as u64);
        }
        Ok(Self {
            nodes: count,
            starts,
            sources: sources.into(),
            edges: Some(edges),
        })
    }

    /// From compressed columns: for each node the first of the edges into it, one more
    /// entry at the end, and the source of each edge. Edges are numbered in this order.
    ///
    /// # Errors
    /// [`Error::Graph`] when there are too many nodes, `starts` does not rise from 0 to
    /// the number of edges, or an id is out of range.
    pub fn from_columns(starts: &[u64], sources: Vec<u32>) -> Result<Self, Error> {
        let edges = sources.len() as u64;
        let nodes = starts.len().saturating_sub(1);
        let count = u32::try_from(nodes).ok().filter(|&count| count < u32::MAX);
        let (Some(count), Some(&first), Some(&last)) = (count, starts.first(), starts.last())
        else {
            return Err(Error::Graph(format!(
                "a graph of {nodes} nodes, expected fewer than 2^32 - 1 and one start more than nodes"
            )));
        };
        if first != 0 || last != edges || !starts.is_sorted() {
            return Err(Error::Graph(format!(
                "the starts of columns go from {first} to {last}, expected them to rise from 0 to \
                 the number of edges, {edges}"
            )));
        }
        if let Some(index) = sources.iter().position(|&source| source >= count) {
            return Err(Error::Graph(format!(
                "edge {index} names node {}, but the graph has {nodes} nodes",
                sources[index]
            )));
        }
        let mut ids = Ids::zeros(starts.len(), edges);
        for (index, &start) in starts.iter().enumerate() {
            ids.set(index, start);
        }
        Ok(Self {
            nodes: count,
            starts: ids,
            sources: sources.into(),
            edges: None,
        })
    }

    /// How many nodes.
    pub fn nodes(&self) -> u32 {
        self.nodes
    }

    /// How many edges.
    pub fn edges(&self) -> u64 {
        self.sources.len() as u64
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> u64 {
        let edges = self.edges.as_ref().map_or(0, Ids::bytes);
        self.starts.bytes() + 4 * self.edges() + edges
    }

    /// How many edges go into a node.
    pub fn degree(&self, node: u32) -> u64 {
        self.starts.get(node as usize + 1) - self.starts.get(node as usize)
    }

    /// One of the edges into a node, by its number among these.
    pub fn edge_into(&self, node: u32, index: u64) -> InEdge {
        let place = (self.starts.get(node as usize) + index) as usize;
        InEdge {
            source: self.sources[place],
            edge: (self.edges.as_ref()).map_or(place as u64, |edges| edges.get(place)),
        }
    }
}
