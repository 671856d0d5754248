//! The networks of G10's evaluation: what spilling activations costs there, and what it
//! would cost here. How much is moved is what G10 itself moved.

use delayline_plan::{DriveRates, Transfer};
use serde::Serialize;

use super::TrainError;
use super::simulate::{StackTier, simulate_stack};
use crate::datasheet::{Library, SheetKind};

/// Layers that a network is divided into.
const LAYERS: u32 = 200;
/// Of the compute of a step, the forward pass.
const FORWARD: f64 = 1.0 / 3.0;

/// A network of the evaluation; slowdowns are against a memory that holds everything.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OffloadRow {
    /// Which, with its batch.
    pub name: String,
    /// A step in memory, in seconds.
    pub step_s: f64,
    /// What is moved each way to flash, and to the host's memory, in bytes.
    pub moved_bytes: [f64; 2],
    /// As published: pages on demand.
    pub pages: f64,
    /// As published: FlashNeuron, where it ran.
    pub flashneuron: Option<f64>,
    /// As published: G10.
    pub g10: f64,
    /// The bound, and in virtual time, with everything on flash.
    pub flash: [f64; 2],
    /// The bound, and in virtual time, with the host's memory as G10 used it.
    pub flash_and_host: [f64; 2],
}

/// All networks that have a sheet.
///
/// # Errors
/// [`TrainError`] when a sheet lacks what it takes.
pub fn offload_rows(library: &Library) -> Result<Vec<OffloadRow>, TrainError> {
    let figure = |path: &str| Ok::<f64, TrainError>(library.figure(path)?.value.typical);
    let (room, pcie) = (figure("g10-machine.capacity")?, figure("g10-machine.rate")?);
    let flash_rate = figure("g10-flash.rate")?;
    let row = |id: &str| {
        let sheet = library.sheet(SheetKind::Offload, id)?;
        let get = |key: &str| sheet.get(key).typical;
        let step_s = get("step");
        let compute_s = [step_s * FORWARD, step_s * (1.0 - FORWARD)];
        let moved = [get("flash"), get("host")];
        let all = moved[0] + moved[1];
        let slow = |tiers: &[StackTier]| {
            let simulated_s = simulate_stack(tiers, LAYERS, compute_s)?;
            Ok::<f64, TrainError>(simulated_s / step_s)
        };
        let bound =
            |least_s: f64| compute_s.map(|pass| pass.max(least_s)).iter().sum::<f64>() / step_s;
        let tier = |spilled: f64, rate_bytes_per_s: f64| StackTier {
            room: room * spilled / all,
            spilled,
            rate_bytes_per_s,
        };
        let both = [
            tier(moved[0], flash_rate),
            tier(moved[1], pcie - flash_rate),
        ];
        Ok(OffloadRow {
            name: sheet.name.clone(),
            step_s,
            moved_bytes: moved,
            pages: get("slowdown_pages"),
            flashneuron: sheet
                .find("slowdown_flashneuron")
                .map(|value| value.typical),
            g10: get("slowdown_g10"),
            flash: [
                bound(one_way_s(all, flash_rate)),
                slow(&[tier(all, flash_rate)])?,
            ],
            flash_and_host: [
                bound(one_way_s(moved[0], flash_rate).max(one_way_s(all, pcie))),
                slow(&both)?,
            ],
        })
    };
    library
        .of_kind(SheetKind::Offload)
        .map(|sheet| row(&sheet.id))
        .collect()
}

fn one_way_s(bytes: f64, rate_bytes_per_s: f64) -> f64 {
    let read = Transfer {
        read: bytes.round() as u64,
        written: 0,
    };
    DriveRates::reading(rate_bytes_per_s).least_s(read)
}
