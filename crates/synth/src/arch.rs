//! Tiny models of every architecture that llama.cpp generates text with, and some in the
//! sizes of real ones, as one table of keys and tensors (`archs.txt`). Knows no architecture
//! by name.

use std::ops::RangeInclusive;

use delayline_gguf::{Array, TensorSpec, TensorType, Value};

use crate::metadata::Metadata;
use crate::quant::{Quant, Role, fall_back};

const TABLE: &str = include_str!("archs.txt");

/// The section with the keys of all others.
const COMMON: &str = "*";

/// What names of tiny models begin with.
const PREFIX: &str = "tiny-";

/// What a section begins with that has from another what it does not say.
const LIKE: &str = "like ";

/// Layers of a tensor that is in no layer.
const ONCE: &str = "once";

/// Layers of a tensor that is not there.
const NONE: &str = "none";

/// A tiny model of one architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TinyArch(Section);

/// A model in the sizes of a real one, of an architecture of which there is a tiny one too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizedArch {
    own: Section,
    tiny: TinyArch,
    /// Layers of the real one.
    whole: u32,
    layers: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Section {
    name: &'static str,
    lines: &'static str,
}

/// The tiny models of the table, those of most architectures.
pub fn tiny_archs() -> impl Iterator<Item = TinyArch> {
    sections()
        .filter(|section| section.name.starts_with(PREFIX))
        .map(TinyArch)
}

/// The models of the table in the sizes of real ones.
pub fn sized_archs() -> impl Iterator<Item = SizedArch> {
    sections().filter_map(|own| {
        let tiny = TinyArch::named(own.lines.lines().next()?.strip_prefix(LIKE)?)?;
        let whole = own.definition("L")?.parse().ok()?;
        Some(SizedArch {
            own,
            tiny,
            whole,
            layers: whole,
        })
    })
}

fn sections() -> impl Iterator<Item = Section> {
    TABLE.split("\n[").skip(1).filter_map(|section| {
        let (name, lines) = section.split_once("]\n")?;
        Some(Section { name, lines })
    })
}

impl Section {
    /// What a name stands for.
    fn definition(self, name: &str) -> Option<&'static str> {
        let mut defined = self.lines.lines().filter_map(|line| {
            let (defined, value) = line.strip_prefix(": ")?.split_once(' ')?;
            (defined == name).then_some(value)
        });
        defined.next()
    }

    /// The tensors, a line each without its mark.
    fn tensors(self) -> impl Iterator<Item = &'static str> {
        let lines = self.lines.lines();
        lines.filter_map(|line| line.strip_prefix("= "))
    }

    /// The keys, and those to be taken away.
    fn keys(self) -> impl Iterator<Item = &'static str> {
        let lines = self.lines.lines();
        lines.filter(|line| {
            line.starts_with(|c: char| c.is_ascii_lowercase() || c == '-')
                && !line.starts_with(LIKE)
        })
    }
}

impl TinyArch {
    /// The one of that name: `tiny-` and the architecture.
    pub fn named(name: &str) -> Option<Self> {
        tiny_archs().find(|known| known.name() == name)
    }

    /// `general.architecture`.
    pub fn arch(self) -> &'static str {
        self.name().trim_start_matches(PREFIX)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// Whether some layers look back at the positions before.
    pub fn has_attention(self) -> bool {
        self.has_tensor(|name| name.starts_with("attn_q") || name.starts_with("attn_k"))
    }

    /// Whether some layers have a state that goes on from token to token.
    pub fn has_state(self) -> bool {
        let kinds = ["ssm_", "time_mix_", "shortconv."];
        self.has_tensor(|name| kinds.iter().any(|kind| name.starts_with(kind)))
    }

    /// Whether a token uses some of several experts.
    pub fn has_experts(self) -> bool {
        self.has_tensor(|name| name.contains("_exps."))
    }

    fn has_tensor(self, is: impl Fn(&str) -> bool) -> bool {
        self.0.tensors().flat_map(|line| line.split(' ')).any(is)
    }

    pub(crate) fn table(self) -> Table {
        Table {
            like: self.0,
            own: None,
            layers: None,
        }
    }
}

impl SizedArch {
    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        sized_archs().find(|known| known.name() == name)
    }

    /// `general.architecture`.
    pub fn arch(self) -> &'static str {
        self.tiny.arch()
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.own.name
    }

    /// How many layers it has.
    pub fn layers(self) -> u32 {
        self.layers
    }

    /// The same with the first layers alone; with as many as there are if there are fewer.
    #[must_use]
    pub fn with_layers(self, layers: u32) -> Self {
        Self {
            layers: layers.min(self.whole),
            ..self
        }
    }

    pub(crate) fn table(self) -> Table {
        Table {
            like: self.tiny.0,
            own: Some(self.own),
            layers: Some((self.layers, self.whole)),
        }
    }
}

/// What the sections say of one model.
pub(crate) struct Table {
    like: Section,
    own: Option<Section>,
    /// How many layers are made, of how many.
    layers: Option<(u32, u32)>,
}

impl Table {
    /// The keys of the architecture, and how long its vocabulary is.
    pub(crate) fn keys(&self) -> (Metadata, u32) {
        let arch = self.like.name.trim_start_matches(PREFIX);
        let common = sections().find(|section| section.name == COMMON);
        let sections = [common, Some(self.like), self.own];
        let mut keys: Vec<(&str, Vec<&str>)> = Vec::new();
        for line in sections.into_iter().flatten().flat_map(Section::keys) {
            let mut words = line.split(' ');
            let name = words.next().unwrap_or_default();
            let bare = name.strip_prefix('-');
            keys.retain(|(known, _)| *known != bare.unwrap_or(name));
            if bare.is_none() {
                keys.push((name, words.collect()));
            }
        }
        let parsed = keys.iter().filter_map(|(name, words)| {
            let (kind, words) = words.split_first()?;
            let words: Vec<String> = words.iter().map(|word| self.word(word)).collect();
            let value = value(kind, self.cut(&words));
            // Of these, llama.cpp reads some without the architecture in front.
            let name = match name.starts_with("xielu.") {
                true => (*name).to_owned(),
                false => format!("{arch}.{name}"),
            };
            Some((name.into(), value))
        });
        let vocab = self.tensors(Quant::F16).into_iter();
        let vocab = vocab.filter(|(spec, _)| spec.name == "token_embd.weight");
        let vocab = vocab.map(|(spec, _)| spec.dims[1] as u32).next();
        (parsed.collect(), vocab.unwrap_or_default())
    }

    /// The tensors, those of each layer together.
    pub(crate) fn tensors(&self, quant: Quant) -> Vec<(TensorSpec, Role)> {
        let mut out: Vec<(Option<u32>, TensorSpec, Role)> = Vec::new();
        for line in self.like.tensors() {
            let words: Vec<&str> = line.split(' ').collect();
            // A name has a point, unless it is a rate of decay, and layers have none.
            let is_layered = words[1].parse::<u64>().is_err() && self.number(words[1]).is_none();
            let (layers, words) = words.split_at(usize::from(is_layered));
            let (name, dims) = (words[0], &words[1..]);
            let mut dims: Vec<u64> = dims.iter().filter_map(|word| self.number(word)).collect();
            let role = role(name, dims.len());
            // One matrix is not written as one of one.
            while dims.len() > 1 && dims.last() == Some(&1) {
                dims.pop();
            }
            let is_four_bit = matches!(quant, Quant::Q4_0 | Quant::Q4KM);
            let ty = match role {
                // Of a real model it has more bits.
                Role::Output if is_four_bit && self.own.is_some() => {
                    fall_back(TensorType::Q6_K, dims[0])
                }
                _ => quant.plain_type(name, role, dims[0]),
            };
            let mut add = |layer: Option<u32>, name: String| {
                out.push((layer, TensorSpec::new(&name, ty, &dims), role));
            };
            let layers = layers.first().map(|layers| self.word(layers));
            match layers.as_deref() {
                None | Some(ONCE) => add(None, name.to_owned()),
                Some(NONE) => {}
                Some(layers) => {
                    let all = layers.split(',').flat_map(range);
                    let made = self.layers.map_or(u32::MAX, |(made, _)| made);
                    for layer in all.filter(|layer| *layer < made) {
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

    /// A word, or what it stands for.
    fn word(&self, word: &str) -> String {
        if let ("L", Some((made, _))) = (word, self.layers) {
            return made.to_string();
        }
        let own = self.own.and_then(|own| own.definition(word));
        let defined = own.or_else(|| self.like.definition(word));
        defined.unwrap_or(word).to_owned()
    }

    /// A number, one that is named, or a product of such.
    fn number(&self, word: &str) -> Option<u64> {
        let factors = word
            .split('*')
            .map(|factor| self.word(factor).parse::<u64>().ok());
        factors.product()
    }

    /// Of what each layer has, that of those that are made.
    fn cut<'w>(&self, words: &'w [String]) -> &'w [String] {
        match self.layers {
            Some((made, whole)) if words.len() == whole as usize => &words[..made as usize],
            _ => words,
        }
    }
}

fn range(layers: &str) -> RangeInclusive<u32> {
    let (first, last) = layers.split_once('-').unwrap_or((layers, layers));
    let number = |text: &str| text.parse().expect("a layer is a number");
    number(first)..=number(last)
}

fn value(kind: &str, words: &[String]) -> Value<'static> {
    fn all<T: std::str::FromStr>(words: &[String]) -> Vec<T> {
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

/// What a tensor is for, by its name: norms and factors are ones, rates of decay are
/// below zero, and what is no matrix of a product is never quantised.
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
    /// The type of a tensor of the table, with rows of `row` values: no mixture.
    fn plain_type(self, name: &str, role: Role, row: u64) -> TensorType {
        if matches!(role, Role::Ones | Role::Small | Role::Decay) {
            return TensorType::F32;
        }
        let wanted = match self {
            Quant::F16 => TensorType::F16,
            Quant::Q8_0 => TensorType::Q8_0,
            Quant::Q4_0 => TensorType::Q4_0,
            Quant::Q4KM => TensorType::Q4_K,
            Quant::Mxfp4 if name.contains("_exps.") => TensorType::MXFP4,
            Quant::Mxfp4 => TensorType::Q8_0,
        };
        fall_back(wanted, row)
    }
}
