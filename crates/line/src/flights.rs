//! The operations under way: their identifiers, the meaning of a completion, and
//! retries. It does not know which operations are made or in what order.

use std::collections::VecDeque;
use std::io;

use delayline_plan::ALIGN;

use crate::types::PartSpan;
use crate::window::Key;
use crate::{Asked, Completion, MediumError, Op, Region, Verb};

/// What an operation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// An extent's load.
    Load(Key),
    /// A fetch, by its ticket's number.
    Fetch(u32),
    /// A changed extent's load, to be written back.
    WriteBack(Key),
    /// A part, to be synced.
    Sync(u16),
}

impl Target {
    fn verb(self) -> Verb {
        match self {
            Self::Load(_) | Self::Fetch(_) => Verb::Read,
            Self::WriteBack(_) => Verb::Write,
            Self::Sync(_) => Verb::Sync,
        }
    }
}

/// An operation that failed and is not retried.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub part: u16,
    pub offset: u64,
    pub attempts: u32,
    pub source: MediumError,
}

/// An operation under way, or waiting to be retried.
#[derive(Clone, Copy, Debug)]
struct Flight {
    id: u64,
    target: Target,
    /// The bytes still to be moved; at most `u32::MAX`.
    span: PartSpan,
    attempts: u32,
}

/// What a completion means for its operation.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// All its bytes were moved.
    Landed,
    /// The rest is retried.
    Again,
    /// It failed and is not retried.
    Failed(Failure),
}

/// A completion, evaluated.
#[derive(Debug)]
pub(crate) struct Landing {
    pub id: u64,
    pub lane: u32,
    pub target: Target,
    /// Bytes of the buffer that need no further operation.
    pub settled: u64,
    /// Bytes moved; fewer than `settled` where the file ends.
    pub landed: u64,
    /// Bytes moved that have to be moved again, because they end unaligned.
    pub dropped: u64,
    /// Bytes of the buffer still to be moved.
    pub rest: u64,
    pub short: bool,
    pub verdict: Verdict,
}

/// All operations under way. Each has a lane; there are as many as the medium's depth.
#[derive(Debug)]
pub(crate) struct Flights {
    /// Lends the memory that operations work on.
    pub region: Region,
    lanes: Vec<Option<Flight>>,
    free: Vec<u32>,
    /// Lanes of operations to be retried.
    again: VecDeque<u32>,
    serial: u64,
    max_attempts: u32,
    /// Bytes of the operations that the medium has not completed.
    bytes: u64,
}

impl Flights {
    pub(crate) fn new(region: Region, depth: usize, retries: u32) -> Self {
        Self {
            region,
            lanes: vec![None; depth],
            free: (0..depth as u32).rev().collect(),
            again: VecDeque::with_capacity(depth),
            serial: 0,
            max_attempts: retries.saturating_add(1),
            bytes: 0,
        }
    }

    /// Number of operations that the medium has not completed.
    pub(crate) fn under_way(&self) -> usize {
        self.lanes.len() - self.free.len() - self.again.len()
    }

    /// Bytes of these operations.
    pub(crate) fn bytes_under_way(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn full(&self) -> bool {
        self.free.is_empty()
    }

    /// The lane of the operation with this identifier.
    pub(crate) fn lane_of(&self, id: u64) -> u32 {
        (id % self.lanes.len() as u64) as u32
    }

    /// A new operation. The caller has made sure that a lane is free.
    pub(crate) fn launch(&mut self, target: Target, span: PartSpan) -> Op {
        let lane = self.free.pop().expect("a free lane");
        self.lanes[lane as usize] = Some(Flight {
            id: 0,
            target,
            span,
            attempts: 0,
        });
        self.send(lane)
    }

    /// The target of the next operation to be retried.
    pub(crate) fn next_again(&self) -> Option<Target> {
        let lane = *self.again.front()?;
        Some(self.flight(lane).target)
    }

    /// Retries that operation.
    pub(crate) fn retry(&mut self) -> Op {
        let lane = self.again.pop_front().expect("an operation to retry");
        self.send(lane)
    }

    /// Drops that operation instead; returns the bytes that it did not move.
    pub(crate) fn abandon(&mut self) -> u64 {
        let lane = self.again.pop_front().expect("an operation to abandon");
        let rest = self.flight(lane).span.len;
        self.clear(lane);
        rest
    }

    /// Evaluates a completion. `part_lens` are the lengths of the files: only at the end
    /// of one may a read be short.
    ///
    /// # Panics
    /// If the medium completes an operation that is not under way, or returns another
    /// buffer.
    pub(crate) fn land(&mut self, completion: Completion, part_lens: &[u64]) -> Landing {
        let Completion { id, buffer, result } = completion;
        let lane = self.lane_of(id);
        let flight = self.lanes[lane as usize]
            .as_mut()
            .filter(|flight| flight.id == id)
            .unwrap_or_else(|| {
                panic!("the medium completed operation {id}, which is not under way")
            });
        let span = flight.span;
        assert_eq!(
            (buffer.at(), u64::from(buffer.len())),
            (span.at, span.len),
            "the medium returned another buffer than that of operation {id}"
        );
        self.bytes -= span.len;
        let verb = flight.target.verb();
        if verb != Verb::Sync {
            self.region.take_back(buffer);
        }
        // Writes end within their file, reads may reach past its end.
        let to_end = part_lens[usize::from(span.part)] - span.offset;
        let expected = to_end.min(span.len);
        let mut landing = Landing {
            id,
            lane,
            target: flight.target,
            settled: span.len,
            landed: expected,
            dropped: 0,
            rest: 0,
            short: false,
            verdict: Verdict::Landed,
        };
        let source = match result.map(u64::from) {
            Ok(got) if got >= expected => {
                self.clear(lane);
                return landing;
            }
            Ok(got) => {
                // Direct I/O can continue only at an aligned offset.
                let kept = got - got % ALIGN;
                (landing.settled, landing.landed, landing.dropped) = (kept, kept, got - kept);
                landing.short = true;
                let asked = Asked {
                    verb,
                    offset: span.offset,
                    len: span.len as u32,
                };
                let kind = match verb {
                    Verb::Write => io::ErrorKind::WriteZero,
                    Verb::Read | Verb::Sync => io::ErrorKind::UnexpectedEof,
                };
                let what = match verb {
                    Verb::Write => "were written",
                    Verb::Read | Verb::Sync => "came",
                };
                let short = format!("only {got} of {expected} bytes {what}");
                let short = io::Error::new(kind, short);
                MediumError::failed(format!("part {}", span.part), asked, short)
            }
            Err(source) => {
                (landing.settled, landing.landed) = (0, 0);
                source
            }
        };
        flight.span.offset += landing.settled;
        flight.span.at += landing.settled;
        flight.span.len -= landing.settled;
        landing.rest = flight.span.len;
        // A successful sync after a failed one does not cover the writes before both.
        let again = verb != Verb::Sync && source.is_worth_retrying();
        if flight.attempts < self.max_attempts && again {
            landing.verdict = Verdict::Again;
            self.again.push_back(lane);
        } else {
            landing.verdict = Verdict::Failed(Failure {
                part: span.part,
                offset: flight.span.offset,
                attempts: flight.attempts,
                source,
            });
            self.clear(lane);
        }
        landing
    }

    fn send(&mut self, lane: u32) -> Op {
        let id = self.serial * self.lanes.len() as u64 + u64::from(lane);
        self.serial += 1;
        let flight = self.lanes[lane as usize].as_mut().expect("a lane in use");
        flight.id = id;
        flight.attempts += 1;
        let span = flight.span;
        self.bytes += span.len;
        match flight.target.verb() {
            Verb::Sync => Op::sync(id, span.part),
            Verb::Read => {
                let buffer = self.region.lend(span.at, span.len as u32);
                Op::read(id, span.part, span.offset, buffer)
            }
            Verb::Write => {
                let buffer = self.region.lend(span.at, span.len as u32);
                Op::write(id, span.part, span.offset, buffer)
            }
        }
    }

    fn flight(&self, lane: u32) -> &Flight {
        self.lanes[lane as usize].as_ref().expect("a lane in use")
    }

    fn clear(&mut self, lane: u32) {
        self.lanes[lane as usize] = None;
        self.free.push(lane);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: u64 = ALIGN;

    /// One read of `len` bytes at `offset` of a part of `part_len` bytes, with
    /// `retries`, whose attempts complete with `results` in order; `expect` has
    /// settled, landed, dropped and verdict of each.
    fn check(
        (offset, len, part_len): (u64, u64, u64),
        retries: u32,
        results: &[Result<u64, MediumError>],
        expect: &[(u64, u64, u64, &str)],
    ) {
        let mut flights = Flights::new(Region::new(9 * A), 1, retries);
        let span = PartSpan {
            part: 0,
            offset,
            at: 0,
            len,
        };
        let mut read = Some(flights.launch(Target::Fetch(0), span));
        for (n, (result, expect)) in results.iter().zip(expect).enumerate() {
            let done = read.take().expect("a read under way");
            let done = done.complete(result.clone().map(|got| got as u32));
            let landing = flights.land(done, &[part_len]);
            assert!(flights.region.is_whole());
            let verdict = match landing.verdict {
                Verdict::Landed => "landed".to_owned(),
                Verdict::Again => "again".to_owned(),
                Verdict::Failed(failure) => {
                    format!("failed at {} after {}", failure.offset, failure.attempts)
                }
            };
            let got = (landing.settled, landing.landed, landing.dropped, &*verdict);
            assert_eq!(got, *expect, "answer {n}: {result:?}");
            assert_eq!(flights.under_way(), 0);
            if verdict == "again" {
                let rest = flights.flight(0).span;
                assert_eq!(rest.at, rest.offset - offset);
                read = Some(flights.retry());
            }
        }
    }

    const ASKED: Asked = Asked {
        verb: Verb::Read,
        offset: 0,
        len: 0,
    };

    fn broken() -> MediumError {
        MediumError::failed("test", ASKED, io::Error::other("broken"))
    }

    fn gone() -> MediumError {
        MediumError::gone("test", io::Error::other("gone"))
    }

    fn refused() -> MediumError {
        MediumError::refused("test", ASKED, io::Error::other("never"))
    }

    #[test]
    fn completions_are_evaluated() {
        let two = (A, 2 * A, 9 * A);
        let end = (A, 2 * A, 2 * A + 7);
        check(two, 0, &[Ok(2 * A)], &[(2 * A, 2 * A, 0, "landed")]);
        check(end, 0, &[Ok(A + 7)], &[(2 * A, A + 7, 0, "landed")]);
        check(end, 0, &[Ok(2 * A)], &[(2 * A, A + 7, 0, "landed")]);
        check(
            end,
            1,
            &[Ok(A + 6), Ok(7)],
            &[(A, A, 6, "again"), (A, 7, 0, "landed")],
        );
        check(
            two,
            2,
            &[Ok(0), Ok(A + 1), Ok(A)],
            &[(0, 0, 0, "again"), (A, A, 1, "again"), (A, A, 0, "landed")],
        );
        check(
            two,
            1,
            &[Ok(A), Ok(A - 1)],
            &[(A, A, 0, "again"), (0, 0, A - 1, "failed at 8192 after 2")],
        );
        check(
            two,
            1,
            &[Err(broken()), Ok(2 * A)],
            &[(0, 0, 0, "again"), (2 * A, 2 * A, 0, "landed")],
        );
        check(
            two,
            1,
            &[Err(broken()), Err(broken())],
            &[(0, 0, 0, "again"), (0, 0, 0, "failed at 4096 after 2")],
        );
        check(
            two,
            5,
            &[Err(gone())],
            &[(0, 0, 0, "failed at 4096 after 1")],
        );
        check(
            two,
            5,
            &[Err(refused())],
            &[(0, 0, 0, "failed at 4096 after 1")],
        );
    }

    #[test]
    #[should_panic(expected = "not under way")]
    fn a_completion_of_no_operation_panics() {
        let mut region = Region::new(4096);
        let done = Op::read(3, 0, 0, region.lend(0, A as u32)).complete(Ok(A as u32));
        Flights::new(region, 2, 0).land(done, &[4096]);
    }
}
