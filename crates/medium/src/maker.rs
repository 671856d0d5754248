//! Media that are handed in from above: the program that opens a model can put one of its
//! own between the files and the line. Owns the two traits for that, which know laps and
//! memory and no particular medium.

use crate::{Faulty, Memory};
use delayline_line::{Clock, Medium, MediumError, Region};
use delayline_plan::{Plan, Residency, Schedule};
use std::any::Any;
use std::fmt;
use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use thiserror::Error;

/// A decoding lap of a model, before one has run.
#[derive(Clone, Copy, Debug)]
pub struct LapOutline<'a> {
    /// What it uses, in order.
    pub plan: &'a Plan,
    /// When each extent is leased and released.
    pub schedule: &'a Schedule,
    /// All weights of the model, in bytes.
    pub weight_bytes: u64,
    /// Compute threads.
    pub threads: u32,
    /// Longest single read, in bytes.
    pub read_len: u32,
    /// Memory that this machine has free, in bytes, if it is known.
    pub free_bytes: Option<u64>,
}

/// Where a medium is put.
pub struct MediumSite<'a> {
    /// The lap.
    pub lap: LapOutline<'a>,
    /// What stays and what streams.
    pub residency: &'a Residency,
    /// The memory that reads go to.
    pub memory: &'a Arc<Memory>,
    /// Lengths of the model's files, in bytes.
    pub part_lens: &'a [u64],
}

/// Why a medium could not be made.
#[derive(Debug, Error)]
pub enum MakeError {
    /// What was asked for is impossible with this model and this memory.
    #[error("{0}")]
    Refused(Box<dyn std::error::Error + Send + Sync>),
    /// The system refused what the medium needs.
    #[error("the system refused memory: {0}")]
    System(#[from] io::Error),
    /// The medium cannot be made ready from the one behind it.
    #[error("{what}: {source}")]
    Read {
        /// What was tried.
        what: &'static str,
        /// The read that failed.
        source: MediumError,
    },
    /// The caller stopped the preparation of the medium.
    #[error("stopped while the medium was made ready")]
    Stopped,
}

/// Makes a medium around the files of a model. Handed to the engine, which asks
/// it while it lays the model out; one maker may be asked for several media.
pub trait MediumMaker: fmt::Debug + Send + Sync {
    /// What weights are read from, as a noun of a sentence; `None` for the name of the
    /// medium behind.
    fn name(&self) -> Option<String> {
        None
    }

    /// Bytes per second that the medium can bring, if that is known without a
    /// measurement; the drive behind is then not measured.
    fn rate_bytes_per_s(&self) -> Option<f64> {
        None
    }

    /// Its properties before a lap has run, for programs; the page of the server shows
    /// them.
    fn describe(&self) -> Option<serde_json::Value> {
        None
    }

    /// Whether even a model that fits into memory is streamed.
    fn insists(&self) -> bool {
        false
    }

    /// Memory that the medium takes of the process's budget, in bytes.
    fn needs_bytes(&self) -> u64 {
        0
    }

    /// Of ways to divide memory between a window and weights that stay, from the
    /// longest window to the shortest, the one with which this medium does best.
    /// Each is computed when it is asked for, and there is at least one.
    ///
    /// # Errors
    /// When it can work with none of them.
    fn prefer(
        &self,
        lap: &LapOutline<'_>,
        ways: &mut dyn Iterator<Item = Residency>,
    ) -> Result<Residency, MakeError> {
        let _ = lap;
        Ok(ways.next().expect("there is at least one way"))
    }

    /// The medium, around `behind`.
    ///
    /// # Errors
    /// [`MakeError`].
    fn make(
        &self,
        behind: Box<dyn Medium>,
        site: &MediumSite<'_>,
    ) -> Result<Box<dyn MadeMedium>, MakeError>;
}

/// A medium as its maker gives it: it may need preparation before the first lap that
/// counts. Code that knows its type gets it back through [`Any`].
pub trait MadeMedium: Medium + Any {
    /// The clock of a medium in virtual time, which it advances when a poll waits;
    /// `None` for the clock of the machine.
    fn clock(&self) -> Option<Rc<dyn Clock>> {
        None
    }

    /// Whether [`MadeMedium::make_ready`] wants the compute of a lap measured.
    fn wants_compute(&self) -> bool {
        false
    }

    /// Makes it ready, through the bytes `scratch` of `region`, the memory that reads go
    /// to; nobody else uses them meanwhile. `compute_s` is the measured compute of a lap
    /// in seconds, where it was wanted. No read is under way.
    ///
    /// # Errors
    /// When it cannot be made ready.
    fn make_ready(
        &mut self,
        site: &MediumSite<'_>,
        region: &mut Region,
        scratch: Range<u64>,
        compute_s: Option<f64>,
    ) -> Result<(), MakeError> {
        let _ = (site, region, scratch, compute_s);
        Ok(())
    }
}

/// Any medium that needs no preparation.
impl MadeMedium for Box<dyn Medium> {}

impl MadeMedium for Faulty<Box<dyn Medium>> {}

/// A maker of media that need only the medium behind them, such as [`Faulty`].
pub fn wrapped<F>(wrap: F) -> Arc<dyn MediumMaker>
where
    F: Fn(Box<dyn Medium>) -> Box<dyn Medium> + Send + Sync + 'static,
{
    Arc::new(Wrapped(wrap))
}

struct Wrapped<F>(F);

impl<F> fmt::Debug for Wrapped<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wrapped")
    }
}

impl<F> MediumMaker for Wrapped<F>
where
    F: Fn(Box<dyn Medium>) -> Box<dyn Medium> + Send + Sync,
{
    fn make(
        &self,
        behind: Box<dyn Medium>,
        _: &MediumSite<'_>,
    ) -> Result<Box<dyn MadeMedium>, MakeError> {
        Ok(Box::new((self.0)(behind)))
    }
}
