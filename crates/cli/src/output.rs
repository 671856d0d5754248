//! What the program prints. Results go to standard output, for people or (with
//! `--json`) one object a line and nothing else; everything else goes to standard
//! error. Knows no command.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::size::places;

/// How to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Objects instead of text.
    pub json: bool,
    /// How often `-v` was given.
    pub verbose: u8,
}

impl Output {
    /// A line for people; nothing with `--json`.
    ///
    /// # Errors
    /// When standard output is closed or full.
    pub fn line(&self, text: impl fmt::Display) -> io::Result<()> {
        if self.json {
            return Ok(());
        }
        writeln!(io::stdout().lock(), "{}", printable(&text.to_string()))
    }

    /// A piece of text for people at once, without a line's end; nothing with
    /// `--json`. Control characters are escaped on a terminal, and unchanged elsewhere.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn piece(&self, text: &str) -> io::Result<()> {
        if self.json {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        match out.is_terminal() {
            true => out.write_all(printable(text).as_bytes())?,
            false => out.write_all(text.as_bytes())?,
        }
        out.flush()
    }

    /// An object on a line of its own; nothing without `--json`.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn object(&self, value: &serde_json::Value) -> io::Result<()> {
        if !self.json {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        writeln!(out, "{}", plain_json(&value.to_string()))?;
        out.flush()
    }

    /// A line that is not the result, on standard error.
    pub fn note(&self, text: impl fmt::Display) {
        // When standard error is closed there is nowhere to report that.
        let _ = writeln!(io::stderr().lock(), "{}", printable(&text.to_string()));
    }

    /// As [`Output::note`], only with `-v`.
    pub fn detail(&self, text: impl fmt::Display) {
        if self.verbose > 0 {
            self.note(text);
        }
    }

    /// A bar on standard error for `total` bytes of `what`; silent where that
    /// is no terminal, and for the first second.
    pub fn progress(&self, what: &str, total: u64) -> ProgressLine {
        let template = "{msg} {wide_bar} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left";
        Self::bar(what, total, template)
    }

    /// As [`Output::progress`], for `total` pieces of `what`.
    pub fn count(&self, what: &str, total: u64) -> ProgressLine {
        Self::bar(what, total, "{msg} {wide_bar} {pos} of {len}, {eta} left")
    }

    fn bar(what: &str, total: u64, template: &str) -> ProgressLine {
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        let hidden = io::stderr().is_terminal().then(Instant::now);
        ProgressLine { bar, hidden }
    }
}

/// A text with its control characters escaped, except ends of lines and tabs, so that no
/// terminal obeys them. All text that comes from a file is printed through this.
pub fn printable(text: &str) -> Cow<'_, str> {
    let obeyed = |c: char| c.is_control() && c != '\n' && c != '\t';
    if !text.contains(obeyed) {
        return text.into();
    }
    let shown = |c: char| match obeyed(c) {
        true => c.escape_unicode().to_string(),
        false => c.to_string(),
    };
    text.chars().map(shown).collect::<String>().into()
}

/// JSON with those control characters escaped too that JSON allows.
fn plain_json(json: &str) -> Cow<'_, str> {
    let allowed = |c: char| c.is_control();
    if !json.contains(allowed) {
        return json.into();
    }
    let escaped = |c: char| match allowed(c) {
        true => format!("\\u{:04x}", u32::from(c)),
        false => c.to_string(),
    };
    json.chars().map(escaped).collect::<String>().into()
}

/// A bar that shows only for what takes longer than a second; gone when
/// dropped.
#[derive(Debug)]
pub struct ProgressLine {
    bar: ProgressBar,
    /// When it was begun, as long as it may still appear.
    hidden: Option<Instant>,
}

impl ProgressLine {
    /// Sets how much is done so far.
    pub fn set(&mut self, done: u64) {
        if self
            .hidden
            .is_some_and(|since| since.elapsed() >= Duration::from_secs(1))
        {
            self.hidden = None;
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.set_position(done);
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A table for people: the first column to the left, numbers to the right.
#[derive(Clone, Debug, Default)]
pub struct TextTable {
    rows: Vec<Vec<String>>,
    /// Columns that are aligned to the left.
    left: Vec<usize>,
}

impl TextTable {
    /// A table of these columns.
    pub fn new<const N: usize>(heads: [&str; N]) -> Self {
        Self::of(heads.map(str::to_owned))
    }

    /// A table of columns that are known only when it is made.
    pub fn of(heads: impl IntoIterator<Item = String>) -> Self {
        Self {
            rows: vec![heads.into_iter().collect()],
            left: vec![0],
        }
    }

    /// Aligns a column of words to the left.
    pub fn left(&mut self, column: usize) {
        self.left.push(column);
    }

    /// One more row.
    ///
    /// # Panics
    /// When it has not as many cells as there are columns.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells: Vec<String> = cells.into_iter().collect();
        assert_eq!(
            cells.len(),
            self.rows[0].len(),
            "a cell for each column: {cells:?}"
        );
        self.rows.push(cells);
    }
}

impl fmt::Display for TextTable {
    /// Lines of equal columns, two spaces apart, no line's end after the last.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| {
            self.rows
                .iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.rows[0].len()).map(width).collect();
        for (index, row) in self.rows.iter().enumerate() {
            let mut line = String::new();
            for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                let gap = if column == 0 { "" } else { "  " };
                match self.left.contains(&column) {
                    true => line += &format!("{gap}{cell:<width$}"),
                    false => line += &format!("{gap}{cell:>width$}"),
                }
            }
            let end = if index + 1 < self.rows.len() {
                "\n"
            } else {
                ""
            };
            write!(f, "{}{end}", line.trim_end())?;
        }
        Ok(())
    }
}

/// `1.24 s`, `15.2 ms`, `3 min 20 s`, from seconds.
pub fn format_seconds(seconds: f64) -> String {
    if seconds >= 119.5 {
        let whole = seconds.round() as u64;
        return match whole / 3600 {
            0 => format!("{} min {} s", whole / 60, whole % 60),
            hours => format!("{hours} h {} min", whole % 3600 / 60),
        };
    }
    let (value, unit) = match seconds {
        seconds if seconds >= 0.9995 => (seconds, "s"),
        seconds if seconds >= 0.9995e-3 => (seconds * 1e3, "ms"),
        seconds => (seconds * 1e6, "µs"),
    };
    format!("{value:.*} {unit}", places(value))
}

/// `12.3 tokens/s`.
pub fn format_tokens_per_s(rate: f64) -> String {
    format!("{rate:.*} tokens/s", places(rate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_and_not_sent() {
        for c in (0..=0x110000)
            .filter_map(char::from_u32)
            .filter(|c| c.is_control())
        {
            let text = format!("a{c}b");
            let json = serde_json::to_string(&text).expect("a text");
            let (shown, plain) = (printable(&text), plain_json(&json));
            match c {
                '\n' | '\t' => assert_eq!(shown, text),
                _ => assert_eq!(shown, format!("a\\u{{{:x}}}b", u32::from(c))),
            }
            assert!(!plain.contains(char::is_control), "{plain:?}");
            let back: String = serde_json::from_str(&plain).expect("is JSON");
            assert_eq!(back, text);
        }
        assert_eq!(printable("wörld 你\n\t☃"), "wörld 你\n\t☃");
    }

    #[test]
    fn columns_are_aligned() {
        let mut table = TextTable::new(["budget", "rate"]);
        table.row(["½".into(), "1.00 GB/s".into()]);
        table.row(["whole".into(), "9 B/s".into()]);
        assert_eq!(
            table.to_string(),
            "budget       rate\n½       1.00 GB/s\nwhole       9 B/s"
        );
    }

    #[test]
    #[should_panic(expected = "a cell for each column")]
    fn a_row_has_all_columns() {
        TextTable::new(["a", "b"]).row(["1".into()]);
    }

    #[test]
    fn seconds_are_formatted() {
        let cases = [
            (0.0, "0.00 µs"),
            (2.5e-6, "2.50 µs"),
            (0.99999e-3, "1.00 ms"),
            (0.0152, "15.2 ms"),
            (0.531, "531 ms"),
            (0.99996, "1.00 s"),
            (1.239, "1.24 s"),
            (100.04, "100 s"),
            (200.0, "3 min 20 s"),
            (7320.0, "2 h 2 min"),
        ];
        for (seconds, text) in cases {
            assert_eq!(format_seconds(seconds), text);
        }
        assert_eq!(format_tokens_per_s(12.345), "12.3 tokens/s");
        assert_eq!(format_tokens_per_s(138.2), "138 tokens/s");
    }
}
