//! `--kv-cache` and `delayline kv`: the folder of a KV cache, and the commands on it. Its
//! contents are the kv crate's.

use std::io;
use std::path::Path;

use anyhow::{Context, Result};
use delayline_engine::ModelFile;
use delayline_kv::{ContentCache, FolderStat, clear, content_of, prune, stat, verify};
use delayline_llama::KvCache;
use serde_json::json;

use crate::args::{KvArgs, KvCommand};
use crate::interrupt::{self, Interrupted};
use crate::output::Output;
use crate::size::format_size;
use crate::trial;

/// The KV cache that the options ask for, if they do. Blocks belong to a model by a hash of
/// all its bytes, which are read once, and again only when the file system shows a change.
///
/// # Errors
/// When the model cannot be read, or Ctrl-C is pressed.
pub fn cache(args: &KvArgs, model: &Path, output: &Output) -> Result<Option<KvCache>> {
    let Some(folder) = &args.kv_cache else {
        return Ok(None);
    };
    let file = ModelFile::open(model)?;
    let paths = file.paths();
    let mut bar = output.progress(
        "reading the model for --kv-cache",
        file.part_lens().iter().sum(),
    );
    let mut progress = |done| {
        bar.set(done);
        !interrupt::asked()
    };
    let content = match trial::cache_folder() {
        Some(cache) => ContentCache::new(cache.join("content")).content_of(&paths, &mut progress),
        None => content_of(&paths, &mut progress),
    };
    let content = match content {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(Interrupted.into()),
        content => content.with_context(|| format!("{} cannot be read", model.display()))?,
    };
    Ok(Some(KvCache {
        folder: folder.clone(),
        size: args.kv_size,
        content,
        read_only: args.kv_read_only,
        write_per_day: args.kv_write_per_day,
        share: None,
    }))
}

/// `delayline kv`.
///
/// # Errors
/// When the folder is no KV cache, is in use, or holds files that are no blocks.
pub fn run(command: &KvCommand, output: &Output) -> Result<()> {
    match command {
        KvCommand::Stat { dir } => tell(&stat(dir)?, "stat", output),
        KvCommand::Verify { dir } => {
            let found = verify(dir)?;
            tell(&found, "verify", output)?;
            anyhow::ensure!(
                found.damaged.is_empty(),
                "{} files are not valid blocks, {} for one; the server ignores them, \
                 `delayline kv clear` removes all files",
                found.damaged.len(),
                found.damaged[0].display()
            );
            Ok(())
        }
        KvCommand::Prune { dir, size } => removed(prune(dir, *size)?, "prune", output),
        KvCommand::Clear { dir } => removed(clear(dir)?, "clear", output),
    }
}

fn removed(blocks: usize, command: &str, output: &Output) -> Result<()> {
    output.object(&json!({"command": format!("kv {command}"), "removed": blocks}))?;
    Ok(output.line(format_args!("{blocks} blocks removed"))?)
}

fn tell(found: &FolderStat, command: &str, output: &Output) -> Result<()> {
    let mut object = serde_json::to_value(found)?;
    object["command"] = format!("kv {command}").into();
    output.object(&object)?;
    let today = match found.written_today {
        Some(bytes) => format!("{} written today", format_size(bytes)),
        None => "what was written today cannot be read".to_owned(),
    };
    output.line(format_args!(
        "{} blocks, {} of them ends of sequences, {} on disk, {today}",
        found.blocks,
        found.tails,
        format_size(found.bytes)
    ))?;
    Ok(())
}
