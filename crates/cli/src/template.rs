//! `delayline template`: renders a chat request by a model's template. Reads only the
//! vocabulary of the model.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use delayline_engine::ModelFile;
use delayline_llama::{Conversation, Template, Vocab};
use serde_json::json;

use crate::args::TemplateArgs;
use crate::output::Output;

/// Longest template or request that is read, in bytes.
const MAX_BYTES: u64 = 64 << 20;

/// Prints the prompt.
///
/// # Errors
/// When a file cannot be read, or the template refuses the request.
pub fn run(args: &TemplateArgs, output: &Output) -> Result<()> {
    let vocab = Vocab::open(&ModelFile::open(&args.model)?)?;
    let template = chosen(args.chat_template.as_deref(), &vocab)?;
    if template.wants_parts() {
        output.note(
            "note: this template wants messages in parts, not as texts: `run` and `serve` \
             convert texts, here they stay as the request has them",
        );
    }
    let template = template.as_sent();
    let request = text_of(&args.request)?;
    let conversation: Conversation = serde_json::from_str(&request).with_context(|| {
        format!(
            "{} is not a chat request: expected an object with `messages`",
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

/// The template in a file, or else the model's own.
///
/// # Errors
/// When there is none, or it is not valid Jinja.
pub fn chosen(path: Option<&Path>, vocab: &Vocab) -> Result<Template> {
    match path {
        Some(path) => Template::for_vocab(text_of(path)?, vocab)
            .with_context(|| format!("{} cannot be used", path.display())),
        None => Ok(Template::of(vocab)?),
    }
}

/// The text of a template's or a request's file.
///
/// # Errors
/// When it cannot be read, or is longer than 64 MiB.
pub fn text_of(path: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
        .with_context(|| format!("{} cannot be read", path.display()))?;
    if bytes.len() as u64 > MAX_BYTES {
        bail!("{} is longer than 64 MiB", path.display());
    }
    // Invalid UTF-8 is replaced, as in templates of models.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
