//! Which weight lies in which extent, and which of them have settled. Does no I/O.

use std::rc::Rc;

use delayline_plan::{self as plan, Cut};

use crate::error::Error;
use crate::graph::{Graph, How};
use crate::itinerary::{Itinerary, Supply, lay_out};
use crate::layout::{Layout, Role, supply};
use crate::model_file::{ModelFile, WeightId};
use crate::watch::Ring;

/// Which weight lies where.
pub struct Atlas {
    /// What each weight is to the stream.
    pub layout: Layout,
    /// The extents.
    pub cut: Cut,
    /// Index of each weight among those that were cut.
    pub dense: Vec<u32>,
    /// Length of each weight.
    pub weight_bytes: Vec<u64>,
    /// Bytes of extents that a run gathers.
    pub run_bytes: u64,
    /// By extent: where it stays, if it does.
    pub homes: Vec<Option<u64>>,
    /// By extent: whether it is there for good.
    pub settled: Vec<bool>,
    /// What a decoding lap passes over, once it is known what stays.
    pub ring: Ring,
}

/// What laps use in the long run.
#[derive(Clone, Debug, PartialEq)]
pub struct Steady {
    /// The runs, of which only what streams is needed.
    pub plan: plan::Plan,
    /// Bytes of rows and experts that a run asks for when the lap is there, none
    /// of them being in memory: run, bytes.
    pub asks: Vec<(u32, u64)>,
}

impl Atlas {
    /// From the graphs, the first being the decoding one; nothing has settled.
    ///
    /// # Errors
    /// When the weights do not lie in their files.
    pub fn new(file: &ModelFile, graphs: &[Rc<Graph>]) -> Result<Self, Error> {
        let layout = Layout::of(file, graphs);
        let cut = layout
            .cut(file, &graphs[0])
            .map_err(|e| Error::Defect(e.to_string()))?;
        let streamed: u64 = cut.extents.iter().map(|e| e.len).sum();
        Ok(Self {
            dense: layout.dense_index(),
            weight_bytes: file.weights().iter().map(|w| w.len).collect(),
            run_bytes: (streamed / 128).clamp(512 << 10, 8 << 20),
            homes: vec![None; cut.extents.len()],
            settled: vec![false; cut.extents.len()],
            ring: Ring::default(),
            layout,
            cut,
        })
    }

    /// The extent of a dense weight.
    pub fn home(&self, weight: WeightId) -> Option<&plan::Home> {
        let at = weight.0 as usize;
        matches!(self.layout.roles[at], Role::Dense { .. })
            .then(|| &self.cut.homes[self.dense[at] as usize])
    }

    /// The stops of a lap through `graph`, as things have settled by now.
    pub fn lay_out(&self, graph: &Graph) -> Itinerary {
        self.lay_out_with(graph, &self.settled)
    }

    /// What a lap through `graph` uses once all that stays has come by.
    pub fn steady(&self, graph: &Graph) -> Steady {
        let settled: Vec<bool> = self.homes.iter().map(Option::is_some).collect();
        let itinerary = self.lay_out_with(graph, &settled);
        let mut asks = Vec::new();
        for feed in &itinerary.supplies {
            if let Supply::Items(table) = feed.supply
                && let How::Indexed { ids, .. } = graph.uses[feed.used.0 as usize].how
            {
                let ends = &itinerary.ends[..feed.node as usize];
                let run = ends.iter().filter(|&&ends| ends).count() as u32;
                let item = self.layout.item_bytes(table);
                asks.push((run, ids * item.next_multiple_of(plan::ALIGN)));
            }
        }
        Steady {
            plan: itinerary.plan,
            asks,
        }
    }

    fn lay_out_with(&self, graph: &Graph, settled: &[bool]) -> Itinerary {
        let mut itinerary = lay_out(
            graph,
            &self.cut.extents,
            self.run_bytes,
            self.layout.group_ids,
            |weight| self.weight_bytes[weight.0 as usize],
            |weight| self.home(weight).map(|home| home.extent),
            |weight, how| {
                let role = self.layout.roles[weight.0 as usize];
                supply(role, how, self.home(weight), settled)
            },
        );
        itinerary.places = self.ring.places(graph, self);
        itinerary
    }
}
