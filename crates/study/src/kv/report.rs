//! The result of a replay as a report.

use serde_json::json;

use super::trace::KvTrace;
use super::{KvPolicy, KvRow, replayed};
use crate::report::{
    Axis, Headline, Plot, PlotMark, PlotShape, Report, ReportTable, Series, format,
};

/// Replays a trace with room for so many tokens, under all policies. `done` is called after
/// each replay, from any thread.
pub fn kv_report(name: &str, trace: &KvTrace, sizes: &[u64], done: &(dyn Fn() + Sync)) -> Report {
    let rows = replayed(trace, sizes, done);
    let wanted = trace.tokens();
    let shares = Shares { wanted };
    let mut table = ReportTable::new(
        "",
        &[
            "policy",
            "room [tokens]",
            "found again",
            "written",
            "written a found token",
            "evicted blocks",
        ],
    );
    for row in &rows {
        table.row([
            row.policy.name().to_owned(),
            row.size.map_or_else(
                || format!("{} at the end", format::si(row.held_tokens as f64, "")),
                |size| format::si(size as f64, ""),
            ),
            format::percent(shares.of(row)),
            format::si(row.written_tokens as f64, ""),
            format::digits(row.written_tokens as f64 / row.hit_tokens as f64),
            row.evicted.to_string(),
        ]);
    }
    table.groups = sizes
        .iter()
        .enumerate()
        .map(|(index, &size)| {
            (
                3 * index,
                format!("room for {} tokens", format::si(size as f64, "")),
            )
        })
        .chain([(3 * sizes.len(), "room for all".to_owned())])
        .collect();
    let ours: Vec<&KvRow> = rows.iter().filter(|row| row.policy.is_default()).collect();
    let found = ours.iter().map(|row| {
        let size = row.size.unwrap_or_default() as f64;
        format!(
            "{} with room for {}",
            format::percent(shares.of(row)),
            format::si(size, "")
        )
    });
    Report {
        title: format!(
            "{name}: {} of {}, as the store of KV caches would have met them",
            format::counted(trace.len(), "request"),
            format::counted(format::si(wanted as f64, ""), "token")
        ),
        answer: format!(
            "Of all tokens of prompts the program's policy finds again {}; {} could be at most.",
            found.collect::<Vec<_>>().join(", "),
            rows.last()
                .map_or_else(String::new, |row| format::percent(shares.of(row))),
        ),
        tables: vec![table],
        plots: vec![plot(&rows, &shares)],
        notes: vec![
            "Tokens are counted in blocks of 64, each found only behind all before it, and a token \
             that is found is one that need not be computed. \"frequency with aging\" is the \
             program's own policy at work; belady knows the whole trace and is out of reach."
                .to_owned(),
            "A trace tells of prompts alone: answers, which the program keeps as well, and prompts \
             that are still in memory are not in it."
                .to_owned(),
        ],
        headline: ours.first().map(|row| Headline {
            what: "share of the tokens of prompts that is found again".to_owned(),
            value: shares.of(row),
            unit: "%",
        }),
        json: rows
            .iter()
            .map(|row| row_json(name, trace, row, &shares))
            .collect(),
        ..Report::default()
    }
}

struct Shares {
    wanted: u64,
}

impl Shares {
    fn of(&self, row: &KvRow) -> f64 {
        row.hit_tokens as f64 / self.wanted as f64
    }
}

fn plot(rows: &[KvRow], shares: &Shares) -> Plot {
    let limited = KvPolicy::ALL
        .into_iter()
        .filter(|&policy| policy != KvPolicy::Unlimited);
    let series = limited.map(|policy| {
        let of_policy = rows.iter().filter(|row| row.policy == policy);
        let mut points: Vec<(f64, f64)> = of_policy
            .filter_map(|row| Some((row.size? as f64, 100.0 * shares.of(row))))
            .collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        Series {
            name: policy.name().to_owned(),
            points,
            dashed: policy == KvPolicy::Belady,
            ..Series::default()
        }
    });
    let most = rows.last().map(|row| PlotMark {
        label: KvPolicy::Unlimited.name().to_owned(),
        x: None,
        y: 100.0 * shares.of(row),
    });
    Plot {
        title: "Tokens of prompts that are found again, over the room for them".to_owned(),
        caption: "Broken: what knowing the whole trace would give.".to_owned(),
        shape: PlotShape::Lines {
            x: Axis::log("room, in tokens", ""),
            y: Axis::linear("found again", "%"),
            series: series.collect(),
            marks: most.into_iter().collect(),
        },
    }
}

fn row_json(name: &str, trace: &KvTrace, row: &KvRow, shares: &Shares) -> serde_json::Value {
    json!({
        "policy": row.policy.name(),
        "default": row.policy.is_default(),
        "trace": name,
        "requests": trace.len(),
        "prompt_tokens": shares.wanted,
        "size_tokens": row.size,
        "hit_tokens": row.hit_tokens,
        "hit_share": shares.of(row),
        "written_tokens": row.written_tokens,
        "held_tokens": row.held_tokens,
        "evicted_blocks": row.evicted,
    })
}
