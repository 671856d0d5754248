//! The prompt: where it comes from, and how it becomes tokens. Of a terminal it knows only
//! whether there is one.

use std::io::{self, IsTerminal, Read};

use anyhow::{Context, Result, bail};
use delayline_llama::{Conversation, Message, Template, Vocab};

use crate::args::RunArgs;
use crate::config::conflict;
use crate::template;

/// Longest prompt in bytes that is read from standard input: more than the
/// largest context holds.
const MOST_BYTES: u64 = 64 << 20;

/// Where the prompt comes from.
#[derive(Debug)]
pub enum PromptSource {
    /// Given as this text.
    Text(String),
    /// Typed by a person, turn by turn.
    Chat,
}

/// The prompt, or that there will be a conversation.
///
/// # Errors
/// When it is empty or not UTF-8, or a conversation has no terminal.
pub fn source(args: &RunArgs, json: bool) -> Result<PromptSource> {
    let text = match &args.prompt {
        Some(text) => text.clone(),
        None if !io::stdin().is_terminal() => all_of(io::stdin().lock())?,
        None if json || args.raw || !io::stdout().is_terminal() => {
            return Err(conflict(
                "a conversation needs a terminal, without --json and --raw: \
                 give a prompt with -p, or on standard input",
            ));
        }
        None => return Ok(PromptSource::Chat),
    };
    if text.trim().is_empty() {
        bail!("the prompt is empty: give one with -p, or on standard input");
    }
    Ok(PromptSource::Text(text))
}

/// All of `input`, without the line end that `echo` adds and the byte order mark that some
/// editors put in front.
fn all_of(input: impl Read) -> Result<String> {
    let mut text = String::new();
    let len = input
        .take(MOST_BYTES + 1)
        .read_to_string(&mut text)
        .context("the prompt on standard input cannot be read: expected text in UTF-8")?;
    if len as u64 > MOST_BYTES {
        bail!("the prompt on standard input is longer than 64 MiB: no context holds that");
    }
    if let Some(line) = text.strip_suffix('\n') {
        text.truncate(line.strip_suffix('\r').unwrap_or(line).len());
    }
    match text.strip_prefix('\u{feff}') {
        Some(rest) => Ok(rest.to_owned()),
        None => Ok(text),
    }
}

/// A prompt as tokens: one turn of a conversation if the model has a template
/// for that, or is given one, else, or with `--raw`, the beginning of a text.
///
/// # Errors
/// When the template cannot be rendered.
pub fn tokens(vocab: &Vocab, text: &str, args: &RunArgs) -> Result<Vec<i32>> {
    let given = args.chat_template.as_deref();
    if args.raw || given.is_none() && vocab.chat_template()?.is_none() {
        return Ok(vocab.tokenize(text, true, true)?);
    }
    template::chosen(given, vocab)
        .and_then(|template| turns(vocab, &template, &[Message::new("user", text)]))
        .context("the prompt cannot be made a turn of a conversation; --raw continues it as it is")
}

/// A conversation as tokens, up to where the model's answer begins.
///
/// # Errors
/// When the template refuses it.
pub fn turns(vocab: &Vocab, template: &Template, messages: &[Message]) -> Result<Vec<i32>> {
    let rendered = template.render(&Conversation::new(messages))?;
    Ok(vocab.tokens_of(&template.request(&rendered))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_input_is_taken_whole() -> Result<()> {
        for (input, text) in [
            ("a\nb\n", "a\nb"),
            ("a\n\n", "a\n"),
            ("a", "a"),
            ("", ""),
            ("a\r\nb\r\n", "a\r\nb"),
            ("\u{feff}a\r\n", "a"),
            ("\u{feff}", ""),
            ("\n", ""),
        ] {
            assert_eq!(all_of(input.as_bytes())?, text, "{input:?}");
        }
        let error = all_of(&b"\xff"[..]).expect_err("is no text");
        assert!(error.to_string().contains("UTF-8"), "{error}");
        assert!(all_of(io::repeat(b'a')).is_err());
        Ok(())
    }
}
