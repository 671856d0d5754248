//! Reads a header from any [`Read`], with a buffer that grows only as far as the header
//! requires. It opens no file.

use crate::{Error, Header};
use std::io::{self, Read};
use thiserror::Error;

/// Why [`read_header`] failed.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The source failed or ended before `file_len`.
    #[error("the header cannot be read: {0}")]
    Io(#[from] io::Error),
    /// The header is longer than the caller allows.
    #[error("the header is at least {needed} bytes long, but only {most} are allowed")]
    TooLong {
        /// Its least possible length in bytes.
        needed: u64,
        /// The length allowed, in bytes.
        most: u64,
    },
    /// The header is wrong.
    #[error(transparent)]
    Header(#[from] Error),
}

/// Reads the header of a file of `file_len` bytes from its start: returns the
/// bytes up to the data, padding included, on which [`Header::parse`] succeeds. Reads
/// at most `most` bytes, but up to a mebibyte in any case.
///
/// # Errors
/// The source fails, or the header is wrong or too long.
pub fn read_header(source: &mut impl Read, file_len: u64, most: u64) -> Result<Vec<u8>, ReadError> {
    let most = most.max(1 << 20);
    let mut bytes = Vec::new();
    let mut target = file_len.min(1 << 20);
    loop {
        let missing = target - bytes.len() as u64;
        let got = source.by_ref().take(missing).read_to_end(&mut bytes)?;
        if (got as u64) < missing {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        match Header::parse(&bytes, file_len) {
            Err(Error::NeedMore { at_least }) if at_least > most => {
                let needed = at_least;
                return Err(ReadError::TooLong { needed, most });
            }
            // Doubling keeps the work of parsing again in proportion.
            Err(Error::NeedMore { at_least }) => {
                target = at_least.max((2 * target).min(most)).min(file_len);
            }
            Err(error) => return Err(error.into()),
            Ok(header) => {
                let data_offset = header.data_offset;
                // A file without tensors may end before its padding does.
                bytes.resize(data_offset as usize, 0);
                return Ok(bytes);
            }
        }
    }
}
