//! Cuts the weights of a model into extents. Knows byte ranges and the order of
//! uses; does not know what a weight means or where memory is.

use crate::types::{ALIGN, Extent, ExtentId};
use thiserror::Error;

/// Largest gap of unused bytes that is read to join two weights: at 3 GB/s it
/// costs about 20 µs, less than a separate request.
const GAP_BYTES: u64 = 64 << 10;

/// Byte range of a tensor in a model file, and when a lap uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsedRange {
    /// Index of the file.
    pub part: u16,
    /// First byte in the file; any alignment.
    pub offset: u64,
    /// Length in bytes, at least 1.
    pub len: u64,
    /// Position of its first use in the lap's order of uses.
    pub first_use: u32,
    /// Position of its last use; equal to `first_use` if there is only one.
    pub last_use: u32,
}

impl UsedRange {
    fn end(&self) -> u64 {
        self.offset + self.len
    }
}

/// Where a weight is found once its extent is in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Home {
    /// The extent that holds it, whole.
    pub extent: ExtentId,
    /// Its first byte, counted from the extent's first byte.
    pub at: u64,
}

/// The result of [`cut()`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// In order of first use. Neighbours in the file may overlap in the block
    /// of [`ALIGN`] bytes at their boundary.
    pub extents: Vec<Extent>,
    /// One per weight, in the order of the weights passed to [`cut()`].
    pub homes: Vec<Home>,
}

/// A description of weights that does not fit the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CutError {
    /// The part is not among the files.
    #[error(
        "weight {weight} is in part {part}, but there are {parts} files: give every part of the model"
    )]
    NoSuchPart {
        /// Index of the weight.
        weight: usize,
        /// The part it names.
        part: u16,
        /// How many files there are.
        parts: usize,
    },
    /// The range does not lie in the file.
    #[error(
        "weight {weight} of {len} bytes at {offset} does not lie in part {part} of {part_len} bytes: the file is truncated or its header is wrong; get it again"
    )]
    Outside {
        /// Index of the weight.
        weight: usize,
        /// Its first byte.
        offset: u64,
        /// Its length in bytes.
        len: u64,
        /// The part it names.
        part: u16,
        /// Length of that part in bytes.
        part_len: u64,
    },
    /// There is nothing to read.
    #[error("weight {weight} has no bytes: leave empty tensors out")]
    Empty {
        /// Index of the weight.
        weight: usize,
    },
}

/// The target length of an extent for a model of `total_bytes`. Small models get
/// small extents, so that a window of a few extents is a small part of the model;
/// reads of more than 4 MiB gain nothing.
pub fn default_target(total_bytes: u64) -> u64 {
    (total_bytes / 64).clamp(64 << 10, 4 << 20)
}

/// Cuts `weights` into extents, each weight whole in one.
///
/// Neighbours in the file are joined up to `target_bytes` (rounded up to
/// [`ALIGN`]) if at most 64 KiB lie between them and if not more than
/// `target_bytes` of other weights are used between the first and the last use
/// of what is joined: an extent takes up window from its first use to its
/// last. A weight larger than the target, or one whose own uses are farther
/// apart than that, is therefore an extent of its own.
///
/// `parts` are the lengths of the files in bytes.
///
/// # Errors
/// [`CutError`] if a weight is empty or does not lie in its file.
pub fn cut(weights: &[UsedRange], parts: &[u64], target_bytes: u64) -> Result<Cut, CutError> {
    for (index, weight) in weights.iter().enumerate() {
        check(index, weight, parts)?;
    }
    let uses = Uses::new(weights);
    let mut by_place: Vec<usize> = (0..weights.len()).collect();
    by_place.sort_by_key(|&i| (weights[i].part, weights[i].offset, weights[i].len));

    let mut groups: Vec<Group> = Vec::new();
    for index in by_place {
        let single = Group::of(index, &weights[index]);
        if let Some(last) = groups.last_mut()
            && let Some(both) = last.joined(&single, target_bytes, &uses)
        {
            last.take(single, both);
        } else {
            groups.push(single);
        }
    }
    groups.sort_by_key(|g| (g.range.first_use, g.range.part, g.range.offset));

    let unset = Home {
        extent: ExtentId(u32::MAX),
        at: 0,
    };
    let mut homes = vec![unset; weights.len()];
    let mut extents = Vec::with_capacity(groups.len());
    for group in &groups {
        let extent = group.extent();
        for &member in &group.members {
            homes[member] = Home {
                extent: ExtentId(extents.len() as u32),
                at: weights[member].offset - extent.offset,
            };
        }
        extents.push(extent);
    }
    Ok(Cut { extents, homes })
}

fn check(index: usize, weight: &UsedRange, parts: &[u64]) -> Result<(), CutError> {
    let Some(&part_len) = parts.get(usize::from(weight.part)) else {
        return Err(CutError::NoSuchPart {
            weight: index,
            part: weight.part,
            parts: parts.len(),
        });
    };
    if weight.len == 0 {
        return Err(CutError::Empty { weight: index });
    }
    let end = weight.offset.checked_add(weight.len);
    if end.is_none_or(|end| end > part_len) {
        return Err(CutError::Outside {
            weight: index,
            offset: weight.offset,
            len: weight.len,
            part: weight.part,
            part_len,
        });
    }
    Ok(())
}

/// Weights that share an extent.
struct Group {
    /// The smallest range of bytes and of uses that covers all of them.
    range: UsedRange,
    /// Sum of their lengths.
    bytes: u64,
    members: Vec<usize>,
}

impl Group {
    fn of(index: usize, weight: &UsedRange) -> Self {
        Self {
            range: *weight,
            bytes: weight.len,
            members: vec![index],
        }
    }

    fn extent(&self) -> Extent {
        aligned(&self.range)
    }

    /// The range that covers both, if they may share an extent. `next` comes later
    /// in the file.
    fn joined(&self, next: &Group, target_bytes: u64, uses: &Uses) -> Option<UsedRange> {
        let (a, b) = (&self.range, &next.range);
        if a.part != b.part || b.offset.saturating_sub(a.end()) > GAP_BYTES {
            return None;
        }
        let both = UsedRange {
            len: a.end().max(b.end()) - a.offset,
            first_use: a.first_use.min(b.first_use),
            last_use: a.last_use.max(b.last_use),
            ..*a
        };
        let own = self.bytes + next.bytes;
        let others = uses
            .bytes_between(both.first_use, both.last_use)
            .saturating_sub(own);
        let fits = aligned(&both).len <= target_bytes.next_multiple_of(ALIGN);
        (fits && others <= target_bytes).then_some(both)
    }

    fn take(&mut self, next: Group, both: UsedRange) {
        self.range = both;
        self.bytes += next.bytes;
        self.members.extend(next.members);
    }
}

fn aligned(range: &UsedRange) -> Extent {
    let offset = range.offset / ALIGN * ALIGN;
    Extent {
        part: range.part,
        offset,
        len: range.end().next_multiple_of(ALIGN) - offset,
    }
}

/// Prefix sums of the weights' bytes over the order of first uses.
struct Uses {
    /// Positions of first uses, ascending.
    at: Vec<u32>,
    /// Bytes of the weights first used before the position of the same index;
    /// one longer than `at`.
    before: Vec<u64>,
}

impl Uses {
    fn new(weights: &[UsedRange]) -> Self {
        let mut firsts: Vec<(u32, u64)> = weights.iter().map(|w| (w.first_use, w.len)).collect();
        firsts.sort_unstable();
        let mut before = Vec::with_capacity(firsts.len() + 1);
        let mut sum = 0;
        before.push(sum);
        for (_, len) in &firsts {
            sum += len;
            before.push(sum);
        }
        let at = firsts.into_iter().map(|(at, _)| at).collect();
        Self { at, before }
    }

    /// Bytes of the weights whose first use lies in `first..=last`.
    fn bytes_between(&self, first: u32, last: u32) -> u64 {
        let low = self.at.partition_point(|&at| at < first);
        let high = self.at.partition_point(|&at| at <= last);
        self.before[high.max(low)] - self.before[low]
    }
}
