//! Opens arbitrary bytes as the file of a model: all checks before llama.cpp reads it.
#![no_main]

use std::io::Write;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(bytes).expect("it is written");
    // Room for weights, which are not read.
    let len = bytes.len() as u64 + (1 << 20);
    file.as_file().set_len(len).expect("it is lengthened");
    if let Ok(model) = delayline_engine::ModelFile::open_within(file.path(), 1 << 30) {
        let _ = model.holes();
    }
});
