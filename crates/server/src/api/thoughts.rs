//! What a model thinks before it answers, told from the answer; and how a request says
//! whether and how hard it shall think.

use std::collections::BTreeMap;

use delayline_llama::Thinking;
use serde_json::value::RawValue;

use super::error::ApiError;
use super::fields::Fields;

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// How hard a model may be asked to think, in the words of all APIs.
const EFFORTS: &[&str] = &["none", "minimal", "low", "medium", "high", "xhigh", "max"];

/// Whether a template of this source is of a model that thinks aloud between tags.
pub fn thinks(source: &str) -> bool {
    source.contains(CLOSE)
}

/// Whether a prompt ends where a model's thoughts begin.
pub fn begins_in(prompt: &str) -> bool {
    prompt.trim_end().ends_with(OPEN)
}

/// How a model thinks behind a prompt that ends within thoughts or not, for so many tokens
/// at most.
pub fn thinking(begun: bool, budget: Option<usize>) -> Thinking {
    Thinking {
        open: OPEN.into(),
        close: CLOSE.into(),
        begun,
        budget,
    }
}

/// The names of the most tokens of thought, as other servers have them.
pub const BUDGETS: [&str; 2] = ["thinking_budget_tokens", "thinking_token_budget"];

/// The most tokens of thought that a request allows, -1 for no limit; the outer `None` says
/// nothing of it.
///
/// # Errors
/// What is wrong with it.
pub fn budget(fields: &mut Fields) -> Result<Option<Option<usize>>, ApiError> {
    let mut budget = None;
    for name in BUDGETS {
        let asked = fields.whole(name, -1, i64::MAX)?;
        budget = budget.or(asked.map(|n| usize::try_from(n).ok()));
    }
    Ok(budget)
}

/// What a request has for its template beside the messages, as JSON: its
/// `chat_template_kwargs`, and what `reasoning_effort` means to templates.
///
/// # Errors
/// What is wrong with it.
pub fn variables(fields: &mut Fields) -> Result<String, ApiError> {
    const NAME: &str = "chat_template_kwargs";
    let given: Option<BTreeMap<String, Box<RawValue>>> = fields.take(NAME, "an object")?;
    let mut all = given.unwrap_or_default();
    if let Some(name) = ["messages", "tools"]
        .iter()
        .find(|name| all.contains_key(**name))
    {
        let message = format!("`{NAME}` cannot hold `{name}`, which is a parameter of its own");
        return Err(ApiError::param(NAME, message));
    }
    let effort: Option<String> = fields.take("reasoning_effort", "a word")?;
    if let Some(effort) = effort {
        if !EFFORTS.contains(&effort.as_str()) {
            let message = format!("`reasoning_effort` must be {}", EFFORTS.join(", "));
            return Err(ApiError::param("reasoning_effort", message));
        }
        let thinks = effort != "none";
        // Whatever the template calls it, unless the request says it by that name.
        for (name, value) in [
            ("reasoning_effort", format!("\"{effort}\"")),
            ("enable_thinking", thinks.to_string()),
            ("thinking", thinks.to_string()),
        ] {
            if (name != "reasoning_effort" || thinks) && !all.contains_key(name) {
                let value = RawValue::from_string(value);
                all.extend(value.ok().map(|value| (name.to_owned(), value)));
            }
        }
    }
    serde_json::to_string(&all).map_err(|error| ApiError::server(error.to_string()))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Nothing has come but white space.
    Start,
    /// Behind the opening tag, still in white space.
    Opened,
    Thought,
    /// Behind the closing tag, still in white space.
    Closed,
    Answer,
}

/// Tells thoughts from an answer, in pieces however they are cut.
#[derive(Clone, Debug)]
pub struct ThoughtReader {
    place: Place,
    held: String,
}

impl ThoughtReader {
    /// Of an answer to a prompt that ends within thoughts, or not.
    pub fn new(begins_in: bool) -> Self {
        Self {
            place: match begins_in {
                true => Place::Opened,
                false => Place::Start,
            },
            held: String::new(),
        }
    }

    /// Whether what comes next is thought.
    pub fn thinks(&self) -> bool {
        matches!(self.place, Place::Opened | Place::Thought)
    }

    /// Takes a piece; what is certainly thought, and what is certainly answer.
    pub fn push(&mut self, piece: &str, ends: bool) -> (String, String) {
        self.held.push_str(piece);
        let (mut thought, mut answer) = (String::new(), String::new());
        loop {
            let (place, held) = (self.place, self.held.len());
            match place {
                Place::Start => {
                    let rest = self.held.trim_start();
                    if let Some(behind) = rest.strip_prefix(OPEN) {
                        self.held = behind.to_owned();
                        self.place = Place::Opened;
                    } else if !OPEN.starts_with(rest) {
                        self.place = Place::Answer;
                    }
                }
                Place::Opened | Place::Closed => {
                    self.held = self.held.trim_start().to_owned();
                    // A template may have opened what the model opens once more.
                    if place == Place::Opened && self.held.starts_with(OPEN) {
                        self.held.drain(..OPEN.len());
                    } else if place == Place::Opened && OPEN.starts_with(&self.held) {
                        break;
                    } else if !self.held.is_empty() {
                        self.place = match place {
                            Place::Opened => Place::Thought,
                            _ => Place::Answer,
                        };
                    }
                }
                Place::Thought => match self.held.find(CLOSE) {
                    Some(at) => {
                        thought.push_str(self.held[..at].trim_end());
                        self.held.drain(..at + CLOSE.len());
                        self.place = Place::Closed;
                    }
                    None => thought.extend(self.held.drain(..sure(&self.held))),
                },
                Place::Answer => answer.push_str(&std::mem::take(&mut self.held)),
            }
            if (self.place, self.held.len()) == (place, held) {
                break;
            }
        }
        if ends {
            let rest = std::mem::take(&mut self.held);
            match self.thinks() {
                true => thought.push_str(rest.trim_end()),
                false => answer.push_str(&rest),
            }
        }
        (thought, answer)
    }
}

/// Up to where a text holds neither white space that may precede the closing tag nor the
/// beginning of that tag.
fn sure(text: &str) -> usize {
    let begun = (1..CLOSE.len())
        .rev()
        .find(|&n| text.ends_with(&CLOSE[..n]));
    text[..text.len() - begun.unwrap_or(0)].trim_end().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thoughts_are_told_from_answers_however_they_are_cut() {
        for (begins_in, text, thought, answer) in [
            (false, "hello", "", "hello"),
            (false, "<think>\na b\n</think>\n\nc", "a b", "c"),
            (false, " <think>a</think>", "a", ""),
            (false, "<thin", "", "<thin"),
            (false, "x <think>y</think>", "", "x <think>y</think>"),
            (true, "a\n\nb </b>\n</think>\n\n c", "a\n\nb </b>", "c"),
            (true, "<think>\na</think>b", "a", "b"),
            (true, "never ends \n", "never ends", ""),
            (true, "\n\n</think>\n\nü", "", "ü"),
            (true, "", "", ""),
        ] {
            for cut in (0..=text.len()).filter(|&at| text.is_char_boundary(at)) {
                for second in (cut..=text.len()).filter(|&at| text.is_char_boundary(at)) {
                    let mut reader = ThoughtReader::new(begins_in);
                    let (mut got, mut said) = (String::new(), String::new());
                    let pieces = [&text[..cut], &text[cut..second], &text[second..], ""];
                    for (at, piece) in pieces.into_iter().enumerate() {
                        let (a, b) = reader.push(piece, at == 3);
                        got += &a;
                        said += &b;
                    }
                    assert_eq!(
                        (&*got, &*said),
                        (thought, answer),
                        "{text:?} at {cut}, {second}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_templates_are_told_is_taken_or_refused() {
        let of = |body: &str| {
            let mut fields = Fields::parse(body.as_bytes()).map_err(|error| error.message)?;
            variables(&mut fields).map_err(|error| error.message)
        };
        assert_eq!(of("{}").as_deref(), Ok("{}"));
        assert_eq!(
            of(r#"{"reasoning_effort": "none", "chat_template_kwargs": {"thinking": true}}"#)
                .as_deref(),
            Ok(r#"{"enable_thinking":false,"thinking":true}"#)
        );
        assert_eq!(
            of(r#"{"reasoning_effort": "low"}"#).as_deref(),
            Ok(r#"{"enable_thinking":true,"reasoning_effort":"low","thinking":true}"#)
        );
        for (bad, says) in [
            (r#"{"reasoning_effort": "huge"}"#, "must be none"),
            (r#"{"chat_template_kwargs": []}"#, "an object"),
            (
                r#"{"chat_template_kwargs": {"messages": 1}}"#,
                "parameter of its own",
            ),
        ] {
            let message = of(bad).expect_err(bad);
            assert!(message.contains(says), "{message}");
        }
    }
}
