//! Where the window, the weights that stay and the context lie, on the chip or in the memory
//! beside it: each needs room there and passes at the rate of that place.

use serde::Serialize;

use super::course::least_window;
use super::{Case, DecodeError, Software};
use crate::interval::Corner;
use crate::report::format::si;

/// Where the window lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WindowPlace {
    /// In the chip's own memory: each byte is read from there once.
    OnChip,
    /// In the memory beside the chip: each byte is written and read at its rate.
    Memory,
}

/// The window through which weights pass.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Window {
    /// Its size in bytes.
    pub bytes: u64,
    /// Where it lies.
    pub place: WindowPlace,
}

/// Least and largest window in the memory beside the chip, in bytes, where none is
/// asked for: as many as rate times latency takes, and no more than simulates quickly.
const IN_MEMORY: (f64, f64) = (64e6, 16e9);
/// How many times rate times latency such a window holds.
const LATENCIES: f64 = 4.0;

impl Case {
    /// Keys and values of the whole batch, in bytes.
    pub fn kv_bytes(&self) -> f64 {
        let each = self.model.kv_bytes_per_token * f64::from(self.context);
        each * f64::from(self.batch)
    }

    /// Operations of a lap.
    pub(super) fn flop(&self) -> f64 {
        2.0 * self.model.active_parameters * f64::from(self.batch)
    }

    /// Checks that what stays has room, and finds the windows that there could be:
    /// one if its size is given, otherwise one on the chip and one in memory.
    pub(super) fn windows(&self) -> Result<Vec<Window>, DecodeError> {
        let (home, _) = self.accelerator.home();
        let stays = match self.is_own() {
            true => self.model.weights_bytes,
            false => self.resident_bytes as f64,
        };
        let left = home.typical - stays - self.kv_bytes();
        if self.plan.is_some() {
            // Its window and what stays are those of a machine that there is.
            let bytes = self.window_bytes.unwrap_or(0);
            return Ok(vec![Window {
                bytes,
                place: WindowPlace::OnChip,
            }]);
        }
        self.check_stays(left, stays)?;
        if self.is_own() {
            return Ok(vec![Window {
                bytes: 0,
                place: WindowPlace::Memory,
            }]);
        }
        let has_memory = self.accelerator.memory.is_some();
        let on_chip = match has_memory {
            true => self.accelerator.sram_bytes.typical,
            false => left,
        };
        let in_memory = if has_memory { left } else { 0.0 };
        let least = least_window(match self.unit.lap_s {
            Some(_) => self.model.weights_bytes - stays,
            None => self.model.needed_bytes(self.batch),
        });
        let least = least.max(super::WINDOW_MIN);
        if let Some(bytes) = self.window_bytes {
            if bytes < least {
                return Err(DecodeError::Value {
                    what: "the window",
                    got: si(bytes as f64, "B"),
                    expected: format!(
                        "{} or more, because a lap in smaller pieces takes too long to simulate",
                        si(least as f64, "B")
                    ),
                });
            }
            let place = match bytes as f64 {
                size if size <= on_chip => WindowPlace::OnChip,
                size if size <= in_memory => WindowPlace::Memory,
                _ => return Err(self.no_room(bytes as f64, on_chip.max(in_memory))),
            };
            return Ok(vec![Window { bytes, place }]);
        }
        let mut windows = vec![Window {
            bytes: on_chip as u64,
            place: WindowPlace::OnChip,
        }];
        if has_memory && self.unit.lap_s.is_none() {
            let rate = self.unit.rate_bytes_per_s.high * f64::from(self.units.max(1));
            let rate = rate
                .max(self.feed_bytes_per_s)
                .min(self.accelerator.home().1.high);
            let wanted = LATENCIES * rate * self.unit.latency_s.high;
            let wanted = wanted.clamp(IN_MEMORY.0, IN_MEMORY.1);
            let bytes = wanted.max(least as f64).min(in_memory);
            windows.push(Window {
                bytes: bytes as u64,
                place: WindowPlace::Memory,
            });
        }
        windows.retain(|window| window.bytes >= least);
        match windows.is_empty() {
            true => Err(self.no_room(least as f64, left)),
            false => Ok(windows),
        }
    }

    /// A typical lap by the closed form and whole turns, in seconds, without looking at
    /// single extents; `None` where something has no room.
    pub(crate) fn closed_form_s(&self) -> Option<f64> {
        let windows = self.windows().ok()?;
        let needed = self.model.needed_bytes(self.batch);
        let laps = windows.into_iter().map(|window| {
            if self.is_own() {
                return self.compute_s(window, needed, 0.0, Corner::Typical);
            }
            let streamed = match self.unit.lap_s {
                Some(_) => self.model.weights_bytes,
                None => needed,
            };
            // What fits the window passes once and stays.
            let stays = streamed <= window.bytes as f64;
            let (near, streamed) = match stays {
                true => (needed, 0.0),
                false => (0.0, streamed),
            };
            let compute_s = self.compute_s(window, near, streamed, Corner::Typical);
            let units = f64::from(self.units.max(1));
            let rate = units * self.unit.rate_bytes_per_s.typical;
            match self.unit.lap_s {
                None => {
                    let latency_s = self.unit.latency_s.typical;
                    let window_s = streamed * latency_s / window.bytes as f64;
                    // Experts are known layer by layer, and have half of the window.
                    let chosen = (streamed - self.model.dense_bytes()).max(0.0);
                    let (layers, half) = (self.model.layers, window.bytes as f64 / 2.0);
                    let chosen_s = match chosen > 0.0 {
                        true => (chosen * latency_s / half).max(f64::from(layers) * latency_s),
                        false => 0.0,
                    };
                    compute_s.max(streamed / rate).max(window_s).max(chosen_s)
                }
                Some(_) if stays => compute_s,
                Some(lap) => {
                    let copies = (rate * lap.typical / streamed * (1.0 + 1e-9)).floor();
                    let turn_s = (lap.typical / copies.max(1.0)).max(streamed / rate);
                    turn_s * (compute_s / turn_s * (1.0 - 1e-9)).ceil().max(1.0)
                }
            }
        });
        laps.min_by(f64::total_cmp)
    }

    fn check_stays(&self, left: f64, stays: f64) -> Result<(), DecodeError> {
        if left >= 0.0 {
            return Ok(());
        }
        let home = self.accelerator.home().0.typical;
        if stays > home {
            return Err(DecodeError::Resident {
                stays_gb: stays * 1e-9,
                name: self.accelerator.name.clone(),
                room_gb: home * 1e-9,
            });
        }
        let each = self.model.kv_bytes_per_token * f64::from(self.context);
        Err(DecodeError::Context {
            batch: self.batch,
            context: self.context,
            kv_gb: self.kv_bytes() * 1e-9,
            name: self.accelerator.name.clone(),
            room_gb: (home - stays) * 1e-9,
            most: ((home - stays) / each) as u32,
        })
    }

    fn no_room(&self, window: f64, left: f64) -> DecodeError {
        DecodeError::Window {
            window_gb: window * 1e-9,
            name: self.accelerator.name.clone(),
            room_gb: left.max(0.0) * 1e-9,
        }
    }

    /// Compute of a lap that never waits, in seconds: arithmetic, or reading what is
    /// near at the rate of where it lies, whichever takes longer, and the software's
    /// time for each layer; at least what was measured. `local_bytes` stay, `streamed_bytes` pass the window.
    pub(super) fn compute_s(
        &self,
        window: Window,
        local_bytes: f64,
        streamed_bytes: f64,
        corner: Corner,
    ) -> f64 {
        let chip = &self.accelerator;
        // What was measured was measured with its software, and no machine is faster
        // than its parts.
        let (software, least_s) = match self.compute_s {
            Some(measured_s) => (&Software::ideal(), measured_s),
            None => (&self.software, 0.0),
        };
        let arithmetic_s = self.flop() / corner.more_is_better(chip.compute_flop_per_s);
        let local_bytes = local_bytes + self.kv_bytes();
        let (memory, on_chip) = match (chip.memory, window.place) {
            (None, _) => (0.0, local_bytes + streamed_bytes),
            (Some(_), WindowPlace::OnChip) => (local_bytes, streamed_bytes),
            (Some(_), WindowPlace::Memory) => (local_bytes + 2.0 * streamed_bytes, 0.0),
        };
        let rate = |range| corner.more_is_better(range);
        let memory_s = software.reading_s(memory, rate(chip.home().1), corner);
        let on_chip_s = software.reading_s(on_chip, rate(chip.sram_bytes_per_s), corner);
        let layers = f64::from(self.model.layers);
        let parts_s = arithmetic_s.max(memory_s).max(on_chip_s);
        least_s.max(parts_s + layers * software.layer_s(chip.count, self.batch, corner))
    }
}
