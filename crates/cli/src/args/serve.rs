//! The options of `serve`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;

use super::{Baseline, EngineArgs};

/// Serve a model to OpenAI-compatible clients.
///
/// All clients ride the same laps: a lap costs the same bytes for one sequence as
/// for many. Prints its address, how many sequences ride, and from how many on the
/// compute, not the medium, is the longer part of a lap. Ctrl-C or SIGTERM lets
/// running answers end, a second one does not.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// The model, a GGUF file; of a split model, the first part
    #[arg(value_name = "MODEL")]
    pub model: PathBuf,
    #[command(flatten)]
    pub engine: EngineArgs,
    /// Most sequences that share a lap; each may have --ctx tokens as far as the KV cache has room
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub batch: u32,
    /// Run the model this way instead, to compare with; --memory is then only a hint, and
    /// nothing but a memory cgroup keeps it
    #[arg(long, value_name = "WAY", hide_short_help = true)]
    pub baseline: Option<Baseline>,
    #[command(flatten)]
    pub access: AccessArgs,
    #[command(flatten)]
    pub limits: LimitArgs,
}

/// Who may use the server.
#[derive(Debug, Args)]
#[command(next_help_heading = "Access")]
pub struct AccessArgs {
    /// Port to listen on; 0 lets the system choose
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    pub port: u16,
    /// Address to listen on; others than this machine's own need --api-key or --insecure
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    pub host: IpAddr,
    /// Key that clients must send; several with commas between
    #[arg(
        long,
        value_name = "KEY",
        env = "DELAYLINE_API_KEY",
        hide_env_values = true,
        value_delimiter = ','
    )]
    pub api_key: Vec<String>,
    /// Let everybody who reaches the address use it without a key
    #[arg(long)]
    pub insecure: bool,
    /// Let pages of this origin, scheme and name, use the API; may be repeated
    #[arg(long, value_name = "ORIGIN")]
    pub allow_origin: Vec<String>,
}

/// What clients may take.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub struct LimitArgs {
    /// Requests that may wait for a place; more are told to come back (429)
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub queue: u32,
    /// Seconds that a request may wait
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub queue_time: u32,
    /// Seconds that a request may take in all
    #[arg(long, value_name = "SECONDS", default_value_t = 1800)]
    pub request_time: u32,
    /// Seconds that running answers get to end after SIGTERM
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub drain_time: u32,
}
