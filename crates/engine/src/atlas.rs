//! Which weight is in which extent, and which extents have settled. Does no I/O.

use std::rc::Rc;

use delayline_plan::{self as plan, Cut};

use crate::error::Error;
use crate::graph::{Graph, How};
use crate::itinerary::{Itinerary, Supply, lay_out};
use crate::layout::{Layout, Role, supply};
use crate::model_file::{ModelFile, WeightId};
use crate::watch::Ring;

/// The places of all weights.
pub struct Atlas {
    /// The role of each weight.
    pub layout: Layout,
    /// The extents.
    pub cut: Cut,
    /// By weight: its index among those that were cut.
    pub dense: Vec<u32>,
    /// By weight: its length in bytes.
    pub weight_bytes: Vec<u64>,
    /// Bytes of extents that a run gathers.
    pub run_bytes: u64,
    /// By extent.
    pub residences: Vec<Residence>,
    /// The extents and experts of a decoding lap; empty until it is known what stays.
    pub ring: Ring,
}

/// Where the bytes of an extent are from lap to lap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Residence {
    /// Nowhere: they pass through the window.
    Streamed,
    /// At this byte of the memory, once a lap has read them.
    Expected(u64),
    /// At this byte of the memory, permanently.
    Settled(u64),
}

impl Residence {
    /// Memory position of a resident extent.
    pub fn at(self) -> Option<u64> {
        match self {
            Self::Streamed => None,
            Self::Expected(at) | Self::Settled(at) => Some(at),
        }
    }

    /// Whether they are in memory permanently.
    pub fn is_settled(self) -> bool {
        matches!(self, Self::Settled(_))
    }
}

/// What laps use once all that stays is in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Steady {
    /// The runs, with the extents that stream.
    pub plan: plan::Plan,
    /// Runs that fetch rows and experts, with their bytes if none is in memory.
    pub asks: Vec<(u32, u64)>,
}

impl Atlas {
    /// For all graphs, the first being the decoding one; nothing has settled.
    ///
    /// # Errors
    /// If weights do not lie within their files.
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

    /// The itinerary of a lap through `graph`, with the extents settled so far.
    pub fn lay_out(&self, graph: &Graph) -> Itinerary {
        self.lay_out_where(graph, Residence::is_settled)
    }

    /// What a lap through `graph` uses once all that stays is in memory.
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

    /// Lays out a lap; `is_there` tells from its residence whether an extent is settled.
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
