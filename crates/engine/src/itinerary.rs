//! Lays out a lap through a graph: after which nodes the compute pauses, which extents
//! each run needs, and what each weight is bound to. Pure.

use delayline_plan::{ExtentId, NEAR_BYTES, Plan, Run, Schedule};

use crate::graph::{Graph, How, TensorId, UseId, WeightUse};
use crate::model_file::WeightId;

/// Where the bytes of a weight come from in this lap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Supply {
    /// They are in memory at a permanent address.
    Settled,
    /// They start at byte `at` of an extent that must be acquired.
    Extent {
        /// The extent.
        extent: ExtentId,
        /// Offset of the weight in it, in bytes.
        at: u64,
    },
    /// Single rows or experts are fetched, by the item table of this index.
    Items(u32),
}

/// One weight of a node, and where its bytes come from.
#[derive(Clone, Copy, Debug)]
pub struct UseSupply {
    /// The node's position in the graph.
    pub node: u32,
    /// The use of the graph.
    pub used: UseId,
    /// The source of its bytes.
    pub supply: Supply,
    /// The tensor of indices, if consecutive nodes may share it.
    pub group: Option<TensorId>,
}

/// The layout of one lap through one graph.
#[derive(Clone, Debug, Default)]
pub struct Itinerary {
    /// Number of nodes that the graph announces.
    pub nodes: u32,
    /// By node: whether the run ends after it.
    pub ends: Vec<bool>,
    /// In order of nodes.
    pub supplies: Vec<UseSupply>,
    /// What is leased before and released after each run.
    pub schedule: Schedule,
    /// The same as runs of extents, for residency and prediction.
    pub plan: Plan,
    /// Progress for display: nodes, each with the position of the lap after it in bytes of
    /// [`crate::watch::Ring`].
    pub places: Vec<(u32, u64)>,
}

/// Lays out a lap. `supply` returns where a weight comes from for a way of use, `home` the
/// extent that holds it. `run_bytes` is the number of bytes of extents that a run gathers
/// before the next begins; a single larger extent makes a run of its own. Nodes that
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
    /// Extents since the last point where a run may end.
    group: Vec<ExtentId>,
    /// Whether the run has passed such a point.
    full: bool,
    /// What each tensor is bound to in this run: a tensor has one address per run.
    fed: Vec<(TensorId, Supply)>,
    first_node: u32,
    group_ids: u64,
}

impl Builder {
    /// Adds the uses of a node, at least one; `first` is the number of the first.
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

    /// Gathers extents into groups of `run_bytes`, settled ones included: a run may end
    /// where a group ends. So extents that settle later remove pauses, but never put more
    /// into a run than the window was made for.
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
