//! Groups an answer's parts into consecutive blocks of one kind, as the messages and
//! responses APIs have them.

use super::calls::{AnswerPart, call_id};

/// The kind of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockKind {
    /// Thoughts.
    Thought,
    /// Text of the answer.
    Text,
    /// A tool call.
    Call {
        /// The ID to which the tool's answer refers.
        id: String,
        /// The tool.
        name: String,
    },
}

/// A block, complete or in progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerBlock {
    /// Its kind.
    pub kind: BlockKind,
    /// Its text; for a call the arguments, which are valid JSON unless the answer was cut off.
    pub text: String,
}

/// A change of the block with that number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockStep {
    /// The block begins, without text.
    Begins(usize),
    /// Text is added.
    Grows(usize, String),
    /// The block is complete.
    Ends(usize),
}

/// An API that formats an answer block by block.
pub trait BlockForm {
    /// The blocks so far.
    fn blocks(&mut self) -> &mut Blocks;

    /// Appends the events of a change.
    fn step(&mut self, out: &mut String, step: BlockStep);

    /// Adds the parts of a token, and returns their events.
    fn add(&mut self, parts: Vec<AnswerPart>) -> String {
        let mut out = String::new();
        for part in parts {
            for step in self.blocks().take(part) {
                self.step(&mut out, step);
            }
        }
        out
    }

    /// Ends the last block, and returns its events.
    fn finish(&mut self) -> String {
        let mut out = String::new();
        if let Some(step) = self.blocks().end() {
            self.step(&mut out, step);
        }
        out
    }
}

/// The blocks of an answer.
#[derive(Clone, Debug, Default)]
pub struct Blocks {
    all: Vec<AnswerBlock>,
    is_open: bool,
}

impl Blocks {
    /// All blocks so far.
    pub fn all(&self) -> &[AnswerBlock] {
        &self.all
    }

    /// Adds a part; returns the changes, in order.
    pub fn take(&mut self, part: AnswerPart) -> Vec<BlockStep> {
        let mut steps = Vec::new();
        let (kind, text) = match part {
            AnswerPart::Thought(text) => (BlockKind::Thought, text),
            AnswerPart::Content(text) => (BlockKind::Text, text),
            AnswerPart::Call { name, .. } => {
                let id = call_id();
                self.open(BlockKind::Call { id, name }, &mut steps);
                return steps;
            }
            AnswerPart::Arguments { text, .. } => {
                self.grow(text, &mut steps);
                return steps;
            }
        };
        let goes_on = self.is_open && self.all.last().is_some_and(|block| block.kind == kind);
        if !goes_on {
            self.open(kind, &mut steps);
        }
        self.grow(text, &mut steps);
        steps
    }

    /// Ends the last block.
    pub fn end(&mut self) -> Option<BlockStep> {
        std::mem::take(&mut self.is_open).then(|| BlockStep::Ends(self.all.len() - 1))
    }

    fn open(&mut self, kind: BlockKind, steps: &mut Vec<BlockStep>) {
        steps.extend(self.end());
        steps.push(BlockStep::Begins(self.all.len()));
        self.is_open = true;
        let text = String::new();
        self.all.push(AnswerBlock { kind, text });
    }

    fn grow(&mut self, text: String, steps: &mut Vec<BlockStep>) {
        if let Some(block) = self.all.last_mut() {
            block.text.push_str(&text);
            steps.push(BlockStep::Grows(self.all.len() - 1, text));
        }
    }
}
