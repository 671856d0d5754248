//! Tracks where a model's thoughts begin and end, by the text of its tokens, and how many
//! tokens they have taken. Knows no sampler and no vocabulary.

/// How a model thinks before it answers. Grammars and triggers apply only to the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thinking {
    /// The text that opens thoughts.
    pub open: String,
    /// The text that closes them.
    pub close: String,
    /// Whether the prompt ends within thoughts.
    pub begun: bool,
    /// Maximum number of tokens between the two.
    pub budget: Option<usize>,
    /// A text that is inserted before the model generates; may be empty.
    pub lead: String,
    /// A text that is inserted when the budget is used up; it ends with `close`.
    pub end: String,
}

/// The role of a token in a sequence that may think.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Part of thoughts, or of the texts around them.
    Thought,
    /// The last token of thoughts.
    Closed,
    /// The first token of an answer without thoughts.
    Answer,
}

/// The state of one sequence's thoughts.
#[derive(Debug)]
pub struct Thoughts {
    thinking: Thinking,
    /// The end of the text so far, in which the opening or closing text may have begun.
    said: String,
    /// Number of tokens of thought; `None` before thoughts are opened.
    tokens: Option<usize>,
}

impl Thoughts {
    /// Before any token is generated.
    pub fn new(thinking: Thinking) -> Self {
        Self {
            tokens: thinking.begun.then_some(0),
            said: String::new(),
            thinking,
        }
    }

    /// Whether the budget is used up.
    pub fn is_spent(&self) -> bool {
        self.tokens
            .zip(self.thinking.budget)
            .is_some_and(|(tokens, budget)| tokens >= budget)
    }

    /// Whether a token of this text would both close thoughts and begin the answer.
    pub fn runs_over(&self, piece: &str) -> bool {
        let said = format!("{}{piece}", self.said);
        let behind = said.split_once(&self.thinking.close);
        self.tokens.is_some() && behind.is_some_and(|(_, behind)| !behind.trim().is_empty())
    }

    /// Adds the text of the next token. With `whole`, thoughts begin only if one token
    /// contains all of the opening text.
    pub fn push(&mut self, piece: &str, whole: bool) -> Told {
        self.said.push_str(piece);
        let Some(tokens) = &mut self.tokens else {
            let said = self.said.trim_start();
            if said.starts_with(&self.thinking.open) {
                self.said.clear();
                self.tokens = Some(0);
                return Told::Thought;
            }
            return match !whole && self.thinking.open.starts_with(said) {
                true => Told::Thought,
                false => Told::Answer,
            };
        };
        *tokens += 1;
        if self.said.contains(&self.thinking.close) {
            return Told::Closed;
        }
        keep_end(&mut self.said, self.thinking.close.len());
        Told::Thought
    }

    /// The text that was taken for thoughts before it turned out to be an answer.
    pub fn into_said(self) -> String {
        self.said
    }
}

/// Cuts a text to its last `bytes` bytes, or to fewer where a character would be split.
pub fn keep_end(text: &mut String, bytes: usize) {
    let from = text.len().saturating_sub(bytes);
    let from = (from..).find(|&at| text.is_char_boundary(at));
    text.drain(..from.unwrap_or(0));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thoughts(begun: bool, budget: Option<usize>) -> Thoughts {
        Thoughts::new(Thinking {
            open: "<think>".into(),
            close: "</think>".into(),
            begun,
            budget,
            lead: String::new(),
            end: "</think>".into(),
        })
    }

    #[test]
    fn thoughts_begin_and_end_however_they_are_cut() {
        use Told::{Answer, Closed, Thought};
        for (begun, whole, pieces, told) in [
            (
                false,
                true,
                &["<think>", "a", "</think>"][..],
                &[Thought, Thought, Closed][..],
            ),
            (
                false,
                false,
                &["\n", "<thi", "nk>é", "</th", "ink>x"],
                &[Thought, Thought, Thought, Thought, Closed],
            ),
            (false, true, &["<thi"], &[Answer]),
            (false, true, &[" "], &[Answer]),
            (false, false, &["<thi", "s>"], &[Thought, Answer]),
            (
                true,
                true,
                &["<think>", "a</think", "é</think>"],
                &[Thought, Thought, Closed],
            ),
        ] {
            let mut thoughts = thoughts(begun, None);
            let got: Vec<Told> = pieces
                .iter()
                .map(|piece| thoughts.push(piece, whole))
                .collect();
            assert_eq!(got, told, "{pieces:?}");
        }
    }

    #[test]
    fn a_budget_is_spent_by_tokens_of_thought() {
        let mut some = thoughts(false, Some(1));
        assert!(!some.is_spent());
        some.push("<think>", false);
        assert!(!some.is_spent());
        some.push("a", false);
        assert!(some.is_spent());
        assert!(thoughts(true, Some(0)).is_spent());
        assert!(!thoughts(true, None).is_spent());
        assert!(!thoughts(false, Some(0)).is_spent());
    }

    #[test]
    fn a_token_may_end_thoughts_and_begin_an_answer() {
        let mut some = thoughts(false, None);
        assert!(!some.runs_over("</think>a"));
        some.push("<think>", false);
        some.push("</think", false);
        for (piece, runs_over) in [(">", false), (">\n\n", false), ("><", true), ("a", false)] {
            assert_eq!(some.runs_over(piece), runs_over, "{piece:?}");
        }
    }
}
