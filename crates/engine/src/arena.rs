//! Whole experts in frames: which layers have them, what a frame looks like, where it
//! is, and which expert is in which. All matrices of an expert lie side by side in one
//! frame, and all frames of a pool are equal, so that a kernel that is told the
//! distance of two frames finds them by number. Does no I/O, knows no llama.cpp.
//!
//! A frame is read into, never discarded: memory that has been touched stays.

use std::ops::Range;

use delayline_line::PartSpan;
use delayline_plan::{
    ALIGN, ExpertLayer, ExpertPolicy, ExpertPools, Framed, Policy, PoolShape, Presence, pool_shapes,
};

use crate::graph::{Graph, How, TensorId};
use crate::hotness::HotLaps;
use crate::items::{BadIndex, item_pages};
use crate::model_file::Weight;

/// A kernel that groups rows by experts keeps so many bytes for each frame, beside
/// eight for each index: a counter, and a cache line of its own.
const WORK_PER_FRAME: u64 = 8 + 64;

/// Bytes are moved by whole words.
const WORD: u64 = 8;

/// So many frames of a pool have to be there for each that is left to guesses.
const FRAMES_PER_SPARE: u32 = 8;

/// Base alignment of a pool, so that huge pages fit.
const HUGE: u64 = 2 << 20;

/// One matrix of each expert of a layer.
#[derive(Clone, Copy, Debug)]
struct Matrix {
    part: u16,
    /// First byte of expert 0 in the file.
    offset: u64,
    /// Bytes of one expert's.
    unit: u64,
    /// Where it lies in a frame, in bytes.
    slot: u64,
}

impl Matrix {
    /// What the first byte of every expert's matrix is off the start of a page, if
    /// that is the same for all.
    fn phase(&self) -> Option<u64> {
        self.unit
            .is_multiple_of(ALIGN)
            .then_some(self.offset % ALIGN)
    }
}

/// The experts of a layer: matrices that share their indices.
#[derive(Clone, Debug)]
struct Layer {
    matrices: Vec<Matrix>,
    count: u32,
    /// Bytes of a frame.
    stride: u64,
}

/// Which layers have whole experts, whatever the budget.
#[derive(Clone, Debug, Default)]
pub struct ArenaLayout {
    layers: Vec<Layer>,
    /// By item table: layer and matrix.
    seats: Vec<Option<(u32, u32)>>,
    /// Indices that a lap has room for, at most.
    ids: u64,
    /// Experts of a token.
    chosen: u32,
}

/// The item table of a use of experts, if it has one that only experts are asked of.
type TableOf<'a> = &'a dyn Fn(&crate::graph::WeightUse) -> Option<u32>;

/// In order of nodes: the tables of uses that share their indices.
fn groups(graph: &Graph, table_of: TableOf<'_>) -> Vec<Vec<u32>> {
    let mut groups: Vec<(TensorId, Vec<u32>)> = Vec::new();
    for u in &graph.uses {
        let How::Indexed {
            ids_tensor,
            experts: true,
            ..
        } = u.how
        else {
            continue;
        };
        let Some(table) = table_of(u) else {
            continue;
        };
        match groups.last_mut() {
            Some((of, tables)) if *of == ids_tensor => tables.push(table),
            _ => groups.push((ids_tensor, vec![table])),
        }
    }
    groups.into_iter().map(|(_, tables)| tables).collect()
}

impl ArenaLayout {
    /// From all graphs, of which the first is the decoding one. `indexed` has the
    /// weight and the bytes of an item of each table. Where the graphs do not agree on
    /// what belongs together, there are none.
    pub fn of<'a>(
        graphs: impl Iterator<Item = &'a Graph> + Clone,
        indexed: &[(&Weight, u64)],
        table_of: TableOf<'_>,
    ) -> Self {
        let mut all = graphs.clone().map(|graph| groups(graph, table_of));
        let found = all.next().unwrap_or_default();
        let mut layout = Self {
            seats: vec![None; indexed.len()],
            ..Self::default()
        };
        // Laps without outputs may leave out the last layer.
        if !all.all(|other| other.iter().all(|group| found.contains(group))) {
            return layout;
        }
        let mut times = vec![0; indexed.len()];
        for &table in found.iter().flatten() {
            times[table as usize] += 1;
        }
        for tables in &found {
            let sound = |&table: &u32| {
                let (weight, unit) = indexed[table as usize];
                let (first, unit_0) = indexed[tables[0] as usize];
                let same = weight.len / unit.max(1) == first.len / unit_0.max(1);
                let whole = |bytes: u64| bytes.is_multiple_of(WORD);
                let moves = unit > 0 && whole(unit) && whole(weight.offset);
                times[table as usize] == 1 && same && moves
            };
            if !tables.iter().all(sound) {
                continue;
            }
            let (weight, unit) = indexed[tables[0] as usize];
            let mut layer = Layer {
                matrices: Vec::new(),
                count: (weight.len / unit) as u32,
                stride: 0,
            };
            for &table in tables {
                let (weight, unit) = indexed[table as usize];
                let seat = (layout.layers.len() as u32, layer.matrices.len() as u32);
                layout.seats[table as usize] = Some(seat);
                layer.matrices.push(Matrix {
                    part: weight.part,
                    offset: weight.offset,
                    unit,
                    slot: layer.stride,
                });
                layer.stride += item_pages(unit);
            }
            layout.layers.push(layer);
        }
        let ids = |graph: &Graph| {
            let uses = graph.uses.iter();
            let ids = uses.filter_map(|u| match u.how {
                How::Indexed {
                    ids, experts: true, ..
                } => Some(ids),
                _ => None,
            });
            ids.max().unwrap_or(0)
        };
        layout.ids = graphs.clone().map(ids).max().unwrap_or(0);
        layout.chosen = graphs.map(ids).next().unwrap_or(0) as u32;
        layout
    }

    /// Whether the items of that table are matrices of whole experts.
    pub fn has(&self, table: u32) -> bool {
        self.seats[table as usize].is_some()
    }

    /// The layers, with the bytes of one expert in the file.
    pub fn bare_layers(&self) -> Vec<ExpertLayer> {
        let layers = self.layers.iter().map(|layer| ExpertLayer {
            count: layer.count,
            bytes: layer.matrices.iter().map(|matrix| matrix.unit).sum(),
        });
        layers.collect()
    }

    /// Experts that a token uses in a layer.
    pub fn chosen(&self) -> u32 {
        self.chosen
    }

    /// By item table: the layer of which it has a matrix.
    pub fn layer_of(&self) -> Vec<Option<u32>> {
        let seats = self.seats.iter();
        seats.map(|seat| seat.map(|(layer, _)| layer)).collect()
    }

    /// No laps of these layers yet.
    pub fn no_laps(&self) -> HotLaps {
        let counts = self.layers.iter().map(|layer| layer.count);
        HotLaps::new(counts.collect(), self.chosen)
    }

    /// Bytes of memory that the choices of the last laps take.
    pub fn hot_bytes(&self) -> u64 {
        HotLaps::bytes(self.layers.len(), self.chosen)
    }

    /// The layers, with what one expert takes of the budget, in bytes.
    fn expert_layers(&self) -> Vec<ExpertLayer> {
        let work = (WORK_PER_FRAME + 8 * self.ids).next_multiple_of(64);
        let layers = self.layers.iter().map(|layer| ExpertLayer {
            count: layer.count,
            bytes: layer.stride + work,
        });
        layers.collect()
    }

    /// Pools of frames in so many bytes; none if some lap could use more experts of a
    /// layer than there are frames in its pool.
    pub fn shapes(&self, capacity: u64) -> Option<Vec<PoolShape>> {
        let layers = self.expert_layers();
        let count = layers.iter().map(|layer| layer.count).max()?;
        let least = self.ids.min(count.into()) as u32;
        let shapes = pool_shapes(&layers, capacity, least);
        let bytes = |shape: &PoolShape| u128::from(shape.bytes) * u128::from(shape.frames);
        let fits = shapes.iter().map(bytes).sum::<u128>() <= u128::from(capacity);
        fits.then_some(shapes)
    }

    /// Where the pools lie, behind byte `at` of the memory.
    pub fn place(&self, shapes: Vec<PoolShape>, mut at: u64) -> PlacedArena {
        let layers = self.expert_layers();
        let pools = shapes.iter().map(|shape| {
            let of_shape = layers.iter().position(|layer| layer.bytes == shape.bytes);
            let of_shape = of_shape.expect("a pool is made for some layer");
            let stride = self.layers[of_shape].stride;
            let base = at.next_multiple_of(HUGE);
            at = base + stride * u64::from(shape.frames);
            Pool {
                base,
                stride,
                frames: shape.frames,
            }
        });
        let pools = pools.collect();
        PlacedArena {
            pools,
            shapes,
            end: at,
        }
    }
}

/// A pool's frames in memory.
#[derive(Clone, Copy, Debug)]
struct Pool {
    base: u64,
    stride: u64,
    frames: u32,
}

/// Where the pools lie.
#[derive(Clone, Debug, Default)]
pub struct PlacedArena {
    pools: Vec<Pool>,
    shapes: Vec<PoolShape>,
    /// The first byte behind them.
    pub end: u64,
}

impl PlacedArena {
    /// The frames of each pool.
    pub fn ranges(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        let range = |pool: &Pool| pool.base..pool.base + pool.stride * u64::from(pool.frames);
        self.pools.iter().map(range)
    }
}

/// What became of experts, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExpertCounts {
    /// Distinct experts that layers of laps used.
    pub used: u64,
    /// Those that were in memory.
    pub hits: u64,
    /// Bytes that the others took to read.
    pub bytes_read: u64,
}

/// A matrix of some experts, for a kernel that finds them by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameBinding<'a> {
    /// Memory position of the first byte of the matrix in frame 0.
    pub at: u64,
    /// From one frame to the next, in bytes.
    pub stride: u64,
    /// How many frames there are.
    pub frames: u32,
    /// In place of each index of the node, in order: its frame.
    pub ids: &'a [i32],
}

/// Bytes that have to be moved by less than a page behind the read that brought them.
#[derive(Clone, Copy, Debug)]
pub struct Shift {
    /// Where they are.
    pub from: u64,
    /// Where they belong, before that.
    pub to: u64,
    /// How many.
    pub len: u64,
}

/// The frames, and the experts of the latest visit.
pub struct ExpertArena {
    layout: ArenaLayout,
    /// Frames of each pool that no lap needs, up to as many as a token uses experts.
    spare: u32,
    /// Frames of each pool that are taken, at most, when one is given to an expert that
    /// was hot: some are left to guesses.
    warming: u32,
    pools: Vec<Pool>,
    cache: ExpertPools<Box<dyn Policy>>,
    framed: Vec<Framed>,
    /// By index of the node: the frame.
    ids: Vec<i32>,
    /// By expert, for the layer under way; others are stale.
    frame_of: Vec<i32>,
    /// What the layers of the latest lap used.
    used: Vec<(u32, Framed)>,
    /// Rows of that lap.
    rows: usize,
    /// What the last laps chose, and whether that of the latest is among it, or not to be.
    hot: HotLaps,
    is_noted: bool,
    /// Whether laps are kept.
    keeps: bool,
    /// What became of experts.
    pub counts: ExpertCounts,
}

impl ExpertArena {
    /// Empty frames.
    pub fn new(layout: ArenaLayout, placed: PlacedArena, policy: ExpertPolicy) -> Self {
        let layers = layout.expert_layers();
        let cache = ExpertPools::new(&layers, &placed.shapes, |shape| policy.start(shape));
        let count = layers.iter().map(|layer| layer.count).max().unwrap_or(0);
        let least = layout.ids.min(count.into()) as u32;
        let pools = placed.pools.iter();
        let beyond = pools
            .clone()
            .map(|pool| pool.frames - least.min(pool.frames));
        let beyond = beyond.min().unwrap_or(0);
        let beside = pools.map(|pool| pool.frames / FRAMES_PER_SPARE).min();
        let spare = beside.unwrap_or(0).min(beyond).min(layout.chosen);
        let hot = layout.no_laps();
        Self {
            layout,
            spare,
            warming: beyond.min(spare.div_ceil(2).max(1)),
            pools: placed.pools,
            cache,
            framed: Vec::new(),
            ids: Vec::new(),
            frame_of: vec![0; count as usize],
            used: Vec::new(),
            rows: 0,
            hot,
            is_noted: true,
            keeps: true,
            counts: ExpertCounts::default(),
        }
    }

    /// Layer and matrix of a table.
    pub fn seat(&self, table: u32) -> Option<(u32, u32)> {
        self.layout.seats[table as usize]
    }

    /// How many matrices an expert of that layer has.
    pub fn matrices(&self, layer: u32) -> u32 {
        self.layout.layers[layer as usize].matrices.len() as u32
    }

    /// The experts of a layer that a node names: each has a frame from now on, until
    /// another layer is visited at least.
    ///
    /// # Errors
    /// When an index is out of range; nothing has changed then.
    pub fn visit(&mut self, layer: u32, ids: &[i32]) -> Result<(), BadIndex> {
        let shape = &self.layout.layers[layer as usize];
        let known = 0..shape.count as i32;
        if let Some(&index) = ids.iter().find(|id| !known.contains(id)) {
            let count = shape.count.into();
            return Err(BadIndex { index, count });
        }
        self.framed.clear();
        let experts = ids.iter().map(|&id| id as u32);
        let fits = self.cache.visit(layer, experts, &mut self.framed);
        assert!(fits, "pools have frames for all experts of a lap");
        for framed in &self.framed {
            self.frame_of[framed.item.index()] = framed.frame as i32;
        }
        self.ids.clear();
        self.ids
            .extend(ids.iter().map(|&id| self.frame_of[id as usize]));
        let held = |framed: &&Framed| framed.found == Presence::Held;
        let hits = self.framed.iter().filter(held).count();
        let bytes = self.bytes_of_expert(layer);
        let missed = (self.framed.len() - hits) as u64;
        self.counts.bytes_read += missed * bytes;
        self.counts.used += self.framed.len() as u64;
        self.counts.hits += hits as u64;
        self.used
            .extend(self.framed.iter().map(|framed| (layer, *framed)));
        let chosen = self.layout.chosen.max(1) as usize;
        self.rows = self.rows.max(ids.len() / chosen);
        Ok(())
    }

    /// What has to be read so that a matrix of all experts of the last visit is there,
    /// and what has to be moved then.
    pub fn missing(
        &self,
        layer: u32,
        matrix: u32,
        spans: &mut Vec<PartSpan>,
        shifts: &mut Vec<Shift>,
    ) {
        let missing = |framed: &&Framed| framed.found == Presence::Missing;
        for framed in self.framed.iter().filter(missing) {
            let (span, shift) = self.span(layer, matrix, framed.item.0, framed.frame);
            spans.push(span);
            shifts.extend(shift);
        }
    }

    /// What has to be read so that a matrix of an expert is in a frame, and what has to
    /// be moved then.
    pub fn span(
        &self,
        layer: u32,
        matrix: u32,
        expert: u32,
        frame: u32,
    ) -> (PartSpan, Option<Shift>) {
        let pool = self.pools[self.cache.pool_of(layer)];
        let matrix = self.layout.layers[layer as usize].matrices[matrix as usize];
        let offset = matrix.offset + u64::from(expert) * matrix.unit;
        let slot = pool.base + u64::from(frame) * pool.stride + matrix.slot;
        let from = offset / ALIGN * ALIGN;
        let until = (offset + matrix.unit).next_multiple_of(ALIGN);
        let span = PartSpan {
            part: matrix.part,
            offset: from,
            len: until - from,
            at: slot,
        };
        let shift = Shift {
            from: slot + (offset - from),
            to: slot,
            len: matrix.unit,
        };
        let is_off = matrix.phase().is_none() && offset > from;
        (span, is_off.then_some(shift))
    }

    /// A lap begins. If the one before came to its end, its choices are kept.
    pub fn begin(&mut self) {
        self.note();
        self.used.clear();
        (self.rows, self.is_noted) = (0, false);
    }

    fn note(&mut self) {
        if !std::mem::replace(&mut self.is_noted, true) && self.keeps {
            let used = self.used.iter();
            let used = used.map(|(layer, framed)| (*layer, framed.item.0));
            self.hot.add(self.rows, used);
        }
    }

    /// The choices of the last laps.
    pub fn hot(&mut self) -> &mut HotLaps {
        self.note();
        &mut self.hot
    }

    /// Whether the choices of the laps that follow are kept.
    pub fn keep_hot(&mut self, keep: bool) {
        self.note();
        self.keeps = keep;
    }

    /// These are the choices of the last laps, as if they had been made here: what the
    /// policy knows of them is known, and nothing is in a frame. The experts that would
    /// be, in the order of layers, as layer and expert.
    pub fn recall(&mut self, hot: HotLaps) -> Vec<(u32, u32)> {
        for (layer, experts) in hot.laps().flatten() {
            self.framed.clear();
            let experts = experts.iter().map(|&expert| expert.into());
            // A few layers of a list that was made up may name more than there are frames.
            self.cache.visit(layer, experts, &mut self.framed);
        }
        self.framed.clear();
        self.hot = hot;
        let layers = (0..).zip(&self.layout.layers);
        let all = layers.flat_map(|(layer, of)| (0..of.count).map(move |expert| (layer, expert)));
        let held = all.filter(|&(layer, expert)| self.cache.holds(layer, expert));
        let held = held.collect();
        self.cache.clear();
        held
    }

    /// See [`crate::Stream::expert_picture`].
    pub fn picture(&self) -> Vec<String> {
        let layers = self.layout.layers.iter().zip(0..);
        let mut picture: Vec<Vec<u8>> = layers
            .map(|(of, layer)| {
                let held = |expert| self.cache.holds(layer, expert);
                (0..of.count).map(|e| b'0' + u8::from(held(e))).collect()
            })
            .collect();
        for (layer, framed) in &self.used {
            let found = framed.found == Presence::Held;
            picture[*layer as usize][framed.item.index()] = if found { b'2' } else { b'3' };
        }
        let text = |digits: Vec<u8>| digits.into_iter().map(char::from).collect();
        picture.into_iter().map(text).collect()
    }

    /// The experts of the last visit, each once.
    pub fn visited(&self) -> &[Framed] {
        &self.framed
    }

    /// Frames of each pool that can be left to experts that will perhaps be used.
    pub fn spare(&self) -> u32 {
        self.spare
    }

    /// Leaves them to those, or to what is used.
    pub fn leave_spare(&mut self, leave: bool) {
        self.cache.leave(if leave { self.spare } else { 0 });
    }

    /// A frame for an expert that will perhaps be used soon; none where it has one, no
    /// frame is left or the layer has no such expert.
    pub fn reserve(&mut self, layer: u32, expert: u32) -> Option<u32> {
        self.cache.reserve(layer, expert)
    }

    /// A frame that nobody uses yet for an expert that was hot, of which few are taken at a
    /// time; none where there is none now.
    pub fn reserve_unused(&mut self, layer: u32, expert: u32) -> Option<u32> {
        self.cache.reserve_unused(layer, expert, self.warming)
    }

    /// Such an expert is there. False where its frame went to others.
    pub fn hold(&mut self, layer: u32, expert: u32) -> bool {
        self.cache.hold(layer, expert)
    }

    /// The expert is not expected any more; its frame is nobody's until it is given back.
    pub fn cancel(&mut self, layer: u32, expert: u32) {
        self.cache.cancel(layer, expert);
    }

    /// Nothing more is read into a frame of an expert that was not expected any more.
    pub fn give_back(&mut self, layer: u32, frame: u32) {
        self.cache.give_back(layer, frame);
    }

    /// Whether an expert has a frame, or one is reserved for it.
    pub fn has_frame(&self, layer: u32, expert: u32) -> bool {
        self.cache.has_frame(layer, expert)
    }

    /// Whether no frame is left that nobody uses, of those of a layer.
    pub fn is_full(&self, layer: u32) -> bool {
        self.cache.is_full(layer)
    }

    /// Bytes that are read to have an expert in a frame.
    pub fn read_bytes(&self, layer: u32, expert: u32) -> u64 {
        let matrices = 0..self.matrices(layer);
        let spans = matrices.map(|matrix| self.span(layer, matrix, expert, 0).0);
        spans.map(|span| span.len).sum()
    }

    /// Bytes of an expert in the file.
    fn bytes_of_expert(&self, layer: u32) -> u64 {
        let matrices = self.layout.layers[layer as usize].matrices.iter();
        matrices.map(|matrix| matrix.unit).sum()
    }

    /// Where a matrix of the experts of the last visit is.
    pub fn binding(&self, layer: u32, matrix: u32) -> FrameBinding<'_> {
        let pool = self.pools[self.cache.pool_of(layer)];
        let matrix = self.layout.layers[layer as usize].matrices[matrix as usize];
        FrameBinding {
            at: pool.base + matrix.slot + matrix.phase().unwrap_or(0),
            stride: pool.stride,
            frames: pool.frames,
            ids: &self.ids,
        }
    }

    /// Bytes of frames that hold an expert.
    pub fn held_bytes(&self) -> u64 {
        self.cache.held_bytes()
    }

    /// Bytes of all frames.
    pub fn capacity_bytes(&self) -> u64 {
        let pools = self.pools.iter();
        pools.map(|pool| pool.stride * u64::from(pool.frames)).sum()
    }

    /// Nothing is in any frame any more, after reads that failed; nor has the latest lap
    /// been one.
    pub fn clear(&mut self) {
        self.cache.clear();
        self.used.clear();
        self.is_noted = true;
    }
}
