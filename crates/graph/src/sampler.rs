//! Samples neighbours for mini-batches. Each draw is a function of the sampler's seed, the
//! epoch, the seed nodes of the batch, the hop and the node, so that threads, workers and
//! look-ahead do not change it.

use crate::{Error, Topology};
use delayline_medium::Rng;
use rustc_hash::{FxHashMap, FxHashSet};

/// Samples the neighbours of seed nodes, hop by hop.
#[derive(Clone, Debug)]
pub struct NeighborSampler {
    /// Neighbours to sample of each node, for each hop; `None` for all.
    fanouts: Vec<Option<u32>>,
    seed: u64,
}

/// The sampled nodes and edges of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subgraph {
    /// Ids in the graph: the seed nodes in their order, then the others in the order in
    /// which they were reached.
    pub nodes: Vec<u32>,
    /// For each edge the index of its source in `nodes`.
    pub rows: Vec<u32>,
    /// For each edge the index of its target in `nodes`.
    pub columns: Vec<u32>,
    /// For each edge its number in the graph.
    pub edges: Vec<u64>,
    /// Number of seed nodes, then of the nodes that each hop adds.
    pub nodes_of_hop: Vec<usize>,
    /// Number of edges that each hop adds.
    pub edges_of_hop: Vec<usize>,
}

impl NeighborSampler {
    /// A sampler with one hop for each number in `fanouts`: the neighbours to sample of
    /// each node, or -1 for all.
    ///
    /// # Errors
    /// [`Error::Graph`] if there is no hop or a number is out of range.
    pub fn new(fanouts: &[i64], seed: u64) -> Result<Self, Error> {
        let fanout = |&fanout: &i64| match fanout {
            -1 => Ok(None),
            0..=0xffff_fffe => Ok(Some(fanout as u32)),
            _ => Err(Error::Graph(format!(
                "{fanout} neighbours in a hop, expected 0 or more, or -1 for all"
            ))),
        };
        if fanouts.is_empty() {
            let what = "no number of neighbours is given, expected one for each hop";
            return Err(Error::Graph(what.into()));
        }
        Ok(Self {
            fanouts: fanouts.iter().map(fanout).collect::<Result<_, _>>()?,
            seed,
        })
    }

    /// Samples the batch of these seed nodes. The neighbours of a node are sampled once, in
    /// the hop after the one that reached it. A seed node that is listed twice is in the
    /// batch twice, with the same neighbours; where it is a source, its first index is used.
    ///
    /// # Errors
    /// [`Error::Graph`] if a seed node is not in the graph.
    pub fn sample(&self, graph: &Topology, epoch: u64, seeds: &[i64]) -> Result<Subgraph, Error> {
        let mut out = Subgraph::default();
        let mut met = FxHashMap::default();
        met.reserve(seeds.len() * 8);
        let mut batch = mix(mix(self.seed, epoch), seeds.len() as u64);
        for &seed in seeds {
            let node = u32::try_from(seed)
                .ok()
                .filter(|&node| node < graph.nodes());
            let Some(node) = node else {
                return Err(Error::Graph(format!(
                    "node {seed} is asked for, but the graph has {} nodes",
                    graph.nodes()
                )));
            };
            batch = mix(batch, u64::from(node));
            met.entry(node).or_insert(out.nodes.len() as u32);
            out.nodes.push(node);
        }
        out.nodes_of_hop.push(out.nodes.len());
        let mut from = 0;
        for (hop, fanout) in (0..).zip(&self.fanouts) {
            let (to, edges_before) = (out.nodes.len(), out.edges.len());
            let hop = mix(batch, hop);
            for column in from..to {
                let node = out.nodes[column];
                let degree = graph.degree(node);
                let mut take = |index: u64| {
                    let into = graph.edge_into(node, index);
                    out.rows
                        .push(index_of(into.source, &mut met, &mut out.nodes));
                    out.columns.push(column as u32);
                    out.edges.push(into.edge);
                };
                match fanout {
                    Some(fanout) if u64::from(*fanout) < degree => {
                        let mut rng = Rng::new(mix(hop, u64::from(node)));
                        choose(degree, u64::from(*fanout), &mut rng, &mut take);
                    }
                    _ => (0..degree).for_each(take),
                }
            }
            from = to;
            out.nodes_of_hop.push(out.nodes.len() - to);
            out.edges_of_hop.push(out.edges.len() - edges_before);
        }
        Ok(out)
    }

    /// For each node the expected number of times that an epoch with these seed nodes draws
    /// it: the sum over the hops. It ignores that a batch contains a node once, however
    /// often it was drawn.
    ///
    /// # Panics
    /// If a seed node is not in the graph.
    pub fn expected_uses(
        &self,
        graph: &Topology,
        seeds: impl IntoIterator<Item = u32>,
    ) -> Vec<f32> {
        let mut hop = vec![0.0f32; graph.nodes() as usize];
        seeds.into_iter().for_each(|seed| hop[seed as usize] += 1.0);
        let mut sum = hop.clone();
        for fanout in &self.fanouts {
            let mut next = vec![0.0f32; graph.nodes() as usize];
            for node in 0..graph.nodes() {
                let (chance, degree) = (hop[node as usize], graph.degree(node));
                if chance == 0.0 || degree == 0 {
                    continue;
                }
                let taken = fanout.map_or(degree, |fanout| degree.min(u64::from(fanout)));
                let each = chance * taken as f32 / degree as f32;
                for index in 0..degree {
                    next[graph.edge_into(node, index).source as usize] += each;
                }
            }
            sum.iter_mut()
                .zip(&next)
                .for_each(|(sum, next)| *sum += next);
            hop = next;
        }
        sum
    }
}

/// The index of a node in the batch; adds it if it is new.
fn index_of(node: u32, met: &mut FxHashMap<u32, u32>, nodes: &mut Vec<u32>) -> u32 {
    *met.entry(node).or_insert_with(|| {
        nodes.push(node);
        (nodes.len() - 1) as u32
    })
}

/// A hash of two numbers.
fn mix(a: u64, b: u64) -> u64 {
    Rng::new(a.rotate_left(23) ^ Rng::new(b).next_u64()).next_u64()
}

/// Calls `take` with `count` different numbers below `of`; all sets are equally likely
/// (Floyd's algorithm: Bentley and Floyd, "A sample of brilliance", CACM 1987).
fn choose(of: u64, count: u64, rng: &mut Rng, take: &mut impl FnMut(u64)) {
    /// Up to this number a list is searched faster than a set.
    const FEW: u64 = 64;
    let mut few: Vec<u64> = Vec::new();
    let mut many: FxHashSet<u64> = FxHashSet::default();
    for last in of - count..of {
        let drawn = rng.below(last + 1);
        let number = if few.contains(&drawn) || many.contains(&drawn) {
            last
        } else {
            drawn
        };
        if count <= FEW {
            few.push(number);
        } else {
            many.insert(number);
        }
        take(number);
    }
}
