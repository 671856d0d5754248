//! The text of an inspection.

use std::fmt::{self, Display, Formatter};
use std::iter;

use crate::output::{TextTable, format_seconds, format_tokens_per_s};
use crate::size::{format_rate, format_size};

use super::look::Look;
use super::{Inspection, Outcome, Row};

/// Accounts of the budget in one line.
const ACCOUNTS_A_LINE: usize = 4;

impl Display for Inspection {
    /// Lines without an end after the last.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.model(f)?;
        writeln!(f, "\n{}\n", self.types())?;
        writeln!(f, "{}\n", self.largest())?;
        if let Some(asked) = self.too_small_bytes {
            let least = format_size(self.at.ledger.budget_bytes);
            match asked {
                0 => writeln!(
                    f,
                    "What is free is too small a budget: {least} is the smallest that works."
                )?,
                asked => {
                    let asked = format_size(asked);
                    writeln!(
                        f,
                        "{asked} is too small a budget: {least} is the smallest that works."
                    )?;
                }
            }
        }
        self.at(f)?;
        self.speed(f)?;
        writeln!(f, "\n{}\n", self.budgets())?;
        let native = format_size(self.native_from_bytes);
        write!(
            f,
            "From {native} on everything fits: llama.cpp then holds the model itself, without streaming,\n\
             and prompts are read several times faster at once, because only then its kernels get the\n\
             weights rearranged as they like them best. {}",
            match self.model.is_sealed {
                true => "Before that each byte is held against the seal.",
                false => {
                    "What it reads is trusted: nothing reads it\na second time, and only a seal \
                 (`delayline seal`) tells wrong bytes."
                }
            }
        )
    }
}

impl Inspection {
    fn model(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let model = &self.model;
        let name = model.name.as_deref().unwrap_or("(without a name)");
        writeln!(f, "{name}, architecture {}", model.architecture)?;
        write!(
            f,
            "{} of weights in {} file{}, {} layers of width {}, vocabulary of {}, trained on {} tokens at once",
            format_size(model.weight_bytes),
            model.parts,
            if model.parts == 1 { "" } else { "s" },
            model.layers,
            model.embedding,
            model.vocabulary,
            model.trained_context,
        )?;
        if model.experts > 0 {
            write!(
                f,
                ", {} experts, of which a token uses {}",
                model.experts, model.experts_used
            )?;
        }
        writeln!(f)
    }

    fn types(&self) -> TextTable {
        let mut table = TextTable::new(["type", "tensors", "size"]);
        for t in &self.tensors {
            table.row([t.kind.into(), t.count.to_string(), format_size(t.bytes)]);
        }
        table
    }

    fn largest(&self) -> TextTable {
        let mut table = TextTable::new(["largest tensors", "shape", "type", "size"]);
        for tensor in &self.largest {
            let dims: Vec<String> = tensor.dims.iter().map(u64::to_string).collect();
            let (shape, size) = (dims.join(" × "), format_size(tensor.bytes));
            table.row([tensor.name.clone(), shape, tensor.kind.into(), size]);
        }
        table
    }

    fn at(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Look { extents, .. } = &self.at;
        let size = format_size;
        writeln!(f, "With {} of memory:", size(self.at.ledger.budget_bytes))?;
        writeln!(
            f,
            "  memory    {} weights that stay, {} window, {} KV cache for {} tokens, {} program and buffers",
            size(self.at.ledger.resident_weights_bytes),
            size(self.at.ledger.window_bytes),
            size(self.at.ledger.kv_bytes),
            self.at.ctx,
            size(self.at.ledger.buffer_bytes),
        )?;
        self.accounts(f)?;
        let (least, most) = (size(extents.smallest_bytes), size(extents.largest_bytes));
        writeln!(
            f,
            "  extents   {} of {least} to {most}, {} in all; a lap uses them in {} runs",
            extents.count,
            size(extents.bytes),
            self.at.runs,
        )?;
        write!(
            f,
            "  lap       {} streamed for each token",
            size(self.at.bytes_per_lap)
        )?;
        if self.at.expert_bytes_per_lap > 0 {
            let experts = size(self.at.expert_bytes_per_lap);
            write!(f, ", and at most {experts} of experts")?;
        }
        writeln!(
            f,
            "; of a prompt, up to {} tokens share a lap",
            self.at.ubatch
        )?;
        let bytes = match self.model.is_sealed {
            true => "each that is read is held against the seal",
            false => {
                "the first reading of each is trusted, later ones are held against it; \
                 `delayline seal` writes down what they are"
            }
        };
        writeln!(f, "  bytes     {bytes}")?;
        if let Some(predicted) = self.at.predicted {
            let (lap, rate) = (
                format_seconds(predicted.lap_s),
                format_tokens_per_s(predicted.tokens_per_s),
            );
            writeln!(f, "  at best   {lap} a lap, {rate}")?;
        }
        Ok(())
    }

    /// Everything that the budget is spent on, a few accounts a line.
    fn accounts(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let shown = self.at.accounts.iter().filter(|entry| entry.bytes > 0);
        let shown: Vec<String> = shown
            .map(|entry| format!("{} {}", entry.account, format_size(entry.bytes)))
            .collect();
        for (index, line) in shown.chunks(ACCOUNTS_A_LINE).enumerate() {
            let head = if index == 0 { "accounts" } else { "" };
            writeln!(f, "  {head:<9} {}", line.join(", "))?;
        }
        Ok(())
    }

    fn speed(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Some(speed) = self.speed else {
            return writeln!(
                f,
                "\nWith --measure or --rate, this also tells how long a lap takes at best."
            );
        };
        let (device, memory) = (speed.device_rate_bytes_per_s, speed.memory_rate_bytes_per_s);
        writeln!(
            f,
            "\nReckoned with a drive of {} ({}) and compute that reads every weight from memory once, at {}.",
            format_rate(device),
            if speed.is_measured {
                "measured"
            } else {
                "given"
            },
            format_rate(memory),
        )
    }

    fn budgets(&self) -> TextTable {
        let mut table = match self.speed {
            Some(_) => TextTable::new([
                "memory",
                "budget",
                "window",
                "stays",
                "streams a lap",
                "lap at best",
                "speed at best",
            ]),
            None => TextTable::new(["memory", "budget", "window", "stays", "streams a lap"]),
        };
        for row in &self.budgets {
            table.row(self.cells(row));
        }
        table
    }

    fn cells(&self, row: &Row) -> Vec<String> {
        let mut cells = vec![
            format!("model ÷ {}", row.divisor),
            format_size(row.budget_bytes),
        ];
        match &row.outcome {
            Outcome::NeedsBytes(least) => {
                cells.extend(["–".into(), "–".into()]);
                cells.push(format!("needs {}", format_size(*least)));
                let blank = if self.speed.is_some() { 2 } else { 0 };
                cells.extend(iter::repeat_n("–".to_owned(), blank));
            }
            Outcome::Works(at) => {
                cells.extend(
                    [
                        at.ledger.window_bytes,
                        at.ledger.resident_weights_bytes,
                        at.bytes_per_lap,
                    ]
                    .map(format_size),
                );
                if let Some(predicted) = at.predicted {
                    cells.push(format_seconds(predicted.lap_s));
                    cells.push(format_tokens_per_s(predicted.tokens_per_s));
                }
            }
        }
        cells
    }
}
