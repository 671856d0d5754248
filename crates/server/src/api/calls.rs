//! Separates tool calls from text while an answer is generated, in pieces of any lengths.

use std::hash::{BuildHasher, RandomState};

use delayline_llama::batch::begun;
use serde_json::Value;

use super::tools::CallFormat;

/// A part of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnswerPart {
    /// Text outside of calls.
    Content(String),
    /// Thoughts.
    Thought(String),
    /// The beginning of a call.
    Call {
        /// The number of the call in the answer, from 0 on.
        index: usize,
        /// The tool.
        name: String,
    },
    /// A piece of a call's arguments, in JSON.
    Arguments {
        /// The number of the call.
        index: usize,
        /// The piece.
        text: String,
    },
}

/// A random ID for a call: nine letters and digits, because some templates accept no other
/// length.
pub fn call_id() -> String {
    format!("{:09x}", RandomState::new().hash_one(0_u8) & 0xf_ffff_ffff)
}

/// The state of a scan for the end of a JSON object or array.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Nesting {
    depth: usize,
    in_text: bool,
    escaped: bool,
}

impl Nesting {
    /// Scans text up to where the outermost bracket closes; returns that end, if it is there.
    fn take(&mut self, text: &str) -> Option<usize> {
        for (at, byte) in text.bytes().enumerate() {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_text => self.escaped = true,
                b'"' => self.in_text = !self.in_text,
                _ if self.in_text => {}
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Some(at + 1);
                    }
                }
                _ => {}
            }
        }
        None
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// At the beginning of an answer, within white space.
    Start,
    Text,
    /// Between calls.
    Calls,
    /// In a call before its arguments.
    Head,
    /// In a call that is not in the usual order, which is parsed when it is complete.
    Whole,
    Arguments(Nesting),
    /// In a call after its arguments.
    Tail(Nesting),
}

/// Separates calls from text.
#[derive(Clone, Debug)]
pub struct CallReader {
    format: CallFormat,
    names: Vec<String>,
    state: State,
    held: String,
    /// The text that opened the current call, in case it turns out to be none.
    opened: String,
    calls: usize,
}

impl CallReader {
    /// A reader of calls in that format of tools with these names.
    pub fn new(format: CallFormat, names: Vec<String>) -> Self {
        Self {
            format,
            names,
            state: State::Start,
            held: String::new(),
            opened: String::new(),
            calls: 0,
        }
    }

    /// Whether there was a call.
    pub fn called(&self) -> bool {
        self.calls > 0
    }

    /// Takes a piece of text; returns the parts that are certain with it.
    pub fn push(&mut self, piece: &str) -> Vec<AnswerPart> {
        self.held.push_str(piece);
        let mut out = Vec::new();
        while self.step(&mut out) {}
        out
    }

    /// The parts that are left at the end of an answer.
    pub fn finish(&mut self) -> Vec<AnswerPart> {
        let mut out = Vec::new();
        let held = std::mem::take(&mut self.held);
        match self.state {
            State::Calls if held.trim().is_empty() => {}
            State::Tail(_) => {}
            _ => {
                let opened = std::mem::take(&mut self.opened);
                content(&mut out, opened + &held);
            }
        }
        out
    }

    /// Does one step; returns whether to try another.
    fn step(&mut self, out: &mut Vec<AnswerPart>) -> bool {
        match self.state {
            State::Start => self.start(),
            State::Text => self.text(out),
            State::Calls => self.between(),
            State::Head => self.head(out),
            State::Whole => self.whole(out),
            State::Arguments(mut nesting) => {
                let end = nesting.take(&self.held);
                let text: String = self.held.drain(..end.unwrap_or(self.held.len())).collect();
                let index = self.calls - 1;
                if !text.is_empty() {
                    out.push(AnswerPart::Arguments { index, text });
                }
                self.state = match end {
                    Some(_) => State::Tail(Nesting {
                        depth: 1,
                        ..Nesting::default()
                    }),
                    None => State::Arguments(nesting),
                };
                end.is_some()
            }
            State::Tail(mut nesting) => {
                let end = nesting.take(&self.held);
                self.held.drain(..end.unwrap_or(self.held.len()));
                self.state = match end {
                    Some(_) => State::Calls,
                    None => State::Tail(nesting),
                };
                end.is_some()
            }
        }
    }

    fn start(&mut self) -> bool {
        let Some(first) = self.held.trim_start().chars().next() else {
            return false;
        };
        let is_bare = self.format.bare == Some(first);
        self.state = if is_bare { State::Calls } else { State::Text };
        true
    }

    fn text(&mut self, out: &mut Vec<AnswerPart>) -> bool {
        let open = self.format.open;
        if let Some(at) = self.held.find(open) {
            let behind = self.held.split_off(at);
            let before = std::mem::replace(&mut self.held, behind);
            // White space before a call is dropped.
            content(out, before.trim_end().to_owned());
            self.state = State::Calls;
            return true;
        }
        let sure = self.held.len() - begun(&self.held, open);
        let sure = self.held[..sure].trim_end().len();
        content(out, self.held.drain(..sure).collect());
        false
    }

    fn between(&mut self) -> bool {
        let rest = self.held.trim_start();
        let space = self.held.len() - rest.len();
        if rest.starts_with('{') {
            self.opened.extend(self.held.drain(..space));
            self.state = State::Head;
            return true;
        }
        if let Some(glue) = self
            .format
            .glue
            .iter()
            .find(|glue| rest.starts_with(**glue))
        {
            let end = space + glue.len();
            match glue.starts_with("</") || *glue == "]" {
                true => {
                    self.held.drain(..end);
                    self.opened.clear();
                }
                false => self.opened.extend(self.held.drain(..end)),
            }
            return true;
        }
        let mut glue = self.format.glue.iter();
        if rest.is_empty() || glue.any(|glue| glue.starts_with(rest)) {
            return false;
        }
        self.held.insert_str(0, &std::mem::take(&mut self.opened));
        self.state = State::Text;
        // A tag that opened no call is not tried again.
        let open = self.format.open;
        if self.held.trim_start().starts_with(open) {
            self.state = State::Whole;
        }
        true
    }

    fn head(&mut self, out: &mut Vec<AnswerPart>) -> bool {
        match usual_head(&self.held) {
            Head::More => false,
            Head::Other => {
                self.state = State::Whole;
                true
            }
            Head::Usual { name, end } if self.names.contains(&name) => {
                self.held.drain(..end);
                self.call(out, name);
                self.state = State::Arguments(Nesting::default());
                true
            }
            Head::Usual { .. } => {
                self.state = State::Whole;
                true
            }
        }
    }

    fn call(&mut self, out: &mut Vec<AnswerPart>, name: String) {
        self.opened.clear();
        let index = self.calls;
        self.calls += 1;
        out.push(AnswerPart::Call { index, name });
    }

    fn whole(&mut self, out: &mut Vec<AnswerPart>) -> bool {
        if !self.held.starts_with('{') {
            // Not a call: the rest of the answer is text.
            content(out, std::mem::take(&mut self.held));
            return false;
        }
        let Some(end) = Nesting::default().take(&self.held) else {
            return false;
        };
        let text: String = self.held.drain(..end).collect();
        match unusual(&text).filter(|(name, _)| self.names.contains(name)) {
            Some((name, text)) => {
                self.call(out, name);
                let index = self.calls - 1;
                out.push(AnswerPart::Arguments { index, text });
                self.state = State::Calls;
            }
            None => {
                let opened = std::mem::take(&mut self.opened);
                content(out, opened + &text);
                self.state = State::Text;
            }
        }
        true
    }
}

fn content(out: &mut Vec<AnswerPart>, text: String) {
    if !text.is_empty() {
        out.push(AnswerPart::Content(text));
    }
}

enum Head {
    More,
    Other,
    Usual { name: String, end: usize },
}

/// Parses `{"name": "NAME", "arguments": ` up to the bracket of the arguments.
fn usual_head(text: &str) -> Head {
    let mut rest = text;
    for want in ["{", "\"name\"", ":"] {
        match token(&mut rest, want) {
            Some(true) => {}
            Some(false) => return Head::Other,
            None => return Head::More,
        }
    }
    let Some(inner) = rest.trim_start().strip_prefix('"') else {
        return match rest.trim_start().is_empty() {
            true => Head::More,
            false => Head::Other,
        };
    };
    let Some((name, behind)) = inner.split_once('"') else {
        return Head::More;
    };
    rest = behind;
    match token(&mut rest, ",") {
        Some(true) => {}
        Some(false) => return Head::Other,
        None => return Head::More,
    }
    let before = rest;
    match token(&mut rest, "\"arguments\"") {
        Some(true) => {}
        None => return Head::More,
        Some(false) => {
            rest = before;
            match token(&mut rest, "\"parameters\"") {
                Some(true) => {}
                Some(false) => return Head::Other,
                None => return Head::More,
            }
        }
    }
    match token(&mut rest, ":") {
        Some(true) => {}
        Some(false) => return Head::Other,
        None => return Head::More,
    }
    let rest = rest.trim_start();
    match rest.chars().next() {
        None => Head::More,
        Some('{') => Head::Usual {
            name: name.to_owned(),
            end: text.len() - rest.len(),
        },
        Some(_) => Head::Other,
    }
}

/// Takes `want` after white space; `None` if more text is needed to tell.
fn token(rest: &mut &str, want: &str) -> Option<bool> {
    let text = rest.trim_start();
    match text.strip_prefix(want) {
        Some(behind) => {
            *rest = behind;
            Some(true)
        }
        None if want.starts_with(text) => None,
        None => Some(false),
    }
}

/// Parses a call in another order, or with its arguments in a string.
fn unusual(text: &str) -> Option<(String, String)> {
    let call: Value = serde_json::from_str(text).ok()?;
    let name = call.get("name")?.as_str()?.to_owned();
    let arguments = call.get("arguments").or_else(|| call.get("parameters"))?;
    let arguments = match arguments.as_str() {
        Some(text) => serde_json::from_str(text).ok()?,
        None => arguments.clone(),
    };
    arguments.is_object().then(|| (name, arguments.to_string()))
}

#[cfg(test)]
#[path = "calls/tests.rs"]
mod tests;
