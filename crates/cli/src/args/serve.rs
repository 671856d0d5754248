//! The options of `serve`.

use std::net::{IpAddr, Ipv4Addr, ToSocketAddrs};
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{Baseline, EngineArgs};
use crate::size::parse_size;

/// Serve a model to OpenAI-compatible clients.
///
/// All clients share the same laps: a lap costs the same bytes for one sequence as for many.
/// Prints its address, how many sequences share a lap, and from how many on compute, not the
/// medium, is the longer part of a lap. Ctrl-C or SIGTERM lets running answers end, a second
/// one does not.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// The model, a GGUF file; of a split model, the first part
    #[arg(value_name = "MODEL", value_parser = crate::names::parser())]
    pub model: PathBuf,
    #[command(flatten)]
    pub engine: EngineArgs,
    /// Maximum number of sequences that share a lap; each may have --ctx tokens as far as the KV cache has room
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub batch: u32,
    /// A chat template in Jinja, in place of the model's own
    #[arg(long, value_name = "FILE")]
    pub chat_template: Option<PathBuf>,
    /// Run the model this way instead, to compare with; --memory is then only a hint, and
    /// nothing but a memory cgroup keeps it
    #[arg(long, value_name = "WAY", hide_short_help = true)]
    pub baseline: Option<Baseline>,
    /// Do not confine the server to its model's files: an attacker who takes it over, by a
    /// request or a file, can then open other files, start programs and connect to other machines
    #[arg(long, hide_short_help = true)]
    pub no_sandbox: bool,
    #[command(flatten)]
    pub kv: KvArgs,
    #[command(flatten)]
    pub share: KvShareArgs,
    #[command(flatten)]
    pub access: AccessArgs,
    #[command(flatten)]
    pub limits: LimitArgs,
}

/// The KV cache on disk.
#[derive(Debug, Args)]
#[command(next_help_heading = "KV cache on disk")]
pub struct KvArgs {
    /// Keep the KV cache of prompts and answers in this folder, so that a prompt with the same
    /// beginning is not computed again, also after a restart
    #[arg(long, value_name = "DIR")]
    pub kv_cache: Option<PathBuf>,
    /// Maximum size of --kv-cache on disk
    #[arg(long, value_name = "SIZE", default_value = "10GB", requires = "kv_cache", value_parser = parse_size)]
    pub kv_size: u64,
    /// Maximum number of bytes written to --kv-cache in a day of UTC, to spare the drive; blocks
    /// that are there are still read
    #[arg(long, value_name = "SIZE", requires = "kv_cache", value_parser = parse_size)]
    pub kv_write_per_day: Option<u64>,
    /// Only read what was in --kv-cache at the start, and change nothing there; several processes
    /// may do so at once, beside one that writes
    #[arg(long, requires = "kv_cache", conflicts_with = "kv_write_per_day")]
    pub kv_read_only: bool,
}

/// The KV cache that several machines share, and who may use whose blocks.
#[derive(Debug, Args)]
#[command(next_help_heading = "KV cache on disk")]
pub struct KvShareArgs {
    /// Who uses what was computed for others, in memory and in --kv-cache, which
    /// `cached_tokens` shows: requests with the same API key, or all requests to this server
    #[arg(long, value_name = "WHO", default_value = "key")]
    pub kv_scope: KvScopeArg,
    /// Share complete blocks of --kv-cache with other servers, over a folder or a bucket:
    /// DIR or s3://BUCKET/PREFIX, with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION,
    /// AWS_ENDPOINT_URL and so on from the environment
    #[arg(
        long,
        value_name = "PLACE",
        requires = "kv_cache",
        requires = "kv_secret",
        conflicts_with = "kv_read_only"
    )]
    pub kv_shared: Option<String>,
    /// A file with a secret that all servers of --kv-shared know and nobody else: blocks without
    /// their seal are not used
    #[arg(long, value_name = "FILE", requires = "kv_shared")]
    pub kv_secret: Option<PathBuf>,
    /// Maximum size of --kv-shared; each of its servers removes the oldest blocks
    #[arg(long, value_name = "SIZE", default_value = "100GB", requires = "kv_shared", value_parser = parse_size)]
    pub kv_shared_size: u64,
}

/// Who uses what was computed for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KvScopeArg {
    /// Requests with the same API key.
    Key,
    /// All requests.
    Server,
}

/// Who may use the server.
#[derive(Debug, Args)]
#[command(next_help_heading = "Access")]
pub struct AccessArgs {
    /// Port to listen on; 0 lets the system choose
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    pub port: u16,
    /// Address to listen on, or a name for it; any but a loopback address needs --api-key or
    /// --insecure
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1", value_parser = parse_host)]
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
    /// Let everybody who reaches the address use the server without a key
    #[arg(long)]
    pub insecure: bool,
    /// Another name by which clients may ask for the model; several with commas between
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub alias: Vec<String>,
    /// Refuse requests for other names than the model's; without it they are answered by the
    /// one model there is
    #[arg(long)]
    pub strict_model: bool,
    /// Let pages of this origin, scheme and name, use the API; may be repeated
    #[arg(long, value_name = "ORIGIN")]
    pub allow_origin: Vec<String>,
}

/// Limits on what clients may use.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub struct LimitArgs {
    /// Requests that may wait for a slot; more are refused with status 429
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub queue: u32,
    /// Seconds that a request may wait; by default 256 laps, 120 seconds at least
    #[arg(long, value_name = "SECONDS")]
    pub queue_time: Option<u32>,
    /// Seconds that a request may take in all; by default two laps for each token of the
    /// context, 1800 seconds at least
    #[arg(long, value_name = "SECONDS")]
    pub request_time: Option<u32>,
    /// Tokens that a model may think before it answers, where a request does not say; -1 is no
    /// limit
    #[arg(long, value_name = "N", default_value_t = -1, allow_negative_numbers = true, value_parser = clap::value_parser!(i64).range(-1..))]
    pub reasoning_budget: i64,
    /// Seconds after which a lap that waits for the medium counts as hung: the server reports
    /// that it is ill and fails its requests until the drive answers; by default 16 times what
    /// such a lap usually takes, 5 at least
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub lap_time: Option<u32>,
    /// Seconds that running answers get to end after SIGTERM
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub drain_time: u32,
}

/// An address, or the first of a name; IPv4 is preferred.
fn parse_host(text: &str) -> Result<IpAddr, String> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    if let Ok(ip) = bare.unwrap_or(text).parse() {
        return Ok(ip);
    }
    if text.trim_end_matches('.').eq_ignore_ascii_case("localhost") {
        return Ok(Ipv4Addr::LOCALHOST.into());
    }
    let found = (text, 0).to_socket_addrs().map_err(|error| {
        format!("expected an address or the name of one, such as 127.0.0.1 or localhost: {error}")
    })?;
    let ips = found.map(|address| address.ip());
    ips.min_by_key(|ip| ip.is_ipv6())
        .ok_or_else(|| "the name has no address".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_an_address_or_a_name() {
        for (text, ip) in [
            ("localhost", "127.0.0.1"),
            ("LocalHost.", "127.0.0.1"),
            ("::1", "::1"),
            ("[::1]", "::1"),
            ("10.0.0.7", "10.0.0.7"),
        ] {
            assert_eq!(
                parse_host(text),
                Ok(ip.parse().expect("an address")),
                "{text}"
            );
        }
        let error = parse_host("no such name").expect_err("a refusal");
        assert!(error.contains("such as 127.0.0.1"), "{error}");
    }
}
