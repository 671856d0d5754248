// The border between C++ and Rust: a wrapper ("twin") for each function of llama.cpp
// that may throw. It catches the exception and returns its text beside the result:
// unwinding into Rust's frames would be undefined behaviour.

#include <llama.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>

namespace {

// Same layout as `Caught` in sys.rs.
struct caught {
    bool thrown;
    char text[256];
};

// Does not allocate: the exception may be `std::bad_alloc`.
void note(caught * to, const char * text) noexcept {
    to->thrown = true;
    std::snprintf(to->text, sizeof to->text, "%s", text);
}

template <auto function> struct guarded;

// The twin's types are deduced from the function's declaration in llama.h.
template <typename Result, typename... Args, Result (*function)(Args...)>
struct guarded<function> {
    static Result call(caught * to, Args... args) noexcept {
        try {
            return function(args...);
        } catch (const std::exception & error) {
            note(to, error.what());
        } catch (...) {
            note(to, "it threw something that is no std::exception");
        }
        return Result();
    }
};

} // namespace

// A pointer `delayline_NAME` to the twin of NAME.
#define GUARD(name)                                                              \
    extern "C" {                                                                 \
    extern decltype(&guarded<&name>::call) const delayline_##name;               \
    decltype(&guarded<&name>::call) const delayline_##name = &guarded<&name>::call; \
    }

GUARD(llama_backend_init)
GUARD(llama_print_system_info)

GUARD(llama_model_load_from_file)
GUARD(llama_model_load_from_splits)
GUARD(llama_model_chat_template)

GUARD(llama_init_from_model)
GUARD(llama_attach_threadpool)
GUARD(llama_decode)
GUARD(llama_get_logits_ith)
GUARD(llama_memory_clear)
GUARD(llama_memory_seq_rm)
GUARD(llama_memory_seq_cp)
GUARD(llama_memory_seq_pos_min)
GUARD(llama_memory_seq_pos_max)
GUARD(llama_state_seq_get_size_ext)
GUARD(llama_state_seq_get_data_ext)
GUARD(llama_state_seq_set_data_ext)

GUARD(llama_tokenize)
GUARD(llama_token_to_piece)
GUARD(llama_model_meta_val_str)
GUARD(llama_vocab_get_attr)
GUARD(llama_vocab_get_text)

GUARD(llama_sampler_chain_init)
GUARD(llama_sampler_chain_add)
GUARD(llama_sampler_init_penalties)
GUARD(llama_sampler_init_greedy)
GUARD(llama_sampler_init_top_k)
GUARD(llama_sampler_init_top_p)
GUARD(llama_sampler_init_min_p)
GUARD(llama_sampler_init_temp)
GUARD(llama_sampler_init_dist)
GUARD(llama_sampler_init_grammar)
GUARD(llama_sampler_accept)
GUARD(llama_sampler_apply)

// llama.cpp looks for special tokens in the order of this sort, which is not stable: of
// overlapping texts of equal length it decides which one is found. So the same
// `std::sort` has to be used.
extern "C" void delayline_longest_first(const std::size_t * lengths, std::uint32_t * order, std::size_t n) noexcept {
    std::sort(order, order + n, [&](std::uint32_t a, std::uint32_t b) { return lengths[a] > lengths[b]; });
}
