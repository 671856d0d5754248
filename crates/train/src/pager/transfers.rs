//! Reads and writes items in pieces: submits them, handles their completions, retries and
//! verifies checksums. Does not know when an item is used.

use super::{Failure, Item, Pager, Place, RETRIES, State};
use crate::Error;
use crate::arena::ItemId;
use delayline_line::{Buffer, Clock, Completion, Medium, MediumError, Op, Region, Verb};
use delayline_medium::Memory;
use std::io;
use xxhash_rust::xxh3::Xxh3Default;

/// Why a direct operation failed.
#[derive(Debug)]
pub(crate) enum Failed {
    Medium(MediumError),
    /// The medium returned from waiting without a completion; so many operations were under
    /// way.
    Lost(usize),
}

/// An item that is being read or written.
#[derive(Debug)]
pub(super) struct Transfer {
    write: bool,
    /// Bytes, from the start of the item, whose pieces were submitted.
    issued: u64,
    /// Bytes that have not completed.
    missing: u64,
    /// Number of pieces under way.
    under_way: u32,
    /// The checksum of the bytes that are written.
    sum: u64,
    failure: Option<MediumError>,
    cancelled: bool,
}

impl Transfer {
    fn new(write: bool, len: u64, sum: u64) -> Self {
        Self {
            write,
            issued: 0,
            missing: len,
            under_way: 0,
            sum,
            failure: None,
            cancelled: false,
        }
    }

    pub fn is_under_way(&self) -> bool {
        self.under_way > 0
    }

    /// No more pieces are submitted.
    pub fn cancel(&mut self) {
        self.cancelled = true;
    }

    fn wants_more(&self, len: u64) -> bool {
        self.issued < len && self.failure.is_none() && !self.cancelled
    }
}

/// Takes the place of the item in an operation that belongs to none.
const DIRECT: ItemId = ItemId::MAX;

/// A piece of an item that is under way.
#[derive(Debug)]
struct Flight {
    item: ItemId,
    /// Offset in the item in bytes.
    offset: u64,
    len: u32,
    attempts: u32,
}

/// The operations under way, and the memory that is lent to them.
#[derive(Debug)]
pub(super) struct Flights {
    region: Region,
    /// Maximum length of a piece in bytes.
    op_len: u32,
    /// The pieces under way by tag, and the tags that are free.
    flights: Vec<Option<Flight>>,
    free: Vec<u32>,
    /// Pieces to retry.
    again: Vec<Flight>,
    /// The result of a direct operation.
    direct: Option<Result<(), MediumError>>,
}

impl Flights {
    pub fn new(region: Region, depth: usize, op_len: u32) -> Self {
        Self {
            region,
            op_len,
            flights: (0..depth).map(|_| None).collect(),
            free: (0..depth as u32).rev().collect(),
            again: Vec::new(),
            direct: None,
        }
    }

    pub fn under_way(&self) -> usize {
        self.flights.len() - self.free.len()
    }
}

impl<M: Medium, C: Clock> Pager<M, C> {
    /// Starts to read an item to the free memory at `at`.
    pub(super) fn begin_read(&mut self, id: ItemId, at: u64) {
        let item = self.item_mut(id);
        let len = item.len;
        (item.at, item.state) = (at, State::Coming);
        item.transfer = Some(Transfer::new(false, len, 0));
        self.arena.take(at, len, id);
        self.coming += len;
        self.note_peak();
    }

    /// Starts to write an item, if it has changed, nobody may change it, and it is not being
    /// written already.
    pub(super) fn begin_write(&mut self, id: ItemId) {
        let item = self.item(id);
        if item.transfer.is_some() || item.writers > 0 || !item.dirty {
            return;
        }
        let (at, len) = (item.at, item.len);
        let sum = checksum(&self.memory, at, len);
        self.item_mut(id).transfer = Some(Transfer::new(true, len, sum));
        self.writes.push_back(id);
    }

    /// Submits as many pieces as the medium takes. Returns their number.
    pub(super) fn submit(&mut self) -> usize {
        let mut count = 0;
        while !self.flights.free.is_empty()
            && let Some(flight) = self.next_piece()
        {
            let item = &self.items[flight.item as usize];
            let transfer = item.transfer.as_ref().expect("it moves");
            let (write, place) = match transfer.write {
                true => (true, item.to),
                false => (false, item.from),
            };
            let buffer = self
                .flights
                .region
                .lend(item.at + flight.offset, flight.len);
            let offset = place.offset + flight.offset;
            let tag = self.flights.free.pop().expect("seen above");
            self.flights.flights[tag as usize] = Some(flight);
            let id = u64::from(tag);
            self.medium.submit(match write {
                true => Op::write(id, place.part, offset, buffer),
                false => Op::read(id, place.part, offset, buffer),
            });
            count += 1;
        }
        count
    }

    /// The next piece to submit. Retries come first, then items that a caller waits for, and
    /// then reads and writes in turns.
    fn next_piece(&mut self) -> Option<Flight> {
        if let Some(flight) = self.flights.again.pop() {
            return Some(flight);
        }
        if let Some(piece) = self.piece_of(|pager| &mut pager.demanded, None) {
            return Some(piece);
        }
        self.write_turn = !self.write_turn;
        for write in [self.write_turn, !self.write_turn] {
            let piece = match write {
                true => self.piece_of(|pager| &mut pager.writes, Some(true)),
                false => self.piece_of(|pager| &mut pager.reads, Some(false)),
            };
            if piece.is_some() {
                return piece;
            }
        }
        None
    }

    /// The next piece of the first item in a queue that has one; `write` restricts it to
    /// writes or to reads.
    fn piece_of(
        &mut self,
        queue: impl Fn(&mut Self) -> &mut std::collections::VecDeque<ItemId>,
        write: Option<bool>,
    ) -> Option<Flight> {
        let op_len = u64::from(self.flights.op_len);
        while let Some(&id) = queue(self).front() {
            let item = self.item_mut(id);
            let len = item.len;
            let wanted = |transfer: &&mut Transfer| {
                transfer.wants_more(len) && write.is_none_or(|write| transfer.write == write)
            };
            let Some(transfer) = item.transfer.as_mut().filter(wanted) else {
                queue(self).pop_front();
                continue;
            };
            let offset = transfer.issued;
            let piece = op_len.min(len - offset);
            transfer.issued += piece;
            transfer.under_way += 1;
            return Some(Flight {
                item: id,
                offset,
                len: piece as u32,
                attempts: 0,
            });
        }
        None
    }

    /// Writes `bytes` to the medium and waits. Their length is a multiple of `ALIGN`. They
    /// pass through the memory at `at`, which belongs to no item.
    pub fn write_at(&mut self, place: Place, at: u64, bytes: &[u8]) -> Result<(), Failed> {
        self.memory.copy_in(at, bytes);
        let len = bytes.len() as u32;
        self.direct(len, |pager, id| {
            let buffer = pager.flights.region.lend(at, len);
            Op::write(id, place.part, place.offset, buffer)
        })
    }

    /// Waits until what was written to a part survives a power cut.
    pub fn sync(&mut self, part: u16) -> Result<(), Failed> {
        self.direct(0, |_, id| Op::sync(id, part))
    }

    /// Submits an operation that belongs to no item, and waits for it.
    fn direct(&mut self, len: u32, op: impl FnOnce(&mut Self, u64) -> Op) -> Result<(), Failed> {
        while self.flights.free.is_empty() {
            if self.reap(true) == 0 {
                return Err(Failed::Lost(self.flights.under_way()));
            }
        }
        let tag = self.flights.free.pop().expect("seen above");
        self.flights.flights[tag as usize] = Some(Flight {
            item: DIRECT,
            offset: 0,
            len,
            attempts: 0,
        });
        let op = op(self, u64::from(tag));
        self.medium.submit(op);
        loop {
            if self.reap(true) == 0 {
                return Err(Failed::Lost(self.flights.under_way()));
            }
            if let Some(result) = self.flights.direct.take() {
                return result.map_err(Failed::Medium);
            }
        }
    }

    /// Waits for at least one completion.
    pub(super) fn wait(&mut self) -> Result<(), Error> {
        self.submit();
        let operations = self.flights.under_way();
        assert!(operations > 0, "the pager waits and has nothing under way");
        match self.reap(true) {
            0 => Err(Error::Lost { operations }),
            _ => Ok(()),
        }
    }

    /// Handles completions. Returns their number.
    pub(super) fn reap(&mut self, wait: bool) -> usize {
        let mut done = std::mem::take(&mut self.done);
        self.medium.poll(wait, &mut done);
        let count = done.len();
        for completion in done.drain(..) {
            self.land(completion);
        }
        self.done = done;
        count
    }

    fn land(&mut self, completion: Completion) {
        let Completion { id, buffer, result } = completion;
        self.flights.region.take_back(buffer);
        let flight = self.flights.flights[id as usize].take();
        let mut flight = flight.expect("each operation completes once");
        self.flights.free.push(id as u32);
        if flight.item == DIRECT {
            self.flights.direct = Some(match result {
                Ok(bytes) if bytes < flight.len => Err(short(&flight, true)),
                other => other.map(drop),
            });
            return;
        }
        let item = &mut self.items[flight.item as usize];
        let transfer = item.transfer.as_mut().expect("it moves");
        let failure = match result {
            Ok(bytes) if bytes == flight.len => None,
            Ok(_) => Some(short(&flight, transfer.write)),
            Err(error) => Some(error),
        };
        match failure {
            None => {
                transfer.missing -= u64::from(flight.len);
                match transfer.write {
                    true => self.counters.bytes_written += u64::from(flight.len),
                    false => self.counters.bytes_read += u64::from(flight.len),
                }
            }
            Some(error) if error.is_worth_retrying() && flight.attempts < RETRIES => {
                flight.attempts += 1;
                self.counters.retried += 1;
                self.flights.again.push(flight);
                return;
            }
            Some(error) => {
                transfer.failure.get_or_insert(error);
            }
        }
        transfer.under_way -= 1;
        if transfer.under_way == 0 && !transfer.wants_more(item.len) {
            self.end(flight.item);
        }
    }

    /// Ends a transfer whose pieces have all completed.
    fn end(&mut self, id: ItemId) {
        let item = &mut self.items[id as usize];
        let transfer = item.transfer.take().expect("it moved");
        if transfer.cancelled && transfer.missing > 0 {
            // The item stays as it was. A cancelled read is ended by `forget`.
            return;
        }
        match (transfer.write, transfer.failure) {
            (true, None) => {
                (item.dirty, item.fresh) = (false, true);
                (item.from, item.sum) = (item.to, transfer.sum);
                self.forget_write_failure(id);
            }
            (true, Some(error)) => {
                let failure = (id, Failure::Medium(error));
                self.write_failure.get_or_insert(failure);
            }
            (false, failure) => {
                self.coming -= item.len;
                let failure = match failure {
                    Some(error) => Some(Failure::Medium(error)),
                    None => check(&self.memory, item),
                };
                match failure {
                    None => (item.state, item.wrong) = (State::Here, 0),
                    Some(failure) => self.failed_read(id, failure),
                }
            }
        }
    }

    fn failed_read(&mut self, id: ItemId, failure: Failure) {
        let item = &mut self.items[id as usize];
        item.state = State::Away;
        let at = item.at;
        item.wrong += 1;
        let again = matches!(failure, Failure::Checksum) && item.wrong <= RETRIES;
        if again {
            self.counters.retried += 1;
        } else {
            (item.failure, item.wrong) = (Some(failure), 0);
        }
        self.arena.free(at);
        if again {
            self.begin_read(id, at);
            self.demanded.push_back(id);
        }
    }
}

/// Verifies the checksum of an item in memory.
fn check(memory: &Memory, item: &Item) -> Option<Failure> {
    (checksum(memory, item.at, item.len) != item.sum).then_some(Failure::Checksum)
}

/// The checksum of `len` bytes of memory: XXH3, 64 bits.
pub(crate) fn checksum(memory: &Memory, at: u64, len: u64) -> u64 {
    const CHUNK: u64 = 16 << 10;
    let mut bytes = [0; CHUNK as usize];
    let mut hash = Xxh3Default::new();
    let mut done = 0;
    while done < len {
        let some = CHUNK.min(len - done);
        let bytes = &mut bytes[..some as usize];
        memory.copy_out(at + done, bytes);
        hash.update(bytes);
        done += some;
    }
    hash.digest()
}

/// The error of an operation that transferred fewer bytes than requested.
fn short(flight: &Flight, write: bool) -> MediumError {
    let op = Op {
        id: 0,
        verb: if write { Verb::Write } else { Verb::Read },
        part: 0,
        offset: flight.offset,
        buffer: Buffer::empty(),
    };
    let source = io::Error::new(io::ErrorKind::UnexpectedEof, "fewer bytes than asked for");
    MediumError::failed("the store", op.asked(), source)
}
