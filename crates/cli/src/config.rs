//! Converts options as typed to those of the runtime, which decides what each means for a
//! model and a machine.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use clap::CommandFactory;
use clap::error::ErrorKind;
use delayline_engine::{ExpertPolicy, FlashAttention, HotnessFile, KvType, Options, Way};
use delayline_llama::Sampling;

use crate::args::{self, Cli, EngineArgs, FlashAttn, SamplingArgs};
use crate::output::Output;

/// Options for opening a model in this way.
///
/// # Errors
/// A [`clap::Error`] when two options contradict each other.
pub fn options(args: &EngineArgs, way: Way) -> Result<Options> {
    let quantised = matches!(args.kv_type, args::KvTypeArg::Q8_0 | args::KvTypeArg::Q4_0);
    if quantised && args.flash_attn == FlashAttn::Off {
        return Err(conflict(
            "a KV cache of type q8_0 or q4_0 needs the fused attention kernel: \
             leave out --flash-attn off, or take --kv-type f16",
        ));
    }
    Ok(Options {
        memory: args.memory,
        window: args.window,
        threads: args.threads,
        ctx: args.ctx,
        ubatch: args.ubatch,
        kv: match args.kv_type {
            args::KvTypeArg::F16 => KvType::F16,
            args::KvTypeArg::F32 => KvType::F32,
            args::KvTypeArg::Q8_0 => KvType::Q8_0,
            args::KvTypeArg::Q4_0 => KvType::Q4_0,
        },
        flash: match args.flash_attn {
            FlashAttn::Auto => FlashAttention::Auto,
            FlashAttn::On => FlashAttention::On,
            FlashAttn::Off => FlashAttention::Off,
        },
        way,
        experts: match args.experts {
            args::ExpertsArg::NextUse => ExpertPolicy::NextUse,
            args::ExpertsArg::FirstCome => ExpertPolicy::FirstCome,
            args::ExpertsArg::Lru => ExpertPolicy::Lru,
            args::ExpertsArg::Frequency => ExpertPolicy::Frequency,
            args::ExpertsArg::S3Fifo => ExpertPolicy::S3Fifo,
        },
        no_guess: args.no_guess,
        trace: args.trace.is_some(),
        unchecked: args.no_verify,
        maker: args.medium.as_ref().and_then(|medium| medium.maker.clone()),
        ..Options::default()
    })
}

/// The file that keeps which experts of a model are hot, unless there is to be none.
pub fn hotness(args: &EngineArgs, model: &Path) -> Option<Arc<HotnessFile>> {
    (!args.no_hotness).then(|| Arc::new(HotnessFile::open(model)))
}

/// How tokens are chosen: as typed, else as the model's file says.
pub fn sampling(args: &SamplingArgs, own: Sampling) -> Sampling {
    Sampling {
        temperature: args.temp.unwrap_or(own.temperature),
        top_k: args.top_k.unwrap_or(own.top_k),
        top_p: args.top_p.unwrap_or(own.top_p),
        min_p: args.min_p.unwrap_or(own.min_p),
        repeat_penalty: args.repeat_penalty.unwrap_or(own.repeat_penalty),
        seed: args.seed,
        ..own
    }
}

/// An error of usage that the parser alone cannot see.
pub fn conflict(message: &str) -> anyhow::Error {
    Cli::command()
        .error(ErrorKind::ArgumentConflict, message)
        .into()
}

/// Notes where more threads are asked for than there are cores.
pub fn note_threads(args: &EngineArgs, output: &Output) {
    let cores = std::thread::available_parallelism().map_or(u32::MAX, |n| n.get() as u32);
    if let Some(text) = too_many_threads(args.threads, cores) {
        output.note(format_args!("note: {text}"));
    }
}

fn too_many_threads(asked: Option<u32>, cores: u32) -> Option<String> {
    let asked = asked.filter(|&asked| asked > cores)?;
    Some(format!(
        "--threads {asked} is more than the {cores} cores that this process may use: \
         threads wait for each other at every step, so that this is slower than {cores}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::medium::parse_medium;

    #[test]
    fn what_is_typed_arrives() -> Result<()> {
        let args = EngineArgs {
            memory: Some(1 << 30),
            window: Some(1 << 20),
            threads: Some(3),
            ctx: Some(512),
            ubatch: Some(8),
            kv_type: args::KvTypeArg::Q4_0,
            flash_attn: FlashAttn::On,
            experts: args::ExpertsArg::Lru,
            no_guess: true,
            no_hotness: true,
            medium: Some(parse_medium("fiber:ocean,split=yes")?),
            trace: Some("t.json".into()),
            no_trial: false,
            no_verify: false,
        };
        let options = options(&args, Way::Streamed)?;
        let sizes = (options.memory, options.window, options.threads);
        assert_eq!(sizes, (Some(1 << 30), Some(1 << 20), Some(3)));
        assert_eq!((options.ctx, options.ubatch), (Some(512), Some(8)));
        let kinds = (options.kv, options.flash, options.way, options.trace);
        let expect = (KvType::Q4_0, FlashAttention::On, Way::Streamed, true);
        assert_eq!(kinds, expect);
        assert_eq!(options.experts, ExpertPolicy::Lru);
        assert!(options.no_guess);
        let glass = options.maker.and_then(|maker| maker.describe());
        assert_eq!(glass.expect("a loop")["length_km"], 1e4);
        Ok(())
    }

    #[test]
    fn a_contradiction_is_wrong_usage() {
        for (kv_type, bad) in [(args::KvTypeArg::Q8_0, true), (args::KvTypeArg::F16, false)] {
            let args = EngineArgs {
                kv_type,
                flash_attn: FlashAttn::Off,
                ..EngineArgs::default()
            };
            let error = options(&args, Way::Auto).err();
            assert_eq!(error.is_some(), bad, "{kv_type:?}");
            assert!(error.is_none_or(|error| error.is::<clap::Error>()));
        }
    }

    #[test]
    fn threads_beyond_the_cores_are_told() {
        assert_eq!(too_many_threads(None, 2), None);
        assert_eq!(too_many_threads(Some(2), 2), None);
        let text = too_many_threads(Some(3), 2).expect("a note");
        assert!(
            text.contains("--threads 3") && text.contains("2 cores"),
            "{text}"
        );
    }
}
