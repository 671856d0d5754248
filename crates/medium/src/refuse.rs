//! The operations that every medium refuses: any on a part that does not exist, writes
//! to a medium that is read only, writes past the end of a part.

use delayline_line::{MediumError, Op, Verb};
use std::io::{Error, ErrorKind};

/// Why `op` is refused by a medium with parts of `lens` bytes, if it is; `name` is
/// the medium's.
pub(crate) fn refusal(
    name: impl FnOnce() -> String,
    lens: &[u64],
    writable: bool,
    op: &Op,
) -> Option<MediumError> {
    let Some(&len) = lens.get(usize::from(op.part)) else {
        let count = lens.len();
        let reason = format!("there is no such part: the model has {count}, counted from 0");
        let reason = Error::new(ErrorKind::NotFound, reason);
        let part = format!("part {}", op.part);
        return Some(MediumError::refused(part, op.asked(), reason));
    };
    if op.verb != Verb::Write {
        return None;
    }
    let refuse = |kind, reason: String| {
        let reason = Error::new(kind, reason);
        Some(MediumError::refused(name(), op.asked(), reason))
    };
    let end = op.offset.saturating_add(op.buffer.len().into());
    if !writable {
        let reason = "it was opened for reading only; open it for writing".to_owned();
        refuse(ErrorKind::ReadOnlyFilesystem, reason)
    } else if end > len {
        let part = op.part;
        let reason = format!("part {part} has {len} bytes, and a write has to end within it");
        refuse(ErrorKind::FileTooLarge, reason)
    } else {
        None
    }
}
