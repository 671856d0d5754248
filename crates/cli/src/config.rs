//! From the options as typed to those of the runtime: what each means for a
//! model and a machine is the runtime's affair.

use anyhow::Result;
use clap::CommandFactory;
use clap::error::ErrorKind;
use delayline_llama::{Fiber, FlashAttention, KvType, Options, Sampling, Way};

use crate::args::{self, Cli, EngineArgs, FlashAttn, SamplingArgs};
use crate::run::show_filling;

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
        trace: args.trace.is_some(),
        fiber: fiber(args),
        ..Options::default()
    })
}

/// The loop, which shows how it is filled and stops that at Ctrl-C.
fn fiber(args: &EngineArgs) -> Option<Fiber> {
    let fiber = args.medium.as_ref()?.fiber.clone()?;
    Some(Fiber {
        progress: Some(show_filling),
        ..fiber
    })
}

/// How tokens are chosen.
pub fn sampling(args: &SamplingArgs) -> Sampling {
    Sampling {
        temperature: args.temp,
        top_k: args.top_k,
        top_p: args.top_p,
        min_p: args.min_p,
        repeat_penalty: args.repeat_penalty,
        seed: args.seed,
        ..Sampling::default()
    }
}

/// Wrong usage that the parser alone cannot see.
pub fn conflict(message: &str) -> anyhow::Error {
    Cli::command()
        .error(ErrorKind::ArgumentConflict, message)
        .into()
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
            medium: Some(parse_medium("fiber:ocean,split=yes")?),
            trace: Some("t.json".into()),
        };
        let options = options(&args, Way::Streamed)?;
        let sizes = (options.memory, options.window, options.threads);
        assert_eq!(sizes, (Some(1 << 30), Some(1 << 20), Some(3)));
        assert_eq!((options.ctx, options.ubatch), (Some(512), Some(8)));
        let kinds = (options.kv, options.flash, options.way, options.trace);
        let expect = (KvType::Q4_0, FlashAttention::On, Way::Streamed, true);
        assert_eq!(kinds, expect);
        assert!(
            options
                .fiber
                .is_some_and(|fiber| fiber.split && fiber.spec.length_km == 1e4)
        );
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
}
