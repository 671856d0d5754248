//! Which neighbours a mini-batch takes along. Each draw is a function of the seed, the
//! epoch, the seeds of the batch, the hop and the node, and of nothing else: whoever
//! samples the batch, and when, draws the same.

use crate::{Error, Topology};
use delayline_medium::Rng;
use rustc_hash::{FxHashMap, FxHashSet};

/// What a batch is sampled with.
#[derive(Clone, Debug)]
pub struct NeighborSampler {
    /// Neighbours a node takes along, for each hop; `None` for all.
    fanouts: Vec<Option<u32>>,
    seed: u64,
}

/// The sampled nodes and edges of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subgraph {
    /// Nodes of the graph: the seeds in their order, then the others as they were met.
    pub nodes: Vec<u32>,
    /// For each edge the index of its source in `nodes`.
    pub rows: Vec<u32>,
    /// For each edge the index of its target in `nodes`.
    pub columns: Vec<u32>,
    /// For each edge its number in the graph.
    pub edges: Vec<u64>,
    /// Nodes that each hop adds, the seeds first.
    pub nodes_of_hop: Vec<usize>,
    /// Edges that each hop adds.
    pub edges_of_hop: Vec<usize>,
}

impl NeighborSampler {
    /// Of so many neighbours a hop; -1 takes all.
    ///
    /// # Errors
    /// [`Error::Graph`] when there is no hop or a number is out of range.
    pub fn new(fanouts: &[i64], seed: u64) -> Result<Self, Error> {
        let fanout = |&fanout: &i64| match fanout {
            -1 => Ok(None),
            0..=0xffff_fffe => Ok(Some(fanout as u32)),
            _ => Err(Error::Graph(format!(
                "{fanout} neighbours a hop, expected 0 or more, or -1 for all"
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

    /// Samples the batch of these seeds. Each node takes its neighbours once, in the
    /// hop after it was met. A seed that is named twice is there twice, each with the
    /// same neighbours; the edges from it come from the first.
    ///
    /// # Errors
    /// [`Error::Graph`] when the graph has no such node.
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

    /// How often each node is expected in an epoch whose seeds are these, but for a
    /// factor and for what a batch shares: the chance to be drawn, hop by hop.
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

/// The index of a node in the batch, which it joins if it is new.
fn index_of(node: u32, met: &mut FxHashMap<u32, u32>, nodes: &mut Vec<u32>) -> u32 {
    *met.entry(node).or_insert_with(|| {
        nodes.push(node);
        (nodes.len() - 1) as u32
    })
}

/// One number of two, each bit of which depends on all of theirs.
fn mix(a: u64, b: u64) -> u64 {
    Rng::new(a.rotate_left(23) ^ Rng::new(b).next_u64()).next_u64()
}

/// Calls `take` with `count` of the numbers below `of`, each once, any set of them as
/// likely (Floyd; Bentley and Floyd, "A sample of brilliance", CACM 1987).
fn choose(of: u64, count: u64, rng: &mut Rng, take: &mut impl FnMut(u64)) {
    /// Up to here a list is searched faster than a set.
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
