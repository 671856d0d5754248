//! Why a case of decoding has no answer.

use delayline_line::LineError;
use thiserror::Error;

use crate::datasheet::SheetError;
use crate::media::MediaError;

/// Why a case has no answer.
#[derive(Debug, Error)]
pub enum DecodeError {
    /// A data sheet is missing or wrong.
    #[error(transparent)]
    Sheet(#[from] SheetError),
    /// The medium is none.
    #[error(transparent)]
    Media(#[from] MediaError),
    /// A figure that cannot be.
    #[error("{what} is {got}, but must be {expected}")]
    Value {
        /// Which.
        what: &'static str,
        /// What it was.
        got: String,
        /// What is accepted.
        expected: String,
    },
    /// Keys and values do not fit beside the accelerator.
    #[error(
        "keys and values of {batch} sequences of {context} tokens are {kv_gb:.2} GB, but {name} \
         holds {room_gb:.2} GB: at most a batch of {most} fits with this context"
    )]
    Context {
        /// The batch.
        batch: u32,
        /// Tokens of each.
        context: u32,
        /// What they take, in gigabytes.
        kv_gb: f64,
        /// The accelerator.
        name: String,
        /// What it holds, in gigabytes.
        room_gb: f64,
        /// The largest batch that fits.
        most: u32,
    },
    /// The accelerator has no memory to read weights from.
    #[error("{0} has no memory beside its SRAM: choose another medium than `own`")]
    NoMemory(String),
    /// Weights that stay do not fit beside the accelerator.
    #[error(
        "weights of {stays_gb:.2} GB are to stay, but {name} holds {room_gb:.2} GB: keep fewer, or \
         take more accelerators"
    )]
    Resident {
        /// The weights, in gigabytes.
        stays_gb: f64,
        /// The accelerator.
        name: String,
        /// What it holds, in gigabytes.
        room_gb: f64,
    },
    /// A window lies nowhere.
    #[error(
        "a window of {window_gb:.3} GB has no room: beside what stays, {name} has {room_gb:.3} GB"
    )]
    Window {
        /// The window, in gigabytes.
        window_gb: f64,
        /// The accelerator.
        name: String,
        /// What is left, in gigabytes.
        room_gb: f64,
    },
    /// The line could not run.
    #[error("the simulation cannot run: {0}")]
    Line(#[from] LineError),
}
