//! Which experts of a mixture are in memory: pools of frames, one for all layers whose
//! experts have the same length, and which expert is in which frame. Layers take turns,
//! so an expert of the layer just computed is used again a lap later at the earliest.
//! Knows no tensors and no addresses.

use crate::frames::{FramePool, Framed};
use crate::policy::{FirstCome, Frequency, Lru, NextUse, Policy, S3Fifo};
use crate::types::ExtentId;

/// Laps after which a use counts half. On replayed routes of real models, values from 5
/// to 20 differ by less than one percentage point of hits.
const HALF_LIFE_LAPS: f64 = 10.0;

/// The experts of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpertLayer {
    /// How many there are.
    pub count: u32,
    /// Bytes of memory for one, all its matrices together.
    pub bytes: u64,
}

/// Where the experts of a layer are: a pool, and a range of its items.
#[derive(Clone, Copy, Debug)]
struct Seat {
    pool: usize,
    /// Item of its first expert.
    first: u32,
    count: u32,
}

/// The size of a pool and what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolShape {
    /// Bytes of a frame.
    pub bytes: u64,
    /// How many frames there are.
    pub frames: u32,
    /// How many items.
    pub items: u32,
    /// For each item its layer, counted within the pool.
    pub turn_of: Vec<u32>,
}

/// The pools of a model.
#[derive(Clone, Debug)]
pub struct ExpertPools<P> {
    pools: Vec<(u64, FramePool<P>)>,
    /// By layer.
    seats: Vec<Seat>,
    items: Vec<ExtentId>,
}

/// Makes one pool for each length of experts in `layers`, and divides `capacity` bytes
/// among them in proportion to the bytes of their experts. A pool has at least `least`
/// frames, or as many as it has experts if those are fewer, even if this exceeds the
/// capacity.
pub fn pool_shapes(layers: &[ExpertLayer], capacity: u64, least: u32) -> Vec<PoolShape> {
    let mut shapes: Vec<PoolShape> = Vec::new();
    let mut turns: Vec<u32> = Vec::new();
    for layer in layers {
        let at = match shapes.iter().position(|shape| shape.bytes == layer.bytes) {
            Some(at) => at,
            None => {
                turns.push(0);
                shapes.push(PoolShape {
                    bytes: layer.bytes,
                    frames: 0,
                    items: 0,
                    turn_of: Vec::new(),
                });
                shapes.len() - 1
            }
        };
        let shape = &mut shapes[at];
        shape.items += layer.count;
        shape
            .turn_of
            .extend(std::iter::repeat_n(turns[at], layer.count as usize));
        turns[at] += 1;
    }
    let bytes = |shape: &PoolShape| u128::from(shape.bytes) * u128::from(shape.items);
    let all: u128 = shapes.iter().map(bytes).sum();
    for shape in &mut shapes {
        let frames = u128::from(capacity) * u128::from(shape.items) / all.max(1);
        shape.frames = (frames as u32).clamp(least.min(shape.items), shape.items);
    }
    shapes
}

/// The policy used in production: next use, for layers that take turns.
pub fn production_policy(shape: &PoolShape) -> NextUse {
    NextUse::in_turns(HALF_LIFE_LAPS, usize::MAX, shape.turn_of.clone())
}

/// Policies that need no future, by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExpertPolicy {
    /// [`FirstCome`].
    FirstCome,
    /// [`Lru`].
    Lru,
    /// [`Frequency`].
    Frequency,
    /// [`S3Fifo`].
    S3Fifo,
    /// [`production_policy`].
    #[default]
    NextUse,
}

impl ExpertPolicy {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::FirstCome,
        Self::Lru,
        Self::Frequency,
        Self::S3Fifo,
        Self::NextUse,
    ];

    /// Its name in options and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::FirstCome => "first-come",
            Self::Lru => "lru",
            Self::Frequency => "frequency",
            Self::S3Fifo => "s3-fifo",
            Self::NextUse => "next-use",
        }
    }

    /// A new policy of this kind for a pool.
    pub fn start(self, shape: &PoolShape) -> Box<dyn Policy> {
        match self {
            Self::FirstCome => Box::new(FirstCome::default()),
            Self::Lru => Box::new(Lru::default()),
            Self::Frequency => Box::new(Frequency::default()),
            Self::S3Fifo => Box::new(S3Fifo::new(shape.frames as usize)),
            Self::NextUse => Box::new(production_policy(shape)),
        }
    }
}

impl<P: Policy> ExpertPools<P> {
    /// Empty pools of the shapes that [`pool_shapes`] returned for `layers`.
    pub fn new(
        layers: &[ExpertLayer],
        shapes: &[PoolShape],
        policy: impl Fn(&PoolShape) -> P,
    ) -> Self {
        let pool = |shape: &PoolShape| FramePool::new(shape.frames, shape.items, policy(shape));
        let pools: Vec<_> = shapes
            .iter()
            .map(|shape| (shape.bytes, pool(shape)))
            .collect();
        let mut next = vec![0; pools.len()];
        let seats = layers.iter().map(|layer| {
            let of_length = |(bytes, _): &(u64, _)| *bytes == layer.bytes;
            let pool = pools.iter().position(of_length);
            let pool = pool.expect("there is a pool for each length");
            let first = next[pool];
            next[pool] += layer.count;
            let count = layer.count;
            Seat { pool, first, count }
        });
        let seats = seats.collect();
        Self {
            pools,
            seats,
            items: Vec::new(),
        }
    }

    /// Index of a layer's pool.
    pub fn pool_of(&self, layer: u32) -> usize {
        self.seats[layer as usize].pool
    }

    /// How many frames that pool has.
    pub fn frames(&self, pool: usize) -> u32 {
        self.pools[pool].1.len()
    }

    /// Bytes of frames that hold an expert.
    pub fn held_bytes(&self) -> u64 {
        let held = |(bytes, pool): &(u64, FramePool<P>)| bytes * u64::from(pool.held());
        self.pools.iter().map(held).sum()
    }

    /// Uses experts of a layer. Each gets a frame of the layer's pool and is appended
    /// once to `out`, in the order given; those that were missing are to be read.
    /// Returns false, and changes nothing, if they need more frames than may be used.
    ///
    /// # Panics
    /// If the layer has no such expert.
    pub fn visit(
        &mut self,
        layer: u32,
        experts: impl IntoIterator<Item = u32>,
        out: &mut Vec<Framed>,
    ) -> bool {
        let seat = self.seats[layer as usize];
        self.items.clear();
        self.items.extend(experts.into_iter().map(|expert| {
            assert!(expert < seat.count, "expert {expert} of {}", seat.count);
            ExtentId(seat.first + expert)
        }));
        let from = out.len();
        let pool = &mut self.pools[seat.pool].1;
        let fits = pool.visit(self.items.iter().copied(), out);
        for framed in &mut out[from..] {
            framed.item.0 -= seat.first;
        }
        fits
    }

    /// Sets aside `spare` frames of each pool for reservations; see [`FramePool::leave`].
    pub fn leave(&mut self, spare: u32) {
        for (_, pool) in &mut self.pools {
            pool.leave(spare);
        }
    }

    /// See [`FramePool::reserve`]. `None` also if there is no such expert.
    pub fn reserve(&mut self, layer: u32, expert: u32) -> Option<u32> {
        let (pool, item) = self.seat(layer, expert)?;
        pool.reserve(item)
    }

    /// See [`FramePool::reserve_unused`]. `None` also if there is no such expert.
    pub fn reserve_unused(&mut self, layer: u32, expert: u32, most: u32) -> Option<u32> {
        let (pool, item) = self.seat(layer, expert)?;
        pool.reserve_unused(item, most)
    }

    /// See [`FramePool::hold`].
    ///
    /// # Panics
    /// If no frame is reserved for the expert.
    pub fn hold(&mut self, layer: u32, expert: u32) -> bool {
        let (pool, item) = self.seat(layer, expert).expect("there is such an expert");
        pool.hold(item)
    }

    /// See [`FramePool::has_frame`].
    pub fn has_frame(&self, layer: u32, expert: u32) -> bool {
        let Seat { pool, first, .. } = self.seats[layer as usize];
        self.pools[pool].1.has_frame(ExtentId(first + expert))
    }

    /// Whether the layer's pool is full; see [`FramePool::is_full`].
    pub fn is_full(&self, layer: u32) -> bool {
        self.pools[self.seats[layer as usize].pool].1.is_full()
    }

    /// Whether an expert is in a frame.
    pub fn holds(&self, layer: u32, expert: u32) -> bool {
        let Seat { pool, first, count } = self.seats[layer as usize];
        let item = (expert < count).then_some(ExtentId(first + expert));
        item.is_some_and(|item| self.pools[pool].1.frame_of(item).is_some())
    }

    /// See [`FramePool::cancel`].
    pub fn cancel(&mut self, layer: u32, expert: u32) {
        if let Some((pool, item)) = self.seat(layer, expert) {
            pool.cancel(item);
        }
    }

    /// See [`FramePool::give_back`].
    pub fn give_back(&mut self, layer: u32, frame: u32) {
        let pool = self.seats[layer as usize].pool;
        self.pools[pool].1.give_back(frame);
    }

    fn seat(&mut self, layer: u32, expert: u32) -> Option<(&mut FramePool<P>, ExtentId)> {
        let Seat { pool, first, count } = self.seats[layer as usize];
        let item = (expert < count).then_some(ExtentId(first + expert))?;
        Some((&mut self.pools[pool].1, item))
    }

    /// Empties all pools; see [`FramePool::clear`].
    pub fn clear(&mut self) {
        for (_, pool) in &mut self.pools {
            pool.clear();
        }
    }
}
