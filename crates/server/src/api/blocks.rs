//! An answer as blocks that follow each other, each of one kind, which is how the APIs of
//! messages and of responses see it.

use super::calls::{AnswerPart, call_id};

/// What a block holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockKind {
    /// What the model thinks.
    Thought,
    /// What it says.
    Text,
    /// A call of a tool.
    Call {
        /// By which its answer is told.
        id: String,
        /// The tool.
        name: String,
    },
}

/// A block, as far as it has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerBlock {
    /// Its kind.
    pub kind: BlockKind,
    /// Its text; of a call its arguments, in JSON unless the answer was cut off in them.
    pub text: String,
}

/// What happens to a block, by its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockStep {
    /// It begins, empty.
    Begins(usize),
    /// It grows by that text.
    Grows(usize, String),
    /// It is whole.
    Ends(usize),
}

/// The blocks of an answer.
#[derive(Clone, Debug, Default)]
pub struct Blocks {
    all: Vec<AnswerBlock>,
    is_open: bool,
}

impl Blocks {
    /// Those that there are.
    pub fn all(&self) -> &[AnswerBlock] {
        &self.all
    }

    /// Takes a part; what happens by it, in order.
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

    /// No more comes.
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
