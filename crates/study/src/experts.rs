//! Replays a recorded route of a mixture's experts under every caching policy, the program's
//! own among them, and under Belady's policy, which knows the whole route.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use delayline_plan::{
    ExpertPolicy, ExpertRoute, ReplayedExperts, RouteError, pool_shapes, replay_experts,
    replay_experts_ahead,
};
use rayon::prelude::*;
use serde_json::json;
use thiserror::Error;

use crate::report::{Axis, Plot, PlotShape, Report, ReportTable, Series, format};

/// Maximum length of a route file in bytes; a token of a large model takes 20 kB.
const ROUTE_BYTES_MAX: u64 = 256 << 20;

/// Why a file is no route.
#[derive(Debug, Error)]
pub enum RouteFileError {
    /// It cannot be read.
    #[error("{path} cannot be read")]
    Read {
        /// Which file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// It is not a route.
    #[error("{path} is no recorded route of experts")]
    Unsound {
        /// Which file.
        path: String,
        /// Why.
        source: RouteError,
    },
}

/// Reads a recorded route from a file.
///
/// # Errors
/// When there is none.
pub fn read_route(path: &Path) -> Result<ExpertRoute, RouteFileError> {
    let name = || path.display().to_string();
    let text = read(path).map_err(|source| RouteFileError::Read {
        path: name(),
        source,
    })?;
    ExpertRoute::parse(&text).map_err(|source| RouteFileError::Unsound {
        path: name(),
        source,
    })
}

fn read(path: &Path) -> io::Result<String> {
    let wrong = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    // Opening a pipe would block.
    if !std::fs::metadata(path)?.is_file() {
        return Err(wrong("it is no regular file"));
    }
    let mut text = String::new();
    File::open(path)?
        .take(ROUTE_BYTES_MAX + 1)
        .read_to_string(&mut text)?;
    match text.len() as u64 > ROUTE_BYTES_MAX {
        true => Err(wrong("a route of more than 256 MiB is none")),
        false => Ok(text),
    }
}

/// What one policy does in a memory of one size.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpertRow {
    /// Name of the policy.
    pub policy: &'static str,
    /// Whether the program uses it.
    pub is_default: bool,
    /// Memory, as a share of the bytes of all experts.
    pub share: f64,
    /// What became of the uses.
    pub done: ReplayedExperts,
}

/// What knows the whole route.
const BELADY: &str = "belady";

/// The policies in the order in which they are shown.
fn policies() -> impl Iterator<Item = &'static str> {
    let known = ExpertPolicy::ALL.into_iter().map(ExpertPolicy::name);
    known.chain([BELADY])
}

/// Replays a route under all policies with memories of these shares of the bytes of
/// all experts.
pub fn replayed(route: &ExpertRoute, shares: &[f64]) -> Vec<ExpertRow> {
    let cases: Vec<(f64, &'static str)> = shares
        .iter()
        .flat_map(|&share| policies().map(move |policy| (share, policy)))
        .collect();
    let row = |&(share, policy): &(f64, &'static str)| {
        let capacity = (route.expert_bytes() as f64 * share) as u64;
        let shapes = pool_shapes(&route.layers, capacity, route.chosen);
        let mut known = ExpertPolicy::ALL.into_iter();
        let done = match known.find(|known| known.name() == policy) {
            Some(known) => replay_experts(route, &shapes, |shape| known.start(shape)),
            None => replay_experts_ahead(route, capacity),
        };
        ExpertRow {
            policy,
            is_default: policy == ExpertPolicy::default().name(),
            share,
            done,
        }
    };
    cases.par_iter().map(row).collect()
}

/// The same as a report.
pub fn experts_report(route: &ExpertRoute, shares: &[f64]) -> Report {
    let rows = replayed(route, shares);
    let tokens = rows.first().map_or(0, |row| row.done.tokens);
    let mut heads = vec!["policy".to_owned()];
    for share in shares {
        let share = format::percent(*share);
        heads.extend([format!("hits at {share}"), "read a token".to_owned()]);
    }
    let mut table = ReportTable {
        heads,
        ..ReportTable::default()
    };
    for policy in policies() {
        let of_policy = rows.iter().filter(|row| row.policy == policy);
        let cells = of_policy.flat_map(|row| {
            [
                format::percent(row.done.hit_share()),
                format::si(row.done.bytes_per_token(), "B"),
            ]
        });
        table.row(std::iter::once(policy.to_owned()).chain(cells));
    }
    let of_default = rows.iter().filter(|row| row.is_default);
    let hits = of_default.map(|row| {
        let (hits, share) = (row.done.hit_share(), row.share);
        format!("{} at {}", format::percent(hits), format::percent(share))
    });
    let hits = hits.collect::<Vec<_>>().join(", ");
    let layers = route.layers.len();
    let count = route.layers.iter().map(|layer| layer.count).max();
    Report {
        title: format!(
            "Experts of {}: {} of {}, {} of which a token uses, {} in all",
            match route.model.is_empty() {
                true => "a model",
                false => &route.model,
            },
            format::counted(layers, "layer"),
            count.unwrap_or(0),
            route.chosen,
            format::si(route.expert_bytes() as f64, "B"),
        ),
        answer: format!("Experts that are in memory when they are used, by next-use: {hits}."),
        tables: vec![table],
        plots: vec![plot(&rows)],
        notes: vec![
            format!(
                "Counted: {} in the last three quarters of the answer; the prompt is read first. A \
                 share is of the bytes of all experts, frames for those that are read for one use \
                 included.",
                format::counted(tokens, "token")
            ),
            "next-use is what the program does. belady knows the whole route and is out of \
             reach: it is the yardstick."
                .to_owned(),
        ],
        json: rows.iter().map(|row| row_json(route, row)).collect(),
        ..Report::default()
    }
}

/// Hits over the memory, a line for each policy.
fn plot(rows: &[ExpertRow]) -> Plot {
    let series = policies().map(|policy| {
        let of_it = rows.iter().filter(|row| row.policy == policy);
        let mut points: Vec<(f64, f64)> = of_it
            .map(|row| (100.0 * row.share, 100.0 * row.done.hit_share()))
            .collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        Series {
            name: policy.to_owned(),
            points,
            dashed: policy == BELADY,
            ..Series::default()
        }
    });
    Plot {
        title: "Experts that are in memory when they are used, over the memory".to_owned(),
        caption: "Broken: what knowing the whole route would give.".to_owned(),
        shape: PlotShape::Lines {
            x: Axis::log("memory, of the bytes of all experts", "%"),
            y: Axis::linear("in memory when used", "%"),
            series: series.collect(),
            marks: Vec::new(),
        },
    }
}

fn row_json(route: &ExpertRoute, row: &ExpertRow) -> serde_json::Value {
    json!({
        "policy": row.policy,
        "default": row.is_default,
        "share": row.share,
        "hits": row.done.hit_share(),
        "bytes_per_token": row.done.bytes_per_token(),
        "tokens": row.done.tokens,
        "uses": row.done.hits + row.done.misses,
        "model": route.model,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two layers of four experts, of which each token uses one, in turns.
    fn round() -> ExpertRoute {
        let mut text = String::from("0,0,0,0,0,0,0,0,4096\n0,0,0,1,0,0,0,0,4096\n");
        for step in 0..40 {
            for layer in 0..2 {
                let expert = (step + layer) % 4;
                text += &format!("0,1,{step},{layer},0,{expert},0,0,4096\n");
            }
        }
        ExpertRoute::parse(&text).expect("a route")
    }

    #[test]
    fn a_known_route_gives_known_figures() {
        let rows = replayed(&round(), &[0.5, 1.0]);
        let done = |policy, share| {
            let row = rows.iter().find(|r| r.policy == policy && r.share == share);
            row.expect("there is a row").done.clone()
        };
        for policy in policies() {
            assert_eq!(done(policy, 1.0).hit_share(), 1.0, "{policy}");
            assert_eq!(done(policy, 1.0).tokens, 30, "{policy}");
        }
        // In turns, the least recently used is the next that is used.
        assert_eq!(done("lru", 0.5).hits, 0);
        assert_eq!(done("lru", 0.5).bytes_per_token(), 8192.0);
        // Of four frames one passes: three of eight stay.
        assert_eq!(done("first-come", 0.5).hits, 60 * 3 / 8);
        assert!(done("belady", 0.5).hits >= done("next-use", 0.5).hits);
    }

    #[test]
    fn what_is_no_regular_file_is_refused() {
        let told = read_route(Path::new("/dev/zero")).expect_err("no file");
        assert!(matches!(told, RouteFileError::Read { .. }), "{told}");
    }
}
