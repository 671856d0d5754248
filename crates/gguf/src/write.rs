//! The writer: turns metadata and tensor shapes into the bytes before the data. It relies
//! on the parser, which checks the result.

use crate::error::{Error, shown};
use crate::header::{DEFAULT_ALIGNMENT, Header, MAGIC};
use crate::tensor::{Tensor, TensorSpec, byte_len};
use crate::value::{Value, encode_str};
use std::borrow::Cow;

/// The layout of a file, without its data.
#[derive(Clone, Debug, PartialEq)]
pub struct FileLayout {
    /// Everything before the data, padding included.
    pub header: Vec<u8>,
    /// The tensors in the order given, with their places in the file.
    pub tensors: Vec<Tensor>,
    /// Length of the whole file in bytes, with the last tensor's padding.
    pub file_len: u64,
}

/// Writes a header of version 3 for these metadata and tensors, whose data
/// follow in the same order, each padded to the alignment
/// (`general.alignment` in `metadata`, or [`DEFAULT_ALIGNMENT`]).
///
/// # Errors
/// Whatever [`Header::parse`] would refuse, except [`Error::NeedMore`].
pub fn write(
    metadata: &[(Cow<'_, str>, Value<'_>)],
    tensors: &[TensorSpec],
) -> Result<FileLayout, Error> {
    let mut out = Vec::new();
    out.extend_from_slice(MAGIC);
    out.extend(3u32.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        encode_str(key.as_bytes(), &mut out);
        out.extend(value.kind().id().to_le_bytes());
        value.encode(&mut out);
    }
    let alignment = metadata
        .iter()
        .find(|(key, _)| key == "general.alignment")
        .and_then(|(_, value)| value.as_u64())
        // The parser refuses a zero.
        .filter(|&alignment| alignment > 0)
        .unwrap_or(DEFAULT_ALIGNMENT);

    let mut offset = 0u64;
    for tensor in tensors {
        encode_str(tensor.name.as_bytes(), &mut out);
        out.extend((tensor.dims.len() as u32).to_le_bytes());
        out.extend(tensor.dims.iter().flat_map(|dim| dim.to_le_bytes()));
        out.extend(tensor.ty.id().to_le_bytes());
        out.extend(offset.to_le_bytes());
        let len = byte_len(&tensor.name, tensor.ty, &tensor.dims)?;
        offset = offset
            .checked_add(len)
            .and_then(|end| end.checked_next_multiple_of(alignment))
            .filter(|&end| end <= i64::MAX as u64)
            .ok_or_else(|| Error::TooLarge {
                name: shown(tensor.name.as_bytes()),
                dims: tensor.dims.clone(),
            })?;
    }
    let padded = (out.len() as u64).saturating_add(alignment);
    let file_len = padded.saturating_add(offset);
    let parsed = Header::parse(&out, file_len)?;
    let (tensors, data_offset) = (parsed.tensors, parsed.data_offset);
    out.resize(data_offset as usize, 0);
    Ok(FileLayout {
        header: out,
        tensors,
        file_len: data_offset + offset,
    })
}
