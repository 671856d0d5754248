//! Routers of experts, cloned from the graph of a dry lap, to guess which experts a layer
//! will choose: the next layer's router, applied to this layer's input, chooses most of
//! the experts that the next layer will.
//!
//! A router is the part of the graph from the product of a weight with the layer's input to
//! the indices that the experts' products read. It is found by walking back from the
//! indices, independently of names and architectures. If it reads anything else than that
//! input and weights, there is no clone. The clone has memory of its own, for one row, and
//! reads the model's weights.

use std::collections::HashMap;
use std::ffi::CStr;
use std::ptr;

use delayline_engine::{Error, Names};

use crate::bind::read_ids;
use crate::own_graph::OwnGraph;
use crate::sys;

/// Size of a clone's graph. A router may have half as many nodes.
const NODES: usize = 64;

/// Maximum number of rows for which experts are guessed: longer prompts need nearly all
/// experts anyway.
const ROWS: usize = 8;

/// A unit of a tensor's memory, aligned as kernels expect it.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(#[expect(dead_code, reason = "read and written by llama.cpp")] [u8; 64]);

/// A tensor of the clone, and its memory unless it is a view.
struct Node {
    tensor: Box<sys::ggml_tensor>,
    _data: Vec<Line>,
}

/// A router that can be applied to any input.
pub struct Router {
    /// The weight whose experts it chooses.
    experts: *mut sys::ggml_tensor,
    nodes: Vec<Node>,
    /// Indices into `nodes` of the input and of the chosen indices.
    input: usize,
    ids: usize,
    /// Weights that it reads, with the faulting address that llama.cpp gave each; a weight
    /// that still has it has not settled.
    weights: Vec<(*mut sys::ggml_tensor, *mut std::ffi::c_void)>,
    graph: OwnGraph,
    work: Vec<Line>,
}

impl Router {
    /// Clones the router that chooses the experts of `node`, a product with experts. `None`
    /// if it cannot be isolated.
    ///
    /// # Safety
    /// `node` is a live node of a graph that is being announced, and its sources are live.
    pub unsafe fn of(node: *mut sys::ggml_tensor, names: &Names) -> Option<Self> {
        // SAFETY: the caller's promise; the roots of live sources are live.
        let (experts, read, ids) = unsafe {
            let n = &*node;
            (root(n.src[0]), root(n.src[1]), n.src[2])
        };
        let mut cloning = Cloning {
            names,
            of: HashMap::new(),
            nodes: Vec::new(),
            weights: Vec::new(),
            input: None,
        };
        // SAFETY: sources of a live node are live, recursively.
        let ids = unsafe { cloning.clone(ids) }?;
        let Made::Node(ids) = ids else {
            return None;
        };
        let (from, input) = cloning.input?;
        // The router has to read the same input as the experts.
        // SAFETY: as above.
        (unsafe { root(from) } == read).then_some(())?;
        let mut nodes = cloning.nodes;
        // SAFETY: the nodes are boxed, so they stay where they are, and live as long as the
        // graph; the weights are the model's, which lives longer.
        let graph = unsafe { OwnGraph::new(NODES, |_| &raw mut *nodes[ids].tensor) }?;
        Some(Self {
            experts,
            nodes,
            input,
            ids,
            weights: cloning.weights,
            work: lines(graph.plan(1, None).work_size),
            graph,
        })
    }

    /// Whether it chooses experts of that weight.
    pub fn is_for(&self, experts: *mut sys::ggml_tensor) -> bool {
        self.experts == experts
    }

    /// After a dry lap, when the weights have their own addresses again: notes those.
    pub fn learned(&mut self) {
        for (tensor, vacant) in &mut self.weights {
            // SAFETY: the weights are the model's, which lives.
            *vacant = unsafe { (**tensor).data };
        }
    }

    /// The experts that it chooses for `input`: the first choice of each row, then the
    /// second of each, and so on. Empty if one of its weights has not settled, there are more
    /// than [`ROWS`] rows, or the input has another type or width.
    ///
    /// # Errors
    /// When the computation failed.
    ///
    /// # Safety
    /// `input` is live and computed, nothing else computes, and settled weights are
    /// completely read.
    pub unsafe fn choose(
        &mut self,
        input: *const sys::ggml_tensor,
        out: &mut Vec<i32>,
    ) -> Result<(), Error> {
        out.clear();
        // SAFETY: the weights are the model's, which lives.
        let vacant =
            |(tensor, vacant): &(*mut sys::ggml_tensor, _)| unsafe { (**tensor).data == *vacant };
        // SAFETY: the caller's promise.
        let from = unsafe { &*input };
        let own = &self.nodes[self.input].tensor;
        let (own_width, own_row) = (own.ne[0], own.data.cast::<f32>());
        let [width, n1, n2, n3] = from.ne.map(|n| n.max(0) as usize);
        let rows = n1 * n2 * n3;
        let fits = from.type_ == sys::GGML_TYPE_F32
            && from.ne[0] == own_width
            && from.nb[0] == size_of::<f32>()
            && !from.data.is_null();
        if !fits || !(1..=ROWS).contains(&rows) || self.weights.iter().any(vacant) {
            return Ok(());
        }
        let mut ids = Vec::new();
        for row in 0..rows {
            let (i1, i2, i3) = (row % n1, row / n1 % n2, row / (n1 * n2));
            let at = i1 * from.nb[1] + i2 * from.nb[2] + i3 * from.nb[3];
            // SAFETY: by the input's strides the row is inside of it, and the clone's input
            // is as wide.
            unsafe {
                let row = from.data.cast::<u8>().add(at).cast::<f32>();
                ptr::copy_nonoverlapping(row, own_row, width);
            }
            self.compute()?;
            // SAFETY: the indices have just been computed.
            unsafe { read_ids(&raw const *self.nodes[self.ids].tensor, &mut ids)? };
            out.resize(rows * ids.len(), 0);
            for (at, &id) in ids.iter().enumerate() {
                out[at * rows + row] = id;
            }
        }
        Ok(())
    }

    fn compute(&mut self) -> Result<(), Error> {
        let mut plan = self.graph.plan(1, None);
        plan.work_data = self.work.as_mut_ptr().cast();
        assert!(plan.work_size <= size_of_val(self.work.as_slice()));
        // SAFETY: the nodes and the work memory are this router's, and the weights are in
        // memory. It computes on this thread alone.
        let status = unsafe { self.graph.compute(plan) };
        match status {
            sys::GGML_STATUS_SUCCESS => Ok(()),
            status => Err(Error::Llama {
                what: "guess experts",
                message: format!("the computation failed with status {status}"),
            }),
        }
    }
}

/// What a tensor of the graph is in the clone.
#[derive(Clone, Copy)]
enum Made {
    /// A node of the clone, by index.
    Node(usize),
    /// A weight, which is the model's own tensor.
    Weight(*mut sys::ggml_tensor),
}

/// A router while it is cloned.
struct Cloning<'a> {
    names: &'a Names,
    of: HashMap<*mut sys::ggml_tensor, Made>,
    nodes: Vec<Node>,
    weights: Vec<(*mut sys::ggml_tensor, *mut std::ffi::c_void)>,
    /// The router's input: the graph's tensor, and the index of the clone's.
    input: Option<(*mut sys::ggml_tensor, usize)>,
}

impl Cloning<'_> {
    /// Clones a tensor and, recursively, its sources, down to weights and the input. `None`
    /// if that does not give a router.
    ///
    /// # Safety
    /// The tensor and its sources are live.
    unsafe fn clone(&mut self, tensor: *mut sys::ggml_tensor) -> Option<Made> {
        if let Some(&made) = self.of.get(&tensor) {
            return Some(made);
        }
        if self.nodes.len() >= NODES / 2 {
            return None;
        }
        // SAFETY: the caller's promise; also below.
        let t = unsafe { &*tensor };
        if t.op == sys::GGML_OP_NONE {
            return self.weight(tensor);
        }
        let mut copy = Box::new(*t);
        copy.buffer = ptr::null_mut();
        copy.extra = ptr::null_mut();
        // The product of a weight and the layer's input.
        // SAFETY: sources of a live tensor are live.
        let product =
            t.op == sys::GGML_OP_MUL_MAT && unsafe { (*root(t.src[0])).op } == sys::GGML_OP_NONE;
        for (at, &source) in t.src.iter().enumerate() {
            if source.is_null() {
                continue;
            }
            let made = match (product, at) {
                (true, 1) => self.input(source)?,
                // SAFETY: as above.
                _ => unsafe { self.clone(source) }?,
            };
            copy.src[at] = self.address(made);
        }
        let mut data = Vec::new();
        if t.view_src.is_null() {
            // SAFETY: reads only the tensor's shape.
            data = lines(unsafe { sys::ggml_nbytes(tensor) });
            copy.data = data.as_mut_ptr().cast();
        } else {
            // SAFETY: as above.
            let Made::Node(of) = (unsafe { self.clone(t.view_src) })? else {
                return None;
            };
            copy.view_src = self.address(Made::Node(of));
            copy.data = self.nodes[of].tensor.data.wrapping_byte_add(t.view_offs);
        }
        Some(self.add(tensor, copy, data))
    }

    fn add(
        &mut self,
        tensor: *mut sys::ggml_tensor,
        copy: Box<sys::ggml_tensor>,
        data: Vec<Line>,
    ) -> Made {
        self.nodes.push(Node {
            tensor: copy,
            _data: data,
        });
        let made = Made::Node(self.nodes.len() - 1);
        self.of.insert(tensor, made);
        made
    }

    /// Notes a leaf, which has to be a weight.
    fn weight(&mut self, tensor: *mut sys::ggml_tensor) -> Option<Made> {
        // SAFETY: the caller of `clone` answers for it; names end with a zero.
        let name = unsafe { CStr::from_ptr((*tensor).name.as_ptr()) };
        self.names.get(name.to_bytes())?;
        self.weights.push((tensor, ptr::null_mut()));
        self.of.insert(tensor, Made::Weight(tensor));
        Some(Made::Weight(tensor))
    }

    /// Makes the input's node: one row of floats. `None` for a second, different input.
    fn input(&mut self, tensor: *mut sys::ggml_tensor) -> Option<Made> {
        if let Some((from, at)) = self.input {
            return (from == tensor).then_some(Made::Node(at));
        }
        // SAFETY: the caller of `clone` answers for it.
        let t = unsafe { &*tensor };
        let is_row = t.type_ == sys::GGML_TYPE_F32 && t.ne[1..] == [1; 3] && t.ne[0] > 0;
        is_row.then_some(())?;
        let mut copy = Box::new(*t);
        copy.buffer = ptr::null_mut();
        copy.extra = ptr::null_mut();
        copy.op = sys::GGML_OP_NONE;
        copy.src = [ptr::null_mut(); _];
        copy.view_src = ptr::null_mut();
        copy.view_offs = 0;
        let bytes = t.ne[0] as usize * size_of::<f32>();
        copy.nb = [size_of::<f32>(), bytes, bytes, bytes];
        let mut data = lines(bytes);
        copy.data = data.as_mut_ptr().cast();
        let made = self.add(tensor, copy, data);
        self.input = Some((tensor, self.nodes.len() - 1));
        Some(made)
    }

    fn address(&mut self, made: Made) -> *mut sys::ggml_tensor {
        match made {
            Made::Node(at) => &raw mut *self.nodes[at].tensor,
            Made::Weight(tensor) => tensor,
        }
    }
}

/// The tensor that this one is a view of, or itself; null for null.
///
/// # Safety
/// It is live or null.
unsafe fn root(tensor: *mut sys::ggml_tensor) -> *mut sys::ggml_tensor {
    // SAFETY: the caller's promise.
    match unsafe { tensor.as_ref() } {
        Some(t) if !t.view_src.is_null() => t.view_src,
        _ => tensor,
    }
}

fn lines(bytes: usize) -> Vec<Line> {
    vec![Line([0; 64]); bytes.div_ceil(64)]
}
