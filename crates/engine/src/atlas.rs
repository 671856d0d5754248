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
    /// By extent.
    pub residences: Vec<Residence>,
    /// What a decoding lap passes over, once it is known what stays.
    pub ring: Ring,
}

/// Where the bytes of an extent are from lap to lap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Residence {
    /// Nowhere: they pass through the window.
    Streamed,
    /// At this byte of the memory, once a lap has asked for them.
    Expected(u64),
    /// There, for good.
    Settled(u64),
}

impl Residence {
    /// Where they stay, if they do.
    pub fn at(self) -> Option<u64> {
        match self {
            Self::Streamed => None,
            Self::Expected(at) | Self::Settled(at) => Some(at),
        }
    }

    /// Whether they are there for good.
    pub fn is_settled(self) -> bool {
        matches!(self, Self::Settled(_))
    }
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
            residences: vec![Residence::Streamed; cut.extents.len()],
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
        self.lay_out_where(graph, Residence::is_settled)
    }

    /// What a lap through `graph` uses once all that stays has come by.
    pub fn steady(&self, graph: &Graph) -> Steady {
        let itinerary = self.lay_out_where(graph, |residence| residence.at().is_some());
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

    /// The same, with what is there for good told by its residence.
    fn lay_out_where(&self, graph: &Graph, is_there: fn(Residence) -> bool) -> Itinerary {
        let mut itinerary = lay_out(
            graph,
            &self.cut.extents,
            self.run_bytes,
            self.layout.group_ids,
            |weight| self.weight_bytes[weight.0 as usize],
            |weight| self.home(weight).map(|home| home.extent),
            |weight, how| {
                let role = self.layout.roles[weight.0 as usize];
                supply(role, how, self.home(weight), |extent| {
                    is_there(self.residences[extent.index()])
                })
            },
        );
        itinerary.places = self.ring.places(graph, self);
        itinerary
    }
}
