//! The plan of a model at a budget, as a file for the study.

use std::path::Path;

use anyhow::Result;
use delayline_engine::Stream;
use delayline_study::decode::PlanFile;

use crate::written::{self, FileKind};

/// The plan of a stream that has up to `depth` reads under way.
pub fn of(stream: &Stream, model: &Path, depth: usize) -> PlanFile {
    let (steady, read_len) = stream.steady();
    let name = model.file_name().unwrap_or_default().to_string_lossy();
    let reads = (read_len, depth);
    PlanFile::new(&name, &steady.plan, stream.residency(), reads, &steady.asks)
}

/// Writes a plan, whole or not at all.
///
/// # Errors
/// When it cannot be written, or something else is there.
pub fn write(plan: &PlanFile, path: &Path) -> Result<()> {
    let text = serde_json::to_string(plan)?;
    written::write(path, FileKind::Plan, |out| out.write_all(text.as_bytes()))
}
