//! Accelerators: arithmetic, memory on the chip and beside it, power and price.

use serde::Serialize;

use super::DecodeError;
use crate::datasheet::{Library, SheetError, SheetKind};
use crate::interval::Interval;
use crate::media::Unit;

/// What computes, in base units; several that share each layer count as one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Accelerator {
    /// For people.
    pub name: String,
    /// How many they are.
    pub count: u32,
    /// Arithmetic, in operations per second.
    pub compute_flop_per_s: Interval,
    /// Memory on the chip, in bytes.
    pub sram_bytes: Interval,
    /// Its rate, in bytes per second.
    pub sram_bytes_per_s: Interval,
    /// Memory beside the chip: bytes and bytes per second.
    pub memory: Option<(Interval, Interval)>,
    /// What it draws, in watts.
    pub power_w: Interval,
    /// What it costs, in dollars.
    pub price: Interval,
    /// Which of both its data sheet does not say; it counts as nothing.
    pub unknown: Vec<&'static str>,
}

impl Accelerator {
    /// The accelerator of a data sheet.
    ///
    /// # Errors
    /// [`SheetError`] when there is none.
    pub fn of(library: &Library, id: &str) -> Result<Self, SheetError> {
        let sheet = library.sheet(SheetKind::Accelerator, id)?;
        let known = |key| sheet.find(key).unwrap_or(Interval::exact(0.0));
        let unknown = ["power", "price"].into_iter();
        Ok(Self {
            name: sheet.name.clone(),
            count: 1,
            compute_flop_per_s: sheet.get("compute"),
            sram_bytes: sheet.get("sram"),
            sram_bytes_per_s: sheet.get("sram_rate"),
            memory: sheet.find("memory").zip(sheet.find("memory_rate")),
            power_w: known("power"),
            price: known("price"),
            unknown: unknown.filter(|key| sheet.find(key).is_none()).collect(),
        })
    }

    /// So many of them, each layer divided among them evenly. What dividing costs is
    /// in the software's latency.
    pub fn times(self, count: u32) -> Self {
        if count == 1 {
            return self;
        }
        let factor = f64::from(count);
        Self {
            name: format!("{count} × {}", self.name),
            count: self.count * count,
            compute_flop_per_s: self.compute_flop_per_s * factor,
            sram_bytes: self.sram_bytes * factor,
            sram_bytes_per_s: self.sram_bytes_per_s * factor,
            memory: self
                .memory
                .map(|(bytes, rate)| (bytes * factor, rate * factor)),
            power_w: self.power_w * factor,
            price: self.price * factor,
            unknown: self.unknown,
        }
    }

    /// Where weights and context stay: the memory beside the chip, or the chip's own
    /// where there is no other; bytes and bytes per second.
    pub fn home(&self) -> (Interval, Interval) {
        let on_chip = (self.sram_bytes, self.sram_bytes_per_s);
        self.memory.unwrap_or(on_chip)
    }

    /// Its own memory as a medium. Power and price are in the accelerator's.
    ///
    /// # Errors
    /// [`DecodeError::NoMemory`] where there is only SRAM.
    pub fn own_memory(&self, library: &Library) -> Result<Unit, DecodeError> {
        let Some((capacity, rate)) = self.memory else {
            return Err(DecodeError::NoMemory(self.name.clone()));
        };
        let latency = library.figure("hbm3e.latency")?.value;
        Ok(Unit::plain(
            "own",
            "its own memory",
            capacity,
            rate,
            latency,
        ))
    }
}
