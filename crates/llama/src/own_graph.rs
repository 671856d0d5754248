//! A small ggml graph of our own, computed beside the model's.

use std::ptr::NonNull;

use crate::sys;

/// Bytes for the tensors that a graph's context holds: a few, of some 400 bytes each.
const TENSORS: usize = 4096;

/// A graph, and the context that holds it; both are freed on drop.
pub struct OwnGraph {
    context: NonNull<sys::ggml_context>,
    graph: NonNull<sys::ggml_cgraph>,
}

impl OwnGraph {
    /// The graph that computes the node that `root` returns, of at most `nodes` nodes. `root`
    /// may make tensors without memory in the context that it is given. `None` if there is no
    /// memory for it.
    ///
    /// # Safety
    /// The node and its sources are live as long as the graph.
    pub unsafe fn new(
        nodes: usize,
        root: impl FnOnce(*mut sys::ggml_context) -> *mut sys::ggml_tensor,
    ) -> Option<Self> {
        // SAFETY: the numbers are plain, and the result is checked for null.
        let context = NonNull::new(unsafe {
            sys::ggml_init(sys::ggml_init_params {
                mem_size: sys::ggml_graph_overhead_custom(nodes, false) + TENSORS,
                mem_buffer: std::ptr::null_mut(),
                no_alloc: true,
            })
        })?;
        // SAFETY: the context is live and has room for a graph of that size.
        let graph = unsafe { sys::ggml_new_graph_custom(context.as_ptr(), nodes, false) };
        let graph = NonNull::new(graph).expect("its context has room for it");
        let own = Self { context, graph };
        // SAFETY: the graph is live, and the caller answers for the node.
        unsafe { sys::ggml_build_forward_expand(graph.as_ptr(), root(context.as_ptr())) };
        Some(own)
    }

    /// How to compute it with so many threads of a pool; without a pool, on this thread.
    pub fn plan(
        &self,
        threads: u32,
        pool: Option<NonNull<sys::ggml_threadpool>>,
    ) -> sys::ggml_cplan {
        let pool = pool.map_or(std::ptr::null_mut(), NonNull::as_ptr);
        // SAFETY: the graph is live; the pool is only noted.
        unsafe { sys::ggml_graph_plan(self.graph.as_ptr(), threads as i32, pool) }
    }

    /// Computes it; returns ggml's status.
    ///
    /// # Safety
    /// What its nodes read is in memory, the plan's pool is live and computes nothing else,
    /// and its work memory is as large as it says.
    pub unsafe fn compute(&self, mut plan: sys::ggml_cplan) -> sys::ggml_status {
        // SAFETY: the caller's promise.
        unsafe { sys::ggml_graph_compute(self.graph.as_ptr(), &raw mut plan) }
    }
}

impl Drop for OwnGraph {
    fn drop(&mut self) {
        // SAFETY: made in `new`, freed once, with the graph in it.
        unsafe { sys::ggml_free(self.context.as_ptr()) };
    }
}
