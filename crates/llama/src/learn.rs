//! Learns a graph from a *dry lap*: llama.cpp builds the graph and announces it node by
//! node, computes the first nodes on zeros, then the abort callback ends the lap. No byte
//! of the weights is read.

use std::collections::HashMap;
use std::ffi::{CStr, c_void};

use delayline_engine::{Error, Graph, How, Names, TensorId, WeightUse};

use crate::bind::TensorUse;
use crate::router::Router;
use crate::sys;

/// Records a graph while it is announced.
pub struct Learner {
    names: Names,
    zeros: *mut c_void,
    graph: Graph,
    /// One for each of the graph's uses.
    tensors: Vec<TensorUse>,
    routers: Vec<Router>,
    /// The tensor of indices for which a router was last looked for.
    routed: *mut sys::ggml_tensor,
    numbers: HashMap<*mut sys::ggml_tensor, TensorId>,
    computed: u32,
    /// Tensors that point at the zeros, with their own addresses.
    patched: Vec<(*mut sys::ggml_tensor, *mut c_void)>,
    /// How many leading computed nodes read zeros.
    fed: u32,
    /// The number of dimensions of a rotary embedding that is less than 1 and so must not
    /// be computed.
    turns: Option<i32>,
}

/// What a dry lap has recorded.
pub struct Learned {
    /// The graph.
    pub graph: Graph,
    /// Its uses, in llama.cpp's terms.
    pub tensors: Vec<TensorUse>,
    /// Routers of its experts, if the lap had one row.
    pub routers: Vec<Router>,
}

/// Number of leading nodes that may compute before the abort callback is first polled:
/// fused kernels compute several at once.
const FED_WITH_ZEROS: u32 = 8;

impl Learner {
    /// `zeros` is readable address space of the largest weight's size.
    pub fn new(names: Names, zeros: *mut c_void) -> Self {
        Self {
            names,
            zeros,
            graph: Graph::default(),
            tensors: Vec::new(),
            routers: Vec::new(),
            routed: std::ptr::null_mut(),
            numbers: HashMap::new(),
            computed: 0,
            patched: Vec::new(),
            fed: FED_WITH_ZEROS,
            turns: None,
        }
    }

    /// The same for a lap that is computed to its end, with zeros for all weights.
    pub fn whole(names: Names, zeros: *mut c_void) -> Self {
        Self {
            fed: u32::MAX,
            ..Self::new(names, zeros)
        }
    }

    /// Records an announced node.
    ///
    /// # Safety
    /// `node` is a live node of the graph being announced.
    pub unsafe fn node(&mut self, node: *mut sys::ggml_tensor) {
        let index = self.graph.nodes;
        self.graph.nodes += 1;
        // SAFETY: the caller's promise.
        let n = unsafe { &*node };
        self.graph.ops.push(n.op);
        // SAFETY: as above.
        if !unsafe { computes(n) } {
            return;
        }
        self.computed += 1;
        // The kernel skips these dimensions when it copies the others: with none of them to
        // skip, that loop never ends.
        if n.op == sys::GGML_OP_ROPE && n.op_params[1] < 1 {
            self.turns = Some(n.op_params[1]);
        }
        if n.op == sys::GGML_OP_MUL_MAT_ID && n.src[2] != self.routed {
            self.routed = n.src[2];
            // SAFETY: the caller's promise.
            self.routers
                .extend(unsafe { Router::of(node, &self.names) });
        }
        for (src, &source) in n.src.iter().enumerate() {
            if source.is_null() {
                continue;
            }
            // SAFETY: sources of a live node are live; `view_src` is their root.
            let (root, name) = unsafe {
                let root = if (*source).view_src.is_null() {
                    source
                } else {
                    (*source).view_src
                };
                (root, CStr::from_ptr((*root).name.as_ptr()).to_bytes())
            };
            // SAFETY: root is live.
            if unsafe { (*root).op } != sys::GGML_OP_NONE {
                continue;
            }
            let Some(&weight) = self.names.get(name) else {
                continue;
            };
            // SAFETY: n's sources are live.
            let (how, ids_src) = unsafe { self.how(n, src) };
            let vacant = self
                .patched
                .iter()
                .find(|(tensor, _)| *tensor == root)
                // SAFETY: root is live.
                .map_or_else(|| unsafe { (*root).data }, |(_, data)| *data);
            let view = source != root;
            let used = WeightUse {
                node: index,
                tensor: self.number(root),
                view,
                weight,
                how,
            };
            self.graph.uses.push(used);
            self.tensors.push(TensorUse {
                src,
                tensor: root,
                vacant,
                ids_src,
            });
            if self.computed <= self.fed {
                // SAFETY: the tensor belongs to the model and nothing computes
                // while nodes are announced; `finish` restores the address.
                unsafe {
                    for tensor in [root, source] {
                        self.patched.push((tensor, (*tensor).data));
                        (*tensor).data = self.zeros;
                    }
                }
            }
        }
    }

    /// Whether the graph must not be computed.
    pub fn refuses(&self) -> bool {
        self.turns.is_some()
    }

    /// How `node` uses its source `src`, and which of its sources has the indices.
    ///
    /// # Safety
    /// The node's sources are live.
    unsafe fn how(&mut self, node: &sys::ggml_tensor, src: usize) -> (How, usize) {
        let mut indexed = |ids_src: usize| {
            // SAFETY: the caller's promise.
            let ids = unsafe { &*node.src[ids_src] };
            let how = How::Indexed {
                ids_tensor: self.number(node.src[ids_src]),
                ids: ids.ne.iter().map(|&n| n.max(0) as u64).product(),
                experts: node.op == sys::GGML_OP_MUL_MAT_ID,
            };
            (how, ids_src)
        };
        match node.op {
            sys::GGML_OP_MUL_MAT if src == 0 => (How::Whole, 0),
            sys::GGML_OP_GET_ROWS if src == 0 => indexed(1),
            sys::GGML_OP_MUL_MAT_ID if src == 0 => indexed(2),
            _ => (How::Small, 0),
        }
    }

    fn number(&mut self, tensor: *mut sys::ggml_tensor) -> TensorId {
        let next = TensorId(self.numbers.len() as u32);
        *self.numbers.entry(tensor).or_insert(next)
    }

    /// Ends the lap: restores the tensors' addresses and returns the graph.
    ///
    /// # Errors
    /// When the graph must not be computed, or announced no weights at all.
    pub fn finish(mut self) -> Result<Learned, Error> {
        for (tensor, data) in std::mem::take(&mut self.patched).into_iter().rev() {
            // SAFETY: as in `node`; the graph is not computing any more.
            unsafe { (*tensor).data = data }
        }
        if let Some(turns) = self.turns {
            return Err(Error::Llama {
                what: "compute this model",
                message: format!(
                    "its rotary embedding turns {turns} dimensions, expected 1 or more"
                ),
            });
        }
        if self.graph.uses.is_empty() {
            return Err(Error::Assumption("the graph announced no weights".into()));
        }
        self.routers.iter_mut().for_each(Router::learned);
        Ok(Learned {
            graph: self.graph,
            tensors: self.tensors,
            routers: self.routers,
        })
    }
}

/// Whether the CPU backend computes this node: graphs also contain nodes that are not
/// selected for computing.
///
/// # Safety
/// `node` is live.
unsafe fn computes(node: &sys::ggml_tensor) -> bool {
    let empty_op = matches!(
        node.op,
        sys::GGML_OP_NONE
            | sys::GGML_OP_RESHAPE
            | sys::GGML_OP_TRANSPOSE
            | sys::GGML_OP_VIEW
            | sys::GGML_OP_PERMUTE
    );
    !empty_op
        && node.flags & sys::GGML_TENSOR_FLAG_COMPUTE as i32 != 0
        && node.ne.iter().all(|&n| n > 0)
}
