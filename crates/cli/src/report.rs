//! The figures of a generation, for `run` and `bench`: what was read, waited for and
//! occupied, and how close to the physical limit that came. Their text is not here.

use std::path::PathBuf;

use delayline_engine::{LedgerFigures, LoadedBytes, Stream, Usage, cgroup};
use delayline_llama::{Finish, Generated, LlamaEngine};
use delayline_plan::{
    Bound, ExpertPolicy, ExpertRoute, ReplayedExperts, lap_bound_s, pool_shapes, replay_experts,
    replay_experts_ahead,
};
use serde::{Deserialize, Serialize};

use crate::medium::{self, MediumReport};

/// The figures of a generation. Bytes, seconds, and shares of 1.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figures {
    pub model: ModelFigures,
    /// Text of the answer.
    pub text: String,
    /// Ids of its tokens, the one that ended it included.
    pub tokens: Vec<i32>,
    pub prompt_tokens: usize,
    /// Tokens of the prompt that were in a KV cache and not computed.
    pub cached_tokens: usize,
    pub generated_tokens: usize,
    /// From the start until the model was ready.
    pub open_s: f64,
    /// From then on until the first token; `None` if there was none.
    pub time_to_first_token_s: Option<f64>,
    /// Tokens after the first, over the time they took; `None` if there were none.
    pub decode_tokens_per_s: Option<f64>,
    /// `end` (the model's decision), `length`, `full` (the context) or `interrupted`.
    pub finish: &'static str,
    pub memory: MemoryFigures,
    pub line: LineFigures,
    /// The medium between the files and the laps.
    #[serde(flatten)]
    pub medium: MediumReport,
}

/// Which model it was.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelFigures {
    pub name: String,
    pub weight_bytes: u64,
    /// Whether it was streamed; else llama.cpp held the whole model.
    pub is_streamed: bool,
    /// What its bytes were held against when llama.cpp loaded them; `None` if it was streamed.
    pub loaded: Option<LoadedBytes>,
}

/// Where the memory went.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MemoryFigures {
    #[serde(flatten)]
    pub ledger: LedgerFigures,
    /// Peak memory of this process.
    pub peak_bytes: u64,
    /// Peak memory of its cgroup, page cache and other processes included; `None`
    /// without a cgroup that has a limit.
    pub cgroup_peak_bytes: Option<u64>,
}

/// What was streamed; all zero or `None` where nothing was.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LineFigures {
    /// All laps, those for the prompt included.
    pub laps: u64,
    /// Bytes that a lap for one token took from the drive, on average.
    pub bytes_per_lap: u64,
    /// Bytes that all laps took from the drive; the first also those of weights that stay.
    pub bytes_read: u64,
    /// Time in which compute waited, in all laps.
    pub stall_s: f64,
    /// Time of a decoding lap, on average.
    pub lap_s: Option<f64>,
    /// Part of it in which compute did not wait.
    pub compute_s: Option<f64>,
    /// `bytes_per_lap` over `lap_s`.
    pub stream_rate_bytes_per_s: Option<f64>,
    /// The device rate, measured afterwards.
    pub device_rate_bytes_per_s: Option<f64>,
    /// Share of the time in which the drive was idle, by these two rates.
    pub drive_idle: Option<f64>,
    /// The physical limit `max(compute_s, bytes_per_lap / device rate)` as a
    /// share of `lap_s`. `bench` knows the compute of a fully resident process
    /// and takes that instead.
    pub of_limit: Option<f64>,
    /// How bytes were checked; `None` where they are trusted.
    pub check: Option<CheckFigures>,
    /// The use of experts, for a mixture whose experts have frames.
    pub experts: Option<ExpertUseFigures>,
}

/// The use of experts in all laps, the prompt's included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct ExpertUseFigures {
    /// Bytes of frames.
    pub capacity_bytes: u64,
    /// Bytes of all experts of the model.
    pub all_bytes: u64,
    /// Distinct experts that layers of laps used.
    pub used: u64,
    /// Those of them that were in memory.
    pub hits: u64,
    /// Bytes that were read for the others.
    pub bytes_read: u64,
    /// Bytes read before they were asked for, because experts had been hot in earlier runs.
    pub warmed_bytes: u64,
    /// Guesses of experts.
    pub guesses: GuessFigures,
    /// Share of hits in the last laps, without long prompts, when they are replayed from
    /// empty frames.
    pub last_hits: Option<f64>,
    /// The same with all choices known in advance.
    pub clairvoyant_hits: Option<f64>,
    /// The limit of a lap with all choices known in advance, as a share of `lap_s`.
    pub of_clairvoyant: Option<f64>,
}

/// Guesses of the experts that the next layer would use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GuessFigures {
    /// Share of the used experts that had been guessed; `None` where no guess was made.
    pub accuracy: Option<f64>,
    /// The same of only those that were not in memory.
    pub accuracy_of_misses: Option<f64>,
    /// Bytes that were read because of a guess.
    pub bytes: u64,
    /// Share of these bytes that were not used.
    pub waste: Option<f64>,
}

/// The use of experts when a route is replayed in as much memory, over the last three
/// quarters of its laps.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReplayFigures {
    /// By the policy in use.
    pub here: ReplayedExperts,
    /// By a policy that knows the whole route.
    pub ahead: ReplayedExperts,
}

impl ReplayFigures {
    /// Replays a route in `capacity` bytes of memory for experts.
    pub fn of(route: &ExpertRoute, capacity: u64, policy: ExpertPolicy) -> Self {
        let shapes = pool_shapes(&route.layers, capacity, route.chosen);
        Self {
            here: replay_experts(route, &shapes, |shape| policy.start(shape)),
            ahead: replay_experts_ahead(route, capacity),
        }
    }
}

/// The least time of laps, in seconds, each limited by its own bytes: the sum over laps of
/// the longer of compute and bytes over the device's rate.
pub fn limit_s(compute_s: f64, lap_bytes: &[u64], rate_bytes_per_s: f64) -> f64 {
    let laps = lap_bytes.iter();
    laps.map(|&bytes| lap_bound_s(compute_s, bytes, rate_bytes_per_s))
        .sum()
}

impl GuessFigures {
    /// The end of a line on experts; empty where no guess was made.
    pub fn text(&self) -> String {
        let percent = |share: f64| format!("{:.0} %", 100.0 * share);
        let Some(early) = self.accuracy_of_misses else {
            return String::new();
        };
        let waste = self.waste.unwrap_or(0.0);
        let (early, waste) = (percent(early), percent(waste));
        format!("; of the missing {early} had been guessed, {waste} of the bytes for that in vain")
    }

    /// The guesses of a stream since its start.
    pub fn of(stream: &mut Stream) -> Self {
        let share = |part: u64, of: u64| (of > 0).then(|| part as f64 / of as f64);
        let counts = stream.guess_counts().unwrap_or_default();
        Self {
            accuracy: share(counts.right, counts.named),
            accuracy_of_misses: share(counts.early, counts.missed),
            bytes: counts.bytes,
            waste: share(counts.wasted, counts.bytes),
        }
    }
}

/// How the bytes that were read were checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct CheckFigures {
    /// Whether each part of the model has a seal; else the first read is trusted.
    pub is_sealed: bool,
    /// Bytes that were compared with known hashes.
    pub checked_bytes: u64,
    /// Bytes that were read for the first time and trusted.
    pub learned_bytes: u64,
    /// Time spent on it in all laps.
    pub check_s: f64,
    /// Time of all laps.
    pub laps_s: f64,
    /// Reads that brought wrong bytes, and were tried again.
    pub wrong_reads: u64,
}

impl Figures {
    /// The figures that are known while the engine lives. `open_s` is how long it took to open.
    pub fn of(engine: &mut LlamaEngine, generated: &Generated, open_s: f64) -> Self {
        let ledger = engine.ledger().figures();
        let is_streamed = engine.stream().is_some();
        let facts = engine.file().facts();
        let name = facts.name.as_ref().unwrap_or(&facts.architecture).clone();
        Self {
            model: ModelFigures {
                name,
                weight_bytes: engine.file().weight_bytes(),
                is_streamed,
                loaded: engine.loaded(),
            },
            text: generated.text.clone(),
            tokens: generated.tokens.clone(),
            prompt_tokens: generated.prompt_tokens,
            cached_tokens: generated.cached_tokens,
            generated_tokens: generated.tokens.len(),
            open_s,
            time_to_first_token_s: (!generated.tokens.is_empty())
                .then_some(generated.first_token_s),
            decode_tokens_per_s: generated.decode_tokens_per_s(),
            finish: match generated.finish {
                Finish::End => "end",
                Finish::Length => "length",
                Finish::Full => "full",
                Finish::Stopped => "interrupted",
            },
            memory: MemoryFigures {
                ledger,
                peak_bytes: Usage::now().peak,
                cgroup_peak_bytes: cgroup::current()
                    .filter(|group| group.limit_bytes().is_some())
                    .and_then(|group| group.peak_bytes()),
            },
            line: LineFigures::of(engine, generated),
            medium: medium::report(engine),
        }
    }

    /// Adds the device rate, and the figures that follow from it.
    pub fn compare(&mut self, device_rate_bytes_per_s: f64) {
        let line = &mut self.line;
        line.device_rate_bytes_per_s = Some(device_rate_bytes_per_s);
        line.of_limit = line
            .bound()
            .zip(line.lap_s)
            .map(|(bound, lap_s)| bound.share_of(lap_s));
        let rate = line.stream_rate_bytes_per_s;
        line.drive_idle = rate.map(|rate| (1.0 - rate / device_rate_bytes_per_s).max(0.0));
    }

    /// Adds the hits with all choices known in advance, from the choices of the last laps.
    /// Takes memory of its own, so call it once the engine is gone.
    pub fn look_back(&mut self, choices: &ExpertRoute, policy: ExpertPolicy) {
        let (lap_s, compute_s) = (self.line.lap_s, self.line.compute_s);
        let rate = self.line.device_rate_bytes_per_s;
        let Some(experts) = self.line.experts.as_mut() else {
            return;
        };
        let ReplayFigures { here, ahead } =
            ReplayFigures::of(choices, experts.capacity_bytes, policy);
        if ahead.tokens == 0 {
            return;
        }
        experts.last_hits = Some(here.hit_share());
        experts.clairvoyant_hits = Some(ahead.hit_share());
        let limit = |((lap_s, compute_s), rate): ((f64, f64), f64)| {
            limit_s(compute_s, &ahead.lap_bytes, rate) / (lap_s * ahead.tokens as f64)
        };
        experts.of_clairvoyant = lap_s.zip(compute_s).zip(rate).map(limit);
    }
}

impl LineFigures {
    fn of(engine: &mut LlamaEngine, generated: &Generated) -> Self {
        let laps = engine.laps();
        let Some(stream) = engine.stream() else {
            return Self {
                laps: laps.count,
                ..Self::default()
            };
        };
        let decode = generated.decode;
        // An answer of one token has no decoding lap: the plan's figure stands in.
        let each = |total: f64| (decode.count > 0).then(|| total / decode.count as f64);
        let bytes_per_lap = match decode.bytes_read.checked_div(decode.count) {
            Some(bytes) => bytes,
            None => stream.bytes_per_lap(),
        };
        let lap_s = each(generated.decode_s);
        let check = stream.check_counts().map(|counts| CheckFigures {
            is_sealed: stream.unsealed().is_empty(),
            checked_bytes: counts.checked_bytes,
            learned_bytes: counts.learned_bytes,
            check_s: counts.ns as f64 * 1e-9,
            laps_s: laps.ns as f64 * 1e-9,
            wrong_reads: counts.wrong,
        });
        let experts = stream.expert_counts().map(|counts| ExpertUseFigures {
            capacity_bytes: stream.expert_capacity(),
            all_bytes: stream.expert_bytes(),
            used: counts.used,
            hits: counts.hits,
            bytes_read: counts.bytes_read,
            warmed_bytes: stream.warmed_bytes(),
            guesses: GuessFigures::of(stream),
            ..ExpertUseFigures::default()
        });
        let stall_s = each(decode.stall_ns as f64 * 1e-9);
        Self {
            laps: laps.count,
            bytes_per_lap,
            bytes_read: laps.bytes_read,
            stall_s: laps.stall_ns as f64 * 1e-9,
            lap_s,
            compute_s: lap_s.zip(stall_s).map(|(lap, stall)| lap - stall),
            stream_rate_bytes_per_s: lap_s.map(|lap| bytes_per_lap as f64 / lap),
            device_rate_bytes_per_s: None,
            drive_idle: None,
            of_limit: None,
            check,
            experts,
        }
    }

    /// The physical limit of a lap, if the device rate is known.
    pub fn bound(&self) -> Option<Bound> {
        let rate = self.device_rate_bytes_per_s?;
        Some(Bound::new(self.compute_s?, self.bytes_per_lap, rate))
    }
}

/// The files of a model, for measuring the device.
pub fn paths(engine: &LlamaEngine) -> Vec<PathBuf> {
    engine.file().paths()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn laps_that_differ_are_limited_each_by_its_own_bytes() {
        // Half of them read for 3 s, half compute for 1 s; their mean would take 1.5 s.
        let laps = [0, 3000, 0, 3000];
        assert_eq!(limit_s(1.0, &laps, 1000.0), 8.0);
        assert_eq!(limit_s(1.0, &[], 1000.0), 0.0);
    }

    #[test]
    fn the_limit_is_the_slower_side() {
        let line = LineFigures {
            bytes_per_lap: 1000,
            lap_s: Some(2.0),
            compute_s: Some(0.5),
            ..LineFigures::default()
        };
        assert_eq!(line.bound(), None);
        for (rate, lap_s) in [(1000.0, 1.0), (4000.0, 0.5)] {
            let line = LineFigures {
                device_rate_bytes_per_s: Some(rate),
                ..line.clone()
            };
            assert_eq!(line.bound().map(|bound| bound.lap_s()), Some(lap_s));
        }
    }
}
