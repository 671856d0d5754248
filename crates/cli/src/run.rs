//! `delayline run`: opens the model, generates text, and reports the figures afterwards. How
//! bytes get to the compute is the engine's.

mod chat;
mod printer;
mod prompt;
mod spoken;
mod summary;

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use delayline_engine::{Error, ExpertPolicy, Way, device_rate};
use delayline_line::write_chrome;
use delayline_llama::{Generated, KvTier, LlamaEngine, Sampling, Session};
use delayline_medium::MakeError;
use serde_json::{Value, json};

use crate::args::{EngineArgs, RunArgs};
use crate::config;
use crate::interrupt::{self, Interrupted};
use crate::kv;
use crate::medium;
use crate::output::{Output, format_seconds};
use crate::report::{Figures, paths};
use crate::template;
use crate::trial;
use crate::written::{self, FileKind};

pub use self::printer::{Waiting, show_filling};

use self::printer::Printer;
use self::prompt::PromptSource;
use self::spoken::Speech;
use self::summary::RunSummary;

/// How answers are made.
#[derive(Clone, Debug)]
struct Answers {
    /// Maximum number of tokens of one.
    most: usize,
    sampling: Sampling,
    speech: Speech,
}

/// Generates text and prints it as it comes, then figures about it.
///
/// # Errors
/// When the model cannot be run as asked, or a lap fails; text that was printed before
/// is right. [`Interrupted`] after Ctrl-C.
pub fn run(args: &RunArgs, output: &Output) -> Result<()> {
    let mut options = config::options(&args.engine, Way::Auto)?;
    config::note_threads(&args.engine, output);
    let source = prompt::source(args, output.json)?;
    if let Some(path) = &args.engine.trace {
        written::check(path, FileKind::Trace)?;
    }
    interrupt::watch_start();

    trial::ensure(&args.model, &args.engine, &options, output)?;
    let cache = kv::cache(&args.kv, &args.model, output)?;
    if let Some(cache) = &cache {
        options.spare = true;
        options.reserve += cache.staging(&args.model, options.kv)?;
    }
    let start = Instant::now();
    options.hotness = config::hotness(&args.engine, &args.model);
    let waiting = Waiting::new("opening the model");
    let engine = delayline_llama::open(&args.model, &options);
    drop(waiting);
    let mut engine = match engine {
        Err(Error::Make(MakeError::Stopped)) => return Err(Interrupted.into()),
        engine => engine?,
    };
    if let Some(cache) = &cache {
        engine
            .backend_mut()
            .use_tier(KvTier::open(cache, &args.model, &options)?)?;
    }
    interrupt::watch();
    let open_s = start.elapsed().as_secs_f64();
    tell_of(&mut engine, open_s, &args.engine, output);

    let mut session = Session::new(engine);
    let speech = match &args.chat_template {
        _ if args.raw => Speech::default(),
        Some(path) => Speech::of(&template::text_of(path)?, session.vocab())?,
        None => {
            let own = session.vocab().chat_template()?.unwrap_or_default();
            Speech::of(&own, session.vocab())?
        }
    };
    session.show(speech.shown());
    let answers = Answers {
        speech,
        most: args.tokens.map_or(usize::MAX, |n| n as usize),
        sampling: config::sampling(&args.sampling, Sampling::of(session.vocab())?),
    };
    let spoken = match &source {
        PromptSource::Text(text) => once(&mut session, text, args, &answers, output).map(Some),
        PromptSource::Chat => template::chosen(args.chat_template.as_deref(), session.vocab())
            .and_then(|template| chat::chat(&mut session, &template, &answers, output)),
    };
    if let Some(trouble) = session
        .decoder()
        .backend_mut()
        .tier()
        .and_then(KvTier::trouble)
    {
        output.note(format_args!("note: {trouble}"));
    }
    if let Some(path) = &args.engine.trace {
        write_trace(session.decoder(), path, output)?;
    }
    if let Some(stream) = session.decoder().stream()
        && let Err(error) = stream.write_hotness()
    {
        output.note(format_args!("note: {error}"));
    }
    if let Some(generated) = spoken? {
        report(session, &generated, open_s, options.experts, output)?;
    }
    match interrupt::asked() {
        true => Err(Interrupted.into()),
        false => Ok(()),
    }
}

/// Answers one prompt.
fn once(
    session: &mut Session,
    text: &str,
    args: &RunArgs,
    answers: &Answers,
    output: &Output,
) -> Result<Generated> {
    let tokens = prompt::tokens(session.vocab(), text, args)?;
    answer(session, &tokens, answers, output)
}

/// Continues `tokens`, and prints the answer as it comes.
fn answer(
    session: &mut Session,
    tokens: &[i32],
    answers: &Answers,
    output: &Output,
) -> Result<Generated> {
    let mut printer = Printer::new(output);
    let notices = medium::notices(session.decoder());
    let mut spoken = answers.speech.spoken();
    let piece = |text: &str| {
        for notice in notices() {
            printer.notice(notice);
        }
        printer.piece(&spoken.push(text))
    };
    let generated = session.generate(tokens, answers.most, &answers.sampling, piece);
    for notice in notices() {
        printer.notice(notice);
    }
    // A closed pipe is reported by `end`.
    let _ = printer.piece(&spoken.end());
    printer.end()?;
    Ok(generated?)
}

/// Notes what a person should know before the answer.
fn tell_of(engine: &mut LlamaEngine, open_s: f64, args: &EngineArgs, output: &Output) {
    let (ctx, ubatch, threads) = (engine.ctx(), engine.ubatch(), engine.threads());
    output.detail(format_args!(
        "opened in {}: {threads} threads, context of {ctx} tokens, {ubatch} tokens a lap in a prompt",
        format_seconds(open_s)
    ));
    for notice in engine.notices() {
        output.note(format_args!("note: {notice}"));
    }
    match engine.stream() {
        Some(_) => {
            let asked = args.medium.as_ref();
            let before = asked.and_then(|medium| medium.before.clone());
            for line in before.into_iter().chain(medium::before(engine)) {
                output.detail(line);
            }
        }
        None => output.detail("everything fits into the budget: llama.cpp holds the whole model"),
    }
}

/// Prints the figures, with the device rate, which is measured once the engine is gone:
/// the budget has no room for both.
fn report(
    mut session: Session,
    generated: &Generated,
    open_s: f64,
    policy: ExpertPolicy,
    output: &Output,
) -> Result<()> {
    let mut figures = Figures::of(session.decoder(), generated, open_s);
    let files = paths(session.decoder());
    let stream = session.decoder().stream();
    let choices = stream.and_then(|stream| stream.last_choices());
    drop(session);
    if figures.line.bytes_per_lap > 0 {
        let bytes = figures.line.bytes_per_lap;
        let drive = || device_rate(&files, figures.memory.ledger.budget_bytes);
        let rate = match &figures.medium.figures {
            Some(medium) => medium.rate(bytes, drive),
            None => drive(),
        };
        match rate {
            Ok(rate) => figures.compare(rate),
            Err(error) => output.note(format_args!("note: the device rate is unknown: {error}")),
        }
    }
    if let Some(choices) = choices {
        figures.look_back(&choices, policy);
    }
    let mut object = serde_json::to_value(&figures).context("the figures are no JSON")?;
    if let Value::Object(fields) = &mut object {
        fields.insert("event".into(), json!("end"));
    }
    output.object(&object)?;
    if !output.json {
        output.note(format_args!("\n{}", RunSummary(&figures)));
    }
    Ok(())
}

fn write_trace(engine: &mut LlamaEngine, path: &Path, output: &Output) -> Result<()> {
    match engine.stream() {
        Some(stream) => {
            let events = stream.line().take_trace();
            written::write(path, FileKind::Trace, |out| write_chrome(&events, out))
        }
        None => {
            output.note("note: nothing was streamed, so there is no trace");
            Ok(())
        }
    }
}
