//! Fills a loop from the medium behind it, before anything is read. It does not know
//! when a piece that was sent passes the tap.

use super::FiberLoop;
use crate::orbit::Piece;
use delayline_line::{Asked, Completion, Medium, MediumError, Op, Region, Verb};
use delayline_medium::Pace;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::ops::{ControlFlow, Range};
use thiserror::Error;

/// How often a read of the medium behind is tried at most while the loop is filled.
const ATTEMPTS: u32 = 4;

/// How long the filling waits without any read having completed, in nanoseconds: a
/// drive that resets or spins up takes less.
const PATIENCE_NS: u64 = 30_000_000_000;

/// Time between two polls meanwhile, in nanoseconds.
const LOOK_NS: u64 = 100_000;

/// Why a loop is not full.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum FillError {
    /// A piece cannot be read.
    #[error(transparent)]
    Read(#[from] MediumError),
    /// `progress` ended the filling.
    #[error("stopped before the loop was full")]
    Stopped,
}

/// A filling under way.
struct Filling<'a> {
    region: &'a mut Region,
    /// Pieces that are still to be read, and how often each was tried.
    left: VecDeque<(u32, u32)>,
    /// By piece whose read is under way: how often it was tried, this read included.
    tries: HashMap<u64, u32>,
    /// Where in memory there is room for a piece.
    free: Vec<u64>,
}

impl<M: Medium, C: Pace> FiberLoop<M, C> {
    /// Sends every dark piece into the loop, through the bytes `scratch` of the memory of
    /// `region`, which must hold the longest piece and which nobody else uses meanwhile.
    /// After each piece `progress` is given the bytes done and the bytes in all, and may
    /// end the filling by a break. The time of a cut counts from the end of this.
    ///
    /// # Errors
    /// When a piece cannot be read from the medium behind in several attempts, or
    /// `progress` breaks. No read is under way then. When the medium behind completes
    /// nothing for half a minute, it is given up: the loop can only be dropped then,
    /// which does not wait for it.
    ///
    /// # Panics
    /// When reads are under way, or `scratch` is too small.
    pub fn fill(
        &mut self,
        region: &mut Region,
        scratch: Range<u64>,
        mut progress: impl FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<(), FillError> {
        assert!(
            self.under_way() == 0,
            "the loop is filled before it is read"
        );
        let mut filling = self.filling(region, scratch);
        let len_of = |piece: &Piece| u64::from(piece.len);
        let total = filling.left.iter();
        let total = total.map(|&(p, _)| len_of(&self.orbit.pieces[p as usize]));
        let (mut done, total) = (0, total.sum());
        let (mut came, mut outcome) = (Vec::new(), Ok(()));
        loop {
            while outcome.is_ok() && self.ask(&mut filling) {}
            if filling.tries.is_empty() {
                break;
            }
            self.await_any(&mut came, filling.tries.len())?;
            for completion in came.drain(..) {
                let piece = self.orbit.pieces[completion.id as usize];
                match self.arrived(completion, &mut filling) {
                    Ok(false) => {}
                    Ok(true) => {
                        done += len_of(&piece);
                        if progress(done, total).is_break() {
                            outcome = outcome.and(Err(FillError::Stopped));
                        }
                    }
                    Err(error) => outcome = outcome.and(Err(error.into())),
                }
            }
        }
        if outcome.is_ok() {
            self.expect_cut();
        }
        outcome
    }

    /// Waits until one of the reads under way has completed, for [`PATIENCE_NS`] at most.
    fn await_any(
        &mut self,
        came: &mut Vec<Completion>,
        under_way: usize,
    ) -> Result<(), MediumError> {
        let until_ns = self.clock.now_ns().saturating_add(PATIENCE_NS);
        loop {
            self.behind.poll(false, came);
            if !came.is_empty() {
                return Ok(());
            }
            let now_ns = self.clock.now_ns();
            if now_ns >= until_ns {
                self.behind.give_up();
                return Err(hung(under_way));
            }
            self.clock
                .wait_until_ns(until_ns.min(now_ns.saturating_add(LOOK_NS)));
        }
    }

    fn filling<'a>(&self, region: &'a mut Region, scratch: Range<u64>) -> Filling<'a> {
        let dark = (0..self.orbit.pieces.len() as u32).filter(|&p| self.lights.is_dark(p));
        let left: VecDeque<(u32, u32)> = dark.map(|piece| (piece, 0)).collect();
        let lens = self.orbit.pieces.iter().map(|piece| u64::from(piece.len));
        let longest = lens.max().unwrap_or(1);
        let rooms = (scratch.end - scratch.start) / longest;
        assert!(
            rooms > 0 || left.is_empty(),
            "no room for a piece of {longest} bytes"
        );
        let rooms = 0..rooms.min(self.behind.caps().depth as u64);
        Filling {
            region,
            left,
            tries: HashMap::new(),
            free: rooms.map(|room| scratch.start + room * longest).collect(),
        }
    }

    /// Submits the read of one more piece; false if there is none, or no room.
    fn ask(&mut self, filling: &mut Filling<'_>) -> bool {
        if filling.left.is_empty() {
            return false;
        }
        let Some(at) = filling.free.pop() else {
            return false;
        };
        let (number, attempts) = filling.left.pop_front().expect("seen above");
        let piece = self.orbit.pieces[number as usize];
        filling.tries.insert(u64::from(number), attempts + 1);
        let buffer = filling.region.lend(at, piece.len);
        let read = Op::read(number.into(), piece.part, piece.offset, buffer);
        self.behind.submit(read);
        true
    }

    /// Sends a piece that was read; false if it has to be read again.
    fn arrived(
        &mut self,
        came: Completion,
        filling: &mut Filling<'_>,
    ) -> Result<bool, MediumError> {
        let attempts = filling.tries.remove(&came.id);
        let attempts = attempts.expect("a read of the filling");
        let number = came.id as u32;
        let piece = self.orbit.pieces[number as usize];
        let at = came.buffer.at();
        filling.free.push(at);
        filling.region.take_back(came.buffer);
        match came.result {
            Ok(bytes) if bytes == piece.bytes => {
                self.send(number, at);
                Ok(true)
            }
            _ if attempts < ATTEMPTS => {
                filling.left.push_back((number, attempts));
                Ok(false)
            }
            Ok(bytes) => Err(short(&piece, bytes)),
            Err(error) => Err(error),
        }
    }
}

fn hung(under_way: usize) -> MediumError {
    let seconds = PATIENCE_NS / 1_000_000_000;
    let silent = format!(
        "none of the {under_way} reads under way has completed for {seconds} s; \
         see in the kernel's log (dmesg) whether the drive still answers"
    );
    let silent = io::Error::new(io::ErrorKind::TimedOut, silent);
    MediumError::gone("medium behind the loop", silent)
}

fn short(piece: &Piece, bytes: u32) -> MediumError {
    let asked = Asked {
        verb: Verb::Read,
        offset: piece.offset,
        len: piece.len,
    };
    let ended = format!("it ends after {bytes} bytes");
    let ended = io::Error::new(io::ErrorKind::UnexpectedEof, ended);
    MediumError::failed(format!("part {}", piece.part), asked, ended)
}
