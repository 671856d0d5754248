//! Prints an answer: shows what is being waited for, prints each piece as it comes, and
//! stops at Ctrl-C and closed pipes.

use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::interrupt;
use crate::output::Output;
use crate::size::format_size;

/// The waiting line that is shown. Static, because another thread may open the model.
static SHOWN: Mutex<Option<ProgressBar>> = Mutex::new(None);

fn shown() -> MutexGuard<'static, Option<ProgressBar>> {
    SHOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Shows on the waiting line how far the loop is filled, in bytes; breaks after Ctrl-C.
pub fn show_filling(done: u64, total: u64) -> ControlFlow<()> {
    if let Some(bar) = &*shown() {
        let [done, total] = [done, total].map(format_size);
        bar.set_message(format!("filling the loop from flash, {done} of {total}"));
    }
    match interrupt::asked() {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    }
}

/// A line on the terminal that counts the seconds until it is dropped.
#[derive(Debug)]
pub struct Waiting(ProgressBar);

impl Waiting {
    /// Shows `what`, such as `reading the prompt`.
    pub fn new(what: &'static str) -> Self {
        let bar = ProgressBar::new_spinner().with_message(what);
        if let Ok(style) = ProgressStyle::with_template("{msg} ... {elapsed}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_secs(1));
        *shown() = Some(bar.clone());
        Self(bar)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        *shown() = None;
        self.0.finish_and_clear();
    }
}

/// Prints one answer.
#[derive(Debug)]
pub struct Printer<'a> {
    output: &'a Output,
    waiting: Option<Waiting>,
    failed: Option<io::Error>,
    /// Whether the last line of text has no line end yet.
    is_open: bool,
}

impl<'a> Printer<'a> {
    /// Shows that the prompt is being read, until the first piece.
    pub fn new(output: &'a Output) -> Self {
        Self {
            output,
            waiting: Some(Waiting::new("reading the prompt")),
            failed: None,
            is_open: false,
        }
    }

    /// Prints a piece; breaks after Ctrl-C, or when it cannot be printed.
    pub fn piece(&mut self, text: &str) -> ControlFlow<()> {
        if !text.is_empty() {
            self.waiting = None;
            self.is_open = !text.ends_with('\n');
            let printed = self.output.piece(text);
            let event = json!({"event": "token", "text": text});
            self.failed = printed.and_then(|()| self.output.object(&event)).err();
        }
        if self.failed.is_some() || interrupt::asked() {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    /// Prints a note about something that happened meanwhile.
    pub fn notice(&mut self, text: impl fmt::Display) {
        let event = json!({"event": "notice", "message": text.to_string()});
        // A closed pipe is met again by the next piece.
        let _ = self.output.object(&event);
        let start = if self.is_open { "\n" } else { "" };
        self.output.note(format_args!("{start}note: {text}"));
    }

    /// Ends the line.
    ///
    /// # Errors
    /// When standard output was closed or full.
    pub fn end(mut self) -> io::Result<()> {
        self.waiting = None;
        match self.failed {
            Some(error) => Err(error),
            None if self.is_open => self.output.line(""),
            None => Ok(()),
        }
    }
}
