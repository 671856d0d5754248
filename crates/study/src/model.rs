//! A language model as the bytes that a lap reads and the operations it computes, with the
//! expected choice of experts.

use serde::Serialize;

use crate::datasheet::{Library, SheetError, SheetKind};

/// The experts of a mixture.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MixtureOfExperts {
    /// One expert of one layer, in bytes.
    pub bytes: f64,
    /// How many a layer has.
    pub count: f64,
    /// How many of them a token chooses.
    pub per_token: f64,
    /// How many layers have some.
    pub layers: f64,
}

/// What a lap over a model reads and computes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LanguageModel {
    /// For people.
    pub name: String,
    /// How many layers.
    pub layers: u32,
    /// All weights, in bytes.
    pub weights_bytes: f64,
    /// The part of them of which a lap needs single rows, in bytes.
    pub embedding_bytes: f64,
    /// Keys and values of one token, in bytes.
    pub kv_bytes_per_token: f64,
    /// Weights that a token is multiplied with.
    pub active_parameters: f64,
    /// The experts, if it is a mixture.
    pub experts: Option<MixtureOfExperts>,
}

impl LanguageModel {
    /// The model of a data sheet.
    ///
    /// # Errors
    /// [`SheetError`] when there is none, or its experts are more or heavier than
    /// there can be.
    pub fn of(library: &Library, id: &str) -> Result<Self, SheetError> {
        let sheet = library.sheet(SheetKind::Model, id)?;
        let get = |key: &str| sheet.get(key).typical;
        let find = |key: &str| sheet.find(key).map(|value| value.typical);
        let experts = match (
            find("expert"),
            find("experts"),
            find("experts_per_token"),
            find("expert_layers"),
        ) {
            (Some(bytes), Some(count), Some(per_token), Some(layers)) => Some(MixtureOfExperts {
                bytes,
                count,
                per_token,
                layers,
            }),
            _ => None,
        };
        let no_more = |key: &str, than: &str| match (find(key), find(than)) {
            (Some(got), Some(most)) if got > most => Err(SheetError::Value {
                place: id.to_owned(),
                key: key.to_owned(),
                got: got.to_string(),
                expected: format!("no more than its `{than}`, {most}"),
            }),
            _ => Ok(()),
        };
        no_more("experts_per_token", "experts")?;
        no_more("expert_layers", "layers")?;
        let model = Self {
            name: sheet.name.clone(),
            layers: get("layers") as u32,
            weights_bytes: get("weights"),
            embedding_bytes: get("embedding"),
            kv_bytes_per_token: get("kv_per_token"),
            active_parameters: get("active_parameters"),
            experts,
        };
        if model.dense_bytes() <= 0.0 {
            return Err(SheetError::Value {
                place: id.to_owned(),
                key: "weights".to_owned(),
                got: format!("{} bytes", model.weights_bytes),
                expected: "more than its embedding and its experts together".to_owned(),
            });
        }
        Ok(model)
    }

    /// A model of nothing but dense weights of so many bytes, for weights that
    /// are known by size alone.
    pub fn plain(name: &str, layers: u32, weights_bytes: f64) -> Self {
        Self {
            name: name.to_owned(),
            layers,
            weights_bytes,
            embedding_bytes: 0.0,
            kv_bytes_per_token: 0.0,
            active_parameters: 0.0,
            experts: None,
        }
    }

    /// All experts together, in bytes.
    pub fn expert_bytes(&self) -> f64 {
        self.experts.map_or(0.0, |e| e.bytes * e.count * e.layers)
    }

    /// What every lap needs for sure, in bytes.
    pub fn dense_bytes(&self) -> f64 {
        self.weights_bytes - self.embedding_bytes - self.expert_bytes()
    }

    /// What a lap for `batch` tokens needs on average, in bytes.
    pub fn needed_bytes(&self, batch: u32) -> f64 {
        let experts = self
            .experts
            .map_or(0.0, |e| e.bytes * e.layers * e.distinct(batch));
        self.dense_bytes() + experts
    }
}

impl MixtureOfExperts {
    /// How many different experts of a layer `batch` tokens choose on average,
    /// if each chooses its own ones evenly and independently of the others:
    /// `E · (1 − (1 − k/E)^b)`. Real routers favour some, so that this is an
    /// upper bound at small batches and optimistic about certainty at large ones.
    pub fn distinct(&self, batch: u32) -> f64 {
        let missed = 1.0 - self.per_token / self.count;
        self.count * (1.0 - missed.powf(f64::from(batch)))
    }

    /// From how many tokens a lap on at least `share` of the experts of each
    /// layer are needed on average, so that reading all of them in order wastes
    /// no more than the rest.
    ///
    /// # Panics
    /// When `share` is not between 0 and 1.
    pub fn certain_from(&self, share: f64) -> u32 {
        assert!((0.0..1.0).contains(&share), "a share of {share}");
        let missed = 1.0 - self.per_token / self.count;
        if missed <= 0.0 {
            return 1;
        }
        (((1.0 - share).ln() / missed.ln()) * (1.0 - 1e-12))
            .ceil()
            .max(1.0) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interval::Interval;

    /// The average over all choices, by counting them: `count` experts, `batch`
    /// tokens that each choose `per_token` different ones.
    fn counted(count: u32, per_token: u32, batch: u32) -> f64 {
        let choices: Vec<u32> = (0..1u32 << count)
            .filter(|set| set.count_ones() == per_token)
            .collect();
        let mut sets = vec![0u32];
        for _ in 0..batch {
            let next = sets
                .iter()
                .flat_map(|set| choices.iter().map(move |c| set | c));
            sets = next.collect();
        }
        let sum: u32 = sets.iter().map(|set| set.count_ones()).sum();
        f64::from(sum) / sets.len() as f64
    }

    #[test]
    fn distinct_experts_are_those_that_counting_gives() {
        for count in 1..=5 {
            for per_token in 1..=count {
                let experts = MixtureOfExperts {
                    bytes: 1.0,
                    count: f64::from(count),
                    per_token: f64::from(per_token),
                    layers: 1.0,
                };
                for batch in 0..=4 {
                    let (got, expected) =
                        (experts.distinct(batch), counted(count, per_token, batch));
                    assert!(
                        (got - expected).abs() < 1e-9,
                        "{per_token} of {count}, {batch} tokens"
                    );
                }
            }
        }
    }

    #[test]
    fn the_order_is_certain_from_where_the_share_is_reached() {
        for (count, per_token) in [
            (128.0, 8.0),
            (128.0, 4.0),
            (256.0, 8.0),
            (4.0, 4.0),
            (2.0, 1.0),
        ] {
            let experts = MixtureOfExperts {
                bytes: 1.0,
                count,
                per_token,
                layers: 1.0,
            };
            for share in [0.5, 0.9, 0.99] {
                let batch = experts.certain_from(share);
                assert!(experts.distinct(batch) >= share * count * (1.0 - 1e-9));
                assert!(batch == 1 || experts.distinct(batch - 1) < share * count);
            }
        }
    }

    #[test]
    fn models_are_as_large_as_they_are_known_to_be() {
        let library = Library::embedded();
        // Active bytes at batch 1 and the share of experts in the whole.
        for (id, needed, experts) in [
            ("llama-70b", 139.0e9, 0.0),
            ("qwen3-235b", 43.2e9, 454.2e9),
            ("gpt-oss-120b", 5.0e9, 61.0e9),
            ("deepseek-v3", 37.7e9, 653.9e9),
        ] {
            let model = LanguageModel::of(&library, id).expect("it is embedded");
            assert!(
                (model.needed_bytes(1) / needed - 1.0).abs() < 0.02,
                "{id}: {}",
                model.needed_bytes(1)
            );
            assert!(
                (model.expert_bytes() - experts).abs() <= 0.001 * experts,
                "{id}"
            );
            let all = model.needed_bytes(1_000_000);
            assert!(
                (all / (model.weights_bytes - model.embedding_bytes) - 1.0).abs() < 1e-6,
                "{id}"
            );
        }
    }

    #[test]
    fn more_experts_than_there_are_is_refused() {
        for (key, value, expect) in [
            (
                "experts_per_token",
                300.0,
                "is 300, but must be no more than its `experts`, 256",
            ),
            (
                "expert_layers",
                62.0,
                "is 62, but must be no more than its `layers`, 61",
            ),
        ] {
            let mut library = Library::embedded();
            let path = format!("deepseek-v3.{key}");
            library
                .set(&path, Interval::exact(value))
                .expect("by itself it can be");
            let error = LanguageModel::of(&library, "deepseek-v3")
                .expect_err(&path)
                .to_string();
            assert!(error.contains(expect), "{error}");
        }
    }

    #[test]
    fn experts_heavier_than_the_model_are_refused() {
        let mut library = Library::embedded();
        library
            .set(
                "deepseek-v3.weights",
                crate::interval::Interval::exact(600.0),
            )
            .expect("it can be");
        let error = LanguageModel::of(&library, "deepseek-v3")
            .expect_err("too small")
            .to_string();
        assert!(
            error.contains("weights") && error.contains("experts"),
            "{error}"
        );
    }
}
