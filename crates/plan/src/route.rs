//! Which experts a model chose, as a run has recorded it: read from text and written
//! as text, in the form that BigMoeOnEdge's `route_trace v1` has. Does no I/O.
//!
//! After `#` come properties as words `key=value`; the rows are `turn, phase (0
//! prompt, 1 answer), step, layer, slot, expert, weight, residency, bytes`, of which
//! slot, weight and residency are not looked at. A prompt is one lap, whose steps are
//! its rows; of an answer each step is a lap.

use crate::experts::ExpertLayer;
use std::fmt::Write as _;

/// With which a route begins as text.
pub const ROUTE_HEAD: &str = "# route_trace v1";
/// Layers that a route may have.
pub const LAYERS_MAX: u32 = 1024;
/// Experts that a layer may have.
pub const EXPERTS_MAX: u32 = 8192;
/// Experts of a layer that one token may choose.
const CHOSEN_MAX: u32 = 256;

/// One row of a lap, a token: layer and expert of each choice, layer by layer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteRow {
    /// Layers never decrease.
    pub picks: Vec<(u16, u16)>,
}

impl RouteRow {
    /// The experts of a layer; none where the row was not computed there.
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
    /// Whether it reads a prompt; else it brings a token.
    pub is_prompt: bool,
    /// Its tokens.
    pub rows: Vec<RouteRow>,
}

/// A recorded route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExpertRoute {
    /// Which model it is of, as it was written down; may be empty.
    pub model: String,
    /// By layer.
    pub layers: Vec<ExpertLayer>,
    /// Experts of a token in a layer, at most.
    pub chosen: u32,
    /// In order.
    pub laps: Vec<RouteLap>,
}

/// Why a text is no route.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// A line that is none.
    #[error(
        "line {line}: {what}; expected turn,phase,step,layer,slot,expert,weight,residency,expert_bytes"
    )]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// Nothing was generated.
    #[error(
        "no row of a generated token (phase 1): record one with `delayline bench MODEL --record FILE`"
    )]
    Empty,
    /// A layer of which no row says how long an expert is.
    #[error("layer {layer}: no expert_bytes above 0 in any row or comment")]
    Length {
        /// Which.
        layer: u32,
    },
}

impl ExpertRoute {
    /// Reads a recorded route.
    ///
    /// # Errors
    /// When the text is none.
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

    /// As text, which [`ExpertRoute::parse`] reads.
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

/// A route as far as it has been read.
#[derive(Default)]
struct Reader {
    route: ExpertRoute,
    /// Experts of a layer, if a comment says so; else as many as are named.
    experts: u32,
    named: u32,
    /// Turn and phase of the lap under way, and its step.
    lap: Option<(u64, u8, u64)>,
    /// A prompt's rows come layer by layer: the row of each of its steps.
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

    /// An expert of that layer is so long, if it is anything.
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
        // Of an expert that was at hand, no bytes may be recorded.
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
