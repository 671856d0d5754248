//! Keeps control tokens in messages from being read as control tokens. While the template is
//! rendered, each text of a control token in the conversation is replaced by one private
//! character (its *veil*); afterwards the text is put back and its range is marked as plain.
//! A template's output does not show which part of it came from where.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};

use crate::special::SpecialTokens;

/// Characters used as veils: the last plane of Unicode, for private use and rarely used in
/// texts.
const VEILS: std::ops::RangeInclusive<char> = '\u{100000}'..='\u{10fffd}';

/// Maximum nesting depth of a conversation's values.
const MAX_DEPTH: usize = 64;

/// The veils of one conversation and the texts that they stand for.
#[derive(Debug)]
pub(super) struct Veil<'a> {
    special: Option<&'a SpecialTokens>,
    /// Characters of the template's source, which are no veils.
    taken: &'a BTreeSet<char>,
    by_text: HashMap<String, char>,
    texts: HashMap<char, String>,
    free: std::ops::RangeInclusive<char>,
}

/// Characters of `source` that cannot be veils.
pub(super) fn taken(source: &str) -> BTreeSet<char> {
    source.chars().filter(|c| VEILS.contains(c)).collect()
}

impl<'a> Veil<'a> {
    pub(super) fn new(special: Option<&'a SpecialTokens>, taken: &'a BTreeSet<char>) -> Self {
        Self {
            special,
            taken,
            by_text: HashMap::new(),
            texts: HashMap::new(),
            free: VEILS,
        }
    }

    /// `value` with all texts in it veiled, keys included.
    pub(super) fn over(&mut self, value: &Value, depth: usize) -> Result<Value, Error> {
        if depth > MAX_DEPTH {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                format!("a value is nested more than {MAX_DEPTH} deep"),
            ));
        }
        Ok(match value.kind() {
            ValueKind::String => match self.text(value.as_str().unwrap_or_default())? {
                Some(veiled) => Value::from(veiled),
                None => value.clone(),
            },
            ValueKind::Seq => {
                let items = value.try_iter()?;
                let items = items.map(|item| self.over(&item, depth + 1));
                items.collect::<Result<Vec<_>, _>>()?.into()
            }
            ValueKind::Map => {
                let pairs = value.as_object().and_then(|object| object.try_iter_pairs());
                let mut out = Vec::new();
                for (key, item) in pairs.into_iter().flatten() {
                    out.push((self.over(&key, depth + 1)?, self.over(&item, depth + 1)?));
                }
                out.into_iter().collect()
            }
            _ => value.clone(),
        })
    }

    fn text(&mut self, text: &str) -> Result<Option<String>, Error> {
        let found: Vec<(usize, usize)> = self.special.map_or_else(Vec::new, |special| {
            let found = special.control_in(text).into_iter();
            found.map(|(at, token)| (at, token.text.len())).collect()
        });
        if found.is_empty() && !text.contains(|c| VEILS.contains(&c)) {
            return Ok(None);
        }
        let (mut out, mut from) = (String::new(), 0);
        for (at, len) in found {
            self.private(&text[from..at], &mut out)?;
            out.push(self.veil(&text[at..at + len])?);
            from = at + len;
        }
        self.private(&text[from..], &mut out)?;
        Ok(Some(out))
    }

    /// Appends `text`, with each character of the range of veils replaced by a veil.
    fn private(&mut self, text: &str, out: &mut String) -> Result<(), Error> {
        for c in text.chars() {
            out.push(match VEILS.contains(&c) {
                true => self.veil(c.encode_utf8(&mut [0; 4]))?,
                false => c,
            });
        }
        Ok(())
    }

    fn veil(&mut self, text: &str) -> Result<char, Error> {
        if let Some(&veil) = self.by_text.get(text) {
            return Ok(veil);
        }
        let taken = self.taken;
        let veil = self.free.find(|c| !taken.contains(c)).ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidOperation,
                "the conversation holds too many different characters for private use",
            )
        })?;
        self.by_text.insert(text.to_owned(), veil);
        self.texts.insert(veil, text.to_owned());
        Ok(veil)
    }

    /// `text` with the veils replaced by their texts, and the byte ranges of those.
    pub(super) fn lift(&self, text: String) -> (String, Vec<Range<usize>>) {
        if self.texts.is_empty() {
            return (text, Vec::new());
        }
        let (mut out, mut plain) = (String::with_capacity(text.len()), Vec::new());
        for c in text.chars() {
            match self.texts.get(&c) {
                Some(stands_for) => {
                    plain.push(out.len()..out.len() + stands_for.len());
                    out.push_str(stands_for);
                }
                None => out.push(c),
            }
        }
        (out, plain)
    }
}
