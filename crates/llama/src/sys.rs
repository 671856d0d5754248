//! The border to C++: everything of llama.cpp that this crate may call. Functions that may
//! throw are called through a twin in `shim/border.cpp`, which catches the exception so
//! that it is returned as an error; functions that cannot throw are re-exported. No other
//! file names the bindings, so nothing else is called.

use std::ffi::{CStr, c_char};

use llama_cpp_sys_2 as raw;

use delayline_engine::Error;

pub use raw::{
    GGML_LOG_LEVEL_ERROR, GGML_OP_GET_ROWS, GGML_OP_MUL_MAT, GGML_OP_MUL_MAT_ID, GGML_OP_NONE,
    GGML_OP_PERMUTE, GGML_OP_RESHAPE, GGML_OP_ROPE, GGML_OP_TRANSPOSE, GGML_OP_VIEW,
    GGML_STATUS_SUCCESS, GGML_TENSOR_FLAG_COMPUTE, GGML_TYPE_F16, GGML_TYPE_F32, GGML_TYPE_I32,
    GGML_TYPE_Q4_0, GGML_TYPE_Q8_0, LLAMA_FLASH_ATTN_TYPE_AUTO, LLAMA_FLASH_ATTN_TYPE_DISABLED,
    LLAMA_FLASH_ATTN_TYPE_ENABLED, LLAMA_LAZY_MODE_OFF, LLAMA_LOAD_MODE_DIRECT_IO,
    LLAMA_LOAD_MODE_MMAP, LLAMA_POOLING_TYPE_LAST, LLAMA_TOKEN_ATTR_CONTROL,
    LLAMA_TOKEN_ATTR_LSTRIP, LLAMA_TOKEN_ATTR_RSTRIP, LLAMA_TOKEN_ATTR_UNKNOWN,
    LLAMA_TOKEN_ATTR_USER_DEFINED, LLAMA_VOCAB_TYPE_BPE, LLAMA_VOCAB_TYPE_NONE,
    LLAMA_VOCAB_TYPE_PLAMO2, LLAMA_VOCAB_TYPE_RWKV, LLAMA_VOCAB_TYPE_SPM, LLAMA_VOCAB_TYPE_TEST,
    LLAMA_VOCAB_TYPE_WPM, ggml_cgraph, ggml_context, ggml_cplan, ggml_init_params, ggml_log_level,
    ggml_status, ggml_tensor, ggml_threadpool, ggml_type, llama_batch, llama_context, llama_model,
    llama_model_params, llama_sampler, llama_token_data, llama_token_data_array, llama_vocab,
};

// Functions that cannot throw: plain C, destructors, and functions that only return a
// field or a constant or look up a set.
pub use raw::{
    ggml_build_forward_expand, ggml_free, ggml_graph_compute, ggml_graph_overhead_custom,
    ggml_graph_plan, ggml_init, ggml_map_custom1, ggml_nbytes, ggml_new_graph_custom,
    ggml_new_tensor_1d, ggml_set_abort_callback, ggml_threadpool_free, ggml_threadpool_new,
    ggml_threadpool_params_default, llama_context_default_params, llama_free, llama_get_memory,
    llama_log_set, llama_model_default_params, llama_model_free, llama_model_get_vocab,
    llama_model_has_decoder, llama_model_has_encoder, llama_model_is_diffusion,
    llama_model_is_hybrid, llama_model_is_recurrent, llama_model_n_swa, llama_n_ctx,
    llama_pooling_type, llama_sampler_chain_default_params, llama_sampler_chain_get,
    llama_sampler_free, llama_set_n_threads, llama_vocab_bos, llama_vocab_eos,
    llama_vocab_get_add_bos, llama_vocab_get_add_eos, llama_vocab_is_eog, llama_vocab_n_tokens,
    llama_vocab_sep, llama_vocab_type,
};

/// An exception that llama.cpp threw.
#[derive(Clone, Debug)]
pub struct Exception {
    text: String,
}

impl Exception {
    /// Converts it to an error; `what` says what was being done.
    pub fn during(self, what: &'static str) -> Error {
        Error::Llama {
            what,
            message: self.text,
        }
    }
}

/// Same layout as `caught` in `shim/border.cpp`.
#[repr(C)]
struct Caught {
    thrown: bool,
    text: [c_char; 256],
}

impl Caught {
    const NOTHING: Self = Self {
        thrown: false,
        text: [0; 256],
    };

    fn or<T>(self, value: T) -> Result<T, Exception> {
        if !self.thrown {
            return Ok(value);
        }
        // SAFETY: the shim writes a text that ends with a zero byte within the array.
        let text = unsafe { CStr::from_ptr(self.text.as_ptr()) };
        Err(Exception {
            text: text.to_string_lossy().into_owned(),
        })
    }
}

/// Defines for each function one of the same name that returns an exception as an error.
/// The constant checks the types against the bindings; the shim takes them from the header.
macro_rules! guarded {
    ($(fn $name:ident($($arg:ident: $type:ty),*) -> $result:ty;)*) => { $(
        #[doc = concat!("`", stringify!($name), "`; an exception is returned as an error.\n\n# Safety\nAs llama.h says.")]
        pub unsafe fn $name($($arg: $type),*) -> Result<$result, Exception> {
            const _: unsafe extern "C" fn($($type),*) -> $result = raw::$name;
            unsafe extern "C" {
                #[link_name = concat!("delayline_", stringify!($name))]
                static TWIN: unsafe extern "C" fn(*mut Caught $(, $type)*) -> $result;
            }
            let mut caught = Caught::NOTHING;
            // SAFETY: the static is a constant of the shim: a pointer to a function of this
            // type, which lets no exception out. The caller answers for the rest.
            let value = unsafe { TWIN(&mut caught $(, $arg)*) };
            caught.or(value)
        }
    )* };
}

guarded! {
    fn llama_backend_init() -> ();
    fn llama_print_system_info() -> *const c_char;

    fn llama_model_load_from_file(path: *const c_char, params: raw::llama_model_params) -> *mut llama_model;
    fn llama_model_load_from_splits(paths: *mut *const c_char, n: usize, params: raw::llama_model_params) -> *mut llama_model;
    fn llama_model_chat_template(model: *const llama_model, name: *const c_char) -> *const c_char;

    fn llama_init_from_model(model: *mut llama_model, params: raw::llama_context_params) -> *mut llama_context;
    fn llama_attach_threadpool(context: *mut llama_context, one: *mut ggml_threadpool, many: *mut ggml_threadpool) -> ();
    fn llama_decode(context: *mut llama_context, batch: llama_batch) -> i32;
    fn llama_get_logits_ith(context: *mut llama_context, row: i32) -> *mut f32;
    fn llama_memory_clear(memory: raw::llama_memory_t, data: bool) -> ();
    fn llama_memory_seq_rm(memory: raw::llama_memory_t, seq: i32, from: i32, to: i32) -> bool;
    fn llama_memory_seq_cp(memory: raw::llama_memory_t, from: i32, to: i32, first: i32, end: i32) -> ();
    fn llama_memory_seq_pos_min(memory: raw::llama_memory_t, seq: i32) -> i32;
    fn llama_memory_seq_pos_max(memory: raw::llama_memory_t, seq: i32) -> i32;
    fn llama_state_seq_get_size_ext(context: *mut llama_context, seq: i32, flags: u32) -> usize;
    fn llama_state_seq_get_data_ext(context: *mut llama_context, out: *mut u8, len: usize, seq: i32, flags: u32) -> usize;
    fn llama_state_seq_set_data_ext(context: *mut llama_context, data: *const u8, len: usize, seq: i32, flags: u32) -> usize;

    fn llama_tokenize(vocab: *const llama_vocab, text: *const c_char, len: i32, tokens: *mut i32, max: i32, add: bool, special: bool) -> i32;
    fn llama_token_to_piece(vocab: *const llama_vocab, token: i32, out: *mut c_char, len: i32, strip: i32, special: bool) -> i32;
    fn llama_model_meta_val_str(model: *const llama_model, key: *const c_char, out: *mut c_char, len: usize) -> i32;
    fn llama_vocab_get_attr(vocab: *const llama_vocab, token: i32) -> raw::llama_token_attr;
    fn llama_vocab_get_text(vocab: *const llama_vocab, token: i32) -> *const c_char;

    fn llama_sampler_chain_init(params: raw::llama_sampler_chain_params) -> *mut llama_sampler;
    fn llama_sampler_chain_add(chain: *mut llama_sampler, sampler: *mut llama_sampler) -> ();
    fn llama_sampler_init_penalties(vocab: i32, last: i32, repeat: f32, frequency: f32, presence: f32) -> *mut llama_sampler;
    fn llama_sampler_init_greedy() -> *mut llama_sampler;
    fn llama_sampler_init_top_k(k: i32) -> *mut llama_sampler;
    fn llama_sampler_init_top_p(p: f32, keep: usize) -> *mut llama_sampler;
    fn llama_sampler_init_min_p(p: f32, keep: usize) -> *mut llama_sampler;
    fn llama_sampler_init_temp(temperature: f32) -> *mut llama_sampler;
    fn llama_sampler_init_dist(seed: u32) -> *mut llama_sampler;
    fn llama_sampler_init_grammar(vocab: *const llama_vocab, grammar: *const c_char, root: *const c_char) -> *mut llama_sampler;
    fn llama_sampler_accept(sampler: *mut llama_sampler, token: i32) -> ();
    fn llama_sampler_apply(sampler: *mut llama_sampler, candidates: *mut llama_token_data_array) -> ();
}

unsafe extern "C" {
    fn delayline_longest_first(lengths: *const usize, order: *mut u32, n: usize);
}

/// The order in which llama.cpp looks for texts of these lengths, as indices: the longest
/// first, equal ones in the order in which the C++ library's `std::sort` leaves them.
pub fn longest_first(lengths: &[usize]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..lengths.len() as u32).collect();
    // SAFETY: both are `order.len()` long, `order` holds indices of `lengths`, and the
    // function neither throws nor keeps a pointer.
    unsafe { delayline_longest_first(lengths.as_ptr(), order.as_mut_ptr(), order.len()) };
    order
}
