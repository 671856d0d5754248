//! A conversation on the terminal, turn by turn, by a chat template. Earlier turns stay in
//! the KV cache. Knows nothing of streaming.

use std::time::Instant;

use anyhow::Result;
use delayline_engine::Error;
use delayline_llama::{Finish, Generated, Message, Session, Template};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use crate::interrupt;
use crate::output::{Output, format_seconds, format_tokens_per_s};

use super::prompt::turns;
use super::{Answers, answer};

const HELP: &str = "\
/bye or Ctrl-D ends, /clear begins anew, Ctrl-C ends an answer; arrow keys bring back what you said";

/// The meaning of a line at the prompt.
#[derive(Debug, PartialEq, Eq)]
enum Said<'a> {
    Nothing,
    Bye,
    Clear,
    Help,
    Turn(&'a str),
}

fn understand(line: &str) -> Said<'_> {
    match line.trim() {
        "" => Said::Nothing,
        "/bye" => Said::Bye,
        "/clear" => Said::Clear,
        "/help" | "/?" => Said::Help,
        text => Said::Turn(text),
    }
}

/// Talks until the person ends it; returns all answers as one, if any. After Ctrl-C at the
/// prompt, [`interrupt::asked`] is true.
///
/// # Errors
/// When the template refuses a turn, or a lap fails.
pub fn chat(
    session: &mut Session,
    template: &Template,
    answers: &Answers,
    output: &Output,
) -> Result<Option<Generated>> {
    let mut history = Vec::new();
    let mut messages = Vec::new();
    let mut all = None;
    output.note(HELP);
    loop {
        let line = match ask(&history) {
            Ok(line) => line,
            Err(ReadlineError::Eof) => return Ok(all),
            Err(ReadlineError::Interrupted) => {
                interrupt::ask();
                return Ok(all);
            }
            Err(error) => return Err(error.into()),
        };
        let text = match understand(&line) {
            Said::Nothing => continue,
            Said::Bye => return Ok(all),
            Said::Clear => {
                messages.clear();
                output.note("(the conversation begins anew)");
                continue;
            }
            Said::Help => {
                output.note(HELP);
                continue;
            }
            Said::Turn(text) => text,
        };
        history.push(line.clone());
        messages.push(Message::new("user", text));
        let tokens = turns(session.vocab(), template, &messages)?;
        let start = Instant::now();
        let answered = answer(session, &tokens, answers, output);
        interrupt::forget();
        match answered {
            Ok(generated) => {
                tell(&generated, start.elapsed().as_secs_f64(), output);
                match generated.tokens.is_empty() {
                    // Interrupted before the first token: the turn is dropped.
                    true => drop(messages.pop()),
                    false => {
                        let said = answers.speech.answer(&generated.text);
                        messages.push(Message::new("assistant", &said));
                    }
                }
                all = Some(joined(all, generated));
            }
            Err(error) if is_too_long(&error) => {
                messages.pop();
                output.note(format_args!("{error}; /clear begins anew"));
            }
            Err(error) => return Err(error),
        }
    }
}

/// The next line that the person types. The editor handles Ctrl-C itself while it lives, so
/// each line has its own editor.
fn ask(history: &[String]) -> Result<String, ReadlineError> {
    let mut editor = DefaultEditor::new()?;
    for line in history {
        editor.add_history_entry(line)?;
    }
    editor.readline("> ")
}

fn is_too_long(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(Error::PromptTooLong { .. }))
}

/// Prints a line about an answer.
fn tell(generated: &Generated, seconds: f64, output: &Output) {
    let n = generated.tokens.len();
    let rate = generated.decode_tokens_per_s().map(format_tokens_per_s);
    let rate = rate.map(|rate| format!(", {rate}")).unwrap_or_default();
    let end = match generated.finish {
        Finish::Stopped => ", interrupted",
        Finish::Full => ", the context is full: /clear begins anew",
        Finish::Length => ", as many as -n allows",
        Finish::End => "",
    };
    let seconds = format_seconds(seconds);
    output.note(format_args!("({n} tokens in {seconds}{rate}{end})"));
}

/// All answers as one: with the laps of all, the first one's time to the first token, and
/// the last one's end.
fn joined(all: Option<Generated>, next: Generated) -> Generated {
    let Some(mut all) = all else {
        return next;
    };
    all.text.push_str(&next.text);
    all.tokens.extend(next.tokens);
    all.prompt_tokens = next.prompt_tokens;
    all.cached_tokens = next.cached_tokens;
    all.finish = next.finish;
    all.decode_s += next.decode_s;
    all.decode = all.decode + next.decode;
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_told_from_turns() {
        let cases = [
            ("  ", Said::Nothing),
            ("/bye ", Said::Bye),
            ("/clear", Said::Clear),
            ("/?", Said::Help),
            (" what is /bye? ", Said::Turn("what is /bye?")),
            ("/etc/passwd is a file", Said::Turn("/etc/passwd is a file")),
        ];
        for (line, said) in cases {
            assert_eq!(understand(line), said, "{line}");
        }
    }
}
