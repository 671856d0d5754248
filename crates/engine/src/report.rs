//! Reports of an engine: where its weights come from, and totals of its laps.

use serde::Serialize;

use std::fmt;

/// Where the weights of a lap come from. Shown as the noun of a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// All are in memory.
    Memory,
    /// llama.cpp's mapping of the files: the page cache, filled from flash.
    Mapping,
    /// Files on flash.
    Flash,
    /// Files on this number of drives, whose rates add up.
    Drives(usize),
    /// A medium from [`crate::Options::maker`], by its name.
    Other(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::Mapping => f.write_str("the page cache"),
            Self::Flash | Self::Drives(1) => f.write_str("flash"),
            Self::Drives(count) => write!(f, "{count} drives"),
            Self::Other(name) => f.write_str(name),
        }
    }
}

/// Totals of laps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Laps {
    /// Number of laps.
    pub count: u64,
    /// Their time, in nanoseconds.
    pub ns: u64,
    /// The part of it in which compute waited for the line, in nanoseconds.
    pub stall_ns: u64,
    /// Bytes that the line read and the laps used.
    pub bytes_read: u64,
}

impl std::ops::Add for Laps {
    type Output = Self;

    /// Both together.
    fn add(self, more: Self) -> Self {
        Self {
            count: self.count + more.count,
            ns: self.ns + more.ns,
            stall_ns: self.stall_ns + more.stall_ns,
            bytes_read: self.bytes_read + more.bytes_read,
        }
    }
}

impl std::ops::Sub for Laps {
    type Output = Self;

    /// The laps since `before`.
    fn sub(self, before: Self) -> Self {
        Self {
            count: self.count - before.count,
            ns: self.ns - before.ns,
            stall_ns: self.stall_ns - before.stall_ns,
            bytes_read: self.bytes_read - before.bytes_read,
        }
    }
}

/// What the bytes of a model were held against before the backend loaded them itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LoadedBytes {
    /// The seals of all files.
    Sealed,
    /// Nothing: not all files have a seal, and who loads them does not look.
    Trusted,
    /// Nothing, because no check was wanted.
    Unchecked,
}
