//! The text of a generation's figures, for a person who sees this program for the first
//! time.

use std::fmt::{self, Display, Formatter};

use delayline_plan::Side;

use delayline_engine::LoadedBytes;

use crate::output::{format_seconds, format_tokens_per_s};
use crate::report::Figures;
use crate::size::{format_rate, format_size};

/// Width of the bar in characters.
const BAR: usize = 40;

/// Prints figures as a few aligned lines.
#[derive(Debug)]
pub struct RunSummary<'a>(pub &'a Figures);

impl Display for RunSummary<'_> {
    /// Lines without an end after the last.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.model(f)?;
        self.memory(f)?;
        match self.0.model.loaded {
            None => self.lap(f)?,
            Some(loaded) => writeln!(f, "bytes    {}", trust(loaded))?,
        }
        self.speed(f)?;
        self.answer(f)
    }
}

impl RunSummary<'_> {
    fn model(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Figures {
            model,
            memory,
            line,
            ..
        } = self.0;
        let whole = format_size(model.weight_bytes);
        writeln!(f, "model    {}: {whole} of weights", model.name)?;
        if !model.is_streamed {
            return writeln!(f, "         {} all in memory", bar(1.0, 0.0));
        }
        let share = |bytes: u64| bytes as f64 / model.weight_bytes.max(1) as f64;
        let stays = share(memory.ledger.resident_weights_bytes).min(1.0);
        // Reads are of whole pages, so a little more than the weights.
        let streams = share(line.bytes_per_lap).min(1.0 - stays);
        let rest = 1.0 - stays - streams;
        writeln!(f, "         {}", bar(stays, streams))?;
        let (stays, streams) = (percent(stays), percent(streams));
        write!(
            f,
            "         █ {stays} stays in memory   ░ {streams} streams past for each token"
        )?;
        if rest >= 0.005 {
            write!(f, "   · {} was not needed", percent(rest))?;
        }
        writeln!(f)
    }

    fn memory(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let memory = &self.0.memory;
        let (peak, budget) = (
            format_size(memory.peak_bytes),
            format_size(memory.ledger.budget_bytes),
        );
        writeln!(f, "memory   {peak} at the peak, {budget} allowed")?;
        if let Some(peak) = memory.cgroup_peak_bytes {
            let peak = format_size(peak);
            writeln!(
                f,
                "         {peak} at the peak of the cgroup, with all that counts there"
            )?;
        }
        let [stays, window, kv, rest] = [
            memory.ledger.resident_weights_bytes,
            memory.ledger.window_bytes,
            memory.ledger.kv_bytes,
            memory.ledger.buffer_bytes,
        ]
        .map(format_size);
        let window = match self.0.model.is_streamed {
            true => format!(" that stay, {window} window for the others"),
            false => String::new(),
        };
        writeln!(
            f,
            "         {stays} weights{window}, {kv} KV cache, {rest} program"
        )
    }

    fn lap(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let line = &self.0.line;
        let bytes = format_size(line.bytes_per_lap);
        let medium = self.0.medium.figures.as_ref();
        let source = medium.map_or("drive", |medium| &medium.source);
        write!(f, "lap      {bytes} from the {source} for each token")?;
        if let Some((lap_s, compute_s)) = line.lap_s.zip(line.compute_s) {
            let [lap, stall] = [lap_s, lap_s - compute_s].map(format_seconds);
            write!(f, ", in {lap}, of which the compute waited {stall}")?;
        }
        writeln!(f)?;
        let rates = line
            .stream_rate_bytes_per_s
            .zip(line.device_rate_bytes_per_s);
        if let Some((stream, device)) = rates {
            let [stream, device] = [stream, device].map(format_rate);
            if medium.is_none_or(|medium| medium.rate_bytes_per_s.is_none()) {
                writeln!(
                    f,
                    "drive    {stream} on average, {device} is what it can do: idle {} of the time",
                    percent(line.drive_idle.unwrap_or(0.0))
                )?;
            }
        }
        if let Some(medium) = medium {
            f.write_str(&medium.lines)?;
        }
        self.experts(f)?;
        self.check(f)
    }

    fn experts(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Some(experts) = self.0.line.experts else {
            return Ok(());
        };
        let hits = percent(experts.hits as f64 / experts.used.max(1) as f64);
        let share = experts.capacity_bytes as f64 / experts.all_bytes.max(1) as f64;
        let share = percent(share.min(1.0));
        writeln!(
            f,
            "experts  {hits} were in memory, where {} hold up to {share} of them; {} read for the \
             others{}",
            format_size(experts.capacity_bytes),
            format_size(experts.bytes_read),
            experts.guesses.text()
        )?;
        if let Some((here, ahead)) = experts.last_hits.zip(experts.clairvoyant_hits) {
            let [here, ahead] = [here, ahead].map(percent);
            write!(
                f,
                "         of the last words {here} from empty frames, {ahead} with all choices known"
            )?;
            if let Some(share) = experts.of_clairvoyant {
                write!(f, ", which would take {} of the time", percent(share))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }

    fn check(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Some(check) = self.0.line.check else {
            return writeln!(f, "bytes    {UNCHECKED}");
        };
        let against = match check.is_sealed {
            true => "the seal",
            false => "the first reading",
        };
        let bytes = check.checked_bytes + check.learned_bytes;
        let rate = format_rate(bytes as f64 / check.check_s.max(1e-9));
        let share = percent(check.check_s / check.laps_s.max(1e-9));
        let found = match check.wrong_reads {
            0 => "none was wrong".to_owned(),
            1 => "1 read brought wrong ones and was tried again".to_owned(),
            n => format!("{n} reads brought wrong ones and were tried again"),
        };
        writeln!(
            f,
            "bytes    held against {against} at {rate}, {share} of the time: {found}"
        )
    }

    fn speed(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let figures = self.0;
        let Some(first_s) = figures.time_to_first_token_s else {
            return Ok(());
        };
        write!(f, "speed    ")?;
        if let Some(rate) = figures.decode_tokens_per_s {
            write!(f, "{}", format_tokens_per_s(rate))?;
            if let Some((limit, bound)) = figures.line.of_limit.zip(figures.line.bound()) {
                let medium = figures.medium.figures.as_ref();
                let allowed = match bound.side() {
                    Side::Compute => "the processor allows",
                    Side::Stream => medium.map_or("the drive allows", |medium| &medium.allows),
                };
                write!(f, ", {} of what {allowed}", percent(limit))?;
            }
            write!(f, "; ")?;
        }
        writeln!(f, "the first token after {}", format_seconds(first_s))
    }

    fn answer(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Figures {
            generated_tokens: n,
            prompt_tokens: prompt,
            cached_tokens: cached,
            line,
            ..
        } = self.0;
        let end = match self.0.finish {
            "end" => "where the model ended it",
            "length" => "as many as asked for",
            "full" => "which fills the context (--ctx)",
            _ => "interrupted",
        };
        let s = |n: u64| if n == 1 { "" } else { "s" };
        write!(
            f,
            "answer   {n} token{}, {end}; the prompt had {prompt}",
            s(*n as u64)
        )?;
        if self.0.model.is_streamed {
            let (laps, read) = (line.laps, format_size(line.bytes_read));
            write!(f, "; {laps} lap{}, {read} read in all", s(laps))?;
        }
        if *cached > 0 {
            write!(f, "; {cached} tokens of the prompt were found")?;
        }
        Ok(())
    }
}

const UNCHECKED: &str = "trusted as they came (--no-verify)";

/// What the bytes that llama.cpp loaded itself were held against.
fn trust(loaded: LoadedBytes) -> &'static str {
    match loaded {
        LoadedBytes::Sealed => "held against the seal before llama.cpp loaded them",
        LoadedBytes::Trusted => {
            "trusted as llama.cpp loaded them: nothing reads them twice, and only a seal \
             (`delayline seal`) tells wrong ones"
        }
        LoadedBytes::Unchecked => UNCHECKED,
    }
}

/// The shares that stay, that stream, and that were not needed, in proportion.
fn bar(stays: f64, streams: f64) -> String {
    let cells = |share: f64| ((share * BAR as f64).round() as usize).min(BAR);
    let full = cells(stays);
    let both = cells(stays + streams).max(full);
    let (light, dots) = ("░".repeat(both - full), "·".repeat(BAR - both));
    format!("{}{light}{dots}", "█".repeat(full))
}

/// `35 %`, `0.4 %`.
fn percent(share: f64) -> String {
    let places = usize::from(share > 0.0 && share < 0.0095);
    format!("{:.places$} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_is_always_as_long() {
        for (stays, streams) in [
            (0.0, 1.0),
            (0.333, 0.667),
            (0.4, 0.02),
            (1.0, 0.0),
            (0.9, 0.3),
        ] {
            let bar = bar(stays, streams);
            assert_eq!(bar.chars().count(), BAR, "{bar}");
            let full = bar.chars().filter(|c| *c == '█').count();
            assert!((full as f64 - stays * BAR as f64).abs() <= 0.5, "{bar}");
        }
        assert!(bar(0.4, 0.02).contains('·'));
    }

    #[test]
    fn small_shares_keep_a_digit() {
        let cases = [
            (0.0, "0 %"),
            (0.004, "0.4 %"),
            (0.0099, "1 %"),
            (0.35, "35 %"),
            (1.0, "100 %"),
        ];
        for (share, text) in cases {
            assert_eq!(percent(share), text);
        }
    }
}
