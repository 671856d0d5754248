//! Parses arbitrary bytes as the seal of a model.
#![no_main]

#[path = "../../crates/gguf/tests/look/mod.rs"]
mod look;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| look::look_at_seal(bytes));
