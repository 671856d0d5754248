//! Checks headers for what llama.cpp does not refuse but aborts or crashes on. These
//! checks cannot be complete, so the program also tries a file that is new to the machine
//! in a separate process.

mod keys;
mod tensors;
#[cfg(test)]
mod tests;
mod vocabulary;

use delayline_gguf::Header;

/// Checks the header of a model's first part.
///
/// # Errors
/// A message with the key or tensor, and what was expected.
pub fn check(header: &Header<'_>) -> Result<(), String> {
    keys::check(header)?;
    keys::check_experts(header)?;
    vocabulary::check(header)?;
    check_tensors(header)
}

/// Checks that kernels can compute with the tensors of a part.
///
/// # Errors
/// A message with the tensor, and what was expected.
pub fn check_tensors(header: &Header<'_>) -> Result<(), String> {
    tensors::check_places(header)?;
    header.tensors.iter().try_for_each(tensors::check)
}
