//! The parser: turns a prefix of a file into a validated [`Header`]. It trusts no
//! number in the file and allocates in proportion to the bytes it was given.

use crate::Error;
use crate::cursor::{Cursor, Place};
use crate::error::{MAX_KEY_LEN, shown};
use crate::tensor::{MAX_NAME_LEN, Tensor, byte_len};
use crate::types::TensorType;
use crate::value::{Array, Value, ValueType};
use std::borrow::Cow;
use std::collections::HashSet;

/// The first bytes of every file of the format.
pub const MAGIC: &[u8] = b"GGUF";

/// Alignment of tensor data in bytes if the file gives none.
pub const DEFAULT_ALIGNMENT: u64 = 32;

/// Largest alignment that is accepted, in bytes.
pub const MAX_ALIGNMENT: u64 = 1 << 20;

/// Longest header that is accepted, in bytes: ten times the largest real ones.
pub const MAX_HEADER_LEN: u64 = 256 << 20;

/// Shortest metadata entry in bytes: length of the key, a key of one byte,
/// type, value of one byte.
const MIN_ENTRY: u64 = 8 + 1 + 4 + 1;

/// Shortest tensor entry in bytes: length of the name, a name of one byte,
/// number of dimensions, type, offset.
const MIN_TENSOR: u64 = 8 + 1 + 4 + 4 + 8;

/// Metadata in the order of the file.
pub type Metadata<'a> = Vec<(Cow<'a, str>, Value<'a>)>;

/// A validated header. Metadata borrow the bytes it was parsed from; tensors do not.
#[derive(Clone, Debug, PartialEq)]
pub struct Header<'a> {
    /// Version of the format, 2 or 3.
    pub version: u32,
    /// Alignment of tensors in the file, in bytes.
    pub alignment: u64,
    /// Keys and values, in the order of the file, each key once.
    pub metadata: Metadata<'a>,
    /// Tensors, in the order of the header, each name once, none overlapping
    /// another, all within the file.
    pub tensors: Vec<Tensor>,
    /// Where tensor data start, in bytes from the start of the file: the length of the
    /// header with its padding.
    pub data_offset: u64,
}

impl<'a> Header<'a> {
    /// Parses the header of a file of `file_len` bytes from its first bytes.
    ///
    /// # Errors
    /// [`Error::NeedMore`] if `bytes` is too short a prefix; any other variant
    /// if the file is not one that ggml can read.
    pub fn parse(bytes: &'a [u8], file_len: u64) -> Result<Header<'a>, Error> {
        let mut cursor = Cursor::new(bytes, file_len);
        let version = parse_version(&mut cursor)?;
        let n_tensors = cursor.u64(Place::Start)?;
        let n_entries = cursor.u64(Place::Start)?;
        check_counts(&cursor, n_entries, n_tensors)?;

        let metadata = parse_metadata(&mut cursor, n_entries)?;
        let alignment = find_alignment(&metadata)?;
        let mut tensors = parse_tensors(&mut cursor, n_tensors, alignment)?;
        let data_offset = cursor.at().next_multiple_of(alignment);
        place_tensors(&mut tensors, data_offset, file_len)?;
        Ok(Header {
            version,
            alignment,
            metadata,
            tensors,
            data_offset,
        })
    }
}

fn parse_version(cursor: &mut Cursor<'_>) -> Result<u32, Error> {
    let magic = cursor.take(4, Place::Start)?;
    if magic != MAGIC {
        let found = shown(magic);
        return Err(Error::NotGguf { found });
    }
    match cursor.u32(Place::Start)? {
        version @ (2 | 3) => Ok(version),
        // A small version with its bytes reversed.
        version if version & 0xffff == 0 && version != 0 => Err(Error::BigEndian),
        version => Err(Error::Version { version }),
    }
}

/// Checks both counts against the bytes that are left, so that the loops over them are
/// bounded by the size of the file.
fn check_counts(cursor: &Cursor<'_>, n_entries: u64, n_tensors: u64) -> Result<(), Error> {
    let left = cursor.file_left();
    if n_entries > left / MIN_ENTRY {
        return Err(Error::Count {
            what: "metadata entries",
            count: n_entries,
            most: left / MIN_ENTRY,
        });
    }
    let left = left - n_entries * MIN_ENTRY;
    if n_tensors > left / MIN_TENSOR {
        return Err(Error::Count {
            what: "tensors",
            count: n_tensors,
            most: left / MIN_TENSOR,
        });
    }
    // Ask for everything that the counts imply at once, not for one entry at a time.
    cursor.need(n_entries * MIN_ENTRY + n_tensors * MIN_TENSOR, Place::Start)
}

fn parse_metadata<'a>(cursor: &mut Cursor<'a>, count: u64) -> Result<Metadata<'a>, Error> {
    let mut metadata = Metadata::new();
    let mut seen = HashSet::new();
    for index in 0..count {
        let key = parse_key(cursor, index)?;
        if !seen.insert(key) {
            let key = shown(key.as_bytes());
            return Err(Error::DuplicateKey { key });
        }
        let value = parse_value(cursor, key)?;
        metadata.push((Cow::Borrowed(key), value));
    }
    Ok(metadata)
}

fn parse_key<'a>(cursor: &mut Cursor<'a>, index: u64) -> Result<&'a str, Error> {
    let place = Place::Entry(index);
    let len = cursor.u64(place)?;
    if len == 0 || len > MAX_KEY_LEN {
        return Err(Error::KeyLength { index, len });
    }
    let bytes = cursor.take(len, place)?;
    clean(bytes).ok_or_else(|| Error::KeyText {
        index,
        key: shown(bytes),
    })
}

/// UTF-8 without NUL. llama.cpp would cut a name off at a NUL, so that two names
/// could become one.
fn clean(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    (!text.contains('\0')).then_some(text)
}

fn parse_value<'a>(cursor: &mut Cursor<'a>, key: &'a str) -> Result<Value<'a>, Error> {
    let place = Place::Value(key);
    let kind = parse_kind(cursor, key)?;
    match kind {
        ValueType::Str => {
            let bytes = cursor.string(place)?;
            let text = std::str::from_utf8(bytes).map_err(|_| Error::ValueText {
                key: shown(key.as_bytes()),
            })?;
            Ok(text.into())
        }
        ValueType::Array => Ok(Value::Array(parse_array(cursor, key)?)),
        _ => {
            let bytes = cursor.take(kind.fixed_bytes().unwrap_or(0), place)?;
            let value = Value::scalar(kind, bytes);
            Ok(value.expect("a scalar type has as many bytes as it says"))
        }
    }
}

fn parse_kind(cursor: &mut Cursor<'_>, key: &str) -> Result<ValueType, Error> {
    let id = cursor.u32(Place::Value(key))?;
    ValueType::from_id(id).ok_or_else(|| Error::UnknownValueType {
        key: shown(key.as_bytes()),
        id,
    })
}

fn parse_array<'a>(cursor: &mut Cursor<'a>, key: &'a str) -> Result<Array<'a>, Error> {
    let place = Place::Value(key);
    let kind = parse_kind(cursor, key)?;
    if kind == ValueType::Array {
        let key = shown(key.as_bytes());
        return Err(Error::NestedArray { key });
    }
    let len = cursor.u64(place)?;
    let start = cursor.at();
    match kind.fixed_bytes() {
        Some(bytes) => {
            cursor.take(len.saturating_mul(bytes), place)?;
        }
        None => {
            // Each string takes at least 8 bytes, for its length.
            cursor.need(len.saturating_mul(8), place)?;
            for _ in 0..len {
                cursor.string(place)?;
            }
        }
    }
    let raw = Cow::Borrowed(cursor.since(start));
    Ok(Array { kind, len, raw })
}

fn find_alignment(metadata: &Metadata<'_>) -> Result<u64, Error> {
    let Some((_, value)) = metadata.iter().find(|(key, _)| key == "general.alignment") else {
        return Ok(DEFAULT_ALIGNMENT);
    };
    let found = match value {
        Value::U32(alignment) => {
            let wide = u64::from(*alignment);
            if alignment.is_power_of_two() && (8..=MAX_ALIGNMENT).contains(&wide) {
                return Ok(wide);
            }
            alignment.to_string()
        }
        other => format!("of type {}", other.kind()),
    };
    Err(Error::Alignment { found })
}

/// The tensors, with `at` relative to the start of the data.
fn parse_tensors(
    cursor: &mut Cursor<'_>,
    count: u64,
    alignment: u64,
) -> Result<Vec<Tensor>, Error> {
    let mut tensors = Vec::new();
    let mut seen = HashSet::new();
    for index in 0..count {
        let name = parse_name(cursor, index)?;
        if !seen.insert(name) {
            let name = shown(name.as_bytes());
            return Err(Error::DuplicateTensor { name });
        }
        tensors.push(parse_tensor(cursor, name, alignment)?);
    }
    Ok(tensors)
}

fn parse_name<'a>(cursor: &mut Cursor<'a>, index: u64) -> Result<&'a str, Error> {
    let place = Place::TensorEntry(index);
    let len = cursor.u64(place)?;
    if len == 0 || len > MAX_NAME_LEN {
        return Err(Error::NameLength { index, len });
    }
    let bytes = cursor.take(len, place)?;
    clean(bytes).ok_or_else(|| Error::NameText {
        index,
        name: shown(bytes),
    })
}

fn parse_tensor(cursor: &mut Cursor<'_>, name: &str, alignment: u64) -> Result<Tensor, Error> {
    let place = Place::Tensor(name);
    let printable = || shown(name.as_bytes());
    let n_dims = cursor.u32(place)?;
    let mut dims = [1; 4];
    let Some(given) = dims.get_mut(..n_dims as usize) else {
        return Err(Error::DimensionCount {
            name: printable(),
            count: n_dims,
        });
    };
    for dim in given.iter_mut() {
        *dim = cursor.u64(place)?;
    }
    let id = cursor.u32(place)?;
    let ty = TensorType::from_id(id).ok_or_else(|| Error::UnknownTensorType {
        name: printable(),
        id,
    })?;
    let len = byte_len(name, ty, &dims[..n_dims as usize])?;
    let at = cursor.u64(place)?;
    if !at.is_multiple_of(alignment) {
        return Err(Error::Unaligned {
            name: printable(),
            offset: at,
            alignment,
        });
    }
    Ok(Tensor {
        name: name.to_owned(),
        ty,
        dims,
        n_dims,
        at,
        len,
    })
}

/// Makes offsets absolute and checks that the tensors lie in the file, apart
/// from each other.
fn place_tensors(tensors: &mut [Tensor], data_offset: u64, file_len: u64) -> Result<(), Error> {
    for tensor in tensors.iter_mut() {
        let at = data_offset.checked_add(tensor.at);
        match at.filter(|at| at.checked_add(tensor.len).is_some()) {
            Some(at) => tensor.at = at,
            None => {
                return Err(Error::TooLarge {
                    name: shown(tensor.name.as_bytes()),
                    dims: tensor.shape().to_vec(),
                });
            }
        }
    }
    // Report the tensor that ends last: it tells how much of the file is missing.
    if let Some(last) = tensors.iter().max_by_key(|tensor| tensor.end())
        && last.end() > file_len
    {
        return Err(Error::Truncated {
            name: shown(last.name.as_bytes()),
            needed: last.end(),
            file_len,
        });
    }
    let mut order: Vec<&Tensor> = tensors.iter().collect();
    order.sort_unstable_by_key(|tensor| tensor.at);
    for pair in order.windows(2) {
        if pair[0].end() > pair[1].at {
            return Err(Error::Overlap {
                first: shown(pair[0].name.as_bytes()),
                second: shown(pair[1].name.as_bytes()),
            });
        }
    }
    Ok(())
}
