//! What the program made of a model and a budget, as a file for the study.

use std::path::Path;

use anyhow::{Context, Result};
use delayline_llama::Stream;
use delayline_study::decode::PlanFile;
use delayline_study::report::write_whole;

/// The plan of a stream that has up to `depth` reads under way.
pub fn of(stream: &Stream, model: &Path, depth: usize) -> PlanFile {
    let (steady, read_len) = stream.steady();
    let name = model.file_name().unwrap_or_default().to_string_lossy();
    let reads = (read_len, depth);
    PlanFile::new(&name, &steady.plan, stream.residency(), reads, &steady.asks)
}

/// Writes it, whole or not at all.
///
/// # Errors
/// When it cannot be written.
pub fn write(plan: &PlanFile, path: &Path) -> Result<()> {
    let text = serde_json::to_string(plan)?;
    write_whole(path, text.as_bytes())
        .with_context(|| format!("{} cannot be written", path.display()))
}
