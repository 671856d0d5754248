//! Lays out a model in one file or in several parts: headers and positions of tensors,
//! before a byte is written.

use crate::Error;
use crate::metadata::metadata;
use crate::quant::{Quant, Role};
use crate::shape::Blueprint;
use crate::tensors::tensors;
use delayline_gguf::{FileLayout, Split, TensorSpec, write};

/// The layout of one file.
pub(crate) struct Part {
    pub layout: FileLayout,
    /// The roles of the tensors of `layout`, in the same order.
    pub roles: Vec<Role>,
}

/// The size in bytes of the file that [`write`](crate::write) would make.
///
/// # Errors
/// The shape makes no valid file.
pub fn size(model: impl Into<Blueprint>, quant: Quant) -> Result<u64, Error> {
    let parts = lay_out(&model.into(), quant, None)?;
    Ok(parts.iter().map(|part| part.layout.file_len).sum())
}

/// The files of a model: one, or as many parts as `split` says. As in llama.cpp's split
/// models, the first part has all metadata.
pub(crate) fn lay_out(
    model: &Blueprint,
    quant: Quant,
    split: Option<u16>,
) -> Result<Vec<Part>, Error> {
    let tensors = match model {
        Blueprint::Shape(shape) | Blueprint::Routed(shape) => tensors(shape, quant),
        Blueprint::Arch(arch) => arch.table().tensors(quant),
        Blueprint::Sized(arch) => arch.table().tensors(quant),
    };
    let mut metadata = metadata(model, quant)?;
    let Some(count) = split else {
        return Ok(vec![part(&metadata, &tensors)?]);
    };
    if count == 0 || usize::from(count) > tensors.len() {
        return Err(Error::Parts {
            parts: count,
            tensors: tensors.len(),
        });
    }
    let sizes = part(&metadata, &tensors)?.layout;
    let sizes: Vec<u64> = sizes.tensors.iter().map(|tensor| tensor.len).collect();
    let mut parts = Vec::new();
    let mut rest = &tensors[..];
    for (no, len) in (0..count).zip(balance(&sizes, usize::from(count))) {
        let (mine, others) = rest.split_at(len);
        rest = others;
        metadata.extend(
            Split {
                no,
                count,
                tensors: tensors.len() as u64,
            }
            .metadata(),
        );
        parts.push(part(&metadata, mine)?);
        metadata.clear();
    }
    Ok(parts)
}

fn part(
    metadata: &crate::metadata::Metadata,
    tensors: &[(TensorSpec, Role)],
) -> Result<Part, Error> {
    let (specs, roles): (Vec<TensorSpec>, Vec<Role>) = tensors.iter().cloned().unzip();
    let layout = write(metadata, &specs)?;
    Ok(Part { layout, roles })
}

/// The number of tensors of each part: at least one, so that parts have about the same
/// number of bytes.
fn balance(sizes: &[u64], parts: usize) -> Vec<usize> {
    let mut bytes_left: u64 = sizes.iter().sum();
    let mut counts = Vec::new();
    let mut next = 0;
    for parts_left in (1..=parts).rev() {
        let share = bytes_left / parts_left as u64;
        let most = sizes.len() - next - (parts_left - 1);
        let (mut count, mut bytes) = (0, 0);
        while count < most && (count == 0 || parts_left == 1 || bytes < share) {
            bytes += sizes[next + count];
            count += 1;
        }
        next += count;
        bytes_left -= bytes;
        counts.push(count);
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::balance;

    #[test]
    fn parts_are_balanced() {
        let check = |sizes: &[u64], parts: usize, expect: &[usize]| {
            assert_eq!(balance(sizes, parts), expect, "{sizes:?} in {parts}");
        };
        check(&[5], 1, &[1]);
        check(&[1, 1, 1, 1], 2, &[2, 2]);
        check(&[1, 1, 1, 1], 4, &[1, 1, 1, 1]);
        check(&[9, 1, 1, 1], 2, &[1, 3]);
        check(&[1, 1, 1, 9], 3, &[2, 1, 1]);
        check(&[0, 0, 0], 2, &[1, 2]);
    }

    #[test]
    fn every_tensor_has_a_part() {
        for n in 1..8 {
            let sizes: Vec<u64> = (0..n).map(|i| i * i % 5).collect();
            for parts in 1..=n as usize {
                let counts = balance(&sizes, parts);
                assert_eq!(counts.len(), parts);
                assert_eq!(counts.iter().sum::<usize>(), n as usize);
                assert!(counts.iter().all(|&count| count > 0));
            }
        }
    }
}
