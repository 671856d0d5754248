//! Fetches: spans that go to fixed places outside the window, by ticket. It
//! does not know what is in them.

use std::collections::VecDeque;

use crate::flights::Failure;
use crate::types::PartSpan;

/// Bytes that may be under way, of whatever, when a guess is submitted: what is certain
/// has to wait for no more than that. They keep every drive we know busy.
pub(crate) const GUESS_BYTES: u64 = 4 << 20;

/// Whether somebody will want the bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Hope {
    #[default]
    Certain,
    /// Perhaps.
    Guessed,
    /// Nobody will.
    Cancelled,
}

#[derive(Debug, Default)]
struct Fetch {
    hope: Hope,
    /// Bytes of its spans that neither came nor failed.
    left: u64,
    /// Bytes that came while it was a guess.
    landed: u64,
    failure: Option<Failure>,
}

/// What has not been launched of a span, and its fetch.
type Rest = (PartSpan, u32);

/// All fetches, by number; freed numbers are used again.
#[derive(Debug, Default)]
pub(crate) struct Fetches {
    all: Vec<Fetch>,
    free: Vec<u32>,
    queue: VecDeque<Rest>,
    guesses: VecDeque<Rest>,
}

/// Bytes that came, by what they turned out to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Came {
    /// Wanted.
    pub read: u64,
    /// Not wanted.
    pub wasted: u64,
}

impl Fetches {
    pub(crate) fn add(&mut self, spans: &[PartSpan]) -> u32 {
        let number = self.number(spans, Hope::Certain);
        self.queue.extend(rests(spans, number));
        number
    }

    /// The same for bytes that will perhaps be wanted: behind all others.
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

    /// A guess came true.
    pub(crate) fn promote(&mut self, number: u32) -> Came {
        let fetch = &mut self.all[number as usize];
        fetch.hope = Hope::Certain;
        let read = std::mem::take(&mut fetch.landed);
        let rests = take(&mut self.guesses, number);
        self.queue.extend(rests);
        Came { read, wasted: 0 }
    }

    /// A guess was wrong: what was not launched is not read any more.
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

    /// The next one that is a guess, where so many bytes are under way.
    pub(crate) fn next_guess(&mut self, read_len: u32, under_way: u64) -> Option<(PartSpan, u32)> {
        let read_len = read_len.min(GUESS_BYTES as u32);
        self.cut(read_len, GUESS_BYTES.saturating_sub(under_way), true)
    }

    /// Cuts a read off the front of a queue, if it has at most `most` bytes.
    fn cut(&mut self, read_len: u32, most: u64, guess: bool) -> Option<(PartSpan, u32)> {
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
            if len > most {
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

    /// Whether its reads are still worth making.
    pub(crate) fn wanted(&self, number: u32) -> bool {
        let fetch = &self.all[number as usize];
        fetch.failure.is_none() && fetch.hope != Hope::Cancelled
    }

    /// `bytes` of it came, of which `landed` count.
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

    /// `bytes` of it were given up, or came.
    pub(crate) fn settle(&mut self, number: u32, bytes: u64) {
        self.all[number as usize].left -= bytes;
    }

    pub(crate) fn fail(&mut self, number: u32, failure: Failure) {
        self.all[number as usize].failure.get_or_insert(failure);
    }

    /// Whether nothing more will happen to it.
    pub(crate) fn settled(&self, number: u32) -> bool {
        self.all[number as usize].left == 0
    }

    /// Ends a settled fetch; returns what went wrong.
    pub(crate) fn end(&mut self, number: u32) -> Option<Failure> {
        self.free.push(number);
        self.all[number as usize].failure.take()
    }
}

fn rests(spans: &[PartSpan], number: u32) -> impl Iterator<Item = Rest> + '_ {
    let spans = spans.iter().filter(|span| span.len > 0);
    spans.map(move |&span| (span, number))
}

/// Takes what is left of a fetch out of a queue, in order.
fn take(queue: &mut VecDeque<Rest>, number: u32) -> Vec<Rest> {
    let rests = queue.iter().copied().filter(|(_, of)| *of == number);
    let rests = rests.collect();
    queue.retain(|(_, of)| *of != number);
    rests
}
