//! `delayline-share PLACE --size BYTES`: connects one server to the KV cache that several
//! share. That server starts it and talks to it over standard input and output. A program of
//! its own, so that the one that runs models makes no connections.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Parser;
use delayline_kv::{ShareMessage, ShareVerb};
use delayline_share::{SharedPlace, serve};

/// Connect a server to the KV cache that several servers share.
///
/// `delayline serve --kv-shared` starts it. Credentials for s3:// are those of the
/// environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION,
/// AWS_ENDPOINT_URL, AWS_ALLOW_HTTP.
#[derive(Debug, Parser)]
#[command(name = "delayline-share", version)]
struct Args {
    /// A folder, or s3://BUCKET/PREFIX
    #[arg(value_name = "PLACE")]
    place: String,
    /// What its blocks may take, in bytes
    #[arg(long, value_name = "BYTES")]
    size: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    // It ends after its server, not by a signal: the server sends its last blocks at its end.
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        let heard = Arc::new(AtomicBool::new(false));
        if let Err(error) = signal_hook::flag::register(signal, heard) {
            return refuse(&error.to_string());
        }
    }
    let served = SharedPlace::open(&args.place, args.size)
        .and_then(|place| serve(place, std::io::stdin(), std::io::stdout()));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse(&error.to_string()),
    }
}

/// Sends an error as the answer, which the server shows to a person.
fn refuse(why: &str) -> ExitCode {
    let refused = ShareMessage::new(ShareVerb::Opened, 0, why);
    // A server that has gone needs no answer.
    let _ = refused.write_to(&mut std::io::stdout());
    ExitCode::FAILURE
}
