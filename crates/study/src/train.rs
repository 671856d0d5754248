//! Training with weights and optimizer state on flash: what a step moves, the batch from which
//! the drives keep up, and what it costs beside keeping everything in memory. By closed form, and
//! by running the real line and the real activations in virtual time.

mod behemoth;
mod g10;
mod report;
mod simulate;
#[cfg(test)]
mod tests;

use delayline_line::LineError;
use delayline_medium::MemoryError;
use delayline_plan::{
    ALIGN, DriveRates, Extent, ExtentId, LeastTransfer, Mode, Plan, RoundTrip, Run, TooSmall,
    Transfer, Use,
};
use thiserror::Error;

use crate::datasheet::SheetError;
use crate::model::LanguageModel;

pub use behemoth::{Contender, TrainMachine, contenders};
pub use g10::{OffloadRow, offload_rows};
pub use report::{TrainQuestion, train_report};
pub use simulate::{SimulatedStep, StackTier, simulate_stack, simulate_step};

/// What a step does with weights and state, in bytes a parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recipe {
    /// What it is called.
    pub name: &'static str,
    /// What it stands for.
    pub what: &'static str,
    /// The weights as a forward pass reads them.
    weights: f64,
    /// What the optimizer keeps beside them.
    state: f64,
    /// A gradient that waits.
    gradient: f64,
    /// What the backward pass does with the weights.
    back: Mode,
    /// Whether all updates wait for the next forward pass.
    pub waits: bool,
    /// What training in memory holds: weights, gradients and state.
    pub in_memory: f64,
    /// Operations a parameter and token, forward and backward.
    flop: [f64; 2],
}

impl Recipe {
    /// Those with a name.
    pub const ALL: [Self; 5] = [
        Self {
            name: "adamw",
            what: "AdamW in fp32, updated in the backward pass",
            weights: 4.0,
            state: 8.0,
            gradient: 4.0,
            back: Mode::Modify,
            waits: false,
            in_memory: 16.0,
            flop: [2.0, 4.0],
        },
        Self {
            name: "adamw-waits",
            what: "AdamW in fp32, clipped or accumulated",
            weights: 4.0,
            state: 8.0,
            gradient: 4.0,
            back: Mode::Modify,
            waits: true,
            in_memory: 16.0,
            flop: [2.0, 4.0],
        },
        Self {
            name: "bf16",
            what: "AdamW in bf16 with masters in fp32",
            weights: 2.0,
            state: 12.0,
            gradient: 2.0,
            back: Mode::Write,
            waits: false,
            in_memory: 16.0,
            flop: [2.0, 4.0],
        },
        Self {
            name: "bf16-8bit",
            what: "bf16 with both moments in 8 bit",
            weights: 2.0,
            state: 2.0,
            gradient: 2.0,
            back: Mode::Modify,
            waits: false,
            in_memory: 6.0,
            flop: [2.0, 4.0],
        },
        Self {
            name: "lora",
            what: "LoRA on frozen bf16",
            weights: 2.0,
            state: 0.0,
            gradient: 0.0,
            back: Mode::Read,
            waits: false,
            in_memory: 2.0,
            flop: [2.0, 2.0],
        },
    ];

    /// By its name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|recipe| recipe.name == name)
    }

    /// Whether updates can wait: there are some.
    fn updates(&self) -> bool {
        self.state > 0.0
    }

    /// Bytes of weights and state, one copy of each.
    pub fn held(&self) -> f64 {
        self.weights + self.state
    }

    /// Operations a parameter and token.
    pub fn flop(&self) -> f64 {
        self.flop.iter().sum()
    }

    /// What the forward and the backward pass read and write, when so large a share of the
    /// updates waits for the next forward pass.
    pub fn passes(&self, waiting: f64) -> [Pass; 2] {
        let changed = if self.updates() { self.held() } else { 0.0 };
        let back_read = match self.back {
            Mode::Write => 0.0,
            _ => self.weights,
        };
        let at_once = [
            Pass::of(self.weights, 0.0),
            Pass::of(back_read + self.state, changed),
        ];
        let late = [
            Pass::of(self.held() + self.gradient, changed),
            Pass::of(self.weights, self.gradient),
        ];
        let mixed = |index: usize| Pass {
            read: at_once[index].read * (1.0 - waiting) + late[index].read * waiting,
            written: at_once[index].written * (1.0 - waiting) + late[index].written * waiting,
        };
        [mixed(0), mixed(1)]
    }

    /// Bytes that a step moves.
    pub fn moved(&self, waiting: f64) -> Pass {
        let [there, back] = self.passes(waiting);
        Pass::of(there.read + back.read, there.written + back.written)
    }
}

/// Bytes a parameter that a pass moves.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pass {
    /// From the drive.
    pub read: f64,
    /// To the drive.
    pub written: f64,
}

impl Pass {
    fn of(read: f64, written: f64) -> Self {
        Self { read, written }
    }

    /// Both together.
    pub fn bytes(&self) -> f64 {
        self.read + self.written
    }

    fn transfer(&self, parameters: f64) -> Transfer {
        Transfer {
            read: (self.read * parameters).round() as u64,
            written: (self.written * parameters).round() as u64,
        }
    }
}

/// A step of training, and what it runs on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainStep {
    /// What it does with weights and state.
    pub recipe: Recipe,
    /// Weights of the model.
    pub parameters: f64,
    /// Layers, all alike.
    pub layers: u32,
    /// Tokens of a step.
    pub tokens: f64,
    /// Operations a second as they are reached.
    pub flop_per_s: f64,
    /// What the drives do.
    pub rates: DriveRates,
    /// For what stays and what passes, in bytes.
    pub memory: u64,
}

/// Why a step cannot be had.
#[derive(Debug, Error)]
pub enum TrainError {
    /// A data sheet.
    #[error(transparent)]
    Sheet(#[from] SheetError),
    /// A figure that cannot be.
    #[error("{what} is {got}: expected {expected}")]
    Value {
        /// Which.
        what: &'static str,
        /// What it was.
        got: String,
        /// What is accepted.
        expected: String,
    },
    /// Memory.
    #[error("{memory} bytes are not enough for weights and state in passing: {needed} are")]
    Memory {
        /// What there is.
        memory: u64,
        /// The least that works.
        needed: u64,
    },
    /// The line.
    #[error(transparent)]
    Line(#[from] LineError),
    /// Activations.
    #[error(transparent)]
    Activations(#[from] delayline_train::Error),
    /// Memory for them.
    #[error(transparent)]
    Reserve(#[from] MemoryError),
}

impl From<TooSmall> for TrainError {
    fn from(small: TooSmall) -> Self {
        Self::Memory {
            memory: small.available,
            needed: small.needed,
        }
    }
}

impl TrainStep {
    /// Compute of the forward and the backward pass, in seconds.
    pub fn compute_s(&self) -> [f64; 2] {
        let all = self.parameters * self.tokens / self.flop_per_s;
        self.recipe.flop.map(|flop| flop * all)
    }

    /// Compute of a step that never waits: what training in memory takes, in seconds.
    pub fn in_memory_s(&self) -> f64 {
        self.compute_s().iter().sum()
    }

    /// The drives' time for what a step moves when nothing is kept, in seconds.
    pub fn moving_s(&self, waiting: f64) -> f64 {
        let moved = self.recipe.moved(waiting).transfer(self.parameters);
        self.rates.least_s(moved)
    }

    /// The step by closed form, with nothing kept: each pass takes as long as its compute
    /// and as what it moves, in seconds. `waiting` is the share of the updates that wait.
    pub fn closed_form_s(&self, waiting: f64) -> f64 {
        let passes = self
            .recipe
            .passes(waiting)
            .into_iter()
            .zip(self.compute_s());
        let pass = |(moved, compute_s): (Pass, f64)| {
            compute_s.max(self.rates.least_s(moved.transfer(self.parameters)))
        };
        passes.map(pass).sum()
    }

    /// Tokens of a step from which on the drives move as fast as it computes: the
    /// break-even batch, for what moves when this share of the updates waits.
    pub fn break_even_tokens(&self, waiting: f64) -> f64 {
        self.moving_s(waiting) * self.flop_per_s / (self.recipe.flop() * self.parameters)
    }

    /// Tokens of a step from which on neither pass waits for the drives.
    pub fn free_tokens(&self, waiting: f64) -> f64 {
        let passes = self
            .recipe
            .passes(waiting)
            .into_iter()
            .zip(self.recipe.flop);
        let tokens = |(moved, flop): (Pass, f64)| {
            let moving_s = self.rates.least_s(moved.transfer(self.parameters));
            moving_s * self.flop_per_s / (flop * self.parameters)
        };
        passes.map(tokens).fold(0.0, f64::max)
    }

    /// How many layers' updates had best wait for the next forward pass.
    pub fn best_waiting(&self) -> u32 {
        if self.recipe.waits {
            return self.layers;
        }
        if !self.recipe.updates() {
            return 0;
        }
        let step_s = |layers: &u32| self.closed_form_s(f64::from(*layers) / f64::from(self.layers));
        // The least that waits, of those that are as good.
        let all = (0..=self.layers).map(|layers| (step_s(&layers), layers));
        all.min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)))
            .map_or(0, |(_, layers)| layers)
    }

    /// The bound that no policy beats with this memory, in seconds.
    pub fn bound_s(&self, waiting_layers: u32) -> f64 {
        let plan = self.plan(waiting_layers);
        let least = LeastTransfer::new(&plan, self.memory);
        least.lap_bound_s(&plan, self.in_memory_s(), &self.rates)
    }

    /// The order of a step, of which `waiting` layers, evenly spread, are updated in the
    /// next forward pass.
    fn plan(&self, waiting: u32) -> Plan {
        let mut extents: Vec<Extent> = Vec::new();
        let each = self.parameters / f64::from(self.layers);
        let mut extent = |bytes: f64| {
            let offset = extents
                .last()
                .map_or(0, |last: &Extent| last.offset + last.len);
            let len = ((bytes * each) as u64).max(1).next_multiple_of(ALIGN);
            extents.push(Extent {
                part: 0,
                offset,
                len,
            });
            ExtentId(extents.len() as u32 - 1)
        };
        let layers = (0..self.layers).map(|layer| {
            let waits = |n: u32| u64::from(n) * u64::from(waiting) / u64::from(self.layers);
            self.layer(waits(layer + 1) > waits(layer), &mut extent)
        });
        let layers = layers.collect();
        Plan::there_and_back(extents, layers)
    }

    fn layer(&self, waits: bool, extent: &mut impl FnMut(f64) -> ExtentId) -> RoundTrip {
        let recipe = &self.recipe;
        let weights = extent(recipe.weights);
        let state = recipe.updates().then(|| extent(recipe.state));
        let (mut there, mut back) = (vec![], vec![]);
        if waits {
            let gradient = extent(recipe.gradient);
            there.push(Use::read(gradient));
            there.push(Use::modify(weights));
            there.extend(state.map(Use::modify));
            back.push(Use::read(weights));
            back.push(Use::write(gradient));
        } else {
            there.push(Use::read(weights));
            back.push(Use {
                extent: weights,
                mode: recipe.back,
            });
            back.extend(state.map(Use::modify));
        }
        let run = |uses, compute| Run { uses, compute };
        RoundTrip {
            there: run(there, recipe.flop[0]),
            back: run(back, recipe.flop[1]),
        }
    }
}

/// What is trained: parameters and layers.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainedModel {
    /// For people.
    pub name: String,
    /// Weights.
    pub parameters: f64,
    /// Layers.
    pub layers: u32,
}

impl TrainedModel {
    /// A model of a data sheet, whose weights are of 16 bit there; of a mixture only what
    /// a token is multiplied with computes, so that there is no closed form here.
    pub fn of(model: &LanguageModel) -> Result<Self, TrainError> {
        if model.experts.is_some() {
            return Err(TrainError::Value {
                what: "the model",
                got: model.name.clone(),
                expected: "a dense one, or --parameters and --layers: of a mixture this knows \
                           no order"
                    .to_owned(),
            });
        }
        Ok(Self {
            name: model.name.clone(),
            parameters: model.weights_bytes / 2.0,
            layers: model.layers,
        })
    }
}
