//! A llama.cpp context: KV cache, compute buffers, threads. Each call decodes one
//! micro-batch, so one call is one lap. Knows nothing of feeding.

use std::cell::Cell;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Arc;

use crate::empty::Model;
use crate::kept::{Snapshots, snapshot_room};
use crate::kind;
use crate::log;
use crate::piece::Piece;
use crate::pump::{Pump, on_abort, on_node};
use crate::sys;
use crate::threads::Pools;
use delayline_engine::{ContextShape, Error, FlashAttention, KvType};

/// A context with its persistent threads; freed on drop.
pub struct Context {
    ptr: NonNull<sys::llama_context>,
    batch: Batch,
    announced: Announced,
    vocab: usize,
    shape: ContextShape,
    /// The exception of a failed change to the KV cache, whose content is unknown until it
    /// is cleared.
    pub(crate) unknown: Option<sys::Exception>,
    /// Whether its memory has recurrent states, which cannot be cut back.
    pub(crate) has_recurrent_state: bool,
    /// Tokens that sliding attention sees; 0 without such layers.
    pub(crate) attention_window: u32,
    pub(crate) snapshots: Snapshots,
    // The pools and the model are freed after the context, which points into both.
    pools: Rc<Pools>,
    _model: Arc<Model>,
}

impl Context {
    /// A context on `model`; `pump`, if given, sees every node and must outlive it.
    ///
    /// # Errors
    /// When llama.cpp refuses.
    pub fn new(
        model: &Arc<Model>,
        shape: ContextShape,
        pump: Option<&Pump>,
    ) -> Result<Self, Error> {
        // SAFETY: returns a plain struct by value.
        let mut params = unsafe { sys::llama_context_default_params() };
        params.n_ctx = shape.ctx;
        params.n_batch = shape.ubatch;
        params.n_ubatch = shape.ubatch;
        params.n_seq_max = shape.seqs + u32::from(shape.spare);
        // One cache for all sequences: each takes as many cells as it needs, and a lap
        // may carry any mixture of them.
        params.kv_unified = params.n_seq_max > 1;
        // Logits of one row per sequence; the default reserves one per token.
        params.n_outputs_max = params.n_seq_max;
        params.n_threads = shape.threads as i32;
        params.n_threads_batch = shape.threads as i32;
        params.type_k = ggml_type(shape.kv);
        params.type_v = ggml_type(shape.kv);
        params.flash_attn_type = match shape.flash {
            FlashAttention::Auto => sys::LLAMA_FLASH_ATTN_TYPE_AUTO,
            FlashAttention::On => sys::LLAMA_FLASH_ATTN_TYPE_ENABLED,
            FlashAttention::Off => sys::LLAMA_FLASH_ATTN_TYPE_DISABLED,
        };
        params.offload_kqv = false;
        params.op_offload = false;
        params.no_perf = true;
        if let Some(pump) = pump {
            params.cb_eval = Some(on_node);
            params.cb_eval_user_data = pump.user_data();
            params.abort_callback = Some(on_abort);
            params.abort_callback_data = pump.user_data();
        }
        let announced = Rc::new(Cell::new(Announced::default()));
        let watch = {
            let announced = announced.clone();
            move |line: &str| announced.set(announced.get().with(line))
        };
        let (ptr, complaints) = log::complaints(|| {
            // SAFETY: the model is live.
            log::watching(watch, || unsafe {
                sys::llama_init_from_model(model.as_ptr(), params)
            })
        });
        let what = "make a context for this model";
        let ptr = ptr.map_err(|thrown| thrown.during(what))?;
        let ptr = NonNull::new(ptr).ok_or(Error::Llama {
            what,
            message: complaints,
        })?;
        // SAFETY: the model is live.
        let vocab =
            unsafe { sys::llama_vocab_n_tokens(sys::llama_model_get_vocab(model.as_ptr())) };
        let has_recurrent_state = kind::has_recurrent_state(model);
        let mut context = Self {
            ptr,
            batch: Batch::new(shape.ubatch, shape.seqs),
            announced: announced.get(),
            vocab: vocab.max(0) as usize,
            shape,
            unknown: None,
            has_recurrent_state,
            attention_window: kind::attention_window(model),
            snapshots: Snapshots::new(match has_recurrent_state {
                true => snapshot_room(announced.get().states, shape.seqs),
                false => 0,
            }),
            pools: Rc::default(),
            _model: model.clone(),
        };
        context.use_threads(shape.threads)?;
        Ok(context)
    }

    /// Sets the number of threads for the next laps. Attention over 512 tokens or more sums
    /// in as many parts as there are threads, so the last bits of logits depend on the number.
    ///
    /// # Errors
    /// When the threads cannot be started.
    pub fn use_threads(&mut self, n: u32) -> Result<(), Error> {
        let pool = self.pools.select(n)?;
        let (context, pool) = (self.ptr.as_ptr(), pool.as_ptr());
        // SAFETY: both are live and do not compute; the pool is freed after the context.
        // The one that was attached before is put to sleep by the next lap.
        unsafe {
            sys::llama_attach_threadpool(context, pool, pool)
                .map_err(|thrown| thrown.during("use its threads"))?;
            sys::llama_set_n_threads(context, n as i32, n as i32);
        }
        Ok(())
    }

    /// Its threads, for work between the runs of a graph.
    pub fn threads(&self) -> Rc<Pools> {
        self.pools.clone()
    }

    /// For llama.cpp's functions; valid as long as `self`.
    pub fn as_ptr(&self) -> *mut sys::llama_context {
        self.ptr.as_ptr()
    }

    /// The shape that it was created with.
    pub fn shape(&self) -> ContextShape {
        self.shape
    }

    /// Capacity of the KV cache in tokens, over all sequences.
    pub fn cells(&self) -> u32 {
        // SAFETY: the context is live.
        unsafe { sys::llama_n_ctx(self.ptr.as_ptr()) }
    }

    /// Bytes of the KV cache, as llama.cpp announced them.
    pub fn kv_bytes(&self) -> u64 {
        self.announced.kv
    }

    /// Bytes of compute and output buffers and of snapshots, touched or not.
    pub fn buffer_bytes(&self) -> u64 {
        self.announced.buffers + self.snapshots.room()
    }

    /// Whether all pieces of a micro-batch have to be of equal length: llama.cpp would
    /// split others into several graphs.
    pub fn equal_pieces(&self) -> bool {
        self.has_recurrent_state
    }

    /// Whether the model's file declares last-token pooling: the last token's hidden state
    /// is the text's embedding.
    pub fn pools_last(&self) -> bool {
        // SAFETY: the context is live.
        let pooling = unsafe { sys::llama_pooling_type(self.ptr.as_ptr()) };
        pooling == sys::LLAMA_POOLING_TYPE_LAST
    }

    /// Runs one micro-batch, which may carry several sequences. Returns
    /// llama.cpp's status (0 is success).
    ///
    /// # Errors
    /// When llama.cpp threw an exception. The tokens of these pieces then have to be
    /// removed from the KV cache, as after any status but 0.
    ///
    /// # Panics
    /// When there are no tokens, or more than a micro-batch.
    pub fn decode(&mut self, pieces: &[Piece]) -> Result<i32, Error> {
        if let Some(thrown) = &self.unknown {
            return Err(thrown.clone().during("forget a sequence"));
        }
        let batch = self.batch.fill(pieces);
        // SAFETY: the batch's arrays live in `self.batch` and hold `n_tokens`.
        unsafe { sys::llama_decode(self.ptr.as_ptr(), batch) }
            .map_err(|thrown| thrown.during("decode"))
    }

    /// The logits of the last output, one for each token of the vocabulary.
    pub fn logits(&self) -> Option<&[f32]> {
        self.logits_of(-1)
    }

    /// The logits of a token of the last micro-batch, counted from 0 over all its
    /// pieces; -1 is the last output.
    pub fn logits_of(&self, token: i32) -> Option<&[f32]> {
        // SAFETY: the context is live and not decoding; any number is allowed.
        let ptr = unsafe { sys::llama_get_logits_ith(self.ptr.as_ptr(), token) }.ok()?;
        // SAFETY: llama.cpp gives a row of the vocabulary's length, valid until
        // the next decode, which needs `&mut self`.
        (!ptr.is_null()).then(|| unsafe { std::slice::from_raw_parts(ptr, self.vocab) })
    }

    /// Removes the tokens of all sequences.
    pub fn clear(&mut self) {
        // SAFETY: the context is live.
        let cleared = unsafe {
            let memory = sys::llama_get_memory(self.ptr.as_ptr());
            sys::llama_memory_clear(memory, true)
        };
        self.unknown = cleared.err();
        self.snapshots.clear();
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: live and freed once, before its threads.
        unsafe { sys::llama_free(self.ptr.as_ptr()) }
    }
}

fn ggml_type(kv: KvType) -> sys::ggml_type {
    match kv {
        KvType::F32 => sys::GGML_TYPE_F32,
        KvType::F16 => sys::GGML_TYPE_F16,
        KvType::Q8_0 => sys::GGML_TYPE_Q8_0,
        KvType::Q4_0 => sys::GGML_TYPE_Q4_0,
    }
}

/// What llama.cpp allocated, in bytes, read from its log: there is no function for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Announced {
    kv: u64,
    /// The part of `kv` that is recurrent states.
    states: u64,
    buffers: u64,
}

impl Announced {
    /// Adds what a line such as `… KV buffer size =   24.00 MiB` announces.
    fn with(self, line: &str) -> Self {
        let bytes = |what: &str| {
            let (_, rest) = line.split_once(what)?;
            let mib: f64 = rest.split_whitespace().next()?.parse().ok()?;
            Some((mib * f64::from(1 << 20)) as u64)
        };
        let sum = |kinds: &[&str]| kinds.iter().filter_map(|kind| bytes(kind)).sum::<u64>();
        Self {
            kv: self.kv
                + sum(&[
                    "KV buffer size =",
                    "RS buffer size =",
                    "state buffer size =",
                ]),
            states: self.states + sum(&["RS buffer size ="]),
            buffers: self.buffers + sum(&["compute buffer size =", "output buffer size ="]),
        }
    }
}

/// The arrays that a batch of llama.cpp points at.
struct Batch {
    token: Vec<i32>,
    pos: Vec<i32>,
    n_seq: Vec<i32>,
    /// The ids of all sequences, for `seqs` to point at.
    ids: Vec<i32>,
    seqs: Vec<*mut i32>,
    output: Vec<i8>,
}

impl Batch {
    fn new(rows: u32, seqs: u32) -> Self {
        let rows = rows as usize;
        Self {
            token: Vec::with_capacity(rows),
            pos: Vec::with_capacity(rows),
            n_seq: vec![1; rows],
            ids: (0..seqs as i32).collect(),
            seqs: Vec::with_capacity(rows),
            output: Vec::with_capacity(rows),
        }
    }

    fn fill(&mut self, pieces: &[Piece]) -> sys::llama_batch {
        self.token.clear();
        self.pos.clear();
        self.seqs.clear();
        self.output.clear();
        for piece in pieces {
            self.token.extend_from_slice(piece.tokens);
            let from = piece.pos as i32;
            self.pos.extend((from..).take(piece.tokens.len()));
            let seq = std::ptr::from_mut(&mut self.ids[piece.seq as usize]);
            self.seqs.resize(self.token.len(), seq);
            self.output.resize(self.token.len(), 0);
            if let Some(last) = self.output.last_mut() {
                *last = i8::from(piece.output);
            }
        }
        assert!(
            !self.token.is_empty() && self.token.len() <= self.n_seq.len(),
            "one micro-batch a lap"
        );
        sys::llama_batch {
            n_tokens: self.token.len() as i32,
            token: self.token.as_mut_ptr(),
            embd: std::ptr::null_mut(),
            pos: self.pos.as_mut_ptr(),
            n_seq_id: self.n_seq.as_mut_ptr(),
            seq_id: self.seqs.as_mut_ptr(),
            logits: self.output.as_mut_ptr(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Announced;

    #[test]
    fn allocations_are_read_from_the_log() {
        let lines = [
            "llama_kv_cache:        CPU KV buffer size =    11.25 MiB",
            "llama_context:        CPU  output buffer size =     0.50 MiB",
            "sched_reserve:        CPU compute buffer size =     8.00 MiB",
            "load_tensors:   CPU_Mapped model buffer size =    92.10 MiB",
        ];
        let announced = lines
            .iter()
            .fold(Announced::default(), |sum, line| sum.with(line));
        assert_eq!(
            announced,
            Announced {
                kv: 11_796_480,
                states: 0,
                buffers: 8_912_896
            }
        );
    }
}
