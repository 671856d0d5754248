//! Tests of the command line: what is understood, and the errors for wrong values.

use clap::CommandFactory;

use super::*;

/// The commands whose options are tested here.
#[derive(Debug, Parser)]
#[command(name = "delayline")]
enum All {
    Run(RunArgs),
    Bench(BenchArgs),
    Inspect(InspectArgs),
    Doctor(DoctorArgs),
    Synth(SynthArgs),
    Completions(CompletionsArgs),
}

fn parse(line: &str) -> Result<All, clap::Error> {
    All::try_parse_from(["delayline"].into_iter().chain(line.split(' ')))
}

#[test]
fn clap_finds_no_contradiction() {
    Cli::command().debug_assert();
    All::command().debug_assert();
}

#[test]
fn what_is_said_is_understood() {
    let line = "run m.gguf -p hi -n 5 --memory 2GiB --window 64MiB --threads 4 --ctx 1024 --ubatch 32 \
                --kv-type q8_0 --flash-attn on --temp 0 --top-k 0 --top-p 1 --min-p 0 \
                --repeat-penalty 1.1 --seed 7 --trace t.json";
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    let Ok(All::Run(run)) = parse(&line) else {
        panic!("{line} is a run")
    };
    assert_eq!((run.prompt.as_deref(), run.tokens), (Some("hi"), Some(5)));
    let engine = &run.engine;
    assert_eq!(
        (engine.memory, engine.window),
        (Some(2 << 30), Some(64 << 20))
    );
    assert_eq!(
        (engine.threads, engine.ctx, engine.ubatch),
        (Some(4), Some(1024), Some(32))
    );
    assert_eq!(
        (engine.kv_type, engine.flash_attn),
        (KvTypeArg::Q8_0, FlashAttn::On)
    );
    assert_eq!(engine.trace, Some("t.json".into()));
    let sampling = &run.sampling;
    assert_eq!(
        (sampling.temp, sampling.top_k, sampling.top_p),
        (Some(0.0), Some(0), Some(1.0))
    );
    assert_eq!(
        (sampling.min_p, sampling.repeat_penalty, sampling.seed),
        (Some(0.0), Some(1.1), 7)
    );
}

#[test]
fn budgets_are_a_list() {
    let Ok(All::Bench(bench)) = parse("bench m.gguf --budgets 1GiB,1/2,/1.25 --baseline mmap")
    else {
        panic!("is a bench");
    };
    assert_eq!(
        bench.budgets,
        [
            Budget::Bytes(1 << 30),
            Budget::Share(0.5),
            Budget::Share(0.8)
        ]
    );
    assert_eq!(bench.baseline, Some(Baseline::Mmap));
    assert!(matches!(parse("bench m.gguf"), Ok(All::Bench(bench)) if bench.budgets.len() == 3));
}

#[test]
fn every_choice_can_be_made() {
    for kv in ["f16", "f32", "q8_0", "q4_0"] {
        assert!(parse(&format!("run m --kv-type {kv}")).is_ok(), "{kv}");
    }
    for quant in ["q4_0", "q8_0", "f16", "q4_k_m"] {
        assert!(
            parse(&format!("synth llama-8b o.gguf --type {quant}")).is_ok(),
            "{quant}"
        );
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            matches!(
                parse(&format!("completions {shell}")),
                Ok(All::Completions(_))
            ),
            "{shell}"
        );
    }
    assert!(
        matches!(parse("inspect m --rate 2.8GB/s"), Ok(All::Inspect(i)) if i.rate == Some(2.8e9))
    );
    let Ok(All::Doctor(doctor)) = All::try_parse_from(["delayline", "doctor"]) else {
        panic!("is a doctor")
    };
    assert_eq!(doctor.path, PathBuf::from("."));
    assert_eq!(
        (doctor.params, doctor.endurance),
        (1_000_000_000, 600_000_000_000_000)
    );
}

#[test]
fn a_wrong_value_is_named_with_its_option_and_what_would_do() {
    let cases = [
        ("run m --memory lots", ["lots", "--memory", "2GiB"]),
        ("run m --threads 0", ["'0'", "--threads", "1..=512"]),
        ("run m --temp -1", ["-1", "--temp", "0 to 100"]),
        ("run m --temp=-1", ["-1", "--temp", "0 to 100"]),
        ("run m --top-p 1.5", ["1.5", "--top-p", "0 to 1"]),
        ("run m --min-p nan", ["nan", "--min-p", "0 to 1"]),
        ("run m --kv-type q5", ["q5", "--kv-type", "q8_0"]),
        ("run m -n 0", ["'0'", "--tokens", "1.."]),
        ("bench m --budgets 1/2,big", ["big", "--budgets", "/1.25"]),
        (
            "bench m --memory 1GiB --budgets 1/2",
            ["--memory", "--budgets", "cannot be used"],
        ),
        (
            "inspect m --rate 1GB/s --measure",
            ["--rate", "--measure", "cannot be used"],
        ),
        ("synth gpt o.gguf", ["gpt", "SHAPE", "llama-8b"]),
        (
            "synth llama-8b o.gguf --parts 0",
            ["'0'", "--parts", "1..=999"],
        ),
    ];
    for (line, words) in cases {
        let error = parse(line).expect_err(line);
        assert_eq!(error.exit_code(), 2, "{line}");
        let message = error.to_string();
        for word in words {
            assert!(message.contains(word), "{line}: {word} is not in {message}");
        }
    }
}

#[test]
fn output_options_may_stand_anywhere() {
    for line in [
        "delayline --json -vv doctor",
        "delayline doctor --json -v -v",
    ] {
        let cli = Cli::try_parse_from(line.split(' ')).expect(line);
        assert_eq!((cli.output.json, cli.output.verbose), (true, 2), "{line}");
    }
}
