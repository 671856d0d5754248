//! Routers of experts, cloned from the graph of a dry lap: which experts a layer would
//! name if the input of its router were another one. The next layer's router, applied to
//! this layer's input, tells most of what the next layer will name.
//!
//! A router is what lies between the product of a weight with the layer's input and the
//! indices that the experts' products read. It is found by walking back from the indices,
//! by no name and for no architecture; where something else than weights flows in, there
//! is none. The clone has memory of its own, for one row, and reads the model's weights.

use std::collections::HashMap;
use std::ffi::CStr;
use std::ptr;

use delayline_engine::{Error, Names};

use crate::bind::read_ids;
use crate::sys;

/// Nodes that a router has at most.
const NODES: usize = 64;

/// Rows that are guessed for at most: prompts want nearly all experts anyway.
const ROWS: usize = 8;

/// Memory of a tensor, aligned as kernels like it.
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
    /// The tensor of experts whose use its indices are for.
    experts: *mut sys::ggml_tensor,
    nodes: Vec<Node>,
    /// Which of the nodes is the input, and which the indices.
    input: usize,
    ids: usize,
    /// Weights that it reads, and where llama.cpp believes that they are as long as they
    /// are not in memory for good.
    weights: Vec<(*mut sys::ggml_tensor, *mut std::ffi::c_void)>,
    _context: Context,
    graph: *mut sys::ggml_cgraph,
    work: Vec<Line>,
}

/// Memory in which llama.cpp keeps a graph.
struct Context(*mut sys::ggml_context);

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: made by `ggml_init`, freed once, with the graph in it.
        unsafe { sys::ggml_free(self.0) };
    }
}

impl Router {
    /// The router that names the experts of `node`, a product of theirs; none where it
    /// cannot be told apart.
    ///
    /// # Safety
    /// `node` is a live node of a graph that is announced, and its sources are live.
    pub unsafe fn of(node: *mut sys::ggml_tensor, names: &Names) -> Option<Self> {
        // SAFETY: the caller's promise; of sources a root is live too.
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
        // SAFETY: sources of a live node are live, all the way up.
        let ids = unsafe { cloning.clone(ids) }?;
        let Made::Node(ids) = ids else {
            return None;
        };
        let (from, input) = cloning.input?;
        // What the router reads is what the experts read.
        // SAFETY: as above.
        (unsafe { root(from) } == read).then_some(())?;
        // SAFETY: the numbers are plain.
        let context = Context(unsafe {
            sys::ggml_init(sys::ggml_init_params {
                mem_size: sys::ggml_graph_overhead_custom(NODES, false) + 1024,
                mem_buffer: ptr::null_mut(),
                no_alloc: true,
            })
        });
        if context.0.is_null() {
            return None;
        }
        let mut nodes = cloning.nodes;
        // SAFETY: the context has room for that graph; the nodes are boxed, so they stay
        // where they are, and live as long as the graph.
        let (graph, plan) = unsafe {
            let graph = sys::ggml_new_graph_custom(context.0, NODES, false);
            sys::ggml_build_forward_expand(graph, &raw mut *nodes[ids].tensor);
            (graph, sys::ggml_graph_plan(graph, 1, ptr::null_mut()))
        };
        Some(Self {
            experts,
            nodes,
            input,
            ids,
            weights: cloning.weights,
            _context: context,
            graph,
            work: lines(plan.work_size),
        })
    }

    /// Whether it names experts of that tensor.
    pub fn is_for(&self, experts: *mut sys::ggml_tensor) -> bool {
        self.experts == experts
    }

    /// The weights that it reads have their own addresses again, after a dry lap.
    pub fn learned(&mut self) {
        for (tensor, vacant) in &mut self.weights {
            // SAFETY: the weights are the model's, which lives.
            *vacant = unsafe { (**tensor).data };
        }
    }

    /// What it would choose if its input were this one: the first choice of each row,
    /// then each one's second, and so on. Nothing where it cannot be told: its weights
    /// are not in memory for good, or the input is of another kind.
    ///
    /// # Errors
    /// When it was not computed.
    ///
    /// # Safety
    /// `input` is live and computed, nothing else computes, and weights that have settled
    /// are whole.
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
            // SAFETY: the row lies in the input by its own strides, and the clone's
            // input is as wide.
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
        // SAFETY: the graph, its nodes and the memory to work in are this router's, and
        // the weights are in memory. One thread, and none that belongs to others.
        let status = unsafe {
            let mut plan = sys::ggml_graph_plan(self.graph, 1, ptr::null_mut());
            plan.work_data = self.work.as_mut_ptr().cast();
            assert!(plan.work_size <= size_of_val(self.work.as_slice()));
            sys::ggml_graph_compute(self.graph, &raw mut plan)
        };
        match status {
            sys::GGML_STATUS_SUCCESS => Ok(()),
            status => Err(Error::Llama {
                what: "guess experts",
                message: format!("the computation failed with status {status}"),
            }),
        }
    }
}

/// What a tensor has become.
#[derive(Clone, Copy)]
enum Made {
    /// One of the clone's, by index.
    Node(usize),
    /// The model's own.
    Weight(*mut sys::ggml_tensor),
}

/// A router while it is cloned.
struct Cloning<'a> {
    names: &'a Names,
    of: HashMap<*mut sys::ggml_tensor, Made>,
    nodes: Vec<Node>,
    weights: Vec<(*mut sys::ggml_tensor, *mut std::ffi::c_void)>,
    /// Where the layer's input flows in: the graph's tensor, and the clone's.
    input: Option<(*mut sys::ggml_tensor, usize)>,
}

impl Cloning<'_> {
    /// Clones a tensor and all that it is made of, down to weights and the input.
    ///
    /// # Safety
    /// It is live, and its sources are.
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
        // The product of a weight and what flows into the layer.
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
            // SAFETY: only its shape is looked at.
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

    /// A leaf, which has to be a weight.
    fn weight(&mut self, tensor: *mut sys::ggml_tensor) -> Option<Made> {
        // SAFETY: the caller of `clone` answers for it; names end with a zero.
        let name = unsafe { CStr::from_ptr((*tensor).name.as_ptr()) };
        self.names.get(name.to_bytes())?;
        self.weights.push((tensor, ptr::null_mut()));
        self.of.insert(tensor, Made::Weight(tensor));
        Some(Made::Weight(tensor))
    }

    /// The input, of which there is one: a row of numbers.
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

/// A tensor, or what it is a view of; null for null.
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
