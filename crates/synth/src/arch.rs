//! Tiny models of the architectures that llama.cpp generates text with, read from one table
//! of keys and tensors (`archs.txt`). Knows no architecture by name.

use std::ops::RangeInclusive;

use delayline_gguf::{Array, TensorSpec, TensorType, Value};

use crate::metadata::Metadata;
use crate::quant::{Quant, Role};

const TABLE: &str = include_str!("archs.txt");

/// The section with the keys that all models share.
const COMMON: &str = "*";

/// The prefix of the names of tiny models.
const PREFIX: &str = "tiny-";

/// A tiny model of one architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TinyArch {
    name: &'static str,
    lines: &'static str,
}

/// All tiny models of the table.
pub fn tiny_archs() -> impl Iterator<Item = TinyArch> {
    sections().filter(|arch| arch.name != COMMON)
}

fn sections() -> impl Iterator<Item = TinyArch> {
    TABLE.split("\n[").skip(1).filter_map(|section| {
        let (name, lines) = section.split_once("]\n")?;
        Some(TinyArch { name, lines })
    })
}

impl TinyArch {
    /// The tiny model of that name: `tiny-` and the architecture.
    pub fn named(name: &str) -> Option<Self> {
        tiny_archs().find(|known| known.name == name)
    }

    /// `general.architecture`.
    pub fn arch(self) -> &'static str {
        self.name.trim_start_matches(PREFIX)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// Whether some layers have attention.
    pub fn has_attention(self) -> bool {
        self.has_tensor(|name| name.starts_with("attn_q") || name.starts_with("attn_k"))
    }

    /// Whether some layers have a recurrent state.
    pub fn has_state(self) -> bool {
        let kinds = ["ssm_", "time_mix_", "shortconv."];
        self.has_tensor(|name| kinds.iter().any(|kind| name.starts_with(kind)))
    }

    /// Whether it is a mixture of experts.
    pub fn has_experts(self) -> bool {
        self.has_tensor(|name| name.contains("_exps."))
    }

    fn has_tensor(self, is: impl Fn(&str) -> bool) -> bool {
        let lines = self.lines.lines().filter(|line| Self::is_tensor(line));
        lines.flat_map(|line| line.split(' ').skip(1)).any(is)
    }

    fn is_tensor(line: &str) -> bool {
        line.starts_with('=')
    }

    /// The architecture's metadata, and the number of tokens of its vocabulary.
    pub(crate) fn keys(self) -> (Metadata, u32) {
        let common = sections().find(|section| section.name == COMMON);
        let own: Vec<&str> = self.lines.lines().filter(|l| !Self::is_tensor(l)).collect();
        let key = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
        let replaced = |line: &&str| {
            let name = key(line);
            !own.iter()
                .any(|own| key(own) == name || *own == format!("-{name}"))
        };
        let common = common.map_or("", |section| section.lines).lines();
        let lines = common.filter(replaced).chain(own.iter().copied());
        let parsed = lines.filter_map(|line| {
            let mut words = line.split(' ');
            let (name, kind) = (words.next()?, words.next()?);
            let value = value(kind, &words.collect::<Vec<_>>());
            // llama.cpp reads these without the architecture as prefix.
            let name = match name.starts_with("xielu.") {
                true => name.to_owned(),
                false => format!("{}.{name}", self.arch()),
            };
            Some((name.into(), value))
        });
        let vocab = self.tensors(Quant::F16).into_iter();
        let vocab = vocab.filter(|(spec, _)| spec.name == "token_embd.weight");
        let vocab = vocab.map(|(spec, _)| spec.dims[1] as u32).next();
        (parsed.collect(), vocab.unwrap_or_default())
    }

    /// The tensors, ordered by layer.
    pub(crate) fn tensors(self, quant: Quant) -> Vec<(TensorSpec, Role)> {
        let mut out: Vec<(Option<u32>, TensorSpec, Role)> = Vec::new();
        for line in self.lines.lines().filter(|line| Self::is_tensor(line)) {
            let mut words = line.split(' ').skip(1).peekable();
            let layers = words.next_if(|word| word.starts_with(|c: char| c.is_ascii_digit()));
            let name = words.next().unwrap_or_default();
            let dims: Vec<u64> = words.filter_map(|word| word.parse().ok()).collect();
            let role = role(name, dims.len());
            let ty = quant.plain_type(role, dims[0]);
            let mut add = |layer: Option<u32>, name: String| {
                out.push((layer, TensorSpec::new(&name, ty, &dims), role));
            };
            match layers {
                None => add(None, name.to_owned()),
                Some(layers) => {
                    for layer in layers.split(',').flat_map(range) {
                        add(Some(layer), format!("blk.{layer}.{name}"));
                    }
                }
            }
        }
        out.sort_by_key(|(layer, ..)| *layer);
        out.into_iter()
            .map(|(_, spec, role)| (spec, role))
            .collect()
    }
}

fn range(layers: &str) -> RangeInclusive<u32> {
    let (first, last) = layers.split_once('-').unwrap_or((layers, layers));
    let number = |text: &str| text.parse().expect("a layer is a number");
    number(first)..=number(last)
}

fn value(kind: &str, words: &[&str]) -> Value<'static> {
    fn all<T: std::str::FromStr>(words: &[&str]) -> Vec<T> {
        let parsed = words.iter().filter_map(|word| word.parse().ok());
        parsed.collect()
    }
    match kind {
        "u" => Value::U32(all(words)[0]),
        "f" => Value::F32(all(words)[0]),
        "b" => Value::Bool(words == ["1"]),
        "U" | "I" => Value::Array(Array::from_i32s(all::<i32>(words))),
        other => unreachable!("no key has the type {other}"),
    }
}

/// The role of a tensor, by its name.
fn role(name: &str, dims: usize) -> Role {
    let stem = name.trim_end_matches(".weight");
    let is = |what: &[&str]| what.iter().any(|what| stem.ends_with(what));
    if is(&[
        "norm",
        "ssm_d",
        "_scale",
        "rope_freqs",
        "ln",
        "norm_2",
        "norm_enc",
    ]) || stem.contains("rope_factors")
    {
        return Role::Ones;
    }
    if is(&["ssm_a"]) {
        return Role::Decay;
    }
    let small = [
        "_inp", "conv1d", "_conv", "lerp", "_w1", "_w2", "ape", "first", "altup", "hc_", "conv",
        "sinks", ".bias", "scales", "score",
    ];
    if dims == 1 || small.iter().any(|what| stem.contains(what)) {
        return Role::Small;
    }
    match stem {
        "token_embd" => Role::Embedding,
        "output" => Role::Output,
        _ => Role::Matrix,
    }
}

impl Quant {
    /// The type of a tensor of the table with rows of `row` values: one type for all matrices.
    fn plain_type(self, role: Role, row: u64) -> TensorType {
        if matches!(role, Role::Ones | Role::Small | Role::Decay) {
            return TensorType::F32;
        }
        let wanted = match self {
            Quant::F16 => TensorType::F16,
            Quant::Q8_0 => TensorType::Q8_0,
            Quant::Q4_0 => TensorType::Q4_0,
            Quant::Q4KM => TensorType::Q4_K,
        };
        crate::quant::fall_back(wanted, row)
    }
}
