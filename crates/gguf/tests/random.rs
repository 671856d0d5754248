//! Random headers: what is written is read back, and garbage is an error, never a panic.

mod look;
mod raw;

use delayline_gguf::{Array, Header, TensorSpec, TensorType, Value, read_header, write};
use look::{hold, look};
use proptest::prelude::*;
use std::borrow::Cow;

fn value() -> impl Strategy<Value = Value<'static>> {
    prop_oneof![
        any::<u8>().prop_map(Value::U8),
        any::<i8>().prop_map(Value::I8),
        any::<u16>().prop_map(Value::U16),
        any::<i16>().prop_map(Value::I16),
        any::<u32>().prop_map(Value::U32),
        any::<i32>().prop_map(Value::I32),
        any::<u64>().prop_map(Value::U64),
        any::<i64>().prop_map(Value::I64),
        any::<bool>().prop_map(Value::Bool),
        (-1e6f32..1e6).prop_map(Value::F32),
        (-1e6f64..1e6).prop_map(Value::F64),
        ".{0,12}".prop_map(Value::from),
        prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 0..9)
            .prop_map(|strings| Value::Array(Array::from_strings(strings))),
        prop::collection::vec(any::<i32>(), 0..9)
            .prop_map(|numbers| Value::Array(Array::from_i32s(numbers))),
    ]
}

type Parts = (Vec<(Cow<'static, str>, Value<'static>)>, Vec<TensorSpec>);

fn file() -> impl Strategy<Value = Parts> {
    let types = prop::sample::select(TensorType::ALL);
    let shape = (types, prop::collection::vec(1u64..5, 0..=4));
    (
        prop::collection::vec(value(), 0..8),
        prop::collection::vec(shape, 0..8),
        3u32..13,
    )
        .prop_map(|(values, shapes, alignment_log)| {
            let alignment = Value::U32(1 << alignment_log);
            let keys = values.into_iter().enumerate();
            let metadata = keys
                .map(|(i, value)| (format!("key.{i}").into(), value))
                .chain([("general.alignment".into(), alignment)])
                .collect();
            let tensor = |(i, (ty, mut dims)): (usize, (TensorType, Vec<u64>))| {
                match dims.first_mut() {
                    Some(row) => *row *= ty.block_len(),
                    None => dims.push(ty.block_len()),
                }
                TensorSpec::new(format!("tensor.{i}"), ty, &dims)
            };
            (
                metadata,
                shapes.into_iter().enumerate().map(tensor).collect(),
            )
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_written_is_read((metadata, tensors) in file()) {
        let layout = write(&metadata, &tensors).unwrap();
        let header = Header::parse(&layout.header, layout.file_len).unwrap();
        prop_assert_eq!(&header.metadata, &metadata);
        prop_assert_eq!(&header.tensors, &layout.tensors);
        prop_assert_eq!(header.data_offset, layout.header.len() as u64);
        let mut end = header.data_offset;
        for (tensor, spec) in header.tensors.iter().zip(&tensors) {
            prop_assert_eq!((&tensor.name, tensor.ty), (&spec.name, spec.ty));
            prop_assert_eq!(tensor.shape(), &spec.dims);
            prop_assert_eq!(tensor.at, end);
            end = tensor.end().next_multiple_of(header.alignment);
        }
        prop_assert_eq!(end, layout.file_len);
        let again = write(&header.metadata, &tensors).unwrap();
        prop_assert_eq!(&again, &layout);
        let mut file = layout.header.clone();
        file.resize(layout.file_len as usize, 7);
        let read = read_header(&mut &file[..], layout.file_len, u64::MAX).unwrap();
        prop_assert_eq!(read, layout.header);
    }

    #[test]
    fn garbage_is_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200), file_len: u64) {
        prop_assert!(Header::parse(&bytes, file_len).is_err());
        let mut bytes = [&b"GGUF\x03\0\0\0"[..], &bytes].concat();
        look(&bytes);
        // Small counts, to get past the first checks.
        bytes.resize(24.max(bytes.len()), 0);
        bytes[9..16].fill(0);
        bytes[17..24].fill(0);
        look(&bytes);
    }

    #[test]
    fn a_damaged_header_is_understood_or_refused(
        (metadata, tensors) in file(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let layout = write(&metadata, &tensors).unwrap();
        let mut bytes = layout.header;
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        look(&bytes);
        for file_len in [layout.file_len, 1 << 40, u64::MAX] {
            if let Ok(header) = Header::parse(&bytes, file_len) {
                hold(&header, file_len);
            }
        }
    }
}

/// Every byte of a valid header, replaced by values that make large counts, lengths and
/// types.
#[test]
fn every_byte_damaged() {
    let valid = raw::Raw::valid().bytes();
    for at in 0..valid.len() {
        for byte in [0, 1, 9, 0x7f, 0x80, 0xff] {
            let mut bytes = valid.clone();
            bytes[at] = byte;
            look(&bytes);
        }
    }
}
