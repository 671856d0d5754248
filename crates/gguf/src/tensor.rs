//! A tensor's entry in the header: its shape, its size in bytes and its offset. Does not
//! know what the tensor is for.

use crate::Error;
use crate::error::shown;
use crate::types::TensorType;

/// Longest tensor name in bytes: ggml keeps 64 with the terminator.
pub const MAX_NAME_LEN: u64 = 63;

/// A tensor to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Name, 1 to [`MAX_NAME_LEN`] bytes, unique in the file.
    pub name: String,
    /// Type of its values.
    pub ty: TensorType,
    /// Values along each dimension, the contiguous one first; at most four.
    pub dims: Vec<u64>,
}

impl TensorSpec {
    /// A tensor of this name, type and shape. [`write`](crate::write) checks them.
    pub fn new(name: impl Into<String>, ty: TensorType, dims: &[u64]) -> Self {
        Self {
            name: name.into(),
            ty,
            dims: dims.to_vec(),
        }
    }
}

/// A tensor in a file, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Name, unique in the file.
    pub name: String,
    /// Type of its values.
    pub ty: TensorType,
    /// Values along each dimension, ggml's `ne`; 1 for those that the file does not give.
    pub dims: [u64; 4],
    /// How many of `dims` the file gives.
    pub n_dims: u32,
    /// First byte, from the start of the file.
    pub at: u64,
    /// Size in bytes.
    pub len: u64,
}

impl Tensor {
    /// The dimensions that the file gives.
    pub fn shape(&self) -> &[u64] {
        &self.dims[..self.n_dims as usize]
    }

    /// First byte after the tensor, from the start of the file.
    pub fn end(&self) -> u64 {
        self.at + self.len
    }
}

/// The size in bytes of a tensor of this type and shape.
///
/// # Errors
/// A zero dimension, a shape larger than ggml can count, or a row that is not a whole
/// number of blocks.
pub(crate) fn byte_len(name: &str, ty: TensorType, dims: &[u64]) -> Result<u64, Error> {
    let name = || shown(name.as_bytes());
    let dims_of = || dims.to_vec();
    if dims.contains(&0) {
        return Err(Error::ZeroDimension {
            name: name(),
            dims: dims_of(),
        });
    }
    let row = dims.first().copied().unwrap_or(1);
    let too_large = || Error::TooLarge {
        name: name(),
        dims: dims_of(),
    };
    // ggml counts values and bytes in signed 64 bits.
    let limit = i64::MAX as u64;
    let values = dims
        .iter()
        .try_fold(1u64, |product, &dim| product.checked_mul(dim))
        .filter(|&values| values <= limit)
        .ok_or_else(too_large)?;
    if !row.is_multiple_of(ty.block_len()) {
        let name = name();
        return Err(Error::Row { name, row, ty });
    }
    (values / ty.block_len())
        .checked_mul(ty.block_bytes())
        .filter(|&bytes| bytes <= limit)
        .ok_or_else(too_large)
}
