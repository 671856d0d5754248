//! What can be wrong with a link, named by key, value and accepted range; keys are those of
//! design files.

use thiserror::Error;

use crate::report::format::plain;

/// Why a link is refused.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum Error {
    /// A quantity that cannot be, or for which no model is meant.
    #[error("{key} = {value} is not possible: expected {accepted}")]
    Value {
        /// The key as a design file has it.
        key: String,
        /// What was given.
        value: String,
        /// What would do.
        accepted: String,
    },
    /// Two channels that share a frequency.
    #[error(
        "{key}: the channels at {lower_thz:.4} and {upper_thz:.4} THz overlap by {overlap_ghz:.3} GHz: expected at least {needed_ghz:.3} GHz between them, the mean of their symbol rates"
    )]
    Overlap {
        /// The key of the group, or of both, that the channels belong to.
        key: String,
        /// Centre of the lower channel.
        lower_thz: f64,
        /// Centre of the upper channel.
        upper_thz: f64,
        /// How far the spectra cover each other.
        overlap_ghz: f64,
        /// The least distance of the centres.
        needed_ghz: f64,
    },
    /// More light than the amplifier of the band can give.
    #[error(
        "{key} = {launch_dbm} dBm is not possible: the band (channels: {channels}) would need {total_dbm:.1} dBm, expected at most {accepted_dbm:.2} dBm each, since the amplifier gives {max_output_dbm} dBm"
    )]
    LaunchPower {
        /// The key of the launch power.
        key: String,
        /// What was asked for, each channel.
        launch_dbm: f64,
        /// How many channels share the amplifier.
        channels: usize,
        /// What they would take together.
        total_dbm: f64,
        /// What each channel can have.
        accepted_dbm: f64,
        /// What the amplifier can give.
        max_output_dbm: f64,
    },
    /// A key that is needed and absent.
    #[error("{key} is missing: expected {accepted}")]
    Missing {
        /// The absent key.
        key: String,
        /// What would do.
        accepted: String,
    },
    /// A design file that is no design: wrong syntax, an unknown key, a wrong type.
    #[error("{0}")]
    Syntax(String),
}

/// A range of accepted values of a key, both ends included.
#[derive(Clone, Copy, Debug)]
pub struct Accepted {
    /// Least value.
    pub least: f64,
    /// Greatest value.
    pub most: f64,
    /// Unit, for the message.
    pub unit: &'static str,
}

/// The values from `least` to `most`.
pub const fn accepted(least: f64, most: f64, unit: &'static str) -> Accepted {
    Accepted { least, most, unit }
}

impl Accepted {
    /// The value itself if it is in the range.
    ///
    /// # Errors
    /// [`Error::Value`] when it is not, or is no number.
    pub fn check(&self, key: &str, value: f64) -> Result<f64, Error> {
        if value >= self.least && value <= self.most {
            return Ok(value);
        }
        Err(Error::Value {
            key: key.to_owned(),
            value: plain(value),
            accepted: format!(
                "{} to {} {}",
                plain(self.least),
                plain(self.most),
                self.unit
            )
            .trim_end()
            .to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_out_of_range_names_key_value_and_range() {
        let check = |value: f64, expect: Option<&str>| {
            let result = accepted(0.0, 500.0, "km").check("link.span_km", value);
            let message = result.err().map(|error| error.to_string());
            assert_eq!(message.as_deref(), expect, "{value}");
        };
        check(0.0, None);
        check(500.0, None);
        check(
            -3.0,
            Some("link.span_km = -3 is not possible: expected 0 to 500 km"),
        );
        check(
            f64::NAN,
            Some("link.span_km = NaN is not possible: expected 0 to 500 km"),
        );
    }
}
