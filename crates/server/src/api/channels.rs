//! Parses answers that are messages to channels, as gpt-oss writes them, in pieces of any
//! lengths, to thoughts, text and calls.
//!
//! A message is a head up to `<|message|>` and a body up to `<|end|>` or a similar token. The
//! head names the channel (`analysis` for thoughts, `final` and `commentary` for text) and,
//! in a call, the tool.

use delayline_llama::Thinking;
use delayline_llama::batch::{GenerateRequest, begun};

use super::calls::AnswerPart;
use super::tools::ToolRequest;

const CHANNEL: &str = "<|channel|>";
const MESSAGE: &str = "<|message|>";
const START: &str = "<|start|>";
/// In a head, before the name of a tool.
const RECIPIENT: &str = "to=functions.";

/// The tokens that end a body; the last two begin the next head.
const ENDS: [&str; 5] = ["<|end|>", "<|return|>", "<|call|>", START, CHANNEL];

/// Control tokens whose text is needed to parse messages.
pub const CONTROL: [&str; 5] = [START, "<|end|>", CHANNEL, MESSAGE, "<|constrain|>"];

/// The head of thoughts, with which an answer begins.
pub const THOUGHT: &str = "<|channel|>analysis<|message|>";

/// The end of a message that is not the last.
pub const END: &str = "<|end|>";

/// The head of the final answer.
pub const FINAL: &str = "<|channel|>final<|message|>";

/// The beginning of a message that follows another one.
pub const NEXT: &str = "<|start|>assistant";

/// The head of a call up to the name of the tool.
pub const CALL: &str = "<|channel|>commentary to=functions.";
/// The head of a call from the name of the tool to the arguments.
pub const ARGUMENTS: &str = " <|constrain|>json<|message|>";

/// How thoughts begin and end if the answer is held to a grammar or thoughts have a budget;
/// none if the model is free to write what it likes. Thoughts precede what the grammar
/// applies to: a forced call or the final answer.
pub fn thinking(
    generate: &GenerateRequest,
    tools: Option<&ToolRequest>,
    budget: Option<usize>,
) -> Option<Thinking> {
    let is_held = generate.grammar.is_some() && generate.trigger.is_none();
    if !is_held && budget.is_none() {
        return None;
    }
    let calls = is_held && tools.is_some_and(ToolRequest::is_forced);
    let (close, end) = match calls {
        true => (END.to_owned(), END.to_owned()),
        false => (FINAL.to_owned(), format!("{END}{NEXT}{FINAL}")),
    };
    Some(Thinking {
        open: THOUGHT.to_owned(),
        close,
        begun: true,
        budget,
        lead: THOUGHT.to_owned(),
        end,
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    Thought,
    Content,
    /// The arguments of the call with that number.
    Call(usize),
}

/// Parses messages to channels.
#[derive(Clone, Debug)]
pub struct ChannelReader {
    names: Vec<String>,
    /// The kind of the current body; `None` in a head.
    body: Option<Body>,
    held: String,
    calls: usize,
    /// Whether there was text.
    said: bool,
}

impl ChannelReader {
    /// A reader of answers that may call these tools.
    pub fn new(names: Vec<String>) -> Self {
        Self {
            names,
            body: None,
            held: String::new(),
            calls: 0,
            said: false,
        }
    }

    /// Whether there was a call.
    pub fn called(&self) -> bool {
        self.calls > 0
    }

    /// Whether the next text is part of thoughts.
    pub fn thinks(&self) -> bool {
        self.body == Some(Body::Thought)
    }

    /// Takes a piece of text; returns the parts that are certain with it, or, if the answer
    /// `ends`, all that are left.
    pub fn push(&mut self, piece: &str, ends: bool) -> Vec<AnswerPart> {
        self.held.push_str(piece);
        let mut out = Vec::new();
        while self.step(&mut out) {}
        if ends {
            let rest = std::mem::take(&mut self.held);
            // A head without a body is dropped.
            if let Some(body) = self.body {
                self.tell(body, rest, &mut out);
            }
        }
        out
    }

    fn step(&mut self, out: &mut Vec<AnswerPart>) -> bool {
        let Some(body) = self.body else {
            return self.head(out);
        };
        let ends = ENDS.iter();
        let end = ends.filter_map(|end| Some((self.held.find(end)?, *end)));
        match end.min() {
            Some((at, end)) => {
                let rest = self.held.split_off(at);
                let text = std::mem::replace(&mut self.held, rest);
                self.tell(body, text, out);
                if ![START, CHANNEL].contains(&end) {
                    self.held.drain(..end.len());
                }
                self.body = None;
                true
            }
            None => {
                let begun = ENDS.iter().map(|end| begun(&self.held, end)).max();
                let sure = self.held.len() - begun.unwrap_or(0);
                let text = self.held.drain(..sure).collect();
                self.tell(body, text, out);
                false
            }
        }
    }

    /// Parses a head if it is complete; returns whether to go on.
    fn head(&mut self, out: &mut Vec<AnswerPart>) -> bool {
        let Some((head, _)) = self.held.split_once(MESSAGE) else {
            // Text without a head is the answer.
            let text = self.held.trim_start();
            let is_head = [START, CHANNEL, "to=", "assistant"]
                .iter()
                .any(|begins| text.starts_with(begins) || begins.starts_with(text));
            if !is_head {
                self.body = Some(Body::Content);
            }
            return !is_head;
        };
        let word = |behind: &str| {
            let rest = head.split_once(behind)?.1;
            let end = rest.find(|c: char| c == '<' || c.is_whitespace());
            Some(rest[..end.unwrap_or(rest.len())].to_owned())
        };
        let name = word(RECIPIENT).filter(|name| self.names.contains(name));
        let body = match (name, word(CHANNEL).as_deref()) {
            (Some(name), _) => {
                let index = self.calls;
                self.calls += 1;
                out.push(AnswerPart::Call { index, name });
                Body::Call(index)
            }
            (None, Some("analysis")) => Body::Thought,
            (None, _) => Body::Content,
        };
        let end = head.len() + MESSAGE.len();
        self.held.drain(..end);
        if body == Body::Content && self.said {
            out.push(AnswerPart::Content("\n\n".into()));
        }
        self.body = Some(body);
        true
    }

    fn tell(&mut self, body: Body, text: String, out: &mut Vec<AnswerPart>) {
        if text.is_empty() {
            return;
        }
        out.push(match body {
            Body::Thought => AnswerPart::Thought(text),
            Body::Content => {
                self.said = true;
                AnswerPart::Content(text)
            }
            Body::Call(index) => AnswerPart::Arguments { index, text },
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The thoughts, the text and the calls of an answer, each in one string.
    fn read(pieces: &[&str]) -> [String; 3] {
        let mut reader = ChannelReader::new(vec!["f".into(), "g.h".into()]);
        let [mut thought, mut said, mut called] = <[String; 3]>::default();
        for (at, piece) in pieces.iter().enumerate() {
            for part in reader.push(piece, at + 1 == pieces.len()) {
                match part {
                    AnswerPart::Thought(text) => thought += &text,
                    AnswerPart::Content(text) => said += &text,
                    AnswerPart::Call { index, name } => called += &format!("[{index} {name}]"),
                    AnswerPart::Arguments { text, .. } => called += &text,
                }
            }
        }
        [thought, said, called]
    }

    #[test]
    fn messages_are_told_apart_however_they_are_cut() {
        for (text, expect) in [
            (
                "<|channel|>analysis<|message|>a <b> c<|end|><|start|>assistant<|channel|>final<|message|>ü!<|return|>",
                ["a <b> c", "ü!", ""],
            ),
            (
                "<|channel|>analysis<|message|>x<|end|><|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>{\"a\": 1}<|call|>",
                ["x", "", "[0 f]{\"a\": 1}"],
            ),
            (
                "<|start|>assistant to=functions.g.h<|channel|>commentary json<|message|>{}",
                ["", "", "[0 g.h]{}"],
            ),
            (
                "<|channel|>commentary<|message|>First.<|end|><|start|>assistant<|channel|>final<|message|>Then.",
                ["", "First.\n\nThen.", ""],
            ),
            (
                "<|channel|>commentary to=functions.x<|message|>{}",
                ["", "{}", ""],
            ),
            ("plain text", ["", "plain text", ""]),
            ("<|channel|>final", ["", "", ""]),
            ("", ["", "", ""]),
        ] {
            for cut in (0..=text.len()).filter(|&at| text.is_char_boundary(at)) {
                for second in (cut..=text.len()).filter(|&at| text.is_char_boundary(at)) {
                    let pieces = [&text[..cut], &text[cut..second], &text[second..], ""];
                    assert_eq!(read(&pieces), expect, "{text:?} at {cut}, {second}");
                }
            }
        }
    }
}
