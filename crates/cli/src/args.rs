//! The command line: commands, options, help. What the options mean for a model or a machine
//! is decided elsewhere.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::medium::{self, MediumArg};
use crate::names;
use crate::size::{Budget, parse_count, parse_rate, parse_size};

mod graph;
mod serve;

pub use graph::{GraphBenchArgs, GraphCommand, GraphRepackArgs, GraphSynthArgs, MiniBatchArgs};
pub use serve::{KvArgs, KvScopeArg, KvShareArgs, ServeArgs};

const EXAMPLES: &str = "\
Examples:
  delayline run model.gguf --memory 2GiB -p 'What is a delay line?'
  delayline serve model.gguf --memory 2GiB --port 8080
  delayline inspect model.gguf --memory 2GiB --measure
  delayline bench model.gguf --budgets /2,/1.25 --baseline mmap
  delayline doctor /mnt/models

A model is a GGUF file, or hf:ORG/REPO[:QUANT] for one of the Hugging Face hub, which is
fetched first if it is not in the cache of the hub's tools.
Sizes are in bytes or with a unit: 2GiB, 512MiB (powers of 1024), 1.5GB (of 1000).
Exit status: 0 done, 1 failed, 2 wrong usage, 130 after Ctrl-C.";

/// Run language models larger than memory.
///
/// The weights are read from flash in the order in which the model needs them,
/// which is known in advance, through a window of bounded size.
#[derive(Debug, Parser)]
#[command(name = "delayline", version, after_help = EXAMPLES, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Run(RunArgs),
    Serve(ServeArgs),
    Batch(BatchArgs),
    List(ListArgs),
    /// List the architectures that run, and those that do not.
    ///
    /// For each that runs, the tests have a tiny model whose logits equal those of llama.cpp
    /// alone, bit for bit.
    Models,
    Inspect(InspectArgs),
    Bench(BenchArgs),
    #[command(hide = true)]
    Trial(crate::trial::TrialJob),
    #[command(hide = true)]
    BenchProbe(crate::bench::probe::ProbeJob),
    Doctor(DoctorArgs),
    Study(crate::study::args::StudyArgs),
    Synth(SynthArgs),
    Stripe(StripeArgs),
    Template(TemplateArgs),
    Seal(SealArgs),
    /// Inspect the folder of a KV cache (`serve --kv-cache`), or empty it.
    #[command(subcommand)]
    Kv(KvCommand),
    /// Features of graph networks from flash: write graphs to measure with, measure the loader.
    #[command(subcommand)]
    Graph(GraphCommand),
    Completions(CompletionsArgs),
}

impl Command {
    /// The model that the command names, if it takes one.
    pub fn model_mut(&mut self) -> Option<&mut PathBuf> {
        match self {
            Self::Run(args) => Some(&mut args.model),
            Self::Serve(args) => Some(&mut args.model),
            Self::Batch(args) => Some(&mut args.model),
            Self::Inspect(args) => Some(&mut args.model),
            Self::Bench(args) => Some(&mut args.model),
            Self::Stripe(args) => Some(&mut args.model),
            Self::Template(args) => Some(&mut args.model),
            Self::Seal(args) => Some(&mut args.model),
            _ => None,
        }
    }
}

/// How results are printed; understood by every command.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct OutputArgs {
    /// Print JSON, one object a line, and nothing else on standard output
    #[arg(long, global = true, help_heading = "Output")]
    pub json: bool,
    /// Say more on standard error; twice for llama.cpp's messages as well
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Output")]
    pub verbose: u8,
}

/// Generate text.
///
/// The answer goes to standard output as it comes, figures about it to standard
/// error. A model with a chat template is given the prompt as one turn of a
/// conversation; any other, or with --raw, continues it. With --json each piece
/// is an object, and the last object holds the figures.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The model, a GGUF file; of a split model, the first part
    #[arg(value_name = "MODEL", value_parser = names::parser())]
    pub model: PathBuf,
    /// What to say to the model [default: a conversation on a terminal, else all of standard input]
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true)]
    pub prompt: Option<String>,
    /// Stop an answer after N tokens [default: where the model ends it or the context is full]
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub tokens: Option<u32>,
    /// Continue the prompt as it is, instead of giving it to an instruct model as a turn of a conversation
    #[arg(long)]
    pub raw: bool,
    /// A chat template in Jinja, in place of the model's own
    #[arg(long, value_name = "FILE", conflicts_with = "raw")]
    pub chat_template: Option<PathBuf>,
    #[command(flatten)]
    pub kv: KvArgs,
    #[command(flatten)]
    pub engine: EngineArgs,
    #[command(flatten)]
    pub sampling: SamplingArgs,
}

/// Measure laps under several memory budgets, side by side in one run.
///
/// Each budget is run in a process of its own, in turns, so that changes of the machine's
/// speed affect all of them alike. Prints rates, the physical limit at each budget, and how
/// close to it each came.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// The model, a GGUF file; of a split model, the first part
    #[arg(value_name = "MODEL", value_parser = names::parser())]
    pub model: PathBuf,
    /// Memory budgets, with commas between: sizes (2GiB) or shares of the model (1/2, or /1.25 for 1/1.25)
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "/2,/1.5,/1.25",
        conflicts_with = "memory"
    )]
    pub budgets: Vec<Budget>,
    /// Instead measure laps that these numbers of sequences share, such as 1,2,4,8,16; under --memory or the first of --budgets
    #[arg(long, value_name = "LIST", value_delimiter = ',',
          value_parser = clap::value_parser!(u32).range(1..=64))]
    pub batch: Vec<u32>,
    /// Also measure this way of running the model, within the same budgets
    #[arg(long, value_name = "WAY")]
    pub baseline: Option<Baseline>,
    /// Also write the plan of each budget into this directory, as BYTES.json, for `delayline study decode --plan`
    #[arg(long, value_name = "DIR", conflicts_with = "batch")]
    pub plans: Option<PathBuf>,
    /// Also write which experts the tokens chose, for --route and `delayline study experts`
    #[arg(long, value_name = "FILE", conflicts_with = "batch")]
    pub record: Option<PathBuf>,
    /// Make every token use the experts of a recorded route, so that random weights behave like a real model; the text is then noise; with --batch each sequence starts 32 tokens after the one before
    #[arg(long, value_name = "FILE")]
    pub route: Option<PathBuf>,
    /// With --route, the share of the next layer's experts that is guessed right; wrong guesses are other experts of the layer, as often as the route uses them [default: 0.886, as measured on Qwen3-30B]
    #[arg(long, value_name = "SHARE", requires = "route")]
    pub guess_accuracy: Option<f64>,
    /// Tokens to decode, each a lap of its own
    #[arg(short = 'n', long, value_name = "N", default_value_t = 16,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub tokens: u32,
    /// Tokens of the prompt, which is read first
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub prompt_tokens: u32,
    /// How often each measurement is made; the median counts
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub repeat: u32,
    #[command(flatten)]
    pub engine: EngineArgs,
}

/// What `bench` and `serve` can compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Baseline {
    /// llama.cpp with the model mapped into memory
    Mmap,
}

/// Show a model's extents and how it would run within a memory budget.
///
/// With a device rate, given or measured, it also prints how long a lap takes at best.
/// Nothing is run.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// The model, a GGUF file; of a split model, the first part
    #[arg(value_name = "MODEL", value_parser = names::parser())]
    pub model: PathBuf,
    /// The device rate to calculate with, such as 2.8GB/s
    #[arg(long, value_name = "RATE", value_parser = parse_rate, conflicts_with = "measure")]
    pub rate: Option<f64>,
    /// Measure the device rate, which takes a few seconds
    #[arg(long)]
    pub measure: bool,
    /// Also write the plan at the budget: extents, what stays, runs; for `delayline study decode --plan`
    #[arg(long, value_name = "FILE")]
    pub plan: Option<PathBuf>,
    #[command(flatten)]
    pub engine: EngineArgs,
}

/// How a model is run, for all commands. An absent option means: as suits the model and the
/// machine.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Engine")]
pub struct EngineArgs {
    /// Memory for the whole process, such as 2GiB [default: nine tenths of what is free, within the cgroup's limit]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub memory: Option<u64>,
    /// Memory through which streamed weights pass, such as 256MiB, part of --memory; never less than the model needs [default: as the schedule needs]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub window: Option<u64>,
    /// Compute threads [default: at most one for each core that this process may use, and fewer while other programs use the cores and fewer are faster]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=512))]
    pub threads: Option<u32>,
    /// Tokens of context: prompt and answers together [default: as many as an eighth of --memory holds, at most 4096, or the model's own where all of it is in memory]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=16_777_216))]
    pub ctx: Option<u32>,
    /// Maximum number of tokens that share a lap while a prompt is read [default: by threads and --memory]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub ubatch: Option<u32>,
    /// Number format of the KV cache; smaller ones are less exact
    #[arg(long, value_name = "TYPE", default_value = "f16")]
    pub kv_type: KvTypeArg,
    /// Attention in one fused kernel; q8_0 and q4_0 caches need it
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub flash_attn: FlashAttn,
    /// What the streamed weights come from: flash; a fiber loop that is filled from it,
    /// fiber:length=10000km,rate=20Gbit/s, fiber:c-l or fiber:design=FILE.toml; flash with
    /// faults, to see what they do, faulty:flipped=1e-3,seed=7; or, from a file of media,
    /// FILE.toml or FILE.toml:NAME [default: flash]
    #[arg(long, value_name = "MEDIUM", value_parser = medium::typed)]
    pub medium: Option<MediumArg>,
    /// Which experts of a mixture stay in memory, where everything else does
    #[arg(long, value_name = "POLICY", default_value = "next-use")]
    pub experts: ExpertsArg,
    /// Do not read experts that the next layer will only probably use
    #[arg(long)]
    pub no_guess: bool,
    /// Neither read nor write MODEL.experts, which lists the experts of a mixture that were hot in earlier runs, so that they are read before they are needed; `bench` never uses it
    #[arg(long)]
    pub no_hotness: bool,
    /// Record when each extent was read and used, for chrome://tracing or ui.perfetto.dev
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Open a file that this machine has not opened before without trying it in a process of its own first: a crash of llama.cpp then ends this one
    #[arg(long)]
    pub no_trial: bool,
    /// Compute with whatever bytes the medium brings, without checking them against the model's seal or the first read: errors of a failing drive then go into the answer
    #[arg(long)]
    pub no_verify: bool,
}

impl EngineArgs {
    /// These options as arguments for a child process of this program, without the trace,
    /// which only one process can write.
    pub fn arguments(&self) -> Vec<OsString> {
        let mut out = Vec::new();
        let mut option = |name: &str, value: Option<String>| {
            out.extend(value.map(|value| OsString::from(format!("--{name}={value}"))));
        };
        let named = |value: PossibleValue| value.get_name().to_owned();
        let medium = self.medium.as_ref().map(|medium| medium.text.clone());
        option("medium", medium);
        option("memory", self.memory.map(|n| n.to_string()));
        option("window", self.window.map(|n| n.to_string()));
        option("threads", self.threads.map(|n| n.to_string()));
        option("ctx", self.ctx.map(|n| n.to_string()));
        option("ubatch", self.ubatch.map(|n| n.to_string()));
        option("kv-type", self.kv_type.to_possible_value().map(named));
        option("flash-attn", self.flash_attn.to_possible_value().map(named));
        option("experts", self.experts.to_possible_value().map(named));
        if self.no_guess {
            out.push("--no-guess".into());
        }
        if self.no_hotness {
            out.push("--no-hotness".into());
        }
        if self.no_trial {
            out.push("--no-trial".into());
        }
        if self.no_verify {
            out.push("--no-verify".into());
        }
        out
    }
}

/// `--kv-type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum KvTypeArg {
    /// 2 bytes a value
    #[default]
    F16,
    /// 4 bytes a value
    F32,
    /// About 1.06 bytes a value
    #[value(name = "q8_0")]
    Q8_0,
    /// About 0.56 bytes a value
    #[value(name = "q4_0")]
    Q4_0,
}

/// `--experts`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ExpertsArg {
    /// Those that are expected soonest, by how often and how lately they were used
    #[default]
    NextUse,
    /// Those that came first
    FirstCome,
    /// Those that were used last
    Lru,
    /// Those that were used most, with aging
    Frequency,
    /// Two queues, and a list of those that left lately
    S3Fifo,
}

/// `--flash-attn`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum FlashAttn {
    /// Where the model and the kernels have it
    #[default]
    Auto,
    /// Always
    On,
    /// Never
    Off,
}

/// How a token is chosen from the model's probabilities.
#[derive(Clone, Copy, Debug, Args)]
#[command(next_help_heading = "Sampling")]
pub struct SamplingArgs {
    /// Temperature, from 0 (always the likeliest token) to 100 [default: the model's own, or 0.8]
    #[arg(long, value_name = "T", value_parser = zero_to_hundred,
          allow_negative_numbers = true)]
    pub temp: Option<f32>,
    /// Choose among the K likeliest tokens; 0 for all [default: the model's own, or 40]
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(i32).range(0..))]
    pub top_k: Option<i32>,
    /// Choose among the likeliest tokens that together reach this probability, 0 to 1; 1 for all [default: the model's own, or 0.95]
    #[arg(long, value_name = "P", value_parser = zero_to_one,
          allow_negative_numbers = true)]
    pub top_p: Option<f32>,
    /// Drop tokens less likely than this share of the likeliest, 0 to 1; 0 for none [default: the model's own, or 0.05]
    #[arg(long, value_name = "P", value_parser = zero_to_one,
          allow_negative_numbers = true)]
    pub min_p: Option<f32>,
    /// Divide the logits of recent tokens by this, 0.01 to 100; 1 for off [default: the model's own, or 1]
    #[arg(long, value_name = "R", value_parser = penalty,
          allow_negative_numbers = true)]
    pub repeat_penalty: Option<f32>,
    /// The same seed gives the same answer
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u32,
}

/// Find out how well this machine can stream, and what would help.
///
/// Reads from a file, or writes one of 512 MiB for the measurement into a
/// directory and removes it. In a directory it also writes to that file for a second, and
/// says what a step of training would cost there. Takes a few seconds. Fails if streaming
/// cannot work.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// A model or another large file, or the directory where models, or the state of a
    /// training, will be
    #[arg(value_name = "PATH", default_value = ".")]
    pub path: PathBuf,
    /// Parameters of a model to be trained from there: what a step costs
    #[arg(long, value_name = "N", value_parser = parse_count, default_value = "1B")]
    pub params: u64,
    /// Bytes that may be written to the drive in its life (TBW on its data sheet)
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "600TB")]
    pub endurance: u64,
}

/// Answer a file of requests, many on each lap.
///
/// Requests and answers are in OpenAI's batch format, a line of JSON each: `custom_id`,
/// `url` (/v1/chat/completions, /v1/completions, /v1/responses, /v1/messages) and `body`;
/// errors are lines, too. Requests that begin alike are asked one after the other. However a
/// run ended, the next one continues it: requests with an answer are not asked again.
#[derive(Debug, Args)]
pub struct BatchArgs {
    /// The model, a GGUF file; of a split model, the first part
    #[arg(value_name = "MODEL", value_parser = names::parser())]
    pub model: PathBuf,
    /// The requests
    #[arg(value_name = "IN")]
    pub requests: PathBuf,
    /// The answers, in the order in which they end
    #[arg(value_name = "OUT")]
    pub answers: PathBuf,
    /// Maximum number of sequences that share a lap, as far as the KV cache has room [default:
    /// 32, or as many as --memory has room for]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub batch: Option<u32>,
    /// A chat template in Jinja, in place of the model's own
    #[arg(long, value_name = "FILE")]
    pub chat_template: Option<PathBuf>,
    #[command(flatten)]
    pub engine: EngineArgs,
}

/// List the models in the cache of the Hugging Face hub's tools.
///
/// Each can be named as hf:ORG/REPO:QUANT in place of a model's path.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// The memory that a model would get [default: nine tenths of what is free]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub memory: Option<u64>,
}

/// Show what a template makes of a chat request.
///
/// The request is as it is sent to /v1/chat/completions: `messages`, `tools` and
/// `chat_template_kwargs` are given to the template as they are, and the result is printed,
/// byte for byte that of Transformers. A server also describes tools to a model whose
/// template has none, and puts texts in parts for a template that wants parts: its
/// /apply-template shows that.
#[derive(Debug, Args)]
pub struct TemplateArgs {
    /// The model, a GGUF file
    #[arg(value_name = "MODEL", value_parser = names::parser())]
    pub model: PathBuf,
    /// The request, a file of JSON
    #[arg(value_name = "REQUEST")]
    pub request: PathBuf,
    /// A chat template in Jinja, in place of the model's own
    #[arg(long, value_name = "FILE")]
    pub chat_template: Option<PathBuf>,
}

/// Write a model with random weights in the shape of a real one.
///
/// It runs as fast and takes as much memory as the real one; what it says is
/// noise.
#[derive(Debug, Args)]
pub struct SynthArgs {
    /// The shape; also tiny-ARCH for nearly every architecture of llama.cpp
    #[arg(value_name = "SHAPE", value_parser = PossibleValuesParser::new(shapes()))]
    pub shape: String,
    /// Where to write, NAME.gguf; with --parts, NAME-00001-of-0000N.gguf and so on
    #[arg(value_name = "OUT")]
    pub out: PathBuf,
    /// How the weights are quantised
    #[arg(long = "type", value_name = "TYPE", default_value = "q4_0",
          value_parser = PossibleValuesParser::new(delayline_synth::Quant::ALL.map(|quant| quant.name())))]
    pub quant: String,
    /// Seed of the weights: the same seed gives the same model
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Experts that compute for a token, 1 to as many as a layer has [default: the shape's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub experts_used: Option<u32>,
    /// Split the model into N files, 1 to 999 [default: one file, not split]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=999))]
    pub parts: Option<u16>,
    /// Write the first N layers alone, where all would be too large: of deepseek-v3 4 are 12 GB, of all 61 380 GB [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub layers: Option<u32>,
    /// Have tokens choose experts as in a trained mixture (qwen3-30b-a3b, mixtral-8x7b): some more often than others, much the same from token to token, and mostly those that the layer before would name
    #[arg(long)]
    pub routing: bool,
    /// Replace files that are there already
    #[arg(long)]
    pub force: bool,
}

/// Distribute a model over several drives, so that their rates add up.
///
/// Each file of the model becomes one in each folder, stripe by stripe in turns,
/// and the first folder gets the list of them, NAME.stripe.toml. The model then
/// runs by naming that list.
#[derive(Debug, Args)]
pub struct StripeArgs {
    /// The model, a GGUF file; of a split model, the first part
    #[arg(value_name = "MODEL", value_parser = names::parser())]
    pub model: PathBuf,
    /// A folder on each drive
    #[arg(value_name = "DIR", required = true, num_args = 2..=64)]
    pub dirs: Vec<PathBuf>,
    /// Bytes of a stripe, 64KiB to 64MiB in steps of 4096
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = stripe_unit)]
    pub unit: u64,
    /// Replace files that are there already
    #[arg(long)]
    pub force: bool,
}

/// Write the hashes of a model's bytes, so that everything read later can be checked.
///
/// The seal is a file beside each part of the model, NAME.seal, of a five-hundredth of its
/// length. It holds a hash of each 4096 bytes; `run`, `serve` and `bench` find it by
/// themselves. Wrong bytes are then read again, or end the lap with an error. Without a seal
/// the first read is trusted, and later ones are checked against it.
#[derive(Debug, Args)]
pub struct SealArgs {
    /// The model, a GGUF file; of a split model, the first part
    #[arg(value_name = "MODEL", value_parser = names::parser())]
    pub model: PathBuf,
}

/// What to do with the folder of a KV cache.
#[derive(Debug, Subcommand)]
pub enum KvCommand {
    /// Count its blocks
    Stat {
        /// The folder
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
    /// Check that its files are valid blocks
    Verify {
        /// The folder
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
    /// Remove the blocks used longest ago until the others fit; no server may be using it
    Prune {
        /// The folder
        #[arg(value_name = "DIR")]
        dir: PathBuf,
        /// Maximum size of the others on disk
        #[arg(long, value_name = "SIZE", value_parser = parse_size)]
        size: u64,
    },
    /// Remove all blocks; no server may be using it
    Clear {
        /// The folder
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
}

/// Print a completion script for a shell.
///
/// For bash: delayline completions bash > ~/.local/share/bash-completion/completions/delayline
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}

/// All shapes; the tiny models of the table are too many to list in the help.
fn shapes() -> Vec<PossibleValue> {
    let tables =
        delayline_synth::tiny_archs().map(|arch| PossibleValue::new(arch.name()).hide(true));
    let real =
        delayline_synth::names().chain(delayline_synth::sized_archs().map(|arch| arch.name()));
    real.map(PossibleValue::new).chain(tables).collect()
}

fn stripe_unit(text: &str) -> Result<u64, String> {
    let unit = parse_size(text).ok();
    let unit = unit.filter(|unit| (64 << 10..=64 << 20).contains(unit) && unit % 4096 == 0);
    unit.ok_or_else(|| "expected a multiple of 4096 from 64KiB to 64MiB".into())
}

fn number_in(text: &str, from: f32, to: f32) -> Result<f32, String> {
    let number = text
        .parse::<f32>()
        .ok()
        .filter(|number| (from..=to).contains(number));
    number.ok_or_else(|| format!("expected a number from {from} to {to}"))
}

fn zero_to_one(text: &str) -> Result<f32, String> {
    number_in(text, 0.0, 1.0)
}

fn zero_to_hundred(text: &str) -> Result<f32, String> {
    number_in(text, 0.0, 100.0)
}

fn penalty(text: &str) -> Result<f32, String> {
    number_in(text, 0.01, 100.0)
}

#[cfg(test)]
mod tests;
