//! The edges of a graph in memory, ordered by target: compressed sparse columns, with ids
//! of 32 bits if they fit. Does not know features.

use crate::Error;

/// A list of ids, of 32 bits each if the largest fits.
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

/// An edge into a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InEdge {
    /// The node that it comes from.
    pub source: u32,
    /// Its number in the list of edges that the graph was made of.
    pub edge: u64,
}

/// All edges of a graph.
#[derive(Clone, Debug)]
pub struct Topology {
    nodes: u32,
    /// For each node the index of the first edge into it, and at the end the number of
    /// edges.
    starts: Ids,
    /// The source of each edge.
    sources: Box<[u32]>,
    /// The number of each edge; `None` if it is its index.
    edges: Option<Ids>,
}

impl Topology {
    /// A graph from a list of the edges' sources and one of their targets.
    ///
    /// # Errors
    /// As [`Topology::from_pairs`], and if the lists differ in length.
    pub fn from_edges(nodes: u64, sources: &[i64], targets: &[i64]) -> Result<Self, Error> {
        if sources.len() != targets.len() {
            return Err(Error::Graph(format!(
                "edges with {} sources and {} targets, expected equal numbers",
                sources.len(),
                targets.len()
            )));
        }
        Self::from_pairs(nodes, sources.len(), |edge| (sources[edge], targets[edge]))
    }

    /// A graph from `len` edges in any order; `edge` returns the source and the target of
    /// an edge by its number. The edges into a node keep their order. Takes time
    /// proportional to the number of edges, and during construction one number for each
    /// node in addition to the result.
    ///
    /// # Errors
    /// [`Error::Graph`] if there are too many nodes or an id is out of range.
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

    /// A graph from compressed columns. `starts` has for each node the index of the first
    /// edge into it, and at the end the number of edges; `sources` has the source of each
    /// edge. Edges are numbered in this order.
    ///
    /// # Errors
    /// [`Error::Graph`] if there are too many nodes, `starts` does not rise from 0 to the
    /// number of edges, or an id is out of range.
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
                "the starts of the columns go from {first} to {last}, expected numbers that rise \
                 from 0 to the number of edges, {edges}"
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

    /// Number of nodes.
    pub fn nodes(&self) -> u32 {
        self.nodes
    }

    /// Number of edges.
    pub fn edges(&self) -> u64 {
        self.sources.len() as u64
    }

    /// Bytes of memory that it takes.
    pub fn bytes(&self) -> u64 {
        let edges = self.edges.as_ref().map_or(0, Ids::bytes);
        self.starts.bytes() + 4 * self.edges() + edges
    }

    /// Number of edges into a node.
    ///
    /// # Panics
    /// If the node is not in the graph.
    pub fn degree(&self, node: u32) -> u64 {
        self.starts.get(node as usize + 1) - self.starts.get(node as usize)
    }

    /// The edge with this index among the edges into a node; the index is less than the
    /// node's degree.
    ///
    /// # Panics
    /// If the node is not in the graph, or the graph has no such edge.
    pub fn edge_into(&self, node: u32, index: u64) -> InEdge {
        let place = (self.starts.get(node as usize) + index) as usize;
        InEdge {
            source: self.sources[place],
            edge: (self.edges.as_ref()).map_or(place as u64, |edges| edges.get(place)),
        }
    }
}
