//! Fetches: spans that go to fixed places outside the window, by ticket. It
//! does not know what is in them.

use std::collections::VecDeque;

use crate::flights::{Failure, Piece};
use crate::types::FetchSpan;

#[derive(Debug, Default)]
struct Fetch {
    /// Bytes of its spans that neither came nor failed.
    left: u64,
    failure: Option<Failure>,
}

/// All fetches, by number; freed numbers are used again.
#[derive(Debug, Default)]
pub(crate) struct Fetches {
    all: Vec<Fetch>,
    free: Vec<u32>,
    /// What has not been launched of each span, and its fetch.
    queue: VecDeque<(FetchSpan, u32)>,
}

impl Fetches {
    pub(crate) fn add(&mut self, spans: &[FetchSpan]) -> u32 {
        let number = self.free.pop().unwrap_or_else(|| {
            self.all.push(Fetch::default());
            (self.all.len() - 1) as u32
        });
        self.all[number as usize].left = spans.iter().map(|span| span.len).sum();
        self.queue.extend(
            spans
                .iter()
                .filter(|span| span.len > 0)
                .map(|&span| (span, number)),
        );
        number
    }

    /// The next read to launch, at most `read_len` bytes, and its fetch.
    pub(crate) fn next(&mut self, read_len: u32) -> Option<(Piece, u32)> {
        loop {
            let (span, number) = self.queue.front_mut()?;
            let (number, fetch) = (*number, &mut self.all[*number as usize]);
            if fetch.failure.is_some() {
                fetch.left -= span.len;
                self.queue.pop_front();
                continue;
            }
            let len = span.len.min(u64::from(read_len));
            let piece = Piece {
                part: span.part,
                offset: span.offset,
                at: span.at,
                len: len as u32,
            };
            span.offset += len;
            span.at += len;
            span.len -= len;
            if span.len == 0 {
                self.queue.pop_front();
            }
            return Some((piece, number));
        }
    }

    /// Whether its reads are still worth making.
    pub(crate) fn wanted(&self, number: u32) -> bool {
        self.all[number as usize].failure.is_none()
    }

    /// `bytes` of it came or were given up.
    pub(crate) fn settle(&mut self, number: u32, bytes: u32) {
        self.all[number as usize].left -= u64::from(bytes);
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
