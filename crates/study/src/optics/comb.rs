//! The comb of channels that share a fiber, checked when it is made: sorted, within the bands,
//! none over another.

use super::bands::{BANDS_NM, Band};
use super::error::{Accepted, Error, accepted};
use super::units::frequency_thz;

/// Maximum number of channels of one comb; the power equations are solved over
/// all pairs of them.
pub const MOST_CHANNELS: usize = 4096;

const SPACING_GHZ: Accepted = accepted(1.0, 1000.0, "GHz");
const SYMBOL_RATE_GBD: Accepted = accepted(1.0, 1000.0, "GBd");
const COUNT: Accepted = accepted(1.0, MOST_CHANNELS as f64, "channels");

/// One channel: a carrier in both polarisations with a flat spectrum as wide as
/// its symbol rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Channel {
    /// Centre.
    pub frequency_hz: f64,
    /// Symbols a second, and width of the spectrum.
    pub symbol_rate_hz: f64,
    /// Which group of the comb it came from.
    pub group: usize,
}

impl Channel {
    /// The band that its centre lies in.
    pub fn band(&self) -> Option<Band> {
        Band::of(self.frequency_hz)
    }
}

/// Channels at equal distances, as people write them down.
#[derive(Clone, Debug, PartialEq)]
pub struct ChannelGroup {
    /// What a message calls it, such as `band.C`.
    pub key: String,
    /// Centre of the lowest channel.
    pub first_thz: f64,
    /// Distance of the centres.
    pub spacing_ghz: f64,
    /// Symbols a second of each.
    pub symbol_rate_gbd: f64,
    /// How many there are.
    pub channels: usize,
}

/// Channels by rising frequency, none over another.
#[derive(Clone, Debug, PartialEq)]
pub struct Comb {
    channels: Vec<Channel>,
}

impl Comb {
    /// The channels of all groups together.
    ///
    /// # Errors
    /// When a group is out of range, outside the bands, or covers another.
    pub fn new(groups: &[ChannelGroup]) -> Result<Self, Error> {
        let mut channels = Vec::new();
        for (index, group) in groups.iter().enumerate() {
            channels.extend(group.expand(index)?);
        }
        if channels.is_empty() {
            return Err(Error::Missing {
                key: "band".into(),
                accepted: "at least one group of channels".into(),
            });
        }
        COUNT.check("the number of channels", channels.len() as f64)?;
        channels.sort_by(|a, b| a.frequency_hz.total_cmp(&b.frequency_hz));
        for pair in channels.windows(2) {
            apart(&pair[0], &pair[1], groups)?;
        }
        Ok(Self { channels })
    }

    /// The channels, by rising frequency.
    pub fn channels(&self) -> &[Channel] {
        &self.channels
    }

    /// Distance of the outer edges of the spectra.
    pub fn width_hz(&self) -> f64 {
        let edge = |channel: &Channel, side: f64| {
            channel.frequency_hz + side * channel.symbol_rate_hz / 2.0
        };
        match (self.channels.first(), self.channels.last()) {
            (Some(first), Some(last)) => edge(last, 1.0) - edge(first, -1.0),
            _ => 0.0,
        }
    }

    /// A comb of about an n-th of the channels, each as wide as those that it
    /// stands for: what the search for launch powers works on.
    pub fn thinned(&self, n: usize) -> Self {
        let mut channels = Vec::new();
        for group in self.channels.chunk_by(|a, b| a.group == b.group) {
            channels.extend(group.chunks(n).map(|part| Channel {
                frequency_hz: part.iter().map(|c| c.frequency_hz).sum::<f64>() / part.len() as f64,
                symbol_rate_hz: part.iter().map(|c| c.symbol_rate_hz).sum(),
                group: part[0].group,
            }));
        }
        Self { channels }
    }
}

impl ChannelGroup {
    fn expand(&self, index: usize) -> Result<Vec<Channel>, Error> {
        let key = |name: &str| format!("{}.{name}", self.key);
        COUNT.check(&key("channels"), self.channels as f64)?;
        SYMBOL_RATE_GBD.check(&key("symbol_rate_gbd"), self.symbol_rate_gbd)?;
        SPACING_GHZ.check(&key("spacing_ghz"), self.spacing_ghz)?;
        let in_bands = accepted(
            frequency_thz(BANDS_NM.1),
            frequency_thz(BANDS_NM.0),
            "THz (1675 to 1260 nm)",
        );
        in_bands.check(&key("first_thz"), self.first_thz)?;
        let last_thz = self.first_thz + self.spacing_ghz * 1e-3 * (self.channels - 1) as f64;
        in_bands.check(&key("the last channel"), last_thz)?;
        let channel = |number: usize| Channel {
            frequency_hz: (self.first_thz + self.spacing_ghz * 1e-3 * number as f64) * 1e12,
            symbol_rate_hz: self.symbol_rate_gbd * 1e9,
            group: index,
        };
        Ok((0..self.channels).map(channel).collect())
    }
}

/// Whether two neighbouring spectra do not overlap, to within a hertz.
fn apart(lower: &Channel, upper: &Channel, groups: &[ChannelGroup]) -> Result<(), Error> {
    let needed_hz = (lower.symbol_rate_hz + upper.symbol_rate_hz) / 2.0;
    let overlap_hz = needed_hz - (upper.frequency_hz - lower.frequency_hz);
    if overlap_hz <= 1.0 {
        return Ok(());
    }
    let (one, other) = (&groups[lower.group].key, &groups[upper.group].key);
    let key = if lower.group == upper.group {
        one.clone()
    } else {
        format!("{one} and {other}")
    };
    Err(Error::Overlap {
        key,
        lower_thz: lower.frequency_hz * 1e-12,
        upper_thz: upper.frequency_hz * 1e-12,
        overlap_ghz: overlap_hz * 1e-9,
        needed_ghz: needed_hz * 1e-9,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(key: &str, first_thz: f64, spacing_ghz: f64, channels: usize) -> ChannelGroup {
        ChannelGroup {
            key: key.into(),
            first_thz,
            spacing_ghz,
            symbol_rate_gbd: 32.0,
            channels,
        }
    }

    #[test]
    fn what_is_not_a_comb_is_refused_by_key_value_and_range() {
        let check = |groups: &[ChannelGroup], expect: &[&str]| {
            let message = Comb::new(groups).unwrap_err().to_string();
            for part in expect {
                assert!(message.contains(part), "{message}");
            }
        };
        check(&[], &["band is missing"]);
        check(
            &[group("band.C", 193.0, 25.0, 2)],
            &[
                "band.C",
                "193.0000 and 193.0250 THz",
                "7.000 GHz",
                "32.000 GHz",
            ],
        );
        check(
            &[
                group("band.C", 191.3, 50.0, 96),
                group("band.L", 186.0, 50.0, 107),
            ],
            &["and band.L", "191.3000 THz overlap"],
        );
        check(
            &[group("band.C", 100.0, 50.0, 96)],
            &["band.C.first_thz = 100", "178.9", "237.9"],
        );
        check(
            &[group("band.C", 230.0, 1000.0, 10)],
            &["band.C.the last channel = 239"],
        );
        check(
            &[group("band.C", 193.0, 50.0, 0)],
            &["band.C.channels = 0", "1 to 4096"],
        );
        check(
            &[group("band.C", 193.0, -50.0, 2)],
            &["band.C.spacing_ghz = -50"],
        );
    }

    #[test]
    fn groups_are_merged_by_frequency() {
        let groups = [
            group("band.C", 192.0, 50.0, 3),
            group("band.L", 187.0, 50.0, 2),
        ];
        let comb = Comb::new(&groups).unwrap();
        let groups: Vec<usize> = comb.channels().iter().map(|c| c.group).collect();
        assert_eq!(groups, [1, 1, 0, 0, 0]);
        assert!(
            (comb.width_hz() - 5.132e12).abs() < 1.0,
            "{}",
            comb.width_hz()
        );
    }

    #[test]
    fn a_thinned_comb_keeps_symbols_and_groups() {
        let groups = [
            group("band.C", 192.0, 50.0, 10),
            group("band.L", 187.0, 50.0, 7),
        ];
        let comb = Comb::new(&groups).unwrap();
        let sum = |comb: &Comb| {
            comb.channels()
                .iter()
                .map(|c| c.symbol_rate_hz)
                .sum::<f64>()
        };
        for n in 1..12 {
            let thin = comb.thinned(n);
            assert!((sum(&thin) - sum(&comb)).abs() < 1.0, "{n}");
            assert_eq!(
                thin.channels().len(),
                10usize.div_ceil(n) + 7usize.div_ceil(n)
            );
        }
        assert_eq!(comb.thinned(1), comb);
    }
}
