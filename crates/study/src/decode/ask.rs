//! From names and options to a case of decoding.

use std::sync::Arc;

use super::{Accelerator, Case, DecodeError, MEASURED, OWN, Planned, Software};
use crate::datasheet::Library;
use crate::interval::Interval;
use crate::media::{self, Delivery, Unit};
use crate::model::LanguageModel;

/// What is asked, by names; everything that is the same for all cases of a
/// table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CaseOptions {
    /// Weights of so many bytes instead of a model of a data sheet.
    pub weights_bytes: Option<u64>,
    /// A medium as it was measured instead of one of a data sheet.
    pub measured: Option<MeasuredMedium>,
    /// A plan of the program's instead of a model of a data sheet.
    pub plan: Option<Arc<Planned>>,
    /// How many accelerators share each layer; 0 for one, or for as many as hold the
    /// model where it is in their own memories.
    pub accelerators: u32,
    /// Id of the software's data sheet; [`DEFAULT_SOFTWARE`] if empty.
    pub software: String,
    /// Tokens of context of each sequence.
    pub context: u32,
    /// At least so many units of the medium; 0 for as many as hold the model.
    pub units: u32,
    /// Enough units for this rate, in bytes per second; 0 for no matter.
    pub feed_bytes_per_s: f64,
    /// The window in bytes; if `None`, on the chip or in memory, whichever is better.
    pub window_bytes: Option<u64>,
    /// Weights that stay with the accelerator, in bytes.
    pub resident_bytes: u64,
    /// Compute of a lap in seconds, where it was measured.
    pub compute_s: Option<f64>,
}

/// A medium of which this is known, and that holds anything.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MeasuredMedium {
    /// In bytes per second.
    pub rate_bytes_per_s: f64,
    /// In seconds.
    pub latency_s: f64,
    /// A turn in seconds, of a loop in which everything comes by.
    pub turn_s: Option<f64>,
}

/// Software that is tuned for one model, as most of the systems that the study is held
/// against.
pub const DEFAULT_SOFTWARE: &str = "tuned";

/// How many layers weights have of which only the size is known: so many that
/// none is larger than a few per cent of them.
const PLAIN_LAYERS: u32 = 32;

impl CaseOptions {
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
        let model = match (&self.plan, self.weights_bytes) {
            (Some(plan), _) => LanguageModel::plain(model, 1, plan.course.weights_bytes() as f64),
            (None, Some(bytes)) => LanguageModel::plain("weights", PLAIN_LAYERS, bytes as f64),
            (None, None) => LanguageModel::of(library, model)?,
        };
        let resident_bytes = match &self.plan {
            Some(plan) => plan.course.residency.resident_bytes,
            None => self.resident_bytes,
        };
        let software = match self.software.as_str() {
            "" => Software::of(library, DEFAULT_SOFTWARE)?,
            "ideal" => Software::ideal(),
            id => Software::of(library, id)?,
        };
        let own = self.measured.is_none() && medium == OWN;
        let accelerator = match own {
            true => enough(accelerator, &model, self, batch),
            false => accelerator.times(self.accelerators.max(1)),
        };
        let unit = match self.measured {
            Some(measured) => measured.unit()?,
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
            software,
            unit,
            units,
            feed_bytes_per_s,
            batch,
            context: self.context,
            window_bytes: self.window_bytes,
            resident_bytes,
            compute_s: self.compute_s,
            plan: self.plan.clone(),
        })
    }
}

/// As many accelerators as it takes to hold the model, keys and values in their
/// own memories; at least so many as are asked for.
fn enough(one: Accelerator, model: &LanguageModel, ask: &CaseOptions, batch: u32) -> Accelerator {
    let Some((memory, _)) = one.memory else {
        return one;
    };
    let tokens = f64::from(ask.context) * f64::from(batch);
    let held = model.weights_bytes + model.kv_bytes_per_token * tokens;
    let count = (held / memory.typical).ceil().clamp(1.0, 1e6) as u32;
    one.times(count.max(ask.units).max(ask.accelerators))
}

impl MeasuredMedium {
    fn unit(&self) -> Result<Unit, DecodeError> {
        let positive = |what, got: f64, unit: &str| match got > 0.0 && got.is_finite() {
            true => Ok(()),
            false => Err(DecodeError::Value {
                what,
                got: got.to_string(),
                expected: format!("above 0 {unit}"),
            }),
        };
        positive("the rate", self.rate_bytes_per_s, "bytes per second")?;
        if !(self.latency_s >= 0.0 && self.latency_s.is_finite()) {
            return Err(DecodeError::Value {
                what: "the latency",
                got: self.latency_s.to_string(),
                expected: "0 seconds or more".to_owned(),
            });
        }
        if let Some(turn_s) = self.turn_s {
            positive("the turn", turn_s, "seconds")?;
        }
        let exact = Interval::exact;
        let rate = self.rate_bytes_per_s;
        let capacity = self.turn_s.map_or(1e18, |turn_s| rate * turn_s);
        let mut unit = Unit::plain(
            MEASURED,
            "as measured",
            exact(capacity),
            exact(rate),
            exact(self.latency_s),
        );
        if let Some(turn_s) = self.turn_s {
            unit.access = Delivery::ComesBy;
            unit.lap_s = Some(exact(turn_s));
        }
        Ok(unit)
    }
}
