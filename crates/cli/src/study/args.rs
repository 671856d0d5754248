//! The command line of `study` as it was typed. What follows from it is decided
//! in the library.

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, ensure};
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use delayline_study::datasheet::{AsOf, Dimension};
use delayline_study::graph::GraphDrive;
use delayline_study::setting::{Setting, quantity};
use delayline_study::train::Recipe;

use crate::args::MiniBatchArgs;
use crate::size::{parse_rate, parse_size};

/// Times that are accepted, in the unit of
/// their option.
const TIMES: std::ops::RangeInclusive<f64> = 1e-6..=1e9;
/// Sizes of models that are worth a simulation and end within it, in bytes.
const WEIGHTS: std::ops::RangeInclusive<u64> = 1_000_000..=100_000_000_000_000;

fn time(text: &str) -> Result<f64> {
    let value = text.parse().ok().filter(|value| TIMES.contains(value));
    let (least, most) = (TIMES.start(), TIMES.end());
    value.with_context(|| format!("expected a number from {least} to {most}"))
}

fn time_or_none(text: &str) -> Result<f64> {
    match text.parse() {
        Ok(0.0) => Ok(0.0),
        _ => time(text).map_err(|error| anyhow!("{error}, or 0")),
    }
}

fn share(text: &str) -> Result<f64> {
    let value = text.trim().parse().ok();
    let value = value.filter(|share: &f64| *share > 0.0 && *share <= 1.0);
    value.context("expected a number above 0 and up to 1, such as 0.1")
}

/// `64`, `500k`, `1M`, `1.5G` or `310T`.
fn count(text: &str) -> Option<f64> {
    let text = text.trim();
    let units = [("k", 1e3), ("M", 1e6), ("G", 1e9), ("T", 1e12), ("P", 1e15)];
    let unit = units
        .iter()
        .find_map(|(unit, scale)| Some((text.strip_suffix(unit)?, *scale)));
    let (number, scale) = unit.unwrap_or((text, 1.0));
    Some(number.trim().parse::<f64>().ok()? * scale)
}

/// Tokens.
fn tokens(text: &str) -> Result<u64> {
    let value = count(text).filter(|tokens| (64.0..=1e12).contains(tokens));
    let value = value.context("expected a number of tokens from 64 to 1T, such as 500k or 10M")?;
    Ok(value as u64)
}

/// Parameters of a model.
fn parameters(text: &str) -> Result<f64> {
    let value = count(text).filter(|count| (1e4..=1e13).contains(count));
    value.context("expected a number of parameters from 10k to 10T, such as 774M or 70G")
}

/// Operations a second.
fn flop_per_s(text: &str) -> Result<f64> {
    let number = text.trim().trim_end_matches("FLOP/s");
    let value = count(number).filter(|flop| (1e6..=1e21).contains(flop));
    value.context("expected operations a second, such as 310GFLOP/s or 400TFLOP/s")
}

/// Bytes per second: `2.8GB/s` as everywhere, or `256Tbit/s` as optics has it.
fn rate(text: &str) -> Result<f64> {
    if !text.trim().ends_with("bit/s") {
        return parse_rate(text);
    }
    let value = quantity(text, Dimension::DataRate).filter(|rate| (1.0..9e18).contains(rate));
    value.context("expected a rate such as 8TB/s or 256Tbit/s, at least 1 byte per second")
}

fn skew(text: &str) -> Result<f64> {
    let value = text.trim().parse().ok();
    let value = value.filter(|skew: &f64| (0.0..=3.0).contains(skew));
    value.context("expected a number from 0 to 3, such as 0.7")
}

fn parse_weights(text: &str) -> Result<u64> {
    let bytes = parse_size(text)?;
    ensure!(
        WEIGHTS.contains(&bytes),
        "expected a size from 1MB to 100TB"
    );
    Ok(bytes)
}

/// Media with commas between, of which each may have parameters with commas itself.
#[derive(Clone, Debug)]
pub struct MediaList(pub Vec<String>);

fn media(text: &str) -> Result<MediaList> {
    let mut all: Vec<String> = Vec::new();
    for word in text.split(',') {
        // A word with a value belongs to the loop before it.
        match all.last_mut() {
            Some(last) if last.starts_with("fiber:") && word.contains('=') => {
                last.push(',');
                last.push_str(word);
            }
            _ => all.push(word.to_owned()),
        }
    }
    Ok(MediaList(all))
}

const EXAMPLES: &str = "\
Examples:
  delayline study claims
  delayline study link s-c-l --html link.html
  delayline study media --model llama-70b --feed 8TB/s --html media.html
  delayline study media fiber:hollow-core --hold 100GB --solve length
  delayline study find --model llama-70b --tokens 100 --users 16 --context 8192 --cheapest
  delayline study decode --model deepseek-v3 --medium article,hbf,own --batch 1,64 --feed 32TB/s
  delayline study decode --medium fiber:c-l,length=400km --set zr800.energy=10pJ/bit
  delayline study sweep --medium c-l --set c-l.length=10..1000km:21:log --out lengths.csv
  delayline study experts qwen.route.csv --share 0.03,0.1,0.25
  delayline study graph --drive cloud,nvme --share 0.125
  delayline study train --model llama-70b --tokens 4M --units 8
  delayline study train --parameters 774M --layers 36 --tokens 1024 --compute 310GFLOP/s --rate 1.5GB/s
  delayline study kv requests.jsonl --size 1M,10M --html kv.html
  delayline study sheets article

All figures come from data sheets, with source, date and range; `sheets` shows
them, --datasheets replaces them, --set changes one.";

/// Answer what a fiber loop and its rivals would do, with physics, power and money.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct StudyArgs {
    #[command(subcommand)]
    pub command: StudyCommand,
    #[command(flatten)]
    pub common: CommonArgs,
}

/// What every study understands.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Figures and pages")]
pub struct CommonArgs {
    /// Data sheets that add to those of the program or replace their figures: a .toml file, or a directory of some
    #[arg(long, global = true, value_name = "PATH")]
    pub datasheets: Vec<PathBuf>,
    /// Give a figure another value with its unit, as feed=8TB/s; with `sweep` several, as A,B,C, FROM..TO:COUNT or FROM..TO:COUNT:log
    #[arg(long, global = true, value_name = "SHEET.KEY=VALUE")]
    pub set: Vec<Setting>,
    /// The day as of which prices and products are judged old [default: today]
    #[arg(long, global = true, value_name = "DATE")]
    pub as_of: Option<AsOf>,
    /// Also tell which figure's range moves the answer most
    #[arg(long, global = true)]
    pub sensitivity: bool,
    /// Also write a page with plots, that needs nothing else
    #[arg(long, global = true, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum StudyCommand {
    Link(LinkArgs),
    Claims(ClaimsArgs),
    Media(MediaArgs),
    Find(FindArgs),
    Decode(DecodeArgs),
    Sweep(SweepArgs),
    Experts(ExpertsArgs),
    Graph(GraphStudyArgs),
    Kv(KvStudyArgs),
    Train(TrainStudyArgs),
    /// Hold the formula of decoding against systems that were measured, with its misses
    Measured,
    Sheets(SheetsArgs),
}

/// Design a fiber loop band by band: SNR, formats, rate, laps, power and money.
///
/// The optics are computed channel by channel: loss, Raman scattering, noise of
/// amplifiers and of nonlinearity, with launch powers given or optimised.
#[derive(Debug, Args)]
pub struct LinkArgs {
    /// A design file (.toml), one of the designs of the program (article, c-l, s-c-l, multi-core, hollow-core), or fiber:NAME with length= and laps=
    #[arg(value_name = "FILE", default_value = "article")]
    pub design: String,
    /// Also a row for each channel
    #[arg(long)]
    pub channels: bool,
    /// Print the design file itself, to start one's own from
    #[arg(long, conflicts_with = "channels")]
    pub print: bool,
}

/// Judge what was said about the idea, and find where each verdict would turn.
#[derive(Debug, Args)]
pub struct ClaimsArgs {
    /// Only these claims [default: all]
    #[arg(value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=15))]
    pub numbers: Vec<u32>,
    /// The loop that is judged: as it was said, a design, or fiber:NAME with length= and laps=
    #[arg(long = "loop", value_name = "MEDIUM", default_value = "said-loop")]
    pub about: String,
}

/// Compare media in one table, each sized to hold and feed the same.
#[derive(Debug, Args)]
pub struct MediaArgs {
    /// Ids of media, designs, or fiber:NAME with length= and laps= [default: all that there are today]
    #[arg(value_name = "MEDIUM")]
    pub media: Vec<String>,
    /// Hold this model
    #[arg(
        long,
        value_name = "ID",
        default_value = "llama-70b",
        conflicts_with = "hold"
    )]
    pub model: String,
    /// Hold so much, such as 32GB, instead of a model
    #[arg(long, value_name = "SIZE", value_parser = parse_size, allow_hyphen_values = true)]
    pub hold: Option<u64>,
    /// Deliver at least this rate; 1 if any rate will do
    #[arg(
        long,
        value_name = "RATE",
        default_value = "32TB/s",
        value_parser = rate,
        allow_hyphen_values = true
    )]
    pub feed: f64,
    /// The inverse: of which length is one loop that holds so much
    #[arg(long, value_name = "WHAT", value_parser = ["length"], requires = "media")]
    pub solve: Option<String>,
}

/// Find the machine that gives each user so many tokens a second.
///
/// Searches media, accelerators, how many of both, and how many sequences share a lap.
#[derive(Debug, Args)]
pub struct FindArgs {
    /// The model
    #[arg(long, value_name = "ID", default_value = "llama-70b")]
    pub model: String,
    /// Tokens per second of each user
    #[arg(long, value_name = "RATE", default_value_t = 20.0)]
    pub tokens: f64,
    /// Users at once
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub users: u32,
    /// Tokens of context of each
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub context: u32,
    /// The one that costs least to buy (default)
    #[arg(long, conflicts_with = "coolest")]
    pub cheapest: bool,
    /// The one that draws least
    #[arg(long)]
    pub coolest: bool,
    /// Accelerators that may be used [default: all]
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    pub accelerator: Vec<String>,
    /// Media that may be used; `own` is the accelerator's own memory [default: all that there are today]
    #[arg(long, value_name = "ID", value_parser = media)]
    pub medium: Vec<MediaList>,
    /// What runs the model, by its data sheet: tuned, server; ideal gives upper bounds
    #[arg(long, value_name = "ID", default_value = "tuned")]
    pub software: String,
}

/// Simulate decoding: tokens per second, power and money, beside the closed form.
///
/// The line of the program itself runs in virtual time over the medium. With
/// commas between, several models, accelerators, media and batches are compared.
#[derive(Debug, Args)]
pub struct DecodeArgs {
    /// Models
    #[arg(
        long,
        value_name = "ID",
        value_delimiter = ',',
        default_value = "llama-70b"
    )]
    pub model: Vec<String>,
    /// What computes
    #[arg(long, value_name = "ID", value_delimiter = ',', default_value = "b200")]
    pub accelerator: Vec<String>,
    /// What feeds it; `own` is the accelerator's own memory; fiber:NAME has length= and laps= [default: article,hbf, and own where there is some]
    #[arg(long, value_name = "ID", value_parser = media)]
    pub medium: Vec<MediaList>,
    /// Sequences that share a lap
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub batch: Vec<u32>,
    #[command(flatten)]
    pub machine: MachineArgs,
}

/// Run decoding over ranges of parameters, in parallel, and write CSV.
///
/// Every --set is a column, every combination of their values a row. Beside the
/// figures of data sheets these can be set: batch, context, units, accelerators,
/// feed, window, resident.
#[derive(Debug, Args)]
pub struct SweepArgs {
    /// The model
    #[arg(long, value_name = "ID", default_value = "llama-70b")]
    pub model: String,
    /// What computes
    #[arg(long, value_name = "ID", default_value = "b200")]
    pub accelerator: String,
    /// What feeds it; `own` is the accelerator's own memory
    #[arg(long, value_name = "ID", default_value = "article")]
    pub medium: String,
    /// Sequences that share a lap, unless batch is set
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub batch: u32,
    /// Write there, whole or not at all [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub machine: MachineArgs,
}

/// The machine of a lap, as far as it is not on data sheets.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Machine")]
pub struct MachineArgs {
    /// Tokens of context of each sequence
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        allow_hyphen_values = true
    )]
    pub context: u32,
    /// At least so many units of the medium [default: as many as hold the model]
    #[arg(long, value_name = "N", default_value_t = 0, allow_hyphen_values = true,
          value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub units: u32,
    /// Accelerators that share each layer [default: 1, or as many as hold the model in their own memory]
    #[arg(long, value_name = "N", default_value_t = 0, allow_hyphen_values = true, hide_default_value = true,
          value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub accelerators: u32,
    /// What runs the model, by its data sheet: tuned, server; ideal gives upper bounds
    #[arg(long, value_name = "ID", default_value = "tuned")]
    pub software: String,
    /// Enough units of the medium for this rate, such as 32TB/s
    #[arg(long, value_name = "RATE", value_parser = rate, allow_hyphen_values = true)]
    pub feed: Option<f64>,
    /// The window through which weights pass [default: on the chip or in the memory beside it, whichever is better]
    #[arg(long, value_name = "SIZE", value_parser = parse_size, allow_hyphen_values = true)]
    pub window: Option<u64>,
    /// Weights that stay with the accelerator
    #[arg(long, value_name = "SIZE", value_parser = parse_size, allow_hyphen_values = true)]
    pub resident: Option<u64>,
    /// A medium of this measured rate, such as 2.8GB/s, instead of one of a data sheet
    #[arg(long, value_name = "RATE", value_parser = rate, allow_hyphen_values = true)]
    pub rate: Option<f64>,
    /// Its latency in microseconds
    #[arg(
        long,
        value_name = "MICROSECONDS",
        default_value_t = 0.0,
        value_parser = time_or_none,
        allow_hyphen_values = true,
        requires = "rate"
    )]
    pub latency_us: f64,
    /// A turn of it in milliseconds, if it is a loop in which everything comes by
    #[arg(long, value_name = "MILLISECONDS", requires = "rate", value_parser = time, allow_hyphen_values = true)]
    pub turn_ms: Option<f64>,
    /// Compute of a lap in milliseconds, as measured, instead of the accelerator's
    #[arg(long, value_name = "MILLISECONDS", value_parser = time, allow_hyphen_values = true)]
    pub compute_ms: Option<f64>,
    /// Weights of this size instead of a model of a data sheet
    #[arg(long, value_name = "SIZE", value_parser = parse_weights, allow_hyphen_values = true)]
    pub weights: Option<u64>,
    /// What the program made of a model and a budget, as `inspect --plan` writes it, instead of a model of a data sheet
    #[arg(long, value_name = "FILE", conflicts_with_all = ["weights", "window", "resident"])]
    pub plan: Option<PathBuf>,
}

/// Replay which experts a model chose: what would have been in memory, under all policies.
///
/// The policy that the program uses stands beside others, and beside what is possible
/// where the whole route is known.
#[derive(Debug, Args)]
pub struct ExpertsArgs {
    /// A recorded route: lines of turn,phase,step,layer,slot,expert,weight,residency,expert_bytes
    #[arg(value_name = "FILE")]
    pub route: PathBuf,
    /// Memory for experts, as shares of their bytes
    #[arg(long, value_name = "SHARE", value_delimiter = ',', default_value = "0.03,0.1,0.25",
          value_parser = share, allow_hyphen_values = true)]
    pub share: Vec<f64>,
}

/// Replay the feature rows of a graph's mini-batches under all policies on any drive.
///
/// Predicted: the loader's look-ahead beside Belady's policy, SIEVE and LRU, each missed row
/// read singly or in sweeps over the file. Without a folder a trace is drawn.
#[derive(Debug, Args)]
pub struct GraphStudyArgs {
    /// A folder of `delayline graph synth`, or with node_feat.npy, indptr.npy and indices.npy of one's own; only its edges are read
    #[arg(value_name = "DIR", conflicts_with_all = ["rows", "row", "draws", "skew"])]
    pub dir: Option<PathBuf>,
    /// Drives: cloud has 3,000 reads/s and 125 MB/s, cloud-most 16,000 and 1 GB/s, virtual 123,000 and 1.4 GB/s, nvme a million and 7 GB/s
    #[arg(long, value_name = "NAME", value_delimiter = ',', default_value = "cloud,nvme",
          value_parser = PossibleValuesParser::new(GraphDrive::ALL.map(|drive| drive.name)))]
    pub drive: Vec<String>,
    /// Memory for features, as shares of their file
    #[arg(long, value_name = "SHARE", value_delimiter = ',', default_value = "0.125",
          value_parser = share, allow_hyphen_values = true)]
    pub share: Vec<f64>,
    #[command(flatten)]
    pub sampling: MiniBatchArgs,
    /// Epochs of a folder's graph
    #[arg(long, value_name = "N", default_value_t = 1, requires = "dir", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub epochs: u32,
    /// Rows of a trace that is drawn
    #[arg(long, value_name = "N", default_value_t = 500_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000_000))]
    pub rows: u32,
    /// Bytes of a row
    #[arg(long, value_name = "SIZE", default_value = "512B", value_parser = parse_size)]
    pub row: u64,
    /// Draws of a batch; what is drawn twice is read once
    #[arg(long, value_name = "N", default_value_t = 3_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub draws: u32,
    /// How unequal rows are: the n-th is drawn in proportion to 1 / n^SKEW
    #[arg(long, value_name = "SKEW", default_value_t = 0.7, value_parser = skew, allow_hyphen_values = true)]
    pub skew: f64,
}

/// Replay recorded requests: how much of their prompts a store of KV caches would find again.
///
/// The index and the policy of `serve --kv-cache` run in virtual time, beside LRU, beside
/// Belady's policy, which knows the whole trace, and beside a store without a limit.
#[derive(Debug, Args)]
pub struct KvStudyArgs {
    /// A trace in Mooncake's format: a line of JSON a request, with input_length and hash_ids of 512 tokens each
    #[arg(value_name = "TRACE")]
    pub trace: PathBuf,
    /// Room for so many tokens, such as 500k or 10M
    #[arg(long, value_name = "TOKENS", value_delimiter = ',', default_value = "1M,3M,10M,20M",
          value_parser = tokens, allow_hyphen_values = true)]
    pub size: Vec<u64>,
}

/// A step of training with weights and state on flash: what it takes, and from which batch on nothing.
///
/// By closed form and by the program's own line in virtual time; beside it, what accelerators
/// that hold everything cost, what flash beside them, and what G10 published.
#[derive(Debug, Args)]
pub struct TrainStudyArgs {
    /// The model
    #[arg(
        long,
        value_name = "ID",
        default_value = "llama-70b",
        conflicts_with = "parameters"
    )]
    pub model: String,
    /// A model of so many parameters, such as 774M, instead of one of a data sheet
    #[arg(long, value_name = "N", value_parser = parameters, requires = "layers", allow_hyphen_values = true)]
    pub parameters: Option<f64>,
    /// Its layers
    #[arg(long, value_name = "N", requires = "parameters", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub layers: Option<u32>,
    /// What a step does with weights and state
    #[arg(long, value_name = "NAME", default_value = "adamw",
          value_parser = PossibleValuesParser::new(Recipe::ALL.map(|recipe| recipe.name)))]
    pub recipe: String,
    /// Tokens of a step [default: training.batch of the data sheets]
    #[arg(long, value_name = "TOKENS", value_parser = tokens, allow_hyphen_values = true)]
    pub tokens: Option<u64>,
    /// What computes
    #[arg(long, value_name = "ID", default_value = "b200")]
    pub accelerator: String,
    /// How many of them
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub accelerators: u32,
    /// The drives, by a data sheet with write_rate and endurance
    #[arg(long, value_name = "ID", default_value = "ssd")]
    pub medium: String,
    /// How many of them
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub units: u32,
    /// Operations a second as measured, such as 310GFLOP/s, instead of the accelerators'
    #[arg(long, value_name = "RATE", value_parser = flop_per_s, allow_hyphen_values = true)]
    pub compute: Option<f64>,
    /// Rate of reading as measured, such as 3.5GB/s, instead of the drives'
    #[arg(long, value_name = "RATE", value_parser = rate, allow_hyphen_values = true)]
    pub rate: Option<f64>,
    /// Rate of writing [default: as of reading]
    #[arg(long, value_name = "RATE", value_parser = rate, requires = "rate", allow_hyphen_values = true)]
    pub write_rate: Option<f64>,
    /// Both together, half of it read and half written [default: one after the other]
    #[arg(long, value_name = "RATE", value_parser = rate, requires = "rate", allow_hyphen_values = true)]
    pub mixed_rate: Option<f64>,
    /// Memory for weights and state [default: what six layers take]
    #[arg(long, value_name = "SIZE", value_parser = parse_size, allow_hyphen_values = true)]
    pub memory: Option<u64>,
}

/// Show data sheets: every figure with its range, source, date and how it is known.
#[derive(Debug, Args)]
pub struct SheetsArgs {
    /// Ids of sheets [default: a list of all]
    #[arg(value_name = "ID")]
    pub ids: Vec<String>,
    /// Prices and figures of products that are older than six months
    #[arg(long, conflicts_with = "ids")]
    pub stale: bool,
}
