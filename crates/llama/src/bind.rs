//! Where the weights of a graph are in llama.cpp's tensors: uses by number become
//! pointers, and bindings the addresses that those hold.

use std::ffi::c_void;

use delayline_engine::{Bind, Binding, Error, UseId};
use delayline_medium::Memory;

use crate::sys;

/// A use of a graph, in llama.cpp's terms. The model outlives it.
#[derive(Clone, Copy, Debug)]
pub struct TensorUse {
    /// Which source of the node it is.
    pub src: usize,
    /// The model's tensor, never a view.
    pub tensor: *mut sys::ggml_tensor,
    /// Where llama.cpp believes its bytes are: address space that faults.
    pub vacant: *mut c_void,
    /// Which source of the node holds the indices, of an indexed weight.
    pub ids_src: usize,
}

/// Binds the weights of the node that llama.cpp announced last.
pub struct NodeBind<'a> {
    node: *mut sys::ggml_tensor,
    uses: &'a [TensorUse],
    memory: &'a Memory,
    zeros: *mut c_void,
}

impl<'a> NodeBind<'a> {
    /// # Safety
    /// `node` is the live node that was announced last, or null between laps; the
    /// tensors of `uses` live; nothing computes as long as this exists; `zeros` are
    /// as long as the largest weight; and what reads from `memory` takes bindings
    /// only of what it has leased.
    pub unsafe fn new(
        node: *mut sys::ggml_tensor,
        uses: &'a [TensorUse],
        memory: &'a Memory,
        zeros: *mut c_void,
    ) -> Self {
        Self {
            node,
            uses,
            memory,
            zeros,
        }
    }
}

impl Bind for NodeBind<'_> {
    fn ids(&mut self, used: UseId, out: &mut Vec<i32>) -> Result<(), Error> {
        let used = &self.uses[used.0 as usize];
        if self.node.is_null() {
            return Err(Error::Defect("indices were asked for between laps".into()));
        }
        // SAFETY: the node is live, and its sources with it; a run has ended before
        // it, so its indices are computed.
        unsafe { read_ids((*self.node).src[used.ids_src], out) }
    }

    fn bind(&mut self, used: UseId, binding: Binding) -> Result<(), Error> {
        let index = used.0;
        let used = &self.uses[index as usize];
        let address = match binding {
            Binding::Vacant => {
                // SAFETY: the tensor belongs to the model, and nothing computes.
                unsafe { (*used.tensor).data = used.vacant };
                return Ok(());
            }
            Binding::At(at) => self.memory.ptr(at).cast_mut().cast(),
            Binding::Zeros => self.zeros,
            // SAFETY: reads the tensor's settled address.
            Binding::Settled => unsafe { (*used.tensor).data },
        };
        if self.node.is_null() {
            return Err(Error::Defect("a weight was bound between laps".into()));
        }
        // SAFETY: the node is live; the address is readable for the whole tensor: a
        // leased extent holds it, items are there, or it is address space of its
        // size; it stays so until the run is over.
        if unsafe { point(self.node, used, address) } {
            return Ok(());
        }
        Err(Error::Assumption(format!(
            "the weight of use {index} is not the one that was learned"
        )))
    }
}

/// Points a node's source at `address`, through a view if it has one; false where
/// it reads another tensor.
///
/// # Safety
/// `node` is live; `address` is readable for as long as the node may compute.
unsafe fn point(node: *mut sys::ggml_tensor, used: &TensorUse, address: *mut c_void) -> bool {
    // SAFETY: sources of a live node are live.
    unsafe {
        let source = (*node).src[used.src];
        let root = if source.is_null() || (*source).view_src.is_null() {
            source
        } else {
            (*source).view_src
        };
        if root != used.tensor {
            return false;
        }
        (*root).data = address;
        if source != root {
            (*source).data = address.wrapping_byte_add((*source).view_offs);
        }
    }
    true
}

/// Copies a computed tensor of 32-bit indices, with its strides.
///
/// # Safety
/// `ids` is live and its data is in memory.
unsafe fn read_ids(ids: *const sys::ggml_tensor, out: &mut Vec<i32>) -> Result<(), Error> {
    out.clear();
    // SAFETY: the caller's promise.
    let t = unsafe { &*ids };
    if t.type_ != sys::GGML_TYPE_I32 || t.data.is_null() {
        return Err(Error::Assumption("indices are not 32-bit integers".into()));
    }
    let [n0, n1, n2, n3] = t.ne.map(|n| n.max(0) as usize);
    for i3 in 0..n3 {
        for i2 in 0..n2 {
            for i1 in 0..n1 {
                for i0 in 0..n0 {
                    let at = i0 * t.nb[0] + i1 * t.nb[1] + i2 * t.nb[2] + i3 * t.nb[3];
                    // SAFETY: inside the tensor by its own strides.
                    out.push(unsafe { t.data.cast::<u8>().add(at).cast::<i32>().read_unaligned() });
                }
            }
        }
    }
    Ok(())
}
