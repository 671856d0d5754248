//! The threads that compute. Between the runs of a graph they can share other work.

use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::{c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Mutex, PoisonError};

use delayline_engine::Error;
use delayline_medium::Team;

use crate::own_graph::OwnGraph;
use crate::sys;

/// A pool for each number of threads that was used: in a larger pool, idle threads would
/// spin.
#[derive(Default)]
pub struct Pools {
    all: RefCell<BTreeMap<u32, Rc<Pool>>>,
    used: RefCell<Option<Rc<Pool>>>,
}

impl Pools {
    /// Selects the pool of `n` threads, which is made if there is none.
    ///
    /// # Errors
    /// When the threads cannot be started.
    pub fn select(&self, n: u32) -> Result<Rc<Pool>, Error> {
        let pool = match self.all.borrow_mut().entry(n) {
            Entry::Occupied(pool) => pool.get().clone(),
            Entry::Vacant(place) => place.insert(Rc::new(Pool::new(n)?)).clone(),
        };
        self.used.replace(Some(pool.clone()));
        Ok(pool)
    }
}

impl Team for Pools {
    fn all(&self, work: &(dyn Fn(usize, usize) + Sync)) {
        let used = self.used.borrow().clone();
        match used {
            Some(pool) => pool.all(work),
            None => work(0, 1),
        }
    }
}

/// A pool of threads. Without one, llama.cpp would create and join threads at every run of
/// nodes. They spin before they sleep, because runs follow each other closely.
pub struct Pool {
    ptr: NonNull<sys::ggml_threadpool>,
    n: u32,
    /// A graph of one node, which calls [`on_thread`] on each thread.
    graph: OwnGraph,
    /// The job under way, for that node. Boxed, because the node points to it.
    job: Box<AtomicPtr<c_void>>,
}

/// Work that all threads do, and the first panic of one of them.
struct Job<'a> {
    work: &'a (dyn Fn(usize, usize) + Sync),
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// Size of the graph, more than enough.
const NODES: usize = 8;

impl Pool {
    fn new(n: u32) -> Result<Self, Error> {
        let refused = || Error::Llama {
            what: "start its threads",
            message: format!("{n} threads were refused"),
        };
        let mut job = Box::new(AtomicPtr::new(ptr::null_mut()));
        let node = |context| {
            let job = ptr::from_mut(&mut *job).cast();
            let each = Some(on_thread as unsafe extern "C" fn(_, _, _, _, _));
            // SAFETY: the context is live and has room for two tensors; the job stays where it
            // is as long as the graph.
            unsafe {
                let nothing = sys::ggml_new_tensor_1d(context, sys::GGML_TYPE_F32, 1);
                sys::ggml_map_custom1(context, nothing, each, n as i32, job)
            }
        };
        // SAFETY: the node and its source are in the graph's own context.
        let graph = unsafe { OwnGraph::new(NODES, node) }.ok_or_else(refused)?;
        // SAFETY: a plain struct by value; the result is checked for null.
        let pool = unsafe {
            let mut params = sys::ggml_threadpool_params_default(n as i32);
            params.poll = 50;
            sys::ggml_threadpool_new(&mut params)
        };
        let ptr = NonNull::new(pool).ok_or_else(refused)?;
        Ok(Self { ptr, n, graph, job })
    }

    /// For llama.cpp's functions; valid as long as `self`.
    pub fn as_ptr(&self) -> *mut sys::ggml_threadpool {
        self.ptr.as_ptr()
    }

    /// Calls `work` on each thread, with its number and how many there are.
    fn all(&self, work: &(dyn Fn(usize, usize) + Sync)) {
        let job = Job {
            work,
            panic: Mutex::default(),
        };
        let under_way = ptr::from_ref(&job).cast_mut().cast();
        let before = self.job.swap(under_way, Ordering::Release);
        assert!(before.is_null(), "the threads share one work at a time");
        let plan = self.graph.plan(self.n, Some(self.ptr));
        // SAFETY: the pool is live and the node needs no memory. Only the thread that decodes
        // gets here, between runs of a graph, so that the threads do nothing else. All of them
        // have left the job when this returns.
        let status = unsafe { self.graph.compute(plan) };
        self.job.store(ptr::null_mut(), Ordering::Relaxed);
        let panic = job
            .panic
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
        assert!(
            status == sys::GGML_STATUS_SUCCESS,
            "the threads refused to work: status {status}"
        );
    }
}

/// Does one thread's share of the job under way.
///
/// # Safety
/// `job` is that of a live [`Pool`], whose job is live.
unsafe extern "C" fn on_thread(
    _: *mut sys::ggml_tensor,
    _: *const sys::ggml_tensor,
    thread: c_int,
    threads: c_int,
    job: *mut c_void,
) {
    // SAFETY: the caller's promise.
    let job = unsafe {
        let job = &*job.cast::<AtomicPtr<c_void>>();
        &*job.load(Ordering::Acquire).cast::<Job<'_>>()
    };
    // Unwinding into C is undefined behaviour.
    let share = AssertUnwindSafe(|| (job.work)(thread as usize, threads as usize));
    if let Err(panic) = catch_unwind(share) {
        let mut first = job.panic.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(panic);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // SAFETY: live and freed once; a context that used it is gone.
        unsafe { sys::ggml_threadpool_free(self.ptr.as_ptr()) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn each_thread_does_its_share_once() {
        let pools = Pools::default();
        pools.all(&|thread, threads| assert_eq!((thread, threads), (0, 1)));
        for n in [1, 3, 2] {
            let pool = pools.select(n).expect("threads");
            assert_eq!(pool.n, n);
            for _ in 0..100 {
                let calls: [AtomicUsize; 3] = Default::default();
                pools.all(&|thread, threads| {
                    assert_eq!(threads, n as usize);
                    calls[thread].fetch_add(1, Ordering::Relaxed);
                });
                for (thread, calls) in calls.into_iter().enumerate() {
                    assert_eq!(calls.into_inner(), usize::from(thread < n as usize));
                }
            }
        }
    }

    #[test]
    fn a_panic_of_any_thread_is_passed_on() {
        let pools = Pools::default();
        pools.select(2).expect("threads");
        for wrong in [0, 1] {
            let work = |thread, _| assert!(thread != wrong, "thread {thread}");
            let panic = catch_unwind(AssertUnwindSafe(|| pools.all(&work)));
            let panic = panic.expect_err("a panic");
            assert_eq!(
                *panic.downcast::<String>().unwrap(),
                format!("thread {wrong}")
            );
        }
        pools.all(&|_, _| {});
    }
}
