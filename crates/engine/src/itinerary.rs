//! From a graph to the stops of a lap: where the compute pauses, which extents
//! it needs before it goes on, and which it has done with. Pure.

use delayline_plan::{ExtentId, NEAR_BYTES, Plan, Run, Schedule};

use crate::graph::{Graph, How, TensorId, UseId, WeightUse};
use crate::model_file::WeightId;

/// Where the bytes of a weight come from in this lap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Supply {
    /// They are in memory for good, their address is set.
    Settled,
    /// They are at byte `at` of an extent that must be acquired.
    Extent {
        /// Which one.
        extent: ExtentId,
        /// Where in it the weight starts, in bytes.
        at: u64,
    },
    /// Single rows or experts are fetched; the index is the item table's.
    Items(u32),
}

/// What one of a node's weights is bound to before the node computes.
#[derive(Clone, Copy, Debug)]
pub struct UseSupply {
    /// The node's position in the graph.
    pub node: u32,
    /// Which use of the graph it is.
    pub used: UseId,
    /// From where.
    pub supply: Supply,
    /// The tensor of indices, where several nodes in a row share it.
    pub group: Option<TensorId>,
}

/// The stops of one lap through one graph.
#[derive(Clone, Debug, Default)]
pub struct Itinerary {
    /// How many nodes the graph announces.
    pub nodes: u32,
    /// Per node: whether the run ends after it.
    pub ends: Vec<bool>,
    /// In order of nodes.
    pub supplies: Vec<UseSupply>,
    /// What is leased before and released after each run.
    pub schedule: Schedule,
    /// The same as runs of extents, for residency and prediction.
    pub plan: Plan,
    /// For those who watch: after which node the lap is how far, in bytes of
    /// what a decoding lap passes over.
    pub places: Vec<(u32, u64)>,
}

/// Lays out the stops. `supply` tells, for a weight and its way of use, where it
/// comes from, `home` which extent it lies in; `run_bytes` is how many bytes of extents a run gathers before
/// the next begins (a single larger extent makes a run of its own); nodes that
/// share at most `group_ids` indices have their items fetched together.
pub fn lay_out(
    graph: &Graph,
    extents: &[delayline_plan::Extent],
    run_bytes: u64,
    group_ids: u64,
    weight_bytes: impl Fn(WeightId) -> u64,
    home: impl Fn(WeightId) -> Option<ExtentId>,
    supply: impl Fn(WeightId, How) -> Supply,
) -> Itinerary {
    let mut builder = Builder {
        out: Itinerary {
            nodes: graph.nodes,
            ends: vec![false; graph.nodes as usize],
            plan: Plan::cycle(extents.to_vec(), Vec::new()),
            ..Itinerary::default()
        },
        run: Run::default(),
        group: Vec::new(),
        full: false,
        fed: Vec::new(),
        first_node: 0,
        group_ids,
    };
    let mut at = 0;
    while at < graph.uses.len() {
        let node = graph.uses[at].node;
        let until = at
            + graph.uses[at..]
                .iter()
                .take_while(|u| u.node == node)
                .count();
        builder.node(
            at as u32,
            &graph.uses[at..until],
            run_bytes,
            &weight_bytes,
            &home,
            &supply,
        );
        at = until;
    }
    builder.finish()
}

struct Builder {
    out: Itinerary,
    run: Run,
    /// Extents since the last place where a run may end.
    group: Vec<ExtentId>,
    /// Whether such a place has passed since the run began.
    full: bool,
    /// What this run points each tensor at: one tensor, one address a run.
    fed: Vec<(TensorId, Supply)>,
    first_node: u32,
    group_ids: u64,
}

impl Builder {
    /// Takes the uses of a node, one at least; `first` is the number of the first.
    fn node(
        &mut self,
        first: u32,
        uses: &[WeightUse],
        run_bytes: u64,
        weight_bytes: &impl Fn(WeightId) -> u64,
        home: &impl Fn(WeightId) -> Option<ExtentId>,
        supply: &impl Fn(WeightId, How) -> Supply,
    ) {
        let node = uses[0].node;
        let supplies: Vec<Supply> = uses.iter().map(|u| supply(u.weight, u.how)).collect();
        self.gather(
            uses.iter()
                .filter(|u| u.how == How::Whole)
                .filter_map(|u| home(u.weight)),
            run_bytes,
        );
        let news = supplies
            .iter()
            .any(|s| matches!(s, Supply::Extent { extent, .. } if !self.run.needs(*extent)));
        let overfull = self.full && news && !self.run.uses.is_empty();
        let indexed = supplies.iter().any(|s| matches!(s, Supply::Items(_)));
        let repointed = uses.iter().zip(&supplies).any(|(u, s)| {
            self.fed
                .iter()
                .any(|(tensor, before)| *tensor == u.tensor && before != s)
        });
        if (overfull || indexed || repointed) && node > self.first_node {
            self.end_run(node);
        }
        for ((u, s), used) in uses.iter().zip(supplies).zip(first..) {
            let bytes = match u.how {
                How::Indexed { .. } => 0.0,
                _ => weight_bytes(u.weight) as f64,
            };
            self.run.compute += bytes;
            if s == Supply::Settled && !u.view {
                continue;
            }
            if let Supply::Extent { extent, .. } = s {
                self.run.read(extent);
            }
            self.fed.push((u.tensor, s));
            let group = match (s, u.how) {
                (
                    Supply::Items(_),
                    How::Indexed {
                        ids, ids_tensor, ..
                    },
                ) => (ids <= self.group_ids).then_some(ids_tensor),
                _ => None,
            };
            self.out.supplies.push(UseSupply {
                node,
                used: UseId(used),
                supply: s,
                group,
            });
        }
    }

    fn end_run(&mut self, next_node: u32) {
        self.out.ends[next_node as usize - 1] = true;
        self.out.plan.runs.push(std::mem::take(&mut self.run));
        self.full = false;
        self.fed.clear();
        self.first_node = next_node;
    }

    /// Gathers extents into groups of `run_bytes`, settled ones included: where
    /// a group ends, a run may end. What settles later thus takes stops away but
    /// never puts more into a run than the window was made for.
    fn gather(&mut self, extents: impl Iterator<Item = ExtentId>, run_bytes: u64) {
        let mut new: Vec<ExtentId> = extents.filter(|e| !self.group.contains(e)).collect();
        if new.is_empty() {
            return;
        }
        let len = |e: &ExtentId| self.out.plan.extents[e.index()].len;
        let bytes: u64 = self.group.iter().chain(&new).map(len).sum();
        if bytes > run_bytes && !self.group.is_empty() {
            self.group.clear();
            self.full = true;
        }
        self.group.append(&mut new);
    }

    fn finish(mut self) -> Itinerary {
        let nodes = self.out.nodes;
        self.end_run(nodes);
        let mut out = self.out;
        out.schedule = Schedule::new(&out.plan, NEAR_BYTES);
        out
    }
}
