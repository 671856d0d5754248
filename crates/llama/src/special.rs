//! Finds special tokens in a text where llama.cpp would find them, with one pass over the
//! text to see which are there at all. Knows no tokenizer.

use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use memchr::memmem;

use delayline_engine::Error;

/// A token that is found by its text before the rest is tokenized.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SpecialToken {
    pub id: i32,
    pub text: String,
    /// Whether only the model and templates may write it: in plain text it is no token.
    pub control: bool,
    /// Whether white space before it is dropped.
    pub strips_left: bool,
    /// Whether white space after it is dropped.
    pub strips_right: bool,
}

/// A part of a text.
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
    /// `tokens` are in the order in which llama.cpp looks for them, each in the text that
    /// the earlier ones left; none has an empty text.
    pub(crate) fn new(tokens: Vec<SpecialToken>) -> Result<Self, Error> {
        let finder = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(tokens.iter().map(|token| &token.text))
            .map_err(|error| Error::Text(format!("the special tokens are too many: {error}")))?;
        Ok(Self { tokens, finder })
    }

    /// The control tokens whose texts are in `text`, with their offsets, from left to right
    /// and without overlaps; of several that begin at one place, the longest.
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

    /// Splits `text` as llama.cpp does: it looks for each token in turn in what is still
    /// text. Without `control` no control token is found; with it, none that touches one of
    /// the `plain` ranges, which are in order and disjoint. `given_up` is called between
    /// tokens.
    ///
    /// # Errors
    /// When `given_up` returns true.
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

/// Splits the texts among `fragments` at each occurrence of `token`.
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

/// Whether one of `ranges`, which are in order and disjoint, overlaps `range`.
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
