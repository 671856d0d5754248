//! `delayline template`: what a chat request becomes by a model's template. Reads
//! nothing of the model but its vocabulary.

use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result};
use delayline_engine::ModelFile;
use delayline_llama::{Conversation, Template, Vocab};
use serde_json::json;

use crate::args::TemplateArgs;
use crate::output::Output;

/// Prints the prompt.
///
/// # Errors
/// When a file cannot be read, or the template refuses the request.
pub fn run(args: &TemplateArgs, output: &Output) -> Result<()> {
    let vocab = Vocab::open(&ModelFile::open(&args.model)?)?;
    let template = match &args.chat_template {
        Some(path) => Template::for_vocab(text_of(path)?, &vocab)?,
        None => Template::of(&vocab)?,
    };
    let request = text_of(&args.request)?;
    let conversation: Conversation = serde_json::from_str(&request).with_context(|| {
        format!(
            "{} is no chat request: expected an object with `messages`",
            args.request.display()
        )
    })?;
    let rendered = template.render(&conversation)?;
    if output.json {
        return Ok(output.object(&json!({"event": "prompt", "prompt": rendered.text}))?);
    }
    let mut out = io::stdout().lock();
    out.write_all(rendered.text.as_bytes())?;
    Ok(out.flush()?)
}

fn text_of(path: &Path) -> Result<String> {
    let bytes =
        std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    // As templates in models are read.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
