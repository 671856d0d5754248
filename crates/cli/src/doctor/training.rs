//! What writing to a drive, and a step of training from it, cost: rates in, findings out,
//! no I/O.

use std::path::Path;

use delayline_medium::{MixedRate, ReadRate};
use delayline_study::train::{Pass, Recipe};
use serde_json::{Value, json};

use super::{Finding, Mark};
use crate::output::format_seconds;
use crate::size::{format_count, format_decimal_size, format_rate};

/// The finding for a file of the user's, which is not written to.
pub fn not_written(path: &Path) -> Finding {
    let so = format!(
        "to know what training from this drive would cost, name a folder: delayline doctor {}",
        path.parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .unwrap_or(Path::new("."))
            .display()
    );
    let text = "not measured, because this file may not be written to";
    Finding::new("write rate", Mark::Good, text, so, Value::Null)
}

/// What writing will cost; `rates` begin with writes alone.
pub fn write_rate(rates: &[MixedRate]) -> Finding {
    let value = rates.iter().map(|rate| {
        json!({ "written_percent": rate.written_percent, "rate_bytes_per_s": rate.rate_bytes_per_s })
    });
    let value = Value::Array(value.collect());
    let words = rates.iter().map(|rate| {
        let rate_text = format_rate(rate.rate_bytes_per_s);
        match rate.written_percent {
            100 => rate_text,
            percent => format!("{rate_text} in all when {percent} % of it is written"),
        }
    });
    let text = words.collect::<Vec<_>>().join(", ");
    let so = "for half a second, until it was synced; a drive that caches writes is slower when they go on for minutes";
    Finding::new("write rate", Mark::Good, text, so, value)
}

/// A drive that lasts fewer steps than this deserves a warning.
const FEW_STEPS: f64 = 10_000.0;

/// What a step of training costs of time and of the drive; `mixed` ends with the rate of
/// reads and writes in equal parts.
pub fn step(params: u64, endurance: u64, reads: &[ReadRate], mixed: &[MixedRate]) -> Finding {
    let name = "training";
    let read = reads
        .iter()
        .map(|rate| rate.rate_bytes_per_s)
        .fold(0.0, f64::max);
    let mixed = mixed.last().map_or(0.0, |rate| rate.rate_bytes_per_s);
    if read <= 0.0 || mixed <= 0.0 {
        return Finding::new(
            name,
            Mark::Bad,
            "the drive moves nothing",
            "there is nothing to train from",
            Value::Null,
        );
    }
    let n = params as f64;
    // None of the updates waits for the next forward pass, or all do, as with clipping.
    let recipe = Recipe::named("adamw").expect("it is one of them");
    // Bytes read and written in equal parts go at the mixed rate, the rest of the reads alone.
    let pass_s = |pass: Pass| {
        let turns = pass.read.min(pass.written);
        (pass.read - turns) / read + (pass.written + turns) / mixed
    };
    let seconds = |waiting: f64| n * recipe.passes(waiting).map(pass_s).iter().sum::<f64>();
    let written_bytes = |waiting: f64| n * recipe.moved(waiting).written;
    let steps = |waiting: f64| (endurance as f64 / written_bytes(waiting)).floor();
    let (alone, waiting) = (seconds(0.0), seconds(1.0));
    let (left, waiting_left) = (steps(0.0), steps(1.0));
    let text = format!(
        "a step of {} parameters (AdamW in fp32, nothing kept) takes the drive {} and writes {}; with clipping {} and {}",
        format_count(params),
        format_seconds(alone),
        format_decimal_size(written_bytes(0.0)),
        format_seconds(waiting),
        format_decimal_size(written_bytes(1.0)),
    );
    let so = format!(
        "a step that computes for longer hides it; a drive made for {} lasts {} steps, or {}; the store takes {} of it, or {}",
        format_decimal_size(endurance as f64),
        format_count(left as u64),
        format_count(waiting_left as u64),
        format_decimal_size(2.0 * written_bytes(0.0)),
        format_decimal_size(2.0 * written_bytes(1.0)),
    );
    let value = json!({
        "params": params,
        "step_s": alone,
        "waiting_step_s": waiting,
        "written_bytes": written_bytes(0.0),
        "waiting_written_bytes": written_bytes(1.0),
        "endurance_bytes": endurance,
        "steps": left,
        "waiting_steps": waiting_left,
    });
    let mark = if left < FEW_STEPS {
        Mark::Mind
    } else {
        Mark::Good
    };
    Finding::new(name, mark, text, so, value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::judge::tests::check;

    #[test]
    fn a_step_of_training_is_costed() {
        let read = [ReadRate {
            read_len: 4 << 20,
            depth: 32,
            rate_bytes_per_s: 2e9,
        }];
        let mixed =
            [(100, 1e9), (50, 1.5e9)].map(|(written_percent, rate_bytes_per_s)| MixedRate {
                written_percent,
                rate_bytes_per_s,
            });
        check(
            write_rate(&mixed),
            Mark::Good,
            &["1.00 GB/s", "1.50 GB/s in all when 50 %"],
        );
        // 4 bytes at 2 GB/s and 24 at 1.5 GB/s for each of 1.5e9, and 32 in place of 24.
        let costs = step(1_500_000_000, 600_000_000_000_000, &read, &mixed);
        let words = [
            "1.5B parameters",
            "27.0 s and writes 18.0 GB",
            "35.0 s and 24.0 GB",
            "33.3k steps",
            "25k",
            "36.0 GB of it, or 48.0 GB",
        ];
        check(costs.clone(), Mark::Good, &words);
        assert_eq!(costs.value["steps"], 33333.0);
        assert!((costs.value["step_s"].as_f64().expect("a number") - 27.0).abs() < 1e-9);
        let (read, none) = (&read, &mixed[..0]);
        check(
            step(70_000_000_000, 600_000_000_000_000, read, &mixed),
            Mark::Mind,
            &["714 steps"],
        );
        check(step(1000, 1000, read, none), Mark::Bad, &["nothing"]);
        check(
            not_written(Path::new("models/m.gguf")),
            Mark::Good,
            &["delayline doctor models"],
        );
        check(not_written(Path::new("m.gguf")), Mark::Good, &["doctor ."]);
    }
}
