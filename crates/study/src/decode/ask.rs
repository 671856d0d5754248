//! From names to a case: which data sheets, which figures given instead. Knows
//! the library; runs nothing.

use super::{Accelerator, Case, DecodeError};
use crate::datasheet::Library;
use crate::media::{self, Unit};
use crate::model::Model;
use crate::range::Range;

/// What is asked, by names; everything that is the same for all cases of a
/// table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ask {
    /// Weights of so many bytes instead of a model of a data sheet.
    pub weights_bytes: Option<u64>,
    /// A medium of this rate and latency, in bytes per second and seconds,
    /// instead of one of a data sheet.
    pub measured: Option<(f64, f64)>,
    /// Tokens of context of each sequence.
    pub context: u32,
    /// At least so many units of the medium; 0 for as many as hold the model.
    pub units: u32,
    /// Enough units for this rate, in bytes per second; 0 for no matter.
    pub feed_bytes_per_s: f64,
    /// The window in bytes; the accelerator's SRAM if `None`.
    pub window_bytes: Option<u64>,
    /// Weights that stay with the accelerator, in bytes.
    pub resident_bytes: u64,
    /// Compute of a lap in seconds, where it was measured.
    pub compute_s: Option<f64>,
}

/// How many layers weights have of which only the size is known: so many that
/// none is larger than a few per cent of them.
const PLAIN_LAYERS: u32 = 32;

impl Ask {
    /// The case of a model, an accelerator, a medium (`own` for the
    /// accelerator's memory) and a batch. Names are not looked at where a
    /// figure is given instead.
    ///
    /// # Errors
    /// [`DecodeError`] when there is no such data sheet or a figure cannot be.
    pub fn case(
        &self,
        library: &Library,
        model: &str,
        accelerator: &str,
        medium: &str,
        batch: u32,
    ) -> Result<Case, DecodeError> {
        let accelerator = Accelerator::of(library, accelerator)?;
        let model = match self.weights_bytes {
            Some(bytes) => Model::plain("weights", PLAIN_LAYERS, bytes as f64),
            None => Model::of(library, model)?,
        };
        let own = self.measured.is_none() && medium == "own";
        let accelerator = match own {
            true => enough(accelerator, &model, self, batch),
            false => accelerator,
        };
        let unit = match self.measured {
            Some((rate, latency_s)) => measured(rate, latency_s)?,
            None if own => accelerator.own_memory(library)?,
            None => media::unit(library, medium)?,
        };
        // Its own memory is as large and as fast as it is.
        let (units, feed_bytes_per_s) = match own {
            true => (0, 0.0),
            false => (self.units, self.feed_bytes_per_s),
        };
        Ok(Case {
            model,
            accelerator,
            unit,
            units,
            feed_bytes_per_s,
            batch,
            context: self.context,
            window_bytes: self.window_bytes,
            resident_bytes: self.resident_bytes,
            compute_s: self.compute_s,
        })
    }
}

/// As many accelerators as it takes to hold the model, keys and values in their
/// own memories; at least so many as are asked for.
fn enough(one: Accelerator, model: &Model, ask: &Ask, batch: u32) -> Accelerator {
    let Some((memory, _)) = one.memory else {
        return one;
    };
    let tokens = f64::from(ask.context) * f64::from(batch);
    let held = model.weights_bytes + model.kv_bytes_per_token * tokens;
    let count = (held / memory.typical).ceil().clamp(1.0, 1e6) as u32;
    one.times(count.max(ask.units))
}

/// A medium of which rate and latency were measured, and that holds anything.
fn measured(rate_bytes_per_s: f64, latency_s: f64) -> Result<Unit, DecodeError> {
    let wrong = |what, got: f64, expected: &str| DecodeError::Value {
        what,
        got: got.to_string(),
        expected: expected.to_owned(),
    };
    if !(rate_bytes_per_s > 0.0 && rate_bytes_per_s.is_finite()) {
        return Err(wrong(
            "the rate",
            rate_bytes_per_s,
            "above 0 bytes per second",
        ));
    }
    if !(latency_s >= 0.0 && latency_s.is_finite()) {
        return Err(wrong("the latency", latency_s, "0 seconds or more"));
    }
    let exact = Range::exact;
    let (rate, latency) = (exact(rate_bytes_per_s), exact(latency_s));
    Ok(Unit::plain(
        "measured",
        "as measured",
        exact(1e18),
        rate,
        latency,
    ))
}
