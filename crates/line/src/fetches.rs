//! Fetches, by ticket: spans read to given memory positions outside the window, and
//! guesses, which may turn out not to be needed.

use std::collections::VecDeque;

use crate::flights::Failure;
use crate::types::PartSpan;

/// Maximum bytes under way, of any kind, after a guess is submitted: other reads wait
/// for no more than that. Enough to keep every drive we know busy.
pub(crate) const GUESS_BYTES: u64 = 4 << 20;

/// Whether the bytes are needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Hope {
    /// Yes.
    #[default]
    Certain,
    /// Perhaps.
    Guessed,
    /// No.
    Cancelled,
}

#[derive(Debug, Default)]
struct Fetch {
    hope: Hope,
    /// Bytes of its spans that were neither read nor failed.
    left: u64,
    /// Bytes read while it was a guess.
    landed: u64,
    failure: Option<Failure>,
}

/// The part of a span that was not launched, and the number of its fetch.
type Rest = (PartSpan, u32);

/// All fetches, by number; freed numbers are reused.
#[derive(Debug, Default)]
pub(crate) struct Fetches {
    all: Vec<Fetch>,
    free: Vec<u32>,
    queue: VecDeque<Rest>,
    guesses: VecDeque<Rest>,
}

/// Bytes to add to [`crate::Counters`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Came {
    /// Bytes needed.
    pub read: u64,
    /// Bytes not needed.
    pub wasted: u64,
}

impl Fetches {
    pub(crate) fn add(&mut self, spans: &[PartSpan]) -> u32 {
        let number = self.number(spans, Hope::Certain);
        self.queue.extend(rests(spans, number));
        number
    }

    /// Like [`Fetches::add`], for bytes that may be needed.
    pub(crate) fn guess(&mut self, spans: &[PartSpan]) -> u32 {
        let number = self.number(spans, Hope::Guessed);
        self.guesses.extend(rests(spans, number));
        number
    }

    fn number(&mut self, spans: &[PartSpan], hope: Hope) -> u32 {
        let number = self.free.pop().unwrap_or_else(|| {
            self.all.push(Fetch::default());
            (self.all.len() - 1) as u32
        });
        self.all[number as usize] = Fetch {
            hope,
            left: spans.iter().map(|span| span.len).sum(),
            ..Fetch::default()
        };
        number
    }

    /// Turns a guess into a certain fetch.
    pub(crate) fn promote(&mut self, number: u32) -> Came {
        let fetch = &mut self.all[number as usize];
        fetch.hope = Hope::Certain;
        let read = std::mem::take(&mut fetch.landed);
        let rests = take(&mut self.guesses, number);
        self.queue.extend(rests);
        Came { read, wasted: 0 }
    }

    /// Cancels a guess: what was not launched is not read.
    pub(crate) fn cancel(&mut self, number: u32) -> Came {
        let rests = take(&mut self.guesses, number);
        let fetch = &mut self.all[number as usize];
        fetch.hope = Hope::Cancelled;
        fetch.left -= rests.iter().map(|(span, _)| span.len).sum::<u64>();
        let wasted = std::mem::take(&mut fetch.landed);
        Came { read: 0, wasted }
    }

    /// The next read to launch, at most `read_len` bytes, and its fetch.
    pub(crate) fn next(&mut self, read_len: u32) -> Option<(PartSpan, u32)> {
        self.cut(read_len, u64::MAX, false)
    }

    /// The next read of a guess, if `under_way` bytes under way leave room for it.
    pub(crate) fn next_guess(&mut self, read_len: u32, under_way: u64) -> Option<(PartSpan, u32)> {
        let read_len = read_len.min(GUESS_BYTES as u32);
        self.cut(read_len, GUESS_BYTES.saturating_sub(under_way), true)
    }

    /// Takes a read of at most `read_len` bytes off the front of a queue, if it has at
    /// most `len_max`.
    fn cut(&mut self, read_len: u32, len_max: u64, guess: bool) -> Option<(PartSpan, u32)> {
        let queue = match guess {
            true => &mut self.guesses,
            false => &mut self.queue,
        };
        loop {
            let (span, number) = queue.front_mut()?;
            let (number, fetch) = (*number, &mut self.all[*number as usize]);
            if fetch.failure.is_some() {
                fetch.left -= span.len;
                queue.pop_front();
                continue;
            }
            let len = span.len.min(u64::from(read_len));
            if len > len_max {
                return None;
            }
            let next = PartSpan { len, ..*span };
            span.offset += len;
            span.at += len;
            span.len -= len;
            if span.len == 0 {
                queue.pop_front();
            }
            return Some((next, number));
        }
    }

    /// Whether its reads are worth retrying.
    pub(crate) fn wanted(&self, number: u32) -> bool {
        let fetch = &self.all[number as usize];
        fetch.failure.is_none() && fetch.hope != Hope::Cancelled
    }

    /// Records that `bytes` of its spans are done, of which `landed` were read.
    pub(crate) fn land(&mut self, number: u32, bytes: u64, landed: u64) -> Came {
        self.settle(number, bytes);
        let fetch = &mut self.all[number as usize];
        let mut came = Came::default();
        match fetch.hope {
            Hope::Certain => came.read = landed,
            Hope::Guessed => fetch.landed += landed,
            Hope::Cancelled => came.wasted = landed,
        }
        came
    }

    /// Records that `bytes` of its spans are done, read or not.
    pub(crate) fn settle(&mut self, number: u32, bytes: u64) {
        self.all[number as usize].left -= bytes;
    }

    pub(crate) fn fail(&mut self, number: u32, failure: Failure) {
        self.all[number as usize].failure.get_or_insert(failure);
    }

    /// Whether no read of it is under way or to come.
    pub(crate) fn settled(&self, number: u32) -> bool {
        self.all[number as usize].left == 0
    }

    /// Ends a settled fetch; returns its failure.
    pub(crate) fn end(&mut self, number: u32) -> Option<Failure> {
        self.free.push(number);
        self.all[number as usize].failure.take()
    }
}

fn rests(spans: &[PartSpan], number: u32) -> impl Iterator<Item = Rest> + '_ {
    let spans = spans.iter().filter(|span| span.len > 0);
    spans.map(move |&span| (span, number))
}

/// Removes and returns what a queue holds of a fetch, in order.
fn take(queue: &mut VecDeque<Rest>, number: u32) -> Vec<Rest> {
    let rests = queue.iter().copied().filter(|(_, of)| *of == number);
    let rests = rests.collect();
    queue.retain(|(_, of)| *of != number);
    rests
}
