//! Parses arbitrary bytes as the header of a GGUF file.
#![no_main]

#[path = "../../crates/gguf/tests/look/mod.rs"]
mod look;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| look::look(bytes));
