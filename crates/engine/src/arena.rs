//! Whole experts in frames: which layers have them, the layout and places of frames, and
//! which expert is in which. All matrices of an expert are side by side in one frame, and
//! all frames of a pool have the same length, so that a kernel finds them by number and
//! stride. Does no I/O, knows no llama.cpp.
//!
//! Frames are reused, never given back: memory that has been touched stays.

use std::ops::Range;

use delayline_line::PartSpan;
use delayline_plan::{
    ALIGN, ExpertLayer, ExpertPolicy, ExpertPools, Framed, Policy, PoolShape, Presence, pool_shapes,
};

use crate::graph::{Graph, How, TensorId};
use crate::hotness::HotLaps;
use crate::items::{BadIndex, item_pages};
use crate::model_file::Weight;

/// Bytes that a kernel which groups rows by experts needs for each frame, besides
/// eight for each index: a counter, and a cache line.
const WORK_PER_FRAME: u64 = 8 + 64;

/// Bytes are moved by whole words of this length.
const WORD: u64 = 8;

/// Frames that a pool must have for each frame set aside for guesses.
const FRAMES_PER_SPARE: u32 = 8;

/// Base alignment of a pool, so that huge pages fit.
const HUGE: u64 = 2 << 20;

/// One matrix of each expert of a layer.
#[derive(Clone, Copy, Debug)]
struct Matrix {
    part: u16,
    /// First byte of expert 0 in the file.
    offset: u64,
    /// Bytes of one expert's matrix.
    unit: u64,
    /// Offset in a frame, in bytes.
    slot: u64,
}

impl Matrix {
    /// Offset of every expert's matrix from the start of a page, if it is the same for
    /// all.
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

/// The layers with whole experts, independent of the budget.
#[derive(Clone, Debug, Default)]
pub struct ArenaLayout {
    layers: Vec<Layer>,
    /// By item table: layer and matrix.
    seats: Vec<Option<(u32, u32)>>,
    /// Maximum number of indices of a lap.
    ids: u64,
    /// Experts that a token uses.
    chosen: u32,
}

/// The item table of a use of experts, if it is used for experts alone.
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
    /// The layout for all graphs, of which the first is the decoding one. `indexed` has the
    /// weight and the bytes of an item of each table. If the graphs do not agree on which
    /// matrices belong together, no layer has whole experts.
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

    /// Whether the items of a table are matrices of whole experts.
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

    /// By item table: the layer whose matrix it is.
    pub fn layer_of(&self) -> Vec<Option<u32>> {
        let seats = self.seats.iter();
        seats.map(|seat| seat.map(|(layer, _)| layer)).collect()
    }

    /// An empty list of laps of these layers.
    pub fn no_laps(&self) -> HotLaps {
        let counts = self.layers.iter().map(|layer| layer.count);
        HotLaps::new(counts.collect(), self.chosen)
    }

    /// Bytes of memory for the choices of the last laps.
    pub fn hot_bytes(&self) -> u64 {
        HotLaps::bytes(self.layers.len(), self.chosen)
    }

    /// The layers, with the bytes of the budget that one expert takes.
    fn expert_layers(&self) -> Vec<ExpertLayer> {
        let work = (WORK_PER_FRAME + 8 * self.ids).next_multiple_of(64);
        let layers = self.layers.iter().map(|layer| ExpertLayer {
            count: layer.count,
            bytes: layer.stride + work,
        });
        layers.collect()
    }

    /// Pools of frames in `capacity` bytes; `None` if a lap could use more experts of a
    /// layer than its pool has frames.
    pub fn shapes(&self, capacity: u64) -> Option<Vec<PoolShape>> {
        let layers = self.expert_layers();
        let count = layers.iter().map(|layer| layer.count).max()?;
        let least = self.ids.min(count.into()) as u32;
        let shapes = pool_shapes(&layers, capacity, least);
        let bytes = |shape: &PoolShape| u128::from(shape.bytes) * u128::from(shape.frames);
        let fits = shapes.iter().map(bytes).sum::<u128>() <= u128::from(capacity);
        fits.then_some(shapes)
    }

    /// Places the pools from byte `at` of the memory on.
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

/// The places of the pools.
#[derive(Clone, Debug, Default)]
pub struct PlacedArena {
    pools: Vec<Pool>,
    shapes: Vec<PoolShape>,
    /// The first byte after them.
    pub end: u64,
}

impl PlacedArena {
    /// The range of each pool's frames.
    pub fn ranges(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        let range = |pool: &Pool| pool.base..pool.base + pool.stride * u64::from(pool.frames);
        self.pools.iter().map(range)
    }
}

/// Counters of experts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExpertCounts {
    /// Distinct experts used, summed over layers and laps.
    pub used: u64,
    /// Those that were in memory.
    pub hits: u64,
    /// Bytes of the others.
    pub bytes_read: u64,
}

/// A matrix of some experts, for a kernel that finds them by number and stride.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameBinding<'a> {
    /// Memory position of the first byte of the matrix in frame 0.
    pub at: u64,
    /// Bytes from one frame to the next.
    pub stride: u64,
    /// Number of frames.
    pub frames: u32,
    /// The frame of each index of the node, in order.
    pub ids: &'a [i32],
}

/// Bytes that have to be moved down by less than a page once they are read.
#[derive(Clone, Copy, Debug)]
pub struct Shift {
    /// Memory position that they are read to.
    pub from: u64,
    /// Memory position where they belong, less than `from`.
    pub to: u64,
    /// Number of bytes.
    pub len: u64,
}

/// The frames, and the experts of the latest visit.
pub struct ExpertArena {
    layout: ArenaLayout,
    /// Frames of each pool that can be set aside for guesses: no lap needs them, and they
    /// are at most as many as a token uses experts.
    spare: u32,
    /// Maximum number of reserved frames of each pool up to which one is given to an expert
    /// that was hot, so that some are left for guesses.
    warming: u32,
    pools: Vec<Pool>,
    cache: ExpertPools<Box<dyn Policy>>,
    framed: Vec<Framed>,
    /// By index of the node: the frame.
    ids: Vec<i32>,
    /// By expert: its frame, valid for the experts of the latest visit.
    frame_of: Vec<i32>,
    /// Layers and experts that the latest lap used.
    used: Vec<(u32, Framed)>,
    /// Rows of that lap.
    rows: usize,
    /// Choices of the last laps.
    hot: HotLaps,
    /// Whether the latest lap is in `hot`, or is not to be.
    is_noted: bool,
    /// Whether laps are added to `hot`.
    keeps: bool,
    /// Counters of experts.
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

    /// Number of matrices of an expert of a layer.
    pub fn matrices(&self, layer: u32) -> u32 {
        self.layout.layers[layer as usize].matrices.len() as u32
    }

    /// Gives each expert of a layer that a node uses a frame, which it keeps at least until
    /// another layer is visited.
    ///
    /// # Errors
    /// If an index is out of range; nothing has changed then.
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

    /// Appends the reads, and the moves after them, for one matrix of all missing experts
    /// of the last visit.
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

    /// The read of one matrix of an expert into a frame, and the move after it, if any.
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

    /// Begins a lap. If the one before was completed, its choices are kept.
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

    /// Sets whether the choices of the following laps are kept.
    pub fn keep_hot(&mut self, keep: bool) {
        self.note();
        self.keeps = keep;
    }

    /// Takes over choices of earlier laps: the policy learns them, and all frames are
    /// empty. Returns the experts that would be in frames, as layer and expert, in the
    /// order of layers.
    pub fn recall(&mut self, hot: HotLaps) -> Vec<(u32, u32)> {
        for (layer, experts) in hot.laps().flatten() {
            self.framed.clear();
            let experts = experts.iter().map(|&expert| expert.into());
            // In a forged list a layer may use more experts than there are frames, which
            // changes nothing.
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

    /// Frames of each pool that can be set aside for guesses.
    pub fn spare(&self) -> u32 {
        self.spare
    }

    /// Sets those frames aside for guesses, or not.
    pub fn leave_spare(&mut self, leave: bool) {
        self.cache.leave(if leave { self.spare } else { 0 });
    }

    /// Reserves a frame for an expert that may be used soon; `None` if it has one, no frame
    /// is left, or the layer has no such expert.
    pub fn reserve(&mut self, layer: u32, expert: u32) -> Option<u32> {
        self.cache.reserve(layer, expert)
    }

    /// Reserves an empty frame for an expert that was hot; few are reserved at a time.
    pub fn reserve_unused(&mut self, layer: u32, expert: u32) -> Option<u32> {
        self.cache.reserve_unused(layer, expert, self.warming)
    }

    /// See [`ExpertPools::hold`].
    pub fn hold(&mut self, layer: u32, expert: u32) -> bool {
        self.cache.hold(layer, expert)
    }

    /// See [`ExpertPools::cancel`].
    pub fn cancel(&mut self, layer: u32, expert: u32) {
        self.cache.cancel(layer, expert);
    }

    /// See [`ExpertPools::give_back`].
    pub fn give_back(&mut self, layer: u32, frame: u32) {
        self.cache.give_back(layer, frame);
    }

    /// Whether an expert has a frame, or one is reserved for it.
    pub fn has_frame(&self, layer: u32, expert: u32) -> bool {
        self.cache.has_frame(layer, expert)
    }

    /// See [`ExpertPools::is_full`].
    pub fn is_full(&self, layer: u32) -> bool {
        self.cache.is_full(layer)
    }

    /// Bytes of the reads of an expert.
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

    /// The binding of one matrix of the experts of the last visit.
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

    /// Empties all frames after reads that failed. The lap under way is not counted.
    pub fn clear(&mut self) {
        self.cache.clear();
        self.used.clear();
        self.is_noted = true;
    }
}
