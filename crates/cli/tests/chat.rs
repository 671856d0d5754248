//! A conversation on a terminal, as a person would have it.

mod common;

use std::process::Command;

use rexpect::session::PtySession;

/// Time limit of one answer in milliseconds, so that a hang fails.
const PATIENCE_MS: u64 = 120_000;

/// Tokens that share a lap of a prompt, and tokens of an answer.
const UBATCH: usize = 8;
const ANSWER: usize = 4;

fn chat() -> PtySession {
    let mut command = Command::new(env!("CARGO_BIN_EXE_delayline"));
    command.arg("run").arg(common::model()).env("TERM", "dumb");
    command.args("--memory 90MiB --ctx 512 --temp 0 --ubatch 8 -n 4".split(' '));
    let mut session =
        rexpect::session::spawn_command(command, Some(PATIENCE_MS)).expect("a terminal");
    session.exp_string("/bye or Ctrl-D ends").expect("the help");
    session.exp_string("> ").expect("a prompt");
    session
}

/// Types a line; returns the terminal's output up to the figures of the answer.
fn say(session: &mut PtySession, line: &str) -> String {
    session.send_line(line).expect("can type");
    let said = session.exp_string(" tokens in ").expect("an answer");
    session.exp_string("> ").expect("the next prompt");
    said
}

/// The number right after `words`.
fn number_behind(words: &str, text: &str) -> usize {
    let (_, rest) = text
        .split_once(words)
        .unwrap_or_else(|| panic!("no {words:?} in {text}"));
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next();
    digits
        .and_then(|digits| digits.parse().ok())
        .unwrap_or_else(|| panic!("no number behind {words:?} in {text}"))
}

#[test]
fn turns_are_kept_and_the_end_has_figures() {
    let mut session = chat();
    say(&mut session, "What is a delay line?");
    say(&mut session, "Who built the first one?");
    session.send_control('d').expect("can type");
    let summary = session.exp_eof().expect("the figures");
    let prompt = number_behind("the prompt had ", &summary);
    let laps = number_behind(&format!("the prompt had {prompt}; "), &summary);
    // The last prompt holds both turns. Had the first been read again, its laps
    // would come on top: three at least, with the template around it.
    let once = prompt.div_ceil(UBATCH) + 2 * (ANSWER - 1) + 1;
    assert!(
        laps <= once + 1,
        "{laps} laps for {prompt} tokens: {summary}"
    );
}

#[test]
fn clear_begins_anew() {
    let mut session = chat();
    let first = say(&mut session, "Name a colour.");
    say(&mut session, "And another.");
    session.send_line("/clear").expect("can type");
    session.exp_string("begins anew").expect("an answer");
    session.exp_string("> ").expect("a prompt");
    assert_eq!(say(&mut session, "Name a colour."), first);
    session.send_line("/bye").expect("can type");
    session.exp_string("speed").expect("the figures");
    session.exp_eof().expect("the end");
}
