//! The experts that a model chose in a recorded run, parsed from and written as text in
//! the format of BigMoeOnEdge's `route_trace v1`. Does no I/O.
//!
//! Lines that begin with `#` hold properties as words `key=value`. The other lines are
//! `turn, phase (0 prompt, 1 answer), step, layer, slot, expert, weight, residency,
//! bytes`, of which slot, weight and residency are ignored. A prompt is one lap whose
//! steps are its rows; each step of an answer is a lap.

use crate::experts::ExpertLayer;
use std::fmt::Write as _;

/// The first line of a route as text.
pub const ROUTE_HEAD: &str = "# route_trace v1";
/// Maximum number of layers of a route.
pub const LAYERS_MAX: u32 = 1024;
/// Maximum number of experts of a layer.
pub const EXPERTS_MAX: u32 = 8192;
/// Maximum number of experts of a layer that one token chooses.
const CHOSEN_MAX: u32 = 256;

/// One row of a lap: the choices of one token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteRow {
    /// Layer and expert of each choice, in ascending order of layers.
    pub picks: Vec<(u16, u16)>,
}

impl RouteRow {
    /// The experts chosen in a layer; none if the row was not computed there.
    pub fn of_layer(&self, layer: u16) -> impl Iterator<Item = u16> + '_ {
        let from = self.picks.partition_point(|(of, _)| *of < layer);
        let here = self.picks[from..].iter();
        here.take_while(move |(of, _)| *of == layer)
            .map(|(_, expert)| *expert)
    }
}

/// One lap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteLap {
    /// Whether it reads a prompt; otherwise it generates a token.
    pub is_prompt: bool,
    /// One per token.
    pub rows: Vec<RouteRow>,
}

/// A recorded route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExpertRoute {
    /// Name of the model as recorded; may be empty.
    pub model: String,
    /// By layer: its experts.
    pub layers: Vec<ExpertLayer>,
    /// Maximum number of experts that a token chose in a layer.
    pub chosen: u32,
    /// The laps in order.
    pub laps: Vec<RouteLap>,
}

/// A text that is not a route.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// A line is malformed.
    #[error(
        "line {line}: {what}; expected turn,phase,step,layer,slot,expert,weight,residency,expert_bytes"
    )]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// The route has no generated token.
    #[error(
        "no row of a generated token (phase 1): record one with `delayline bench MODEL --record FILE`"
    )]
    Empty,
    /// The length of a layer's experts is not given.
    #[error("layer {layer}: no expert_bytes above 0 in any row or comment")]
    Length {
        /// The layer.
        layer: u32,
    },
}

impl ExpertRoute {
    /// Parses a recorded route.
    ///
    /// # Errors
    /// [`RouteError`] if the text is not one.
    pub fn parse(text: &str) -> Result<Self, RouteError> {
        let mut reader = Reader::default();
        for (index, line) in text.lines().enumerate() {
            let wrong = |what| RouteError::Line {
                line: index + 1,
                what,
            };
            if let Some(comment) = line.strip_prefix('#') {
                reader.comment(comment);
            } else if !line.trim().is_empty() && !line.starts_with("turn,") {
                reader.row(line).map_err(wrong)?;
            }
        }
        reader.finish()
    }

    /// The route as text that [`ExpertRoute::parse`] accepts.
    pub fn to_text(&self) -> String {
        let mut out = format!("{ROUTE_HEAD}\n");
        let model: String = self.model.split_whitespace().collect::<Vec<_>>().join("_");
        let layers = self.layers.len();
        let experts = self
            .layers
            .iter()
            .map(|layer| layer.count)
            .max()
            .unwrap_or(0);
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "# model={model} n_layer={layers} n_expert={experts} n_expert_used={}",
            self.chosen
        );
        for (index, layer) in self.layers.iter().enumerate() {
            let _ = writeln!(out, "# layer={index} expert_bytes={}", layer.bytes);
        }
        out.push_str("turn,phase,step,layer,slot,expert,weight,residency,expert_bytes\n");
        let (mut turn, mut step, mut before) = (0, 0, true);
        for lap in &self.laps {
            if lap.is_prompt && !before {
                turn += 1;
            }
            if lap.is_prompt != before {
                step = 0;
            }
            before = lap.is_prompt;
            let phase = u8::from(!lap.is_prompt);
            for row in &lap.rows {
                for (slot, (layer, expert)) in row.picks.iter().enumerate() {
                    let bytes = self.layers[usize::from(*layer)].bytes;
                    let slot = slot % (self.chosen.max(1) as usize);
                    let _ = writeln!(
                        out,
                        "{turn},{phase},{step},{layer},{slot},{expert},0,0,{bytes}"
                    );
                }
                step += u32::from(lap.is_prompt);
            }
            step += u32::from(!lap.is_prompt);
        }
        out
    }
}

/// A route while it is parsed.
#[derive(Default)]
struct Reader {
    route: ExpertRoute,
    /// Experts of a layer according to a comment; 0 if there is none.
    experts: u32,
    /// One more than the highest expert in a row.
    named: u32,
    /// Turn, phase and step of the last line.
    lap: Option<(u64, u8, u64)>,
    /// By step of the lap: index of its row. A prompt's lines come layer by layer.
    rows: std::collections::HashMap<u64, usize>,
}

impl Reader {
    fn comment(&mut self, comment: &str) {
        let words = comment.split_whitespace();
        let mut layer = None;
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let number: Option<u64> = value.parse().ok();
            match (key, number) {
                ("model", _) => {
                    let name = value.rsplit(['/', '\\']).next().unwrap_or(value);
                    self.route.model = name.chars().take(200).collect();
                }
                ("n_expert", Some(count)) if count <= u64::from(EXPERTS_MAX) => {
                    self.experts = count as u32;
                }
                ("layer", Some(of)) if of < u64::from(LAYERS_MAX) => layer = Some(of as usize),
                ("expert_bytes", Some(bytes)) => {
                    if let Some(layer) = layer {
                        self.length(layer, bytes);
                    }
                }
                _ => {}
            }
        }
    }

    /// Records that an expert of `layer` has `bytes` bytes; 0 means unknown.
    fn length(&mut self, layer: usize, bytes: u64) {
        let layers = &mut self.route.layers;
        if layers.len() <= layer {
            layers.resize(layer + 1, ExpertLayer { count: 0, bytes: 0 });
        }
        layers[layer].bytes = layers[layer].bytes.max(bytes.min(1 << 40));
    }

    fn row(&mut self, line: &str) -> Result<(), String> {
        let mut fields = line.split(',').map(str::trim);
        let mut number = |what: &str, max: u64| {
            let field = fields.next().unwrap_or_default();
            let value = field.parse::<u64>().ok().filter(|value| *value <= max);
            value.ok_or_else(|| format!("{what} is {field:?}, not a number up to {max}"))
        };
        let turn = number("turn", u64::MAX)?;
        let phase = number("phase", 1)? as u8;
        let step = number("step", u64::MAX)?;
        let layer = number("layer", u64::from(LAYERS_MAX) - 1)? as u16;
        number("slot", u64::MAX)?;
        let expert = number("expert", u64::from(EXPERTS_MAX) - 1)? as u16;
        // 0 if the expert was in memory when it was used.
        let bytes = fields.nth(2).and_then(|field| field.parse().ok());
        let bytes = bytes.ok_or_else(|| "expert_bytes is no number".to_owned())?;
        self.length(usize::from(layer), bytes);
        self.named = self.named.max(u32::from(expert) + 1);
        let goes_on = match self.lap {
            Some((of_turn, 0, _)) => (of_turn, 0) == (turn, phase),
            before => before == Some((turn, phase, step)),
        };
        if !goes_on {
            self.route.laps.push(RouteLap {
                is_prompt: phase == 0,
                rows: Vec::new(),
            });
            self.rows.clear();
        }
        self.lap = Some((turn, phase, step));
        let rows = &mut self.route.laps.last_mut().expect("a lap was begun").rows;
        let index = *self.rows.entry(step).or_insert_with(|| {
            rows.push(RouteRow::default());
            rows.len() - 1
        });
        let picks = &mut rows[index].picks;
        if picks.last().is_some_and(|(before, _)| *before > layer) {
            return Err(format!("layer {layer} comes after a later one"));
        }
        let same = picks.iter().rev().take_while(|pick| pick.0 == layer);
        if same.clone().any(|pick| pick.1 == expert) {
            return Err(format!("expert {expert} is chosen twice"));
        }
        let chosen = same.count() as u32 + 1;
        if chosen > CHOSEN_MAX {
            return Err(format!(
                "more than {CHOSEN_MAX} experts of a layer in one step"
            ));
        }
        picks.push((layer, expert));
        self.route.chosen = self.route.chosen.max(chosen);
        Ok(())
    }

    fn finish(mut self) -> Result<ExpertRoute, RouteError> {
        if self.route.laps.iter().all(|lap| lap.is_prompt) {
            return Err(RouteError::Empty);
        }
        let count = self.experts.max(self.named);
        for (index, layer) in self.route.layers.iter_mut().enumerate() {
            layer.count = count;
            if layer.bytes == 0 {
                let layer = index as u32;
                return Err(RouteError::Length { layer });
            }
        }
        Ok(self.route)
    }
}
