//! The errors of a GGUF header, as messages for a person. They do not name the file.

use crate::{MAX_ALIGNMENT, MAX_HEADER_LEN, MAX_NAME_LEN, TensorType, ValueType};
use thiserror::Error;

/// Longest key that is accepted, in bytes, as the format's specification says.
pub(crate) const MAX_KEY_LEN: u64 = 65535;

/// What is wrong with a header. Names from the file are clipped and escaped.
#[allow(missing_docs, reason = "the messages say what the fields are")]
#[derive(Clone, Debug, PartialEq, Error)]
pub enum Error {
    /// Not a fault: the prefix is too short. Call again with more of the file.
    /// `at_least` is more than was given and no more than the file's length.
    #[error(
        "the header is longer than what was read: at least {at_least} bytes of the file are needed"
    )]
    NeedMore { at_least: u64 },
    #[error("not a GGUF file: it starts with \"{found}\", expected \"GGUF\"")]
    NotGguf { found: String },
    #[error(
        "a big-endian GGUF file (version bytes reversed): convert it to little-endian, for instance with gguf_convert_endian.py"
    )]
    BigEndian,
    #[error(
        "GGUF version {version} is not supported, expected 2 or 3: convert the model again with a current converter"
    )]
    Version { version: u32 },
    #[error(
        "the header is longer than {MAX_HEADER_LEN} bytes, which no real model needs: the file is corrupt"
    )]
    HeaderTooLong,
    #[error(
        "the file ends inside its header: {place} needs {needed} bytes, the file has {file_len}: it is cut off or corrupt, download it again"
    )]
    HeaderTruncated {
        place: String,
        needed: u64,
        file_len: u64,
    },
    #[error(
        "the header claims {count} {what}, but the rest of the file has room for {most} at most: it is cut off or corrupt"
    )]
    Count {
        what: &'static str,
        count: u64,
        most: u64,
    },
    #[error(
        "metadata entry {index} has a key of {len} bytes, expected 1 to {MAX_KEY_LEN}: the header is corrupt"
    )]
    KeyLength { index: u64, len: u64 },
    #[error(
        "metadata entry {index} has the key \"{key}\", which is not clean UTF-8: the header is corrupt"
    )]
    KeyText { index: u64, key: String },
    #[error("the key \"{key}\" occurs twice, expected once")]
    DuplicateKey { key: String },
    #[error(
        "the key \"{key}\" has the value type {id}, expected 0 to 12: the header is corrupt or newer than this program"
    )]
    UnknownValueType { key: String, id: u32 },
    #[error("the key \"{key}\" holds an array of arrays, expected numbers, booleans or strings")]
    NestedArray { key: String },
    #[error("the key \"{key}\" holds a string that is not UTF-8")]
    ValueText { key: String },
    #[error(
        "general.alignment is {found}, expected a u32 that is a power of two from 8 to {MAX_ALIGNMENT}"
    )]
    Alignment { found: String },
    #[error(
        "tensor {index} has a name of {len} bytes, expected 1 to {MAX_NAME_LEN}: the header is corrupt"
    )]
    NameLength { index: u64, len: u64 },
    #[error(
        "tensor {index} has the name \"{name}\", which is not clean UTF-8: the header is corrupt"
    )]
    NameText { index: u64, name: String },
    #[error("the tensor \"{name}\" occurs twice, expected once")]
    DuplicateTensor { name: String },
    #[error("the tensor \"{name}\" has {count} dimensions, expected at most 4")]
    DimensionCount { name: String, count: u32 },
    #[error("the tensor \"{name}\" has the shape {dims:?}, expected no zero in it")]
    ZeroDimension { name: String, dims: Vec<u64> },
    #[error(
        "the tensor \"{name}\" has the shape {dims:?}, more than can be counted: the header is corrupt"
    )]
    TooLarge { name: String, dims: Vec<u64> },
    #[error(
        "the tensor \"{name}\" has the type {id}, which is unknown: the header is corrupt or newer than this program"
    )]
    UnknownTensorType { name: String, id: u32 },
    #[error("the tensor \"{name}\" has rows of {row} values, expected a multiple of {} for {ty}", .ty.block_len())]
    Row {
        name: String,
        row: u64,
        ty: TensorType,
    },
    #[error(
        "the tensor \"{name}\" is at offset {offset}, expected a multiple of the alignment {alignment}"
    )]
    Unaligned {
        name: String,
        offset: u64,
        alignment: u64,
    },
    #[error("the tensors \"{first}\" and \"{second}\" overlap in the file")]
    Overlap { first: String, second: String },
    #[error("the file is truncated: \"{name}\" ends at byte {needed}, the file at {file_len}, so {} bytes are missing: download it again", .needed - .file_len)]
    Truncated {
        name: String,
        needed: u64,
        file_len: u64,
    },
    #[error("the key \"{key}\" is missing: this is not a complete model file")]
    MissingKey { key: String },
    #[error("the key \"{key}\" is of type {found}, expected {expected}")]
    WrongType {
        key: String,
        expected: &'static str,
        found: ValueType,
    },
    #[error("the file calls itself part {} of {count}: the header is corrupt", .no + 1)]
    SplitNumber { no: u64, count: u64 },
    #[error(
        "\"{path}\" is the first of {count} parts, so its name must end in \"{suffix}\": rename it"
    )]
    SplitName {
        path: String,
        count: u16,
        suffix: String,
    },
}

/// A name from the file, clipped and escaped for printing.
pub(crate) fn shown(bytes: &[u8]) -> String {
    const LEN_MAX: usize = 80;
    let clipped = &bytes[..bytes.len().min(LEN_MAX)];
    let mut text = clipped.escape_ascii().to_string();
    if let Ok(clean) = std::str::from_utf8(clipped) {
        text = clean.escape_debug().to_string();
    }
    if bytes.len() > LEN_MAX {
        text.push('…');
    }
    text
}
