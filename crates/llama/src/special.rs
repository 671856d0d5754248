//! Special tokens in a text: where llama.cpp would find them, in one pass and in
//! time that does not grow with their number squared. Knows no tokenizer.

use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use memchr::memmem;

use delayline_engine::Error;

/// A token that is found by its text, before anything else is tokenized.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SpecialToken {
    pub id: i32,
    pub text: String,
    /// Only the model and templates may write it: of a plain text it is no token.
    pub control: bool,
    /// White space before it goes with it.
    pub strips_left: bool,
    /// White space behind it goes with it.
    pub strips_right: bool,
}

/// A stretch of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fragment {
    /// Bytes to be tokenized.
    Text(Range<usize>),
    /// A special token.
    Token(i32),
}

/// All special tokens of a vocabulary.
#[derive(Debug)]
pub(crate) struct SpecialTokens {
    /// In the order in which llama.cpp looks for them.
    tokens: Vec<SpecialToken>,
    finder: AhoCorasick,
}

impl SpecialTokens {
    /// `tokens` are in the order in which each is looked for in what those before it
    /// left; none has an empty text.
    pub(crate) fn new(tokens: Vec<SpecialToken>) -> Result<Self, Error> {
        let finder = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(tokens.iter().map(|token| &token.text))
            .map_err(|error| Error::Text(format!("the special tokens are too many: {error}")))?;
        Ok(Self { tokens, finder })
    }

    /// The control tokens whose texts are in `text`, from left to right, the longest
    /// where several begin: at which byte each begins, and which it is.
    pub(crate) fn control_in(&self, text: &str) -> Vec<(usize, &SpecialToken)> {
        let mut found: Vec<(usize, &SpecialToken)> = Vec::new();
        let mut all: Vec<_> = self
            .finder
            .find_overlapping_iter(text)
            .map(|found| (found.start(), &self.tokens[found.pattern().as_usize()]))
            .filter(|(_, token)| token.control)
            .collect();
        all.sort_by_key(|&(at, token)| (at, std::cmp::Reverse(token.text.len())));
        let mut end = 0;
        for (at, token) in all {
            if at >= end {
                end = at + token.text.len();
                found.push((at, token));
            }
        }
        found
    }

    /// `text` in stretches, as llama.cpp takes it apart: each token in turn, wherever
    /// it is in what is still text. Without `control` no control token is found; with
    /// it, none that touches one of the `plain` ranges, which are in order.
    /// `given_up` is asked between tokens.
    pub(crate) fn split(
        &self,
        text: &str,
        plain: &[Range<usize>],
        control: bool,
        given_up: &dyn Fn() -> bool,
    ) -> Result<Vec<Fragment>, Error> {
        let mut fragments = Vec::new();
        if !text.is_empty() {
            fragments.push(Fragment::Text(0..text.len()));
        }
        let mut is_there = vec![false; self.tokens.len()];
        for found in self.finder.find_overlapping_iter(text) {
            is_there[found.pattern().as_usize()] = true;
        }
        for (token, _) in self.tokens.iter().zip(is_there).filter(|(_, there)| *there) {
            if given_up() {
                return Err(Error::GivenUp);
            }
            if control || !token.control {
                fragments = around(token, text.as_bytes(), plain, fragments);
            }
        }
        Ok(fragments)
    }
}

/// `fragments` with `token` taken out of their texts.
fn around(
    token: &SpecialToken,
    text: &[u8],
    plain: &[Range<usize>],
    fragments: Vec<Fragment>,
) -> Vec<Fragment> {
    let finder = memmem::Finder::new(&token.text);
    let mut out = Vec::with_capacity(fragments.len() + 2);
    for fragment in fragments {
        let Fragment::Text(Range { mut start, end }) = fragment else {
            out.push(fragment);
            continue;
        };
        let mut from = start;
        while let Some(at) = finder.find(&text[from..end]).map(|found| from + found) {
            let behind = at + token.text.len();
            if token.control && touches(plain, &(at..behind)) {
                from = at + 1;
                continue;
            }
            let mut left = at;
            while token.strips_left && left > start && is_space(text[left - 1]) {
                left -= 1;
            }
            if left > start {
                out.push(Fragment::Text(start..left));
            }
            out.push(Fragment::Token(token.id));
            start = behind;
            while token.strips_right && start < end && is_space(text[start]) {
                start += 1;
            }
            from = start;
        }
        if start < end {
            out.push(Fragment::Text(start..end));
        }
    }
    out
}

/// Whether one of `ranges`, which are in order and apart, shares a byte with `range`.
fn touches(ranges: &[Range<usize>], range: &Range<usize>) -> bool {
    let next = ranges.partition_point(|other| other.end <= range.start);
    ranges
        .get(next)
        .is_some_and(|other| other.start < range.end)
}

/// As C's `isspace`.
fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}
