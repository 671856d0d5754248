//! Checks that hold for every header and seal, whatever its bytes: for the tests and for
//! the fuzzer.

use delayline_gguf::{Error, Header, SealCheck, is_seal, parts};

/// Parses `bytes` as a whole file and as the start of a large one, and checks the result.
pub fn look(bytes: &[u8]) {
    for file_len in [bytes.len() as u64, 1 << 40] {
        match Header::parse(bytes, file_len) {
            Ok(header) => hold(&header, file_len),
            Err(Error::NeedMore { at_least }) => {
                assert!(at_least > bytes.len() as u64 && at_least <= file_len);
            }
            Err(error) => assert!(error.to_string().len() < 600, "{error}"),
        }
    }
}

/// Checks what a parsed header guarantees.
#[allow(dead_code, reason = "each user takes its part")]
pub fn hold(header: &Header<'_>, file_len: u64) {
    let mut ends: Vec<(u64, u64)> = header.tensors.iter().map(|t| (t.at, t.end())).collect();
    ends.sort_unstable();
    assert!(ends.windows(2).all(|pair| pair[0].1 <= pair[1].0));
    assert!(ends.iter().all(|&(_, end)| end <= file_len));
    assert!(ends.iter().all(|&(at, _)| at >= header.data_offset));
    assert!(header.data_offset.is_multiple_of(header.alignment));
    for (_, value) in &header.metadata {
        if let Some(array) = value.as_array() {
            let count = array.strings().count() + array.scalars().count();
            assert_eq!(count as u64, array.len());
        }
    }
    if let Ok(Some(split)) = header.split() {
        assert!(split.no < split.count);
        assert!(parts("m.gguf".as_ref(), split.count).is_err());
    }
}

/// Checks `bytes` as a seal: any outcome is right but a panic or an endless message.
#[allow(dead_code, reason = "each user takes its part")]
pub fn look_at_seal(bytes: &[u8]) {
    let _ = is_seal(bytes);
    for file_len in [0, bytes.len() as u64, 1 << 40] {
        let mut check = SealCheck::new(file_len);
        for piece in bytes.chunks(13) {
            check.update(piece);
        }
        if let Err(error) = check.finish() {
            assert!(error.to_string().len() < 600, "{error}");
        }
    }
}
