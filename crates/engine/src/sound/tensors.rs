//! Checks places and number formats of tensors. ggml's kernels add and multiply only
//! vectors of 32-bit floats, and have no products for integers and for the formats of
//! activations.

use delayline_gguf::{Header, Tensor, TensorType};

/// Ends of the names of vectors that are added to activations, multiplied with them, or
/// used as rope factors.
const VECTORS: &[&str] = &[
    "norm.weight",
    "norm.bias",
    ".bias",
    "rope_freqs.weight",
    "rope_factors_long.weight",
    "rope_factors_short.weight",
];

/// A table of experts by token, which holds integers.
const TABLE_OF_IDS: &str = "tid2eid";

/// Refuses tensors that are not in the order of the header without gaps: llama.cpp
/// requires that.
pub fn check_places(header: &Header<'_>) -> Result<(), String> {
    let mut expected = header.data_offset;
    for tensor in &header.tensors {
        if tensor.at != expected {
            return Err(format!(
                "its tensor {} begins at byte {}, expected {expected}: llama.cpp loads only files \
                 whose tensors lie in the order of the header and without gaps; convert it again",
                tensor.name.escape_debug(),
                tensor.at
            ));
        }
        expected = tensor.end().next_multiple_of(header.alignment);
    }
    Ok(())
}

/// Refuses a number format with which no kernel computes in the tensor's role.
pub fn check(tensor: &Tensor) -> Result<(), String> {
    let is_vector = VECTORS.iter().any(|end| tensor.name.ends_with(end));
    let refused = |expected: &str| {
        Err(format!(
            "its tensor {} is of type {}, which cannot be computed with there; expected {expected}",
            tensor.name.escape_debug(),
            tensor.ty
        ))
    };
    if is_vector && tensor.ty != TensorType::F32 {
        return refused("f32");
    }
    if !has_products(tensor.ty) && !tensor.name.contains(TABLE_OF_IDS) {
        return refused("a type for weights, such as q4_0 or f16");
    }
    Ok(())
}

/// Whether ggml has products of rows of this type with activations.
fn has_products(ty: TensorType) -> bool {
    use TensorType::{F64, I8, I16, I32, I64, Q8_1, Q8_K};
    !matches!(ty, I8 | I16 | I32 | I64 | F64 | Q8_1 | Q8_K)
}
