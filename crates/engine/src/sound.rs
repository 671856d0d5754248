//! What llama.cpp does not refuse but aborts or crashes on is held against its
//! limits here, before it sees a file. No list of checks is whole: a file that is
//! new to a machine is tried in a process of its own as well, by the program.

mod keys;
mod tensors;
#[cfg(test)]
mod tests;
mod vocabulary;

use delayline_gguf::Header;

/// Holds the header of a model's first part against the limits.
///
/// # Errors
/// Says which key or tensor is wrong, and what was expected.
pub fn check(header: &Header<'_>) -> Result<(), String> {
    keys::check(header)?;
    keys::check_experts(header)?;
    vocabulary::check(header)?;
    check_tensors(header)
}

/// Holds the tensors of any part against what kernels can compute with.
///
/// # Errors
/// Names the tensor, and what was expected.
pub fn check_tensors(header: &Header<'_>) -> Result<(), String> {
    tensors::check_places(header)?;
    header.tensors.iter().try_for_each(tensors::check)
}
