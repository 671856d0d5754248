//! The figures of a generation, defined here once for `run` and `bench`: what
//! was read, waited for and occupied, and how close to the physical limit that
//! came. Knows no wording.

use std::path::PathBuf;

use delayline_llama::{Circuit, Engine, Finish, Generated, Usage, cgroup};
use delayline_plan::Bound;
use serde::{Deserialize, Serialize};

/// What a generation took. Bytes, seconds, and shares of 1.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figures {
    pub model: ModelFigures,
    /// Of the answer.
    pub text: String,
    /// Ids of its tokens, that which ended it included.
    pub tokens: Vec<i32>,
    pub prompt_tokens: usize,
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
    /// Of the fiber loop, if the weights came from one.
    pub fiber: Option<FiberFigures>,
}

/// Which model it was.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelFigures {
    pub name: String,
    pub weight_bytes: u64,
    /// Whether it was streamed; else llama.cpp held all of it.
    pub is_streamed: bool,
}

/// Where the memory went.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MemoryFigures {
    pub budget_bytes: u64,
    /// The most that this process ever had in memory.
    pub peak_bytes: u64,
    /// The most that its cgroup ever used, page cache and other processes
    /// included; `None` where there is none with a limit.
    pub cgroup_peak_bytes: Option<u64>,
    pub window_bytes: u64,
    pub resident_weights_bytes: u64,
    pub kv_bytes: u64,
    pub buffer_bytes: u64,
}

/// What passed by. All zero or `None` where nothing was streamed.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LineFigures {
    /// All passes over the model, those for the prompt included.
    pub laps: u64,
    /// Bytes that a lap for one token took from the drive, on average.
    pub bytes_per_lap: u64,
    /// Bytes that all laps took from the drive, the first also for what stays.
    pub bytes_read: u64,
    /// Time in which compute waited, in all laps.
    pub stall_s: f64,
    /// From token to token.
    pub lap_s: Option<f64>,
    /// The part of it in which compute did not wait.
    pub compute_s: Option<f64>,
    /// `bytes_per_lap` over `lap_s`.
    pub stream_rate_bytes_per_s: Option<f64>,
    /// What the drive can do, measured afterwards.
    pub device_rate_bytes_per_s: Option<f64>,
    /// The physical limit `max(compute_s, bytes_per_lap / device rate)` as a
    /// share of `lap_s`. `bench` knows the compute of a fully resident process
    /// and takes that instead.
    pub of_limit: Option<f64>,
}

impl Figures {
    /// What is known while the engine lives. `open_s` is how long it took to open.
    pub fn of(engine: &mut Engine, generated: &Generated, open_s: f64) -> Self {
        let memory = engine.memory();
        let is_streamed = engine.stream().is_some();
        let facts = engine.file().facts();
        let name = facts.name.as_ref().unwrap_or(&facts.architecture).clone();
        Self {
            model: ModelFigures {
                name,
                weight_bytes: engine.file().weight_bytes(),
                is_streamed,
            },
            text: generated.text.clone(),
            tokens: generated.tokens.clone(),
            prompt_tokens: generated.prompt_tokens,
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
                budget_bytes: memory.budget,
                peak_bytes: Usage::now().peak,
                cgroup_peak_bytes: cgroup::current()
                    .filter(|group| group.limit_bytes().is_some())
                    .and_then(|group| group.peak_bytes()),
                window_bytes: memory.window,
                resident_weights_bytes: memory.resident_weights,
                kv_bytes: memory.kv,
                buffer_bytes: memory.buffers,
            },
            line: LineFigures::of(engine, generated),
            fiber: engine
                .stream()
                .and_then(|stream| stream.circuit().map(FiberFigures::of)),
        }
    }

    /// Adds what the drive can do, and so how close this came.
    pub fn compare(&mut self, device_rate_bytes_per_s: f64) {
        let line = &mut self.line;
        line.device_rate_bytes_per_s = Some(device_rate_bytes_per_s);
        line.of_limit = line
            .bound()
            .zip(line.lap_s)
            .map(|(bound, lap_s)| bound.share_of(lap_s));
    }
}

/// What the fiber loop was and did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FiberFigures {
    pub length_km: f64,
    pub group_index: f64,
    pub loops: u32,
    /// Gross, of one loop.
    pub rate_bit_per_s: f64,
    /// Share of it for framing and error correction.
    pub overhead: f64,
    pub guard_s: f64,
    /// Share of bits that go wrong in each lap of the light.
    pub residual_ber: f64,
    /// Bytes of the model that pass each second, all loops together.
    pub net_rate_bytes_per_s: f64,
    /// One lap of the light.
    pub lap_s: f64,
    /// How often the model circulates.
    pub copies: u32,
    /// From one pass of a piece to the next: `lap_s / copies`.
    pub turn_s: f64,
    /// What the loops hold of a model, once.
    pub capacity_bytes: u64,
    /// What they held of this one, each piece counted once.
    pub placed_bytes: u64,
    /// Streamed bytes of a lap for which there was no room, from the drive.
    pub left_out_bytes: u64,
    /// The same with framing and error correction: emulated beside the budget,
    /// for in the real machine it is in the glass.
    pub in_flight_bytes: u64,
    pub pieces: u64,
    pub pieces_taken: u64,
    pub bytes_taken: u64,
    /// Times a piece passed with nobody to take it.
    pub passes_missed: u64,
    /// Reads of what is not on the loop, from the drive: rows, experts, what stays.
    pub beside_bytes: u64,
    pub wrong_bits: u64,
    pub pieces_scrubbed: u64,
    pub cuts: u64,
    /// Read from the drive because the loop was dark.
    pub dark_bytes: u64,
    /// Pieces that this host was too slow to have there in time.
    pub pieces_late: u64,
    /// Compute of a lap for which the pieces were placed.
    pub placed_for_compute_s: f64,
    /// What the placement made of a lap, and the plain order would have.
    pub predicted_lap_s: f64,
    pub predicted_plain_lap_s: f64,
}

impl FiberFigures {
    pub fn of(circuit: &Circuit) -> Self {
        let (spec, seen) = (circuit.spec(), circuit.gauge().figures());
        Self {
            length_km: spec.length_km,
            group_index: spec.group_index,
            loops: spec.loops,
            rate_bit_per_s: spec.rate_bit_per_s,
            overhead: spec.overhead,
            guard_s: spec.guard_s,
            residual_ber: spec.residual_ber,
            net_rate_bytes_per_s: spec.net_bytes_per_s(),
            lap_s: spec.lap_s(),
            copies: circuit.copies(),
            turn_s: circuit.turn_s(),
            capacity_bytes: spec.capacity_bytes(),
            placed_bytes: seen.placed_bytes,
            left_out_bytes: circuit.left_out_bytes(),
            in_flight_bytes: seen.in_flight_bytes,
            pieces: seen.pieces,
            pieces_taken: seen.taken,
            bytes_taken: seen.taken_bytes,
            passes_missed: seen.missed,
            beside_bytes: seen.beside_bytes,
            wrong_bits: seen.wrong_bits,
            pieces_scrubbed: seen.scrubbed,
            cuts: seen.cuts,
            dark_bytes: seen.dark_bytes,
            pieces_late: seen.late,
            placed_for_compute_s: circuit.compute_s(),
            predicted_lap_s: circuit.coding().lap_s,
            predicted_plain_lap_s: circuit.plain_lap_s(),
        }
    }

    /// Whether a part of what streams has no room in the loop.
    pub fn is_split(&self) -> bool {
        self.left_out_bytes > 0
    }

    /// What a lap of so many bytes takes of both: the time that the loop needs for
    /// its part, one turn or none, and the bytes that the drive brings.
    pub fn parts_of(&self, bytes_per_lap: u64) -> (f64, u64) {
        let turns = f64::from(u8::from(self.placed_bytes > 0));
        let rest = bytes_per_lap.saturating_sub(self.placed_bytes);
        (turns * self.turn_s, rest)
    }

    /// What loop and drive can bring of laps of so many bytes, in bytes per second,
    /// where the drive brings what is not on the loop at this rate.
    pub fn rate_beside(&self, drive_bytes_per_s: f64, bytes_per_lap: u64) -> f64 {
        let (turn_s, rest) = self.parts_of(bytes_per_lap);
        bytes_per_lap as f64 / turn_s.max(rest as f64 / drive_bytes_per_s)
    }

    /// What the loop can bring of laps of so many bytes, in bytes per second: each
    /// once in a turn, for nothing comes by twice in one.
    pub fn rate_bytes_per_s(&self, bytes_per_lap: u64) -> f64 {
        (bytes_per_lap as f64 / self.turn_s).min(self.net_rate_bytes_per_s)
    }
}

impl LineFigures {
    fn of(engine: &mut Engine, generated: &Generated) -> Self {
        let laps = engine.laps();
        let Some(stream) = engine.stream() else {
            return Self {
                laps: laps.count,
                ..Self::default()
            };
        };
        let decode = generated.decode;
        // Of an answer of one token no lap was measured: then the plan's figure.
        let each = |total: f64| (decode.count > 0).then(|| total / decode.count as f64);
        let bytes_per_lap = match decode.bytes_read.checked_div(decode.count) {
            Some(bytes) => bytes,
            None => stream.bytes_per_lap(),
        };
        let lap_s = each(generated.decode_s);
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
            of_limit: None,
        }
    }

    /// The physical limit of a lap, once the device rate is known.
    pub fn bound(&self) -> Option<Bound> {
        let rate = self.device_rate_bytes_per_s?;
        Some(Bound::new(self.compute_s?, self.bytes_per_lap, rate))
    }
}

/// Files of a model, to measure the device with.
pub fn paths(engine: &Engine) -> Vec<PathBuf> {
    engine.file().paths()
}

#[cfg(test)]
mod tests {
    use super::*;

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
    #[test]
    fn a_split_lap_takes_the_longer_of_a_turn_and_the_rest() {
        for (turn_s, pieces, placed_bytes, rate) in [
            (5.0, 1, 700, 200.0),
            (1.0, 1, 700, 1000.0 / 3.0),
            (5.0, 0, 0, 100.0),
        ] {
            let fiber = FiberFigures {
                turn_s,
                pieces,
                placed_bytes,
                ..FiberFigures::default()
            };
            assert_eq!(fiber.rate_beside(100.0, 1000), rate, "{fiber:?}");
        }
    }
}
