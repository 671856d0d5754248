//! The role of each weight, and its place in memory. Decided once from the learned
//! graphs; does no I/O.

use std::ops::Range;
use std::rc::Rc;

use delayline_line::PartSpan;
use delayline_plan::{self as plan, ALIGN, Cut, ExtentId, PoolShape, Residency};

use crate::arena::{ArenaLayout, PlacedArena};
use crate::atlas::Residence;
use crate::graph::{Graph, How, WeightUse};
use crate::items::{Table, item_pages};
use crate::itinerary::Supply;
use crate::model_file::{ModelFile, Weight, WeightId};

/// Weights up to this size in bytes always stay: they cost little, and graphs other
/// than the learned ones use them too.
const SMALL: u64 = 16 << 10;

/// Base alignment of large areas, so that huge pages fit.
const HUGE: u64 = 2 << 20;

/// How a weight is supplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// No graph uses it.
    Unused,
    /// Always in memory.
    Small,
    /// In an extent; single rows are fetched by `table` while it is not settled.
    Dense {
        /// Index of its item table, if single rows of it are ever used.
        table: Option<u32>,
    },
    /// Only rows or experts of it are used.
    Indexed {
        /// Index of its item table.
        table: u32,
    },
}

/// The part of the layout that does not depend on the budget.
#[derive(Debug)]
pub struct Layout {
    /// By weight.
    pub roles: Vec<Role>,
    /// The weights that have item tables, with bytes of an item and whether items may stay.
    indexed: Vec<(WeightId, u64, bool)>,
    /// Spans of small weights; positions relative to the small area.
    small: Vec<PartSpan>,
    /// Bytes of the small area.
    pub small_bytes: u64,
    /// Maximum bytes of items that are in memory for a run only.
    pub passing_bytes: u64,
    /// The same if whole experts have frames.
    pub passing_beside_arena: u64,
    /// The layers with whole experts.
    pub arena: ArenaLayout,
    /// Nodes that share at most this number of indices have their items fetched together.
    pub group_ids: u64,
}

/// Positions in memory.
#[derive(Debug)]
pub struct Placed {
    /// Bytes of address space needed.
    pub len: u64,
    /// By extent.
    pub residences: Vec<Residence>,
    /// Reads that fill the small area.
    pub small: Vec<PartSpan>,
    /// Item tables.
    pub tables: Vec<Table>,
    /// The range of resident weights, in whole huge pages.
    pub stays: Range<u64>,
    /// Address space of which only single pages will be used: the end of the window,
    /// after the last resident weight, between and after pools of frames.
    pub sparse: Vec<Range<u64>>,
    /// Frames for whole experts.
    pub arena: PlacedArena,
}

impl Layout {
    /// Bytes of an item of a table.
    pub fn item_bytes(&self, table: u32) -> u64 {
        self.indexed[table as usize].1
    }

    /// The layout for all graphs; the first is the decoding one.
    pub fn of(file: &ModelFile, graphs: &[Rc<Graph>]) -> Self {
        let mut whole = vec![false; file.weights().len()];
        let mut small = vec![false; file.weights().len()];
        let mut indexed: Vec<Option<(u64, bool)>> = vec![None; file.weights().len()];
        for u in graphs.iter().flat_map(|g| &g.uses) {
            let weight = file.weight(u.weight);
            let at = u.weight.0 as usize;
            match u.how {
                How::Whole => whole[at] = true,
                How::Small => small[at] = true,
                How::Indexed { experts, .. } => {
                    let count: u64 = if experts {
                        weight.dims.get(2).copied().unwrap_or(1)
                    } else {
                        weight.dims.iter().skip(1).product()
                    };
                    indexed[at] = Some((weight.len / count.max(1), experts));
                }
            }
            small[at] |= weight.len <= SMALL;
        }
        let mut layout = Self {
            roles: Vec::new(),
            indexed: Vec::new(),
            small: Vec::new(),
            small_bytes: 0,
            passing_bytes: 0,
            passing_beside_arena: 0,
            arena: ArenaLayout::default(),
            group_ids: 0,
        };
        for at in 0..file.weights().len() {
            let id = WeightId(at as u32);
            let table = (!small[at])
                .then_some(indexed[at])
                .flatten()
                .map(|(unit, experts)| {
                    layout.indexed.push((id, unit, experts));
                    layout.indexed.len() as u32 - 1
                });
            layout.roles.push(match (small[at], whole[at], table) {
                (true, _, _) => Role::Small,
                (false, true, table) => Role::Dense { table },
                (false, false, Some(table)) => Role::Indexed { table },
                (false, false, None) => Role::Unused,
            });
        }
        layout.gather_small(file);
        layout.group_ids = graphs[0]
            .uses
            .iter()
            .map(|u| expert_ids(&u.how))
            .max()
            .unwrap_or(0);
        layout.arena = layout.find_experts(file, graphs);
        layout.passing_bytes = layout.passing(file, graphs, |_| true);
        let beside = layout.passing(file, graphs, |table| !layout.arena.has(table));
        layout.passing_beside_arena = beside;
        layout
    }

    /// The experts whose matrices are used in no other way, and through no view.
    fn find_experts(&self, file: &ModelFile, graphs: &[Rc<Graph>]) -> ArenaLayout {
        let mut viewed = vec![false; self.indexed.len()];
        let table_of = |u: &WeightUse| match self.roles[u.weight.0 as usize] {
            Role::Indexed { table } => Some(table),
            _ => None,
        };
        for u in graphs.iter().flat_map(|graph| &graph.uses) {
            if let Some(table) = table_of(u) {
                let rows = matches!(u.how, How::Indexed { experts: false, .. });
                viewed[table as usize] |= u.view || rows;
            }
        }
        let tables: Vec<(&Weight, u64)> = self
            .indexed
            .iter()
            .map(|&(id, unit, _)| (file.weight(id), unit))
            .collect();
        let graphs = graphs.iter().map(|graph| &**graph);
        ArenaLayout::of(graphs, &tables, &|u| {
            table_of(u).filter(|&table| !viewed[table as usize])
        })
    }

    /// Places small weights side by side; neighbours in the file are one read.
    fn gather_small(&mut self, file: &ModelFile) {
        let mut small: Vec<_> = file
            .weights()
            .iter()
            .zip(&self.roles)
            .filter(|(_, role)| **role == Role::Small)
            .map(|(w, _)| {
                (
                    w.part,
                    w.offset / ALIGN * ALIGN,
                    (w.offset + w.len).next_multiple_of(ALIGN),
                )
            })
            .collect();
        small.sort_unstable();
        for (part, from, until) in small {
            match self.small.last_mut() {
                Some(last) if last.part == part && from <= last.offset + last.len => {
                    let len = until.max(last.offset + last.len) - last.offset;
                    self.small_bytes += len - last.len;
                    last.len = len;
                }
                _ => {
                    self.small.push(PartSpan {
                        part,
                        offset: from,
                        len: until - from,
                        at: self.small_bytes,
                    });
                    self.small_bytes += until - from;
                }
            }
        }
    }

    /// Maximum bytes of items, of the tables that `passes`, in memory for a run only.
    fn passing(&self, file: &ModelFile, graphs: &[Rc<Graph>], passes: impl Fn(u32) -> bool) -> u64 {
        let mut most = 0;
        for graph in graphs {
            let mut group = (None, 0);
            for u in &graph.uses {
                let How::Indexed {
                    ids,
                    ids_tensor,
                    experts,
                    ..
                } = u.how
                else {
                    continue;
                };
                let (Role::Indexed { table } | Role::Dense { table: Some(table) }) =
                    self.roles[u.weight.0 as usize]
                else {
                    continue;
                };
                if !passes(table) {
                    continue;
                }
                let (weight, unit, _) = self.indexed[table as usize];
                // An item that occurs several times is read once.
                let bytes = ids.min(file.weight(weight).len / unit.max(1)) * item_pages(unit);
                let shared = experts && ids <= self.group_ids && group.0 == Some(ids_tensor);
                group = (
                    Some(ids_tensor),
                    if shared { group.1 + bytes } else { bytes },
                );
                most = most.max(group.1);
            }
        }
        most
    }

    /// Ranges of parts that are not read by extents: rows, experts, small weights.
    pub fn scattered(&self, file: &ModelFile) -> Vec<(u16, Range<u64>)> {
        let indexed = self.indexed.iter().map(|&(id, ..)| {
            let w = file.weight(id);
            (w.part, w.offset..w.offset + w.len)
        });
        let small = self.small.iter();
        let small = small.map(|span| (span.part, span.offset..span.offset + span.len));
        indexed.chain(small).collect()
    }

    /// The extents of the dense weights, in the decoding graph's order.
    pub fn cut(&self, file: &ModelFile, graph: &Graph) -> Result<Cut, plan::CutError> {
        let mut first = vec![None; file.weights().len()];
        let mut last = vec![0; file.weights().len()];
        for (at, u) in graph.uses.iter().enumerate() {
            if u.how == How::Whole {
                first[u.weight.0 as usize].get_or_insert(at as u32);
                last[u.weight.0 as usize] = at as u32;
            }
        }
        let late = graph.uses.len() as u32;
        let weights: Vec<plan::UsedRange> = file
            .weights()
            .iter()
            .enumerate()
            .filter(|(at, _)| matches!(self.roles[*at], Role::Dense { .. }))
            .map(|(at, w): (usize, &Weight)| plan::UsedRange {
                part: w.part,
                offset: w.offset,
                len: w.len,
                first_use: first[at].unwrap_or(late),
                last_use: if first[at].is_some() { last[at] } else { late },
            })
            .collect();
        let parts: Vec<u64> = file.parts().iter().map(|p| p.len).collect();
        let total = weights.iter().map(|w| w.len).sum();
        plan::cut(&weights, &parts, plan::default_target(total))
    }

    /// By weight: index of a dense weight among those that were cut.
    pub fn dense_index(&self) -> Vec<u32> {
        let mut next = 0;
        self.roles
            .iter()
            .map(|role| {
                let index = next;
                next += u32::from(matches!(role, Role::Dense { .. }));
                index
            })
            .collect()
    }

    /// Positions in memory: the window first, then what stays, then frames of `pools` for
    /// whole experts, then other items.
    pub fn place(
        &self,
        file: &ModelFile,
        cut: &Cut,
        residency: &Residency,
        pools: Vec<PoolShape>,
    ) -> Placed {
        let stays_from = residency.window.next_multiple_of(HUGE);
        let mut at = stays_from;
        let mut residences = Vec::with_capacity(cut.extents.len());
        for (extent, resident) in cut.extents.iter().zip(&residency.resident) {
            residences.push(match resident {
                true => Residence::Expected(at),
                false => Residence::Streamed,
            });
            at += u64::from(*resident) * extent.len;
        }
        let small = self
            .small
            .iter()
            .map(|s| PartSpan {
                at: s.at + at,
                ..*s
            })
            .collect();
        at += self.small_bytes;
        let sparse_from = at / HUGE * HUGE;
        let arena = self.arena.place(pools, at.next_multiple_of(HUGE));
        // Less than a huge page is between two pools.
        let mut before = sparse_from;
        let mut sparse = Vec::new();
        for range in arena.ranges() {
            sparse.push(before..range.start);
            before = range.end / HUGE * HUGE;
        }
        at = arena.end.max(at).next_multiple_of(HUGE);
        let tables = self
            .indexed
            .iter()
            .map(|&(id, unit, experts)| {
                let w = file.weight(id);
                let here = at + w.offset % ALIGN;
                at = (here + w.len).next_multiple_of(ALIGN);
                Table::new(w.part, w.offset, unit, w.len / unit.max(1), here, experts)
            })
            .collect();
        sparse.push(before..at);
        sparse.push(residency.window / HUGE * HUGE..residency.window.next_multiple_of(HUGE));
        Placed {
            len: at.max(HUGE),
            residences,
            small,
            tables,
            stays: stays_from..sparse_from,
            sparse,
            arena,
        }
    }

    /// Memory position of a small weight, given the placed spans.
    pub fn small_at(placed: &[PartSpan], part: u16, offset: u64) -> Option<u64> {
        placed
            .iter()
            .find(|s| s.part == part && (s.offset..s.offset + s.len).contains(&offset))
            .map(|s| s.at + (offset - s.offset))
    }
}

/// Number of experts that a node has room for; 0 if it uses none.
fn expert_ids(how: &How) -> u64 {
    match how {
        How::Indexed {
            experts: true, ids, ..
        } => *ids,
        _ => 0,
    }
}

/// Where the bytes of a use come from in the next laps.
pub fn supply(
    role: Role,
    how: How,
    home: Option<&plan::Home>,
    is_settled: impl Fn(ExtentId) -> bool,
) -> Supply {
    match (role, how) {
        (Role::Indexed { table }, _) => Supply::Items(table),
        (Role::Dense { table }, how) => {
            let home = home.expect("a dense weight was cut");
            match (is_settled(home.extent), how, table) {
                (true, _, _) => Supply::Settled,
                (false, How::Indexed { .. }, Some(table)) => Supply::Items(table),
                (false, ..) => Supply::Extent {
                    extent: home.extent,
                    at: home.at,
                },
            }
        }
        (Role::Small | Role::Unused, _) => Supply::Settled,
    }
}
