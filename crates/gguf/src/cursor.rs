//! Reads forward through a prefix of the file. It distinguishes the end of the file from
//! bytes not read yet, and knows no structure beyond numbers and strings.

use crate::Error;
use crate::error::shown;
use crate::header::MAX_HEADER_LEN;
use std::fmt;

/// Where in the header something is, for messages.
#[derive(Clone, Copy)]
pub(crate) enum Place<'a> {
    Start,
    Entry(u64),
    Value(&'a str),
    TensorEntry(u64),
    Tensor(&'a str),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Start => write!(f, "its start"),
            Place::Entry(index) => write!(f, "metadata entry {index}"),
            Place::Value(key) => write!(f, "the value of \"{}\"", shown(key.as_bytes())),
            Place::TensorEntry(index) => write!(f, "the entry of tensor {index}"),
            Place::Tensor(name) => {
                write!(f, "the entry of tensor \"{}\"", shown(name.as_bytes()))
            }
        }
    }
}

pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    file_len: u64,
}

impl<'a> Cursor<'a> {
    /// `bytes` is a prefix of a file of `file_len` bytes.
    pub(crate) fn new(bytes: &'a [u8], file_len: u64) -> Self {
        let in_file = usize::try_from(file_len).unwrap_or(usize::MAX);
        Self {
            bytes: &bytes[..bytes.len().min(in_file)],
            at: 0,
            file_len,
        }
    }

    pub(crate) fn at(&self) -> u64 {
        self.at as u64
    }

    /// Bytes of the file from here on, including those not read yet.
    pub(crate) fn file_left(&self) -> u64 {
        self.file_len - self.at()
    }

    /// Fails unless the prefix holds `len` bytes from here on.
    pub(crate) fn need(&self, len: u64, place: Place<'_>) -> Result<(), Error> {
        let end = self.at().saturating_add(len);
        if end > self.file_len {
            return Err(Error::HeaderTruncated {
                place: place.to_string(),
                needed: end,
                file_len: self.file_len,
            });
        }
        if end > MAX_HEADER_LEN {
            return Err(Error::HeaderTooLong);
        }
        if end > self.bytes.len() as u64 {
            return Err(Error::NeedMore { at_least: end });
        }
        Ok(())
    }

    pub(crate) fn take(&mut self, len: u64, place: Place<'_>) -> Result<&'a [u8], Error> {
        self.need(len, place)?;
        let start = self.at;
        self.at += len as usize;
        Ok(&self.bytes[start..self.at])
    }

    fn array<const N: usize>(&mut self, place: Place<'_>) -> Result<[u8; N], Error> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N as u64, place)?);
        Ok(out)
    }

    pub(crate) fn u32(&mut self, place: Place<'_>) -> Result<u32, Error> {
        Ok(u32::from_le_bytes(self.array(place)?))
    }

    pub(crate) fn u64(&mut self, place: Place<'_>) -> Result<u64, Error> {
        Ok(u64::from_le_bytes(self.array(place)?))
    }

    /// A string: its length and its bytes.
    pub(crate) fn string(&mut self, place: Place<'_>) -> Result<&'a [u8], Error> {
        let len = self.u64(place)?;
        self.take(len, place)
    }

    /// The bytes passed since `start`.
    pub(crate) fn since(&self, start: u64) -> &'a [u8] {
        &self.bytes[start as usize..self.at]
    }
}
