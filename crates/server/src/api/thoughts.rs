//! Separates a model's thoughts from its answer, and parses the parameters that say whether
//! and how much it thinks.

use std::collections::BTreeMap;

use delayline_llama::Thinking;
use delayline_llama::batch::begun;
use serde_json::value::RawValue;

use super::error::ApiError;
use super::fields::Fields;

/// The tags around a model's thoughts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThoughtTags {
    /// The opening tag.
    pub open: &'static str,
    /// The closing tag.
    pub close: &'static str,
}

/// The tags of all known models.
const TAGS: [ThoughtTags; 6] = [
    THINK,
    tags("[THINK]", "[/THINK]"),
    tags("<seed:think>", "</seed:think>"),
    tags("<|START_THINKING|>", "<|END_THINKING|>"),
    tags("<|inner_prefix|>", "<|inner_suffix|>"),
    tags("\u{25c1}think\u{25b7}", "\u{25c1}/think\u{25b7}"),
];

const THINK: ThoughtTags = tags("<think>", "</think>");

const fn tags(open: &'static str, close: &'static str) -> ThoughtTags {
    ThoughtTags { open, close }
}

/// The values of `reasoning_effort` in all APIs.
const EFFORTS: &[&str] = &["none", "minimal", "low", "medium", "high", "xhigh", "max"];

impl ThoughtTags {
    /// The tags in a template with this source.
    pub fn in_template(source: &str) -> Option<Self> {
        let told = |tags: &&Self| source.contains(tags.close);
        TAGS.iter().find(told).copied()
    }

    /// The tags with whose opening tag a prompt ends, so that the answer begins within
    /// thoughts.
    pub fn begun_in(prompt: &str) -> Option<Self> {
        let prompt = prompt.trim_end();
        let begun = |tags: &&Self| prompt.ends_with(tags.open);
        TAGS.iter().find(begun).copied()
    }

    /// How thoughts begin and end. `begun` is whether the prompt ends within thoughts,
    /// `budget` their maximum number of tokens.
    pub fn thinking(self, begun: bool, budget: Option<usize>) -> Thinking {
        Thinking {
            open: self.open.into(),
            close: self.close.into(),
            begun,
            budget,
            lead: String::new(),
            end: self.close.into(),
        }
    }
}

/// The names that other servers use for the maximum number of tokens of thought.
pub const BUDGETS: [&str; 2] = ["thinking_budget_tokens", "thinking_token_budget"];

/// Takes the maximum number of tokens of thought: `Some(None)` for -1, which is no limit;
/// `None` if the request does not say.
///
/// # Errors
/// When it is not a whole number from -1 on.
pub fn budget(fields: &mut Fields) -> Result<Option<Option<usize>>, ApiError> {
    let mut budget = None;
    for name in BUDGETS {
        let asked = fields.whole(name, -1, i64::MAX)?;
        budget = budget.or(asked.map(|n| usize::try_from(n).ok()));
    }
    Ok(budget)
}

/// Takes the variables for the template, as JSON: `chat_template_kwargs`, and those that stand
/// for `reasoning_effort`.
///
/// # Errors
/// When one of the two is invalid.
pub fn variables(fields: &mut Fields) -> Result<String, ApiError> {
    const NAME: &str = "chat_template_kwargs";
    let given: Option<BTreeMap<String, Box<RawValue>>> = fields.take(NAME, "an object")?;
    let mut all = given.unwrap_or_default();
    if let Some(name) = ["messages", "tools"]
        .iter()
        .find(|name| all.contains_key(**name))
    {
        let message = format!("`{NAME}` cannot have `{name}`, which is a parameter of its own");
        return Err(ApiError::param(NAME, message));
    }
    let effort: Option<String> = fields.take("reasoning_effort", "a word")?;
    if let Some(effort) = effort {
        if !EFFORTS.contains(&effort.as_str()) {
            let message = format!("`reasoning_effort` must be {}", EFFORTS.join(", "));
            return Err(ApiError::param("reasoning_effort", message));
        }
        let thinks = effort != "none";
        // Templates have different names for it; those that the request sets itself stay.
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
    /// At the beginning, within white space.
    Start,
    /// After the opening tag, within white space.
    Opened,
    Thought,
    /// After the closing tag, within white space.
    Closed,
    Answer,
}

/// Separates thoughts from an answer, in pieces of any lengths.
#[derive(Clone, Debug)]
pub struct ThoughtReader {
    tags: ThoughtTags,
    place: Place,
    held: String,
}

impl ThoughtReader {
    /// A reader of an answer, which begins within thoughts if the prompt ends there.
    pub fn new(tags: ThoughtTags, begins_in: bool) -> Self {
        Self {
            tags,
            place: match begins_in {
                true => Place::Opened,
                false => Place::Start,
            },
            held: String::new(),
        }
    }

    /// Whether the next text is part of thoughts.
    pub fn thinks(&self) -> bool {
        matches!(self.place, Place::Opened | Place::Thought)
    }

    /// Takes a piece of text; returns what is certain to be thoughts, and to be the answer.
    /// If the answer `ends`, returns all that is left.
    pub fn push(&mut self, piece: &str, ends: bool) -> (String, String) {
        self.held.push_str(piece);
        let ThoughtTags { open, close } = self.tags;
        let (mut thought, mut answer) = (String::new(), String::new());
        loop {
            let (place, held) = (self.place, self.held.len());
            match place {
                Place::Start => {
                    let rest = self.held.trim_start();
                    if let Some(behind) = rest.strip_prefix(open) {
                        self.held = behind.to_owned();
                        self.place = Place::Opened;
                    } else if !open.starts_with(rest) {
                        self.place = Place::Answer;
                    }
                }
                Place::Opened | Place::Closed => {
                    self.held = self.held.trim_start().to_owned();
                    // A model may repeat the opening tag that the template wrote.
                    if place == Place::Opened && self.held.starts_with(open) {
                        self.held.drain(..open.len());
                    } else if place == Place::Opened && open.starts_with(&self.held) {
                        break;
                    } else if !self.held.is_empty() {
                        self.place = match place {
                            Place::Opened => Place::Thought,
                            _ => Place::Answer,
                        };
                    }
                }
                Place::Thought => match self.held.find(close) {
                    Some(at) => {
                        thought.push_str(self.held[..at].trim_end());
                        self.held.drain(..at + close.len());
                        self.place = Place::Closed;
                    }
                    None => thought.extend(self.held.drain(..sure(&self.held, close))),
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

/// Length of the text without the beginning of a closing tag at its end and without white
/// space before that.
fn sure(text: &str, close: &str) -> usize {
    text[..text.len() - begun(text, close)].trim_end().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thoughts_are_told_from_answers_however_they_are_cut() {
        let cases = [
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
        ];
        let written = |tags: ThoughtTags, text: &str| {
            let text = text.replace(THINK.open, tags.open);
            text.replace(THINK.close, tags.close)
        };
        for (tags, (begins_in, text, thought, answer)) in TAGS
            .into_iter()
            .flat_map(|tags| cases.map(|case| (tags, case)))
        {
            let text = written(tags, text);
            let answer = written(tags, answer);
            for cut in (0..=text.len()).filter(|&at| text.is_char_boundary(at)) {
                for second in (cut..=text.len()).filter(|&at| text.is_char_boundary(at)) {
                    let mut reader = ThoughtReader::new(tags, begins_in);
                    let (mut got, mut said) = (String::new(), String::new());
                    let pieces = [&text[..cut], &text[cut..second], &text[second..], ""];
                    for (at, piece) in pieces.into_iter().enumerate() {
                        let (a, b) = reader.push(piece, at == 3);
                        got += &a;
                        said += &b;
                    }
                    assert_eq!(
                        (&*got, &*said),
                        (thought, &*answer),
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
