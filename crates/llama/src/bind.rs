//! Binds the weights of a graph in llama.cpp's tensors: a use's number leads to a tensor,
//! a binding to the address that the tensor's data pointer is set to.

use std::cell::RefCell;
use std::ffi::c_void;

use delayline_engine::{Bind, Binding, Error, FrameBinding, UseId};
use delayline_medium::Memory;

use crate::router::Router;
use crate::sys;

/// A use of a weight by a node, in llama.cpp's terms. The model outlives it.
#[derive(Clone, Copy, Debug)]
pub struct TensorUse {
    /// Which source of the node it is.
    pub src: usize,
    /// The model's tensor, never a view.
    pub tensor: *mut sys::ggml_tensor,
    /// The address that llama.cpp gave the tensor: address space that faults.
    pub vacant: *mut c_void,
    /// For an indexed weight, which source of the node holds the indices.
    pub ids_src: usize,
}

/// A node whose experts are in frames, and what has to be restored after its run. Its
/// weight has the frames' stride, and it reads frame numbers from a tensor of ours: its own
/// indices are also read by other nodes, so they are not overwritten.
pub struct FramedNode {
    used: UseId,
    node: *mut sys::ggml_tensor,
    /// Its own indices.
    ids: *mut sys::ggml_tensor,
    /// The weight's own stride in bytes from expert to expert, and number of experts.
    stride: usize,
    count: i64,
    /// The tensor that the node reads in place of its indices, and that tensor's data.
    _frames: Box<(sys::ggml_tensor, Vec<i32>)>,
}

/// Binds weights while llama.cpp is paused at the node that it announced last.
pub struct NodeBind<'a> {
    node: *mut sys::ggml_tensor,
    uses: &'a [TensorUse],
    memory: &'a Memory,
    zeros: *mut c_void,
    framed: &'a RefCell<Vec<FramedNode>>,
    routers: &'a RefCell<Vec<Router>>,
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
        framed: &'a RefCell<Vec<FramedNode>>,
        routers: &'a RefCell<Vec<Router>>,
    ) -> Self {
        Self {
            node,
            uses,
            memory,
            zeros,
            framed,
            routers,
        }
    }

    /// Restores a node's own indices and its weight's own stride and count.
    fn unframe(&self, used: UseId) {
        let mut framed = self.framed.borrow_mut();
        let Some(at) = framed.iter().position(|framed| framed.used == used) else {
            return;
        };
        let was = framed.swap_remove(at);
        let used = &self.uses[used.0 as usize];
        // SAFETY: the graph of the lap, and so the node, lives until the next lap is
        // built; the tensor belongs to the model; nothing computes.
        unsafe {
            (*was.node).src[used.ids_src] = was.ids;
            (*used.tensor).nb[2] = was.stride;
            (*used.tensor).ne[2] = was.count;
        }
    }
}

impl Bind for NodeBind<'_> {
    fn ids(&mut self, used: UseId, out: &mut Vec<i32>) -> Result<(), Error> {
        let used = &self.uses[used.0 as usize];
        if self.node.is_null() {
            return Err(Error::Defect("indices were asked for between laps".into()));
        }
        // SAFETY: the node is live, and so are its sources; a run ends before it, so its
        // indices are computed.
        unsafe { read_ids((*self.node).src[used.ids_src], out) }
    }

    fn set_ids(&mut self, used: UseId, ids: &[i32]) -> Result<(), Error> {
        let used = &self.uses[used.0 as usize];
        if self.node.is_null() {
            return Err(Error::Defect("indices were set between laps".into()));
        }
        // SAFETY: as for `ids`; nothing computes.
        unsafe { write_ids((*self.node).src[used.ids_src], ids) }
    }

    fn bind(&mut self, used: UseId, binding: Binding) -> Result<(), Error> {
        let index = used.0;
        self.unframe(used);
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
        // SAFETY: the node is live; until the run is over the address is readable for the
        // whole tensor: it is a leased extent, items that were read, or zeros of its size.
        if unsafe { point(self.node, used, address) } {
            return Ok(());
        }
        Err(not_learned(index))
    }

    fn guess(&mut self, later: UseId, out: &mut Vec<i32>) -> Result<(), Error> {
        out.clear();
        let experts = self.uses[later.0 as usize].tensor;
        let mut routers = self.routers.borrow_mut();
        let Some(router) = routers.iter_mut().find(|router| router.is_for(experts)) else {
            return Ok(());
        };
        if self.node.is_null() {
            return Err(Error::Defect("experts were guessed between laps".into()));
        }
        // SAFETY: the node is live, and so are its sources; a run ends before it, so its
        // sources are computed and nothing computes; settled weights stay as long as the
        // memory lives.
        unsafe { router.choose((*self.node).src[1], out) }
    }

    fn bind_frames(&mut self, used: UseId, frames: FrameBinding<'_>) -> Result<(), Error> {
        let u = self.uses[used.0 as usize];
        if self.node.is_null() {
            return Err(Error::Defect("a weight was bound between laps".into()));
        }
        // SAFETY: the node is live, and so are its sources.
        let ids = unsafe { (*self.node).src[u.ids_src] };
        // SAFETY: as above; indices were computed before this node was announced.
        let mut own = unsafe { *ids };
        let count: i64 = own.ne.iter().product();
        if usize::try_from(count) != Ok(frames.ids.len()) {
            return Err(Error::Defect(format!(
                "{} frames for {count} indices",
                frames.ids.len()
            )));
        }
        let address = self.memory.ptr(frames.at).cast_mut().cast();
        // SAFETY: the node is live; the experts that it names are in frames, at the stride
        // that the tensor is given below, until the run is over.
        if !unsafe { point(self.node, &u, address) } {
            return Err(not_learned(used.0));
        }
        let mut numbers = frames.ids.to_vec();
        own.data = numbers.as_mut_ptr().cast();
        own.view_src = std::ptr::null_mut();
        own.view_offs = 0;
        let mut stride = size_of::<i32>();
        for (nb, ne) in own.nb.iter_mut().zip(own.ne) {
            *nb = stride;
            stride *= ne.max(1) as usize;
        }
        let mut boxed = Box::new((own, numbers));
        // SAFETY: the node and the tensor are live and nothing computes. What they refer
        // to lives until the run is over, when `unframe` restores them.
        let (stride, count) = unsafe {
            let tensor = &mut *u.tensor;
            let was = (tensor.nb[2], tensor.ne[2]);
            tensor.nb[2] = frames.stride as usize;
            tensor.ne[2] = frames.frames.into();
            (*self.node).src[u.ids_src] = &raw mut boxed.0;
            was
        };
        self.framed.borrow_mut().push(FramedNode {
            used,
            node: self.node,
            ids,
            stride,
            count,
            _frames: boxed,
        });
        Ok(())
    }
}

fn not_learned(index: u32) -> Error {
    Error::Assumption(format!(
        "the weight of use {index} is not the one that was learned"
    ))
}

/// Sets the data pointer of a node's source, and of the tensor that it is a view of, to
/// `address`; false if the node reads another tensor than the use's.
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

/// Copies the values of a computed tensor of 32-bit indices, in logical order.
///
/// # Safety
/// `ids` is live and its data is in memory.
pub unsafe fn read_ids(ids: *const sys::ggml_tensor, out: &mut Vec<i32>) -> Result<(), Error> {
    out.clear();
    // SAFETY: the caller's promise.
    unsafe {
        each_id(ids, |place| {
            // SAFETY: inside the tensor.
            out.push(place.read_unaligned());
            true
        })
    }
}

/// Overwrites the values of such a tensor, in the same order; stops at the end of `new`.
///
/// # Safety
/// `ids` is live, its data is in memory, and nobody else reads or writes it now.
unsafe fn write_ids(ids: *const sys::ggml_tensor, new: &[i32]) -> Result<(), Error> {
    let mut new = new.iter();
    // SAFETY: the caller's promise.
    unsafe {
        each_id(ids, |place| {
            let id = new.next();
            if let Some(&id) = id {
                // SAFETY: inside the tensor.
                place.write_unaligned(id);
            }
            id.is_some()
        })
    }
}

/// Calls `visit` with the address of each index, until it returns false.
///
/// # Safety
/// `ids` is live and its data is in memory.
unsafe fn each_id(
    ids: *const sys::ggml_tensor,
    mut visit: impl FnMut(*mut i32) -> bool,
) -> Result<(), Error> {
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
                    if !visit(unsafe { t.data.cast::<u8>().add(at).cast() }) {
                        return Ok(());
                    }
                }
            }
        }
    }
    Ok(())
}
