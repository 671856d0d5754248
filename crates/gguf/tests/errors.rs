//! Every error of a header, and its message.

mod raw;

use delayline_gguf::{Array, Error, Header, TensorSpec, TensorType, Value, ValueType, write};
use raw::{ARRAY, BOOL, Raw, STR, U32, array, entry, string, tensor};

/// Parses a valid header after `change`, and looks for all of `expect` in the message.
fn check(change: impl FnOnce(&mut Raw), expect: &[&str]) {
    let mut raw = Raw::valid();
    change(&mut raw);
    check_bytes(&raw.bytes(), expect);
}

fn check_bytes(bytes: &[u8], expect: &[&str]) {
    let error = Header::parse(bytes, bytes.len() as u64).expect_err(expect[0]);
    let message = error.to_string();
    for part in expect {
        assert!(message.contains(part), "no `{part}` in: {message}");
    }
    assert!(message.len() < 400, "too long: {message}");
}

#[test]
fn the_valid_one_is_valid() {
    let bytes = Raw::valid().bytes();
    let header = Header::parse(&bytes, bytes.len() as u64).unwrap();
    assert_eq!(header.version, 3);
    assert_eq!(header.alignment, 32);
    assert_eq!(header.architecture(), Ok("llama"));
    assert_eq!(header.block_count(), Ok(2));
    assert_eq!(header.get_f32("llama.rope.freq_base"), Some(1e4));
    assert_eq!(header.get_bool("a.bool"), Some(true));
    assert_eq!(header.get("a.i64"), Some(&Value::I64(-3)));
    assert_eq!(header.get_u64("a.i64"), None);
    assert_eq!(header.vocab_len(), Some(3));
    let tokens = header.get_array("tokenizer.ggml.tokens").unwrap();
    let tokens: Vec<&[u8]> = tokens.strings().collect();
    assert_eq!(tokens, [&b"a"[..], b"", b"\xff"]);
    let numbers = header.get_array("a.numbers").unwrap();
    assert_eq!(numbers.kind(), ValueType::I16);
    let numbers: Vec<Value<'_>> = numbers.scalars().collect();
    assert_eq!(numbers, [Value::I16(1), Value::I16(-1)]);
    assert_eq!(header.split(), Ok(None));

    let table = header.tensor("token_embd.weight").unwrap();
    assert_eq!(table.ty, TensorType::Q4_0);
    assert_eq!(table.shape(), [64, 3]);
    assert_eq!(table.dims, [64, 3, 1, 1]);
    assert_eq!(table.len, 6 * 18);
    assert_eq!(table.at, header.data_offset);
    assert_eq!(header.tensors[1].at, header.data_offset + 128);
    assert_eq!(header.tensors[1].end(), bytes.len() as u64);
    assert_eq!(header.data_offset % 32, 0);
}

#[test]
fn version_two_is_the_same() {
    let mut raw = Raw::valid();
    raw.version = 2;
    let bytes = raw.bytes();
    assert_eq!(
        Header::parse(&bytes, bytes.len() as u64).unwrap().version,
        2
    );
}

#[test]
fn the_start() {
    check(|r| r.magic = *b"ggjt", &["ggjt", "GGUF"]);
    check(|r| r.magic = [0x80, 0, 3, 4], &["\\x80\\x00\\x03"]);
    check(|r| r.version = 1, &["version 1", "2 or 3"]);
    check(|r| r.version = 0, &["version 0"]);
    check(|r| r.version = 4, &["version 4"]);
    check(|r| r.version = 3u32.swap_bytes(), &["big-endian"]);
    check(
        |r| r.n_entries = Some(u64::MAX),
        &["18446744073709551615 metadata entries"],
    );
    check(
        |r| r.n_entries = Some(1 << 20),
        &["1048576 metadata entries"],
    );
    check(
        |r| r.n_tensors = Some(u64::MAX),
        &["18446744073709551615 tensors"],
    );
    check(|r| r.n_tensors = Some(100), &["100 tensors"]);
    check_bytes(b"", &["4 bytes", "the file has 0"]);
    check_bytes(b"GGUF\x03\0\0\0", &["its start"]);
}

#[test]
fn keys_and_values() {
    let one = |entry: Vec<u8>| move |r: &mut Raw| r.entries.push(entry);
    check(one(entry(b"", U32, &[0; 4])), &["entry 7", "0 bytes"]);
    check(
        one(entry(&[b'k'; 65536], U32, &[0; 4])),
        &["entry 7", "65536 bytes"],
    );
    check(one(entry(b"k\xff", U32, &[0; 4])), &["entry 7", "k\\xff"]);
    check(one(entry(b"k\0x", U32, &[0; 4])), &["entry 7", "k\\0x"]);
    check(
        one(entry(b"a.bool", U32, &[0; 4])),
        &["\"a.bool\"", "twice"],
    );
    check(one(entry(b"k", 13, &[0; 4])), &["\"k\"", "type 13"]);
    check(
        one(entry(b"k", ARRAY, &array(77, 0, &[]))),
        &["\"k\"", "type 77"],
    );
    check(
        one(entry(b"k", ARRAY, &array(ARRAY, 0, &[]))),
        &["\"k\"", "array of arrays"],
    );
    check(one(entry(b"k", STR, &string(b"\xc3"))), &["\"k\"", "UTF-8"]);
    let endless = u64::MAX.to_le_bytes();
    check(
        one(entry(b"k", STR, &endless)),
        &["value of \"k\"", "18446744073709551615 bytes"],
    );
    for kind in [U32, BOOL, STR] {
        let value = array(kind, u64::MAX / 2, &[0; 8]);
        check(
            one(entry(b"k", ARRAY, &value)),
            &["value of \"k\"", "the file has"],
        );
    }
    let text = array(STR, 1, &(1u64 << 40).to_le_bytes());
    check(
        one(entry(b"k", ARRAY, &text)),
        &["value of \"k\"", "the file has"],
    );
    check(one(entry(&[b'k'; 5000], 99, &[])), &["kkkk…"]);
}

#[test]
fn alignment() {
    let value = |v: u32| {
        move |r: &mut Raw| {
            r.entries
                .push(entry(b"general.alignment", U32, &v.to_le_bytes()))
        }
    };
    for wrong in [0, 1, 4, 33, 48, 1 << 21, u32::MAX] {
        check(value(wrong), &["general.alignment", &wrong.to_string()]);
    }
    check(
        |r| {
            r.entries
                .push(entry(b"general.alignment", 10, &32u64.to_le_bytes()))
        },
        &["general.alignment", "of type u64"],
    );
    check(value(256), &["output_norm", "offset 128", "alignment 256"]);
}

#[test]
fn tensors() {
    let one = |tensor: Vec<u8>| {
        move |r: &mut Raw| {
            r.tensors.push(tensor);
            r.data = 4096;
        }
    };
    check(one(tensor(b"", &[1], 0, 256)), &["tensor 2", "0 bytes"]);
    check(
        one(tensor(&[b'n'; 64], &[1], 0, 256)),
        &["tensor 2", "64 bytes", "1 to 63"],
    );
    check(one(tensor(b"n\xff", &[1], 0, 256)), &["tensor 2", "n\\xff"]);
    check(one(tensor(b"n\0", &[1], 0, 256)), &["tensor 2", "n\\0"]);
    check(
        one(tensor(b"token_embd.weight", &[1], 0, 256)),
        &["token_embd", "twice"],
    );
    check(
        one(tensor(b"n", &[1; 5], 0, 256)),
        &["\"n\"", "5 dimensions"],
    );
    check(
        one(tensor(b"n", &[4, 0], 0, 256)),
        &["\"n\"", "[4, 0]", "zero"],
    );
    check(
        one(tensor(b"n", &[u64::MAX, 2], 0, 256)),
        &["\"n\"", "counted"],
    );
    check(
        one(tensor(b"n", &[1 << 32, 1 << 31], 0, 256)),
        &["\"n\"", "counted"],
    );
    check(one(tensor(b"n", &[1 << 62], 0, 256)), &["\"n\"", "counted"]);
    for id in [4, 5, 31, 43, u32::MAX] {
        check(
            one(tensor(b"n", &[256], id, 256)),
            &["\"n\"", &format!("type {id}")],
        );
    }
    check(
        one(tensor(b"n", &[48], 2, 256)),
        &["\"n\"", "48 values", "multiple of 32 for q4_0"],
    );
    check(
        one(tensor(b"n", &[128], 14, 256)),
        &["multiple of 256 for q6_K"],
    );
    check(
        one(tensor(b"n", &[1], 0, 257)),
        &["\"n\"", "257", "multiple of the alignment 32"],
    );
    check(
        one(tensor(b"n", &[1], 0, 96)),
        &["\"token_embd.weight\" and \"n\" overlap"],
    );
    check(one(tensor(b"n", &[1], 0, 128)), &["overlap"]);
    check(
        one(tensor(b"n", &[1], 0, u64::MAX - 31)),
        &["\"n\"", "counted"],
    );
    check(
        one(tensor(b"n", &[1025], 0, 0)),
        &["truncated", "\"n\"", "so 4 bytes are missing"],
    );
    check(
        |r| r.data = 147,
        &["\"output_norm.weight\"", "so 1 bytes are missing"],
    );
    check(|r| r.data = 0, &["so 148 bytes are missing"]);
}

#[test]
fn largest_header() {
    // A file that could hold it, with a string that alone goes past the limit.
    let mut raw = Raw::valid();
    raw.entries
        .push(entry(b"k", STR, &(1u64 << 29).to_le_bytes()));
    let bytes = raw.bytes();
    let error = Header::parse(&bytes, 1 << 40);
    assert_eq!(error, Err(Error::HeaderTooLong));
}

/// Each prefix of a valid file needs more; each file cut off there is an error; neither
/// is ever accepted.
#[test]
fn every_truncation() {
    let bytes = Raw::valid().bytes();
    let file_len = bytes.len() as u64;
    let header = Header::parse(&bytes, file_len).unwrap();
    let header_len = header.data_offset as usize - 31;
    for len in 0..bytes.len() {
        let cut = Header::parse(&bytes[..len], len as u64).unwrap_err();
        assert!(!matches!(cut, Error::NeedMore { .. }), "{len}: {cut}");
        match Header::parse(&bytes[..len], file_len) {
            Err(Error::NeedMore { at_least }) => {
                assert!(len < header.data_offset as usize, "{len}");
                assert!(at_least > len as u64 && at_least <= file_len, "{len}");
            }
            Err(other) => panic!("{len}: {other}"),
            Ok(whole) => {
                assert!(len >= header_len, "{len}");
                assert_eq!(whole, header);
            }
        }
    }
}

#[test]
fn what_must_be_there() {
    let metadata = [
        ("general.architecture".into(), Value::U8(3)),
        ("split.count".into(), Value::U16(2)),
        ("split.no".into(), Value::U16(2)),
        ("split.tensors.count".into(), Value::I32(2)),
    ];
    let layout = write(&metadata, &[]).unwrap();
    let header = Header::parse(&layout.header, layout.file_len).unwrap();
    let message = header.architecture().unwrap_err().to_string();
    assert!(
        message.contains("of type u8, expected a string"),
        "{message}"
    );
    let message = header.require_u64("x.y").unwrap_err().to_string();
    assert!(message.contains("\"x.y\" is missing"), "{message}");
    let message = header.split().unwrap_err().to_string();
    assert!(message.contains("part 3 of 2"), "{message}");
}

#[test]
fn a_merged_model_is_not_split() {
    // As `llama-gguf-split --merge` leaves it.
    let metadata = [
        ("split.no".into(), Value::U16(0)),
        ("split.count".into(), Value::U16(0)),
        ("split.tensors.count".into(), Value::I32(2)),
    ];
    let layout = write(&metadata, &[]).unwrap();
    let header = Header::parse(&layout.header, layout.file_len).unwrap();
    assert_eq!(header.split(), Ok(None));
}

#[test]
fn the_writer_refuses_what_the_parser_refuses() {
    let spec = |name: &str, dims: &[u64]| TensorSpec::new(name, TensorType::Q4_0, dims);
    let check = |tensors: &[TensorSpec], expect: &str| {
        let message = write(&[], tensors).unwrap_err().to_string();
        assert!(message.contains(expect), "{message}");
    };
    check(&[spec("a", &[31])], "multiple of 32");
    check(&[spec("a", &[32]), spec("a", &[32])], "twice");
    check(
        &["a", "b", "c", "d"].map(|name| spec(name, &[1 << 62])),
        "\"d\"",
    );
    check(&[spec(&"a".repeat(64), &[32])], "64 bytes");
    let zero = [("general.alignment".into(), Value::U32(0))];
    assert!(matches!(write(&zero, &[]), Err(Error::Alignment { .. })));
    let twice = [("k".into(), Value::U32(0)), ("k".into(), Value::U32(0))];
    assert!(matches!(
        write(&twice, &[]),
        Err(Error::DuplicateKey { .. })
    ));
    let array = Array::from_f32s([1.0, 2.0]);
    let fine = [("k".into(), Value::Array(array))];
    assert_eq!(write(&fine, &[]).unwrap().tensors, []);
}
